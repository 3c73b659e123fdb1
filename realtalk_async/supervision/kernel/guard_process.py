"""
The guard's program: ends the children of an app that was killed.

Run as a script with nothing but the standard library, so that it starts in milliseconds:
``python -I -S guard_process.py TAG PID START [detach]``, with the value of the children's
`TAG_VARIABLE`, and the app's pid and start time.
It is no child of the app: a shell has left it behind, or ``detach`` makes it leave. It has
a session of its own, writes ``ready`` to stdin (a socket), reads from there which sessions
and process groups the app has started, and waits until the app is gone. Then it ends every
process that carries TAG in its environment or belongs to one of these, or to a
cgroup of the app: SIGTERM, `GRACE` seconds, SIGKILL until none is left. The cgroups are
removed then. The line ``dismiss`` ends the guard instead.

Where there is no ``/proc``, as on macOS, it asks ``ps``. Without both it ends the process
groups that the app has reported, and no others. A frozen app has no interpreter for a script: a copy of its process calls `main`.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType

GRACE = 0.3
"""Seconds between SIGTERM and SIGKILL: all children must be gone within one second."""

EMPTY_SCANS = 3
"""Scans in a row without a find that end the search."""

PAUSE = 0.02
"""
Seconds from the first of some reports to their reading, while the app lives: on a busy
machine, a guard that wakes at each start delays the app by up to 0.5 ms.
"""

TIME_LIMIT = 10.0
"""Seconds after which processes that cannot be killed are left alone."""


TAG_VARIABLE = "REALTALK_ASYNC_TAG"
"""The environment variable that marks a child and all its descendants as the app's."""

APP_CHECK = 0.2
"""Seconds between two looks at the app, where nothing but its socket tells of its end."""


@lru_cache(1)
def find_ps() -> ModuleType | None:
    """Return the module that runs ``ps``; None if ``/proc`` is there, or no ``ps``."""
    if os.path.exists("/proc/self/stat"):
        return None
    name = "realtalk_async.operating_system.ps_command"
    if name in sys.modules:
        return sys.modules[name]
    package = os.path.join(os.path.dirname(__file__), "..", "..")
    path = os.path.join(package, "operating_system", "ps_command.py")
    if not os.path.exists(path):
        return None
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module if module.read_rows("-p", str(os.getpid())) else None


def read_stat(pid: int) -> list[str]:
    """
    Return the fields of ``/proc/PID/stat`` after the name; [] if it is gone.

    Of ``ps`` only the state, the parent, the group, the session and the start are there.
    """
    if find_ps() is not None:
        nothing: list[str] = []
        return next(iter(read_table("-p", str(pid)).values()), nothing)
    try:
        with open(f"/proc/{pid}/stat", errors="replace") as file:
            return file.read().rpartition(")")[2].split()
    except OSError:
        return []


def has_tag(pid: int, tag: bytes) -> bool:
    """Return whether the process was started with *tag* in its environment."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return tag in file.read()
    except OSError:
        return False


def read_table(*selection: str) -> dict[int, list[str]]:
    """Return the fields of each process, as `read_stat`; of those that ``ps`` selects."""
    ps = find_ps()
    if ps is None:
        found = {
            int(one): read_stat(int(one))
            for one in os.listdir("/proc")
            if one.isdigit()
        }
        return {pid: fields for pid, fields in found.items() if fields}
    table: dict[int, list[str]] = {}
    for row in ps.read_rows(*selection):
        try:
            session = os.getsid(row.pid)
        except OSError:
            session = 0
        known = [row.state, str(row.parent), str(row.group), str(session)]
        table[row.pid] = [*known, *[""] * 15, str(row.start)]
    return table


def is_same_start(one: str, other: str) -> bool:
    """Return whether two start times of one pid belong to one process."""
    ps = find_ps()
    if ps is not None and one and other:
        return bool(ps.is_same_start(int(one), int(other)))
    return one == other


class Reports:
    """What the app has reported."""

    def __init__(self) -> None:
        self.leaders: dict[int, str] = {}
        """
        Leaders of sessions or groups (or single processes) by pid, with their start time: another
        process that has got the same pid has another start time.
        """
        self.cgroups: set[str] = set()
        """The folders of the app's cgroups."""


def find_members(cgroups: set[str]) -> list[int]:
    """Return the pids of all members of cgroups, and of those beneath them."""
    found: list[int] = []
    for cgroup in cgroups:
        for folder, _, _ in os.walk(cgroup):
            try:
                with open(os.path.join(folder, "cgroup.procs")) as file:
                    found += [pid for line in file if (pid := int(line))]
            except OSError:
                continue  # removed meanwhile
    return found


def kill_members(cgroups: set[str]) -> None:
    """Kill all members of each cgroup in one step, if the kernel can (5.14)."""
    for cgroup in cgroups:
        try:
            descriptor = os.open(os.path.join(cgroup, "cgroup.kill"), os.O_WRONLY)
            try:
                os.write(descriptor, b"1")
            finally:
                os.close(descriptor)
        except OSError:
            continue


def remove_cgroups(cgroups: set[str]) -> None:
    """Remove the cgroups, for `GRACE` seconds at most: a dying member holds one."""
    deadline = time.monotonic() + GRACE
    while any(map(os.path.isdir, cgroups)) and time.monotonic() < deadline:
        for cgroup in cgroups:
            for folder, _, _ in os.walk(cgroup, topdown=False):
                try:
                    os.rmdir(folder)
                except OSError:
                    time.sleep(0.002)


def find_children(tag: bytes, reports: Reports) -> list[int]:
    """
    Return the pids of the app's living descendants.

    Args:
        tag: The tag in the environment of the app's children.
        reports: What the app has reported. It receives the descendants that only their
            parents show.
    """
    if find_ps() is None and not os.path.exists("/proc/self/stat"):
        return find_groups(reports)
    tagged = ps.find_tagged(tag) if (ps := find_ps()) else None
    reported, contained = reports.leaders, set(find_members(reports.cgroups))
    found: dict[int, None] = {}
    others: dict[int, list[str]] = {}
    table = read_table()
    table.pop(os.getpid(), None)
    for pid, fields in table.items():
        if fields[0] in "ZX":
            continue
        is_reported = is_same_start(reported.get(pid, ""), fields[19])
        # A job of the terminal leads a group in the session of the app.
        group, session = int(fields[2]), int(fields[3])
        is_member = any(
            one in reported and not is_reused(one, reported, table)
            for one in (group, session)
        )
        is_known = is_reported or is_member or pid in contained
        if is_known or (has_tag(pid, tag) if tagged is None else pid in tagged):
            found[pid] = None
        else:
            others[pid] = fields
    # A process that left its session and cleared its environment is found by its parent,
    # as long as that lives, and must be known from then on.
    while new := {
        pid: one
        for pid, one in others.items()
        if pid not in found and int(one[1]) in found
    }:
        found.update(dict.fromkeys(new))
        reported.update((pid, one[19]) for pid, one in new.items())
    return list(found)


def find_groups(reports: Reports) -> list[int]:
    """Return what lives of the app without ``/proc``: -N for a process group N."""
    found = find_members(reports.cgroups)
    for pid in reports.leaders:
        for one in (-pid, pid):
            try:
                os.kill(one, 0)
            except OSError:
                continue
            found.append(one)
            break
    return found


def is_reused(
    leader: int, reported: dict[int, str], table: dict[int, list[str]]
) -> bool:
    """Return whether another process than the reported one has that pid now."""
    fields = table.get(leader)
    return fields is not None and not is_same_start(fields[19], reported[leader])


def send_signal(pids: list[int], number: int) -> None:
    """Send a signal to each process, and continue stopped ones so that they receive it."""
    for pid in pids:
        for one in (number, signal.SIGCONT):
            try:
                os.kill(pid, one)
            except OSError:
                break


def end_children(tag: bytes, reports: Reports) -> None:
    """End all descendants of the app: SIGTERM, then SIGKILL until none is left."""
    began = time.monotonic()
    left = find_children(tag, reports)
    send_signal(left, signal.SIGTERM)
    while left and time.monotonic() - began < GRACE:
        time.sleep(0.02)
        left = find_children(tag, reports)
    # A single scan may miss a process that is just being spawned or forked.
    empty = 0
    while empty < EMPTY_SCANS and time.monotonic() - began < TIME_LIMIT:
        kill_members(reports.cgroups)
        send_signal(left, signal.SIGKILL)
        time.sleep(0.005)
        left = find_children(tag, reports)
        empty = 0 if left else empty + 1
    remove_cgroups(reports.cgroups)


def watch(app: int, start: str) -> int:
    """
    Return a descriptor that is readable once the app has exited.

    Args:
        app: The pid of the app.
        start: Its start time, with the table that it is from: ``proc:`` or ``ps:``. Another
            process that has got the pid has another one.

    Returns:
        -1 if this system has none: then only the end of stdin shows the exit.

    Raises:
        ProcessLookupError: If the app is gone already.
    """
    descriptor = open_exit_notice(app)
    fields = read_stat(app)
    source, _, began = start.partition(":")
    if source == ("ps" if find_ps() else "proc") and (
        not fields or not is_same_start(fields[19], began)
    ):
        raise ProcessLookupError
    return descriptor


def open_exit_notice(pid: int) -> int:
    """
    Return a pidfd, or a kqueue that waits for the exit; -1 if there is neither.

    Raises:
        ProcessLookupError: If the process is gone already.
    """
    open_pidfd = getattr(os, "pidfd_open", None)
    make_queue = getattr(select, "kqueue", None)
    try:
        if open_pidfd is not None:
            return int(open_pidfd(pid))
        if make_queue is None:
            return -1
        queue, get = make_queue(), vars(select).__getitem__
        notice = get("kevent")(
            pid, get("KQ_FILTER_PROC"), get("KQ_EV_ADD"), get("KQ_NOTE_EXIT")
        )
        queue.control([notice], 0)
    except ProcessLookupError:
        raise
    except OSError:
        return -1
    QUEUES.append(queue)
    return int(queue.fileno())


QUEUES: list[object] = []
"""Keeps the kqueue open."""


def is_gone(pid: int) -> bool:
    """Return whether no process has that pid."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def write(line: bytes) -> None:
    """Tell the app something, unless it is gone: the end of the socket shows that."""
    try:
        os.write(0, line)
    except OSError:
        return


def detach() -> None:
    """Continue in a process that is no child of the app."""
    if os.fork():
        os._exit(0)
    write(b"pid %d\n" % os.getpid())


def wait_for_app(app: int, exit_notice: int, reports: Reports) -> bool:
    """
    Read the app's reports until it is gone.

    Args:
        app: The pid of the app.
        exit_notice: What `watch` has returned.
        reports: Receives the reports.

    Returns:
        True if the app dismissed the guard, False if the app died.
    """
    # The notice comes even if a fork of the app holds the socket open.
    waiting = [0] if exit_notice < 0 else [0, exit_notice]
    buffered = b""
    timeout = APP_CHECK if exit_notice < 0 else None
    while True:
        ready = select.select(waiting, [], [], timeout)[0]
        if not ready and not is_gone(app):
            continue
        if 0 not in ready:
            return read_rest(buffered, reports)
        if exit_notice >= 0:
            select.select([exit_notice], [], [], PAUSE)
        data = read()
        buffered, dismissed = handle_lines(buffered + data, reports)
        if dismissed or not data:
            return dismissed


def read() -> bytes:
    """Return the next reports; nothing at their end."""
    try:
        return os.read(0, 65536)
    except ConnectionResetError:
        # The app has not read all that this process wrote. The error comes once, before
        # the reports that are still there.
        return os.read(0, 65536)


def read_rest(buffered: bytes, reports: Reports) -> bool:
    """
    Read the last reports of a dead app until the pipe ends, for `GRACE` seconds at most.

    A child that the app was just spawning has a copy of the pipe until it executes its
    program, and carries the tag only from then on.
    """
    deadline = time.monotonic() + GRACE
    dismissed = False
    while (left := deadline - time.monotonic()) > 0 and not dismissed:
        if select.select([0], [], [], left)[0]:
            data = read()
            if not data:
                break
            buffered, dismissed = handle_lines(buffered + data, reports)
    return dismissed


def handle_lines(data: bytes, reports: Reports) -> tuple[bytes, bool]:
    """Handle all complete lines; return the rest, and whether the app dismissed the guard."""
    *lines, rest = data.split(b"\n")
    new: set[int] = set()
    try:
        for line in lines:
            if line == b"dismiss":
                return rest, True
            handle_report(os.fsdecode(line), reports, new)
    finally:
        note_starts(new & reports.leaders.keys(), reports)
    return rest, False


def note_starts(pids: set[int], reports: Reports) -> None:
    """Read the start time of each reported process, of all at once."""
    if find_ps() is None:
        table = {pid: read_stat(pid) for pid in pids}
    else:
        table = read_table("-p", ",".join(map(str, pids))) if pids else {}
    for pid in pids:
        # A process that is gone already may have left a group, whose number stays taken.
        fields = table.get(pid)
        reports.leaders[pid] = fields[19] if fields else ""


def handle_report(line: str, reports: Reports, new: set[int]) -> None:
    """
    Handle ``+PID``, ``-PID`` or ``cgroup PATH``.

    ``reset`` is followed by all that is left. *new* receives the pids of ``+PID``.
    """
    if line == "reset":
        reports.leaders.clear()
        return
    if line.startswith("cgroup "):
        reports.cgroups.add(line.removeprefix("cgroup "))
        return
    pid = int(line[1:])
    if line[0] == "+":
        reports.leaders[pid] = ""
        new.add(pid)
    else:
        reports.leaders.pop(pid, None)


def main(arguments: list[str]) -> None:
    """
    Wait for the end of the app, then end its children.

    Args:
        arguments: The tag's value, the app's pid and start time, ``detach`` or nothing.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    # Not a word of its own with the name: ``ps`` shows words and environment in one line.
    tag = f"{TAG_VARIABLE}={arguments[0]}".encode()
    app, start = int(arguments[1]), arguments[2]
    reports = Reports()
    try:
        exit_notice = watch(app, start)
    except ProcessLookupError:
        dismissed = read_rest(b"", reports)
    else:
        if "detach" in arguments[3:]:
            detach()
        os.setsid()
        write(b"ready\n")
        dismissed = wait_for_app(app, exit_notice, reports)
    if not dismissed:
        end_children(tag, reports)


if __name__ == "__main__":
    main(sys.argv[1:])
