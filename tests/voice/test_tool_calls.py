"""Calls of tools in sessions with the offline peer: cancelled, ending, looping, failing."""

from __future__ import annotations

import asyncio
import threading
import time

import anyio
import pytest

from realtalk_async.exceptions import ClosedStream, EndSession
from realtalk_async.logs import Logger
from realtalk_async.offline import Peer
from realtalk_async.voice import (
    ResponseFinished,
    Status,
    Stream,
    Tool,
    ToolCalled,
    ToolFinished,
)

TIMEOUT = 240  # seconds: the machine may be busy
WEATHER = "What is the weather in Oslo?"


@pytest.fixture
async def peer():
    async with Peer(pace=0) as peer:
        yield peer


@pytest.fixture
def make(peer, tmp_path):
    def make(*tools, **options):
        logger = Logger(tmp_path / "app.log")
        options = {"microphone": None, "speaker": None, **options}
        return Stream(logger=logger, url=peer.url, tools=tools, **options)

    return make


class Work:
    """A tool that works until it is told to return."""

    def __init__(self):
        self.begun, self.release = asyncio.Event(), asyncio.Event()
        self.cancelled = False

    async def get_weather(self, city: str) -> str:
        """Tell the weather."""
        self.begun.set()
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        return f"sunny in {city}"


class Blocking:
    """A tool that works in a thread until it is told to return."""

    def __init__(self):
        self.begun, self.release = threading.Event(), threading.Event()
        self.returned = threading.Event()

    def get_weather(self, city: str) -> str:
        """Tell the weather."""
        self.begun.set()
        self.release.wait(TIMEOUT)
        self.returned.set()
        return f"sunny in {city}"


def results(stream):
    """Return a list that receives the results of tools."""
    found: list[ToolFinished] = []
    stream.subscribe(found.append, ToolFinished)
    return found


def outputs(peer):
    """Return what the peer got as results of tools."""
    items = [one.event["item"] for one in peer.received if "item" in one.event]
    return [i["output"] for i in items if i["type"] == "function_call_output"]


async def test_a_break_in_cancels_a_tool_and_the_conversation_goes_on(peer, make):
    work = Work()
    stream = make(work.get_weather)
    finished = results(stream)
    async with stream:
        with anyio.fail_after(TIMEOUT):
            request = stream.send_text(WEATHER, trigger_response=True)
            await work.begun.wait()
            stream.interrupt()
            outcome = await request
            assert outcome.status is Status.CANCELLED
            assert outcome.reason == "cancelled while tools worked"
            answer = await stream.send_text("Two plus two?", trigger_response=True)
            assert answer.text == "Two plus two is four."
    (result,) = finished
    assert result.cancelled
    assert work.cancelled
    assert outputs(peer) == ["error: the call was cancelled: the user interrupted"]
    assert "2 cancelled" not in str(stream.summary())


async def test_a_tool_that_must_not_be_cut_short_goes_on_after_a_break_in(peer, make):
    work = Work()
    stream = make(Tool.of(work.get_weather, cancel_on_interruption=False))
    async with stream:
        with anyio.fail_after(TIMEOUT):
            request = stream.send_text(WEATHER, trigger_response=True)
            await work.begun.wait()
            stream.interrupt()
            work.release.set()
            outcome = await request
    assert outcome.completed
    assert "sunny" in outcome.text


async def test_the_result_of_a_function_in_a_thread_is_dropped_and_told(peer, make):
    work = Blocking()
    stream = make(work.get_weather)
    finished = results(stream)
    async with stream:
        with anyio.fail_after(TIMEOUT):
            request = stream.send_text(WEATHER, trigger_response=True)
            while not work.begun.is_set():
                await asyncio.sleep(0.005)
            stream.interrupt()
            assert (await request).status is Status.CANCELLED
            work.release.set()
            while not work.returned.is_set():
                await asyncio.sleep(0.005)
            assert (await stream.send_text("Two plus two?", trigger_response=True)).text
    (result,) = finished
    assert (result.cancelled, result.failed) == (True, True)
    assert result.error == "its function goes on in its thread; the result is dropped"
    assert outputs(peer) == ["error: the call was cancelled: the user interrupted"]


async def test_the_end_of_the_session_cancels_tools_and_tells_it(make):
    work = Work()
    stream = make(work.get_weather)
    finished = results(stream)
    async with stream:
        with anyio.fail_after(TIMEOUT):
            request = stream.send_text(WEATHER, trigger_response=True)
            await work.begun.wait()
    (result,) = finished
    assert (result.cancelled, result.output) == (
        *(True, "error: the call was cancelled: the session ended"),
    )
    assert work.cancelled
    assert (await request).status is Status.LOST


@pytest.mark.parametrize("kind", ["async", "thread"])
async def test_a_tool_ends_the_session_after_the_last_words(make, kind):
    async def end_call() -> None:
        """End the call."""
        raise EndSession("Bye.")

    def end_call_in_thread() -> None:
        """End the call."""
        raise EndSession

    tool = end_call if kind == "async" else end_call_in_thread
    played: list[bytes] = []
    speaker = played.append if kind == "async" else None
    stream = make(Tool.of(tool, name="end_call"), speaker=speaker)
    finished, ends = results(stream), []
    stream.subscribe(ends.append, ResponseFinished)
    with anyio.fail_after(TIMEOUT):
        running = asyncio.ensure_future(stream.start_streaming())
        request = stream.send_text("Please end the call.", trigger_response=True)
        summary = await running
        outcome = await request
    (result,) = finished
    assert (result.failed, result.ends_session) == (False, True)
    assert summary.ended_by == "the tool end_call"
    assert outcome.completed
    assert [end.outcome for end in ends][-1] is outcome
    assert (summary.played_audio > 0.5) is (kind == "async")
    assert sum(map(len, played)) / 48_000 == pytest.approx(summary.played_audio)


async def test_a_tool_ends_the_session_also_if_its_last_words_are_lost(peer, make):
    async def end_call() -> None:
        """End the call."""
        peer.fault("drop@response.created")
        raise EndSession

    stream = make(end_call)
    with anyio.fail_after(TIMEOUT):
        running = asyncio.ensure_future(stream.start_streaming())
        request = stream.send_text("Please end the call.", trigger_response=True)
        summary = await running
    assert summary.ended_by == "the tool end_call"
    assert (await request).status is Status.LOST


async def test_filler_words_that_a_tool_awaits_call_no_tools(peer, make):
    """The tool would wait for itself."""

    async def get_weather(city: str) -> str:
        """Tell the weather."""
        filler = stream.send_text("The weather, please.", trigger_response=True)
        return f"sunny, {(await filler).status}"

    stream = make(get_weather, session={"tool_choice": "required"})
    finished = results(stream)
    async with stream:
        with anyio.fail_after(TIMEOUT):
            outcome = await stream.send_text(WEATHER, trigger_response=True)
    assert [result.output for result in finished] == ["sunny, completed"]
    assert "sunny" in outcome.text


async def test_a_function_in_a_thread_says_filler_words_too(peer, make):
    def get_weather(city: str) -> str:
        """Tell the weather."""
        filler = stream.send_text("Two plus two?", trigger_response=True)
        while filler.outcome is None:
            time.sleep(0.005)
        return f"sunny, {filler.outcome.text}"

    stream = make(get_weather)
    finished = results(stream)
    async with stream:
        with anyio.fail_after(TIMEOUT):
            outcome = await stream.send_text(WEATHER, trigger_response=True)
    assert [result.output for result in finished] == ["sunny, Two plus two is four."]
    assert "sunny" in outcome.text


async def test_a_task_of_a_tool_asks_for_anything_once_the_tool_has_returned(
    peer, make
):
    tasks = []

    async def set_timer() -> str:
        """Set a timer."""

        async def ring():
            while not finished:
                await asyncio.sleep(0.005)
            return await stream.send_text(
                "Please set the timer.", trigger_response=True
            )

        if not tasks:
            tasks.append(asyncio.create_task(ring()))
        return "the timer is set"

    stream = make(set_timer)
    finished = results(stream)
    async with stream:
        with anyio.fail_after(TIMEOUT):
            await stream.send_text("Please set the timer.", trigger_response=True)
            await tasks[0]
    assert len(finished) == 2


async def test_the_result_of_a_tool_is_sent_on_another_connection(peer, make):
    work = Work()
    stream = make(work.get_weather)
    async with stream:
        with anyio.fail_after(TIMEOUT):
            request = stream.send_text(WEATHER, trigger_response=True)
            await work.begun.wait()
            peer.fault("drop@response.created")
            filler = stream.send_text("One plus one?", trigger_response=True)
            assert (await filler).status is Status.LOST
            work.release.set()
            outcome = await request
    assert outcome.completed
    assert "sunny in Oslo" in outcome.text
    types = [
        one.event["item"]["type"]
        for one in peer.received
        if one.connection == 2 and "item" in one.event
    ]
    at = types.index("function_call")
    assert types[at + 1] == "function_call_output"


async def test_filler_words_an_image_and_a_failing_tool_have_their_place(peer, make):
    """The event log tells the conversation."""
    png = b"\x89PNG\r\n\x1a\n" + bytes(20)
    calls = 0

    async def get_weather(city: str) -> str:
        """Tell the weather."""
        nonlocal calls
        calls += 1
        if calls == 1:
            raise OSError("the sensor is broken")
        filler = stream.send_text("Two plus two?", trigger_response=True)
        assert (await filler).text == "Two plus two is four."
        return f"sunny in {city}"

    stream = make(get_weather)
    seen: list[str] = []
    stream.subscribe(lambda e: seen.append(f"{e.name} {e.failed}"), ToolFinished)
    stream.subscribe(lambda e: seen.append(e.name), ToolCalled)
    async with stream:
        with anyio.fail_after(TIMEOUT):
            failed = await stream.send_text(WEATHER, trigger_response=True)
            request = await stream.send_image(png, WEATHER, trigger_response=True)
            answered = await request
    assert "the tool failed" in failed.text
    assert "sunny in Oslo" in answered.text
    assert seen == [
        *("get_weather", "get_weather True", "get_weather", "get_weather False"),
    ]
    assert "sensor" not in str([one.event for one in peer.received])


async def test_a_tool_that_stops_the_session_itself_is_cancelled(make):
    async def get_weather(city: str) -> str:
        """Tell the weather."""
        await stream.stop_streaming()
        return city

    stream = make(get_weather)
    with anyio.fail_after(TIMEOUT):
        running = asyncio.ensure_future(stream.start_streaming())
        stream.send_text(WEATHER, trigger_response=True)
        assert (await running).ended_by == "stop_streaming"
    with pytest.raises(ClosedStream):
        stream.send_text("More?")
