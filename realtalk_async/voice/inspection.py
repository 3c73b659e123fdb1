"""A session's events, status, history, conversation, metrics, timeline and event log."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from realtalk_async import arguments
from realtalk_async.concurrency.daemon_thread import call_in_thread
from realtalk_async.voice.eventlog import EventLog, print_table
from realtalk_async.voice.events import Usage, VoiceEvent
from realtalk_async.voice.metrics import LatencyMeter, Metrics
from realtalk_async.voice.protocol.pcm import BYTES_PER_SECOND
from realtalk_async.voice.timeline.marks import save

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping
    from datetime import datetime
    from typing import TextIO

    from realtalk_async.event_bus import EventFeed
    from realtalk_async.logs import Logger
    from realtalk_async.supervision import ErrorHistory, ProcessManager, ProcessStatus
    from realtalk_async.voice.audio.recording import Recording
    from realtalk_async.voice.connection import Connection
    from realtalk_async.voice.eventlog import Direction, LoggedEvent
    from realtalk_async.voice.events import Outcome
    from realtalk_async.voice.protocol.conversation import Entry
    from realtalk_async.voice.protocol.sound_tap import SoundTap
    from realtalk_async.voice.supervisor import SessionSupervisor
    from realtalk_async.voice.timeline.marks import Mark


@dataclass(frozen=True, slots=True)
class Summary:
    """The events and figures of one session; ``str()`` gives a few lines for people."""

    started_at: datetime
    duration: float
    """Seconds."""
    ended_by: str
    """``stop_streaming``, ``SIGINT``, ``SIGTERM``, or what went wrong."""
    conversation: tuple[Entry, ...]
    """The newest messages, see `HistoryLimits`; `dropped_history` counts the others."""
    outcomes: tuple[Outcome, ...]
    """How the newest responses ended; `responses` counts them all."""
    restarts: Mapping[str, int]
    """Number of restarts of recorder, player and connection, if they ran."""
    sent_audio: float
    """Seconds of the microphone that the service got."""
    dropped_audio: float
    """Seconds of the microphone that were too old when the connection was restored."""
    played_audio: float
    """Seconds of responses that were handed to the player."""
    underruns: int
    """How often the player ran dry in the middle of a response."""
    log_path: Path
    responses: Mapping[str, int] = field(default_factory=dict[str, int])
    """The number of responses by their final status."""
    usage: Usage = Usage()  # noqa: RUF009 - it is frozen
    """The tokens of all responses and transcripts."""
    dropped_history: Mapping[str, int] = field(default_factory=dict[str, int])
    """See `Metrics.dropped_history`."""
    timeline: tuple[Mark, ...] = field(default=(), repr=False)
    """What happened when; `voice.timeline.svg.render` draws it."""

    def to_dict(self) -> dict[str, object]:
        """Return the fields, ready for JSON, without the timeline."""
        return {
            "started_at": self.started_at.isoformat(),
            "duration": round(self.duration, 3),
            "ended_by": self.ended_by,
            "conversation": [entry.to_dict() for entry in self.conversation],
            "outcomes": [outcome.to_dict() for outcome in self.outcomes],
            "responses": dict(self.responses),
            "usage": self.usage.to_dict(),
            "dropped_history": dict(self.dropped_history),
            "restarts": dict(self.restarts),
            "sent_audio": round(self.sent_audio, 3),
            "dropped_audio": round(self.dropped_audio, 3),
            "played_audio": round(self.played_audio, 3),
            "underruns": self.underruns,
            "log_path": str(self.log_path),
        }

    def __str__(self) -> str:
        ends = self.responses.items()
        responses = ", ".join(f"{n} {status}" for status, n in ends) or "none"
        restarted = ", ".join(f"{name} {n}" for name, n in self.restarts.items() if n)
        used = [f"usage: {self.usage}"] if self.usage.total else []
        return "\n".join(
            [
                f"session of {self.duration:.1f} s, ended by {self.ended_by}",
                f"responses: {responses}",
                f"restarts: {restarted or 'none'}",
                f"audio: {self.sent_audio:.1f} s heard, {self.played_audio:.1f} s spoken",
                *used,
                f"log: {self.log_path}",
            ]
        )


class Inspection:
    """
    The queries of a session, at any time, also after its end.

    The event log, the metrics and the timeline listen to the session from its start.

    Args:
        connection: Drives the session, and publishes its events.
        logger: Where everything is logged.
        process_manager: The manager of recorder, player and connection.
        supervisor: Supervises the session, and has its timeline.
        kept_events: How many messages the event log keeps.
    """

    def __init__(
        self,
        connection: Connection,
        logger: Logger,
        process_manager: ProcessManager,
        supervisor: SessionSupervisor,
        kept_events: int,
    ) -> None:
        self.logger = logger
        """Where everything is logged."""
        self.process_manager = process_manager
        """The manager of recorder, player and connection."""
        self.eventlog = EventLog(kept_events)
        """The newest messages to and from the service, see `HistoryLimits`."""
        self._connection = connection
        self._session = session = connection.session
        self._bus = bus = connection.bus
        self._meter = LatencyMeter()
        self._timeline = supervisor.timeline
        self._supervisor = supervisor
        session.message_tap = self.eventlog.record
        session.sound.add(self._meter)
        session.sound.add(self._timeline)
        session.sound.add(supervisor.hearing)
        bus.subscribe(self._meter.on_event)
        bus.subscribe(self._timeline.on_event)

    def subscribe(
        self, callback: Callable[[VoiceEvent], object], *kinds: type[VoiceEvent]
    ) -> Callable[[], None]:
        """
        Call *callback* with each event of the session, at once, in the event loop.

        It must not block. A callback that raises is logged and called again. For events
        of the processes use ``process_manager.subscribe``.

        Args:
            callback: A function that is not async.
            *kinds: Only events of these classes; all if there are none.

        Returns:
            A function that ends the subscription. Idempotent.

        Raises:
            InvalidConfiguration: If an argument is invalid.
        """
        arguments.function("callback", callback)
        return self._bus.subscribe(callback, *kinds)

    def events(
        self, *kinds: type[VoiceEvent], size: int = 1000
    ) -> EventFeed[VoiceEvent]:
        """
        Return the events of the session from here on, as an async iterator::

            async for event in stream.events(ResponseFinished, Interrupted):
                print(event)

        Each iterator has its own queue. If its reader is slow, the oldest events are
        dropped, and an `EventsMissed` tells their number. It ends with the session.

        Args:
            kinds: Only events of these classes; all if none is given.
            size: Number of events that may wait to be read.

        Raises:
            InvalidConfiguration: If an argument is invalid.
        """
        for number, kind in enumerate(kinds):
            what, allowed = f"kinds[{number}]", "a class of VoiceEvent"
            arguments.subclass(what, kind, VoiceEvent, allowed)
        return self._bus.feed(kinds, size)

    def _record_to(self, recording: Recording) -> None:
        self._supervisor.recording = recording
        self._session.sound.add(recording)

    def is_ready(self) -> bool:
        """Return whether the session is connected, and recorder and player work."""
        return self._supervisor.is_ready and self._session.ready

    def process_status(self) -> dict[str, ProcessStatus]:
        """
        Return the statuses of recorder, player and connection, at any time.

        A manager that was given to the stream adds its other processes.
        """
        return self.process_manager.get_statuses()

    def error_history(self, process_name: str | None = None) -> ErrorHistory:
        """
        Return the history of one process, or of all, at any time.

        Raises:
            UnknownProcess: If there is no process of that name.
            InvalidConfiguration: If *process_name* is no text.
        """
        arguments.text("process_name", process_name, optional=True)
        return self.process_manager.get_error_history(process_name)

    def summary(self) -> Summary:
        """Return the summary up to now."""
        session, supervisor = self._session, self._supervisor
        return Summary(
            started_at=supervisor.started_at,
            duration=supervisor.duration,
            ended_by=supervisor.ended_by,
            conversation=tuple(self.conversation()),
            outcomes=tuple(session.responses.outcomes),
            restarts=self._restarts(),
            sent_audio=session.microphone.taken / BYTES_PER_SECOND,
            dropped_audio=session.microphone.dropped / BYTES_PER_SECOND,
            played_audio=session.playback.written / BYTES_PER_SECOND,
            underruns=session.playback.underruns,
            log_path=Path(self.logger.path),
            responses=dict(session.responses.counts),
            usage=session.cost.total,
            dropped_history=self._dropped_history(),
            timeline=self._timeline.marks,
        )

    def _dropped_history(self) -> dict[str, int]:
        responses = self._session.responses
        return {
            "messages": self._session.conversation.dropped,
            "outcomes": responses.ended - len(responses.outcomes),
            "events": self.eventlog.dropped,
            "marks": self._timeline.dropped,
        }

    def _restarts(self) -> dict[str, int]:
        statuses = self.process_manager.get_statuses()
        names = self._supervisor.names
        return {name: s.restarts for name, s in statuses.items() if name in names}

    def metrics(self) -> Metrics:
        """
        Return latencies, amounts of audio and numbers of failures, at any time.

        The cost does not depend on the length of the session.
        """
        session, supervisor, meter = self._session, self._supervisor, self._meter
        microphone, playback = session.microphone, session.playback
        recorder, recording = supervisor.recorder, supervisor.recording
        return Metrics(
            duration=supervisor.duration,
            connected=session.ready,
            turns=tuple(meter.turns),
            barge_ins=tuple(meter.barge_ins),
            switches=tuple(meter.switches),
            responses=dict(session.responses.counts),
            restarts=self._restarts(),
            sent_audio=microphone.taken / BYTES_PER_SECOND,
            waiting_audio=len(microphone) / BYTES_PER_SECOND,
            dropped_audio=microphone.dropped / BYTES_PER_SECOND,
            withheld_audio=microphone.filter.withheld / BYTES_PER_SECOND,
            played_audio=playback.written / BYTES_PER_SECOND,
            queued_audio=playback.queued / BYTES_PER_SECOND,
            underruns=playback.underruns,
            recorder_rate=0.0 if recorder is None else recorder.rate_monitor.rate,
            missed_events=self._bus.missed,
            microphone_dbfs=supervisor.hearing.microphone_dbfs,
            speaker_dbfs=supervisor.hearing.speaker_dbfs,
            unrecorded_audio=0.0 if recording is None else recording.missing,
            dropped_history=self._dropped_history(),
            usage=session.cost.total,
        )

    async def save_timeline(self, path: str | os.PathLike[str]) -> None:
        """
        Save the timeline as JSON lines, for ``realtalk-async timeline``.

        `voice.timeline.svg.render` draws the file, or a summary.

        Raises:
            OSError: If *path* cannot be written.
            InvalidConfiguration: If *path* is no path.
        """
        arguments.path("path", path)
        write = partial(save, self._timeline.marks, path)
        await call_in_thread(write, "realtalk-async saves a timeline")

    def view_log(
        self,
        pattern: str | None = None,
        *,
        direction: Direction | None = None,
        since: datetime | None = None,
        n: int | None = None,
        file: TextIO | None = None,
    ) -> list[LoggedEvent]:
        """
        Print the protocol events that match, one line each, and return them.

        Args:
            pattern: A regular expression, looked for in the type: ``"^response"``.
            direction: Only those ``"sent"``, or only those ``"received"``.
            since: Only those from this time on.
            n: Only the newest *n*.
            file: Where to print; standard output if omitted.

        Raises:
            InvalidConfiguration: If an argument is invalid.
        """
        arguments.like("file", file, "a file to write text to", "write", optional=True)
        found = self.eventlog.find(pattern, direction=direction, since=since, n=n)
        print_table(found, file, self.eventlog.dropped if n is None else 0)
        return found

    def conversation(self) -> list[Entry]:
        """Return the messages in order; interrupted responses as they were heard."""
        return self._session.conversation.entries()

    def transcript(self) -> str:
        """Return the conversation as text, one line for each message."""
        return "\n".join(str(entry) for entry in self.conversation())


def sound_of(stream: Inspection) -> SoundTap:
    """Return the sound of a session, for a listener of this package."""
    return stream._session.sound  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
