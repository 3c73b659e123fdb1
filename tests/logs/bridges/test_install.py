"""Forwarding of logging, warnings and uncaught exceptions, and its removal."""

import asyncio
import logging
import logging.config
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
    parse_line,
    parse_python_warning,
)
from realtalk_async.logs.bridges import unreached


@pytest.fixture
def std():
    """A logger of the standard library without other handlers."""
    logger = logging.Logger("app.audio")  # noqa: LOG001 - without the handlers of pytest
    logger.setLevel(logging.DEBUG)
    return logger


def entries(log):
    return [parse_line(line) for line in log.path.read_text().splitlines()]


def only(log):
    (entry,) = entries(log)
    return entry


# The standard library's logging


def test_a_record_becomes_an_entry_of_its_loggers_name(log, std):
    std.addHandler(LogHandler(log))
    std.warning("buffer %d of %s", 3, "mic", extra={"underruns": 2})
    entry = only(log)
    assert (entry.level, entry.component) == (Level.WARNING, "app.audio")
    assert entry.message == "buffer 3 of mic"
    assert entry.context == {"underruns": 2}


def test_a_newline_at_the_end_of_a_message_is_left_out(log, std):
    std.addHandler(LogHandler(log))
    std.error("Exception in ASGI application\n")
    assert only(log).message == "Exception in ASGI application"


def test_original_levels_that_the_log_lacks_are_in_the_context(log, std):
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


def test_the_traceback_of_an_exception_is_in_the_context(log, std):
    """The context keeps the entry on one line."""
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


def test_a_record_with_wrong_arguments_is_written_and_raises_nothing(log, std):
    std.addHandler(LogHandler(log))
    std.error("%d lines", "many")
    entry = only(log)
    assert entry.message == "%d lines"
    assert entry.context == {"args": ["many"]}


def test_a_logger_without_a_handler_of_its_own_is_forwarded_after_install(log):
    """The root logger's default level suppresses INFO."""
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
    with log.install(level=None):
        logging.getLogger("x").info("suppressed")
        logging.getLogger("x").warning("forwarded")
    assert only(log).message == "forwarded"


# Warnings


def test_a_warning_of_this_process_is_an_entry_of_its_module(log):
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


def test_a_warning_of_code_without_a_module_is_an_entry_of_python(log):
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        with log.install():
            exec("import warnings; warnings.warn('x')")
    assert only(log).component == "python"


@pytest.mark.parametrize(
    ("line", "expected"),
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
def test_warnings_on_the_stderr_of_a_child_are_recognised(line, expected):
    assert parse_python_warning(line) == expected


def test_a_warning_printed_by_a_real_python_child_is_recognised(log):
    child = subprocess.run(
        [sys.executable, "-W", "always", "-c", "import warnings; warnings.warn('old')"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    found = [parse_python_warning(line) for line in child.stderr.splitlines()]
    assert found[0] == PythonWarning("UserWarning", "old", "<string>", 1)
    log.warning("child", found[0].message, found[0].context)
    assert only(log).context == {
        "category": "UserWarning",
        "file": "<string>",
        "line": 1,
    }


# Uncaught exceptions


def test_an_uncaught_exception_of_a_thread_is_an_error_entry(log, monkeypatch):
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


def test_an_exception_that_ends_the_app_is_its_last_entry(tmp_path):
    path = tmp_path / "app.log"
    child = subprocess.run(
        [sys.executable, "-c", FAILS, str(path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert child.returncode == 1
    assert "ValueError: boom" in child.stderr
    entry = parse_line(path.read_text())
    assert entry is not None
    assert entry.level is Level.ERROR
    assert entry.message == "the app ended by an exception: ValueError: boom"


async def test_an_exception_that_asyncio_reports_is_an_error_entry(log):
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


# Removal


def test_undo_restores_every_hook_and_is_idempotent(log):
    root = logging.getLogger()

    def state():
        return (
            tuple(root.handlers),
            root.level,
            warnings.showwarning,
            sys.excepthook,
            threading.excepthook,
            logging.Logger.callHandlers,
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
    # The hooks of the first installation remain inside those of the second.
    sys.excepthook, threading.excepthook, warnings.showwarning = hooks


async def test_forwarded_records_keep_their_order_inside_the_block(tmp_path):
    async with Logger(tmp_path / "app.log") as log:
        with log.install():
            for number in range(100):
                logging.getLogger("x").info(str(number))
        found = await log.get_logs(component="x")
    assert [entry.message for entry in found] == [str(n) for n in range(100)]


def test_an_unknown_name_of_the_package_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nonsense"):
        _ = logs.nonsense  # type: ignore[attr-defined]


# Loggers that do not propagate, and logging that is configured later


def configure_like_a_server(name):
    """Configure logging as uvicorn, gunicorn and hypercorn do for loggers of their own."""
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "handlers": {"null": {"class": "logging.NullHandler"}},
            "loggers": {
                name: {"handlers": ["null"], "level": "INFO", "propagate": False}
            },
        }
    )


@pytest.fixture
def server_logger():
    """Return the name of a server's logger; afterwards it is as a new one."""
    name = "a_server"
    yield name
    one = logging.getLogger(name)
    one.handlers.clear()
    one.propagate = True
    one.setLevel(logging.NOTSET)


@pytest.mark.parametrize("server_comes_first", [True, False])
def test_loggers_that_do_not_propagate_arrive_once_whoever_came_first(
    log, server_logger, server_comes_first
):
    if server_comes_first:
        configure_like_a_server(server_logger)
    with log.install():
        if not server_comes_first:
            configure_like_a_server(server_logger)
        logging.getLogger(f"{server_logger}.error").info("started")
        logging.getLogger("app.other").info("propagates")
    logging.getLogger(f"{server_logger}.error").info("after")
    assert [(one.component, one.message) for one in entries(log)] == [
        ("a_server.error", "started"),
        ("app.other", "propagates"),
    ]


def test_records_arrive_once_after_the_root_handler_was_removed(log):
    root = logging.getLogger()
    with log.install():
        before = root.handlers[:]
        root.handlers.clear()  # as basicConfig(force=True) does
        logging.getLogger("app").info("x")
        root.handlers[:] = before
    assert [one.message for one in entries(log)] == ["x"]


def test_two_handlers_are_removed_in_any_order(tmp_path, server_logger):
    before = logging.Logger.callHandlers
    configure_like_a_server(server_logger)
    server = logging.getLogger(server_logger)
    one, two = Logger(tmp_path / "1.log"), Logger(tmp_path / "2.log")
    remove_one = unreached.add(LogHandler(one))
    remove_two = unreached.add(LogHandler(two))
    server.info("both")
    remove_one()
    server.info("second")
    remove_two()
    assert logging.Logger.callHandlers is before
    server.info("none")
    assert [each.message for each in entries(one)] == ["both"]
    assert [each.message for each in entries(two)] == ["both", "second"]


# loguru


@pytest.fixture
def loguru():
    """Return the logger of loguru, without sinks."""
    module = pytest.importorskip("loguru")
    module.logger.remove()
    yield module.logger
    module.logger.remove()


def test_messages_of_loguru_arrive_also_after_it_was_configured_again(log, loguru):
    before = type(loguru).remove
    with log.install():
        loguru.info("one")
        loguru.remove()
        loguru.configure(handlers=[{"sink": lambda message: None}])
        loguru.bind(user=7).critical("two")
        try:
            raise ValueError("boom")
        except ValueError:
            loguru.exception("three")
    loguru.error("after")
    one, two, three = entries(log)
    assert (one.message, one.level, one.component) == ("one", Level.INFO, __name__)
    assert (two.level, two.context) == (Level.ERROR, {"user": 7, "level": "CRITICAL"})
    assert three.context["exception"].endswith("ValueError: boom")
    assert type(loguru).remove is before


def test_records_that_a_handler_passes_on_to_loguru_arrive_once(log, loguru, std):
    class InterceptHandler(logging.Handler):
        def emit(self, record):
            loguru.log(record.levelname, record.getMessage())

    std.propagate = False
    std.addHandler(InterceptHandler())
    with log.install():
        std.warning("once")
    assert only(log).message == "once"
