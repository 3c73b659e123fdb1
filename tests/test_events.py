"""Events of supervised processes: line for people, JSON form, log entry."""

import inspect
import json

import pytest

from realtalk_async import events
from realtalk_async.events import MANAGER, Cause
from realtalk_async.logs import Level

ABOUT = {"process": "mic", "incarnation": 3}
EXIT = {"pid": 7, "exit_status": 1, "uptime": 3725.4, "summary": "exit status 1"}

EVENTS = [
    (events.ProcessStarted(**ABOUT, pid=7, command="sox -d"), "INFO", "started: pid 7"),
    (events.ProcessReady(**ABOUT, after=0.1234), "INFO", "ready after 0.12 s"),
    (
        events.ReadinessLost(**ABOUT, probe="tcp", reason="refused"),
        "WARNING",
        "no longer ready: tcp",
    ),
    (
        events.DeviceAwaited(**ABOUT, holders={"hw:0": "'aux' (running)"}),
        "INFO",
        "('hw:0': 'aux' (running))",
    ),
    (events.SpawnRefused(**ABOUT, error="no such file"), "ERROR", "no such file"),
    (events.ProcessExited(**ABOUT, **EXIT, cause="failed"), "ERROR", "exit status 1"),
    (events.ProcessExited(**ABOUT, **EXIT, cause="finished"), "INFO", "finished"),
    (
        events.ProcessExited(
            **ABOUT,
            **{**EXIT, "summary": "stopped (SIGTERM) after 01:02:05"},
            cause="stopped by us",
        ),
        "INFO",
        "mic stopped (SIGTERM) after 01:02:05",
    ),
    (
        events.InternalError(**ABOUT, error="KeyError('a')", traceback="in b"),
        "ERROR",
        "internal error: KeyError('a')",
    ),
    (
        events.TaskFailed(**ABOUT, reason="ValueError", uptime=1.0),
        "ERROR",
        "ValueError",
    ),
    (events.StopStep(**ABOUT, step="SIGTERM", members=2), "INFO", "SIGTERM to 2"),
    (events.Unkillable(**ABOUT, survivors=("pid 7 state D",)), "ERROR", "state D"),
    (events.ProbeFailed(**ABOUT, probe="tcp", reason="refused"), "ERROR", "refused"),
    (events.RestartScheduled(**ABOUT, delay=0.5, reason="x"), "WARNING", "in 0.50 s"),
    (events.ProcessRestarted(**ABOUT, pid=8, downtime=0.5), "INFO", "down 0.50 s"),
    (events.RestartRefused(**ABOUT, pid=8, reason="it runs"), "WARNING", "it runs"),
    (events.RestartFailed(**ABOUT, reason="it raised"), "ERROR", "it raised"),
    (events.ProcessGivenUp(**ABOUT, reason="too many"), "ERROR", "too many"),
    (
        events.ProcessStopped(**ABOUT, exit_status=1, escalated=False, while_down=True),
        "INFO",
        "mic was stopped while waiting for its restart",
    ),
    (events.OutputDropped(**ABOUT, stream="stdout", max_size=9), "WARNING", "9 bytes"),
    (events.Degraded(**ABOUT, reason="gone"), "WARNING", "gone"),
    (events.ShutdownStarted(**ABOUT, reason="gone"), "ERROR", "because of mic"),
    (
        events.ShutdownTimedOut(
            process=MANAGER, seconds=15, left=("'mic' (stopping)",)
        ),
        "ERROR",
        "killed after 15 s of shutdown: 'mic'",
    ),
    (events.CallbackFailed(**ABOUT, callback="f", reason="bad"), "ERROR", "f failed"),
    (
        events.IncidentOccurred(
            incident="a-1", processes=("a", "b", "c"), reason="x", seconds=0.2
        ),
        "ERROR",
        "3 processes failed for the same reason within 0.20 s: x (a, b, c)",
    ),
    (events.GuardLost(process=MANAGER, reason="killed"), "WARNING", "killed"),
]


@pytest.mark.parametrize(
    ("event", "level", "text"),
    EVENTS,
    ids=[type(event).__name__ for event, *_ in EVENTS],
)
def test_every_event_has_a_log_entry_with_level_component_and_message(
    event, level, text
):
    logged, component, message, context = event.log_entry()
    assert logged == level
    assert logged in list(Level)
    about_manager = event.kind.startswith(("manager.", "guard.", "incident."))
    assert component == (MANAGER if about_manager else "mic")
    assert message
    assert message[0].isupper()
    assert message != str(event), "the message is short; the context has the facts"
    assert context.get("incarnation") == (event.incarnation or None)
    json.dumps(context)
    assert text in str(event)


STOPPED = events.ProcessStopped(**ABOUT, exit_status=-9, escalated=True)


def test_a_normal_stop_is_one_line_in_the_log():
    """The exit says it: the first step and the end of the group are details."""
    first = events.StopStep(**ABOUT, step="SIGTERM", members=1, routine=True)
    second = events.StopStep(**ABOUT, step="SIGKILL", members=1)
    exited = next(event for event, _, text in EVENTS if "stopped (SIGTERM)" in text)
    assert first.log_entry() is STOPPED.log_entry() is None
    assert first.is_detail
    assert STOPPED.is_detail
    assert exited.log_entry().message == "Process stopped (SIGTERM)"
    assert not exited.is_detail
    assert second.log_entry().message == "Stopping: SIGKILL"
    assert not second.is_detail


def test_a_death_is_told_with_last_words_first_then_what_was_tried_then_the_log():
    died = events.ProcessExited(
        **ABOUT,
        **EXIT,
        cause="failed",
        last_words="ModuleNotFoundError: No module named 'nope'",
        log="app.log",
    )
    assert str(died) == (
        "mic died: ModuleNotFoundError: No module named 'nope'; exit status 1, "
        "incarnation 3; log: app.log"
    )


def test_the_table_above_names_every_event():
    kinds = {
        kind
        for _, kind in inspect.getmembers(events, inspect.isclass)
        if issubclass(kind, events.Event) and kind is not events.Event
    }
    assert kinds == {type(event) for event, *_ in EVENTS}


@pytest.mark.parametrize("event", [*(event for event, *_ in EVENTS), STOPPED], ids=str)
def test_every_event_is_ready_for_json_with_its_kind_and_a_time_with_zone(event):
    form = json.loads(json.dumps(event.to_dict()))
    assert form["kind"] == event.kind
    assert "." in event.kind
    assert form["at"][-6] in "+-"


def test_only_an_unexpected_exit_is_logged_with_last_lines_and_recognised_failure():
    last = {"last_lines": ("ALSA: busy",), "sign": "device busy: choose another"}
    _, _, message, context = events.ProcessExited(
        **ABOUT, **EXIT, cause="failed", **last
    ).log_entry()
    assert message == "Process died unexpectedly"
    assert context["last_lines"] == ["ALSA: busy"]
    assert context["looks_like"] == "device busy: choose another"
    assert context["uptime"] == "01:02:05"
    for cause in (Cause.FINISHED, Cause.STOPPED, Cause.ESCALATED):
        event = events.ProcessExited(**ABOUT, **EXIT, cause=str(cause), **last)
        assert "last_lines" not in event.log_entry().context


def test_an_event_without_a_log_entry_of_its_own_is_logged_with_its_line():
    class News(events.Event):
        kind = "process.news"

    entry = News(process="mic").log_entry()
    assert entry is not None
    level, component, message, _ = entry
    assert (level, component, message) == ("INFO", "mic", "mic#0 process.news")


def test_two_events_with_the_same_facts_at_different_times_are_equal():
    first = events.ProcessReady(**ABOUT, after=0.1)
    assert first == events.ProcessReady(**ABOUT, after=0.1)
    assert first != events.ProcessReady(**ABOUT, after=0.2)
