"""
A command begins before its supervisor is loaded, which takes longer than many commands.

It has its guard from the first moment. If it is over within `MOMENT`, and well, there is
nothing to supervise: what it said is passed on, and that is all. Whatever else happens is
left to the supervisor, which takes over guard and command as they are. An edge, and a
light one: the standard library's `subprocess` is the heaviest that it loads.
"""

from __future__ import annotations

import os
import select
import signal
from typing import TYPE_CHECKING

from realtalk_async.supervision.kernel.launch import launch, launch_guard, new_tag

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

    from realtalk_async.supervision.kernel.launch import Guarding, Launched

MOMENT = 0.02
"""Seconds that we look before the supervisor is loaded; it takes several times as long."""

STDOUT, STDERR = 1, 2
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
UNREAD = 128 + signal.SIGPIPE


class Told:
    """Notes the signals that tell us to end, until somebody acts on them."""

    def __init__(self) -> None:
        self.signals: list[int] = []
        for number in SIGNALS:
            signal.signal(number, self._note)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.signals.append(number)

    def stop(self) -> None:
        """Let signals do what they do to any program."""
        for number in SIGNALS:
            signal.signal(number, signal.SIG_DFL)


class HeadStart:
    """
    A command that has begun.

    Args:
        guarding: Its guard.
        launched: The command.
        pipes: Our ends of its pipes by name.
        told: What has told us to end since.
    """

    def __init__(
        self, guarding: Guarding, launched: Launched, pipes: dict[str, int], told: Told
    ) -> None:
        self.guarding = guarding
        self.launched = launched
        self.pipes = pipes
        self._told = told

    @property
    def signals(self) -> list[int]:
        """Those that have told us to end so far."""
        return self._told.signals

    def is_over_and_well(self) -> bool:
        """Wait a moment; return whether it has ended by itself and nothing is left."""
        pid = self.launched.popen.pid
        return (
            self._is_over()
            and not self.signals
            and _status(pid) == 0
            and all(_has_ended(pipe) for pipe in self.pipes.values())
            and not _descendants(pid, self.guarding.tag.encode())
        )

    def _is_over(self) -> bool:
        try:
            pidfd = os.pidfd_open(self.launched.popen.pid)
        except (
            AttributeError,
            OSError,
        ):  # none on this system: the supervisor knows how
            return False
        try:
            watched = select.poll()
            watched.register(pidfd, select.POLLIN)
            return bool(watched.poll(MOMENT * 1000))
        finally:
            os.close(pidfd)

    def print_all(self) -> int:
        """Pass on what it said and clear all away; return the exit code."""
        self._told.stop()
        self.launched.popen.wait()
        os.close(self.guarding.pipe)
        guard = self.guarding.launched.popen
        guard.kill()  # it has nobody to guard any more
        guard.wait()
        try:
            for name, descriptor in (("stdout", STDOUT), ("stderr", STDERR)):
                _copy(self.pipes[name], descriptor)
        except OSError:
            return UNREAD
        return 0


def begin(argv: Sequence[str]) -> HeadStart | None:
    """Start a command; None if that cannot be: whoever tries again will say why."""
    if not argv or "NOTIFY_SOCKET" in os.environ:  # systemd is to hear of every start
        return None
    ours: dict[str, int] = {}
    theirs: dict[str, int] = {}
    guarding = None
    told = Told()
    try:
        guarding = launch_guard(new_tag())
        for name in ("stdout", "stderr"):
            ours[name], theirs[name] = os.pipe()
        variable, _, value = guarding.tag.partition("=")
        launched = launch(
            argv,
            env={**os.environ, variable: value},
            stdout=theirs["stdout"],
            stderr=theirs["stderr"],
        )
    except (OSError, ValueError):
        for descriptor in ours.values():
            os.close(descriptor)
        if guarding is not None:
            os.close(guarding.pipe)
            guarding.launched.popen.wait()
        told.stop()
        return None
    finally:
        for descriptor in theirs.values():
            os.close(descriptor)
    return HeadStart(guarding, launched, ours, told)


def _status(pid: int) -> int | None:
    """Return the exit code of what is dead, which stays to be reaped; None for a signal."""
    found = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    if found is None or found.si_code != os.CLD_EXITED:
        return None
    return found.si_status


def _has_ended(pipe: int) -> bool:
    """Return whether nobody can write to a pipe any more."""
    watched = select.poll()
    watched.register(pipe, 0)
    return any(happened & select.POLLHUP for _, happened in watched.poll(0))


def _descendants(pid: int, tag: bytes) -> bool:
    """
    Return whether *pid* has left somebody behind.

    Pids are given out in turn, so all that it could have started lie between it and the
    last one given out, which ``/proc/loadavg`` tells (proc(5)).
    """
    try:
        with open("/proc/loadavg", "rb") as file:
            last = int(file.read().split()[4])
    except OSError:
        return True  # no /proc here: the supervisor is to look
    if last < pid:
        return True  # the turn has begun anew
    return any(_is_of(one, pid, tag) for one in range(pid + 1, last + 1))


def _is_of(pid: int, leader: int, tag: bytes) -> bool:
    try:
        if os.getsid(pid) == leader:
            return True
        with open(f"/proc/{pid}/environ", "rb") as file:
            environment = file.read()
    except OSError:
        return False
    # It has none for a moment while it becomes another program: better look again.
    return not environment or tag in environment


def _copy(source: int, descriptor: int) -> None:
    while data := os.read(source, 1 << 16):
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
