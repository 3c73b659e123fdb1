"""Bound loggers, and the processor that forwards structlog's events."""

import subprocess
import sys

import pytest
import structlog

from realtalk_async.logs import Level, Logger, StructlogProcessor, parse_line


def entries(log):
    return [parse_line(line) for line in log.path.read_text().splitlines()]


def only(log):
    (entry,) = entries(log)
    return entry


def test_structlog_events_are_forwarded_and_still_printed_after_install(log, capsys):
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


def test_undo_restores_the_processors_of_a_configured_structlog(log):
    ours = [structlog.processors.KeyValueRenderer()]
    structlog.configure(processors=ours)
    with log.install():
        assert len(structlog.get_config()["processors"]) == 2
    assert structlog.get_config()["processors"] is ours
    structlog.reset_defaults()


def test_the_processor_can_be_the_last_of_a_chain_and_drop_the_event(log):
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


def test_a_bound_logger_writes_all_levels_for_its_component(log):
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
    with pytest.raises(ValueError, match="'INFO', 'WARNING' or 'ERROR'"):
        mic.log("DEBUG", "x")


def test_bound_values_are_in_each_entry_unless_the_entry_overrides_them(log):
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
    mic = log.bind("mic", {"a": "bound"})
    with structlog.contextvars.bound_contextvars(a="variable", b="variable"):
        mic.info("1")
    mic.info("2")
    assert [entry.context for entry in entries(log)] == [
        {"a": "bound", "b": "variable"},
        {"a": "bound"},
    ]


def test_exception_writes_the_traceback_of_the_current_exception(log):
    mic = log.bind("mic")
    try:
        raise ValueError("boom")
    except ValueError:
        mic.exception("failed", {"tries": 3})
    entry = only(log)
    assert (entry.level, entry.context["tries"]) == (Level.ERROR, 3)
    assert entry.context["exception"].endswith("ValueError: boom")


async def test_a_call_of_a_bound_logger_can_be_awaited(tmp_path):
    async with Logger(tmp_path / "app.log") as log:
        assert await log.bind("mic").info("x") is True
        assert only(log).message == "x"


LAZY = """
import sys
from realtalk_async import logs
log = logs.Logger(sys.argv[1])
with log.install():
    log.error("a", "b")
assert not {"structlog", "rich"} & set(sys.modules), "imported without need"
log.bind("a").info("c")
assert "structlog" in sys.modules
with log.install():
    sys.modules["structlog"].get_logger().info("d")
assert logs.BoundLogger.__name__ == "BoundLogger"
assert logs.StructlogProcessor is not None
"""


def test_structlog_is_imported_only_when_it_is_used(tmp_path):
    """Its import costs more than the rest of the package."""
    path = tmp_path / "app.log"
    subprocess.run(
        [sys.executable, "-c", LAZY, str(path)],
        stdout=subprocess.DEVNULL,
        timeout=120,
        check=True,
    )
    found = [parse_line(line) for line in path.read_text().splitlines()]
    assert [entry.message for entry in found if entry] == ["b", "c", "d"]
