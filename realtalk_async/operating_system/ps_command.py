"""
The process table of any POSIX system: the program ``ps``.

It needs only the standard library, and runs in the guard as well. ``ps`` was preferred to
``sysctl`` and ``libproc`` by `ctypes`: its columns have been the same for decades, the
structures of the kernel have not. A wrong offset there would be a wrong pid here.

macOS hides the environment of its own programs (``/bin/sh``, ``/bin/sleep``) from everyone:
a tag is not found there, and such a process is known only by its group and session.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

PS = next((path for path in ("/bin/ps", "/usr/bin/ps") if os.path.exists(path)), "ps")
COLUMNS = "pid=,ppid=,pgid=,stat=,lstart=,comm="
WITH_ENVIRONMENT = "-AEww" if sys.platform == "darwin" else "axeww"
TIMEOUT = 5.0
"""Seconds after which ``ps`` is killed, and its answer is "unknown"."""

SAME_START = 2
"""
Seconds in which two start times are one: some systems compute them at each call. No system
gives the same pid twice in that time.
"""


class Row:
    """One process; its start in seconds since 1970."""

    __slots__ = "group", "name", "parent", "pid", "start", "state"

    def __init__(self, line: str) -> None:
        pid, parent, group, state, *began, name = line.split(None, 9)
        self.pid, self.parent, self.group = int(pid), int(parent), int(group)
        self.state = state[0]
        moment = time.strptime(" ".join(began), "%a %b %d %H:%M:%S %Y")
        self.start = int(time.mktime(moment))
        self.name = os.path.basename(name.strip())


def read_rows(*selection: str) -> list[Row]:
    """
    Return all processes but ``ps`` itself; [] if the system does not tell.

    Blocks for some 10 ms.

    Args:
        selection: Options of ``ps`` that select processes; all by default.
    """
    rows: list[Row] = []
    for line in run(*(selection or ("-A",)), "-o", COLUMNS):
        try:
            rows.append(Row(os.fsdecode(line)))
        except ValueError:  # a line that another ``ps`` writes in another way
            continue
    return rows


def find_tagged(tag: bytes) -> set[int]:
    """Return the pids of the processes with *tag* in their environment."""
    lines = run(WITH_ENVIRONMENT, "-o", "pid=,args=")
    return {int(line.split(None, 1)[0]) for line in lines if tag in line}


def run(*options: str) -> Iterator[bytes]:
    """Yield the lines of ``ps``, without that of ``ps`` itself."""
    environment = {**os.environ, "LC_TIME": "C"}  # of lstart, which `Row` reads
    # Without a character set, ps writes "?" for letters.
    chosen = environment.pop("LC_ALL", "") or environment.get("LC_CTYPE")
    environment["LC_CTYPE"] = chosen or environment.get("LANG") or "C.UTF-8"
    try:
        with subprocess.Popen(
            [PS, *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        ) as program:
            try:
                output, _ = program.communicate(timeout=TIMEOUT)
            except subprocess.TimeoutExpired:
                program.kill()
                return
    except OSError:  # there is no ``ps``, or no further process
        return
    own = str(program.pid).encode()
    for line in output.splitlines():
        if line.split(None, 1)[:1] not in ([], [own]):
            yield line


def is_same_start(one: int, other: int) -> bool:
    """Return whether two start times of one pid belong to one process."""
    return abs(one - other) <= SAME_START
