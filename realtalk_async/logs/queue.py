"""
`LogQueue`: the lines that wait for the disk; `flush` appends them with one write.

Every log call appends to this queue; `writer` flushes it. This module handles threads,
forks, the limit of memory, lines in shared memory, and the interpreter's exit.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import math
import os
import sys
import threading
import time
import weakref
from typing import TYPE_CHECKING, Protocol

from realtalk_async.logs import spool
from realtalk_async.logs.append_file import (
    LOCK_TIMEOUT,
    NOTICE_INTERVAL,
    AppendFile,
    Rotation,
)
from realtalk_async.logs.output.drops import DropCounts, empty_excess

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from _typeshed import ReadableBuffer

MAX_BATCH = 16_384
"""Lines of one write."""

CLOSE_TIMEOUT = 5.0
"""Seconds to wait for a disk that stalls, before closing or reading the log."""

RECOVERY_INTERVAL = 1.0
"""Seconds between two searches for the lines of killed processes."""


class FormatNotice(Protocol):
    """Formats an entry about the log itself."""

    def __call__(self, message: str, context: Mapping[str, object]) -> bytes:
        """Return a WARNING as a line, newline included."""
        ...


class LogQueue(io.BufferedIOBase):
    """
    The lines that wait for one file, which other threads and processes write to as well.

    `append` takes a whole line, newline included, from any thread, without waiting.
    `flush` writes all waiting lines in the order of arrival, with one lock and one
    write. Lines that cannot be written stay, in order, for the next `flush`.

    It is a buffered stream so that aiofiles can run `flush` in a thread.
    """

    def __init__(
        self, path: Path, format_notice: FormatNotice, rotation: Rotation | None = None
    ) -> None:
        """
        Create an empty queue; no file is opened.

        Args:
            path: The file. It is created if it does not exist, and created again, with
                its folder, if it was removed or renamed later.
            format_notice: Formats the entries that the queue adds itself: lines were
                dropped, the file was removed.
            rotation: When to begin a new file; never if `None`.
        """
        self.path = path
        self.lines: list[bytes] = []
        """The waiting lines. Any thread appends; only a holder of the mutex removes."""
        self.append: Callable[[bytes], None] = self.lines.append
        self.error: OSError | None = None
        """The error of the last `flush`; `None` if it succeeded."""
        self.written = 0
        """Number of lines written."""
        self.dropped = 0
        """Number of lines dropped."""
        self._removed = 0
        self.after_fork: Callable[[], None] | None = None
        """Called in a forked child, after the queue has discarded the parent's lines."""
        self._format_notice = format_notice
        self._unreported_drops = DropCounts()
        self._notices: list[bytes] = []
        self._notice_times: dict[str, float] = {}
        self._failing_since: float | None = None
        self._file = AppendFile(path, rotation)
        self._spool: spool.Spool | None = None
        self._use_spool = False
        self._next_recovery = 0.0
        self._create_locks()
        _queues.add(self)

    def _create_locks(self) -> None:
        # The mutex guards the list, for microseconds. The flush lock is held during a
        # batch, so that batches keep their order; it is reentrant because a signal
        # handler may log while its own thread writes.
        self._mutex = threading.Lock()
        self._flush_lock = threading.RLock()
        self._flushing_thread = 0

    # The interface of io.BufferedIOBase

    def write(self, line: ReadableBuffer, /) -> int:
        """Take one whole line, newline included; `append` does the same, faster."""
        data = bytes(line)
        self.append(data)
        return len(data)

    def flush(self) -> None:
        """
        Write all waiting lines.

        A call from within `flush` (by a signal handler or a finaliser that logs) does
        nothing, because the outer call writes the new lines as well.

        Raises:
            OSError: If some lines could not be written; they still wait.
        """
        if self._flushing_thread != threading.get_ident():
            with self._flush_lock:
                self._write_all()

    def close(self) -> None:
        """Write the waiting lines, if possible, and close the file."""
        if not self.closed:
            self.stop_spool()
            # No recovery: the garbage collector may call this at any point.
            self._next_recovery = math.inf
            self.try_flush(LOCK_TIMEOUT)
            self._file.close()
            super().close()

    # For the writer and the logger

    def try_flush(self, timeout: float) -> bool:
        """
        Write all waiting lines, unless another thread does so for *timeout* seconds.

        Returns:
            Whether all lines were written.
        """
        if self._flushing_thread == threading.get_ident():
            return False
        if not self._flush_lock.acquire(timeout=timeout):
            return False
        try:
            self._write_all()
        except OSError:
            return False
        finally:
            self._flush_lock.release()
        return True

    def check(self) -> None:
        """
        Check that the file can be written; create it if it does not exist.

        Raises:
            LogUnavailable: If it cannot be written.
        """
        self._file.target.check()

    def check_readable(self) -> None:
        """
        Check that lines can be read again once they are written.

        Raises:
            LogUnreadable: If the log goes to a pipe, a terminal, a socket or a device.
        """
        self._file.target.check_readable()

    @property
    def keep_open(self) -> bool:
        """Whether the file stays open between two writes, and a reader is waited for."""
        return self._file.target.patient

    @keep_open.setter
    def keep_open(self, keep_open: bool) -> None:
        self._file.target.patient = keep_open

    @property
    def is_flushing(self) -> bool:
        """Whether a thread is writing."""
        return self._flushing_thread != 0

    def pending_bytes(self) -> int:
        """Return how many bytes wait; approximate while other threads append."""
        return sum(map(len, self.lines))

    def appended(self) -> int:
        """Return how many lines were appended so far, except the spool's newest lines."""
        # With a timeout: a signal handler may have interrupted the holder of the mutex.
        locked = self._mutex.acquire(timeout=0.01)
        try:
            return self._removed + len(self.lines)
        finally:
            if locked:
                self._mutex.release()

    def drop_excess(self, limit: int, before_level: bytes) -> bool:
        """
        Drop lines until at most *limit* bytes wait.

        INFO goes first and ERROR last; within one level, the newest lines go first. The
        next write that succeeds reports the number of dropped lines.

        Args:
            limit: Bytes that may wait.
            before_level: The text between the time and the level of a line.

        Returns:
            Whether lines were dropped.
        """
        # Without waiting: a signal handler may have interrupted the holder of the mutex.
        if not self._mutex.acquire(blocking=False):
            return False
        try:
            lines = self.lines[:]
            dropped = empty_excess(lines, limit, before_level)
            # Other threads may have appended: replace only the lines of the copy.
            self.lines[: len(lines)] = filter(None, lines)
            self._removed += len(dropped)
            self._count_drops(dropped)
        finally:
            self._mutex.release()
        return bool(dropped)

    def start_spool(self, on_full: Callable[[], object]) -> None:
        """
        Keep waiting lines in shared memory from now on, where they survive SIGKILL.

        Without shared memory, or room in it, lines wait in this list as before, and an
        entry in the log says so.

        Args:
            on_full: Called by `append` after each line for which the spool has no room.
        """
        self._use_spool = True
        if self._spool is None:
            try:
                self._spool = spool.create(self.path, self.lines, on_full)
            except OSError as error:
                why = f"no spool, so that SIGKILL may lose lines: {error.strerror}"
                self.add_notice("spool", why)
                return
        self._spool.reopen()
        self.append = self._spool.append

    def stop_spool(self) -> None:
        """Keep waiting lines in the list again; the spool is removed once it is empty."""
        self._use_spool = False
        if self._spool is not None:
            self._spool.seal()
            self.append = self.lines.append

    def request_recovery(self) -> None:
        """Make the next flush append the lines of killed processes."""
        self._next_recovery = 0.0

    def catch_up(self) -> None:
        """Write all waiting lines and the lines of killed processes."""
        self.request_recovery()
        self.try_flush(CLOSE_TIMEOUT)

    def reset_after_fork(self) -> None:
        """Discard the waiting lines in a forked child: the parent writes them."""
        self._create_locks()
        self.append = self.lines.append
        if self._spool is not None:
            self._spool.close()
            self._spool = None
        self.lines.clear()
        self._notices.clear()
        self._unreported_drops = DropCounts()
        self.keep_open = False
        # An inherited descriptor shares its lock with the parent's.
        self._file.close()
        if self.after_fork is not None:
            self.after_fork()

    def write_at_exit(self) -> None:
        """Write the waiting lines at the interpreter's exit, or report their loss."""
        self._file.target.limit_stall(LOCK_TIMEOUT)
        # A daemon thread may have been frozen while it held the lock.
        if not self.try_flush(LOCK_TIMEOUT) and self.lines:
            with contextlib.suppress(OSError):
                self._write_all()
        if self.lines:
            _print_error(
                f"{len(self.lines)} lines of the log {str(self.path)!r} are lost"
            )

    # One batch; the flush lock is held

    def _write_all(self) -> None:
        self._flushing_thread = threading.get_ident()
        try:
            if time.monotonic() >= self._next_recovery:
                self._find_killed()
            while self._write_batch():
                pass
            self._remove_stopped_spool()
        except OSError as error:
            self._on_failure(error)
            raise
        finally:
            self._flushing_thread = 0
            if not self.keep_open:
                self._file.close()

    def _write_batch(self) -> bool:
        """Write the lines that have waited longest; return whether more may wait."""
        # Lines go to the list from the moment the spool is full until it is reopened.
        # So all lines of the list are newer than those of the spool, if the spool was
        # full before it was found empty.
        may_take_lines = self._spool is None or self._spool.full
        if self._spool is not None and (data := self._spool.take()):
            self._write_spooled(data, self._spool)
            return True
        return self._write_lines(MAX_BATCH if may_take_lines else 0)

    def _write_spooled(self, data: bytes, journal: spool.Spool) -> None:
        try:
            self._write(data, journal)
        finally:
            done = data.count(b"\n", 0, self._file.done)
            self.written += done
            self._removed += done

    def _write_lines(self, limit: int) -> bool:
        with self._mutex:
            batch = self.lines[:limit]
            del self.lines[: len(batch)]
            self._removed += len(batch)
            drops, self._unreported_drops = self._unreported_drops, DropCounts()
        batch[0:0] = self._take_notices(drops)
        data = b"".join(batch)
        try:
            if data:
                self._write(data)
        except BaseException:
            done = data.count(b"\n", 0, self._file.done)
            self.written += done
            with self._mutex:
                self.lines[0:0] = batch[done:]
                self._removed -= len(batch) - done
            raise
        self.written += len(batch)
        if self._spool is not None and self._use_spool:
            self._spool.reopen()
        return bool(data or self.lines)

    def _write(self, data: bytes, journal: spool.Spool | None = None) -> None:
        self._file.done = 0
        with self._file.locked(self):
            self._file.put(data, journal)
        self._on_success()

    # Shared memory

    def _find_killed(self) -> None:
        self._next_recovery = time.monotonic() + RECOVERY_INTERVAL
        own = None if self._spool is None else self._spool.path
        if any(name != own for name in spool.names(self.path)):
            with self._file.locked(self):
                if self._file.exclusive:
                    self.recover()

    def recover(self) -> None:
        """Append the lines of killed processes; the file is locked."""
        for left in spool.abandoned(self.path):
            with left:
                lines = self._append_spool(left)
                left.unlink()
                if lines:
                    context = {"process": left.owner, "lines": lines}
                    message = "lines of a killed process were recovered"
                    self._notices.append(self._format_notice(message, context))

    def _append_spool(self, left: spool.Spool) -> int:
        lines = 0
        left.ended(self._file.find(left.piece, left.take()))
        while data := left.take():
            self._file.put(data, left)
            lines += data.count(b"\n")
        return lines

    def _remove_stopped_spool(self) -> None:
        if self._spool is not None and not self._use_spool:
            self._spool.unlink()
            self._spool.close()
            self._spool = None

    # Entries about the log itself

    def add_notice(self, kind: str, message: str, **context: object) -> None:
        """Add an entry about the log itself, at most once a minute for each *kind*."""
        if self._is_due(kind):
            context["path"] = str(self.path)
            self._notices.append(self._format_notice(message, context))

    def _count_drops(self, levels: list[bytes]) -> None:
        for level in levels:
            self._unreported_drops.count(level.decode())
        self.dropped += len(levels)
        error = self.error
        reason = str(error.strerror) if error else "the disk is too slow"
        self._unreported_drops.reason = reason

    def _take_notices(self, drops: DropCounts) -> list[bytes]:
        notices, self._notices = self._notices, []
        if drops.by_level:
            message = f"{drops.lines} lines were dropped: {drops.reason}"
            notices.append(self._format_notice(message, dict(drops.by_level)))
        return notices

    def _on_failure(self, error: OSError) -> None:
        self.error = error
        if self._failing_since is None:
            self._failing_since = time.monotonic()
        if self._is_due("failure"):
            waiting = len(self.lines)
            if self._spool is not None:
                waiting += self._spool.take().count(b"\n")
            _print_error(
                f"cannot write the log {str(self.path)!r}: {error.strerror}; "
                f"{waiting} lines wait"
            )

    def _on_success(self) -> None:
        since, self._failing_since = self._failing_since, None
        if since is None or self.error is None:
            return
        seconds = round(time.monotonic() - since, 3)
        why = f"the log could not be written for a while: {self.error.strerror}"
        self.add_notice("recovery", why, seconds=seconds)
        self.error = None

    def _is_due(self, kind: str) -> bool:
        now = time.monotonic()
        last = self._notice_times.get(kind, -NOTICE_INTERVAL)
        is_due = now - last >= NOTICE_INTERVAL
        if is_due:
            self._notice_times[kind] = now
        return is_due


def _print_error(text: str) -> None:
    """Print to standard error, the last resort when the log cannot be written."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(f"realtalk_async: {text}\n")


_queues: weakref.WeakSet[LogQueue] = weakref.WeakSet()


def paths() -> set[Path]:
    """Return the files of all logs of this process."""
    return {queue.path for queue in list(_queues)}


def _write_all_at_exit() -> None:
    for queue in list(_queues):
        queue.write_at_exit()


def _reset_all_after_fork() -> None:
    for queue in list(_queues):
        queue.reset_after_fork()


atexit.register(_write_all_at_exit)
os.register_at_fork(after_in_child=_reset_all_after_fork)
