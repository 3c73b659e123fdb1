"""
Lines on their way to the log's file: what waits, what is dropped, one write for many.

An edge: it knows threads, forks and the interpreter's exit, but neither tasks nor entries.
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
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from realtalk_async.logs import spool
from realtalk_async.logs.append_file import (
    COMPLAINT_EVERY,
    LOCK_PATIENCE,
    Appender,
    Rotation,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from _typeshed import ReadableBuffer

BATCH = 16_384
"""Lines of one write; a write is never larger than this, but for long lines."""

CLOSING = 5.0
"""Seconds that closing waits for a disk that stalls."""

LOOK_EVERY = 1.0
"""Seconds between two looks for what killed processes have left in shared memory."""


class Announce(Protocol):
    """What makes a line out of what the file itself has to say."""

    def __call__(self, message: str, context: Mapping[str, object]) -> bytes:
        """Return a WARNING as a line, newline included."""
        ...


@dataclass(slots=True)
class Losses:
    """What was dropped since it was last said in the log."""

    reason: str = ""
    by_level: dict[str, int] = field(default_factory=dict[str, int])

    def count(self, level: str) -> None:
        """Count one line of *level*."""
        self.by_level[level] = self.by_level.get(level, 0) + 1

    @property
    def lines(self) -> int:
        """How many lines were dropped."""
        return sum(self.by_level.values())


class LogFile(io.BufferedIOBase):
    """
    Lines on their way to one file, shared with other threads and processes.

    `append` takes a whole line, newline included, from any thread, and waits for
    nothing. `flush` writes all that waits, in the order of arrival: one lock, one
    write. What cannot be written stays, in order, for the next `flush`.

    It is a buffered stream so that aiofiles can run its `flush` in a thread.
    """

    def __init__(
        self, path: Path, announce: Announce, rotation: Rotation | None = None
    ) -> None:
        """
        Take note of the path; nothing is opened.

        Args:
            path: The file. It is made if it does not exist, and made again, its
                folder too, if it was removed or renamed later on.
            announce: Makes the lines that the file itself adds: lines were dropped,
                the file had vanished.
            rotation: When to begin a new file; never if `None`.
        """
        self.path = path
        self.lines: list[bytes] = []
        """What waits. Appended to by anyone; taken from only under the mutex."""
        self.append: Callable[[bytes], None] = self.lines.append
        self.error: OSError | None = None
        """Why the last `flush` failed; `None` if it did not."""
        self.written = 0
        """Lines written."""
        self.dropped = 0
        """Lines given up."""
        self._taken = 0
        self.keep_open = False
        """Whether the descriptor stays open between two writes."""
        self.after_fork: Callable[[], None] | None = None
        """Called in a forked child, once this file has forgotten the parent's lines."""
        self._announce = announce
        self._losses = Losses()
        self._news: list[bytes] = []
        self._said: dict[str, float] = {}
        self._failing_since: float | None = None
        self._appender = Appender(path, rotation)
        self._spool: spool.Spool | None = None
        self._spooling = False
        self._look_at = 0.0
        self._fresh_locks()
        _files.add(self)

    def _fresh_locks(self) -> None:
        # The mutex guards the list, for microseconds. The lock is held while a batch
        # is written, so that batches keep their order; it may be taken again by the
        # thread that has it, for a signal handler may log at any moment.
        self._mutex = threading.Lock()
        self._lock = threading.RLock()
        self._holder = 0

    # What io.BufferedIOBase asks for

    def write(self, line: ReadableBuffer, /) -> int:
        """Take one whole line, newline included; `append` is the same, but faster."""
        taken = bytes(line)
        self.append(taken)
        return len(taken)

    def flush(self) -> None:
        """
        Write all that waits.

        Called from inside itself (a signal handler, a finaliser that logs), it does
        nothing: the call below takes the new lines too.

        Raises:
            OSError: If something could not be written; it still waits.
        """
        if self._holder != threading.get_ident():
            with self._lock:
                self._drain()

    def close(self) -> None:
        """Write what waits, if possible, and let go of the descriptor."""
        if not self.closed:
            self.end_spool()
            # The garbage collector may close it in the middle of anything: no more than
            # what must be done.
            self._look_at = math.inf
            self.try_flush(LOCK_PATIENCE)
            self._appender.release()
            super().close()

    # For the writer

    def try_flush(self, patience: float) -> bool:
        """
        Write all that waits, unless another thread is at it for *patience* seconds.

        Returns:
            Whether everything was written.
        """
        if self._holder == threading.get_ident():
            return False
        if not self._lock.acquire(timeout=patience):
            return False
        try:
            self._drain()
        except OSError:
            return False
        finally:
            self._lock.release()
        return True

    def check(self) -> None:
        """
        Make sure that the file can be written; make it if it is not there.

        Raises:
            OSError: Why it cannot be.
        """
        self._appender.check()

    @property
    def busy(self) -> bool:
        """Whether a thread is writing."""
        return self._holder != 0

    def waiting_bytes(self) -> int:
        """Return how many bytes wait; roughly, if others append meanwhile."""
        return sum(map(len, self.lines))

    def taken(self) -> int:
        """Return how many lines were appended so far, but for a spool's last few."""
        # With a bound, for a signal handler may ask what its own thread is changing.
        held = self._mutex.acquire(timeout=0.01)
        try:
            return self._taken + len(self.lines)
        finally:
            if held:
                self._mutex.release()

    def shed(self, limit: int, level_at: int) -> bool:
        """
        Drop lines until at most *limit* bytes wait.

        INFO goes first and ERROR last; of one level, the newest go first. They are
        counted, and the count is written as soon as something can be.

        Args:
            limit: Bytes that may wait.
            level_at: Where in a line its level begins.

        Returns:
            Whether something was dropped.
        """
        # Never waited for: a signal handler may have interrupted its own thread here.
        if not self._mutex.acquire(blocking=False):
            return False
        try:
            lines = self.lines[:]
            dropped = _excess(lines, limit, level_at)
            # Others may have appended meanwhile: replace only what was looked at.
            self.lines[: len(lines)] = filter(None, lines)
            self._taken += len(dropped)
            self._count(dropped)
        finally:
            self._mutex.release()
        return bool(dropped)

    def begin_spool(self, on_overflow: Callable[[], object]) -> None:
        """
        Let lines wait in shared memory from now on, where they survive a SIGKILL.

        Without shared memory, or room in it, they go on to wait here; the log says so.

        Args:
            on_overflow: Called after a line that the spool has no room for, by who
                logged it.
        """
        self._spooling = True
        if self._spool is None:
            try:
                self._spool = spool.create(self.path, self.lines, on_overflow)
            except OSError as error:
                why = f"no spool, so that SIGKILL may lose lines: {error.strerror}"
                self.say("spool", why)
                return
        self._spool.reopen()
        self.append = self._spool.append

    def end_spool(self) -> None:
        """Let lines wait here again; the spool goes once it is written."""
        self._spooling = False
        if self._spool is not None:
            self._spool.seal()
            self.append = self.lines.append

    def look_for_spools(self) -> None:
        """Have the next flush bring in what killed processes have left."""
        self._look_at = 0.0

    def catch_up(self) -> None:
        """Write all that waits, and recover the lines of killed processes."""
        self.look_for_spools()
        self.try_flush(CLOSING)

    def forked(self) -> None:
        """Start afresh in a forked child: what waits is the parent's to write."""
        self._fresh_locks()
        self.append = self.lines.append
        if self._spool is not None:
            self._spool.close()
            self._spool = None
        self.lines.clear()
        self._news.clear()
        self._losses = Losses()
        self.keep_open = False
        # The lock of a descriptor that was inherited is one with the parent's.
        self._appender.release()
        if self.after_fork is not None:
            self.after_fork()

    def finish(self) -> None:
        """Write what waits at the interpreter's exit, or say that it is lost."""
        # A daemon thread may have been frozen with the lock in its hands.
        if not self.try_flush(LOCK_PATIENCE) and self.lines:
            with contextlib.suppress(OSError):
                self._drain()
        if self.lines:
            _tell(f"{len(self.lines)} lines of the log {str(self.path)!r} are lost")

    # One batch

    def _drain(self) -> None:
        """Write batch after batch until nothing waits; the lock is held."""
        self._holder = threading.get_ident()
        try:
            if time.monotonic() >= self._look_at:
                self._look_for_spools()
            while self._write_batch():
                pass
            self._end_spool()
        except OSError as error:
            self._failed(error)
            raise
        finally:
            self._holder = 0
            if not self.keep_open:
                self._appender.release()

    def _write_batch(self) -> bool:
        """Write what has waited the longest; return whether there was anything."""
        # Lines overflow until we reopen the spool. So all of those that wait here are
        # newer than all in the spool, if it was full before it was found empty.
        listed = self._spool is None or self._spool.full
        if self._spool is not None and (data := self._spool.take()):
            self._write_spooled(data, self._spool)
            return True
        return self._write_lines(BATCH if listed else 0)

    def _write_spooled(self, data: bytes, journal: spool.Spool) -> None:
        try:
            self._write(data, journal)
        finally:
            done = data.count(b"\n", 0, self._appender.done)
            self.written += done
            self._taken += done

    def _write_lines(self, most: int) -> bool:
        with self._mutex:
            batch = self.lines[:most]
            del self.lines[: len(batch)]
            self._taken += len(batch)
            losses, self._losses = self._losses, Losses()
        batch[0:0] = self._take_news(losses)
        data = b"".join(batch)
        try:
            if data:
                self._write(data)
        except BaseException:
            done = data.count(b"\n", 0, self._appender.done)
            self.written += done
            with self._mutex:
                self.lines[0:0] = batch[done:]
                self._taken -= len(batch) - done
            raise
        self.written += len(batch)
        if self._spool is not None and self._spooling:
            self._spool.reopen()
        return bool(data or self.lines)

    def _write(self, data: bytes, journal: spool.Spool | None = None) -> None:
        self._appender.done = 0
        with self._appender.locked(self):
            self._appender.put(data, journal)
        self._recovered()

    # Shared memory

    def _look_for_spools(self) -> None:
        self._look_at = time.monotonic() + LOOK_EVERY
        own = None if self._spool is None else self._spool.path
        if any(name != own for name in spool.names(self.path)):
            with self._appender.locked(self):
                if self._appender.alone:
                    self.mend()

    def mend(self) -> None:
        """Append what killed processes have left; the file is locked."""
        for left in spool.abandoned(self.path):
            with left:
                lines = self._append_left(left)
                left.unlink()
                if lines:
                    context = {"process": left.owner, "lines": lines}
                    message = "lines of a killed process were recovered"
                    self._news.append(self._announce(message, context))

    def _append_left(self, left: spool.Spool) -> int:
        lines = 0
        left.ended(self._appender.find(left.piece, left.take()))
        while data := left.take():
            self._appender.put(data, left)
            lines += data.count(b"\n")
        return lines

    def _end_spool(self) -> None:
        """Give up the spool, if it is empty and is to take no more lines."""
        if self._spool is not None and not self._spooling:
            self._spool.unlink()
            self._spool.close()
            self._spool = None

    # What the file itself has to say

    def _count(self, dropped: list[bytes]) -> None:
        for level in dropped:
            self._losses.count(level.decode())
        self.dropped += len(dropped)
        error = self.error
        self._losses.reason = str(error.strerror) if error else "the disk is too slow"

    def _take_news(self, losses: Losses) -> list[bytes]:
        news, self._news = self._news, []
        if losses.by_level:
            message = f"{losses.lines} lines were dropped: {losses.reason}"
            news.append(self._announce(message, dict(losses.by_level)))
        return news

    def _failed(self, error: OSError) -> None:
        self.error = error
        if self._failing_since is None:
            self._failing_since = time.monotonic()
        if self._due("complaint"):
            waiting = len(self.lines)
            if self._spool is not None:
                waiting += self._spool.take().count(b"\n")
            _tell(
                f"cannot write the log {str(self.path)!r}: {error.strerror}; "
                f"{waiting} lines wait"
            )

    def _recovered(self) -> None:
        since, self._failing_since = self._failing_since, None
        if since is None or self.error is None:
            return
        seconds = round(time.monotonic() - since, 3)
        why = f"the log could not be written for a while: {self.error.strerror}"
        self.say("recovery", why, seconds=seconds)
        self.error = None

    def say(self, kind: str, message: str, **context: object) -> None:
        """Put something into the log, of each kind once a minute."""
        if self._due(kind):
            context["path"] = str(self.path)
            self._news.append(self._announce(message, context))

    def _due(self, kind: str) -> bool:
        now = time.monotonic()
        due = now - self._said.get(kind, -COMPLAINT_EVERY) >= COMPLAINT_EVERY
        if due:
            self._said[kind] = now
        return due


def _excess(lines: list[bytes], limit: int, level_at: int) -> list[bytes]:
    """Empty the least important of *lines* beyond *limit* bytes; return their levels."""
    excess = sum(map(len, lines)) - limit
    dropped: list[bytes] = []
    for level in (b"INFO", b"WARNING", b"ERROR"):
        for index in reversed(range(len(lines))):
            if excess <= 0:
                return dropped
            if lines[index].startswith(level, level_at):
                excess -= len(lines[index])
                lines[index] = b""
                dropped.append(level)
    return dropped


def _tell(text: str) -> None:
    """Say something on standard error, the last place when the log cannot be written."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(f"realtalk_async: {text}\n")


_files: weakref.WeakSet[LogFile] = weakref.WeakSet()


def _finish_all() -> None:
    for file in list(_files):
        file.finish()


def _forked() -> None:
    for file in list(_files):
        file.forked()


atexit.register(_finish_all)
os.register_at_fork(after_in_child=_forked)
