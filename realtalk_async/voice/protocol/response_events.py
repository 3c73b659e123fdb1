"""
What a response says and does, as the service tells of it: text, sound, calls of tools. Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from realtalk_async.voice import events
from realtalk_async.voice.protocol import messages
from realtalk_async.voice.protocol.decisions import Decision, Play, RunTool, Tell
from realtalk_async.voice.protocol.playback import Part

if TYPE_CHECKING:
    from collections.abc import Callable

    from realtalk_async.voice.protocol.conversation import Conversation, Medium
    from realtalk_async.voice.protocol.item_events import Items
    from realtalk_async.voice.protocol.messages import ServerEvent
    from realtalk_async.voice.protocol.outbox import Outgoing
    from realtalk_async.voice.protocol.responses import Response


class Saying:
    """
    Who reads what the service says within a response that is wanted.

    Args:
        conversation: Where the words go.
        items: Who knows the items of the service.
        outgoing: Is told of calls, which are to be answered.
        decide: Called with what is to be played, run and told.
    """

    def __init__(
        self,
        conversation: Conversation,
        items: Items,
        outgoing: Outgoing,
        decide: Callable[[Decision], None],
    ) -> None:
        self._conversation = conversation
        self._items = items
        self._outgoing = outgoing
        self._decide = decide

    def handlers(self) -> dict[str, Callable[[Response, ServerEvent, float], None]]:
        """Return who is to be called with which event, its response, and the time."""
        transcript = "response.output_audio_transcript"
        return {
            "response.output_item.added": self._on_item,
            "response.output_item.done": self._on_item,
            "response.function_call_arguments.done": self._on_call,
            "response.output_audio.delta": self._on_audio,
            f"{transcript}.delta": self._on_text_delta,
            f"{transcript}.done": self._on_transcript_done,
            "response.output_text.delta": self._on_text_delta,
            "response.output_text.done": self._on_text_done,
        }

    def conclude(self, response: Response, items: list[dict[str, object]]) -> None:
        """Take in what the service says at the end that a response consists of."""
        for each in items:
            item = messages.ServerEvent("item", each)
            response.consists_of(self._items.absorb(item, None))
            if response.interrupted_at is None:
                self._note_call(response, item)

    # --- Items and calls ----------------------------------------------------------

    def _on_item(self, response: Response, event: ServerEvent, now: float) -> None:
        item_id = self._items.absorb(event.within("item"), None)
        response.consists_of(item_id)
        if event.type.endswith("done"):
            self._conversation.finish(item_id)
        self._note_call(response, event.within("item"))

    def _note_call(self, response: Response, item: ServerEvent) -> None:
        """Note that an item is a call, and make it if its arguments are complete."""
        if item.text("type") != "function_call":
            return
        call_id, name = item.text("call_id"), item.text("name")
        response.announced[item.text("id")] = call_id, name
        if item.text("status") == "completed":
            called = events.ToolCalled(call_id, name, item.text("arguments"))
            self._call(response, called, item.text("id"))

    def _on_call(self, response: Response, event: ServerEvent, now: float) -> None:
        said = event.text("call_id"), event.text("name")
        item_id = event.text("item_id")
        call_id, name = response.announced.get(item_id, said)
        called = events.ToolCalled(call_id, name, event.text("arguments"))
        self._call(response, called, item_id)

    def _call(
        self, response: Response, called: events.ToolCalled, item_id: str
    ) -> None:
        """Have a tool called, once however often the service says so."""
        call_id = called.call_id
        if not call_id or call_id in response.calls:
            return
        response.calls[call_id] = called.name
        self._outgoing.called(called, item_id)
        self._decide(Tell(called))
        self._decide(RunTool(called))

    # --- Words and sound ----------------------------------------------------------

    def _output(self, response: Response, event: ServerEvent, now: float) -> None:
        """Note that a response said something."""
        item_id = event.text("item_id")
        medium: Medium = "audio" if "audio" in event.type else "text"
        self._conversation.add(item_id, "assistant", medium=medium)
        response.consists_of(item_id)
        if response.first_output_at is None:
            response.first_output_at = now

    def _on_audio(self, response: Response, event: ServerEvent, now: float) -> None:
        pcm = messages.decode_audio(event.text("delta"))
        self._output(response, event, now)
        if pcm:
            part = Part(event.text("item_id"), event.index)
            response.audio[part] = response.audio.get(part, 0) + len(pcm)
            self._decide(Play(part, pcm))

    def _on_text_delta(
        self, response: Response, event: ServerEvent, now: float
    ) -> None:
        self._output(response, event, now)
        item_id, delta = event.text("item_id"), event.text("delta")
        self._conversation.append_text(item_id, event.index, delta)
        self._decide(Tell(events.ResponseText(response.response_id, item_id, delta)))

    def _on_transcript_done(
        self, response: Response, event: ServerEvent, now: float
    ) -> None:
        self._set_text(response, event, event.text("transcript"), now)

    def _on_text_done(self, response: Response, event: ServerEvent, now: float) -> None:
        self._set_text(response, event, event.text("text"), now)

    def _set_text(
        self, response: Response, event: ServerEvent, text: str, now: float
    ) -> None:
        self._output(response, event, now)
        if text:
            self._conversation.set_text(event.text("item_id"), event.index, text)
