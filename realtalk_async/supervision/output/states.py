"""Limit how often a progress bar is shown: a line that its process overwrites."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from realtalk_async.supervision.kernel.pipes import StreamName
    from realtalk_async.supervision.output.line import OutputLine

STATE_PERIOD = 0.1
"""Seconds between two states of one process that are shown, at least."""


class StateLimiter:
    """
    Decides which states are shown.

    A state is dropped for a later one, never for nothing: the last is always shown.
    """

    def __init__(self) -> None:
        self._held: dict[StreamName, OutputLine] = {}
        self.due = float("-inf")
        """The time from which on the next state is shown, in seconds."""

    @property
    def is_holding(self) -> bool:
        """Whether `release` would return a state."""
        return bool(self._held)

    def admit(self, line: OutputLine, now: float) -> list[OutputLine]:
        """Return the lines that are shown at *now*; a state may be held."""
        held = self._held.pop(line.stream, None)
        if not line.raw.endswith(b"\r"):
            return [line] if held is None else [held, line]
        if now < self.due:
            is_blank = not line.text.strip()
            self._held[line.stream] = held if held is not None and is_blank else line
            return []
        self.due = now + STATE_PERIOD
        return [line]

    def release(self, now: float) -> list[OutputLine]:
        """Return the held states, which are shown at *now*."""
        held = sorted(self._held.values(), key=lambda line: line.sequence)
        self._held.clear()
        self.due = now + STATE_PERIOD
        return held


async def limit_states(
    lines: AsyncGenerator[OutputLine],
) -> AsyncGenerator[OutputLine]:
    """Iterate over the lines of one process, and over as many states as are legible."""
    now, limiter = asyncio.get_running_loop().time, StateLimiter()
    following: asyncio.Task[OutputLine | None] | None = None
    try:
        while True:
            if limiter.is_holding or following is not None:
                following = following or asyncio.create_task(_next(lines))
                wait = max(0.0, limiter.due - now()) if limiter.is_holding else None
                await asyncio.wait([following], timeout=wait)
                if not following.done():
                    for line in limiter.release(now()):
                        yield line
                    continue
                found, following = following.result(), None
            else:  # without a task for each line
                found = await anext(lines, None)
            if found is None:
                break
            for line in limiter.admit(found, now()):
                yield line
    finally:
        if following is not None:
            following.cancel()
            await asyncio.wait([following])
        await lines.aclose()
    for line in limiter.release(now()):
        yield line


async def _next(lines: AsyncGenerator[OutputLine]) -> OutputLine | None:
    return await anext(lines, None)
