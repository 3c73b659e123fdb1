"""`WorkerThread`: one thread for blocking jobs."""

from __future__ import annotations

import logging
import threading
from functools import partial

import anyio
import pytest

from realtalk_async.concurrency.worker_thread import Worker

NAME = "realtalk-test-worker"


def threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith(NAME)]


async def test_jobs_run_in_order_on_one_thread():
    done: list[tuple[int, str]] = []
    worker = Worker(NAME)

    def note(number: int) -> None:
        done.append((number, threading.current_thread().name))

    for number in range(50):
        worker.post(partial(note, number))
    with anyio.fail_after(120):
        await worker.run(partial(note, 50))
    assert [number for number, _ in done] == list(range(51))
    assert len({name for _, name in done}) == 1
    await worker.aclose()


async def test_the_thread_begins_with_the_first_job_and_ends_with_the_worker():
    worker = Worker(NAME)
    assert threads() == []
    with anyio.fail_after(120):
        assert await worker.run(lambda: len(threads())) == 1
        await worker.aclose()
        await worker.aclose()
    assert threads() == []


async def test_closing_waits_for_the_running_job_and_drops_the_others():
    worker, group_started, release = Worker(NAME), threading.Event(), threading.Event()
    done: list[str] = []

    def slow() -> None:
        group_started.set()
        release.wait(120)
        done.append("slow")

    worker.post(slow)
    worker.post(lambda: done.append("dropped"))
    with anyio.fail_after(120):
        while not group_started.is_set():
            await anyio.sleep(0)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(worker.aclose)
            await anyio.wait_all_tasks_blocked()
            assert threads()
            release.set()
    assert done == ["slow"]
    assert threads() == []


async def test_the_loop_runs_while_a_job_runs_and_while_the_worker_closes():
    worker, release = Worker(NAME), threading.Event()
    ticks = 0
    with anyio.fail_after(120):
        async with anyio.create_task_group() as tasks:
            worker.post(lambda: release.wait(120))
            tasks.start_soon(worker.aclose)
            for _ in range(20):
                await anyio.sleep(0)
                ticks += 1
            release.set()
    assert ticks == 20


async def test_a_job_for_a_closed_worker_raises():
    worker = Worker(NAME)
    await worker.aclose()
    worker.post(lambda: pytest.fail("ran"))
    with pytest.raises(RuntimeError, match=NAME):
        await worker.run(lambda: None)
    assert threads() == []


async def test_an_exception_of_a_posted_job_is_logged(caplog):
    worker = Worker(NAME)
    with caplog.at_level(logging.ERROR), anyio.fail_after(120):
        worker.post(lambda: 1 // 0)
        await worker.run(lambda: None)
        await worker.aclose()
    assert "ZeroDivisionError" in caplog.text


async def test_an_exception_of_a_job_is_raised_in_the_waiting_task():
    worker = Worker(NAME)
    with anyio.fail_after(120), pytest.raises(ZeroDivisionError):
        await worker.run(lambda: 1 // 0)
    await worker.aclose()
