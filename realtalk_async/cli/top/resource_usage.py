"""CPU and memory of processes, from the process table of the system."""

from __future__ import annotations

from collections import defaultdict

from realtalk_async.cli.top.rows import Usage
from realtalk_async.operating_system import SYSTEM


def read_usage() -> dict[int, Usage]:
    """
    Return the usage of each session by the pid of its leader, and of all other processes
    by their pids.

    It takes about 20 µs per process of this machine on Linux.
    """
    alone: dict[int, Usage] = {}
    sessions: defaultdict[int, list[Usage]] = defaultdict(list)
    for pid, used in SYSTEM.processes.usage().items():
        alone[pid] = Usage(used.cpu, used.memory)
        sessions[used.session].append(alone[pid])
    return alone | {pid: _sum(usages) for pid, usages in sessions.items()}


def _sum(usages: list[Usage]) -> Usage:
    return Usage(sum(one.cpu for one in usages), sum(one.memory for one in usages))
