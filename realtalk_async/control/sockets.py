"""
Where the sockets of running apps are: one private folder a user. An edge.

That is ``$XDG_RUNTIME_DIR/realtalk-async``, or ``realtalk-async-UID`` among the temporary
files. It belongs to the user and nobody else can enter it (0700).
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from realtalk_async.exceptions import RealtalkError

if TYPE_CHECKING:
    from collections.abc import Generator

LONGEST = 100
"""Bytes of a socket's path: the kernel takes 107."""

_NAME = re.compile(r"(\d+)(?:-\d+)?\.sock")


class ControlUnavailable(RealtalkError):
    """The window into an app cannot be opened, or not be looked through."""


def folder() -> Path:
    """
    Return the private folder; it is made if it is not there.

    Raises:
        ControlUnavailable: If it cannot be made, or is not the user's own.
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
    _must_be_private(path, found)
    return path


def _must_be_private(path: Path, found: os.stat_result) -> None:
    # Somebody else may have made it before us, among the temporary files: a trap.
    is_ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
    if not is_ours or found.st_mode & 0o077:
        raise ControlUnavailable(
            f"{path} must be a folder of yours that nobody else may enter (chmod 700): "
            f"move away what is there"
        )


def new_door() -> Path:
    """Return a path in the private folder that nothing has yet, named for this process."""
    place, number = folder(), 1
    path = place / f"{os.getpid()}.sock"
    while path.exists():
        number += 1
        path = place / f"{os.getpid()}-{number}.sock"
    return path


@contextlib.contextmanager
def address(path: Path) -> Generator[str]:
    """Give an address for a socket's path, however long that is."""
    if len(os.fsencode(path)) <= LONGEST:
        yield str(path)
        return
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/{path.name}"
    finally:
        os.close(descriptor)


def doors() -> list[Path]:
    """Return the sockets of all apps that run; what dead ones have left is removed."""
    found: list[Path] = []
    for path in sorted(folder().iterdir()):
        name = _NAME.fullmatch(path.name)
        if name is None:
            continue
        if _answers(path):
            found.append(path)
        elif not _lives(int(name[1])):
            path.unlink(missing_ok=True)
    return found


def connect(path: Path) -> socket.socket:
    """Return a connection to an app. Raises OSError if nobody is there."""
    one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with address(path) as where:
            one.connect(where)
    except BaseException:
        one.close()
        raise
    return one


def _answers(path: Path) -> bool:
    try:
        connect(path).close()
    except OSError:
        return False
    return True


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
