"""Unfinished lines behind which a stream is silent: prompts, and states of progress."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from realtalk_async.supervision.kernel.pipes import StreamName
    from realtalk_async.supervision.output.buffer import OutputBuffer
    from realtalk_async.supervision.output.line import OutputLine

SILENCE = 0.2
"""Seconds without output after which an unfinished line counts as a prompt."""


class PromptFinder:
    """
    Finds the prompts for one reader of a capture, each of them once.

    Args:
        buffers: The captured output.
        silent_for: Returns the seconds since the last output of a stream.
    """

    __slots__ = ("_buffers", "_seen", "_silent_for", "due")

    def __init__(
        self,
        buffers: Mapping[StreamName, OutputBuffer],
        silent_for: Callable[[StreamName], float],
    ) -> None:
        self._buffers, self._silent_for = buffers, silent_for
        # The size of a stream, and when its unfinished line counts as a prompt.
        self._seen: dict[StreamName, tuple[int, float]] = {}
        self.due = math.inf
        """The time of the event loop at which the reader should ask again."""

    def find(
        self, positions: Mapping[StreamName, int], *, at_once: bool = False
    ) -> list[OutputLine]:
        """
        Return the text that follows each position, if no more of it has come for a while.

        Args:
            positions: Where the reader is; no complete line follows.
            at_once: Whether to return all unfinished text.
        """
        # The time of the loop, which tests may replace by virtual time.
        now, self.due = asyncio.get_running_loop().time(), math.inf
        found: list[OutputLine] = []
        for stream, position in positions.items():
            buffer = self._buffers[stream]
            if position >= buffer.size:
                continue
            size, due = self._seen.get(stream, (-1, 0.0))
            if size != buffer.size:
                due = now + SILENCE - self._silent_for(stream)
            if at_once or due <= now:
                due = math.inf
                line = buffer.unfinished_record(position)
                if line is not None:
                    found.append(line)
            self._seen[stream] = buffer.size, due
            self.due = min(self.due, due)
        return found
