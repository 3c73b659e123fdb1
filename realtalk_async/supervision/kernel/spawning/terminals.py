"""A pseudo-terminal for a child: its start, its size, its input."""

from __future__ import annotations

import contextlib
import os
import termios
from typing import TYPE_CHECKING

from realtalk_async.supervision.kernel.pipes import PipeWriter
from realtalk_async.supervision.kernel.spawning.mistakes import MULTIPLEXER

if TYPE_CHECKING:
    from collections.abc import Iterable

DEFAULT_SIZE = os.terminal_size((80, 24))
"""Columns and rows where the app itself has no terminal."""

OUTPUT_FLAGS, CONTROL_CHARACTERS = 1, 6
"""Places in the list of `termios.tcgetattr`."""

MAX_SIZE = 0xFFFF
"""The most columns and rows: the kernel has 16 bits for each."""


def open_terminal() -> tuple[int, int]:
    """
    Return a new pseudo-terminal, of the size of the app's own one: master and slave.

    The slave does not become the controlling terminal of the app. A line feed stays one:
    what is captured has the same lines as from a pipe.

    Raises:
        OSError: If there is none.
    """
    try:
        master, slave = os.openpty()
    except OSError as exc:
        raise OSError(exc.errno, exc.strerror, MULTIPLEXER) from exc
    try:
        modes = termios.tcgetattr(slave)
        modes[OUTPUT_FLAGS] &= ~termios.ONLCR
        termios.tcsetattr(slave, termios.TCSANOW, modes)
        set_size(master, own_size())
    except BaseException:
        os.close(master)
        os.close(slave)
        raise
    return master, slave


def own_size() -> os.terminal_size:
    """Return the size of the terminal that is the app's stdout; `DEFAULT_SIZE` if none is."""
    with contextlib.suppress(OSError):
        size = os.get_terminal_size(1)
        if size.columns and size.lines:
            return size
    return DEFAULT_SIZE


def set_size(terminal: int, size: os.terminal_size) -> None:
    """Set the size of a terminal; its foreground receives SIGWINCH if it has changed."""
    termios.tcsetwinsize(terminal, (size.lines, size.columns))


def resize_terminals(descriptors: Iterable[int], size: os.terminal_size) -> bool:
    """Set the size of each descriptor that is a terminal; return whether one is."""
    terminals = [one for one in descriptors if os.isatty(one)]
    for one in terminals:
        set_size(one, size)
    return bool(terminals)


class TerminalWriter(PipeWriter):
    """Types on a child's terminal without ever blocking the loop."""

    async def write(self, data: bytes, progress: list[int]) -> None:
        """Type all of *data*; see `PipeWriter.write`."""
        try:
            await super().write(data, progress)
        except OSError as exc:  # EIO: no program has the terminal open any more
            raise BrokenPipeError from exc

    def close(self) -> None:
        """Type the end-of-file character, Ctrl-D by default. Idempotent."""
        if self.descriptor >= 0:
            with contextlib.suppress(OSError, termios.error):
                characters = termios.tcgetattr(self.descriptor)[CONTROL_CHARACTERS]
                os.write(self.descriptor, characters[termios.VEOF])
        super().close()
