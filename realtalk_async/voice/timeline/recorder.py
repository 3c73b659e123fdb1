"""Records the timeline of a session as a listener to its events and its audio."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from realtalk_async import events
from realtalk_async.supervision import Cause
from realtalk_async.voice import events as voice_events
from realtalk_async.voice.protocol.pcm import BYTES_PER_SECOND
from realtalk_async.voice.timeline.marks import Mark

if TYPE_CHECKING:
    from collections.abc import Callable

    from realtalk_async.voice.timeline.marks import Track

MAX_MARKS = 50_000
"""Marks in memory: 10 MB, some hours of lively conversation."""

_MAX_GAP = 0.25  # seconds; pieces of audio with a shorter gap are one mark

_TRACK_OF_PROCESS: dict[str, Track] = {
    "recorder": "recorder",
    "player": "player",
    "standby": "player",
}

_INTENDED_EXITS = frozenset({Cause.STOPPED, Cause.ESCALATED})


class TimelineRecorder:
    """
    Records the marks of one session in a bounded list.

    Audio arrives in fifty pieces a second in each direction, so successive pieces of one
    kind are joined to one mark.

    Args:
        clock: Returns the time in monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.began_at = clock()
        """The session's start; it may be set while there are no marks."""
        self.dropped = 0
        """The number of oldest marks that were dropped to bound the memory."""
        self._marks: list[Mark] = []
        self._latest: dict[tuple[Track, str], int] = {}

    @property
    def marks(self) -> tuple[Mark, ...]:
        """All marks, ordered by their beginning."""
        return tuple(sorted(self._marks, key=lambda mark: mark.at))

    # --- Marks --------------------------------------------------------------------

    def add_moment(self, track: Track, kind: str, now: float, text: str = "") -> None:
        """Add a moment."""
        self._add(Mark(now - self.began_at, track, kind, text))

    def add_audio(
        self, track: Track, kind: str, start: float, end: float, amount: float
    ) -> None:
        """Add a piece of audio: extend the latest span unless there is a gap."""
        start, end = start - self.began_at, end - self.began_at
        index = self._latest.get((track, kind))
        last = None if index is None else self._marks[index]
        if index is None or last is None or start - (last.until or 0) > _MAX_GAP:
            added = self._add(Mark(start, track, kind, "", end, amount))
            self._latest[track, kind] = added
            return
        until = max(end, last.until or 0)
        self._marks[index] = replace(last, until=until, amount=last.amount + amount)

    def begin(self, track: Track, kind: str, now: float, text: str = "") -> None:
        """Begin a span; `end` ends it."""
        added = self._add(Mark(now - self.began_at, track, kind, text))
        self._latest[track, kind] = added

    def end(self, track: Track, kind: str, now: float, text: str = "") -> None:
        """End the span that began last; do nothing if none has begun."""
        index = self._latest.pop((track, kind), None)
        if index is not None:
            mark = self._marks[index]
            until, text = now - self.began_at, text or mark.text
            self._marks[index] = replace(mark, until=until, text=text)

    def _add(self, mark: Mark) -> int:
        """Add a mark and return its index."""
        if len(self._marks) >= MAX_MARKS:
            # The newest half stays: it shows what has just gone wrong.
            del self._marks[: MAX_MARKS // 2]
            self._latest.clear()
            self.dropped += MAX_MARKS // 2
        self._marks.append(mark)
        return len(self._marks) - 1

    # --- Audio: a listener of the session's sound tap -----------------------------

    def recorded(self, pcm: bytes, at: float) -> None:
        """Add audio of the recorder."""
        self.add_audio("recorder", "sound", at, at, len(pcm) / BYTES_PER_SECOND)

    def received(self, part: object, pcm: bytes, at: float) -> None:
        """Add audio from the service."""
        self.add_audio("service", "audio", at, at, len(pcm) / BYTES_PER_SECOND)

    def played(self, part: object, pcm: bytes, at: float) -> None:
        """Add audio that is audible from *at* on."""
        seconds = len(pcm) / BYTES_PER_SECOND
        self.add_audio("speaker", "heard", at, at + seconds, seconds)

    # --- Events: a listener of the session's bus and of the manager's -------------

    def on_event(self, event: voice_events.VoiceEvent) -> None:
        """Record an event of the session."""
        now = self._clock()
        match event:
            case voice_events.SpeechStarted():
                self.begin("user", "speech", now)
            case voice_events.SpeechStopped():
                self.end("user", "speech", now)
            case voice_events.UserTranscript():
                self.add_moment("user", "transcript", now, event.text)
            case voice_events.ResponseText():
                self.add_audio("service", "text", now, now, 0.0)
            case voice_events.ResponseFinished(outcome):
                text = outcome.text if outcome.completed else str(outcome)
                self.add_moment("service", str(outcome.status), now, text)
                if outcome.usage is not None:
                    self.add_moment("service", "usage", now, str(outcome.usage))
            case voice_events.LimitReached():
                self.add_moment("service", "limit", now, str(event))
            case voice_events.SelfTalk():
                self.add_moment("service", "self-talk", now, str(event))
            case voice_events.Interrupted():
                heard, received = event.heard_ms / 1000, event.received_ms / 1000
                text = f"{heard:.1f} of {received:.1f} s heard: {event.text}"
                self.add_moment("speaker", "interrupted", now, text)
            case voice_events.ServiceError() | voice_events.ProtocolProblem():
                self.add_moment("service", "error", now, str(event))
            case voice_events.ToolCalled():
                self.begin("tools", "call", now, str(event))
            case voice_events.ToolFinished():
                self.end("tools", "call", now, str(event))
            case _:
                self._on_connection_event(event, now)

    def _on_connection_event(self, event: voice_events.VoiceEvent, now: float) -> None:
        match event:
            case voice_events.Connected():
                self.add_moment("connection", "connected", now, str(event))
                self.begin("connection", "up", now)
            case voice_events.ConnectionLost():
                self.end("connection", "up", now)
                self.add_moment("connection", "lost", now, event.reason)
            case voice_events.ConnectionRecycled():
                self.end("connection", "up", now)
                self.add_moment("connection", "recycled", now, str(event))
            case voice_events.ConnectionRestored():
                self.add_moment("connection", "restored", now, str(event))
                self.begin("connection", "up", now)
            case _:
                return

    def on_process_event(self, event: events.Event) -> None:
        """Record an event of the recorder or the player; ignore other processes."""
        track = _TRACK_OF_PROCESS.get(event.process)
        if track is None:
            return
        now = self._clock()
        match event:
            case events.ProcessExited(cause=cause) if cause not in _INTENDED_EXITS:
                self.add_moment(track, "died", now, event.summary)
            case events.TaskFailed():
                self.add_moment(track, "died", now, event.reason)
            case events.ProcessRestarted():
                text = f"after {event.downtime * 1000:.0f} ms"
                self.add_moment(track, "restarted", now, text)
            case events.ProcessGivenUp():
                self.add_moment(track, "given up", now, event.reason)
            case events.ProbeFailed():
                self.add_moment(track, "failed", now, event.reason)
            case _:
                return
