"""Python's warnings among the lines that a child prints on stderr."""

from __future__ import annotations

from typing import TYPE_CHECKING

from realtalk_async.logs import parse_python_warning

if TYPE_CHECKING:
    from collections.abc import Iterator

    from realtalk_async.logs import PythonWarning
    from realtalk_async.supervision.output.buffer import OutputBuffer

MARK = b"Warning: "
"""Text in every line that announces a warning."""


class PythonWarningFinder:
    """
    Finds warnings in a stream and looks only at lines that may hold one.

    Args:
        buffer: The captured output of the stream.
    """

    __slots__ = ("_buffer", "_candidate", "_previous", "_searched")

    def __init__(self, buffer: OutputBuffer) -> None:
        self._buffer = buffer
        self._previous = b""
        self._searched = 0
        # Start of the first line that may hold a warning and is not complete yet.
        self._candidate: int | None = None

    def feed(self, data: bytes) -> Iterator[PythonWarning]:
        """Yield the warnings that *data* completes; the buffer already holds *data*."""
        # A read may cut a mark: look for it across the seam as well.
        seam = self._previous + data[: len(MARK)]
        if self._candidate is None and (MARK in data or MARK in seam):
            first = max(0, self._buffer.size - len(data) - len(self._previous))
            self._candidate = max(self._searched, self._buffer.line_start(first))
        self._previous = (self._previous + data[-len(MARK) :])[-len(MARK) :]
        if self._candidate is not None:
            yield from self.complete()

    def complete(self) -> Iterator[PythonWarning]:
        """Yield the warnings whose lines are complete by now."""
        while self._candidate is not None and (
            raws := self._buffer.raw_complete_records(self._candidate)
        ):
            self._candidate = self._searched = self._candidate + sum(map(len, raws))
            for raw in raws:
                if MARK in raw and (found := _parse(raw)):
                    yield found
        if self._candidate is not None and MARK not in self._buffer.read(
            self._candidate
        ):
            self._candidate = None


def _parse(raw: bytes) -> PythonWarning | None:
    return parse_python_warning(raw.decode(errors="replace").rstrip("\r\n"))
