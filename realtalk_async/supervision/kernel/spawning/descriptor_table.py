"""
Space for descriptors, made before it is needed.

The kernel doubles the table of a process's descriptors when it is full: with 64, 128, 256,
… open ones. In a process with several threads this takes 10 to 20 ms, because the kernel
waits until no other thread reads the old table. A start of a child would block the loop
for so long.
"""

from __future__ import annotations

import fcntl
import os
import resource
import threading

from realtalk_async.concurrency.daemon_thread import call_in_thread

DESCRIPTORS = 4096
"""Descriptors to make space for: those of 1,300 children. 8 bytes each in the kernel."""

_enlarged_in = 0
"""The process that has enlarged its table: a forked one has a small one again."""


async def enlarge_descriptor_table() -> None:
    """Make space for `DESCRIPTORS` descriptors, or for as many as the process may have."""
    global _enlarged_in
    if _enlarged_in == os.getpid():
        return
    _enlarged_in = os.getpid()
    if threading.active_count() == 1:  # then it takes some microseconds
        _use_a_high_number()
    else:
        await call_in_thread(_use_a_high_number, "realtalk-async descriptor table")


def _use_a_high_number() -> None:
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = (DESCRIPTORS if limit < 0 else min(limit, DESCRIPTORS)) - 1
    try:
        source = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:  # no descriptor is left: the next start of a child reports that
        return
    try:
        os.close(fcntl.fcntl(source, fcntl.F_DUPFD_CLOEXEC, highest))
    except OSError:  # that number is in use, so that the table is large already
        pass
    finally:
        os.close(source)
