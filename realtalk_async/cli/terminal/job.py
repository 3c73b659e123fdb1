"""
A command that is a job of the terminal: in its session, and in its foreground when we are.

The terminal has one foreground process group: that receives the signals of the keyboard,
and only its members may read. A shell gives the foreground to the group of `run`, and `run`
gives it on to the group of the command, and takes it back at the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from typing import TYPE_CHECKING

from realtalk_async import events
from realtalk_async.cli import exit_codes
from realtalk_async.cli.terminal.controlling import (
    get_foreground,
    has_terminal,
    set_foreground,
    starts_stopped,
)
from realtalk_async.cli.terminal.key_signals import KEY_SIGNALS, KeySignals
from realtalk_async.operating_system import SYSTEM
from realtalk_async.supervision.kernel.process_groups import living_members

if TYPE_CHECKING:
    from collections.abc import Callable

    from realtalk_async.cli.terminal.modes import TerminalModes
    from realtalk_async.supervision import ManagedProcess

NEEDS_FOREGROUND = (signal.SIGTTIN, signal.SIGTTOU)
"""They stop a process group of the background that uses the terminal."""

NOT_STOPPED, RETRY = 0.05, 1.0
"""
Seconds of a pause that may have been none, and until a command is continued that needs the
terminal then.
"""

REAPED = 0.02
"""
Seconds from the notice of an end to the look at the exit status: until then it is read. The
end is not yet judged then, see `SAME_EVENT`.
"""


class TerminalJob:
    """
    The process group of the current incarnation of a command.

    Use it in the main thread, and in the event loop; `close` ends it.

    Args:
        modes: Restores the modes of the terminal when an incarnation has ended.
        on_stopped: Called with the signal that has stopped the command.
        on_ended: Called with the exit code for a command that a key of the keyboard has
            ended, such as Ctrl-C.
    """

    def __init__(
        self,
        modes: TerminalModes,
        on_stopped: Callable[[int], object],
        on_ended: Callable[[int], object],
    ) -> None:
        modes.may_have_changed = True
        self._modes = modes
        self._on_stopped = on_stopped
        self._on_ended = on_ended
        self._loop = asyncio.get_running_loop()
        self._own = os.getpgrp()
        self._process: ManagedProcess | None = None
        self._group = 0
        self._keys: KeySignals | None = None
        self._has_foreground = False
        self._wants_foreground = False
        """Whether the command had the foreground, or is to have it."""
        self._is_starting = False
        """Whether the group is stopped before it becomes the command."""
        self._ended_by = 0
        # To give the foreground away, or take it back, is allowed in the background too.
        self._before = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        self._loop.add_signal_handler(signal.SIGCHLD, self._on_child_changed)

    def follow(self, event: events.Event, process: ManagedProcess) -> bool:
        """
        Take an event of the command.

        Returns:
            Whether it only tells of an end that a key of the keyboard has caused.
        """
        match event:
            case events.ProcessStarted():
                self._begin(process)
            case events.ProcessExited():
                by_key = self._end()
                self._modes.restore()
                if event.exit_status == -signal.SIGHUP and not has_terminal():
                    self._on_ended(exit_codes.of_signal(signal.SIGHUP))
                return by_key
            case events.RestartScheduled():
                return bool(self._ended_by)
            case _:
                pass
        return False

    def _begin(self, process: ManagedProcess) -> None:
        """Take a new incarnation, which leads its process group."""
        self._process, self._group = process, process.pid or 0
        self._is_starting = True
        if not starts_stopped():
            self._start()

    def _start(self) -> None:
        """Give the foreground to the new group, which waits for that, and continue it."""
        self._is_starting = False
        self._keys = KeySignals(self._group, self._end_if_exited)
        # Another member, such as the next program of a pipeline, may need it more.
        self._wants_foreground = len(living_members(self._own)) <= 1
        if self._wants_foreground:
            self._give()
        self._continue()

    def _continue(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._group, signal.SIGCONT)

    def _end(self) -> bool:
        """Take the foreground back; return whether a key of the keyboard ended it."""
        by_key = self._end_if_exited()
        self._process = None
        if self._keys is not None:
            self._keys.close()
            self._keys = None
        self.release()
        return by_key

    def close(self) -> None:
        """End all; the rest of our own group gets the signal that has ended the command."""
        self._loop.remove_signal_handler(signal.SIGCHLD)
        self._end()
        signal.signal(signal.SIGTTOU, self._before)
        if self._ended_by and len(living_members(self._own)) > 1:
            # A script, for example: the key would have ended it too, under the shell.
            signal.signal(self._ended_by, signal.SIG_IGN)
            os.killpg(self._own, self._ended_by)

    # ---- the end by a key

    def _end_if_exited(self, _number: int = 0) -> bool:
        """Report the end of the command, if it has ended by a key; return whether it has."""
        known = self._process.process if self._process else None
        status = known.returncode if known else None
        key = 0 if status is None else self._key_that_caused(status)
        if status is None or not key:
            return False
        self._ended_by = key
        self._on_ended(exit_codes.of_signal(-status) if status < 0 else status)
        return True

    def _key_that_caused(self, status: int) -> int:
        """Return the signal of the keyboard that caused an exit status; 0 if none did."""
        if self._keys is not None:
            self._keys.close()
            if recent := self._keys.recent():
                return recent
        ends = {end: one for one in KEY_SIGNALS for end in (-one, 128 + one)}
        return ends.get(status, 0) if self._has_foreground else 0

    # ---- stop and continue

    def _on_child_changed(self) -> None:
        self._loop.call_later(REAPED, self._end_if_exited)
        if number := self._new_stop():
            self._on_stop(number)

    def _on_stop(self, number: int) -> None:
        if self._is_starting:
            self._start()
            return
        # The group may have got the foreground after it had tried to use it.
        has_foreground = get_foreground() == self._group
        if number in NEEDS_FOREGROUND and (has_foreground or self._give()):
            self._continue()
        else:
            self._on_stopped(number)

    def _new_stop(self) -> int:
        """Return the signal that has stopped the command; 0 if it is not stopped."""
        if self._process is None:
            return 0
        return SYSTEM.stop_signal(self._group)

    def release(self) -> None:
        """Take the foreground back, if the command has it."""
        if self._has_foreground:
            self._has_foreground = False
            set_foreground(self._own)

    def resume(self, number: int, pause: float) -> float:
        """
        Give the foreground to the command again, if it had it and the shell gave it to us.

        Args:
            number: The signal that stopped it.
            pause: The seconds for which this process was stopped.

        Returns:
            The seconds after which the command is to be continued.
        """
        if self._is_starting:
            self._start()
            return 0.0
        if self._wants_foreground and self._give():
            return 0.0
        # Without a shell that could continue this process it was not stopped at all; the
        # command would be stopped again at once.
        could_not_stop = pause < NOT_STOPPED
        return RETRY if could_not_stop and number in NEEDS_FOREGROUND else 0.0

    # ---- the foreground

    def _give(self) -> bool:
        if self._process is None or get_foreground() != self._own:
            return False
        self._has_foreground = set_foreground(self._group)
        self._wants_foreground = True
        return self._has_foreground


def stop_this_process(number: int, *, whole_group: bool) -> None:
    """
    Stop this process as the terminal does, until the shell continues it.

    Args:
        number: The signal that the shell learns.
        whole_group: Whether to stop all others of the process group as well.
    """
    if number not in {signal.SIGTSTP, *NEEDS_FOREGROUND}:
        number = signal.SIGTSTP
    before = signal.signal(number, signal.SIG_IGN)
    if whole_group:
        os.killpg(os.getpgrp(), number)
    signal.signal(number, signal.SIG_DFL)
    # To this thread: it stops before the next statement.
    signal.pthread_kill(threading.get_ident(), number)
    signal.signal(number, before)
