"""
No orphan, however the app ends: our side of the guard process. An edge.

The guard knows the tag that our children carry in their environment before the first of
them exists, so there is no moment in which killing the app leaves one behind.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from realtalk_async.supervision.kernel import process_groups
from realtalk_async.supervision.kernel.child_process import Child
from realtalk_async.supervision.kernel.spawn import launch_guard, new_tag

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_REPLACED = 10
"""Something kills every guard: going on would be a fork bomb in slow motion."""


class Guard:
    """
    A process that ends our children when we cannot.

    Args:
        on_lost: Called in the loop if the guard itself died; it has been replaced then.
    """

    def __init__(self, on_lost: Callable[[str], None]) -> None:
        self.tag = new_tag()
        """``NAME=value``, as it stands in a child's environment."""
        self._on_lost = on_lost
        self._told: set[int] = set()
        self._child: Child | None = None
        self._pipe = -1
        self._replaced = 0

    @property
    def pid(self) -> int | None:
        """The guard's own pid."""
        return self._child.pid if self._child else None

    @property
    def environment(self) -> dict[str, str]:
        """What a child's environment needs for the guard to know it."""
        name, _, value = self.tag.partition("=")
        return {name: value}

    def start(self) -> None:
        """
        Start the guard: about a millisecond; it need not be ready for what follows.

        Raises:
            OSError: If it cannot be started.
        """
        guarding = launch_guard(self.tag)
        self._pipe = guarding.pipe
        try:
            self._child = Child(guarding.launched, self._exited)
        except OSError:
            os.close(self._pipe)
            self._pipe = -1
            raise
        for pid in self._told:
            self._say(f"+{pid}")

    def add(self, pid: int) -> None:
        """
        Tell of a session leader, or of a process that does not carry our tag.

        The guard looks by itself when that process has begun, so that its number is not
        mistaken for another's later: ``/proc`` would let us wait until it has become a
        program.
        """
        self._told.add(pid)
        self._say(f"+{pid}")

    def discard(self, pid: int) -> None:
        """Tell that a process and all of its group are gone."""
        if pid in self._told:
            self._told.remove(pid)
            self._say(f"-{pid}")

    def _say(self, line: str) -> None:
        # A guard that is dead is replaced and told anew; one that does not read for 64 KiB
        # of lines still knows our children by their tag.
        if self._pipe < 0:
            return  # dismissed: what is ended now was told to nobody
        if self._pipe >= 0:
            with contextlib.suppress(BrokenPipeError, BlockingIOError):
                os.write(self._pipe, line.encode() + b"\n")

    def _exited(self, child: Child) -> None:
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
            self._say("bye")
            os.close(self._pipe)
            self._pipe = -1
        if self._child is not None:
            await self._child.exited

    def kill_now(self) -> None:
        """Be rid of the guard, and of all it guards, without waiting for the loop."""
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1
        process_groups.end_all(self.tag, 0.5)
        if self._child is not None:
            self._child.kill_now()
