"""
The conversation: items in order, late transcripts, responses cut to the heard part.

The service may announce items in any order, and the transcript of the user's speech long
after the response to it. Each item names the item before it, so these links give the
order: an item stands right behind the item that it names, as the service inserted it.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

from realtalk_async.voice import events
from realtalk_async.voice.protocol import messages
from realtalk_async.voice.protocol.cost.session_cost import transcription_usage
from realtalk_async.voice.protocol.history.tables import forget_oldest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from realtalk_async.voice.events import ToolCalled, VoiceEvent
    from realtalk_async.voice.protocol.messages import Role, ServerEvent
    from realtalk_async.voice.protocol.requests.images import Image

Medium = Literal["text", "audio", "image"]

KEPT_IMAGES = 16 * 1024 * 1024
"""Characters of data URLs of images that are kept to be sent again; the newest ones."""

_UNSETTLED = 64  # newest items, whose place the service may still tell

_TRANSCRIPTION = "conversation.item.input_audio_transcription"


@dataclass(frozen=True, slots=True)
class Entry:
    """One message of the conversation."""

    role: Role
    medium: Literal["text", "audio", "image"]
    content: str
    """Text or transcript; for an interrupted response the part that was heard; for an
    image the text that came with it, or its format and size."""
    item_id: str
    interrupted: bool = False
    """The user interrupted; *content* is cut to the part that was heard."""
    complete: bool = True
    """Whether *content* is final."""

    def to_dict(self) -> dict[str, object]:
        """Return the fields, ready for JSON."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        mark = " [interrupted]" if self.interrupted else ""
        return f"{self.role.title()} [{self.medium}]: {self.content}{mark}"


class AnsweredCall(NamedTuple):
    """A tool call and its result; it is not shown to users."""

    item_id: str
    call_id: str
    name: str
    arguments: str
    answer_id: str
    """The item of the result, which stands right behind the call."""
    output: str


@dataclass(slots=True)
class _Item:
    item_id: str
    role: Role
    parts: dict[int, str] = field(default_factory=dict[int, str])
    medium: Medium = "text"
    previous: str | None = None
    complete: bool = False
    interrupted: bool = False
    deleted: bool = False
    outdated: bool = False
    """Whether a later message replaced it: it is shown, but not replayed."""
    call: AnsweredCall | None = None
    image: Image | None = None
    """The image of the message, while it is kept."""
    caption: str = ""
    """The format and the size of the image that the message had."""

    @property
    def text(self) -> str:
        texts = (self.parts[index] for index in sorted(self.parts))
        return " ".join(filter(None, (text.strip() for text in texts)))

    @property
    def content(self) -> str:
        return self.text or self.caption


def cut_text(text: str, fraction: float) -> str:
    """Return about the first *fraction* of *text*, up to the end of a word."""
    size = int(len(text) * min(1.0, max(0.0, fraction)))
    head = text[:size]
    between_words = size == len(text) or text[size].isspace() or head[-1:].isspace()
    if head and not between_words:
        begun = head.rsplit(maxsplit=1)[-1]
        head = head[: -len(begun)]
    return head if size == len(text) else head.rstrip()


class Conversation:
    """
    The items of one session, over all its connections.

    Args:
        most: How many items are kept; then the oldest tenth is dropped.
    """

    def __init__(self, most: int = 5_000) -> None:
        self._items: dict[str, _Item] = {}
        self._most = most
        self.dropped = 0
        """Number of oldest messages and tool calls that are not kept any more."""

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, item_id: str) -> bool:
        return item_id in self._items

    def add(
        self,
        item_id: str,
        role: Role,
        previous: str | None = None,
        *,
        medium: Medium = "text",
    ) -> None:
        """
        Add an item, or complete what is known of it.

        Args:
            item_id: The id of the service, or that of the client for its own items.
            role: The author.
            previous: The id of the item before it, which may not be known yet; ``None``
                for the first item, or if the service does not tell.
            medium: The form of the message.
        """
        item = self._items.get(item_id)
        if item is None:
            if len(self._items) >= self._most:
                self._drop_oldest()
            item = self._items[item_id] = _Item(item_id, role, medium=medium)
            item.previous = previous
        elif previous is not None and item.previous is None:
            item.previous = previous
        item.role = role
        if medium == "audio":
            item.medium = medium

    def _drop_oldest(self) -> None:
        """Drop the first tenth; each later item is linked to the one before it."""
        ordered = list(self._ordered())
        size = max(1, self._most // 10)
        self.dropped += sum(
            self._is_shown(item) or item.call is not None for item in ordered[:size]
        )
        kept = ordered[size:]
        for number, item in enumerate(kept):
            # The service may still tell the place of a new item that names none.
            is_open = item.previous is None and number >= len(kept) - _UNSETTLED
            if not is_open:
                item.previous = kept[number - 1].item_id if number else None
        self._items = {item.item_id: item for item in kept}

    def attach(self, item_id: str, image: Image) -> None:
        """Add an image to an item; of the older images, what is too much is dropped."""
        item = self._items[item_id]
        item.medium, item.image, item.caption = "image", image, f"({image})"
        kept = 0
        for each in reversed(self._items.values()):
            kept += len(each.image.url) if each.image else 0
            if kept > KEPT_IMAGES:
                each.image = None

    def to_replay(self, item_id: str) -> tuple[str, Image | None]:
        """Return text and image of an item; for an image that was dropped, words."""
        item = self._items[item_id]
        return (item.text, item.image) if item.image else (item.content, None)

    def append_text(self, item_id: str, index: int, delta: str) -> None:
        """Append to the text of a part; ignored once the item was interrupted."""
        item = self._items.get(item_id)
        if item is not None and not item.interrupted:
            item.parts[index] = item.parts.get(index, "") + delta

    def set_text(self, item_id: str, index: int, text: str) -> None:
        """
        Set the final text of a part; ignored once the item was interrupted.

        The text of an image stays: a server may repeat the message without the image.
        """
        item = self._items.get(item_id)
        if item is not None and not item.interrupted and not item.caption:
            item.parts[index] = text

    def finish(self, item_id: str) -> None:
        """Note that an item is complete."""
        if item_id in self._items:
            self._items[item_id].complete = True

    def interrupt(self, item_id: str, fraction: float) -> str:
        """
        Cut a response to the *fraction* that was heard, and mark it.

        Returns:
            The rest of its text. The place of the cut is an estimate that assumes an
            even speed of speech.
        """
        item = self._items.get(item_id)
        if item is None:
            return ""
        if not item.interrupted:
            text = cut_text(item.content, fraction)
            item.parts = {0: text}
            item.interrupted = item.complete = True
        return item.content

    def answer(
        self, item_id: str, called: ToolCalled, output: str, answer_id: str
    ) -> AnsweredCall:
        """
        Add the result of a tool.

        Args:
            item_id: The item of the call; if it is empty, the call stands last.
            called: The call.
            output: The result for the service.
            answer_id: The item of the result.
        """
        item_id = item_id or called.call_id
        self.add(item_id, "assistant")
        call = AnsweredCall(
            *(item_id, called.call_id, called.name, called.arguments),
            *(answer_id, output),
        )
        self._items[item_id].call = call
        return call

    def delete(self, item_id: str) -> None:
        """Hide an item; the items that follow it keep their place."""
        if item_id in self._items:
            self._items[item_id].deleted = True

    def replace(self, item_id: str) -> None:
        """Note that a later message replaces an item, which is not replayed then."""
        if item_id in self._items:
            self._items[item_id].outdated = True

    def settle(self) -> None:
        """Note that all items are complete: the connection is gone."""
        for item in self._items.values():
            item.complete = True

    def text(self, item_id: str) -> str:
        """Return the text of an item; empty if the item has none or is unknown."""
        item = self._items.get(item_id)
        return item.content if item else ""

    def entries(self) -> list[Entry]:
        """Return the messages in order, without empty items."""
        return [self._entry(item) for item in self._ordered() if self._is_shown(item)]

    def history(self) -> list[Entry | AnsweredCall]:
        """Return the messages and tool calls that are replayed, in order."""
        return [
            item.call or self._entry(item)
            for item in self._ordered()
            if not item.outdated
            and (self._is_shown(item) or (item.call and not item.deleted))
        ]

    def _is_shown(self, item: _Item) -> bool:
        return bool(item.content) and not item.deleted

    def _entry(self, item: _Item) -> Entry:
        return Entry(
            item.role,
            item.medium,
            item.content,
            item.item_id,
            interrupted=item.interrupted,
            complete=item.complete,
        )

    def _ordered(self) -> Iterator[_Item]:
        """
        Yield the items in the order of the conversation.

        An item whose predecessor is unknown starts a chain of its own, in the order of
        arrival; so does the first item of another connection. If two items name the same
        predecessor, the later one was inserted right behind it and stands first.
        """
        followers: dict[str | None, list[_Item]] = {}
        for item in self._items.values():
            known = item.previous if item.previous in self._items else None
            followers.setdefault(known, []).append(item)
        waiting = list(reversed(followers.get(None, [])))
        seen: set[str] = set()
        while waiting:
            item = waiting.pop()
            seen.add(item.item_id)
            yield item
            waiting.extend(followers.get(item.item_id, []))
        # Items that name each other in a cycle come last, in the order of arrival.
        yield from (i for i in self._items.values() if i.item_id not in seen)


IMAGE_ONLY = "input_image"
"""What stands for the text of an image without one, see `OwnItems`."""


class OwnItems:
    """
    The items that the client created and the service has not confirmed yet.

    Most servers keep the client's id of an item. A server that gives its own id is
    recognised by the text of the item; its id then stands for the client's.

    Args:
        most: How many items of each kind are remembered; the oldest are forgotten.
    """

    def __init__(self, most: int = 1_000) -> None:
        self._most = most
        self._expected: dict[str, str] = {}
        self._ours: dict[str, str] = {}

    def expect(self, item_id: str, text: str) -> None:
        """Note that the client created *item_id* with *text*."""
        self._expected[item_id] = text
        forget_oldest(self._expected, self._most)

    def clear_expected(self) -> None:
        """Note that the connection is gone: no item will be confirmed any more."""
        self._expected.clear()

    def known_as(self, item_id: str) -> str:
        """Return the client's id of an item if it has one, else the service's."""
        return self._ours.get(item_id, item_id)

    def recognise(self, item_id: str, text: str) -> str:
        """Return the id under which the item with *text* is in the conversation."""
        if item_id in self._ours:
            return self._ours[item_id]
        if item_id in self._expected:
            del self._expected[item_id]
            return item_id
        own = next((key for key, said in self._expected.items() if said == text), None)
        if own is None:
            return item_id
        del self._expected[own]
        self._ours[item_id] = own
        forget_oldest(self._ours, self._most)
        return own


class ItemEvents:
    """
    Handles events about items.

    Args:
        conversation: Receives the items.
        own_items: The items that the client created.
        publish: Called with each event for the app.
    """

    def __init__(
        self,
        conversation: Conversation,
        own_items: OwnItems,
        publish: Callable[[VoiceEvent], None],
    ) -> None:
        self._conversation = conversation
        self._own_items = own_items
        self._publish = publish

    def handlers(self) -> dict[str, Callable[[ServerEvent, float], None]]:
        """Return the handlers by event type; each takes the event and the time."""
        return {
            "conversation.item.added": self._on_added,
            "conversation.item.done": self._on_done,
            "conversation.item.deleted": self._on_deleted,
            f"{_TRANSCRIPTION}.delta": self._on_delta,
            f"{_TRANSCRIPTION}.completed": self._on_transcript,
            f"{_TRANSCRIPTION}.failed": self._on_transcription_failed,
        }

    # --- Items --------------------------------------------------------------------

    def add(self, item: ServerEvent, previous: str | None) -> str:
        """Add *item* to the conversation; return the id under which it is known."""
        item_id = item.text("id")
        if not item_id:
            return ""
        # A tool call has neither role nor text, yet other items name it as previous.
        role = item.text("role")
        role = role if role in messages.ROLES else "assistant"
        contents = item.objects("content")
        item_id = self._own_items.recognise(item_id, _identifying_text(item))
        spoken = any("audio" in str(content.get("type")) for content in contents)
        medium: Medium = "audio" if spoken else "text"
        self._conversation.add(item_id, role, previous, medium=medium)
        for index, content in enumerate(contents):
            text = content.get("transcript") or content.get("text")
            if isinstance(text, str) and text:
                self._conversation.set_text(item_id, index, text)
        return item_id

    def previous(self, event: ServerEvent) -> str | None:
        """Return the id of the item before the item of *event*."""
        return self._own_items.known_as(event.text("previous_item_id")) or None

    def _on_added(self, event: ServerEvent, now: float) -> None:
        self.add(event.within("item"), self.previous(event))

    def _on_done(self, event: ServerEvent, now: float) -> None:
        self._on_added(event, now)
        self._conversation.finish(self._own_items.known_as(event.text("item", "id")))

    def _on_deleted(self, event: ServerEvent, now: float) -> None:
        self._conversation.delete(self._own_items.known_as(event.text("item_id")))

    # --- The user's speech --------------------------------------------------------

    def add_user_speech(self, item_id: str, previous: str | None = None) -> None:
        """Add an item of the user, whose transcript may follow later."""
        if item_id:
            self._conversation.add(item_id, "user", previous, medium="audio")

    def _on_delta(self, event: ServerEvent, now: float) -> None:
        item_id = event.text("item_id")
        self.add_user_speech(item_id)
        self._conversation.append_text(item_id, event.index, event.text("delta"))

    def _on_transcript(self, event: ServerEvent, now: float) -> None:
        item_id, text = event.text("item_id"), event.text("transcript").strip()
        self.add_user_speech(item_id)
        self._conversation.set_text(item_id, event.index, text)
        self._conversation.finish(item_id)
        usage = transcription_usage(event)
        self._publish(events.UserTranscript(item_id, text, usage))

    def _on_transcription_failed(self, event: ServerEvent, now: float) -> None:
        reason = event.text("error", "message") or event.text("error", "code")
        self._publish(events.TranscriptionFailed(event.text("item_id"), reason))


def _identifying_text(item: ServerEvent) -> str:
    """Return the text by which `OwnItems` recognises an item with the service's id."""
    call_id = item.text("call_id")
    if call_id:
        return f"{item.text('type')} {call_id}"
    contents = item.objects("content")
    text = next((str(c["text"]) for c in contents if c.get("text")), "")
    if not text and any(c.get("type") == "input_image" for c in contents):
        return IMAGE_ONLY
    return text
