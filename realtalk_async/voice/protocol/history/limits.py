"""The bounds of what one session keeps and replays, however long it lasts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from realtalk_async import arguments

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from realtalk_async.voice.protocol.conversation import Entry

    Summarize: TypeAlias = Callable[[tuple[Entry, ...]], str | Awaitable[str]]


@dataclass(frozen=True, slots=True)
class HistoryLimits:
    """
    How much of a session is replayed to a new connection, and kept in memory.

    What is older is dropped and counted: the replay in `ConnectionRestored`, the rest in
    `Metrics.dropped_history`.

    Raises:
        InvalidConfiguration: If an argument is invalid.
    """

    replay_items: int = 200
    """
    The most messages and tool calls (with their results) that a new connection gets, the
    newest ones. One line of the role system stands for the older ones, and tells their
    number. The last status message always counts among them.
    """
    replay_characters: int = 50_000
    """
    The most characters of them, in all: some 12,000 tokens. A message that is longer by
    itself is cut. Images do not count; they have a bound of their own.
    """
    summarize: Summarize | None = None
    """
    Returns the text that stands for the older messages, which it gets as far as they are
    kept: a function, async or not. A function that is not async is called in a thread. It
    is called again when more messages are left out. If it fails or takes too long, the
    line with their number is sent.
    """
    summarize_timeout: float = 10.0
    """Seconds that the function may take, while the session reconnects."""
    kept_items: int = 5_000
    """The most messages and tool calls in `Stream.conversation` and the summary."""
    kept_outcomes: int = 5_000
    """The most outcomes of responses in the summary."""
    kept_events: int = 10_000
    """The most protocol events in `Stream.eventlog`; 32 MiB of them at most."""

    def __post_init__(self) -> None:
        for name in ("replay_items", "replay_characters"):
            arguments.integer(name, getattr(self, name), minimum=0)
        for name in ("kept_items", "kept_outcomes", "kept_events"):
            arguments.integer(name, getattr(self, name), minimum=1)
        arguments.function("summarize", self.summarize, optional=True)
        arguments.number(
            *("summarize_timeout", self.summarize_timeout), of="seconds", more_than=0
        )


DEFAULT_LIMITS = HistoryLimits()
