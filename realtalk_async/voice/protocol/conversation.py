"""
The conversation as it really went: ordered, filled in late, cut to what was heard. Pure.

The service may tell of items in any order, and of what the user said long after the
response to it. Each item names the one before it, so the order is kept by these links:
an item stands right behind the one that it names, as the service inserted it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

from realtalk_async.voice.events import Entry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from realtalk_async.voice.events import Role, ToolCalled

Medium = Literal["text", "audio"]


class AnsweredCall(NamedTuple):
    """A tool that was called and has answered; the app's users do not see it."""

    item_id: str
    call_id: str
    name: str
    arguments: str
    answer_id: str
    """The item of the answer, which stands right behind the call."""
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
    call: AnsweredCall | None = None

    @property
    def content(self) -> str:
        texts = (self.parts[index] for index in sorted(self.parts))
        return " ".join(filter(None, (text.strip() for text in texts)))


def cut_text(text: str, fraction: float) -> str:
    """Return the first *fraction* of *text*, about, ending with a whole word."""
    size = int(len(text) * min(1.0, max(0.0, fraction)))
    head = text[:size]
    between_words = size == len(text) or text[size].isspace() or head[-1:].isspace()
    if head and not between_words:
        begun = head.rsplit(maxsplit=1)[-1]
        head = head[: -len(begun)]
    return head if size == len(text) else head.rstrip()


class Conversation:
    """All messages of one session, over all its connections."""

    def __init__(self) -> None:
        self._items: dict[str, _Item] = {}

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
        Add an item, or learn more about one that is known.

        Args:
            item_id: The service's id, or ours if the service took it over.
            role: Who speaks.
            previous: The id of the item before it, even if that is not known yet;
                ``None`` if it is the first, or nothing is known.
            medium: Whether it was spoken.
        """
        item = self._items.get(item_id)
        if item is None:
            item = self._items[item_id] = _Item(item_id, role, medium=medium)
            item.previous = previous
        elif previous is not None and item.previous is None:
            item.previous = previous
        item.role = role
        if medium == "audio":
            item.medium = medium

    def append_text(self, item_id: str, index: int, delta: str) -> None:
        """Add to the text of a response; ignored once it was interrupted."""
        item = self._items.get(item_id)
        if item is not None and not item.interrupted:
            item.parts[index] = item.parts.get(index, "") + delta

    def set_text(self, item_id: str, index: int, text: str) -> None:
        """Set the text of a part, as it is in the end; ignored once interrupted."""
        item = self._items.get(item_id)
        if item is not None and not item.interrupted:
            item.parts[index] = text

    def finish(self, item_id: str) -> None:
        """Note that nothing more will be added to an item."""
        if item_id in self._items:
            self._items[item_id].complete = True

    def interrupt(self, item_id: str, fraction: float) -> str:
        """
        Cut a response to the *fraction* of it that was heard, and mark it.

        Returns:
            What is left of its text. The place of the cut is an estimate: speech is
            taken to run evenly through the text.
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
        Note what a tool answered.

        Args:
            item_id: The item of the call; if the service did not say, it stands last.
            called: The call.
            output: What the service is told.
            answer_id: The item of the answer.
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
        """Remove an item from what is shown; those that follow it keep their place."""
        if item_id in self._items:
            self._items[item_id].deleted = True

    def settle(self) -> None:
        """Note that nothing more will be added to any item: the connection is gone."""
        for item in self._items.values():
            item.complete = True

    def text(self, item_id: str) -> str:
        """Return the text of an item; empty if it has none, or is not known."""
        item = self._items.get(item_id)
        return item.content if item else ""

    def entries(self) -> list[Entry]:
        """Return what was said, in order; items without words are left out."""
        return [self._entry(item) for item in self._ordered() if self._is_shown(item)]

    def history(self) -> list[Entry | AnsweredCall]:
        """Return what was said, and which tools have answered, in order."""
        return [
            item.call or self._entry(item)
            for item in self._ordered()
            if self._is_shown(item) or (item.call and not item.deleted)
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

        An item whose predecessor is not known (yet) starts a row of its own, in the
        order of arrival; so does the first item of another connection. Of two items
        that name the same predecessor the later one was inserted right behind it, and
        so stands first.
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
        # Items that name each other in a circle hang on nothing: last, as they came.
        yield from (i for i in self._items.values() if i.item_id not in seen)
