"""
The hands of a session: carries out, in order, what `Session` decides.

It holds what is to be sent, what is to be played and what was heard, and reads the
clock once for each thing that happens. It never waits: who sends, plays and records
are tasks of their own, woken by its events.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING

from realtalk_async.exceptions import ServiceRefused, ServiceUnreachable
from realtalk_async.voice import events
from realtalk_async.voice.eventlog import EventLog
from realtalk_async.voice.metrics import Meter
from realtalk_async.voice.protocol import messages
from realtalk_async.voice.protocol.decisions import (
    Decision,
    End,
    Hush,
    Play,
    Redial,
    RunTool,
    Send,
    Tell,
)
from realtalk_async.voice.protocol.messages import Malformed
from realtalk_async.voice.protocol.microphone import InputFilter, MicrophoneBuffer
from realtalk_async.voice.protocol.pcm import BYTES_PER_MS
from realtalk_async.voice.protocol.playback import Playback
from realtalk_async.voice.protocol.session import LEAST_TURN_MS
from realtalk_async.voice.timeline.marks import write_down
from realtalk_async.voice.timeline.recorder import Chronicle
from realtalk_async.voice.tools import Toolbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from realtalk_async.voice.audio.recording import Tape
    from realtalk_async.voice.events import Role, ToolFinished, VoiceEvent
    from realtalk_async.voice.protocol.messages import Message
    from realtalk_async.voice.protocol.session import Session
    from realtalk_async.voice.timeline.recorder import Lane


_PER_SECOND = 1000 * BYTES_PER_MS

ECHO = 0.2
"""Seconds for which a room may go on sounding, with half-duplex."""


class Recycled(Exception):
    """This connection is left for a new one; nothing broke."""


class Engine:
    """
    One session's state, and the only one who changes it.

    Args:
        session: Who decides.
        tell: Called with each event, at once.
        plays: Whether there is a speaker; without one, audio is dropped.
        toolbox: What the service may call.
        input_filter: What of the microphone the service may hear.
        prebuffer_ms: See `Playback`.
    """

    def __init__(
        self,
        session: Session,
        tell: Callable[[VoiceEvent], None],
        *,
        plays: bool,
        toolbox: Toolbox | None = None,
        input_filter: InputFilter | None = None,
        prebuffer_ms: float = 0,
    ) -> None:
        self.session = session
        self.toolbox = toolbox or Toolbox()
        self.playback = Playback(prebuffer_ms=prebuffer_ms)
        self.input_filter = input_filter or InputFilter()
        self.microphone = MicrophoneBuffer(input_filter=self.input_filter)
        self.eventlog = EventLog()
        self.plays = plays
        self.was_ready = False
        """Whether the session was set up at least once."""
        self.meter = Meter()
        self.chronicle = Chronicle(time.monotonic())
        self.tape: Tape | None = None
        """Where both sides are recorded, if they are."""
        self.to_send = asyncio.Event()
        """Set when `next_message` has something."""
        self.to_play = asyncio.Event()
        """Set when `playback` was given something."""
        self.sent_audio = 0
        """Bytes of the microphone that were sent."""
        self._tell = tell
        self._outbox: deque[Message] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._appended = 0  # bytes of a turn that this connection got
        self._turn_ends = False  # by push-to-talk, once all of it was sent
        self._ending: Exception | None = None  # of this connection
        self._is_over = False

    # --- The connection -----------------------------------------------------------

    def connected(self) -> None:
        """A connection is up; what was meant for the last one is void."""
        self._outbox.clear()
        self._appended = 0
        self._ending = None
        self._do(self.session.connected(time.monotonic(), time.time()))

    def receive(self, raw: bytes) -> None:
        """
        The service sent something.

        Raises:
            ServiceUnreachable: If this connection is of no more use.
            ServiceRefused: If the session cannot go on.
        """
        now = time.monotonic()
        try:
            event = messages.parse(raw)
        except Malformed as problem:
            self._do(self.session.malformed(problem, now))
            return
        self.eventlog.record("received", event.data)
        self._do(self.session.receive(event, now))

    def next_message(self) -> Message | None:
        """
        Return what is to be sent next, and have it in the event log.

        Raises:
            Recycled: If this connection is to be left for a new one.
        """
        if self._ending is not None:
            raise self._ending
        message = self._outbox.popleft() if self._outbox else self._next_audio()
        if message is not None:
            self.eventlog.record("sent", message)
        return message

    def _next_audio(self) -> Message | None:
        if not self.session.ready:
            return None
        pcm = self.microphone.take(rest=self._turn_ends)
        self.sent_audio += len(pcm)
        self._appended += len(pcm)
        if pcm:
            return self.session.audio(pcm)
        return self._commit() if self._turn_ends else None

    def _commit(self) -> Message | None:
        """All of a turn was sent: end it."""
        sent, self._appended, self._turn_ends = self._appended, 0, False
        self._do(self.session.commit(sent / BYTES_PER_MS, time.monotonic()))
        return self._outbox.popleft() if self._outbox else None

    def lost(self, reason: str) -> None:
        """The connection broke."""
        self._outbox.clear()
        self._do(self.session.lost(reason, time.monotonic()))

    def end(self, reason: str) -> None:
        """The session is over: nothing is sent, played or waited for any more."""
        self._is_over = True
        self._do(self.session.ended(reason, time.monotonic()))
        self._outbox.clear()
        self.playback.clear(time.monotonic())

    def tell(self, event: VoiceEvent) -> None:
        """Have an event in the time line, and tell the app."""
        write_down(self.chronicle, event, time.monotonic())
        self._tell(event)

    # --- Sound --------------------------------------------------------------------

    def hear(self, pcm: bytes) -> None:
        """The recorder gave something, in any size."""
        self._note_sound("recorder", "sound", time.monotonic(), pcm, 0.0)
        if self.tape is not None:
            self.tape.hear(pcm)
        self.microphone.push(
            pcm, playing=self.input_filter.half_duplex and self._is_heard()
        )
        if self.microphone.ready:
            self.to_send.set()

    def due(self) -> bytes:
        """Return what may be written to the player now, and have it on the tape."""
        now = time.monotonic()
        lead_ms = self.playback.level_ms(now) + self.playback.latency_ms
        pcm = self.playback.due(now)
        if pcm:
            self._sounds(pcm, now + lead_ms / 1000)
        return pcm

    def _sounds(self, pcm: bytes, at: float) -> None:
        """A piece of a response is heard from *at* on."""
        self.meter.sounds(self.playback.playing, at)
        self._note_sound("speaker", "heard", at, pcm, len(pcm) / _PER_SECOND)
        if self.tape is not None:
            self.tape.play(pcm, at)

    def _note_sound(
        self, lane: Lane, kind: str, at: float, pcm: bytes, seconds: float
    ) -> None:
        """Have a piece of sound in the time line, which took so many *seconds*."""
        amount = len(pcm) / _PER_SECOND
        self.chronicle.note_sound(lane, kind, at, at + seconds, amount)

    def _is_heard(self) -> bool:
        """Whether a response is being heard, or its echo in the room."""
        return self.playback.remaining(time.monotonic() - ECHO) > 0

    def start_talking(self) -> None:
        """The user begins a turn of push-to-talk."""
        self.microphone.clear()
        self._appended, self._turn_ends = 0, False
        self.input_filter.open()
        self._do(self.session.start_turn(time.monotonic()))

    def stop_talking(self, *, discard: bool = False) -> bool:
        """
        The user ends the turn; return whether it was one, long enough to be answered.

        Args:
            discard: Whether it is not to be answered at all.
        """
        self.input_filter.close()
        too_short = self.input_filter.passed < LEAST_TURN_MS * BYTES_PER_MS
        if discard or too_short:
            self.microphone.clear()
            discard_turn, now = self.session.discard_turn, time.monotonic()
            self._do(discard_turn(now, too_short=too_short and not discard))
            return False
        self.session.end_turn()
        self._turn_ends = True
        self.to_send.set()
        return True

    def fall_silent(self) -> None:
        """There is no speaker any more: drop what waits, and what will come."""
        self.plays = False
        self.playback.clear(time.monotonic())

    # --- The app ------------------------------------------------------------------

    def send_text(self, text: str, role: Role, *, trigger_response: bool) -> None:
        """See `Session.send_text`."""
        now = time.monotonic()
        send_text = self.session.send_text
        self._do(send_text(text, role, now, trigger_response=trigger_response))

    def interrupt(self) -> None:
        """Silence the response that is under way."""
        self._do(self.session.interrupt(time.monotonic()))

    def _tool_finished(self, result: ToolFinished) -> None:
        self._do(self.session.tool_finished(result, time.monotonic()))

    # --- Carrying out -------------------------------------------------------------

    def _do(self, decisions: Iterable[Decision]) -> None:
        """
        Carry out *decisions*.

        Raises:
            ServiceUnreachable, ServiceRefused: If they end the connection; all the
                others have been carried out then.
        """
        ending: Exception | None = None
        for decision in decisions:
            match decision:
                case Send(message):
                    self._post(message)
                case Play():
                    self._play(decision)
                case Hush():
                    self._hush()
                case Tell(event):
                    self.was_ready = self.was_ready or self.session.ready
                    self._take_time(event)
                    self.tell(event)
                case RunTool(call):
                    self.toolbox.start(call, self._tool_finished)
                case Redial(reason, planned):
                    kind = Recycled if planned else ServiceUnreachable
                    ending = kind(reason)
                case End(code, message):
                    ending = ServiceRefused(code, message)
        if self._outbox or self.microphone.ready:
            self.to_send.set()
        self._set_timer()
        if ending is not None:
            raise ending

    def _post(self, message: Message) -> None:
        if message["type"] == "response.create":
            self.meter.asked(time.monotonic())
        self._outbox.append(message)

    def _take_time(self, event: VoiceEvent) -> None:
        now = time.monotonic()
        match event:
            case events.SpeechStopped():
                self.meter.asked(now)
            case events.ResponseStarted():
                self.meter.began(event.response_id, now)
            case events.ResponseText():
                self.meter.came(now)
            case _:
                return

    def _play(self, play: Play) -> None:
        now = time.monotonic()
        self.meter.came(now, play.part)
        self._note_sound("service", "audio", now, play.pcm, 0.0)
        if self.plays:
            self.playback.push(play.part, play.pcm, now)
            self.to_play.set()

    def _hush(self) -> None:
        now = time.monotonic()
        level_ms = self.playback.level_ms(now)
        if level_ms:
            self.meter.silenced(level_ms + self.playback.latency_ms)
        self._do(self.session.cut_off(self.playback.clear(now), now))

    def _set_timer(self) -> None:
        """Have `_tick` called when the session has something to give up on."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline = self.session.deadline
        if deadline is not None and not self._is_over:
            delay = max(0.0, deadline - time.monotonic())
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(delay, self._tick)

    def _tick(self) -> None:
        self._timer = None
        try:
            self._do(self.session.tick(time.monotonic()))
        except (Recycled, ServiceUnreachable) as ending:
            self._ending = ending  # raised where the connection is held
            self.to_send.set()
