"""
The file that the log is written to: one lock and one write for all that waits.

An edge: it knows the operating system's files, and neither tasks nor entries.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import fcntl
import io
import os
import stat
import sys
import threading
import time
import weakref
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping
    from pathlib import Path

    from _typeshed import ReadableBuffer

BATCH = 16_384
"""Lines of one write; a write is never larger than this, but for long lines."""

LOCK_PATIENCE = 2.0
"""
Seconds to wait for another process's lock.

A process that was stopped in the middle of its write must not stop all others: after
this time we write without the lock. Every write is one ``write(2)`` with O_APPEND, so
that even then lines tear only if the disk fills up at the same moment.
"""

COMPLAINT_EVERY = 60.0
"""Seconds between two complaints on standard error about the same file."""

_FLAGS = os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


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


@dataclass(frozen=True, slots=True)
class Rotation:
    """When a new file is begun, and how many old ones are kept."""

    max_bytes: int
    """No file grows beyond this, but for a single line that is longer."""
    backups: int
    """Old files kept, as ``name.1`` (the newest) to ``name.<backups>``."""


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
        self.rotation = rotation
        self.lines: list[bytes] = []
        """What waits. Appended to by anyone; taken from only under the mutex."""
        self.append = self.lines.append
        self.error: OSError | None = None
        """Why the last `flush` failed; `None` if it did not."""
        self.written = 0
        """Lines written."""
        self.dropped = 0
        """Lines given up."""
        self.keep_open = False
        """Whether the descriptor stays open between two writes."""
        self.after_fork: Callable[[], None] | None = None
        """Called in a forked child, once this file has forgotten the parent's lines."""
        self._announce = announce
        self._losses = Losses()
        self._news: list[bytes] = []
        self._said: dict[str, float] = {}
        self._failing_since: float | None = None
        self._rotate_from = 0.0
        self._descriptor = -1
        self._identity: tuple[int, int] | None = None
        self._regular = True
        self._size = self._end = self._done = 0
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
            self.try_flush(LOCK_PATIENCE)
            self.release()
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
        self._open()
        self.release()

    def release(self) -> None:
        """Let go of the descriptor; the next write opens the file again."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    @property
    def busy(self) -> bool:
        """Whether a thread is writing."""
        return self._holder != 0

    def waiting_bytes(self) -> int:
        """Return how many bytes wait; roughly, if others append meanwhile."""
        return sum(map(len, self.lines))

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
            self._count(dropped)
        finally:
            self._mutex.release()
        return bool(dropped)

    def forked(self) -> None:
        """Start afresh in a forked child: what waits is the parent's to write."""
        self._fresh_locks()
        self.lines.clear()
        self._news.clear()
        self._losses = Losses()
        self.keep_open = False
        # The lock of a descriptor that was inherited is one with the parent's.
        self.release()
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
            while self.lines or self._news or self._losses.by_level:
                self._write_batch()
        except OSError as error:
            self._failed(error)
            raise
        finally:
            self._holder = 0
            if not self.keep_open:
                self.release()

    def _write_batch(self) -> None:
        with self._mutex:
            batch = self.lines[:BATCH]
            del self.lines[: len(batch)]
            losses, self._losses = self._losses, Losses()
        batch[0:0] = self._take_news(losses)
        data = b"".join(batch)
        self._done = 0
        try:
            with self._locked():
                self._put(data)
        finally:
            done = len(batch)
            if self._done < len(data):
                done = data.count(b"\n", 0, self._done)
                with self._mutex:
                    self.lines[0:0] = batch[done:]
            self.written += done
        self._recovered()

    def _put(self, data: bytes) -> None:
        """Write *data*, into as many files as it takes."""
        view = memoryview(data)
        while self._done < len(data):
            end = self._fitting(data)
            if end > self._done:
                self._write_all(view[self._done : end])
            else:
                self._rotate()

    def _fitting(self, data: bytes) -> int:
        """Return where in *data* the part ends that fits into the present file."""
        start, end = self._done, len(data)
        if self.rotation is None or time.monotonic() < self._rotate_from:
            return end
        room = self.rotation.max_bytes - self._size
        if end - start <= room:
            return end
        fitting = data.rfind(b"\n", start, start + max(room, 0)) + 1
        if fitting > start or self._size > 0:
            return max(fitting, start)
        return data.find(b"\n", start) + 1  # one line, longer than a whole file

    def _write_all(self, piece: memoryview) -> None:
        """Write whole lines, or as many whole lines as there is room for."""
        sent = 0
        try:
            while sent < len(piece):
                sent += os.write(self._descriptor, piece[sent:])
        except OSError:
            whole = bytes(piece[:sent]).rfind(b"\n") + 1
            if self._regular and sent > whole:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._descriptor, self._size + whole)
            self._done += whole
            raise
        self._done += sent
        self._size += sent
        self._end = self._size

    # The file under the path

    @contextlib.contextmanager
    def _locked(self) -> Generator[None]:
        """Have the file that the path names now, open and locked."""
        self._lock_current()
        try:
            yield
        finally:
            if self._descriptor >= 0:
                with contextlib.suppress(OSError):
                    fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def _lock_current(self) -> None:
        give_up = time.monotonic() + LOCK_PATIENCE
        while time.monotonic() < give_up:
            if self._descriptor < 0:
                self._open()
            self._wait_for_lock()
            # Only who has the lock may ask: another process may rotate until then.
            if self._is_current():
                self._measure()
                return
            self._vanished()
            self.release()
        raise OSError(errno.ESTALE, "replaced as often as it is opened", str(self.path))

    def _open(self) -> None:
        """Open the file, and its folder if that has vanished since the last time."""
        try:
            self._descriptor = self._opened()
        except FileNotFoundError:
            if self._identity is None:
                raise
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = self._opened()
        status = os.fstat(self._descriptor)
        self._regular = stat.S_ISREG(status.st_mode)
        known, self._identity = self._identity, (status.st_dev, status.st_ino)
        if known not in {None, self._identity}:
            self._vanished()

    def _vanished(self) -> None:
        # Where files are rotated it was another process that did.
        if self.rotation is None:
            self._say("vanished", "the log file was removed or renamed; this is new")

    def _opened(self) -> int:
        try:
            descriptor = os.open(self.path, os.O_RDWR | _FLAGS, 0o666)
        except PermissionError:
            return os.open(self.path, os.O_WRONLY | _FLAGS, 0o666)
        if not stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            return descriptor
        # Of a pipe we must not be a reader, or it would swallow what nobody reads.
        os.close(descriptor)
        return os.open(self.path, os.O_WRONLY | _FLAGS, 0o666)

    def _wait_for_lock(self) -> None:
        give_up = time.monotonic() + LOCK_PATIENCE
        pause = 0.0001
        while True:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= give_up:
                    return
            except OSError:
                return  # a file system without locks
            else:
                return
            time.sleep(pause)
            pause = min(pause * 2, 0.005)

    def _is_current(self) -> bool:
        try:
            named = self.path.stat()
        except OSError:
            return False
        return (named.st_dev, named.st_ino) == self._identity

    def _measure(self) -> None:
        """Learn the size; end a line that a killed process left without its newline."""
        self._size = os.fstat(self._descriptor).st_size if self._regular else 0
        if self._size in {0, self._end}:
            return
        with contextlib.suppress(OSError):  # it may be ours to write but not to read
            if os.pread(self._descriptor, 1, self._size - 1) != b"\n":
                self._size += os.write(self._descriptor, b"\n")

    def _rotate(self) -> None:
        """Move the present file to ``.1``, and the older ones up; begin a new one."""
        assert self.rotation is not None
        try:
            for number in reversed(range(self.rotation.backups)):
                with contextlib.suppress(FileNotFoundError):
                    self.numbered(number).rename(self.numbered(number + 1))
            if not self.rotation.backups:
                self.path.unlink()
        except OSError as error:
            # Better one file that is too large than lines that are not written.
            self._rotate_from = time.monotonic() + COMPLAINT_EVERY
            self._say("rotation", f"the log cannot be rotated: {error.strerror}")
            return
        self.release()
        self._lock_current()

    def numbered(self, number: int) -> Path:
        """Return the path of an old file; the present one is number 0."""
        return (
            self.path.with_name(f"{self.path.name}.{number}") if number else self.path
        )

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
            _tell(
                f"cannot write the log {str(self.path)!r}: {error.strerror}; "
                f"{len(self.lines)} lines wait"
            )

    def _recovered(self) -> None:
        since, self._failing_since = self._failing_since, None
        if since is None or self.error is None:
            return
        seconds = round(time.monotonic() - since, 3)
        why = f"the log could not be written for a while: {self.error.strerror}"
        self._say("recovery", why, seconds=seconds)
        self.error = None

    def _say(self, kind: str, message: str, **context: object) -> None:
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
