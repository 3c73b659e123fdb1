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

from realtalk_async import g711
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
from realtalk_async.voice.protocol.cost.limits import NO_LIMITS
from realtalk_async.voice.protocol.cost.session_cost import SessionCost
from realtalk_async.voice.protocol.hearing.audio_path import AudioPath
from realtalk_async.voice.protocol.hearing.speech_events import SpeechEvents
from realtalk_async.voice.protocol.history.limits import DEFAULT_LIMITS
from realtalk_async.voice.protocol.messages import Malformed
from realtalk_async.voice.protocol.microphone import InputFilter, MicrophoneBuffer
from realtalk_async.voice.protocol.outbox import DEFAULT_TOOL_STEPS, Outbox
from realtalk_async.voice.protocol.playback import Playback
from realtalk_async.voice.protocol.requests.interruption import Interruption
from realtalk_async.voice.protocol.requests.message_queue import MessageQueue
from realtalk_async.voice.protocol.requests.outage import Outage
from realtalk_async.voice.protocol.requests.push_to_talk import PushToTalk
from realtalk_async.voice.protocol.requests.replacement import Replacement
from realtalk_async.voice.protocol.requests.service_errors import ServiceErrors
from realtalk_async.voice.protocol.requests.session_updates import SessionUpdates
from realtalk_async.voice.protocol.response_events import ResponseEvents
from realtalk_async.voice.protocol.responses import Responses
from realtalk_async.voice.protocol.sound_tap import SoundTap
from realtalk_async.voice.protocol.turns import Turn, TurnState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from realtalk_async.voice.events import ToolFinished, VoiceEvent
    from realtalk_async.voice.protocol.conversation import Entry
    from realtalk_async.voice.protocol.cost.limits import SessionLimits
    from realtalk_async.voice.protocol.hearing.barge_in import InterruptWhen
    from realtalk_async.voice.protocol.history.limits import HistoryLimits
    from realtalk_async.voice.protocol.messages import (
        Message,
        Role,
        ServerEvent,
    )
    from realtalk_async.voice.protocol.requests.images import Image
    from realtalk_async.voice.protocol.requests.session_config import SessionConfig
    from realtalk_async.voice.protocol.requests.session_updates import SessionChange
    from realtalk_async.voice.protocol.responses import Request


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
        max_tool_steps: How many responses in a row may call tools without an answer.
        history: How much of the session is kept, and replayed to a new connection.
        limits: When the session ends by itself.
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
        max_tool_steps: int = DEFAULT_TOOL_STEPS,
        interrupt_when: InterruptWhen | None = None,
        history: HistoryLimits = DEFAULT_LIMITS,
        limits: SessionLimits = NO_LIMITS,
    ) -> None:
        responds = config.responds
        if interrupt_when is not None:
            config = config.without_service_turns()
        self.microphone = MicrophoneBuffer(input_filter=input_filter)
        self.playback = Playback(has_speaker=has_speaker, prebuffer_ms=prebuffer_ms)
        self._encoder = g711.Encoder(config.audio_format)
        self.sound = SoundTap(self.microphone.filter)
        self.message_tap: Callable[
            [messages.Direction, Mapping[str, object]], object
        ] = _ignore
        """Called with each message in its direction; messages hold sound too."""
        self.conversation = Conversation(history.kept_items)
        self.responses = Responses(
            stall_after=stall_after,
            cancel_grace=cancel_grace,
            most=history.kept_outcomes,
        )
        self._messages = MessageQueue()
        self._events: deque[VoiceEvent] = deque()
        self._turn = Turn(self.microphone, stall_after)
        send = self._messages.send
        self.cost = SessionCost(limits, self._events.append)
        publish = self._publish = self.cost.on_event
        self.updates = SessionUpdates(
            *(config, self._messages, self._turn, self.microphone, publish),
            grace=setup_grace,
            timeout=stall_after,
        )
        self.replacement, self.outage = Replacement(), Outage(self.playback, publish)
        own_items = OwnItems(1_000 + 2 * history.replay_items)
        self._items = ItemEvents(self.conversation, own_items, publish)
        self._outbox = Outbox(
            *(self.conversation, self.responses, own_items, send, publish),
            *(max_tool_steps, history),
        )
        self.connection = ConnectionState(
            self.updates.send, publish, silence=stall_after, timeout=setup_grace
        )
        self._response_events = ResponseEvents(
            *(self.conversation, self._items, self._outbox, self.responses),
            *(self._turn, send, publish),
        )
        self._errors = ServiceErrors(
            *(self._messages, self.connection, self.updates, self.responses),
            *(self._response_events, self.conversation, publish),
        )
        self.interruption = Interruption(
            *(self.playback, self.responses, self.conversation, self._outbox),
            *(self._turn, send, publish, interrupt_when),
            responds=responds,
        )
        self._audio = AudioPath(
            *(config.audio_format, self.microphone, self.playback, self.sound),
            *(self.interruption, self._response_events),
        )
        self._speech_events = SpeechEvents(
            *(self.updates, self._items, self._outbox, self._turn),
            *(self.interruption, publish),
        )
        self._push_to_talk = PushToTalk(
            *(self._turn, self.connection, self.responses, self._response_events),
            *(self._outbox, send),
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
    def is_quiet(self) -> bool:
        """Whether no response is under way or still to come, and nothing waits."""
        waits = self._outbox.awaits_answer or not self._outbox.is_idle
        return not (self.responses.responding or self._turn.awaits_response or waits)

    @property
    def has_message(self) -> bool:
        """Whether `next_message` has a message."""
        if self._messages and self.connection.is_open:
            return True
        has_audio = self.microphone.ready or self._turn.state is TurnState.ENDING
        return self.ready and has_audio and not self.limit_reached

    def next_message(self, now: float) -> Message | None:
        """Remove and return the next message for the service; ``None`` if none is due."""
        message: Message | None = None
        if self.connection.is_open and self._messages:
            message = self._messages.pop()
        elif self.ready and not self.limit_reached:
            message = self._next_audio(now)
        if message is not None:
            self.message_tap("sent", message)
        return message

    def _next_audio(self, now: float) -> Message | None:
        turn_ends = self._turn.state is TurnState.ENDING
        if pcm := self.microphone.take(rest=turn_ends):
            self._turn.sent += len(pcm)
            return self._messages.numbered(
                messages.append_audio(self._encoder.encode(pcm))
            )
        if turn_ends:
            self._push_to_talk.commit(now)
            self._send_queued(now)
        return self._messages.pop()

    @property
    def has_event(self) -> bool:
        """Whether `events_received` has an event."""
        return bool(self._events)

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
            self.updates.deadline(confirms=self.connection.keepalive.answers),
            self.cost.limits.deadline,
            self.outage.deadline(self.connection.lost_at),
        )
        return min((time for time in times if time is not None), default=None)

    @property
    def _replace_at(self) -> float | None:
        """When to replace the connection; ``None`` while either side speaks."""
        if not self.ready:
            return None
        in_turn = self._turn.state is not TurnState.IDLE or self.responses.responding
        active_at = max(self._turn.ended_at, self.responses.ended_at)
        expires_at = self.connection.expiry.replace_at(active_at)
        speaking = in_turn or not self._outbox.is_idle
        return self.replacement.at(expires_at, speaking=speaking)

    def _replace(self, now: float) -> None:
        requested = self.replacement.is_requested
        if requested:  # a response may be under way
            self._lose("the app asked for another connection", now, State.CLOSING)
        self.conversation.settle()
        self.connection.replace(now, requested=requested)

    def tick(self, now: float) -> None:
        """Act on all deadlines that are over; see `deadline`."""
        if self.state in (State.CLOSING, State.CLOSED):
            return
        if self._response_events.give_up_overdue(now):
            self.connection.response_stalled(now)
        self.connection.tick(now)
        self.updates.end_overdue(now, confirms=self.connection.keepalive.answers)
        self._send_queued(now)
        if is_due(self._replace_at, now):
            self._replace(now)
        self.outage.tick(now, self.connection.lost_at)
        self._check_limits(now)

    @property
    def limit_reached(self) -> bool:
        """Whether a bound of `SessionLimits` was reached: only responses under way go on."""
        return self.cost.limits.is_reached

    def _check_limits(self, now: float) -> None:
        unheard = self.playback.remaining(now)
        is_busy = not self.is_quiet or self._turn.state is not TurnState.IDLE or unheard
        if self.cost.check(now, now + unheard if is_busy else None):
            self.responses.cancel_requested(owed=self._turn.awaits_response)

    def _send_queued(self, now: float) -> None:
        if self.ready:
            self.updates.send_waiting(now)
        if self.ready and not (self.responses.responding or self.limit_reached):
            self._outbox.send_queued(now)

    # --- The connection -----------------------------------------------------------

    def messages_left_out(self) -> tuple[Entry, ...]:
        """Return the older messages that a new connection would not get now."""
        return self._outbox.select().messages_left_out

    def connected(
        self, now: float, wall: float, summary: str = "", *, model: str = ""
    ) -> None:
        """
        Configure the session and replay the conversation on a new connection.

        Args:
            now: Monotonic seconds, as everywhere.
            wall: Seconds since the epoch, in which the service tells its end.
            summary: What stands for the messages that are left out; empty for a line
                that tells their number.
            model: The model of the address; by default that of the configuration.
        """
        self.cost.limits.started(now)
        self._messages.clear()  # they were for the last connection
        self._turn.connection_opened()
        event_id = self.updates.connection_opened()
        replayed = self._outbox.replay(summary)
        model = model or self.config.model
        self.connection.opened(model, event_id, replayed, now, wall)

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
        self._check_limits(now)
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
        if self.responses.has_requests_after_tools:
            self._response_events.finish_after_tools(Status.LOST, reason, now)
        self.playback.clear(now)

    def _lose(self, reason: str, now: float, state: State) -> None:
        self._messages.clear()
        self.replacement.done()
        self.updates.connection_lost()
        self.connection.lost(now, state)
        for response in self.responses:
            self._response_events.finish(response, Status.LOST, reason, now)
        request_lost = self.responses.connection_lost()
        if self._turn.connection_lost() or request_lost:
            self._response_events.finish_requested(Status.LOST, reason, now)
        self.conversation.settle()

    # --- The configuration --------------------------------------------------------

    @property
    def config(self) -> SessionConfig:
        """The configuration that each connection gets."""
        return self.updates.config

    def update_session(
        self, options: Mapping[str, object], now: float
    ) -> SessionChange:
        """Ask the service for a change of the session, as soon as it is connected."""
        change = self.updates.add(options)
        self._send_queued(now)
        return change

    def _on_session_updated(self, event: ServerEvent, now: float) -> None:
        self.updates.confirmed(now)
        self.connection.on_session_updated(event, now)

    # --- Audio from the microphone, audio to the player ---------------------------

    def push_audio(self, pcm: bytes, now: float) -> None:
        """Take audio from the recorder, in any size."""
        self._audio.push(pcm, now)

    def audio_due(self, now: float) -> bytes:
        """Return the audio that may be written to the player now."""
        return self._audio.due(now)

    # --- Interruption -------------------------------------------------------------

    def interrupt(self, now: float) -> None:
        """Interrupt the response under way, as the user's voice does."""
        self.interruption.interrupt(now)

    def interruption_decided(self, now: float, *, interrupts: bool) -> None:
        """Interrupt the response, or let the speech go unanswered."""
        self.interruption.decided(now, interrupts=interrupts)
        self._send_queued(now)

    # --- The user's turn ----------------------------------------------------------

    def start_turn(self, now: float) -> None:
        """Start a turn of push-to-talk: interrupt the response, pass the microphone on."""
        self.cost.user_acted(now)
        self._push_to_talk.start(now)
        self.interrupt(now)
        self._push_to_talk.clear_audio()

    def end_turn(self, now: float, *, discard: bool = False) -> bool:
        """
        End a turn of push-to-talk; it is committed once all of its audio was sent.

        Returns:
            Whether a response follows: the turn was long enough, and not to *discard*.
        """
        return self._push_to_talk.end(now, discard=discard)

    # --- The app ------------------------------------------------------------------

    def send_text(
        self,
        text: str,
        role: Role,
        now: float,
        *,
        trigger_response: bool,
        may_call_tools: bool = True,
        image: Image | None = None,
    ) -> Request | None:
        """
        Send a text, with an image or without, as soon as no response is under way.

        Returns:
            The request for a response, if *trigger_response* asks for one.
        """
        request: Request | None = None
        if trigger_response or role == "user":
            self.cost.user_acted(now)
        if trigger_response:
            request = self.responses.new_request(may_call_tools=may_call_tools)
        self._outbox.queue(text.strip(), role, request, image)
        self._send_queued(now)
        return request

    def send_event(self, message: Message) -> str:
        """Send an event that the app made, on the open connection; return its id."""
        return self._messages.send(message, from_app=True)

    def set_status(self, text: str) -> None:
        """Set the status message, which follows each finished response."""
        self._outbox.status = text.strip()

    def tool_finished(self, result: ToolFinished, now: float) -> None:
        """Send the result of a tool once no response is under way."""
        if not self._outbox.tool_finished(result):
            return
        self._publish(result)
        answers = self._outbox.awaits_answer or self.responses.called(result.call_id)
        if result.cancelled and not answers and self.state is not State.CLOSED:
            why = "cancelled while tools worked"
            self._response_events.finish_after_tools(Status.CANCELLED, why, now)
        self._send_queued(now)

    # --- Events of the service ----------------------------------------------------

    def _make_handlers(self) -> dict[str, Callable[[ServerEvent, float], None]]:
        return {
            **self._items.handlers(),
            **self._response_events.handlers(),
            **self._speech_events.handlers(),
            "session.created": self.connection.on_session_created,
            "session.updated": self._on_session_updated,
            "error": self._errors.on_error,
            "response.output_audio.delta": self._audio.on_audio,
            "response.done": self._on_response_done,
        }

    def _on_response_done(self, event: ServerEvent, now: float) -> None:
        self.cost.on_response_done(event)
        self._response_events.on_done(event, now)
        self.connection.on_response_done(event)


def _ignore(_direction: object, _message: object) -> None:
    return
