"""Selects what a new connection gets of a long conversation, and names the rest."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from realtalk_async.voice.protocol.conversation import AnsweredCall, Entry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from realtalk_async.voice.protocol.history.limits import HistoryLimits

HistoryItem: TypeAlias = Entry | AnsweredCall

MOST_SUMMARY = 8_000
"""Characters of the summary of an app; the rest is cut."""

_CUT = " […]"


class Selection(NamedTuple):
    """The items for a new connection, and the older ones; each in order."""

    replayed: list[HistoryItem]
    left_out: list[HistoryItem]

    @property
    def messages_left_out(self) -> tuple[Entry, ...]:
        """The older messages, without tool calls."""
        return tuple(item for item in self.left_out if isinstance(item, Entry))


def select(
    history: Sequence[HistoryItem], limits: HistoryLimits, status: str = ""
) -> Selection:
    """
    Select the newest items within the limits.

    Args:
        history: The whole conversation.
        limits: The most items and characters.
        status: The item of the last status message, which is selected first.
    """
    room, characters = limits.replay_items, limits.replay_characters
    first = [item for item in history if status and item.item_id == status]
    chosen: dict[str, HistoryItem] = {}
    for item in (*first, *reversed(history)):
        if item.item_id in chosen:
            continue
        size = _size(item)
        if not room or (size > characters and (chosen or not characters)):
            break
        chosen[item.item_id] = _cut(item, characters) if size > characters else item
        room, characters = room - 1, max(0, characters - size)
    replayed = [chosen[i.item_id] for i in history if i.item_id in chosen]
    return Selection(replayed, [i for i in history if i.item_id not in chosen])


def describe(left_out: Sequence[HistoryItem], dropped: int) -> str:
    """
    Return one line that stands for items that a new connection does not get.

    Args:
        left_out: The items.
        dropped: The number of still older messages, which are not kept any more.
    """
    counts = Counter(i.role if isinstance(i, Entry) else "tool" for i in left_out)
    named = [
        f"{counts[role]} {what}"
        for role, what in (
            ("user", "of the user"),
            ("assistant", "of the assistant"),
            ("system", "of the system"),
            ("tool", "tool calls"),
        )
        if counts[role]
    ]
    parts = f" ({', '.join(named)})" if named and not dropped else ""
    return (
        f"The conversation began earlier: {len(left_out) + dropped} older messages"
        f"{parts} are not repeated here."
    )


def _size(item: HistoryItem) -> int:
    if isinstance(item, Entry):
        return len(item.content)
    return len(item.arguments) + len(item.output)


def _cut(item: HistoryItem, characters: int) -> HistoryItem:
    """Return *item* with the first *characters*; the arguments of a call stay whole."""
    if isinstance(item, Entry):
        return dataclasses.replace(item, content=cut(item.content, characters))
    room = max(0, characters - len(item.arguments))
    return item._replace(output=cut(item.output, room))


def cut(text: str, characters: int) -> str:
    """Return *text*, or its first *characters* with a mark of the cut."""
    if len(text) <= characters:
        return text
    return text[: max(0, characters - len(_CUT))] + _CUT[:characters]
