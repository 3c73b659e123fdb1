"""How events read in the log, and as one line."""

import inspect
import json

import pytest

from realtalk_async import events
from realtalk_async.logs import Level
from realtalk_async.supervision.log_entries import MANAGER, narrate
from realtalk_async.supervision.reports.status import Cause

ABOUT = {"process": "mic", "incarnation": 3}
EXIT = {"pid": 7, "exit_status": 1, "uptime": 3725.4, "summary": "exit status 1"}

EVENTS = [
    (events.ProcessStarted(**ABOUT, pid=7, command="sox -d"), "INFO", "started: pid 7"),
    (events.ProcessReady(**ABOUT, after=0.1234), "INFO", "ready after 0.12 s"),
    (
        events.ReadinessLost(**ABOUT, probe="tcp", reason="refused"),
        "WARNING",
        "not ready any more: tcp",
    ),
    (
        events.DeviceAwaited(**ABOUT, holders={"hw:0": "'aux' (running)"}),
        "INFO",
        "('hw:0': 'aux' (running))",
    ),
    (events.SpawnRefused(**ABOUT, error="no such file"), "ERROR", "no such file"),
    (events.ProcessExited(**ABOUT, **EXIT, cause="failed"), "ERROR", "exit status 1"),
    (events.ProcessExited(**ABOUT, **EXIT, cause="finished"), "INFO", "died"),
    (events.ProcessExited(**ABOUT, **EXIT, cause="stopped by us"), "INFO", "died"),
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
    (events.RestartFailed(**ABOUT, reason="it raised"), "ERROR", "it raised"),
    (events.ProcessGivenUp(**ABOUT, reason="too many"), "ERROR", "too many"),
    (events.ProcessStopped(**ABOUT, exit_status=-9, escalated=True), "INFO", "-9"),
    (events.OutputDropped(**ABOUT, stream="stdout", max_size=9), "WARNING", "9 bytes"),
    (events.Degraded(**ABOUT, reason="gone"), "WARNING", "gone"),
    (events.ShutdownStarted(**ABOUT, reason="gone"), "ERROR", "because of mic"),
    (events.CallbackFailed(**ABOUT, callback="f", reason="bad"), "ERROR", "f failed"),
    (events.GuardLost(process=MANAGER, reason="killed"), "WARNING", "killed"),
]


@pytest.mark.parametrize(
    ("event", "level", "said"),
    EVENTS,
    ids=[type(event).__name__ for event, *_ in EVENTS],
)
def test_every_event_has_its_level_its_component_and_its_words(event, level, said):
    """P10: what failed, why, what was tried, what comes next."""
    told, component, message, context = narrate(event)
    assert told == level
    assert told in list(Level)
    about_manager = event.kind.startswith(("manager.", "guard."))
    assert component == (MANAGER if about_manager else "mic")
    assert message
    assert message[0].isupper()
    assert message != str(event), "it has words of its own"
    assert context.get("incarnation") == (event.incarnation or None)
    json.dumps(context)
    assert said in str(event)


def test_no_event_is_left_out():
    """One added later must be told as well."""
    kinds = {
        kind
        for _, kind in inspect.getmembers(events, inspect.isclass)
        if issubclass(kind, events.Event) and kind is not events.Event
    }
    assert kinds == {type(event) for event, *_ in EVENTS}


@pytest.mark.parametrize("event", [event for event, *_ in EVENTS], ids=str)
def test_every_event_is_ready_for_json_and_names_its_kind(event):
    """Dotted, with a time that has its zone."""
    told = json.loads(json.dumps(event.to_dict()))
    assert told["kind"] == event.kind
    assert "." in event.kind
    assert told["at"][-6] in "+-"


def test_an_unexpected_death_is_told_with_its_last_words_and_what_it_looks_like():
    """An expected one is not."""
    last = {"last_words": ("ALSA: busy",), "sign": "device busy: choose another"}
    _, _, message, context = narrate(
        events.ProcessExited(**ABOUT, **EXIT, cause="failed", **last)
    )
    assert message == "Process died unexpectedly"
    assert context["last_words"] == ["ALSA: busy"]
    assert context["looks_like"] == "device busy: choose another"
    assert context["uptime"] == "01:02:05"
    for cause in (Cause.FINISHED, Cause.STOPPED, Cause.ESCALATED):
        event = events.ProcessExited(**ABOUT, **EXIT, cause=str(cause), **last)
        assert "last_words" not in narrate(event)[3]


def test_an_event_of_tomorrow_is_told_too():
    """In its own words."""

    class News(events.Event):
        kind = "process.news"

    level, component, message, _ = narrate(News(process="mic"))
    assert (level, component, message) == ("INFO", "mic", "mic#0 process.news")
