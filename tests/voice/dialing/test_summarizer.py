"""The app's function for the text that stands for older messages."""

import asyncio
import threading
from pathlib import Path

import pytest

from realtalk_async.logs import Logger
from realtalk_async.offline import Peer
from realtalk_async.voice import ConnectionRestored, HistoryLimits, Stream
from realtalk_async.voice.dialing.summarizer import Summarizer
from realtalk_async.voice.protocol.conversation import Entry

MESSAGES = tuple(Entry("user", "text", str(n), f"i{n}") for n in range(3))
TIMEOUT = 60


@pytest.fixture
async def logger(tmp_path):
    async with Logger(tmp_path / "app.log") as logger:
        yield logger


async def ask(summarizer, messages=MESSAGES):
    summarizer.begin(messages)
    return await summarizer.text(messages)


def sums(messages):
    return f"{len(messages)} messages, from {messages[0].content}"


async def sums_later(messages):
    await asyncio.sleep(0)
    return sums(messages)


class Sums:
    def __call__(self, messages):
        return sums_later(messages)


@pytest.mark.parametrize("function", [sums, sums_later, Sums()])
async def test_a_function_async_or_not_gets_the_older_messages(function, logger):
    summarizer = Summarizer(HistoryLimits(summarize=function), logger)
    assert await ask(summarizer) == "3 messages, from 0"
    assert await ask(summarizer, ()) == ""
    assert await ask(summarizer, MESSAGES[:2]) == "2 messages, from 0"


async def test_the_function_is_called_once_for_the_same_messages(logger):
    calls = []

    def once(messages):
        calls.append(messages)
        return "once"

    limits = HistoryLimits(summarize=once)
    summarizer = Summarizer(limits, logger)
    assert [await ask(summarizer) for _ in range(3)] == ["once"] * 3
    assert calls == [MESSAGES]


@pytest.mark.parametrize("result", [None, 5, ValueError("no")])
async def test_a_function_that_fails_is_replaced_by_the_line_and_logged_once(
    result, logger
):
    def fails(messages):
        if isinstance(result, Exception):
            raise result
        return result

    summarizer = Summarizer(HistoryLimits(summarize=fails), logger)
    assert [await ask(summarizer) for _ in range(3)] == [""] * 3
    await logger.flush()
    assert Path(logger.path).read_text().count("[WARNING]") == 1


async def test_a_function_that_hangs_is_not_called_twice_at_a_time(logger):
    go_on, running = threading.Event(), []

    def hangs(messages):
        running.append(messages)
        go_on.wait(TIMEOUT)
        return "late"

    limits = HistoryLimits(summarize=hangs, summarize_timeout=0.05)
    summarizer = Summarizer(limits, logger)
    assert await ask(summarizer) == ""
    assert await ask(summarizer, MESSAGES[:2]) == ""
    assert len(running) == 1
    go_on.set()
    while not summarizer._call.done():
        await asyncio.sleep(0.01)
    assert await ask(summarizer) == "late"
    await summarizer.aclose()


async def test_an_async_function_that_hangs_is_cancelled_at_the_end(logger):
    cancelled = asyncio.Event()

    async def hangs(messages):
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    limits = HistoryLimits(summarize=hangs, summarize_timeout=0.05)
    summarizer = Summarizer(limits, logger)
    assert await ask(summarizer) == ""
    await summarizer.aclose()
    assert cancelled.is_set()


async def test_a_session_sends_the_summary_to_the_next_connection(tmp_path):
    """The peer drops the connection in the second response."""
    limits = HistoryLimits(replay_items=2, summarize=sums)
    restored = asyncio.Event()
    async with Peer(pace=0) as peer:
        stream = Stream(
            logger=Logger(tmp_path / "app.log"),
            url=f"{peer.url}?fault=drop@response.created:3",
            microphone=None,
            speaker=None,
            history=limits,
        )
        seen = []

        def note(event):
            if isinstance(event, ConnectionRestored):
                seen.append((event.replayed, event.left_out))
                restored.set()

        stream.subscribe(note)
        async with stream:
            for number in range(3):
                await stream.send_text(f"Hello {number}", trigger_response=True)
            await asyncio.wait_for(restored.wait(), TIMEOUT)
            assert seen == [(2, 3)]
            (item,) = [
                event.data["item"]
                for event in stream.view_log("item.create", direction="sent")
                if event.data["item"]["role"] == "system"
            ]
            assert item["content"][0]["text"] == "3 messages, from Hello 0"
            assert not any(e.role == "system" for e in stream.conversation())
