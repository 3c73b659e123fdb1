"""Test a voice app with pytest-asyncio: no key, no sound card, faults on demand."""

import pytest
import pytest_asyncio

from realtalk_async import Stream
from realtalk_async.offline import Peer


@pytest_asyncio.fixture
async def peer():
    """The other side of the wire, on this machine."""
    async with Peer() as peer:
        yield peer


@pytest_asyncio.fixture
async def stream(peer, realtalk_logger):
    """A session with it; a failing test shows its log."""
    where = {"url": peer.url, "logger": realtalk_logger}
    async with Stream(**where, microphone=None, speaker=None) as stream:
        yield stream


@pytest.mark.asyncio
async def test_the_app_gets_its_answer(stream):
    """A question in writing is answered in writing."""
    stream.send_text("What is seven plus five?", trigger_response=True)
    outcome = await stream.wait_for_response(timeout=10)
    assert "twelve" in outcome.text


@pytest.mark.asyncio
async def test_a_lost_connection_is_survived(stream, peer):
    """The peer hangs up in mid-response; the next question is answered all the same."""
    peer.fault("drop@response.output_text.delta:3")
    stream.send_text("Tell me a story", trigger_response=True)
    assert (await stream.wait_for_response(timeout=10)).status == "lost"
    stream.send_text("What is one plus one?", trigger_response=True)
    assert "two" in (await stream.wait_for_response(timeout=10)).text
