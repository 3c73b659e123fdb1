"""Python warnings among what a child prints on stderr. Pure, but for what it reads from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from realtalk_async.logs import parse_python_warning

if TYPE_CHECKING:
    from collections.abc import Iterator

    from realtalk_async.logs import PythonWarning
    from realtalk_async.supervision.output.buffer import OutputBuffer

MARK = b"Warning: "
"""Stands in every line that announces a warning."""


class WarningScout:
    """
    Find the warnings in a stream without looking at lines that cannot be one.

    Args:
        buffer: What was captured of the stream.
    """

    def __init__(self, buffer: OutputBuffer) -> None:
        self._buffer = buffer
        self._last = b""
        self._told = 0
        # Where the first line begins that may be a warning and is not complete yet.
        self._place: int | None = None

    def look(self, data: bytes) -> Iterator[PythonWarning]:
        """Yield what became known with *data*, which the buffer has just been given."""
        seam = self._last + data[: len(MARK)]  # a mark may be cut by a read
        if self._place is None and (MARK in data or MARK in seam):
            began = max(0, self._buffer.size - len(data) - len(self._last))
            self._place = max(self._told, self._buffer.line_start(began))
        self._last = (self._last + data[-len(MARK) :])[-len(MARK) :]
        if self._place is not None:
            yield from self.rest()

    def rest(self) -> Iterator[PythonWarning]:
        """Yield what is complete by now."""
        while self._place is not None and (
            raws := self._buffer.complete_raw(self._place)
        ):
            self._place = self._told = self._place + sum(map(len, raws))
            for raw in raws:
                if MARK in raw and (found := _parse(raw)):
                    yield found
        if self._place is not None and MARK not in self._buffer.read(self._place):
            self._place = None


def _parse(raw: bytes) -> PythonWarning | None:
    return parse_python_warning(raw.decode(errors="replace").rstrip("\r\n"))
