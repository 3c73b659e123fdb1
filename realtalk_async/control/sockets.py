"""
The folder with the control sockets of all running apps of a user.

The folder is ``$XDG_RUNTIME_DIR/realtalk-async``, or ``realtalk-async-UID`` in the folder
for temporary files. It belongs to the user and has mode 0700.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import stat
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from realtalk_async.exceptions import RealtalkError
from realtalk_async.operating_system import SYSTEM

if TYPE_CHECKING:
    from collections.abc import Generator

ANSWER_TIMEOUT = 2.0
"""Seconds after which an app that has not answered is asked whether it answers at all."""
RETRY_DELAY = 0.02
"""Seconds between two attempts to connect to an app with too many waiting clients."""

_NAME = re.compile(r"(\d+)(?:-\d+)?\.sock")


class ControlUnavailable(RealtalkError):
    """A control socket cannot be served or reached, or the app refuses a request."""


class AppDoesNotAnswer(ControlUnavailable):
    """An app exists, but it does not answer in time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        """Its control socket."""
        self.pid = pid_of(path)
        """Its pid; None if the name of the socket does not hold it."""
        who = "the app" if self.pid is None else f"the app with pid {self.pid}"
        remedy = f"let it continue: kill -CONT {self.pid}"
        hint = f"; it is suspended: {remedy}" if is_suspended(self.pid) else ""
        super().__init__(f"{who} does not answer at {path}{hint}")


def pid_of(path: Path) -> int | None:
    """Return the pid of the app that serves a socket; None if its name is another's."""
    name = _NAME.fullmatch(path.name)
    return int(name[1]) if name else None


def is_suspended(pid: int | None) -> bool:
    """Return whether a process is stopped by a signal, as by Ctrl-Z."""
    found = None if pid is None else SYSTEM.processes.read(pid)
    return found is not None and found.state in "Tt"


def command_of(pid: int | None) -> str:
    """Return the command of a process, from the kernel; "an app" if there is none."""
    words = [] if pid is None else SYSTEM.processes.command(pid)
    return " ".join(words) or "an app"


def socket_folder() -> Path:
    """
    Return the folder of the control sockets, and create it if it does not exist.

    Raises:
        ControlUnavailable: If it cannot be created, or other users may enter it.
    """
    base = os.environ.get("XDG_RUNTIME_DIR", "")
    if base and os.path.isdir(base):
        path = Path(base, "realtalk-async")
    else:
        path = Path(tempfile.gettempdir(), f"realtalk-async-{os.getuid()}")
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        found = path.lstat()
    except OSError as exc:
        raise ControlUnavailable(f"no folder for control sockets: {exc}") from exc
    # In the folder for temporary files another user may have created it.
    is_ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
    if not is_ours or found.st_mode & 0o077:
        raise ControlUnavailable(
            f"{path} must be a folder of yours that no other user may enter "
            f"(chmod 700); remove what is there"
        )
    return path


def new_socket_path() -> Path:
    """Return an unused path in the folder; its name begins with the pid of this process."""
    folder, number = socket_folder(), 1
    path = folder / f"{os.getpid()}.sock"
    while path.exists():
        number += 1
        path = folder / f"{os.getpid()}-{number}.sock"
    return path


def find_sockets(pid: int | None = None) -> list[Path]:
    """
    Return the sockets of all running apps, or of the app with that pid.

    The sockets of dead apps are removed.
    """
    found: list[Path] = []
    for path in sorted(socket_folder().iterdir()):
        name = _NAME.fullmatch(path.name)
        if name is None or (pid is not None and int(name[1]) != pid):
            continue
        if _accepts(path):
            found.append(path)
        elif not _exists(int(name[1])):
            path.unlink(missing_ok=True)
    return found


def connect(path: Path, timeout: float = ANSWER_TIMEOUT) -> socket.socket:
    """
    Return a connection to an app; each operation on it takes at most *timeout* seconds.

    Raises:
        AppDoesNotAnswer: If it takes no connection in that time.
        OSError: If no app listens there.
    """
    deadline = time.monotonic() + timeout
    while True:
        try:
            return connect_nowait(path, timeout)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise AppDoesNotAnswer(path) from None
        time.sleep(RETRY_DELAY)


def connect_nowait(path: Path, timeout: float = ANSWER_TIMEOUT) -> socket.socket:
    """
    Return a connection to an app, without waiting; *timeout* is for its operations.

    Raises:
        BlockingIOError: If too many clients wait for the app.
        OSError: If no app listens there.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(timeout)
        with address_of(path) as address:
            connection.connect(address)
    except BaseException:
        connection.close()
        raise
    return connection


@contextlib.contextmanager
def address_of(path: Path) -> Generator[str]:
    """Give an address that the kernel accepts for a socket's path of any length."""
    if len(os.fsencode(path)) <= SYSTEM.max_socket_path:
        yield str(path)
        return
    with SYSTEM.short_path(path.parent) as folder:
        yield f"{folder}/{path.name}"


def _accepts(path: Path) -> bool:
    try:
        connect_nowait(path).close()
    except BlockingIOError:
        return True  # clients wait already
    except OSError:
        return False
    return True


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
