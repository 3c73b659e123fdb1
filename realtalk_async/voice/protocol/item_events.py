"""
What the service tells of the items of the conversation, taken in. Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from realtalk_async.voice import events
from realtalk_async.voice.protocol import messages

if TYPE_CHECKING:
    from collections.abc import Callable

    from realtalk_async.voice.events import VoiceEvent
    from realtalk_async.voice.protocol.conversation import Conversation, Medium
    from realtalk_async.voice.protocol.messages import ServerEvent
    from realtalk_async.voice.protocol.outbox import Echoes

_TRANSCRIPTION = "conversation.item.input_audio_transcription"


class Items:
    """
    Who reads the service's word on items, and on what the user said.

    Args:
        conversation: Where all goes.
        echoes: Which of the items are our own.
        tell: Called with what the app is to know.
    """

    def __init__(
        self,
        conversation: Conversation,
        echoes: Echoes,
        tell: Callable[[VoiceEvent], None],
    ) -> None:
        self._conversation = conversation
        self._echoes = echoes
        self._tell = tell

    def handlers(self) -> dict[str, Callable[[ServerEvent, float], None]]:
        """Return who is to be called with which event, and the time."""
        return {
            "conversation.item.added": self._on_added,
            "conversation.item.done": self._on_done,
            "conversation.item.deleted": self._on_deleted,
            f"{_TRANSCRIPTION}.delta": self._on_delta,
            f"{_TRANSCRIPTION}.completed": self._on_transcript,
            f"{_TRANSCRIPTION}.failed": self._on_not_transcribed,
        }

    # --- Items --------------------------------------------------------------------

    def absorb(self, item: ServerEvent, previous: str | None) -> str:
        """Learn all that *item* tells; return the id under which it is known."""
        item_id = item.text("id")
        if not item_id:
            return ""
        # A function call has no role and no words, yet others stand behind it.
        said = item.text("role")
        role = said if said in messages.ROLES else "assistant"
        contents = item.objects("content")
        item_id = self._echoes.recognise(item_id, _words_of(item))
        spoken = any("audio" in str(content.get("type")) for content in contents)
        medium: Medium = "audio" if spoken else "text"
        self._conversation.add(item_id, role, previous, medium=medium)
        for index, content in enumerate(contents):
            text = content.get("transcript") or content.get("text")
            if isinstance(text, str) and text:
                self._conversation.set_text(item_id, index, text)
        return item_id

    def previous(self, event: ServerEvent) -> str | None:
        """Return the id of the item that stands before the one of *event*."""
        return self._echoes.known_as(event.text("previous_item_id")) or None

    def _on_added(self, event: ServerEvent, now: float) -> None:
        self.absorb(event.within("item"), self.previous(event))

    def _on_done(self, event: ServerEvent, now: float) -> None:
        self._on_added(event, now)
        self._conversation.finish(self._echoes.known_as(event.text("item", "id")))

    def _on_deleted(self, event: ServerEvent, now: float) -> None:
        self._conversation.delete(self._echoes.known_as(event.text("item_id")))

    # --- What the user said -------------------------------------------------------

    def heard_user(self, item_id: str, previous: str | None = None) -> None:
        """The user said something, which may be written down later."""
        if item_id:
            self._conversation.add(item_id, "user", previous, medium="audio")

    def _on_delta(self, event: ServerEvent, now: float) -> None:
        item_id = event.text("item_id")
        self.heard_user(item_id)
        self._conversation.append_text(item_id, event.index, event.text("delta"))

    def _on_transcript(self, event: ServerEvent, now: float) -> None:
        item_id, text = event.text("item_id"), event.text("transcript").strip()
        self.heard_user(item_id)
        self._conversation.set_text(item_id, event.index, text)
        self._conversation.finish(item_id)
        self._tell(events.UserTranscript(item_id, text))

    def _on_not_transcribed(self, event: ServerEvent, now: float) -> None:
        reason = event.text("error", "message") or event.text("error", "code")
        self._tell(events.TranscriptionFailed(event.text("item_id"), reason))


def _words_of(item: ServerEvent) -> str:
    """Return by what an item of ours is known if the service gave it its own id."""
    call_id = item.text("call_id")
    if call_id:
        return f"{item.text('type')} {call_id}"
    contents = item.objects("content")
    return next((str(c["text"]) for c in contents if c.get("text")), "")
