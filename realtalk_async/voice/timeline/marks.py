"""What a voice event, or what happens to a child, is in the time line. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from realtalk_async import events
from realtalk_async.supervision import Cause
from realtalk_async.voice import events as words

if TYPE_CHECKING:
    from realtalk_async.voice.timeline.recorder import Chronicle, Lane

_CHILDREN: dict[str, Lane] = {
    "recorder": "recorder",
    "player": "player",
    "standby": "player",
}

_BY_US = frozenset({Cause.STOPPED, Cause.ESCALATED})


def write_down(chronicle: Chronicle, event: words.VoiceEvent, now: float) -> None:
    """Note what happened in the session."""
    match event:
        case words.SpeechStarted():
            chronicle.open("user", "speech", now)
        case words.SpeechStopped():
            chronicle.close("user", "speech", now)
        case words.UserTranscript():
            chronicle.note("user", "transcript", now, event.text)
        case words.ResponseText():
            chronicle.note_sound("service", "text", now, now, 0.0)
        case words.ResponseFinished(outcome):
            told = outcome.text if outcome.completed else str(outcome)
            chronicle.note("service", str(outcome.status), now, told)
        case words.Interrupted():
            heard, came = event.heard_ms / 1000, event.received_ms / 1000
            told = f"{heard:.1f} of {came:.1f} s heard: {event.text}"
            chronicle.note("speaker", "interrupted", now, told)
        case _:
            _write_down_the_rest(chronicle, event, now)


def _write_down_the_rest(
    chronicle: Chronicle, event: words.VoiceEvent, now: float
) -> None:
    match event:
        case words.Connected():
            chronicle.note("connection", "connected", now, str(event))
            chronicle.open("connection", "up", now)
        case words.ConnectionLost():
            chronicle.close("connection", "up", now)
            chronicle.note("connection", "lost", now, event.reason)
        case words.ConnectionRecycled():
            chronicle.close("connection", "up", now)
            chronicle.note("connection", "recycled", now, str(event))
        case words.ConnectionRestored():
            chronicle.note("connection", "restored", now, str(event))
            chronicle.open("connection", "up", now)
        case words.ServiceError() | words.ProtocolProblem():
            chronicle.note("service", "error", now, str(event))
        case words.ToolCalled():
            chronicle.open("tools", "call", now, str(event))
        case words.ToolFinished():
            chronicle.close("tools", "call", now, str(event))
        case _:
            return


def write_down_process(chronicle: Chronicle, event: events.Event, now: float) -> None:
    """Note what happened to the recorder or the player."""
    lane = _CHILDREN.get(event.process)
    if lane is None:
        return
    match event:
        case events.ProcessExited(cause=cause) if cause not in _BY_US:
            chronicle.note(lane, "died", now, event.summary)
        case events.TaskFailed():
            chronicle.note(lane, "died", now, event.reason)
        case events.ProcessRestarted():
            after = f"after {event.downtime * 1000:.0f} ms"
            chronicle.note(lane, "revived", now, after)
        case events.ProcessGivenUp():
            chronicle.note(lane, "given up", now, event.reason)
        case events.ProbeFailed():
            chronicle.note(lane, "failed", now, event.reason)
        case _:
            return
