"""Supervision goes on while the app uses up all of its own threads."""

import asyncio
import signal
import threading
import time

import anyio.to_thread
import pytest

from realtalk_async.concurrency.daemon_thread import call_in_thread
from realtalk_async.supervision import (
    Command,
    ProcessManager,
    http_probe,
    tcp_probe,
)
from realtalk_async.supervision.policy.ladder import Ladder
from realtalk_async.testing import programs

STUBBORN = Ladder((signal.SIGTERM, 0.05), (signal.SIGKILL, 1.0))


@pytest.fixture
async def no_thread_left():
    """Keep all of anyio's worker threads busy, and those of the default executor."""
    may_end, running = threading.Event(), threading.Semaphore(0)

    def work():
        running.release()
        may_end.wait()

    limit = int(anyio.to_thread.current_default_thread_limiter().total_tokens)
    loop = asyncio.get_running_loop()
    calls: list[asyncio.Future[None]] = [
        asyncio.ensure_future(anyio.to_thread.run_sync(work)) for _ in range(limit + 1)
    ]
    calls += [loop.run_in_executor(None, work) for _ in range(64)]
    while not running.acquire(blocking=False):
        await asyncio.sleep(0.001)
    yield
    may_end.set()
    await asyncio.gather(*calls)
    await loop.shutdown_default_executor()


@pytest.mark.usefixtures("no_thread_left")
async def test_a_stop_waits_for_no_thread_of_the_app(manager):
    """Neither a stop, nor a kill, nor a ladder over a stubborn group."""
    began = time.monotonic()
    for name in "stop", "kill":
        child = await manager.start(name, programs.forks(2))
        await getattr(child, name)()
    stubborn = await manager.start("s", programs.ignores_sigterm(), ladder=STUBBORN)
    await stubborn.wait_for_line("ready")
    await stubborn.stop()
    assert time.monotonic() - began < 5


@pytest.mark.usefixtures("no_thread_left")
async def test_a_probe_of_a_host_by_its_name_waits_for_no_thread_of_the_app(manager):
    """Otherwise a healthy server would never be ready, or be ended."""

    async def answer(reader, writer):
        await reader.readline()
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        probes = [
            tcp_probe(port, "localhost", failure_threshold=1, timeout=10),
            http_probe(f"http://localhost:{port}", failure_threshold=1, timeout=10),
        ]
        child = await manager.start("child", programs.runs(), probes=probes)
        assert child.reason == "running and ready"


@pytest.mark.usefixtures("no_thread_left")
async def test_a_restart_waits_for_no_thread_of_the_app(manager):
    """The app's sync function has a thread of its own, which ends with the call."""
    names = []

    def restart():
        names.append(threading.current_thread().name)
        return programs.runs()

    child = await manager.start("one", programs.exits(0))
    await child.wait()
    assert await child.restart(restart)
    assert names == ["realtalk-async calls a function of the app"]
    assert not {one.name for one in threading.enumerate()} & set(names)


@pytest.mark.usefixtures("no_thread_left")
async def test_the_end_of_the_manager_waits_for_no_thread_of_the_app(logger, survivors):
    """The search for escapees, their end, and the report of leaks after it."""
    async with ProcessManager(logger) as manager:
        daemon = await manager.start("daemon", programs.daemonizes())
        await daemon.wait_for_line("[0-9]+")
        tag = "=".join(next(iter(manager.environment.items())))
    assert not survivors(tag)
    assert not await manager.leak_report()
    await logger.flush()
    assert "left their session" in logger.path.read_text()


@pytest.mark.usefixtures("no_thread_left")
async def test_the_log_waits_for_no_thread_of_the_app(logger):
    """Neither those who follow it nor an await in the loop of another thread."""

    def write_elsewhere():
        async def write():
            return await logger.info("b", "elsewhere")

        assert asyncio.run(write())

    async with logger:
        followed = logger.follow_logs()
        async with asyncio.timeout(10):
            await call_in_thread(write_elsewhere, "another loop")
            assert (await anext(followed)).message == "elsewhere"
            assert await logger.get_logs(pattern="elsewhere")


async def test_an_end_without_a_further_thread_is_as_thorough(
    logger, survivors, monkeypatch
):
    """The limit of processes and threads of the user is reached."""
    async with ProcessManager(logger) as manager:
        daemon = await manager.start("daemon", programs.daemonizes())
        await daemon.wait_for_line("[0-9]+")
        tag = "=".join(next(iter(manager.environment.items())))

        def refuse(thread):
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(threading.Thread, "start", refuse)
    assert not survivors(tag)
    monkeypatch.undo()


async def test_children_that_stop_together_share_one_search(manager, monkeypatch):
    """A hundred children do not cost a hundred searches through all processes."""
    from realtalk_async.supervision.kernel.process_groups import GroupSearch

    searches, whole = [], GroupSearch._search

    async def count(self):
        searches.append(self)
        return await whole(self)

    monkeypatch.setattr(GroupSearch, "_search", count)
    children = [
        await manager.start(f"{n}", Command("sleep", "1000")) for n in range(30)
    ]
    await asyncio.gather(*(child.stop() for child in children))
    assert 1 <= len(searches) <= 10
