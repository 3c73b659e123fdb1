"""
The log as its users see it: write from anywhere, ask, install.
"""

from __future__ import annotations

import asyncio
import logging
import os
import tempfile
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from math import floor
from pathlib import Path
from time import monotonic, time
from typing import TYPE_CHECKING, Final, Literal

from orjson import dumps

from realtalk_async.exceptions import InvalidConfiguration, LogUnavailable
from realtalk_async.logs.append_file import Rotation
from realtalk_async.logs.bridges.install import Installed, install
from realtalk_async.logs.entry import LAYOUTS, Layout, Level, LogEntry, LogStatistics
from realtalk_async.logs.query import Query, Tail, make_query, search
from realtalk_async.logs.queue import LogFile
from realtalk_async.logs.serialize import (
    SECRET_NAMES,
    Secrets,
    is_something,
    show_json,
    show_object,
    show_text,
)
from realtalk_async.logs.writer import CLOSING, Writer, Written

if TYPE_CHECKING:
    import re
    from collections.abc import Callable, Iterable, Mapping
    from types import TracebackType
    from typing import Self

    from realtalk_async.logs.bridges.structlog import BoundLogger
    from realtalk_async.logs.reverse_reader import Index

no_secret_in: Final = SECRET_NAMES.isdisjoint
"""Whether none of a context's keys tells of a secret."""

PLAIN: type[object] = dict
"""The type of a context that orjson writes as an object, whatever is in it."""

LEVELS: Final = tuple(Level)
INFO, WARNING, ERROR = range(3)

TICK: Final = 0.005
"""Seconds between two looks at the clock on the wall and at the length of the queue."""

MOST_REMEMBERED: Final = 1024
"""Messages known to need no escaping, and components, of one second."""

FOLLOW_EVERY: Final = 0.1
"""Seconds between two looks at a file that is followed."""

LONGEST_REMEMBERED: Final = 200
"""Characters of a message that is worth remembering."""


class Heads:
    """The beginnings of the lines of one moment, by level and component."""

    __slots__ = ("_hide", "_layout", "_stamp", "by_level", "tick")

    def __init__(self, layout: Layout, now: float, hide: Callable[[str], str]) -> None:
        self.tick = floor(now * layout.ticks)
        self.by_level: tuple[dict[str, str], ...] = ({}, {}, {})
        self._layout = layout
        self._hide = hide
        self._stamp = layout.stamp(now)

    def of(self, rank: int, component: object) -> str:
        """Return the head for a level and a component, whatever that may be."""
        known = self.by_level[rank]
        # Not another type: its hash or its comparison might raise, or lie.
        if type(component) is str and component in known:
            return known[component]
        shown = self._hide(show_text(component))
        head = self._layout.head(self._stamp, LEVELS[rank], shown)
        if type(component) is str and len(known) < MOST_REMEMBERED:
            known[component] = head
        return head


class Logger:
    """
    A log that any task and any thread may write to without waiting.

    Inside its ``async with`` block one task writes for all, off the loop. Outside of
    it (before, after, without a loop) every call writes its line before it returns.
    Either way nothing is lost when the interpreter exits. Several processes may share
    one file.

        async with Logger("app.log") as logger:
            logger.info("mic", "started", {"pid": 4711})
            await logger.error("mic", "died")  # and is on disk now

    A log call never raises for what it is given: values that JSON cannot carry are
    shown as well as they can be. It does for a level that does not exist.
    """

    def __init__(
        self,
        log_path: str | os.PathLike[str] | None = None,
        *,
        max_bytes: int | None = None,
        backups: int = 5,
        max_waiting: int = 4 * 1024 * 1024,
        secrets: Iterable[str] = (),
        line_format: Literal["note", "iso", "json"] = "note",
        spool: bool = False,
    ) -> None:
        """
        Make sure that the log can be written.

        Args:
            log_path: The file; it is made if it does not exist, and appended to if it
                does. By default a new one in the temporary directory.
            max_bytes: Begin a new file before this one would grow beyond so many
                bytes; never by default.
            backups: Old files to keep, as ``app.log.1`` (the newest) and so on.
            max_waiting: Bytes of lines that may wait for the disk. What is beyond it
                is dropped, INFO first and ERROR last, and the log says how many.
            secrets: Texts to hide wherever they occur; see `hide`.
            line_format: ``"note"``, the default; ``"iso"``, the same with times in ISO
                8601 to the millisecond; or ``"json"``, one JSON object a line. All are
                read by `get_logs`.
            spool: Let lines wait in shared memory, 4 MiB in ``/dev/shm`` while the
                block runs, so that not even SIGKILL loses a line whose call has
                returned: whoever next writes or reads this log on this machine, as
                this user, brings in what a killed process has left. What does not fit
                because the disk stalls waits as it would without.

        Raises:
            LogUnavailable: If the file cannot be written.
            InvalidConfiguration: If *max_bytes* or *max_waiting* is not positive,
                *backups* negative, or *line_format* unknown.
        """
        layout = LAYOUTS.get(line_format)
        if layout is None:
            msg = f"no line format {line_format!r}; there are {', '.join(LAYOUTS)}"
            raise InvalidConfiguration(msg)
        if min(max_bytes or 1, max_waiting) <= 0 or max_bytes == 0 or backups < 0:
            msg = f"{max_bytes=}, {backups=}, {max_waiting=}: give at least 1, 0, 1"
            raise InvalidConfiguration(msg)
        rotation = None if max_bytes is None else Rotation(max_bytes, backups)
        self.path: Final = _writable_path(log_path)
        self._file = LogFile(self.path, self._announce, rotation)
        try:
            self._file.check()
        except OSError as error:
            raise LogUnavailable(
                str(self.path), error.strerror or str(error)
            ) from error
        self._writer = Writer(self._file, max_waiting, layout.level_at, spool=spool)
        self._index: Index = {}
        self._entered = 0
        # Calls above INFO, by rank; those of INFO are the rest. No lock guards them:
        # CPython switches threads at calls and loops only.
        self._graver = [0] * len(LEVELS)
        # What stands in a line for a message.
        self._plain: dict[str, str] = {}
        self._secrets = Secrets()
        self._secrets.add(*secrets)
        self._hiding = bool(self._secrets.values)
        self._due = 0.0
        self._layout = layout
        self._heads = Heads(layout, 0.0, self._secrets.hide)
        self._infos = self._heads.by_level[INFO]
        self._middle = layout.before_context
        self._end = layout.end

    def __repr__(self) -> str:
        state = "writing" if self._writer.running else "direct"
        return f"<Logger {str(self.path)!r} {state}>"

    # Its life

    async def __aenter__(self) -> Self:
        self._entered += 1
        self._writer.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._entered -= 1
        if self._entered == 0:
            await self.aclose()

    async def aclose(self) -> None:
        """
        Write what waits and end the writer's task and thread; idempotent.

        The logger stays usable: later calls write their lines themselves.

        Cancellation: The task ends all the same, and what waits is written.
        """
        await self._writer.stop()

    # Writing

    def info(
        self,
        component: str,
        message: str,
        context: Mapping[str, object] | None = None,
    ) -> Written:
        """
        Log normal operation; waits for nothing.

        Args:
            component: Who the entry speaks for.
            message: What happened, in words.
            context: What else is known, by name; any values.

        Returns:
            Awaitable: whether the line is on disk. Not awaiting it is fine.
        """
        # The path of every call: each line of it was weighed, and what is unusual goes
        # to `_line`. Decoded text is tested because a substring test costs 12 ns in str
        # but 95 ns in bytes.
        if monotonic() >= self._due:
            self._tick(message)
        writer = self._writer
        try:
            head = self._infos[component]
            plain = self._plain
            shown = plain[message] if message in plain else self._shown(message)
            if context:
                text = dumps(context, show_object).decode()
                if (
                    type(context) is not PLAIN
                    or "null" in text
                    or not text.isascii()
                    or "\x7f" in text
                    or ("k" in text and ("sk-" in text or "ek_" in text))
                    or (" " in text and "earer " in text)
                    or "=" in text
                    or '":{' in text
                    or ("[" in text and "[{" in text)
                    or not no_secret_in(context)
                    or self._hiding
                ):
                    text = self._told(context)
                writer.append(f"{head}{shown}{self._middle}{text}{self._end}".encode())
            else:
                writer.append(f"{head}{shown}{self._end}".encode())
        except Exception:  # noqa: BLE001 - a log call never raises for its content
            # Or the component is the first of its name in this second.
            writer.append(self._line(INFO, component, message, context))
        if not writer.armed:
            writer.arm()
        return writer.receipt

    def warning(
        self,
        component: str,
        message: str,
        context: Mapping[str, object] | None = None,
    ) -> Written:
        """Log what may need attention but prevents nothing; see `info`."""
        return self._write(WARNING, component, message, context)

    def error(
        self,
        component: str,
        message: str,
        context: Mapping[str, object] | None = None,
    ) -> Written:
        """Log a failure; see `info`. It is written at once, not within 4 ms."""
        receipt = self._write(ERROR, component, message, context)
        if not self._writer.urgent:
            self._writer.hurry()
        return receipt

    def log(
        self,
        level: str,
        component: str,
        message: str,
        context: Mapping[str, object] | None = None,
    ) -> Written:
        """
        Log at *level*: INFO, WARNING or ERROR, in upper or lower case; see `info`.

        Raises:
            InvalidConfiguration: If there is no such level.
        """
        match Level.of(level):
            case Level.INFO:
                return self.info(component, message, context)
            case Level.WARNING:
                return self.warning(component, message, context)
            case Level.ERROR:
                return self.error(component, message, context)

    def bind(
        self, component: str, context: Mapping[str, object] | None = None
    ) -> BoundLogger:
        """
        Return a log for one component, with values for each of its entries.

        It is a bound logger of structlog, and knows structlog's context variables.

        Args:
            component: Who all its entries speak for.
            context: What goes into each of them, unless an entry has its own.
        """
        # structlog costs more than all the rest: who does not bind need not load it.
        from realtalk_async.logs.bridges.structlog import BoundLogger, Component

        return BoundLogger(Component(self, component), (), dict(context or {}))

    def hide(self, *secrets: str) -> None:
        """
        Write ``[redacted]`` for these texts from now on, wherever they occur.

        What looks like an API key or a bearer token, and the values of keys with
        telling names (``api_key``, ``authorization``, ``password``), are hidden anyway.
        """
        self._secrets.add(*secrets)
        self._hiding = bool(self._secrets.values)
        self._plain.clear()
        self._begin(time())

    async def flush(self) -> bool:
        """
        Wait until everything logged so far is on disk.

        Returns:
            Whether it is: ``False`` if the file cannot be written now. The lines wait.

        Cancellation: Safe; the lines are written all the same.
        """
        return await self._writer.receipt

    # Asking

    def statistics(self) -> LogStatistics:
        """Return how much was logged so far; waits for nothing."""
        logged = dict(zip(LEVELS, self._graver, strict=True))
        logged[Level.INFO] = self._file.taken() - sum(self._graver)
        return LogStatistics(logged, self._file.dropped, self._file.waiting_bytes())

    async def get_logs(
        self,
        level: str | None = None,
        component: str | None = None,
        pattern: str | re.Pattern[str] | None = None,
        n: int | None = None,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> list[LogEntry]:
        """
        Return the entries that meet all conditions, oldest first.

        Everything that was logged before is among them, by other processes too.

        Args:
            level: ``"INFO"``, ``"WARNING"`` or ``"ERROR"``.
            component: The whole name.
            pattern: A regular expression, searched in the message, and in the context
                as it is written (``{"exit_status":1}``).
            n: Only the newest *n*.
            since: Only from this time on; timezone-aware.
            until: Only before this time; timezone-aware.

        Raises:
            InvalidConfiguration: If there is no such level, *pattern* is no regular
                expression, *n* is negative, or a time lacks its zone.
            OSError: If the file is there but cannot be read.

        Cancellation: Safe; the search ends within one block of the file.
        """
        query = make_query(level, component, pattern, n, since, until)
        await self.flush()
        stop = threading.Event()
        loop = asyncio.get_running_loop()
        executor = ThreadPoolExecutor(1, thread_name_prefix="realtalk-log-query")
        try:
            return await loop.run_in_executor(executor, self._answer, query, stop)
        finally:
            stop.set()
            executor.shutdown(wait=False)

    def _answer(self, query: Query, stop: threading.Event) -> list[LogEntry]:
        self._file.look_for_spools()
        self._file.try_flush(CLOSING)
        return search(self.path, query, stop, self._index)

    def follow_logs(
        self,
        level: str | None = None,
        component: str | None = None,
        pattern: str | re.Pattern[str] | None = None,
    ) -> Follower:
        """
        Return the entries that are written from now on, by other processes too.

        It never ends by itself; there is nothing to close. A slow reader
        misses nothing and slows nobody down, for it is the file that is read, ten times
        a second; but files that rotation has deleted meanwhile are gone.

            async for entry in logger.follow_logs(level="ERROR"):
                print(entry)

        Args:
            level: As in `get_logs`, and so the others.
            component: The whole name.
            pattern: A regular expression.

        Raises:
            InvalidConfiguration: As `get_logs` does, at once.

        Cancellation: Safe; the next step goes on where this one was.
        """
        query = make_query(level, component, pattern, None, None, None)
        return Follower(self._file, Tail(self.path, query))

    # Forwarding

    def install(self, *, level: int | None = logging.INFO) -> Installed:
        """
        Have what this process reports elsewhere forwarded to here.

        That is the standard library's logging, structlog's events (if the app has
        imported it by now), Python's warnings, and exceptions that nobody handles; see
        `forward.install`.

        Args:
            level: The root logger lets pass what is at least so grave; `None` leaves
                it as it is, and by default it is WARNING.

        Returns:
            What undoes it, exactly: ``installed.undo()``, or as a context manager.
        """
        return install(self, level=level)

    # Formatting

    def _write(
        self,
        rank: int,
        component: str,
        message: str,
        context: Mapping[str, object] | None,
    ) -> Written:
        if monotonic() >= self._due:
            self._tick(message)
        self._graver[rank] += 1
        self._writer.append(self._line(rank, component, message, context))
        if not self._writer.armed:
            self._writer.arm()
        return self._writer.receipt

    def _line(
        self, rank: int, component: object, message: object, context: object
    ) -> bytes:
        """Return any entry as its line; never raises."""
        shown = self._plain.get(message) if type(message) is str else None
        if shown is None:
            shown = self._shown(message)
        line = self._heads.of(rank, component) + shown
        if is_something(context):
            line = f"{line}{self._middle}{self._told(context)}"
        return f"{line}{self._end}".encode()

    def _shown(self, message: object) -> str:
        """Return *message* as it stands in a line, without secrets."""
        shown = self._layout.message(message)
        if (
            "sk-" in shown
            or "ek_" in shown
            or "earer " in shown
            or "=" in shown
            or "'" in shown
            or '"' in shown
            or self._hiding
        ):
            return self._secrets.hide(shown)
        return shown

    def _told(self, context: object) -> str:
        """Return *context* as JSON, without secrets."""
        return self._secrets.hide(show_json(context))

    def _tick(self, message: object) -> None:
        """Look at the clock on the wall, after the queue, and remember *message*."""
        now = time()
        ticks = self._layout.ticks
        tick = floor(now * ticks)
        if tick != self._heads.tick:
            self._begin(now)
        self._due = monotonic() + min(TICK, (tick + 1) / ticks - now)
        self._remember(message)
        self._writer.tend()

    def _remember(self, message: object) -> None:
        """Spare a message the tests for what must be escaped; of all, one a tick."""
        # What is logged often is soon among them, what is always new seldom.
        if type(message) is str and len(message) <= LONGEST_REMEMBERED:
            if len(self._plain) >= MOST_REMEMBERED:
                self._plain = {}
            self._plain[message] = self._shown(message)

    def _announce(self, message: str, context: Mapping[str, object]) -> bytes:
        """Return the line for what the log has to say about itself."""
        self._begin(time())
        return self._line(WARNING, "log", message, context)

    def _begin(self, now: float) -> None:
        """Begin the lines of another moment."""
        self._heads = Heads(self._layout, now, self._secrets.hide)
        self._infos = self._heads.by_level[INFO]


class Follower:
    """The entries of a log as they are written; see `Logger.follow_logs`."""

    def __init__(self, file: LogFile, tail: Tail) -> None:
        self._file = file
        self._tail = tail
        self._ready: deque[LogEntry] = deque()
        self._reading: asyncio.Future[list[LogEntry]] | None = None
        self._due = 0.0

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> LogEntry:
        while not self._ready:
            await asyncio.sleep(self._due - monotonic())
            if self._reading is None:
                loop = asyncio.get_running_loop()
                self._reading = loop.run_in_executor(None, self._read)
            try:
                # If we are cancelled, the next call waits for the same answer.
                self._ready.extend(await asyncio.shield(self._reading))
            finally:
                if self._reading.done():
                    self._reading = None
            self._due = monotonic() + FOLLOW_EVERY
        return self._ready.popleft()

    def _read(self) -> list[LogEntry]:
        self._file.try_flush(0)  # it may bring in what a killed process has left
        return self._tail.read()


def _writable_path(log_path: str | os.PathLike[str] | None) -> Path:
    if log_path is not None:
        # Absolute, so that the app may change its working directory.
        return Path(log_path).absolute()
    started = f"{datetime.now().astimezone():%Y%m%d-%H%M%S}"
    try:
        handle, path = tempfile.mkstemp(".log", f"realtalk-{started}-")
    except OSError as error:
        folder = tempfile.gettempdir()
        raise LogUnavailable(folder, error.strerror or str(error)) from error
    os.close(handle)
    return Path(path)
