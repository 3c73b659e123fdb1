"""
The sans-I/O session: events and times in; messages, audio and events out.

In the manner of `websockets.protocol.Protocol`: methods take an input and the time
``now``; `next_message` gives the messages for the service in their order, `audio_due`
the audio for the player, `events_received` the events for the app; `deadline` is the
time of the next `tick`. One session lasts over all its connections.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from realtalk_async import arguments
from realtalk_async.voice import events
from realtalk_async.voice.events import Status
from realtalk_async.voice.protocol import messages
from realtalk_async.voice.protocol.connection_state import (
    ConnectionState,
    State,
    is_due,
)
from realtalk_async.voice.protocol.conversation import (
    Conversation,
    ItemEvents,
    OwnItems,
)
from realtalk_async.voice.protocol.messages import Malformed
from realtalk_async.voice.protocol.microphone import InputFilter, MicrophoneBuffer
from realtalk_async.voice.protocol.outbox import Outbox
from realtalk_async.voice.protocol.pcm import BYTES_PER_MS
from realtalk_async.voice.protocol.playback import Cut, Part, Playback
from realtalk_async.voice.protocol.response_events import ResponseEvents
from realtalk_async.voice.protocol.responses import Responses, ResponseState
from realtalk_async.voice.protocol.sound_tap import SoundTap
from realtalk_async.voice.protocol.turns import Turn, TurnState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from realtalk_async.voice.events import ToolFinished, VoiceEvent
    from realtalk_async.voice.protocol.messages import (
        Message,
        Role,
        ServerEvent,
        SessionConfig,
    )
    from realtalk_async.voice.protocol.responses import Request, Response

_NOTHING_TO_CANCEL = "response_cancel_not_active"

LEAST_TURN_MS = 100
"""The service refuses a shorter turn."""

_ECHO = 0.2  # seconds for which the microphone may hear the end of a response


class Session:
    """
    One voice session, over all its connections.

    Every response ends in exactly one `Outcome`, whatever the service does or omits.

    Args:
        config: The configuration that the service gets.
        input_filter: Selects the audio of the microphone that is sent.
        has_speaker: Whether audio is played; otherwise it is dropped.
        prebuffer_ms: See `Playback`.
        stall_after: Seconds without an event of a response after which it is given up
            as `Status.STALLED`; and seconds without any message after which a keepalive
            is sent.
        cancel_grace: Seconds that the service has to confirm an interruption; then the
            response counts as cancelled.
        setup_grace: Seconds that the service has to confirm the configuration, which
            some servers never do, or to answer a keepalive.
    """

    def __init__(
        self,
        config: SessionConfig,
        *,
        input_filter: InputFilter | None = None,
        has_speaker: bool = True,
        prebuffer_ms: float = 0,
        stall_after: float = 30.0,
        cancel_grace: float = 3.0,
        setup_grace: float = 5.0,
    ) -> None:
        self.config = config
        self.microphone = MicrophoneBuffer(input_filter=input_filter)
        self.input_filter = self.microphone.filter
        self.playback = Playback(prebuffer_ms=prebuffer_ms)
        self.has_speaker = has_speaker
        """Whether audio is played; otherwise it is dropped."""
        self.sent_audio = 0
        """Bytes of the microphone that were sent."""
        self.sound = SoundTap()
        self.message_tap: Callable[
            [messages.Direction, Mapping[str, object]], object
        ] = _ignore
        """Called with each message in its direction; messages hold sound too."""
        self.conversation = Conversation()
        self.responses = Responses(stall_after=stall_after, cancel_grace=cancel_grace)
        self._events: deque[VoiceEvent] = deque()
        self._turn = Turn(stall_after)
        publish = self._publish = self._events.append
        own_items = OwnItems()
        self._items = ItemEvents(self.conversation, own_items, publish)
        self._outbox = Outbox(self.conversation, self.responses, own_items, publish)
        self.connection = ConnectionState(
            self._outbox, publish, silence=stall_after, timeout=setup_grace
        )
        self._response_events = ResponseEvents(
            self.conversation,
            self._items,
            self._outbox,
            self.responses,
            self._turn,
            publish,
        )
        self._handlers = self._make_handlers()

    # --- State --------------------------------------------------------------------

    @property
    def state(self) -> State:
        """The state of the session and its connection."""
        return self.connection.state

    @property
    def ready(self) -> bool:
        """Whether a connection is open and the service has configured the session."""
        return self.state is State.READY

    # --- Messages, events, deadline -----------------------------------------------

    @property
    def has_message(self) -> bool:
        """Whether `next_message` has a message."""
        if self._outbox and self.connection.is_open:
            return True
        has_audio = self.microphone.ready or self._turn.state is TurnState.ENDING
        return self.ready and has_audio

    def next_message(self, now: float) -> Message | None:
        """Remove and return the next message for the service; ``None`` if none is due."""
        message: Message | None = None
        if self.connection.is_open and self._outbox:
            message = self._outbox.next_message()
        elif self.ready:
            message = self._next_audio(now)
        if message is not None:
            self.message_tap("sent", message)
        return message

    def _next_audio(self, now: float) -> Message | None:
        turn_ends = self._turn.state is TurnState.ENDING
        if pcm := self.microphone.take(rest=turn_ends):
            self.sent_audio += len(pcm)
            self._turn.sent += len(pcm)
            return self._outbox.audio(pcm)
        if turn_ends:
            self._commit_turn(now)
        return self._outbox.next_message() if self._outbox else None

    def events_received(self) -> Iterator[VoiceEvent]:
        """Remove and yield the events for the app, in order."""
        while self._events:
            yield self._events.popleft()

    @property
    def deadline(self) -> float | None:
        """When `tick` has something to do, in monotonic seconds; ``None`` for never."""
        if self.state in (State.CLOSING, State.CLOSED):
            return None
        times = (
            self.responses.deadline,
            self.connection.deadline,
            self._turn.response_until,
            self._replace_at,
        )
        return min((time for time in times if time is not None), default=None)

    @property
    def _replace_at(self) -> float | None:
        """When to replace the connection; ``None`` while either side speaks."""
        in_turn = self._turn.state is not TurnState.IDLE or self.responses.responding
        if not self.ready or in_turn or not self._outbox.is_idle:
            return None
        active_at = max(self._turn.ended_at, self.responses.ended_at)
        return self.connection.expiry.replace_at(active_at)

    def tick(self, now: float) -> None:
        """Act on all deadlines that are over; see `deadline`."""
        if self.state in (State.CLOSING, State.CLOSED):
            return
        stalled = self._response_events.give_up_overdue(now)
        if is_due(self._turn.response_until, now):
            self._turn.answered()
            self._response_events.stall_requested(now)
            stalled = True
        if stalled:
            self.connection.response_stalled(now)
        self.connection.tick(now)
        self._send_queued(now)
        if is_due(self._replace_at, now):
            self.conversation.settle()
            self.connection.replace(now)

    def _send_queued(self, now: float) -> None:
        if self.ready and not self.responses.responding:
            self._outbox.send_queued(now)

    # --- The connection -----------------------------------------------------------

    def connected(self, now: float, wall: float) -> None:
        """
        Configure the session and replay the conversation on a new connection.

        Args:
            now: Monotonic seconds, as everywhere.
            wall: Seconds since the epoch, in which the service tells its end.
        """
        self._turn.connection_opened()
        self.connection.opened(self.config, now, wall)

    def receive_data(self, raw: bytes | str, now: float) -> None:
        """Handle one message of the service; ignored once the connection is closing."""
        if not self.connection.is_open:
            return
        self.connection.keepalive.received(now)
        try:
            event = messages.parse(raw)
            self.message_tap("received", event.data)
            self._handle(event, now)
        except Malformed as problem:
            self._publish(events.ProtocolProblem(str(problem)))
        self._send_queued(now)

    def _handle(self, event: ServerEvent, now: float) -> None:
        handler = self._handlers.get(event.type)
        if handler is not None:
            try:
                handler(event, now)
            except Malformed as problem:
                raise Malformed(f"{event.type}: {problem}") from problem
        elif event.type not in messages.IGNORED:
            self._publish(events.UnknownEvent(event.type, event.data))

    def connection_lost(self, reason: str, now: float) -> None:
        """End all responses under way as `Status.LOST`; the conversation is kept."""
        self._lose(reason, now, State.CONNECTING)
        self._publish(events.ConnectionLost(reason))

    def end(self, reason: str, now: float) -> None:
        """End the session: nothing is sent, played or awaited any more."""
        self._lose(reason, now, State.CLOSED)
        self.playback.clear(now)

    def _lose(self, reason: str, now: float, state: State) -> None:
        self._outbox.clear()
        self.connection.lost(now, state)
        for response in self.responses:
            self._response_events.finish(response, Status.LOST, reason, now)
        request_lost = self.responses.connection_lost()
        if self._turn.connection_lost() or request_lost:
            self._response_events.finish_requested(Status.LOST, reason, now)
        self.conversation.settle()

    # --- Audio from the microphone, audio to the player ---------------------------

    def push_audio(self, pcm: bytes, now: float) -> None:
        """Take audio from the recorder, in any size."""
        self.sound.recorded(pcm, now)
        is_audible = self.playback.remaining(now - _ECHO) > 0
        self.microphone.push(pcm, playing=is_audible)

    def audio_due(self, now: float) -> bytes:
        """Return the audio that may be written to the player now."""
        unplayed_ms = self.playback.level_ms(now) + self.playback.latency_ms
        pcm = self.playback.due(now)
        if pcm:
            self.sound.played(self.playback.playing, pcm, now + unplayed_ms / 1000)
        return pcm

    def speaker_lost(self, now: float) -> None:
        """Drop the queued and all later audio."""
        self.has_speaker = False
        self.playback.clear(now)

    def _on_audio(self, response: Response, event: ServerEvent, now: float) -> None:
        pcm = messages.decode_audio(event.text("delta"))
        self._response_events.note_output(response, event, now)
        if not pcm:
            return
        part = Part(event.text("item_id"), event.index)
        response.audio[part] = response.audio.get(part, 0) + len(pcm)
        self.sound.received(part, pcm, now)
        if self.has_speaker:
            self.playback.push(part, pcm, now)

    # --- Interruption -------------------------------------------------------------

    def interrupt(self, now: float) -> None:
        """Interrupt the response under way, as the user's voice does."""
        for response in self.responses:
            if response.state is ResponseState.ACTIVE:
                self._outbox.send(messages.cancel_response(response.response_id))
        if self.responses.sent_at is not None or self._turn.awaits_response:
            self.responses.cancel_next()
        self._cut_off(now)

    def _on_speech_started(self, event: ServerEvent, now: float) -> None:
        self._turn.speech_started()
        self._publish(events.SpeechStarted(event.text("item_id")))
        detection = self.config.turn_detection
        if detection is not None and detection.interrupt_response:
            self._cut_off(now)

    def _cut_off(self, now: float) -> None:
        """Drop the queued audio, and truncate each response to its heard part."""
        unplayed_ms = self.playback.level_ms(now)
        if unplayed_ms:
            latency_ms = self.playback.latency_ms
            self._publish(events.PlaybackCleared(unplayed_ms + latency_ms))
        cuts = {cut.part: cut for cut in self.playback.clear(now)}
        for response in self.responses:
            if response.state is ResponseState.INTERRUPTED:
                continue  # none of its audio was played since
            response.interrupt(now)
            for part, size in response.audio.items():
                # All audio so far was played, but the service would send more.
                received = size // BYTES_PER_MS
                cuts.setdefault(part, Cut(part, received, received))
        for cut in cuts.values():
            self._truncate(cut)

    def _truncate(self, cut: Cut) -> None:
        item_id, index = cut.part
        fraction = cut.heard_ms / cut.received_ms if cut.received_ms else 0.0
        text = self.conversation.interrupt(item_id, fraction)
        # The service takes neither zero nor more than it sent.
        end = min(max(1, cut.heard_ms), max(1, cut.received_ms))
        if not self._outbox.has_replayed(item_id):  # as text, without audio
            self._outbox.send(messages.truncate_item(item_id, index, end))
        self._publish(events.Interrupted(item_id, cut.heard_ms, cut.received_ms, text))

    # --- The user's turn ----------------------------------------------------------

    def start_turn(self, now: float) -> None:
        """Start a turn of push-to-talk: interrupt the response, pass the microphone on."""
        if self._turn.request is not None:
            why = "another turn started before its audio was sent"
            self._response_events.finish_unsent(
                self._turn.request, Status.CANCELLED, why, now
            )
        self.microphone.clear()
        self.input_filter.open()
        self._turn.start()
        self.interrupt(now)
        self._clear_audio()

    def end_turn(self, now: float, *, discard: bool = False) -> bool:
        """
        End a turn of push-to-talk; it is committed once all of its audio was sent.

        Args:
            now: The time.
            discard: Whether the turn is forgotten.

        Returns:
            Whether a response follows: the turn was long enough.
        """
        self.input_filter.close()
        too_short = self.input_filter.passed < LEAST_TURN_MS * BYTES_PER_MS
        if not discard and not too_short:
            self._turn.end(self.responses.new_request())
            return True
        if not discard:
            why = f"the turn was shorter than {LEAST_TURN_MS} ms"
            request = self.responses.new_request()
            self._response_events.finish_unsent(request, Status.CANCELLED, why, now)
        self.microphone.clear()
        self._turn.finish(now)
        self._clear_audio()
        return False

    def _commit_turn(self, now: float) -> None:
        """Request the response; the audio may be lost with an earlier connection."""
        request, sent = self._turn.request, self._turn.sent
        self._turn.finish(now)
        if request is None:
            return
        if sent < LEAST_TURN_MS * BYTES_PER_MS:
            self._clear_audio()
            why = "the turn was lost with the connection"
            self._response_events.finish_unsent(request, Status.LOST, why, now)
        else:
            self._outbox.send(messages.commit_audio())
            self._outbox.queue_request(request)
        self._send_queued(now)

    def _clear_audio(self) -> None:
        if self.ready:
            self._outbox.send(messages.clear_audio())

    def _on_speech_stopped(self, event: ServerEvent, now: float) -> None:
        self._turn.speech_stopped(now)
        self._publish(events.SpeechStopped(event.text("item_id")))

    def _on_committed(self, event: ServerEvent, now: float) -> None:
        item_id, previous = event.text("item_id"), self._items.previous(event)
        self._items.add_user_speech(item_id, previous)
        detection = self.config.turn_detection
        responds = detection is not None and detection.create_response
        self._turn.committed(now, awaits_response=responds)

    # --- The app ------------------------------------------------------------------

    def send_text(
        self, text: str, role: Role, now: float, *, trigger_response: bool
    ) -> Request | None:
        """
        Send a text as soon as no response is under way.

        Returns:
            The request for a response, if *trigger_response* asks for one.

        Raises:
            InvalidConfiguration: If the role is unknown or the text is blank.
        """
        arguments.words("text", text)
        arguments.choice("role", role, messages.ROLES)
        arguments.flag("trigger_response", trigger_response)
        request = self.responses.new_request() if trigger_response else None
        self._outbox.queue(text.strip(), role, request)
        self._send_queued(now)
        return request

    def set_status(self, text: str) -> None:
        """Set the status message, which follows each finished response."""
        self._outbox.status = text.strip()

    def tool_finished(self, result: ToolFinished, now: float) -> None:
        """Send the result of a tool once no response is under way."""
        if self._outbox.tool_finished(result):
            self._publish(result)
            self._send_queued(now)

    # --- Events of the service ----------------------------------------------------

    def _make_handlers(self) -> dict[str, Callable[[ServerEvent, float], None]]:
        of_active = self._response_events.of_active
        return {
            **self._items.handlers(),
            **self._response_events.handlers(),
            "session.created": self.connection.on_session_created,
            "session.updated": self.connection.on_session_updated,
            "error": self._on_error,
            "input_audio_buffer.speech_started": self._on_speech_started,
            "input_audio_buffer.speech_stopped": self._on_speech_stopped,
            "input_audio_buffer.committed": self._on_committed,
            "response.output_audio.delta": of_active(self._on_audio),
            "response.done": self._on_response_done,
        }

    def _on_response_done(self, event: ServerEvent, now: float) -> None:
        self._response_events.on_done(event, now)
        error = ("response", "status_details", "error")
        code, message = event.text(*error, "code"), event.text(*error, "message")
        if code in messages.FATAL_CODES:
            self.connection.refuse(code, ": ".join(filter(None, (code, message))))

    def _on_error(self, event: ServerEvent, now: float) -> None:
        code = event.text("error", "code") or event.text("error", "type") or "error"
        message = event.text("error", "message")
        event_id = event.text("error", "event_id")
        about = self._outbox.sent(event_id)
        connection = self.connection
        needless = code == _NOTHING_TO_CANCEL and about.type == "response.cancel"
        if needless or connection.is_about_keepalive(event_id):
            return  # the response ended meanwhile; the service is alive
        is_refused = connection.is_about_configuration(event_id)
        fatal = is_refused or code in messages.FATAL_CODES
        self._publish(events.ServiceError(code, message, event_id, about.type, fatal))
        if fatal:
            connection.refuse(code, message)
        elif code == "session_expired":
            connection.fail(f"the session has expired: {code}: {message}")
        elif about.type == "response.create" and code != messages.RESPONSE_ACTIVE:
            self._response_events.request_failed(f"{code}: {message}", now)
        else:
            self._outbox.refused(about, code, now)


def _ignore(_direction: object, _message: object) -> None:
    return
