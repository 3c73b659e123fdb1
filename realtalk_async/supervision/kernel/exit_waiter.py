"""
One thread that notices the exits of all children, where no descriptor tells of them.

It blocks until any child of this process has exited, and reads no status: the loop of the
child's owner does that, and not before the thread has told it. So the thread never blocks
for a child whose status was read. A zombie that belongs to other code would end each wait
at once; then the thread looks from time to time.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from realtalk_async.operating_system import SYSTEM

if TYPE_CHECKING:
    from collections.abc import Callable

THREAD_NAME = "realtalk-async waits for children"

PAUSE = 0.005
"""Seconds between two looks while an exit is noticed already, but its status not yet read."""


class ExitWaiter:
    """Calls a function in its thread when a child has exited; the thread ends with the last."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: dict[int, Callable[[], object]] = {}
        self._told: set[int] = set()
        """Those of them whose exit was told, and whose status is not read yet."""
        self._thread: threading.Thread | None = None

    def add(self, pid: int, on_exit: Callable[[], object]) -> None:
        """
        Call *on_exit* once the child with that pid has exited.

        Raises:
            RuntimeError: If no thread can be started.
        """
        with self._changed:
            self._waiting[pid] = on_exit
            self._told.discard(pid)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name=THREAD_NAME, daemon=True
                )
                try:
                    self._thread.start()
                except RuntimeError:
                    self._thread = None
                    del self._waiting[pid]
                    raise

    def discard(self, pid: int) -> None:
        """Forget a child whose exit status was read."""
        with self._changed:
            self._waiting.pop(pid, None)
            self._told.discard(pid)
            self._changed.notify_all()

    def _run(self) -> None:
        while self._has_work():
            try:
                if not self._told:
                    SYSTEM.wait_for_any_exit()
            except ChildProcessError:  # other code has read all statuses
                exited = self._untold()
            else:
                exited = [pid for pid in self._untold() if SYSTEM.has_exited(pid)]
            self._tell(exited)
            with self._changed:
                if self._told:
                    self._changed.wait_for(lambda: not self._told, PAUSE)
                elif not exited:  # it is a zombie of other code
                    self._changed.wait(PAUSE)

    def _has_work(self) -> bool:
        with self._changed:
            if not self._waiting:
                self._thread = None
            return self._thread is not None

    def _untold(self) -> list[int]:
        with self._changed:
            return [pid for pid in self._waiting if pid not in self._told]

    def _tell(self, pids: list[int]) -> None:
        with self._changed:
            callbacks = [self._waiting[pid] for pid in pids if pid in self._waiting]
            self._told.update(self._waiting.keys() & pids)
        for callback in callbacks:
            callback()


exit_waiter = ExitWaiter()
"""That of this process."""
