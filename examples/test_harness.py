"""Test a voice app with pytest-asyncio, without key or sound card, with faults."""

import pytest
import pytest_asyncio

from realtalk_async import Stream
from realtalk_async.offline import Peer


@pytest_asyncio.fixture
async def peer():
    """Run an offline peer on this machine."""
    async with Peer() as peer:
        yield peer


@pytest_asyncio.fixture
async def stream(peer, realtalk_logger):
    """Run a session with the peer; a failing test shows its log."""
    where = {"url": peer.url, "logger": realtalk_logger}
    async with Stream(**where, microphone=None, speaker=None) as stream:
        yield stream


@pytest.mark.asyncio
async def test_the_app_gets_its_answer(stream):
    """A written question has a written response."""
    stream.send_text("What is seven plus five?", trigger_response=True)
    response = await stream.wait_for_response(timeout=10)
    assert "twelve" in response.text


@pytest.mark.asyncio
async def test_a_lost_connection_is_survived(stream, peer):
    """The connection breaks during a response; the next question is answered."""
    peer.fault("drop@response.output_text.delta:3")
    stream.send_text("Tell me a story", trigger_response=True)
    assert (await stream.wait_for_response(timeout=10)).status == "lost"
    stream.send_text("What is one plus one?", trigger_response=True)
    assert "two" in (await stream.wait_for_response(timeout=10)).text
