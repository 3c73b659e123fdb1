"""A call that may block, in a thread of its own."""

import asyncio
import contextvars
import threading

import pytest

from realtalk_async.concurrency.daemon_thread import call_in_thread

name = contextvars.ContextVar("name", default="unset")


def threads():
    return {one.name for one in threading.enumerate()}


async def test_a_call_returns_the_result_of_the_function():
    """It runs in a daemon of the given name, with the caller's context."""
    name.set("caller")

    def work():
        return threading.current_thread(), name.get()

    thread, seen = await call_in_thread(work, "a call")
    assert (thread.name, thread.daemon, seen) == ("a call", True, "caller")
    assert not thread.is_alive()


@pytest.mark.parametrize(
    ("raised", "arrives"),
    [(KeyError, KeyError), (SystemExit, RuntimeError), (StopIteration, RuntimeError)],
)
async def test_a_call_raises_the_exception_of_the_function(raised, arrives):
    """One that would end the loop, or that no future takes, is replaced."""

    def fail():
        raise raised("why")

    with pytest.raises(arrives, match="why"):
        await call_in_thread(fail, "a call that fails")


@pytest.mark.parametrize("fails", [False, True])
async def test_a_cancelled_call_does_not_wait_for_the_function(fails):
    """Its result, or exception, is dropped; the thread ends with the function."""
    begun, may_end = threading.Event(), threading.Event()

    def work():
        begun.set()
        may_end.wait()
        if fails:
            raise KeyError

    task = asyncio.ensure_future(call_in_thread(work, "a long call"))
    while not begun.is_set():
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert "a long call" in threads()
    may_end.set()
    while "a long call" in threads():
        await asyncio.sleep(0.001)


def test_a_function_may_outlive_the_loop():
    """Nobody hears its result."""
    may_end = threading.Event()

    async def main():
        task = asyncio.ensure_future(call_in_thread(may_end.wait, "a late call"))
        await asyncio.sleep(0)
        task.cancel()

    asyncio.run(main())
    [thread] = [one for one in threading.enumerate() if one.name == "a late call"]
    may_end.set()
    thread.join()
