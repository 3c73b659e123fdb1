"""
Takes away what macOS lacks, in every Python that has this folder in its ``PYTHONPATH``.

A stand-in for a Mac on Linux: functions that macOS does not have (CPython's documentation,
"Availability"), ``/proc``, ``/dev/shm`` and ``/sys``. What macOS has and Linux lacks, as
`select.kqueue`, is there only with ``REALTALK_KQUEUE=1`` in the environment, as a stand-in
of its own; `sys.platform` stays. ``REALTALK_PLAIN=0`` switches all of it off in a process.
"""

import builtins
import fcntl
import importlib
import io
import os
import select
import selectors
import signal
import socket
import time

MISSING = {
    select: [name for name in dir(select) if name.lower().startswith("epoll")],
    selectors: ["EpollSelector"],
    os: [
        "pidfd_open", "waitid", "memfd_create", "splice", "pipe2", "posix_fadvise",
        "posix_fallocate", "eventfd", "copy_file_range", "setns", "unshare", "getresuid",
        "getresgid", "sched_setaffinity", "sched_getaffinity", "sched_setscheduler",
        "sched_getscheduler", "prctl", "process_madvise", "O_PATH", "O_TMPFILE",
        "RWF_NOWAIT", "getxattr", "setxattr",
    ],
    signal: [
        "pidfd_send_signal", "sigtimedwait", "sigwaitinfo", "SIGPWR", "SIGRTMIN", "SIGRTMAX",
    ],
    fcntl: ["F_SETPIPE_SZ", "F_GETPIPE_SZ", "F_ADD_SEALS", "F_OFD_SETLK"],
    socket: [
        "SO_PEERCRED", "MSG_CMSG_CLOEXEC", "SOCK_CLOEXEC", "SOCK_NONBLOCK", "SO_PASSCRED",
    ],
    time: ["CLOCK_BOOTTIME", "CLOCK_MONOTONIC_COARSE", "CLOCK_TAI"],
}  # fmt: skip
HIDDEN = ("/proc", "/dev/shm", "/sys")


def hides(path):
    """Return whether a path does not exist on macOS."""
    try:
        path = os.fsdecode(os.fspath(path))
    except TypeError:
        return False
    return any(path == root or path.startswith(f"{root}/") for root in HIDDEN)


def without_hidden(function):
    """Return a function that does not find hidden paths."""

    def call(path=".", *args, **options):
        if hides(path):
            raise FileNotFoundError(2, "No such file or directory", path)
        return function(path, *args, **options)

    return call


if os.environ.get("REALTALK_PLAIN") != "0":
    if os.environ.get("REALTALK_KQUEUE") == "1":
        stand_in = importlib.import_module("kqueue_stand_in")
        for name in stand_in.NAMES:
            setattr(select, name, getattr(stand_in, name))
    for module, names in MISSING.items():
        for name in names:
            if hasattr(module, name):
                delattr(module, name)
    # `socket` has imported `selectors`, which has chosen epoll already.
    setattr(selectors, "DefaultSelector", selectors.PollSelector)  # noqa: B010
    os.confstr_names.pop("CS_GNU_LIBC_VERSION", None)
    builtins.open = io.open = without_hidden(open)
    for name in ("open", "listdir", "scandir", "readlink", "stat", "lstat", "access"):
        setattr(os, name, without_hidden(getattr(os, name)))
