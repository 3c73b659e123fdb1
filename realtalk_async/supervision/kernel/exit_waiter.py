"""
One thread that notices the exits of all children, where no descriptor tells of them.

It blocks until any child of this process has exited, and reads no status: that is done by
the loop of the child's owner. A zombie that belongs to other code would end each wait at
once, so the thread rests between its looks until that code has read the status.
"""

from __future__ import annotations

import threading
import time
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
        self._lock = threading.Lock()
        self._waiting: dict[int, Callable[[], object]] = {}
        self._told: set[int] = set()
        self._thread: threading.Thread | None = None

    def add(self, pid: int, on_exit: Callable[[], object]) -> None:
        """
        Call *on_exit* once the child with that pid has exited.

        Raises:
            RuntimeError: If no thread can be started.
        """
        with self._lock:
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
        with self._lock:
            self._waiting.pop(pid, None)

    def _run(self) -> None:
        while self._has_work():
            try:
                SYSTEM.wait_for_any_exit()
            except ChildProcessError:  # other code has read all statuses
                self._tell_all()
            else:
                self._tell_exited()

    def _has_work(self) -> bool:
        with self._lock:
            if not self._waiting:
                self._thread = None
            return self._thread is not None

    def _tell_exited(self) -> None:
        with self._lock:
            left = [pid for pid in self._waiting if pid not in self._told]
        found = [pid for pid in left if SYSTEM.has_exited(pid)]
        if found:
            self._tell(found)
        else:
            time.sleep(PAUSE)

    def _tell_all(self) -> None:
        with self._lock:
            left = list(self._waiting)
        self._tell(left)
        time.sleep(PAUSE)

    def _tell(self, pids: list[int]) -> None:
        with self._lock:
            callbacks = [self._waiting[pid] for pid in pids if pid in self._waiting]
            self._told.update(pids)
        for callback in callbacks:
            callback()


exit_waiter = ExitWaiter()
"""That of this process."""
