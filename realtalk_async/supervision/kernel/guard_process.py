"""
The orphan guard's own program: ends what an app leaves behind when it is killed.

Run as a script with nothing but the standard library, so that it starts in milliseconds:
``python -I -S guard_process.py TAG PID``. It lives in a session of its own, hears on stdin
which sessions the app has begun, and does nothing at all until the app is gone, however
it went. Then it ends every process that carries TAG in its environment or belongs to one
of those sessions: SIGTERM, `GRACE` seconds, SIGKILL until none is left. The line ``bye``
on stdin dismisses it.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time

GRACE = 0.3
"""Seconds between SIGTERM and SIGKILL: all must be over within one."""

LOOKS = 3
"""So many looks in a row must find nobody before we believe that nobody is left."""

PATIENCE = 10.0
"""Seconds after which even what cannot be killed is left alone."""


def stat_of(pid: int) -> list[str]:
    """Return the fields of ``/proc/PID/stat`` after the name; [] if it is gone."""
    try:
        with open(f"/proc/{pid}/stat", errors="replace") as file:
            return file.read().rpartition(")")[2].split()
    except OSError:
        return []


def carries(pid: int, tag: bytes) -> bool:
    """Return whether the process was started with *tag* in its environment."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return tag in file.read()
    except OSError:
        return False


def left_behind(tag: bytes, told: dict[int, str]) -> list[int]:
    """
    Return the living processes that are the app's.

    Args:
        tag: What the app's children carry in their environment.
        told: Session leaders (or single processes) by pid, with their start time, so
            that a pid which was used again is not mistaken for them.
    """
    found: list[int] = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        fields = stat_of(int(entry))
        if not fields or fields[0] in "ZX":
            continue
        ours = told.get(int(entry)) == fields[19]
        in_session = int(fields[3]) in told and not reused(int(fields[3]), told)
        if ours or in_session or carries(int(entry), tag):
            found.append(int(entry))
    return found


def reused(leader: int, told: dict[int, str]) -> bool:
    """Return whether that pid is now a process that we were not told of."""
    fields = stat_of(leader)
    return bool(fields) and fields[19] != told[leader]


def send(pids: list[int], number: int) -> None:
    """Send a signal to each, continued if stopped, so that it is received."""
    for pid in pids:
        for one in (number, signal.SIGCONT):
            try:
                os.kill(pid, one)
            except OSError:
                break


def sweep(tag: bytes, told: dict[int, str]) -> None:
    """End everything that is left."""
    began = time.monotonic()
    left = left_behind(tag, told)
    send(left, signal.SIGTERM)
    while left and time.monotonic() - began < GRACE:
        time.sleep(0.02)
        left = left_behind(tag, told)
    # What was just being spawned or forked may be missed by one look.
    nobody = 0
    while nobody < LOOKS and time.monotonic() - began < PATIENCE:
        send(left, signal.SIGKILL)
        time.sleep(0.005)
        left = left_behind(tag, told)
        nobody = 0 if left else nobody + 1


def listen(app: int, told: dict[int, str]) -> bool:
    """Note what the app tells; return True if it dismissed us, False if it is gone."""
    waiting: list[int] = [0]
    try:
        # Its end is seen even if a forked copy of it still holds our pipe open.
        waiting.append(os.pidfd_open(app))
    except (AttributeError, OSError):
        if os.getppid() != app:  # it was gone before we had come up
            return hear_the_rest(b"", told)
    buffered = b""
    while True:
        ready = select.select(waiting, [], [])[0]
        if 0 not in ready:
            return hear_the_rest(buffered, told)
        data = os.read(0, 65536)
        buffered, dismissed = take(buffered + data, told)
        if dismissed or not data:
            return dismissed


def hear_the_rest(buffered: bytes, told: dict[int, str]) -> bool:
    """
    Wait a moment for the pipe to end too: the app is dead.

    A child that it was just spawning has a copy of the pipe until it becomes a program of
    its own, and only from then on does it carry our tag.
    """
    deadline = time.monotonic() + GRACE
    dismissed = False
    while (left := deadline - time.monotonic()) > 0 and not dismissed:
        if select.select([0], [], [], left)[0]:
            data = os.read(0, 65536)
            if not data:
                break
            buffered, dismissed = take(buffered + data, told)
    return dismissed


def take(data: bytes, told: dict[int, str]) -> tuple[bytes, bool]:
    """Note all lines; return what is no line yet, and whether we were dismissed."""
    *lines, rest = data.split(b"\n")
    for line in lines:
        if line == b"bye":
            return rest, True
        note(line.decode(), told)
    return rest, False


def note(line: str, told: dict[int, str]) -> None:
    """Take in ``+PID`` or ``-PID``."""
    pid = int(line[1:])
    if line[0] == "+":
        fields = stat_of(pid)
        # One that is gone already may have left a group, whose number nobody else gets.
        told[pid] = fields[19] if fields else ""
    else:
        told.pop(pid, None)


def main() -> None:
    """Wait for the end of the app, then sweep."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    tag, app = sys.argv[1].encode(), int(sys.argv[2])
    told: dict[int, str] = {}
    if not listen(app, told):
        sweep(tag, told)


if __name__ == "__main__":
    main()
