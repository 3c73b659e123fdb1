"""A request for a response, awaited in sessions with the offline peer."""

import asyncio
import gc
import warnings

import anyio
import pytest

from realtalk_async.exceptions import ClosedStream, InvalidConfiguration
from realtalk_async.logs import Logger
from realtalk_async.offline import Peer
from realtalk_async.voice import Status, Stream

SHORT = 240  # seconds: the machine may be busy


@pytest.fixture
async def peer():
    async with Peer(pace=0) as peer:
        yield peer


@pytest.fixture
def stream(peer, tmp_path):
    logger = Logger(tmp_path / "app.log")
    return Stream(logger=logger, url=peer.url, microphone=None, speaker=None)


async def test_each_request_gives_the_response_that_belongs_to_it(stream):
    async with stream:
        requests = [
            stream.send_text(f"What is {number} plus one?", trigger_response=True)
            for number in ("two", "three", "four")
        ]
        with anyio.fail_after(SHORT):
            last, first, second = await asyncio.gather(
                requests[2], requests[0], requests[1]
            )
    texts = [outcome.text for outcome in (first, second, last)]
    assert texts == [
        "Two plus one is three.",
        "Three plus one is four.",
        "Four plus one is five.",
    ]
    assert requests[0].outcome is first
    assert all(request.done() for request in requests)


async def test_a_request_may_be_made_before_the_start_and_awaited_again(stream):
    request = stream.send_text("What is two plus three?", trigger_response=True)
    assert not request.done()
    assert repr(request) == "<ResponseRequest queued>"
    async with stream:
        with anyio.fail_after(SHORT):
            outcome = await request
    assert outcome.completed
    assert await request is outcome


async def test_a_text_without_a_request_for_a_response_gives_none(stream):
    async with stream:
        assert stream.send_text("By the way") is None


async def test_an_awaited_request_does_not_count_for_wait_for_response(stream):
    """The next call waits for the next response."""
    async with stream:
        with anyio.fail_after(SHORT):
            first = await stream.send_text("one plus one?", trigger_response=True)
            request = stream.send_text("two plus two?", trigger_response=True)
            second = await stream.wait_for_response()
            assert await request is second
    assert first is not second


async def test_a_request_is_lost_with_its_connection_and_the_next_one_is_not(
    peer, stream
):
    peer.fault("drop@response.created")
    async with stream:
        one = stream.send_text("one plus one?", trigger_response=True)
        two = stream.send_text("two plus two?", trigger_response=True)
        with anyio.fail_after(SHORT):
            assert (await one).status is Status.LOST
            assert (await two).completed


async def test_a_request_raises_when_the_session_ends_before_it_was_sent(peer, stream):
    peer.fault("stall@response.created")
    async with stream:
        stream.send_text("two plus two?", trigger_response=True)
        queued = stream.send_text("And now?", trigger_response=True)
        await stream.stop_streaming()
    with pytest.raises(ClosedStream):
        await queued


async def test_an_ignored_request_leaves_nothing_behind(stream):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        before = len(asyncio.all_tasks())
        async with stream:
            stream.send_text("two plus two?", trigger_response=True)
            with anyio.fail_after(SHORT):
                await stream.wait_for_response()
            gc.collect()
    assert len(asyncio.all_tasks()) == before


async def test_a_cancelled_wait_leaves_the_request_as_it_is(stream):
    request = stream.send_text("two plus two?", trigger_response=True)
    waiting = asyncio.ensure_future(request)
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    async with stream:
        with anyio.fail_after(SHORT):
            assert (await request).completed


@pytest.mark.parametrize(("text", "role"), [("", "user"), (" \n", "user"), ("x", "me")])
async def test_an_invalid_text_is_refused(stream, text, role):
    with pytest.raises(InvalidConfiguration):
        stream.send_text(text, role)
