"""The modes of a terminal, and their restoration at the end of a run."""

from __future__ import annotations

import contextlib
import os
import select
import termios
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from types import TracebackType

DEFAULT_COLOURS_AND_CURSOR = b"\x1b[0m\x1b[?25h"


class TerminalModes:
    """
    Restores the terminal at the end of the block, whatever its processes have changed.

    The terminal is that of our own stdin, stdout or stderr, if one of them is a terminal.
    """

    def __init__(self) -> None:
        self.may_have_changed = False
        """Whether colours or the cursor may have been changed by what was written."""
        self._terminal = next((fd for fd in range(3) if os.isatty(fd)), -1)
        self._before: list[Any] | None = None
        with contextlib.suppress(termios.error, ValueError):
            self._before = termios.tcgetattr(self._terminal)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.restore()
        if self.may_have_changed and not self._is_in_background():
            self._write(DEFAULT_COLOURS_AND_CURSOR)

    def restore(self) -> None:
        """Set the modes that were set at first, if the terminal is still ours."""
        if self._before is None:
            return
        with contextlib.suppress(OSError, termios.error):
            has_changed = termios.tcgetattr(self._terminal) != self._before
            if has_changed and not self._is_in_background():
                termios.tcsetattr(self._terminal, termios.TCSANOW, self._before)

    def _is_in_background(self) -> bool:
        # The terminal is the shell's then, and using it may stop this process.
        try:
            return os.tcgetpgrp(self._terminal) != os.getpgrp()
        except OSError:  # it is not our controlling terminal
            return False

    def _write(self, data: bytes) -> None:
        """Write to our own terminal, unless it is halted: that would block."""
        screen = next((fd for fd in (1, 2) if os.isatty(fd)), -1)
        poller = select.poll()
        with contextlib.suppress(OSError, ValueError):
            poller.register(screen, select.POLLOUT)
            if poller.poll(0):
                os.write(screen, data)
