"""
`Logger`, the public API of the log.

A call formats its line (`entry`, `serialize`) and appends it to the queue (`queue`); one
task writes the queue to the file (`writer`, `append_file`).
"""

from __future__ import annotations

import logging
from math import floor
from time import monotonic, time
from typing import TYPE_CHECKING, Final, Literal

from orjson import dumps

from realtalk_async import arguments
from realtalk_async.logs.append_file import Rotation
from realtalk_async.logs.bridges.install import Installed, install
from realtalk_async.logs.entry import (
    ERROR,
    INFO,
    LEVELS,
    LINE_FORMATS,
    MAX_CACHED,
    WARNING,
    Level,
    LinePrefixes,
    LogEntry,
    LogStatistics,
)
from realtalk_async.logs.follow import LogFollower
from realtalk_async.logs.output.log_path import absolute_log_path
from realtalk_async.logs.query import make_query, search_in_thread
from realtalk_async.logs.queue import LogQueue
from realtalk_async.logs.redaction import SECRET_NAMES, Secrets
from realtalk_async.logs.serialize import is_something, show_json, show_object
from realtalk_async.logs.writer import LogWriter, PendingWrite

if TYPE_CHECKING:
    import os
    import re
    from collections.abc import Iterable, Mapping
    from datetime import datetime
    from types import TracebackType
    from typing import Self

    from realtalk_async.logs.bridges.structlog import BoundLogger
    from realtalk_async.logs.reverse_reader import Index

has_no_secret_name: Final = SECRET_NAMES.isdisjoint
"""Whether no key of a context is the name of a secret."""

DICT: type[object] = dict
"""The type of a context that orjson always writes as an object."""

CLOCK_INTERVAL: Final = 0.005
"""Seconds between two readings of the wall clock and of the length of the queue."""

MAX_CACHED_MESSAGE: Final = 200
"""Characters of the longest message that is cached."""


class Logger:
    """
    A log that any task and any thread can write to without waiting.

    Inside the ``async with`` block one task writes the lines of all callers, in a thread.
    Outside the block (before it, after it, without a loop) each call writes its line
    before it returns. In both cases no line is lost when the interpreter exits. Several
    processes can share one file.

        async with Logger("app.log") as logger:
            logger.info("mic", "started", {"pid": 4711})
            await logger.error("mic", "died")  # the line is on disk now

    A log call never raises because of its component, message or context: a value that
    JSON cannot carry is written as text. It raises for an unknown level.
    """

    def __init__(
        self,
        log_path: str | os.PathLike[str] | None = None,
        *,
        max_bytes: int | None = None,
        backups: int = 5,
        max_waiting: int = 4 * 1024 * 1024,
        secrets: Iterable[str] = (),
        line_format: Literal["text", "iso", "json"] = "text",
        spool: bool = False,
    ) -> None:
        """
        Create the log file if it does not exist, and check that it can be written.

        Args:
            log_path: The file; lines are appended if it exists. By default a new file
                in the temporary directory; it removes those of ended apps except ten.
            max_bytes: Size in bytes at which the file is rotated. By default it never
                is.
            backups: Number of rotated files to keep, as ``app.log.1`` (the newest) and
                so on.
            max_waiting: Bytes of lines that may wait for the disk. Lines beyond this
                limit are dropped, INFO first and ERROR last, and an entry in the log
                counts them.
            secrets: Texts to redact wherever they occur; see `hide`.
            line_format: ``"text"``, the default; ``"iso"``, the same with times in ISO
                8601 to the millisecond; or ``"json"``, one JSON object per line.
                `get_logs` reads all three.
            spool: Keep waiting lines in shared memory (4 MiB in ``/dev/shm`` while the
                block runs), so that a line whose call has returned survives SIGKILL.
                The next logger of this user on this machine that writes or reads this
                log appends the lines of the killed process. Lines that do not fit,
                because the disk stalls, wait in the memory of the process.

        Raises:
            LogUnavailable: If the file cannot be written.
            InvalidConfiguration: If an argument is invalid.
        """
        arguments.path("log_path", log_path, optional=True)
        arguments.integer("max_bytes", max_bytes, minimum=1, optional=True)
        arguments.integer("backups", backups, minimum=0)
        arguments.integer("max_waiting", max_waiting, minimum=1)
        hidden = arguments.several("secrets", secrets, arguments.secret, "texts")
        arguments.choice("line_format", line_format, LINE_FORMATS)
        arguments.flag("spool", spool)
        format_ = LINE_FORMATS[line_format]
        rotation = None if max_bytes is None else Rotation(max_bytes, backups)
        self.path: Final = absolute_log_path(log_path)
        self._queue = LogQueue(self.path, self._format_notice, rotation)
        self._queue.check()
        before_level = format_.before_level.encode()
        self._writer = LogWriter(self._queue, max_waiting, before_level, spool=spool)
        self._index: Index = {}
        self._entered = 0
        # Calls by rank, except INFO: those are the rest. No lock guards the counts,
        # because CPython switches threads only at calls and loops.
        self._counts = [0] * len(LEVELS)
        self._messages: dict[str, str] = {}  # by message, its form in a line
        self._secrets = Secrets()
        self._secrets.add(*hidden)
        self.redact: Final = self._secrets.redact
        """Returns a text as the log shows it: without secrets."""
        self.observe: Final = self._writer.observe
        """Has a function called with each line; see `LogWriter.observe`."""
        self._has_secrets = bool(self._secrets.values)
        self._next_tick = 0.0
        self._format = format_
        self._prefixes = LinePrefixes(format_, 0.0, self._secrets.redact)
        self._info_prefixes = self._prefixes.by_level[INFO]
        self._before_context = format_.before_context
        self._end = format_.end

    def __repr__(self) -> str:
        state = "writing" if self._writer.running else "direct"
        return f"<Logger {str(self.path)!r} {state}>"

    # Start and stop

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
        Write the lines that wait and end the writer's task and thread; idempotent.

        The logger stays usable: later calls write their lines directly.

        Cancellation: The task ends nevertheless, and the waiting lines are written.
        """
        await self._writer.stop()

    # Writing

    def info(
        self,
        component: str,
        message: str,
        context: Mapping[str, object] | None = None,
    ) -> PendingWrite:
        """
        Log normal operation; returns without waiting.

        Args:
            component: The part of the app that the entry is about.
            message: The event, as a text.
            context: More facts, by name; any values.

        Returns:
            Awaitable: whether the line is on disk. It need not be awaited.
        """
        # Every call runs these lines, so that each was measured; rare cases go to
        # `_line`. The tests below look at decoded text, because a substring test costs
        # 12 ns in str but 95 ns in bytes.
        if monotonic() >= self._next_tick:
            self._tick(message)
        writer = self._writer
        try:
            prefix = self._info_prefixes[component]
            messages = self._messages
            text = messages[message] if message in messages else self._escape(message)
            if context:
                json = dumps(context, show_object).decode()
                if (
                    type(context) is not DICT
                    or "null" in json
                    or not json.isascii()
                    or "\x7f" in json
                    or ("k" in json and ("sk-" in json or "ek_" in json))
                    or (" " in json and "earer " in json)
                    or "=" in json
                    or '":{' in json
                    or ("[" in json and "[{" in json)
                    or not has_no_secret_name(context)
                    or self._has_secrets
                ):
                    json = self._secrets.redact(show_json(context))
                line = f"{prefix}{text}{self._before_context}{json}{self._end}"
                writer.append(line.encode())
            else:
                writer.append(f"{prefix}{text}{self._end}".encode())
        except Exception:  # noqa: BLE001 - a log call never raises for its content
            # Also the way of the first call of a component in each second.
            writer.append(self._line(INFO, component, message, context))
        if not writer.scheduled:
            writer.schedule()
        return writer.pending

    def warning(
        self,
        component: str,
        message: str,
        context: Mapping[str, object] | None = None,
    ) -> PendingWrite:
        """Log an event that may need attention but prevents nothing; see `info`."""
        return self._write(WARNING, component, message, context)

    def error(
        self,
        component: str,
        message: str,
        context: Mapping[str, object] | None = None,
    ) -> PendingWrite:
        """Log a failure; see `info`. The line is written at once, not within 4 ms."""
        pending = self._write(ERROR, component, message, context)
        if not self._writer.scheduled_now:
            self._writer.schedule_now()
        return pending

    def log(
        self,
        level: str,
        component: str,
        message: str,
        context: Mapping[str, object] | None = None,
    ) -> PendingWrite:
        """
        Log at *level*: INFO, WARNING or ERROR, in upper or lower case; see `info`.

        Raises:
            InvalidConfiguration: If *level* is unknown.
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
        Return a logger for one component, with values for each of its entries.

        It is a bound logger of structlog and merges structlog's context variables.

        Args:
            component: The component of all its entries.
            context: Values for each entry, unless the entry has its own.

        Raises:
            InvalidConfiguration: If an argument is invalid.
        """
        arguments.text("component", component)
        arguments.mapping("context", context, optional=True)
        # Imported here because structlog costs more than the rest of the package.
        from realtalk_async.logs.bridges.structlog import BoundLogger, Component

        return BoundLogger(Component(self, component), (), dict(context or {}))

    def hide(self, *secrets: str) -> None:
        """
        Write ``[redacted]`` in place of these texts from now on.

        API keys, bearer tokens, and the values of keys with telling names (``api_key``,
        ``authorization``, ``password``) are always redacted.

        Raises:
            InvalidConfiguration: If one of them is no text.
        """
        for number, secret in enumerate(secrets):
            arguments.secret(f"secrets[{number}]", secret)
        self._secrets.add(*secrets)
        self._has_secrets = bool(self._secrets.values)
        self._messages.clear()
        self._set_time(time())

    async def flush(self) -> bool:
        """
        Wait until all lines logged so far are on disk.

        Returns:
            Whether they are: ``False`` if the file cannot be written now. The lines
            wait.

        Cancellation: Safe; the lines are written nevertheless.
        """
        return await self._writer.pending

    # Reading

    def statistics(self) -> LogStatistics:
        """Return the numbers of entries logged so far; returns without waiting."""
        logged = dict(zip(LEVELS, self._counts, strict=True))
        logged[Level.INFO] = self._queue.appended() - sum(self._counts)
        return LogStatistics(logged, self._queue.dropped, self._queue.pending_bytes())

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

        The result includes all entries logged before the call, also by other processes.

        Args:
            level: ``"INFO"``, ``"WARNING"`` or ``"ERROR"``.
            component: The whole name.
            pattern: A regular expression, searched in the message, and in the context
                as it is written (``{"exit_status":1}``).
            n: Only the newest *n* entries.
            since: Only entries from this time on; timezone-aware.
            until: Only entries before this time; timezone-aware.

        Raises:
            InvalidConfiguration: If an argument is invalid.
            LogUnreadable: If the log goes to a pipe, a terminal, a socket or a device,
                or may not be read.

        Cancellation: Safe; the search ends within one block of the file.
        """
        query = make_query(level, component, pattern, n, since, until)
        self._queue.check_readable()
        await self.flush()
        return await search_in_thread(
            self.path, query, self._index, self._queue.catch_up
        )

    def follow_logs(
        self,
        level: str | None = None,
        component: str | None = None,
        pattern: str | re.Pattern[str] | None = None,
    ) -> LogFollower:
        """
        Return an iterator over the entries written from now on, by any process.

        It never ends by itself and needs no closing. It reads the file ten times a
        second, so that a slow reader misses no entry and delays no writer; only entries
        of files that rotation has deleted before they were read are missing.

            async for entry in logger.follow_logs(level="ERROR"):
                print(entry)

        Args:
            level: See `get_logs`, also for the other arguments.
            component: The whole name.
            pattern: A regular expression.

        Raises:
            InvalidConfiguration: See `get_logs`; raised by the call itself.
            LogUnreadable: See `get_logs`; raised by the call itself.

        Cancellation: Safe; the next step continues where the cancelled step was.
        """
        query = make_query(level, component, pattern, None, None, None)
        self._queue.check_readable()
        return LogFollower(self.path, query, self._queue.try_flush)

    def install(self, *, level: int | None = logging.INFO) -> Installed:
        """
        Forward the reports of this process to this log; see `logs.install`.

        Sources are the standard library's logging, structlog (if the app has imported
        it), Python's warnings, and uncaught exceptions.

        Args:
            level: Level of the root logger from now on, if it is above this one. With
                `None` it stays as it is; Python's default is WARNING.

        Returns:
            An object that undoes the installation: call ``installed.undo()``, or use it
            as a context manager.

        Raises:
            InvalidConfiguration: If *level* is no level of logging.
        """
        return install(self, level=level)

    # Formatting

    def _write(
        self,
        rank: int,
        component: str,
        message: str,
        context: Mapping[str, object] | None,
    ) -> PendingWrite:
        if monotonic() >= self._next_tick:
            self._tick(message)
        self._counts[rank] += 1
        self._writer.append(self._line(rank, component, message, context))
        if not self._writer.scheduled:
            self._writer.schedule()
        return self._writer.pending

    def _line(
        self, rank: int, component: object, message: object, context: object
    ) -> bytes:
        """Return the line of any entry; never raises."""
        text = self._messages.get(message) if type(message) is str else None
        if text is None:
            text = self._escape(message)
        line = self._prefixes.get(rank, component) + text
        if is_something(context):
            json = self._secrets.redact(show_json(context))
            line = f"{line}{self._before_context}{json}"
        return f"{line}{self._end}".encode()

    def _escape(self, message: object) -> str:
        """Return *message* escaped for a line, with its secrets redacted."""
        text = self._format.message(message)
        if (
            "sk-" in text
            or "ek_" in text
            or "earer " in text
            or "=" in text
            or "'" in text
            or '"' in text
            or self._has_secrets
        ):
            return self._secrets.redact(text)
        return text

    def _tick(self, message: object) -> None:
        """Update the time, enforce the limit of the queue, and cache *message*."""
        # The monotonic clock comes first: if this thread is interrupted between the two,
        # the next tick comes too early, not too late.
        began, now = monotonic(), time()
        ticks = self._format.ticks
        tick = floor(now * ticks)
        if tick != self._prefixes.tick:
            self._set_time(now)
        self._next_tick = began + min(CLOCK_INTERVAL, (tick + 1) / ticks - now)
        # One message per tick: frequent messages soon are in the cache, unique messages
        # seldom.
        if type(message) is str and len(message) <= MAX_CACHED_MESSAGE:
            if len(self._messages) >= MAX_CACHED:
                self._messages = {}
            self._messages[message] = self._escape(message)
        self._writer.enforce_limit()

    def _format_notice(self, message: str, context: Mapping[str, object]) -> bytes:
        """Return the line of an entry about the log itself."""
        self._set_time(time())
        return self._line(WARNING, "log", message, context)

    def _set_time(self, now: float) -> None:
        self._prefixes = LinePrefixes(self._format, now, self._secrets.redact)
        self._info_prefixes = self._prefixes.by_level[INFO]
