"""What others report reaches the log, and everything is as before afterwards."""

import asyncio
import logging
import subprocess
import sys
import threading
import warnings

import pytest
import structlog

from realtalk_async import logs
from realtalk_async.logs import (
    Level,
    Logger,
    LogHandler,
    PythonWarning,
    StructlogProcessor,
    parse_line,
    parse_python_warning,
)


@pytest.fixture
def log(tmp_path):
    return Logger(tmp_path / "app.log")


@pytest.fixture
def std():
    """A logger of the standard library that nobody else listens to."""
    logger = logging.Logger("app.audio")  # noqa: LOG001 - not even pytest shall
    logger.setLevel(logging.DEBUG)
    return logger


@pytest.fixture(autouse=True)
def everything_is_undone():
    """Whatever a test does, logging, structlog and the hooks are as before."""
    root = logging.getLogger()
    yield
    assert not [one for one in root.handlers if isinstance(one, LogHandler)]
    assert not structlog.is_configured()
    assert sys.excepthook.__module__ != "realtalk_async.logs.bridges.install"
    structlog.reset_defaults()


def entries(log):
    return [parse_line(line) for line in log.path.read_text().splitlines()]


def only(log):
    (entry,) = entries(log)
    return entry


# The standard library's logging


def test_a_record_becomes_an_entry_of_its_loggers_name(log, std):
    """Message formatted, extra values in the context."""
    std.addHandler(LogHandler(log))
    std.warning("buffer %d of %s", 3, "mic", extra={"underruns": 2})
    entry = only(log)
    assert (entry.level, entry.component) == (Level.WARNING, "app.audio")
    assert entry.message == "buffer 3 of mic"
    assert entry.context == {"underruns": 2}


def test_levels_that_the_log_lacks_are_kept_in_the_context(log, std):
    """DEBUG is INFO, CRITICAL is ERROR; what they were is said."""
    std.addHandler(LogHandler(log))
    for level in (10, 20, 30, 40, 50, 35):
        std.log(level, "x")
    assert [(entry.level.value, entry.context) for entry in entries(log)] == [
        ("INFO", {"level": "DEBUG"}),
        ("INFO", {}),
        ("WARNING", {}),
        ("ERROR", {}),
        ("ERROR", {"level": "CRITICAL"}),
        ("WARNING", {"level": "Level 35"}),
    ]


def test_an_exception_comes_with_its_traceback(log, std):
    """In the context, so that the entry is one line."""
    std.addHandler(LogHandler(log))
    try:
        raise ValueError("boom")
    except ValueError:
        std.exception("failed", stack_info=True)
    entry = only(log)
    assert entry.message == "failed"
    assert "test_install.py" in entry.context["exception"]
    assert entry.context["exception"].endswith("ValueError: boom")
    assert "Stack" in entry.context["stack"]


def test_arguments_that_do_not_fit_are_shown_and_raise_nothing(log, std):
    """A mistake in a log call is no reason to lose what it said."""
    std.addHandler(LogHandler(log))
    std.error("%d lines", "many")
    entry = only(log)
    assert entry.message == "%d lines"
    assert entry.context == {"args": ["many"]}


def test_a_logger_without_a_handler_of_its_own_is_forwarded_after_install(log):
    """INFO too, which the root logger holds back by default."""
    before = logging.getLogger().level
    with log.install():
        logging.getLogger("some.library").info("hello")
        logging.getLogger().info("from the root")
    assert [(entry.component, entry.message) for entry in entries(log)] == [
        ("some.library", "hello"),
        ("root", "from the root"),
    ]
    logging.getLogger("some.library").error("not any more")
    assert len(entries(log)) == 2
    assert logging.getLogger().level == before


def test_install_can_leave_the_root_level_alone(log):
    """Then WARNING and above are forwarded."""
    with log.install(level=None):
        logging.getLogger("x").info("held back")
        logging.getLogger("x").warning("forwarded")
    assert only(log).message == "forwarded"


# structlog


def test_structlogs_events_are_forwarded_after_install(log, capsys):
    """Bound values and context variables included; the console still shows them."""
    with log.install(), structlog.contextvars.bound_contextvars(session="s1"):
        bound = structlog.get_logger().bind(component="mic")
        bound.warning("underrun", count=3)
        structlog.get_logger().info("hello")
    first, second = entries(log)
    assert (first.level, first.component) == (Level.WARNING, "mic")
    assert first.message == "underrun"
    assert first.context == {"session": "s1", "count": 3}
    assert (second.level, second.component) == (Level.INFO, "structlog")
    assert "underrun" in capsys.readouterr().out
    structlog.get_logger().info("not any more")
    assert len(entries(log)) == 2


def test_an_own_configuration_of_structlog_is_restored(log):
    """The very same processors."""
    ours = [structlog.processors.KeyValueRenderer()]
    structlog.configure(processors=ours)
    with log.install():
        assert len(structlog.get_config()["processors"]) == 2
    assert structlog.get_config()["processors"] is ours
    structlog.reset_defaults()


def test_the_processor_can_be_the_last_of_a_chain(log):
    """Then the event ends in the log; exceptions become text."""
    logger = structlog.wrap_logger(
        None,
        processors=[StructlogProcessor(log, last=True)],
        wrapper_class=structlog.BoundLogger,
    )
    try:
        raise ValueError("boom")
    except ValueError:
        logger.exception("failed", logger="net")
    entry = only(log)
    assert (entry.level, entry.component, entry.message) == ("ERROR", "net", "failed")
    assert entry.context["exception"].endswith("ValueError: boom")


# The bound front


def test_a_bound_logger_speaks_for_its_component(log):
    """All three levels, with a context of their own."""
    mic = log.bind("mic")
    mic.info("started", {"pid": 1})
    mic.warning("underrun")
    mic.error("died")
    mic.log("info", "again")
    assert [(e.level.value, e.component, e.message) for e in entries(log)] == [
        ("INFO", "mic", "started"),
        ("WARNING", "mic", "underrun"),
        ("ERROR", "mic", "died"),
        ("INFO", "mic", "again"),
    ]
    assert entries(log)[0].context == {"pid": 1}
    with pytest.raises(ValueError, match="INFO, WARNING, ERROR"):
        mic.log("DEBUG", "x")


def test_bound_values_are_in_each_entry_and_its_own_come_first(log):
    """Binding returns another logger; keys of any name are allowed."""
    mic = log.bind("mic", {"device": "hw:0", "event": "e"})
    other = mic.bind(session="s1")
    mic.info("1")
    other.info("2", {"device": "hw:1", "message": "m"})
    other.unbind("session", "event").error("3")
    other.new(x=1).warning("4")
    assert [entry.context for entry in entries(log)] == [
        {"device": "hw:0", "event": "e"},
        {"device": "hw:1", "event": "e", "session": "s1", "message": "m"},
        {"device": "hw:0"},
        {"x": 1},
    ]


def test_context_variables_are_in_the_entries_of_a_bound_logger(log):
    """While they are bound; bound values come before them."""
    mic = log.bind("mic", {"a": "bound"})
    with structlog.contextvars.bound_contextvars(a="variable", b="variable"):
        mic.info("1")
    mic.info("2")
    assert [entry.context for entry in entries(log)] == [
        {"a": "bound", "b": "variable"},
        {"a": "bound"},
    ]


def test_an_exception_that_is_being_handled_is_in_the_context(log):
    """Its whole traceback."""
    mic = log.bind("mic")
    try:
        raise ValueError("boom")
    except ValueError:
        mic.exception("failed", {"tries": 3})
    entry = only(log)
    assert (entry.level, entry.context["tries"]) == (Level.ERROR, 3)
    assert entry.context["exception"].endswith("ValueError: boom")


async def test_a_bound_loggers_call_can_be_awaited(tmp_path):
    """Then the line is on disk."""
    async with Logger(tmp_path / "app.log") as log:
        assert await log.bind("mic").info("x") is True
        assert only(log).message == "x"


# Warnings


def test_a_warning_of_this_process_is_an_entry_of_its_module(log):
    """With its category and place."""
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        with log.install():
            warnings.warn("old", DeprecationWarning, stacklevel=1)
    entry = only(log)
    assert (entry.level, entry.message) == (Level.WARNING, "old")
    assert entry.component == __name__
    assert entry.context["category"] == "DeprecationWarning"
    assert entry.context["file"] == __file__
    assert isinstance(entry.context["line"], int)


def test_a_warning_from_nowhere_is_pythons(log):
    """Code without a file of its own."""
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        with log.install():
            exec("import warnings; warnings.warn('x')")
    assert only(log).component == "python"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (
            "/path/x.py:3: DeprecationWarning: msg",
            PythonWarning("DeprecationWarning", "msg", "/path/x.py", 3),
        ),
        (
            "<string>:1: UserWarning: a: b: c",
            PythonWarning("UserWarning", "a: b: c", "<string>", 1),
        ),
        (
            "sys:1: ResourceWarning: unclosed file <x>",
            PythonWarning("ResourceWarning", "unclosed file <x>", "sys", 1),
        ),
        (
            "/a b/x.py:12: pkg.mod.OldWarning: ",
            PythonWarning("OldWarning", "", "/a b/x.py", 12),
        ),
        ("  warnings.warn('x')", None),
        ("ValueError: 3: no", None),
        ("x.py:3: ValueError: no", None),
        ("WARNING:root:hello", None),
        ("", None),
    ],
)
def test_warnings_on_a_childs_stderr_are_recognised(line, told):
    """As Python prints them, and nothing else."""
    assert parse_python_warning(line) == told


def test_what_a_real_python_child_prints_is_recognised(log):
    """The first of the two lines that it prints."""
    child = subprocess.run(
        [sys.executable, "-W", "always", "-c", "import warnings; warnings.warn('old')"],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    told = [parse_python_warning(line) for line in child.stderr.splitlines()]
    assert told[0] == PythonWarning("UserWarning", "old", "<string>", 1)
    log.warning("child", told[0].message, told[0].context)
    assert only(log).context == {
        "category": "UserWarning",
        "file": "<string>",
        "line": 1,
    }


# Exceptions that nobody handles


def test_the_exception_of_a_thread_is_an_error_entry(log, monkeypatch):
    """And whoever reported it before still does."""
    reported = []
    monkeypatch.setattr(threading, "excepthook", reported.append)

    def fail():
        raise ValueError("boom")

    with log.install():
        thread = threading.Thread(target=fail, name="worker")
        thread.start()
        thread.join()
    entry = only(log)
    assert entry.level is Level.ERROR
    assert entry.message == "worker ended by an exception: ValueError: boom"
    assert "fail" in entry.context["exception"]
    assert len(reported) == 1


FAILS = """
import sys
from realtalk_async.logs import Logger
Logger(sys.argv[1]).install()
raise ValueError("boom")
"""


def test_the_exception_that_ends_an_app_is_its_last_entry(tmp_path):
    """It is printed as ever."""
    path = tmp_path / "app.log"
    child = subprocess.run(
        [sys.executable, "-c", FAILS, str(path)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert child.returncode == 1
    assert "ValueError: boom" in child.stderr
    entry = parse_line(path.read_text())
    assert entry is not None
    assert entry.level is Level.ERROR
    assert entry.message == "the app ended by an exception: ValueError: boom"


async def test_what_asyncio_can_tell_nobody_is_an_error_entry(log):
    """By way of logging, or before the app's own handler."""
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(None)
    handled = []
    with log.install():
        loop.call_exception_handler({"message": "first", "exception": ValueError("a")})
    loop.set_exception_handler(lambda loop, context: handled.append(context))
    with log.install():
        loop.call_exception_handler({"message": "second", "exception": ValueError("b")})
    first, second = entries(log)
    assert first.component == second.component == "asyncio"
    assert first.level is second.level is Level.ERROR
    assert first.message.startswith("first")
    assert second.message == "second"
    assert second.context["exception"] == "ValueError: b"
    assert len(handled) == 1
    loop.call_exception_handler({"message": "third"})
    assert len(entries(log)) == 2
    assert len(handled) == 2


# Undoing


def test_undoing_is_exact_and_idempotent(log):
    """Every hook is the very object that it was."""
    root = logging.getLogger()

    def state():
        return (
            tuple(root.handlers),
            root.level,
            warnings.showwarning,
            sys.excepthook,
            threading.excepthook,
            structlog.is_configured(),
        )

    before = state()
    installed = log.install()
    assert installed.active
    assert all(one != other for one, other in zip(before, state(), strict=True))
    installed.undo()
    installed.undo()
    assert not installed.active
    assert state() == before


def test_two_installations_are_undone_in_any_order(tmp_path):
    """What was wrapped around the first keeps working, and ends with the second."""
    first = Logger(tmp_path / "1.log")
    second = Logger(tmp_path / "2.log")
    hooks = sys.excepthook, threading.excepthook, warnings.showwarning
    processors = list(structlog.get_config()["processors"])
    one = first.install()
    two = second.install()
    one.undo()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("x", stacklevel=1)
    logging.getLogger("x").warning("y")
    structlog.get_logger().warning("z")
    two.undo()
    assert entries(first) == []
    assert [entry.message for entry in entries(second)] == ["x", "y", "z"]
    assert structlog.get_config()["processors"] == processors
    structlog.reset_defaults()
    # What is left of the first, which the second found there, only passes on.
    sys.excepthook, threading.excepthook, warnings.showwarning = hooks


async def test_forwarding_inside_the_block_goes_through_the_queue(tmp_path):
    """From the loop and from threads, in order."""
    async with Logger(tmp_path / "app.log") as log:
        with log.install():
            for number in range(100):
                logging.getLogger("x").info(str(number))
        found = await log.get_logs(component="x")
    assert [entry.message for entry in found] == [str(n) for n in range(100)]


# structlog is loaded when it is used

LAZY = """
import sys
from realtalk_async import logs
log = logs.Logger(sys.argv[1])
with log.install():
    log.error("a", "b")
assert not {"structlog", "rich"} & set(sys.modules), "loaded by what needs it not"
log.bind("a").info("c")
assert "structlog" in sys.modules
with log.install():
    sys.modules["structlog"].get_logger().info("d")
assert logs.BoundLogger.__name__ == "BoundLogger"
assert logs.StructlogProcessor is not None
"""


def test_structlog_is_loaded_by_who_uses_it_and_by_nobody_else(tmp_path):
    """It is dear; installing forwards its events if the app has it."""
    path = tmp_path / "app.log"
    subprocess.run(
        [sys.executable, "-c", LAZY, str(path)],
        stdout=subprocess.DEVNULL,
        timeout=30,
        check=True,
    )
    found = [parse_line(line) for line in path.read_text().splitlines()]
    assert [entry.message for entry in found if entry] == ["b", "c", "d"]


def test_a_name_that_is_not_there_is_an_attribute_error():
    """Loading lazily hides no mistakes."""
    with pytest.raises(AttributeError, match="nonsense"):
        _ = logs.nonsense  # type: ignore[attr-defined]
