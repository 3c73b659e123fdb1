"""
The guard: a process that ends the app's children if the app is killed with SIGKILL.

`Guard` is the app's side; `guard_process.py` is the program. Each child carries a tag in
its environment, and the guard knows the tag before the first child exists: at no moment
can a killed app leave a child behind.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from typing import TYPE_CHECKING

from realtalk_async.supervision.kernel import process_groups
from realtalk_async.supervision.kernel.child_process import ChildProcess
from realtalk_async.supervision.kernel.spawn import spawn_process

if TYPE_CHECKING:
    from collections.abc import Callable

    from realtalk_async.supervision.kernel.spawn import NewProcess

TAG_VARIABLE = "REALTALK_ASYNC_TAG"
"""The environment variable that marks a child and all its descendants as the app's."""

GUARD_PROCESS = os.path.join(os.path.dirname(__file__), "guard_process.py")

MOST_REPLACED = 10
"""Replacements of a guard that was killed; without a bound they would never end."""


class Guard:
    """
    A process that ends the children of this app when the app cannot.

    Args:
        on_lost: Called in the loop, with the reason, when the guard has died; it has been
            replaced then, if possible.
    """

    def __init__(self, on_lost: Callable[[str], None]) -> None:
        self.tag = f"{TAG_VARIABLE}={os.urandom(16).hex()}"
        """``NAME=value`` as in a child's environment; no other app has the same."""
        self._on_lost = on_lost
        self._reported: set[int] = set()
        self._child: ChildProcess | None = None
        self._pipe = -1
        self._replaced = 0

    @property
    def pid(self) -> int | None:
        """The guard's own pid."""
        return self._child.pid if self._child else None

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which the guard recognises a child."""
        name, _, value = self.tag.partition("=")
        return {name: value}

    def start(self) -> None:
        """
        Start the guard in about a millisecond; children may be started before it is ready.

        Raises:
            OSError: If it cannot be started.
        """
        new, self._pipe = _spawn_guard(self.tag)
        try:
            self._child = ChildProcess(new, self._on_exit)
        except OSError:
            os.close(self._pipe)
            self._pipe = -1
            raise
        for pid in self._reported:
            self._send(f"+{pid}")

    def add(self, pid: int) -> None:
        """
        Report a session leader, or a process that does not carry the tag.

        The guard itself reads the start time of the process, so that it never mistakes
        another process with the same pid for it. The app does not read it: ``/proc``
        would make the app wait until the fork has become a program.
        """
        self._reported.add(pid)
        self._send(f"+{pid}")

    def discard(self, pid: int) -> None:
        """Report that a process and its whole group are gone."""
        if pid in self._reported:
            self._reported.remove(pid)
            self._send(f"-{pid}")

    def _send(self, line: str) -> None:
        if self._pipe < 0:
            return  # dismissed, or not replaced
        # A dead guard is replaced and gets all reports again. A guard that has not read
        # 64 KiB of lines still recognises the children by their tag.
        with contextlib.suppress(BrokenPipeError, BlockingIOError):
            os.write(self._pipe, line.encode() + b"\n")

    def _on_exit(self, child: ChildProcess) -> None:
        if self._pipe < 0:
            return  # dismissed
        os.close(self._pipe)
        self._pipe = -1
        self._replaced += 1
        how = f"pid {child.pid} ended with status {child.exit_status}"
        self._on_lost(how + self._replace())

    def _replace(self) -> str:
        if self._replaced > MOST_REPLACED:
            return f" for the {self._replaced}th time; children are unguarded now"
        try:
            self.start()
        except OSError as exc:
            return f"; it could not be replaced: {exc}; children are unguarded now"
        return f"; replaced by pid {self.pid}"

    async def aclose(self) -> None:
        """Dismiss the guard and wait for its end. Idempotent."""
        if self._pipe >= 0:
            self._send("dismiss")
            os.close(self._pipe)
            self._pipe = -1
        if self._child is not None:
            await self._child.exited

    def kill_now(self) -> None:
        """Kill all children and the guard, without waiting for the loop."""
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1
        process_groups.kill_tagged(self.tag, 0.5)
        if self._child is not None:
            self._child.kill_now()


def _spawn_guard(tag: str) -> tuple[NewProcess, int]:
    """
    Start a guard process.

    Returns:
        The process, and the write end of its stdin: the guard does nothing while it is
        open.

    Raises:
        OSError: If it cannot be started.
    """
    reading, writing = os.pipe()
    try:
        os.set_blocking(writing, False)
        new = spawn_process(
            [sys.executable, "-I", "-S", GUARD_PROCESS, tag, str(os.getpid())],
            env=_bare_environment(),
            cwd="/",
            stdin=reading,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    except BaseException:
        os.close(writing)
        raise
    finally:
        os.close(reading)
    return new, writing


def _bare_environment() -> dict[str, str]:
    """
    Return the variables that an interpreter needs to start, and no others.

    If this app is itself a child of a supervised app, it carries that app's tag. Its
    guard must not: the guard has to outlive both.
    """
    wanted = {"PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"}
    return {name: value for name, value in os.environ.items() if name in wanted}
