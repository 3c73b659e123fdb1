"""`Limits`: what a program may use, as resource limits of the kernel."""

from __future__ import annotations

import resource
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

from realtalk_async import arguments

if TYPE_CHECKING:
    from collections.abc import Iterator

    from realtalk_async.supervision.kernel.exit_status import ExitStatus, Usage

MIN_MEMORY = 1 << 20
"""Bytes: no program runs in less. A smaller number is meant in another unit."""

MIN_OPEN_FILES = 4
"""The three standard streams, and one with which the loader opens a library."""

CPU_GRACE = 1
"""Seconds of CPU from SIGXCPU to SIGKILL. Equal limits would send SIGKILL alone."""


@dataclass(frozen=True, slots=True)
class Limits:
    """
    The limits of a program and its descendants; None is no limit.

    They hold from the first instruction of the program on, see setrlimit(2), and each
    descendant inherits them. A lower limit of the app itself stays in force. The start of
    a program with limits takes 0.6 ms more, because a shell sets them.

    Args:
        memory: Bytes of address space of each process, 1 MiB or more (RLIMIT_AS). Beyond
            it an allocation fails, and most programs end with an error. It counts what is
            reserved, not what is used: runtimes that reserve much (Go, Java, CUDA,
            sanitizers) need gigabytes. It does not bound the sum of several processes.
            In a cgroup with the memory controller it is ``memory.max`` instead: the sum
            of the memory that is used; beyond it the kernel kills the whole cgroup.
        processes: The most processes and threads, 1 or more (RLIMIT_NPROC). The kernel
            counts those of the whole user, also outside the app, and root is exempt. In a
            cgroup with the pids controller it is ``pids.max`` instead: those of this child
            alone, root included.
        cpu: Seconds of CPU of each process, 1 or more (RLIMIT_CPU): then SIGXCPU, and
            SIGKILL a second of CPU later. Not a share: it ends what runs for ever.
        open_files: The most descriptors of each process, 4 or more (RLIMIT_NOFILE).

    Raises:
        InvalidConfiguration: If an argument is no whole number, or too small.
    """

    memory: int | None = None
    processes: int | None = None
    cpu: int | None = None
    open_files: int | None = None

    def __post_init__(self) -> None:
        least = {"memory": MIN_MEMORY, "open_files": MIN_OPEN_FILES}
        units = {"memory": "bytes", "cpu": "seconds"}
        for name in self.__slots__:
            arguments.integer(
                name,
                getattr(self, name),
                of=units.get(name, ""),
                minimum=least.get(name, 1),
                optional=True,
            )

    def __bool__(self) -> bool:
        return any(getattr(self, name) is not None for name in self.__slots__)

    def to_dict(self) -> dict[str, int]:
        """Return the limits that are given, ready for JSON."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return {name: value for name, value in values.items() if value is not None}

    def __str__(self) -> str:
        return ", ".join(f"{name} {value}" for name, value in self.to_dict().items())


def shell_lines(
    limits: Limits, enforced: frozenset[str] = frozenset()
) -> Iterator[str]:
    """
    Yield the lines of ``/bin/sh`` that set the limits for what it executes.

    Args:
        limits: The limits.
        enforced: The names of those that a cgroup enforces already.
    """
    if limits.processes is not None and "processes" not in enforced:
        number = _within_hard(limits.processes, resource.RLIMIT_NPROC)
        # dash and busybox say -p, bash says -u.
        yield f"ulimit -u {number} 2>/dev/null || ulimit -p {number}"
    if limits.open_files is not None:
        yield f"ulimit -n {_within_hard(limits.open_files, resource.RLIMIT_NOFILE)}"
    if limits.cpu is not None:
        hard = _within_hard(limits.cpu + CPU_GRACE, resource.RLIMIT_CPU)
        yield f"ulimit -S -t {min(limits.cpu, hard)} && ulimit -H -t {hard}"
    if limits.memory is not None and "memory" not in enforced:  # last: it holds for sh
        size = _within_hard(limits.memory, resource.RLIMIT_AS)
        yield f"ulimit -v {size // 1024}"


def _within_hard(value: int, kind: int) -> int:
    """Return *value*, or the lower limit that the app itself has."""
    hard = resource.getrlimit(kind)[1]
    greatest = (1 << 62) if hard == resource.RLIM_INFINITY else hard
    return min(value, greatest)


def describe_end(limits: Limits, status: ExitStatus | None, usage: Usage | None) -> str:
    """Return the limit that ended a program, in words; "" if none did, or none shows."""
    if limits.cpu is None:
        return ""
    used = usage.user + usage.system if usage else 0.0
    # The kernel rounds the time that it reports, by some milliseconds.
    is_killed = status == -signal.SIGKILL and used >= limits.cpu + CPU_GRACE / 2
    if status == -signal.SIGXCPU or is_killed:
        return f"cpu limit of {limits.cpu} s"
    return ""
