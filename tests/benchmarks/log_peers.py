"""Write the same line to a file with this package and with other loggers, as documented."""

from __future__ import annotations

import io
import logging
import logging.handlers
import os
import queue
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple

import orjson
import structlog
from aiofiles.threadpool import wrap

from realtalk_async.logs import Logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

CONTEXT = {"exit_status": 1, "uptime": "00:03:22", "restarts": 4}
MESSAGE = "Process died unexpectedly"
FORMAT = "[%(asctime)s] [%(levelname)s] [%(name)s] %(message)s"
SECOND = "%Y-%m-%d %H:%M:%S"
BATCH = 4_000


class Log(NamedTuple):
    """An open log: `call` logs one line, `flush` waits until all lines are on disk."""

    call: Callable[[], object]
    flush: Callable[[], Awaitable[object]]
    awaited: bool = False
    """Whether `call` returns an awaitable."""

    async def calls(self, count: int) -> None:
        """Log *count* lines."""
        if self.awaited:
            for _ in range(count):
                await self.call()  # type: ignore[misc]
        else:
            for _ in range(count):
                self.call()


async def done() -> None:
    """Return at once, because `call` has already written the line."""


class Raw(io.RawIOBase):
    """A file that calls ``os.write``, which a benchmark can slow down."""

    def __init__(self, path):
        self.descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def writable(self):
        return True

    def write(self, data):
        return os.write(self.descriptor, data)


def text(path):
    """Return a text file like that of ``open(path, "a")``, based on a raw file."""
    return io.TextIOWrapper(io.BufferedWriter(Raw(path)))


@asynccontextmanager
async def ours(path, *, spool=False):
    async with Logger(path, spool=spool) as logger:
        yield Log(lambda: logger.info("sox_bg", MESSAGE, CONTEXT), logger.flush)


def spooled(path):
    """Log with lines in shared memory until they are on disk, which SIGKILL cannot lose."""
    return ours(path, spool=True)


@asynccontextmanager
async def raw(path):
    """Format, join and write, without a thread or a lock."""
    lines: list[bytes] = []
    second, stamp = 0, ""
    file = Raw(path)

    def call():
        nonlocal second, stamp
        now = int(time.time())
        if now != second:
            second, stamp = now, time.strftime(SECOND, time.localtime(now))
        head = f"[{stamp}] [INFO] [sox_bg] {MESSAGE} "
        lines.append(head.encode() + orjson.dumps(CONTEXT) + b"\n")
        if len(lines) >= BATCH:
            file.write(b"".join(lines))
            lines.clear()

    yield Log(call, done)
    file.write(b"".join(lines))


def through(module, handler):
    """Return a log call of a module with the API of the standard library's logging."""
    handler.setFormatter(module.Formatter(FORMAT, SECOND))
    log = module.getLogger("sox_bg")
    log.propagate = False
    log.setLevel(module.INFO)
    log.addHandler(handler)
    return lambda: log.info("%s %s", MESSAGE, orjson.dumps(CONTEXT).decode())


@asynccontextmanager
async def stdlib(path):
    with text(path) as stream:
        yield Log(through(logging, logging.StreamHandler(stream)), done)


@asynccontextmanager
async def queued(path):
    with text(path) as stream:
        waiting: queue.SimpleQueue = queue.SimpleQueue()
        last = logging.StreamHandler(stream)
        listener = logging.handlers.QueueListener(waiting, last)
        call = through(logging, logging.handlers.QueueHandler(waiting))

        async def flush():
            listener.stop()  # returns when the queue is empty
            listener.start()

        listener.start()
        yield Log(call, flush)
        listener.stop()


@asynccontextmanager
async def picologging(path):
    import picologging

    with text(path) as stream:
        yield Log(through(picologging, picologging.StreamHandler(stream)), done)


@asynccontextmanager
async def structlogs(path):
    with Raw(path) as stream:
        log = structlog.wrap_logger(
            structlog.BytesLogger(stream),
            wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
            processors=[
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(SECOND, utc=False),
                structlog.processors.JSONRenderer(orjson.dumps),
            ],
            cache_logger_on_first_use=True,
        ).bind(component="sox_bg")
        yield Log(lambda: log.info(MESSAGE, **CONTEXT), done)


@asynccontextmanager
async def loguru(path, *, enqueue=False):
    from loguru import logger

    logger.remove()
    logger.add(
        text(path),
        format="[{time:YYYY-MM-DD HH:mm:ss}] [{level}] [{extra[component]}] {message}",
        enqueue=enqueue,
    )
    log = logger.bind(component="sox_bg")

    async def flush():
        await logger.complete()

    def call():
        return log.info("{} {}", MESSAGE, orjson.dumps(CONTEXT).decode())

    yield Log(call, flush)
    logger.remove()


def enqueued(path):
    return loguru(path, enqueue=True)


@asynccontextmanager
async def aiologger(path):
    from aiologger import Logger as AsyncLogger
    from aiologger.formatters.base import Formatter
    from aiologger.handlers.files import AsyncFileHandler

    handler = AsyncFileHandler(str(path))
    handler.stream = wrap(text(path))
    handler.formatter = Formatter(FORMAT, SECOND)
    log = AsyncLogger(name="sox_bg")
    log.add_handler(handler)

    def call():
        return log.info(f"{MESSAGE} {orjson.dumps(CONTEXT).decode()}")

    yield Log(call, done, awaited=True)
    await log.shutdown()


LOGS = {
    "raw": raw,
    "ours": ours,
    "ours, spool": spooled,
    "structlog": structlogs,
    "picologging": picologging,
    "stdlib": stdlib,
    "QueueHandler": queued,
    "loguru": loguru,
    "loguru, enqueue": enqueued,
    "aiologger": aiologger,
}


def line_count(subject: str) -> int:
    """Return the number of lines to log, fewer for slow loggers; a multiple of BATCH."""
    batches = {
        "raw": 50,
        "ours": 50,
        "ours, spool": 50,
        "loguru, enqueue": 1,
        "aiologger": 1,
    }
    return BATCH * batches.get(subject, 8)


async def cost(log: Log, count: int) -> dict[str, float]:
    """Return ns of CPU per call and per line on disk, and lines per second."""
    await log.calls(BATCH)
    await log.flush()
    calling, began, cpu = 0, time.perf_counter(), time.process_time_ns()
    for _ in range(count // BATCH):
        before = time.thread_time_ns()
        await log.calls(BATCH)
        calling += time.thread_time_ns() - before
        await log.flush()
    spent, seconds = time.process_time_ns() - cpu, time.perf_counter() - began
    return {
        "call ns": calling / count,
        "line ns": spent / count,
        "lines/s": count / seconds,
    }
