"""
One session of the peer: client events and voice activity in, effects out. Pure.

No socket, no model, no clock, no dice: the caller feeds what arrives, does what the
returned effects say, and comes back with what it found. So the whole protocol is
tested with dictionaries.

A spoken turn runs so::

    receive(append)  → Judge          the caller finds out which frames hold a voice
    heard(…)         → Listen, Emit   speech_started … committed, response.created,
                       Recognise      the caller waits for the recogniser
    recognised(…)    → Answer         the caller decides what to say
    begin, say, sound, finish → Emit  … response.done

The methods that give an answer return nothing once their response is over, so a caller
that is late by a moment does no harm; `is_active` tells it to stop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from realtalk_async.offline import config
from realtalk_async.offline.answers.policy import tidy
from realtalk_async.offline.conversation import (
    Item,
    Items,
    decode_audio,
    from_client,
    messages,
)
from realtalk_async.offline.effects import (
    FRAME_BYTES,
    Answer,
    Effect,
    Emit,
    Forget,
    JsonObject,
    Judge,
    Listen,
    Message,
    Question,
    Recognise,
    Rejected,
    Transcribe,
    as_list,
    as_object,
)
from realtalk_async.offline.input_buffer import LONGEST_BYTES, InputBuffer
from realtalk_async.offline.responses import Response
from realtalk_async.offline.vad import Edge, Patience

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

_KEPT_SOUND = 2 * LONGEST_BYTES
"""Bytes of audio that can be retrieved; that of older items is dropped."""


class Turns:
    """
    The protocol state of one session.

    Args:
        model: The name that the client asked for.
        session_id: The id of the session.
        new_id: Called with a kind (``item``, ``event``, ``resp``, ``call``), returns
            an id that was not used before.
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
        self.items = Items()
        self._session_id = session_id
        self._new_id = new_id
        self._expires_at = expires_at
        self._conversation_id = new_id("conv")
        self._input = InputBuffer()
        self._patience = Patience()
        self._next_item_id: str | None = None
        self._unheard: set[str] = set()
        self._response: Response | None = None
        self._options: JsonObject = {}
        self._given: tuple[Message, ...] | None = None
        self._has_spoken = False
        self._handlers: dict[str, Callable[[JsonObject], Iterable[Effect]]] = {
            "session.update": self._update_session,
            "input_audio_buffer.append": self._append,
            "input_audio_buffer.commit": self._commit_by_hand,
            "input_audio_buffer.clear": self._clear,
            "conversation.item.create": self._create_item,
            "conversation.item.retrieve": self._retrieve_item,
            "conversation.item.truncate": self._truncate_item,
            "conversation.item.delete": self._delete_item,
            "response.create": self._create_response_by_hand,
            "response.cancel": self._cancel_by_hand,
        }

    # --- what happens outside

    def opened(self) -> list[Effect]:
        """The client is connected."""
        return [self._emit("session.created", session=self._session())]

    def receive(self, event: JsonObject) -> list[Effect]:
        """
        Take one event of the client.

        What is wrong with it is answered with an ``error`` event that names it.
        """
        kind = event.get("type")
        handler = self._handlers.get(kind) if isinstance(kind, str) else None
        try:
            if handler is None:
                raise _unknown_event(kind, self._handlers)
            return list(handler(event))
        except Rejected as problem:
            return [self.error(problem, event.get("event_id"))]

    def heard(self, pcm: bytes, voiced: Sequence[bool]) -> list[Effect]:
        """
        Take the audio of a `Judge`, and for each of its frames whether it is voice.

        If the client has turned detection off meanwhile, it is buffered all the same.
        """
        effects: list[Effect] = []
        for index, voice in enumerate(voiced):
            frame = pcm[index * FRAME_BYTES : (index + 1) * FRAME_BYTES]
            effects += self._hear(frame, voiced=voice)
        return effects

    def recognised(self, item_id: str, text: str) -> list[Effect]:
        """Take what the recogniser made of an item's audio: bare words."""
        self._unheard.discard(item_id)
        text = tidy(text)
        effects: list[Effect] = []
        if item_id in self.items:
            item = self.items.get(item_id, code="")
            for part in item.contents:
                if part.get("type") == "input_audio":
                    part["transcript"] = text
            effects += self._transcription(item, text)
        return [*effects, *self._ask()]

    # --- the answer, by the caller

    def is_active(self, response_id: str) -> bool:
        """Whether that response still takes words and sound."""
        return self._response is not None and self._response.id == response_id

    def begin(self, response_id: str) -> list[Effect]:
        """An answer was found and is about to be given."""
        body: JsonObject = {"type": "message", "role": "assistant", "content": []}
        return self._open(response_id, body, with_part=True)

    def say(self, response_id: str, text: str) -> list[Effect]:
        """Give words of the answer."""
        response = self._active(response_id)
        return self._emits(response.said(text)) if response else []

    def sound(self, response_id: str, pcm: bytes) -> list[Effect]:
        """Give a piece of the voice that speaks it."""
        response = self._active(response_id)
        if response is None:
            return []
        self._has_spoken = True
        return self._emits(response.sounded(pcm))

    def call(self, response_id: str, name: str, arguments: str) -> list[Effect]:
        """Call a function of the client; that completes the response."""
        call_id = self._new_id("call")
        body: JsonObject = {"type": "function_call", "name": name, "call_id": call_id}
        effects = self._open(response_id, {**body, "arguments": ""}, with_part=False)
        response = self._active(response_id)
        if response:
            effects += self._emits(response.called(arguments))
        return [*effects, *self.finish(response_id)]

    def finish(self, response_id: str) -> list[Effect]:
        """The whole answer was given."""
        active = self._active(response_id)
        return self._end("completed") if active else []

    def fail(self, response_id: str, code: str, message: str) -> list[Effect]:
        """No answer can be given."""
        if self._active(response_id) is None:
            return []
        error: JsonObject = {"type": "server_error", "code": code, "message": message}
        return self._end("failed", {"type": "failed", "error": error})

    def error(self, problem: Rejected, event_id: object = None) -> Emit:
        """Say what is wrong with a client event."""
        body = problem.body(event_id if isinstance(event_id, str) else None)
        return self._emit("error", error=body)

    # --- session

    def _update_session(self, event: JsonObject) -> Iterator[Effect]:
        updated = config.update(self.settings, event.get("session"))
        if self._has_spoken and config.voice(updated) != config.voice(self.settings):
            message = (
                "Cannot update a conversation's voice if assistant audio is present."
            )
            raise Rejected("cannot_update_voice", message, "session.audio.output.voice")
        was_on = config.turn_detection(self.settings) is not None
        self.settings = updated
        if was_on != (config.turn_detection(updated) is not None):
            yield from self._reset_input()
        yield self._emit("session.updated", session=self._session())

    def _session(self) -> JsonObject:
        head = {"object": "realtime.session", "id": self._session_id}
        return {**head, "expires_at": self._expires_at, **self.settings}

    # --- audio in

    def _append(self, event: JsonObject) -> Iterator[Effect]:
        pcm = decode_audio(event.get("audio"), "audio")
        detection = config.turn_detection(self.settings)
        if detection is None:
            self._input.append(pcm)
            yield Listen(pcm)
            return
        frames = self._input.take_frames(pcm)
        if frames:
            yield Judge(frames, cast("float", detection.get("threshold", 0.5)))

    def _hear(self, frame: bytes, *, voiced: bool) -> Iterator[Effect]:
        detection = config.turn_detection(self.settings) or {}
        change, speech = self._input.push(frame, voiced=voiced, detection=detection)
        if speech:
            yield Listen(speech)
        if change is Edge.STARTED:
            yield from self._speech_started(detection)
        elif change is Edge.STOPPED:
            yield from self._speech_stopped(detection)
        elif not self._input.speaking:
            yield from self._lose_patience(detection)

    def _lose_patience(self, detection: JsonObject) -> Iterator[Effect]:
        """Take a silence that lasts too long as a turn of its own."""
        timeout = config.idle_timeout_ms(detection)
        now = self._input.now_ms
        since = None if timeout is None else self._patience.due(now, timeout)
        if since is None or self._response:
            return
        self._next_item_id = self._new_id("item")
        yield self._emit(
            "input_audio_buffer.timeout_triggered",
            audio_start_ms=since,
            audio_end_ms=now,
            item_id=self._next_item_id,
        )
        yield from self._commit()
        yield from self._create_response({})

    def _speech_started(self, detection: JsonObject) -> Iterator[Effect]:
        self._patience.end()
        self._next_item_id = self._new_id("item")
        yield self._emit(
            "input_audio_buffer.speech_started",
            audio_start_ms=self._input.start_ms,
            item_id=self._next_item_id,
        )
        if self._response and detection.get("interrupt_response", True):
            yield from self._cancel("turn_detected")

    def _speech_stopped(self, detection: JsonObject) -> Iterator[Effect]:
        yield self._emit(
            "input_audio_buffer.speech_stopped",
            audio_end_ms=self._input.now_ms,
            item_id=self._next_item_id,
        )
        yield from self._commit()
        if not detection.get("create_response", True):
            return
        try:
            yield from self._create_response({})
        except Rejected as problem:
            yield self.error(problem)

    def _commit_by_hand(self, _event: JsonObject) -> Iterator[Effect]:
        self._input.check_commit()
        if config.turn_detection(self.settings) and not self._input.speaking:
            yield Listen(self._input.audio)
        self._input.end_turn()
        yield from self._commit()

    def _commit(self) -> Iterator[Effect]:
        item_id = self._next_item_id or self._new_id("item")
        self._next_item_id = None
        item = Item.of_speech(item_id, self._input.take())
        yield self._emit(
            "input_audio_buffer.committed",
            item_id=item_id,
            previous_item_id=self.items.last_id,
        )
        yield from self._add(item)
        yield Recognise(item_id)

    def _clear(self, _event: JsonObject) -> Iterator[Effect]:
        yield from self._reset_input()
        yield self._emit("input_audio_buffer.cleared")

    def _reset_input(self) -> Iterator[Effect]:
        self._input.clear()
        self._next_item_id = None
        yield Forget()

    def _transcription(self, item: Item, text: str) -> Iterator[Effect]:
        heard = as_object(as_object(self.settings["audio"])["input"])
        if not heard.get("transcription"):
            return
        kind = "conversation.item.input_audio_transcription"
        ids: JsonObject = {"item_id": item.id, "content_index": 0}
        if text:
            yield self._emit(f"{kind}.delta", delta=text, **ids)
        usage = {"type": "duration", "seconds": item.sound_ms / 1000}
        yield self._emit(f"{kind}.completed", transcript=text, usage=usage, **ids)

    # --- items

    def _create_item(self, event: JsonObject) -> Iterator[Effect]:
        item = from_client(event.get("item"), self._new_id)
        yield from self._add(item, after=event.get("previous_item_id"))
        if item.sound:
            yield Transcribe(item.id, bytes(item.sound))

    def _add(self, item: Item, *, after: object = None) -> Iterator[Effect]:
        previous = self.items.add(item, after=after)
        self.items.keep_sound(_KEPT_SOUND)
        if any(part.get("type") == "input_audio" for part in item.contents):
            self._unheard.add(item.id)
        for kind in ("added", "done"):
            yield self._about(kind, item, previous)

    def _about(self, kind: str, item: Item, previous: str | None) -> Emit:
        return self._emit(
            f"conversation.item.{kind}",
            previous_item_id=previous,
            item=dict(item.body),
        )

    def _retrieve_item(self, event: JsonObject) -> Iterator[Effect]:
        code = "item_retrieve_invalid_item_id"
        item = self.items.get(event.get("item_id"), code=code)
        yield self._emit("conversation.item.retrieved", item=item.with_sound())

    def _delete_item(self, event: JsonObject) -> Iterator[Effect]:
        self.items.remove(event.get("item_id"))
        self._unheard.discard(str(event["item_id"]))
        yield self._emit("conversation.item.deleted", item_id=event["item_id"])
        yield from self._ask()

    def _truncate_item(self, event: JsonObject) -> Iterator[Effect]:
        code = "item_truncate_invalid_item_id"
        item = self.items.get(event.get("item_id"), code=code)
        end = event.get("audio_end_ms")
        item.truncate(event.get("content_index"), end)
        yield self._emit(
            "conversation.item.truncated",
            item_id=item.id,
            content_index=0,
            audio_end_ms=end,
        )

    # --- responses

    def _create_response_by_hand(self, event: JsonObject) -> Iterator[Effect]:
        return self._create_response(config.check_response(event.get("response")))

    def _create_response(self, options: JsonObject) -> Iterator[Effect]:
        if self._response is not None:
            message = "Conversation already has an active response in progress: "
            message += f"{self._response.id}. Wait until the response is finished "
            message += "before creating a new one."
            raise Rejected("conversation_already_has_active_response", message)
        given = options.get("input")
        items = None if given is None else self._inputs_as_items(as_list(given))
        self._given = None if items is None else messages(items)
        self._options = options
        self._patience.end()
        self._response = self._new_response({**self.settings, **options})
        yield from self._emits(self._response.created())
        yield from self._ask()

    def _new_response(self, options: JsonObject) -> Response:
        outside = options.get("conversation") == "none"
        return Response(
            self._new_id("resp"),
            None if outside else self._conversation_id,
            spoken=options.get("output_modalities") == ["audio"],
            metadata=options.get("metadata"),
            max_output_tokens=options.get("max_output_tokens", "inf"),
            voice=config.voice(options) or config.voice(self.settings),
        )

    def _ask(self) -> Iterator[Effect]:
        """Have the active response answered once all that was said is understood."""
        response = self._response
        if response is None or response.asked or self._unheard:
            return
        response.asked = True
        output = as_object(as_object(self.settings["audio"])["output"])
        speed = cast("float", output.get("speed", 1.0))
        yield Answer(response.id, self._question(), response.spoken, speed)

    def _question(self) -> Question:
        options = self._options
        said = self.items.messages() if self._given is None else self._given
        tools = as_list(options.get("tools", self.settings["tools"]))
        choice = options.get("tool_choice", self.settings["tool_choice"])
        instructions = str(options.get("instructions", ""))
        return Question(said, instructions, tuple(map(as_object, tools)), choice)

    def _inputs_as_items(self, given: list[object]) -> Iterator[Item]:
        for entry in map(as_object, given):
            if entry.get("type") == "item_reference":
                yield self.items.get(entry.get("id"), code="item_not_found")
            else:
                yield from_client(entry, self._new_id)

    def _cancel_by_hand(self, event: JsonObject) -> Iterator[Effect]:
        wanted = event.get("response_id")
        if self._response is None or wanted not in (None, self._response.id):
            message = "Cancellation failed: no active response found"
            raise Rejected("response_cancel_not_active", message)
        return iter(self._cancel("client_cancelled"))

    def _cancel(self, reason: str) -> list[Effect]:
        return self._end("cancelled", {"type": "cancelled", "reason": reason})

    def _active(self, response_id: str) -> Response | None:
        return self._response if self.is_active(response_id) else None

    def _open(
        self, response_id: str, body: JsonObject, *, with_part: bool
    ) -> list[Effect]:
        response = self._active(response_id)
        if response is None:
            return []
        head: JsonObject = {"id": self._new_id("item"), "object": "realtime.item"}
        item = Item({**head, "status": "in_progress", **body})
        effects = self._emits(response.opened(item))
        if response.in_conversation:
            effects.append(self._about("added", item, self.items.add(item)))
        if with_part:
            effects += self._emits(response.part_added())
        return effects

    def _end(self, status: str, details: JsonObject | None = None) -> list[Effect]:
        """End the active response, whatever it has come to."""
        response = self._response
        assert response is not None
        self._response = None
        effects: list[Effect] = []
        played_ms = 0
        if response.item is not None:
            effects += self._end_item(response, response.item, status)
            played_ms = response.item.sound_ms
        self._patience.begin(self._input.now_ms + played_ms)
        effects += self._emits(response.done(status, details))
        limit = {"name": "tokens", "limit": 40_000, "remaining": 40_000}
        limits = [{**limit, "reset_seconds": 0.0}]
        return [*effects, self._emit("rate_limits.updated", rate_limits=limits)]

    def _end_item(self, response: Response, item: Item, status: str) -> list[Effect]:
        whole = status == "completed"
        effects = self._emits(
            response.item_done("completed" if whole else "incomplete")
        )
        if item.id in self.items:
            effects.append(self._about("done", item, self.items.before(item.id)))
        return [*effects, *self._emits(response.output_done())]

    # --- events

    def _emit(self, kind: str, **fields: object) -> Emit:
        return Emit({"type": kind, "event_id": self._new_id("event"), **fields})

    def _emits(self, events: Iterable[JsonObject]) -> list[Effect]:
        return [Emit({"event_id": self._new_id("event"), **event}) for event in events]


def _unknown_event(kind: object, known: Iterable[str]) -> Rejected:
    if kind is None:
        message = "Missing required parameter: 'type'."
        return Rejected("missing_required_parameter", message, "type")
    supported = ", ".join(f"'{name}'" for name in known)
    message = f"Invalid value: '{kind}'. Supported values are: {supported}."
    return Rejected("invalid_value", message, "type")
