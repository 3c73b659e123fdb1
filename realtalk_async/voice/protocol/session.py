"""
One voice session, decided without I/O: events and the time in, decisions out. Pure.

`Session` is told of every event of the service, of lost and new connections, of the
app's wishes and of the time. It answers with decisions: what to send, what to play,
when to fall silent, what to tell the app. The stream carries them out, in order.

Every response ends in exactly one `Outcome`, whatever the service does or forgets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from realtalk_async.exceptions import InvalidConfiguration
from realtalk_async.voice import events
from realtalk_async.voice.events import Status
from realtalk_async.voice.protocol import messages
from realtalk_async.voice.protocol.conversation import Conversation
from realtalk_async.voice.protocol.decisions import Decision, End, Hush, Redial, Tell
from realtalk_async.voice.protocol.item_events import Items
from realtalk_async.voice.protocol.keepalive import Lifetime, Presence
from realtalk_async.voice.protocol.messages import Malformed, ServerEvent
from realtalk_async.voice.protocol.outbox import Echoes, Outgoing
from realtalk_async.voice.protocol.pcm import BYTES_PER_MS
from realtalk_async.voice.protocol.playback import Cut
from realtalk_async.voice.protocol.response_events import Saying
from realtalk_async.voice.protocol.responses import Responses

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from realtalk_async.voice.events import Outcome, Role, VoiceEvent
    from realtalk_async.voice.protocol.messages import Message, SessionConfig
    from realtalk_async.voice.protocol.outbox import Sent
    from realtalk_async.voice.protocol.responses import Response


_NOTHING_TO_DO = frozenset(
    {
        "conversation.created",
        "conversation.item.input_audio_transcription.segment",
        "conversation.item.retrieved",
        "conversation.item.truncated",
        "input_audio_buffer.cleared",
        "input_audio_buffer.timeout_triggered",
        "output_audio_buffer.cleared",
        "output_audio_buffer.started",
        "output_audio_buffer.stopped",
        "rate_limits.updated",
        "response.content_part.added",
        "response.content_part.done",
        "response.function_call_arguments.delta",
        "response.output_audio.done",
    }
)

_NOTHING_TO_CANCEL = "response_cancel_not_active"

LEAST_TURN_MS = 100
"""The service takes no shorter turn."""


class Session:
    """
    The decisions of one session, over all its connections.

    Args:
        config: What to ask of the service.
        stall_after: Seconds without a word about a response after which it is given up
            as `Status.STALLED`; and seconds without any word after which the service
            is asked whether it is still there.
        cancel_grace: Seconds that the service has to confirm that a response was
            interrupted; then it counts as cancelled without.
        setup_grace: Seconds that the service has to confirm the session's set-up,
            which some servers never do, or that it is still there.
    """

    def __init__(
        self,
        config: SessionConfig,
        *,
        stall_after: float = 30.0,
        cancel_grace: float = 3.0,
        setup_grace: float = 5.0,
    ) -> None:
        self.config = config
        self.conversation = Conversation()
        self.responses = Responses(stall_after=stall_after, cancel_grace=cancel_grace)
        self.ready = False
        """Whether a connection is up and the service has set the session up."""
        self.expires_at: float | None = None
        """When the service will end the session, in seconds since the epoch."""
        self._stall_after = stall_after
        self._setup_grace = setup_grace
        self._presence = self._meet(0.0)
        self._out: list[Decision] = []
        echoes = Echoes()
        self._items = Items(self.conversation, echoes, self._tell)
        self._outgoing = Outgoing(
            self.conversation, self.responses, echoes, self._decide
        )
        self._saying = Saying(
            self.conversation, self._items, self._outgoing, self._decide
        )
        self._wall = 0.0  # the epoch's seconds at monotonic 0
        self._lifetime = Lifetime(0.0)
        self._user_speaks = False  # as the service hears it
        self._unwanted = False  # the response that was asked for, and has not begun
        self._talking = False  # by push-to-talk
        # When a turn ended to which the service will response by itself.
        self._unanswered_since: float | None = None
        self._setup_by: float | None = None
        self._setup_event = ""
        self._touch_event = ""
        self._lost_at: float | None = None
        self._replayed = 0
        self._handlers = self._make_handlers()

    # --- The state, to be read ----------------------------------------------------

    @property
    def queued_texts(self) -> int:
        """How many texts of the app wait to be sent."""
        return len(self._outgoing)

    @property
    def deadline(self) -> float | None:
        """When `tick` has something to do, in monotonic seconds; ``None`` if never."""
        presence = self._presence
        times = (
            *(self.responses.deadline, self._answered_by),
            *(self._setup_by, self._recycles_at),
            *((presence.ask_at, presence.gone_at) if self.ready else ()),
        )
        return min((time for time in times if time is not None), default=None)

    @property
    def _answered_by(self) -> float | None:
        """When a response to what was spoken must have begun."""
        since = self._unanswered_since
        return None if since is None else since + self._stall_after

    def _meet(self, now: float) -> Presence:
        times = {"silence": self._stall_after, "patience": self._setup_grace}
        return Presence(now, **times)

    @property
    def _recycles_at(self) -> float | None:
        """When to leave this connection; ``None`` while somebody says something."""
        speaking = self._user_speaks or self._talking or self.responses.responding
        if not self.ready or speaking or not self._outgoing.is_idle:
            return None
        return self._lifetime.leaves_at

    # --- What happens -------------------------------------------------------------

    def connected(self, now: float, wall: float | None = None) -> list[Decision]:
        """
        A connection is up: set the session up, and tell the conversation again.

        Args:
            now: Monotonic seconds, as everywhere.
            wall: Seconds since the epoch, in which the service says when it ends.
        """
        self.ready = False
        self._wall = now if wall is None else wall - now
        self._lifetime = Lifetime(now)
        self._presence = self._meet(now)
        self._user_speaks = False
        self._outgoing.connected()
        self._setup_event = self._send(messages.session_update(self.config))
        self._setup_by = now + self._setup_grace
        self._replayed = self._outgoing.replay()
        return self._decisions()

    def receive(self, event: ServerEvent, now: float) -> list[Decision]:
        """An event of the service."""
        self._presence.heard(now)
        handler = self._handlers.get(event.type)
        try:
            if handler is not None:
                handler(event, now)
            elif event.type not in _NOTHING_TO_DO:
                self._tell(events.UnknownEvent(event.type, event.data))
        except Malformed as problem:
            self._tell(events.ProtocolProblem(f"{event.type}: {problem}"))
        self._send_what_waits(now)
        return self._decisions()

    def malformed(self, problem: Malformed, now: float) -> list[Decision]:
        """Something came that is not even an event."""
        self._presence.heard(now)
        self._tell(events.ProtocolProblem(str(problem)))
        return self._decisions()

    def cut_off(self, cuts: Iterable[Cut], now: float) -> list[Decision]:
        """The player's queue was cleared: tell the service what was really heard."""
        heard = {cut.part: cut for cut in cuts}
        for response in self.responses:
            if response.interrupted_at is not None:
                continue  # nothing of it was played since
            response.interrupted_at = now
            for part, size in response.audio.items():
                # All that came was played, yet the user broke in: more would come.
                received = size // BYTES_PER_MS
                heard.setdefault(part, Cut(part, received, received))
        for cut in heard.values():
            self._truncate(cut, now)
        return self._decisions()

    def send_text(
        self, text: str, role: Role, now: float, *, trigger_response: bool
    ) -> list[Decision]:
        """
        Say something in writing: at once, or when the response under way has ended.

        Raises:
            InvalidConfiguration: If the role is unknown or the text is blank.
        """
        if role not in messages.ROLES:
            known = ", ".join(messages.ROLES)
            raise InvalidConfiguration(f"unknown role {role!r}; known: {known}")
        if not text.strip():
            raise InvalidConfiguration("the text to send is blank")
        if trigger_response:
            self.responses.will_ask(self._outgoing.questions)
        self._outgoing.queue(text.strip(), role, trigger_response=trigger_response)
        self._send_what_waits(now)
        return self._decisions()

    def set_status(self, text: str) -> None:
        """Set the status message, which goes out after each finished response."""
        self._outgoing.status = text.strip()

    def interrupt(self, now: float) -> list[Decision]:
        """The app wants silence, as if the user had broken in."""
        for response in self.responses:
            if response.interrupted_at is None:
                self._send(messages.cancel_response(response.response_id))
        if self.responses.asked_at is not None or self._unanswered_since is not None:
            self._unwanted = True
        self._decide(Hush())
        return self._decisions()

    def start_turn(self, now: float) -> list[Decision]:
        """The user begins to speak, by push-to-talk: silence, and a clean buffer."""
        self._talking = True
        decisions = self.interrupt(now)
        if self.ready:
            self._send(messages.clear_audio())
        return decisions + self._decisions()

    def end_turn(self) -> None:
        """The user has stopped; `commit` follows when all of it was sent."""
        self.responses.will_ask(self._outgoing.questions)

    def commit(self, sent_ms: float, now: float) -> list[Decision]:
        """
        All of a turn was sent: ask for a response to it.

        Args:
            sent_ms: How much of it this connection got. The service refuses less than
                `LEAST_TURN_MS`; the rest of the turn was lost with a connection then.
            now: The time.
        """
        self._talking = False
        self._lifetime.note_activity(now)
        if sent_ms < LEAST_TURN_MS:
            self._send(messages.clear_audio())
            lost = "the turn was lost with the connection"
            self._finish_asked(Status.LOST, lost, now)
        else:
            self._send(messages.commit_audio())
            self._outgoing.queue_question()
        self._send_what_waits(now)
        return self._decisions()

    def discard_turn(self, now: float, *, too_short: bool = False) -> list[Decision]:
        """
        What was said by push-to-talk is not to be answered.

        One who did not mean that, for it was only *too_short*, will wait for a response.
        """
        if too_short:
            why = f"the turn was shorter than {LEAST_TURN_MS} ms"
            self._tell(events.ResponseFinished(self.responses.decline(why, now)))
        self._talking = False
        self._lifetime.note_activity(now)
        if self.ready:
            self._send(messages.clear_audio())
        return self._decisions()

    def tool_finished(self, result: events.ToolFinished, now: float) -> list[Decision]:
        """A tool has answered: tell the service, once no response is under way."""
        if self._outgoing.answered(result):
            self._tell(result)
            self._send_what_waits(now)
        return self._decisions()

    def tick(self, now: float) -> list[Decision]:
        """Time has passed: give up on what should have come, see `deadline`."""
        for response in self.responses:
            if now >= self.responses.gives_up_at(response):
                self._give_up(response, now)
        asked_until = self.responses.asked_until
        if asked_until is not None and now >= asked_until:
            self._stall_asked(now)
        if self._answered_by is not None and now >= self._answered_by:
            self._unanswered_since = None
            self._stall_asked(now)
        if self._setup_by is not None and now >= self._setup_by:
            self._do_without_confirmation(now)
        self._look_for_a_sign(now)
        self._send_what_waits(now)
        leaves_at = self._recycles_at
        if leaves_at is not None and now >= leaves_at:
            self._recycle(now)
        return self._decisions()

    def _do_without_confirmation(self, now: float) -> None:
        """Go on with a service that does not confirm the set-up, if it says anything."""
        self._setup_by = None
        if not self._presence.has_spoken:
            self._decide(Redial(f"nothing came within {self._setup_grace:g} s"))
            return
        self._tell(events.ProtocolProblem("no session.updated; going on"))
        self._set_up(now, "")

    def _look_for_a_sign(self, now: float) -> None:
        """Ask a service that is silent whether it is there; leave it if it is not."""
        presence = self._presence
        if not self.ready:
            return
        if presence.ask_at is not None and now >= presence.ask_at:
            presence.asked(now)
            self._touch_event = self._send(messages.session_touch())
        if presence.gone_at is not None and now >= presence.gone_at:
            self._redial_the_mute(now)

    def _redial_the_mute(self, now: float) -> None:
        self.ready = False
        silence = self._presence.silent_for(now)
        self._decide(Redial(f"the service said nothing any more for {silence:.1f} s"))

    def _stall_asked(self, now: float) -> None:
        """Give up a response that never began."""
        self._finish_asked(Status.STALLED, self.responses.stalled_for, now)
        self._doubt(now)

    def _doubt(self, now: float) -> None:
        """A response stalled: leave a service that cannot be asked whether it is there."""
        presence = self._presence
        if not presence.answers and presence.silent_for(now) >= self._stall_after:
            self._redial_the_mute(now)

    def _recycle(self, now: float) -> None:
        """Leave this connection for a new one while nobody says anything."""
        self.ready = False
        self._lost_at = now
        self.conversation.settle()
        self._tell(events.ConnectionRecycled(now - self._lifetime.began_at))
        self._decide(Redial("it would expire", planned=True))

    def lost(self, reason: str, now: float) -> list[Decision]:
        """The connection is gone; what was under way is lost."""
        self.ready = False
        self._setup_by = None
        asked = self.responses.asked_at is not None or self.responses.ask_again
        self.responses.ask_again = False
        if self._lost_at is None:
            self._lost_at = now
        for response in self.responses:
            self._finish(response, Status.LOST, reason, now)
        if asked or self._unanswered_since is not None or self._user_speaks:
            self._finish_asked(Status.LOST, reason, now)
        self._unanswered_since = None
        self._user_speaks = False
        self.conversation.settle()
        self._tell(events.ConnectionLost(reason))
        return self._decisions()

    def ended(self, reason: str, now: float) -> list[Decision]:
        """The session is over; what was under way is lost."""
        decisions = self.lost(reason, now)
        return [d for d in decisions if not _is_connection_lost(d)]

    # --- Carrying on --------------------------------------------------------------

    def _decisions(self) -> list[Decision]:
        out, self._out = self._out, []
        return out

    def _decide(self, decision: Decision) -> None:
        self._out.append(decision)

    def _tell(self, event: VoiceEvent) -> None:
        self._decide(Tell(event))

    def _send(self, message: Message) -> str:
        return self._outgoing.send(message)

    def audio(self, pcm: bytes) -> Message:
        """Return the message that sends what the microphone heard."""
        return self._outgoing.audio(pcm)

    def _send_what_waits(self, now: float) -> None:
        if self.ready and not self.responses.responding:
            self._outgoing.send_what_waits(now)

    # --- Events of the service ----------------------------------------------------

    def _make_handlers(self) -> dict[str, Callable[[ServerEvent, float], None]]:
        saying = self._saying.handlers()
        return {
            **self._items.handlers(),
            **{kind: self._within(take) for kind, take in saying.items()},
            "session.created": self._on_session_created,
            "session.updated": self._on_session_updated,
            "error": self._on_error,
            "input_audio_buffer.speech_started": self._on_speech_started,
            "input_audio_buffer.speech_stopped": self._on_speech_stopped,
            "input_audio_buffer.committed": self._on_committed,
            "response.created": self._on_response_created,
            "response.done": self._on_response_done,
        }

    def _on_session_created(self, event: ServerEvent, now: float) -> None:
        expires_at = event.number("session", "expires_at")
        if expires_at is not None:
            self.expires_at = expires_at
            self._lifetime.end_at(expires_at - self._wall)

    def _on_session_updated(self, event: ServerEvent, now: float) -> None:
        self._on_session_created(event, now)
        self._presence.answers = True
        if not self.ready:
            self._set_up(now, event.text("session", "id"))

    def _set_up(self, now: float, session_id: str) -> None:
        self.ready = True
        self._setup_by = None
        if self._lost_at is None:
            self._tell(events.Connected(session_id, self.config.model))
        else:
            downtime, self._lost_at = now - self._lost_at, None
            self._tell(events.ConnectionRestored(downtime, self._replayed))

    def _on_error(self, event: ServerEvent, now: float) -> None:
        code = event.text("error", "code") or event.text("error", "type") or "error"
        message = event.text("error", "message")
        event_id = event.text("error", "event_id")
        about = self._outgoing.sent(event_id)
        refused = bool(event_id) and event_id == self._setup_event and not self.ready
        fatal = refused or code in messages.FATAL_CODES
        needless = code == _NOTHING_TO_CANCEL and about.type == "response.cancel"
        if needless or (event_id and event_id == self._touch_event):
            return  # it ended while we said so, or is there: no news for anybody
        self._tell(events.ServiceError(code, message, event_id, about.type, fatal))
        if fatal:
            self._decide(End(code, message))
        elif code == "session_expired":
            self._decide(Redial(f"the session is used up: {code}: {message}"))
        else:
            self._withdraw(about, code, message, now)

    def _withdraw(self, about: Sent, code: str, message: str, now: float) -> None:
        """Take back what the service refused to do."""
        if code == "conversation_already_has_active_response":
            # A response to the user's voice came first: ask again when it has ended.
            ours = about.type in ("response.create", "")
            self.responses.postpone(now, ask_again=ours)
        elif about.type == "response.create" and self.responses.asked_at is not None:
            self._finish_asked(Status.FAILED, f"{code}: {message}", now)
        elif about.type == "conversation.item.create":
            self.conversation.delete(about.item_id)

    # --- The user's turn ----------------------------------------------------------

    def _on_speech_started(self, event: ServerEvent, now: float) -> None:
        self._user_speaks = True
        self._tell(events.SpeechStarted(event.text("item_id")))
        detection = self.config.turn_detection
        if detection is not None and detection.interrupt_response:
            self._decide(Hush())

    def _on_speech_stopped(self, event: ServerEvent, now: float) -> None:
        self._user_speaks = False
        self._lifetime.note_activity(now)
        self._tell(events.SpeechStopped(event.text("item_id")))

    def _on_committed(self, event: ServerEvent, now: float) -> None:
        self._items.heard_user(event.text("item_id"), self._items.previous(event))
        self._user_speaks = False  # some servers do not say so before
        detection = self.config.turn_detection
        if detection is not None and detection.create_response:
            self._unanswered_since = now

    def _truncate(self, cut: Cut, now: float) -> None:
        item_id = cut.part.item_id
        fraction = cut.heard_ms / cut.received_ms if cut.received_ms else 0.0
        text = self.conversation.interrupt(item_id, fraction)
        # The service takes no zero, and nothing beyond what it sent.
        end = min(max(1, cut.heard_ms), max(1, cut.received_ms))
        if not self._outgoing.has_replayed(item_id):  # as text: it has no audio there
            self._send(messages.truncate_item(item_id, cut.part.content_index, end))
        event = events.Interrupted(item_id, cut.heard_ms, cut.received_ms, text)
        self._tell(event)

    # --- Responses ------------------------------------------------------------------

    def _on_response_created(self, event: ServerEvent, now: float) -> None:
        self._begin(event.text("response", "id"), now)

    def _begin(self, response_id: str, now: float) -> Response | None:
        """Return the response, begun now if it is new; ``None`` if it has ended."""
        if self.responses.has_ended(response_id):
            return None
        response = self.responses.get(response_id)
        if response is None:
            response = self.responses.begin(response_id, now)
            self._unanswered_since = None
            self._outgoing.response_began()
            self._tell(events.ResponseStarted(response_id))
            self._cancel_if_unwanted(response, now)
        response.last_at = now
        return response

    def _cancel_if_unwanted(self, response: Response, now: float) -> None:
        """Interrupt a response that was interrupted before it had begun."""
        if self._unwanted:
            self._unwanted = False
            response.interrupted_at = now
            self._send(messages.cancel_response(response.response_id))

    def _response(self, event: ServerEvent, now: float) -> Response | None:
        """
        Return the response that *event* belongs to.

        A response that nobody announced begins here: some servers send
        ``response.created`` late. ``None`` if it has ended or was interrupted, for
        then nothing of it is wanted any more.
        """
        response_id = event.text("response_id") or self.responses.newest
        response = self._begin(response_id, now)
        if response is None or response.interrupted_at is not None:
            return None
        return response

    def _within(
        self, take: Callable[[Response, ServerEvent, float], None]
    ) -> Callable[[ServerEvent, float], None]:
        """Return what has an event of a response taken in, if that is still wanted."""

        def handle(event: ServerEvent, now: float) -> None:
            response = self._response(event, now)
            if response is not None:
                take(response, event, now)

        return handle

    def _on_response_done(self, event: ServerEvent, now: float) -> None:
        response = self._begin(event.text("response", "id"), now)
        if response is None:
            return
        self._saying.conclude(response, event.objects("response", "output"))
        status, reason = _verdict(event)
        self._finish(response, status, reason, now)
        code = event.text("response", "status_details", "error", "code")
        if code in messages.FATAL_CODES:
            self._decide(End(code, reason))

    def _give_up(self, response: Response, now: float) -> None:
        # If it is under way after all, no other one could be asked for.
        self._send(messages.cancel_response(response.response_id))
        if response.interrupted_at is not None:
            self._finish(response, Status.CANCELLED, "interrupted", now)
            return
        self._finish(response, Status.STALLED, self.responses.stalled_for, now)
        self._doubt(now)

    def _finish(
        self, response: Response, status: Status, reason: str, now: float
    ) -> None:
        for item_id in response.items:
            self.conversation.finish(item_id)
        texts = (self.conversation.text(item_id) for item_id in response.items)
        text = " ".join(filter(None, texts))
        self._lifetime.note_activity(now)
        self._conclude(self.responses.end(response, status, text, reason, now))
        if response.calls:
            self.responses.follow_up()

    def _finish_asked(self, status: Status, reason: str, now: float) -> None:
        self._unwanted = False
        self._conclude(self.responses.end_asked(status, reason, now))

    def _conclude(self, outcome: Outcome) -> None:
        self._outgoing.response_ended()
        self._tell(events.ResponseFinished(outcome))


def _is_connection_lost(decision: Decision) -> bool:
    if not isinstance(decision, Tell):
        return False
    return isinstance(decision.event, events.ConnectionLost)


def _verdict(event: ServerEvent) -> tuple[Status, str]:
    """Return how ``response.done`` says that the response ended, and why."""
    said = event.text("response", "status")
    status = Status(said) if said in _FINAL else Status.COMPLETED
    if status is Status.COMPLETED:
        return status, ""
    details = ("response", "status_details")
    code = event.text(*details, "error", "code")
    message = event.text(*details, "error", "message")
    reason = event.text(*details, "reason") or ": ".join(filter(None, (code, message)))
    return status, reason or said


_FINAL = ("completed", "cancelled", "failed", "incomplete")
