"""Calls of a session from other threads run in its event loop."""

from __future__ import annotations

import asyncio
import threading

import pytest

from realtalk_async.exceptions import InvalidConfiguration, WaitExpired
from realtalk_async.voice.requests import threads
from realtalk_async.voice.requests.threads import callable_from_threads


class Homely:
    def __init__(self, loop=None):
        self.home_loop = loop
        self.calls = []

    @callable_from_threads
    def note(self, what, *, fails=False):
        """Note a call."""
        if fails:
            raise InvalidConfiguration(what)
        self.calls.append((what, threading.current_thread().name))
        return what.upper()


def in_thread(call):
    """Return a future of a call in a thread named ``other``."""
    loop = asyncio.get_running_loop()
    answer = loop.create_future()

    def run():
        try:
            result = call()
        except Exception as error:
            loop.call_soon_threadsafe(answer.set_exception, error)
        else:
            loop.call_soon_threadsafe(answer.set_result, result)

    threading.Thread(target=run, name="other", daemon=True).start()
    return answer


async def test_a_call_from_a_thread_runs_in_the_loop_and_returns_its_result():
    here = threading.current_thread().name
    homely = Homely(asyncio.get_running_loop())
    assert await in_thread(lambda: homely.note("a")) == "A"
    assert homely.note("b") == "B"
    assert homely.calls == [("a", here), ("b", here)]
    assert homely.note.__doc__ == "Note a call."


async def test_a_call_from_a_thread_raises_what_the_method_raises():
    homely = Homely(asyncio.get_running_loop())
    with pytest.raises(InvalidConfiguration, match="wrong"):
        await in_thread(lambda: homely.note("wrong", fails=True))


def test_an_object_without_a_loop_is_called_directly():
    homely = Homely()
    assert homely.note("a") == "A"
    loop = asyncio.new_event_loop()
    loop.close()
    assert Homely(loop).note("a") == "A"


def test_a_loop_that_takes_no_call_is_not_waited_for_without_end(monkeypatch):
    monkeypatch.setattr(threads, "LIMIT", 0.01)
    loop = asyncio.new_event_loop()
    homely = Homely(loop)
    with pytest.raises(WaitExpired, match="did not take a call"):
        homely.note("a")
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    assert homely.calls == []
