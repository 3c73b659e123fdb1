"""`BlockingCall`: a function that may block, called in a thread."""

import asyncio
import threading

import anyio
import pytest

from realtalk_async.concurrency.blocking_call import Blocking

TIMEOUT = 120


async def test_calls_run_one_after_the_other_in_one_thread():
    """The results are returned in order."""
    threads = []

    def double(number):
        threads.append(threading.current_thread())
        return 2 * number

    call = Blocking(double, "doubler")
    answers = await asyncio.gather(*(call(n) for n in range(20)))
    assert answers == [2 * n for n in range(20)]
    (thread,) = set(threads)
    assert thread.name == "doubler"
    assert thread.daemon
    assert await call.aclose()
    assert not thread.is_alive()


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OSError("gone"), OSError),
        (SystemExit(3), RuntimeError),
        (StopIteration(), RuntimeError),
    ],
)
async def test_an_exception_of_the_function_is_raised_once_in_the_task(error, kind):
    """StopIteration becomes an exception that a task can raise."""
    errors = [error]

    def read():
        if errors:
            raise errors.pop()
        return b"pcm"

    call = Blocking(read, "reader")
    with pytest.raises(kind) as caught:
        await call()
    assert error in (caught.value, caught.value.__cause__)
    assert await call() == b"pcm"
    await call.aclose()


async def test_a_call_that_hangs_can_be_cancelled_and_delays_the_end_only_briefly():
    entered, go_on = threading.Event(), threading.Event()

    def hang():
        entered.set()
        go_on.wait(TIMEOUT)

    call = Blocking(hang, "hanger")
    waiting = asyncio.create_task(call())
    with anyio.fail_after(TIMEOUT):
        while not entered.is_set():
            await asyncio.sleep(0.01)
        waiting.cancel()
        await asyncio.wait([waiting])
        assert not await call.aclose(grace=0.01)
    go_on.set()


async def test_a_coroutine_of_a_cancelled_call_is_closed():
    """Python would warn of it otherwise."""
    made = []

    async def read():
        return b""

    def make():
        made.append(read())
        return made[0]

    call = Blocking(make, "maker")
    waiting = asyncio.create_task(call())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    await call.aclose()
    with pytest.raises(RuntimeError, match="cannot reuse"):
        await made[0]
