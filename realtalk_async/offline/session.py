"""
The protocol state of one session, without I/O: client events in, effects out.

It has no socket, no model, no clock and no randomness. `Connection` feeds it, executes
the effects and calls back with the results. A spoken turn runs like this::

    receive(append)        → DetectVoice      find the frames that hold a voice
    voice_detected(…)      → FeedRecogniser   while the user speaks
                             SendEvent        speech_started … response.created
                             Recognise        wait for the text
    recognised(…)          → FindAnswer       choose the answer
    begin, add_text, add_audio, complete      → SendEvent … response.done

The methods that take an answer return nothing once their response is over, so a late
call does no harm; `is_active` tells the caller to stop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from realtalk_async import g711
from realtalk_async.offline import config
from realtalk_async.offline.answers.policy import punctuate
from realtalk_async.offline.answers.question import make_question
from realtalk_async.offline.conversation import (
    Conversation,
    Item,
    decode_audio,
    item_from_client,
    messages,
)
from realtalk_async.offline.effects import (
    FRAME_BYTES,
    DetectVoice,
    Effect,
    FeedRecogniser,
    FindAnswer,
    InvalidRequest,
    JsonObject,
    Message,
    Question,
    Recognise,
    ResetRecogniser,
    SendEvent,
    Transcribe,
    as_list,
    as_object,
    unknown_event,
)
from realtalk_async.offline.input_buffer import LONGEST_BYTES, InputBuffer
from realtalk_async.offline.responses import Response, rate_limits
from realtalk_async.offline.vad import IdleTimer, TurnChange

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

_KEPT_AUDIO = 2 * LONGEST_BYTES
"""Bytes of audio that can be retrieved; the audio of older items is dropped."""


class Session:
    """
    The protocol state of one session.

    Args:
        model: The name that the client asked for.
        session_id: The id of the session.
        new_id: Returns an unused id for a kind (``item``, ``event``, ``resp``, ``call``).
        expires_at: When the session will end, in seconds since the epoch.
    """

    def __init__(
        self,
        *,
        model: str,
        session_id: str,
        new_id: Callable[[str], str],
        expires_at: int,
    ) -> None:
        self.settings = config.defaults(model)
        self.conversation = Conversation()
        self._session_id = session_id
        self._new_id = new_id
        self._expires_at = expires_at
        self._conversation_id = new_id("conv")
        self._input = InputBuffer()
        self._decoder = g711.Decoder("audio/pcm")
        self._idle = IdleTimer()
        self._next_item_id: str | None = None
        self._unrecognised: set[str] = set()
        self._response: Response | None = None
        self._options: JsonObject = {}
        self._response_input: tuple[Message, ...] | None = None
        self._has_spoken = False
        self._handlers: dict[str, Callable[[JsonObject], Iterable[Effect]]] = {
            "session.update": self._update_session,
            "input_audio_buffer.append": self._append,
            "input_audio_buffer.commit": self._commit_by_client,
            "input_audio_buffer.clear": self._clear,
            "conversation.item.create": self._create_item,
            "conversation.item.retrieve": self._retrieve_item,
            "conversation.item.truncate": self._truncate_item,
            "conversation.item.delete": self._delete_item,
            "response.create": self._create_response_by_client,
            "response.cancel": self._cancel_by_client,
        }

    # --- input: the client, voice detection, the recogniser

    def opened(self) -> list[Effect]:
        """Return the effects of a new connection."""
        return [self._event("session.created", session=self._shown_session())]

    def receive(self, event: JsonObject) -> list[Effect]:
        """Take a client event; an invalid one gets an ``error`` event that names it."""
        kind = event.get("type")
        handler = self._handlers.get(kind) if isinstance(kind, str) else None
        try:
            if handler is None:
                raise unknown_event(kind, self._handlers)
            return list(handler(event))
        except InvalidRequest as problem:
            return [self.error(problem, event.get("event_id"))]

    def voice_detected(self, pcm: bytes, voiced: Sequence[bool]) -> list[Effect]:
        """
        Take the audio of a `DetectVoice` effect, and the decision for each frame.

        If the client has turned detection off meanwhile, the audio is buffered anyway.
        """
        effects: list[Effect] = []
        for index, voice in enumerate(voiced):
            frame = pcm[index * FRAME_BYTES : (index + 1) * FRAME_BYTES]
            effects += self._take_frame(frame, voiced=voice)
        return effects

    def recognised(self, item_id: str, text: str) -> list[Effect]:
        """Take the words that the recogniser found in an item's audio."""
        self._unrecognised.discard(item_id)
        text = punctuate(text)
        effects: list[Effect] = []
        if item_id in self.conversation:
            item = self.conversation.get(item_id, code="")
            for part in item.contents:
                if part.get("type") == "input_audio":
                    part["transcript"] = text
            if config.transcribes(self.settings):
                effects += self._events(item.transcription(text))
        return [*effects, *self._find_answer()]

    # --- input: the answer

    @property
    def has_response(self) -> bool:
        """Whether a response is under way."""
        return self._response is not None

    def start_response(self) -> tuple[FindAnswer, list[Effect]]:
        """
        Start a response that nobody asked for.

        Returns:
            What the answer needs to know, and the effects before it.

        Raises:
            InvalidRequest: If a response is under way.
        """
        response, effects = self._start_response({})
        response.answer_requested = True
        speed = config.speed(self.settings)
        return FindAnswer(response.id, Question(()), response.spoken, speed), effects

    def is_active(self, response_id: str) -> bool:
        """Whether the response still takes text and audio."""
        return self._response is not None and self._response.id == response_id

    def begin(self, response_id: str) -> list[Effect]:
        """Begin the assistant's message."""
        body: JsonObject = {"type": "message", "role": "assistant", "content": []}
        return self._add_output(response_id, body, with_part=True)

    def add_text(self, response_id: str, text: str) -> list[Effect]:
        """Add words to the message."""
        response = self._active(response_id)
        return self._events(response.add_text(text)) if response else []

    def add_audio(self, response_id: str, pcm: bytes) -> list[Effect]:
        """Add audio to the message."""
        response = self._active(response_id)
        if response is None:
            return []
        self._has_spoken = True
        return self._events(response.add_audio(pcm))

    def call_function(
        self, response_id: str, name: str, arguments: str
    ) -> list[Effect]:
        """Add a call of a function of the client."""
        call_id = self._new_id("call")
        body: JsonObject = {"type": "function_call", "name": name, "call_id": call_id}
        body["arguments"] = ""
        effects = self._add_output(response_id, body, with_part=False)
        response = self._active(response_id)
        if response:
            effects += self._events(response.add_arguments(arguments))
        return effects

    def end_output(self, response_id: str) -> list[Effect]:
        """End the message or the call: another one may follow in the same response."""
        response = self._active(response_id)
        if response is None or response.item is None:
            return []
        return self._end_item(response, response.item, "completed")

    def complete(self, response_id: str) -> list[Effect]:
        """End the response after its whole answer."""
        return self._end_response("completed") if self._active(response_id) else []

    def fail(self, response_id: str, code: str, message: str) -> list[Effect]:
        """End the response without an answer."""
        if self._active(response_id) is None:
            return []
        error: JsonObject = {"type": "server_error", "code": code, "message": message}
        return self._end_response("failed", {"type": "failed", "error": error})

    def error(self, problem: InvalidRequest, event_id: object = None) -> SendEvent:
        """Return the ``error`` event for a client event."""
        body = problem.body(event_id if isinstance(event_id, str) else None)
        return self._event("error", error=body)

    # --- session

    def _update_session(self, event: JsonObject) -> Iterator[Effect]:
        updated = config.update(self.settings, event.get("session"))
        if self._has_spoken and config.voice(updated) != config.voice(self.settings):
            message = "Cannot update a conversation's voice if assistant audio is "
            message += "present."
            param = "session.audio.output.voice"
            raise InvalidRequest("cannot_update_voice", message, param)
        was_on = config.turn_detection(self.settings) is not None
        if config.input_format(updated) != self._decoder.audio_format:
            self._decoder = g711.Decoder(config.input_format(updated))
        self.settings = updated
        if was_on != (config.turn_detection(updated) is not None):
            yield from self._reset_input()
        yield self._event("session.updated", session=self._shown_session())

    def _shown_session(self) -> JsonObject:
        head = {"object": "realtime.session", "id": self._session_id}
        return {**head, "expires_at": self._expires_at, **self.settings}

    # --- input audio

    def _append(self, event: JsonObject) -> Iterator[Effect]:
        decoder = self._decoder
        data = decode_audio(event.get("audio"), "audio", decoder.audio_format)
        pcm = decoder.decode(data)
        detection = config.turn_detection(self.settings)
        if detection is None:
            self._input.append(pcm)
            yield FeedRecogniser(pcm)
            return
        frames = self._input.take_frames(pcm)
        if frames:
            yield DetectVoice(frames, cast("float", detection.get("threshold", 0.5)))

    def _take_frame(self, frame: bytes, *, voiced: bool) -> Iterator[Effect]:
        detection = config.turn_detection(self.settings) or {}
        change, speech = self._input.push(frame, voiced=voiced, detection=detection)
        if speech:
            yield FeedRecogniser(speech)
        if change is TurnChange.STARTED:
            yield from self._start_turn(detection)
        elif change is TurnChange.STOPPED:
            yield from self._stop_turn(detection)
        elif not self._input.speaking:
            yield from self._check_idle(detection)

    def _check_idle(self, detection: JsonObject) -> Iterator[Effect]:
        """Commit a silence of ``idle_timeout_ms`` as a turn of its own."""
        timeout = config.idle_timeout_ms(detection)
        now = self._input.now_ms
        since = None if timeout is None else self._idle.expired_since(now, timeout)
        if since is None or self._response:
            return
        self._next_item_id = self._new_id("item")
        yield self._event(
            "input_audio_buffer.timeout_triggered",
            audio_start_ms=since,
            audio_end_ms=now,
            item_id=self._next_item_id,
        )
        yield from self._commit()
        yield from self._create_response({})

    def _start_turn(self, detection: JsonObject) -> Iterator[Effect]:
        self._idle.stop()
        self._next_item_id = self._new_id("item")
        yield self._event(
            "input_audio_buffer.speech_started",
            audio_start_ms=self._input.start_ms,
            item_id=self._next_item_id,
        )
        if self._response and detection.get("interrupt_response", True):
            yield from self._cancel("turn_detected")

    def _stop_turn(self, detection: JsonObject) -> Iterator[Effect]:
        yield self._event(
            "input_audio_buffer.speech_stopped",
            audio_end_ms=self._input.now_ms,
            item_id=self._next_item_id,
        )
        yield from self._commit()
        if not detection.get("create_response", True):
            return
        try:
            yield from self._create_response({})
        except InvalidRequest as problem:
            yield self.error(problem)

    def _commit_by_client(self, _event: JsonObject) -> Iterator[Effect]:
        self._input.check_commit()
        if config.turn_detection(self.settings) and not self._input.speaking:
            yield FeedRecogniser(self._input.audio)
        self._input.end_turn()
        yield from self._commit()

    def _commit(self) -> Iterator[Effect]:
        item_id = self._next_item_id or self._new_id("item")
        self._next_item_id = None
        item = Item.of_speech(item_id, self._input.take())
        yield self._event(
            "input_audio_buffer.committed",
            item_id=item_id,
            previous_item_id=self.conversation.last_id,
        )
        yield from self._add_item(item)
        yield Recognise(item_id)

    def _clear(self, _event: JsonObject) -> Iterator[Effect]:
        yield from self._reset_input()
        yield self._event("input_audio_buffer.cleared")

    def _reset_input(self) -> Iterator[Effect]:
        self._input.clear()
        self._next_item_id = None
        yield ResetRecogniser()

    # --- items

    def _create_item(self, event: JsonObject) -> Iterator[Effect]:
        item = item_from_client(event.get("item"), self._new_id)
        yield from self._add_item(item, after=event.get("previous_item_id"))
        if item.audio:
            yield Transcribe(item.id, bytes(item.audio))

    def _add_item(self, item: Item, *, after: object = None) -> Iterator[Effect]:
        previous = self.conversation.add(item, after=after)
        self.conversation.limit_audio(_KEPT_AUDIO)
        if any(part.get("type") == "input_audio" for part in item.contents):
            self._unrecognised.add(item.id)
        for kind in ("added", "done"):
            yield self._item_event(kind, item, previous)

    def _item_event(self, kind: str, item: Item, previous: str | None) -> SendEvent:
        return self._event(
            f"conversation.item.{kind}",
            previous_item_id=previous,
            item=dict(item.body),
        )

    def _retrieve_item(self, event: JsonObject) -> Iterator[Effect]:
        code = "item_retrieve_invalid_item_id"
        item = self.conversation.get(event.get("item_id"), code=code)
        yield self._event("conversation.item.retrieved", item=item.with_audio())

    def _delete_item(self, event: JsonObject) -> Iterator[Effect]:
        self.conversation.remove(event.get("item_id"))
        self._unrecognised.discard(str(event["item_id"]))
        yield self._event("conversation.item.deleted", item_id=event["item_id"])
        yield from self._find_answer()

    def _truncate_item(self, event: JsonObject) -> Iterator[Effect]:
        code = "item_truncate_invalid_item_id"
        item = self.conversation.get(event.get("item_id"), code=code)
        end = event.get("audio_end_ms")
        item.truncate(event.get("content_index"), end)
        yield self._event(
            "conversation.item.truncated",
            item_id=item.id,
            content_index=0,
            audio_end_ms=end,
        )

    # --- responses

    def _create_response_by_client(self, event: JsonObject) -> Iterator[Effect]:
        return self._create_response(config.check_response(event.get("response")))

    def _create_response(self, options: JsonObject) -> Iterator[Effect]:
        if self._response is not None:
            message = "Conversation already has an active response in progress: "
            message += f"{self._response.id}. Wait until the response is finished "
            message += "before creating a new one."
            raise InvalidRequest("conversation_already_has_active_response", message)
        given = options.get("input")
        items = None if given is None else self._input_items(as_list(given))
        self._response_input = None if items is None else messages(items)
        _, effects = self._start_response(options)
        yield from effects
        yield from self._find_answer()

    def _start_response(self, options: JsonObject) -> tuple[Response, list[Effect]]:
        self._idle.stop()
        ids = self._new_id("resp"), self._conversation_id
        self._response = response = Response.of(*ids, self.settings, options)
        response.input, self._options = self.conversation.take_input(), options
        return response, self._events(response.created())

    def _input_items(self, given: list[object]) -> Iterator[Item]:
        for entry in map(as_object, given):
            if entry.get("type") == "item_reference":
                yield self.conversation.get(entry.get("id"), code="item_not_found")
            else:
                yield item_from_client(entry, self._new_id)

    def _find_answer(self) -> Iterator[Effect]:
        """Ask for the answer of the active response once all audio is recognised."""
        response = self._response
        if response is None or response.answer_requested or self._unrecognised:
            return
        response.answer_requested = True
        given = self._response_input
        said = self.conversation.messages() if given is None else given
        question = make_question(said, self.settings, self._options)
        speed = config.speed(self.settings)
        yield FindAnswer(response.id, question, response.spoken, speed)

    def _cancel_by_client(self, event: JsonObject) -> Iterator[Effect]:
        wanted = event.get("response_id")
        if self._response is None or wanted not in (None, self._response.id):
            message = "Cancellation failed: no active response found"
            raise InvalidRequest("response_cancel_not_active", message)
        return iter(self._cancel("client_cancelled"))

    def _cancel(self, reason: str) -> list[Effect]:
        return self._end_response("cancelled", {"type": "cancelled", "reason": reason})

    def _active(self, response_id: str) -> Response | None:
        return self._response if self.is_active(response_id) else None

    def _add_output(
        self, response_id: str, body: JsonObject, *, with_part: bool
    ) -> list[Effect]:
        response = self._active(response_id)
        if response is None:
            return []
        head: JsonObject = {"id": self._new_id("item"), "object": "realtime.item"}
        item = Item({**head, "status": "in_progress", **body})
        effects = self._events(response.add_item(item))
        if response.in_conversation:
            previous = self.conversation.add(item)
            effects.append(self._item_event("added", item, previous))
        if with_part:
            effects += self._events(response.add_part())
        return effects

    def _end_response(
        self, status: str, details: JsonObject | None = None
    ) -> list[Effect]:
        response = self._response
        assert response is not None
        self._response = None
        effects: list[Effect] = []
        if response.item is not None:
            effects += self._end_item(response, response.item, status)
        self._idle.start(self._input.now_ms + response.audio_ms)
        effects += self._events(response.done(status, details))
        return [*effects, self._event("rate_limits.updated", rate_limits=rate_limits())]

    def _end_item(self, response: Response, item: Item, status: str) -> list[Effect]:
        item_status = "completed" if status == "completed" else "incomplete"
        effects = self._events(response.item_done(item_status))
        if item.id in self.conversation:
            previous = self.conversation.previous_id(item.id)
            effects.append(self._item_event("done", item, previous))
        effects += self._events(response.output_done())
        response.item = None
        return effects

    # --- events

    def _event(self, kind: str, **fields: object) -> SendEvent:
        return SendEvent({"type": kind, "event_id": self._new_id("event"), **fields})

    def _events(self, events: Iterable[JsonObject]) -> list[Effect]:
        return [
            SendEvent({"event_id": self._new_id("event"), **event}) for event in events
        ]
