"""
The cgroup of one manager, beneath which each contained incarnation has one of its own.

It is made beneath the cgroup of the app, or beside it where systemd has delegated the
parent to the app (``Delegate=yes`` with ``DelegateSubgroup=``).
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
import re
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

from realtalk_async.exceptions import ContainmentUnavailable
from realtalk_async.operating_system import SYSTEM
from realtalk_async.supervision.kernel.cgroups.cgroup import (
    Cgroup,
    read_text,
    write_text,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from realtalk_async.supervision.kernel.spawning.limits import Limits

PROC = Path("/proc")

NAME_PREFIX = "realtalk-async-"

CONTROLLERS = {"memory": "memory", "pids": "processes"}
"""The controllers that are used, with the limit that each one enforces."""

KILL_TIMEOUT = 2.0
"""Seconds in which killed members must end; longer only in the kernel."""

MAX_NAME = 40
"""Characters of a process's name in the name of its cgroup."""

HOW_TO = (
    "run the app as root, or as a systemd service or scope with Delegate=yes, or with "
    "/sys/fs/cgroup writable in its container; or leave containment='group'"
)


def find_own_cgroup() -> str:
    """
    Return the folder of the app's own cgroup.

    Raises:
        ContainmentUnavailable: If no cgroup v2 is mounted, or the app is outside of it.
    """
    entries = read_text(str(PROC / "self" / "cgroup")).splitlines()
    own = next((one[3:] for one in entries if one.startswith("0::")), "")
    for mount, root in _find_mounts():
        below = os.path.relpath(own or "/", root)
        # A cgroup outside of the namespace begins with "/..".
        if own and not own.startswith("/..") and not below.startswith(".."):
            return os.path.normpath(os.path.join(mount, below))
    why = OSError(errno.ENOENT, "no mount of cgroup2 holds the cgroup of the app")
    raise ContainmentUnavailable("/sys/fs/cgroup", why, HOW_TO)


def _find_mounts() -> list[tuple[str, str]]:
    """Return the mounts of cgroup v2, each with the cgroup that is its root."""
    found: list[tuple[str, str]] = []
    for line in read_text(str(PROC / "self" / "mountinfo")).splitlines():
        fields, _, rest = line.partition(" - ")
        if rest.split(" ")[0] == "cgroup2":
            _, _, _, root, point, *_ = fields.split(" ")
            found.append((_unescape(point), _unescape(root)))
    return found


def _unescape(path: str) -> str:
    r"""Return a path of mountinfo, which has ``\040`` for a space."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), path)


def find_parent(own: str) -> str:
    """Return the folder in which a cgroup is made: *own*, or a delegated parent of it."""
    above = os.path.dirname(own)
    is_free = not read_text(os.path.join(above, "cgroup.procs"))
    return above if is_free and _is_delegated(above) else own


def _is_delegated(path: str) -> bool:
    """Return whether systemd has delegated a cgroup, see its ``CGROUP_DELEGATION.md``."""
    for name in ("user.delegate", "trusted.delegate"):
        try:
            if SYSTEM.file_attribute(path, name) == b"1":
                return True
        except OSError:
            continue
    return False


class ManagerCgroup:
    """
    The cgroup of one manager.

    Args:
        announce: Called with its path before it exists: the guard removes it if the app
            is killed.

    Raises:
        ContainmentUnavailable: If it cannot be made; nothing was changed.
    """

    def __init__(self, announce: Callable[[str], object]) -> None:
        own = find_own_cgroup()
        self._parent = find_parent(own)
        name = f"{NAME_PREFIX}{os.getpid()}-{os.urandom(4).hex()}"
        self.cgroup = Cgroup(os.path.join(self._parent, name))
        self._numbers = itertools.count(1)
        announce(self.cgroup.path)
        try:
            os.mkdir(self.cgroup.path)
            # The kernel asks for this to move a process between two cgroups.
            if not os.access(os.path.join(own, "cgroup.procs"), os.W_OK):
                os.rmdir(self.cgroup.path)
                raise PermissionError(errno.EACCES, "the app may not leave its cgroup")
        except OSError as error:
            raise ContainmentUnavailable(self._parent, error, HOW_TO) from error
        self.controllers, self.missing = self._enable_controllers()

    @property
    def path(self) -> str:
        """The path of its folder."""
        return self.cgroup.path

    def _enable_controllers(self) -> tuple[tuple[str, ...], str]:
        """Return the controllers that its children have, and why others are missing."""
        found, why = list[str](), ""
        for name in CONTROLLERS:
            try:
                for folder in (self._parent, self.path):
                    _enable(folder, name)
            except OSError as error:
                why = why or _explain(error, self._parent)
            else:
                found.append(name)
        return tuple(found), why

    def make(self, name: str, limits: Limits | None) -> Cgroup:
        """
        Make the cgroup of one incarnation, with its limits.

        Raises:
            OSError: If the kernel refuses; nothing is left then.
        """
        safe = re.sub(r"[^A-Za-z0-9_-]", "_", name)[:MAX_NAME]
        path = os.path.join(self.path, f"{safe}-{next(self._numbers)}")
        enforced = frozenset(CONTROLLERS[one] for one in self.controllers)
        made = Cgroup(path, enforced)
        os.mkdir(path)
        try:
            made.set_limits(limits)
        except OSError:
            made.remove()
            raise
        return made

    async def aclose(self) -> bool:
        """Kill what is left in it, and remove it; return whether it is gone."""
        deadline = time.monotonic() + KILL_TIMEOUT
        while not self._try_remove():
            if time.monotonic() >= deadline:
                return False
            await asyncio.sleep(0.005)
        return True

    def close_now(self, seconds: float = 0.5) -> None:
        """Kill what is left in it, and remove it, without the loop."""
        deadline = time.monotonic() + seconds
        while not self._try_remove() and time.monotonic() < deadline:
            time.sleep(0.001)

    def _try_remove(self) -> bool:
        if not self.cgroup.is_empty():
            self.cgroup.send_signal(signal.SIGKILL)
            return False
        return self.cgroup.remove()


def _enable(folder: str, controller: str) -> None:
    """
    Give the children of a cgroup a controller.

    Raises:
        OSError: If it has none of that name, or may not.
    """
    if controller in read_text(os.path.join(folder, "cgroup.subtree_control")).split():
        return
    if controller not in read_text(os.path.join(folder, "cgroup.controllers")).split():
        raise FileNotFoundError(errno.ENOENT, "not available", folder)
    write_text(os.path.join(folder, "cgroup.subtree_control"), f"+{controller}")


def _explain(error: OSError, parent: str) -> str:
    if error.errno == errno.EBUSY:
        return (
            f"{parent} holds processes itself, so it cannot pass them on: with systemd, "
            f"DelegateSubgroup= moves the app into a cgroup beneath"
        )
    if error.errno == errno.ENOENT:
        return f"{parent} does not have them"
    return f"{parent}: {error.strerror}"
