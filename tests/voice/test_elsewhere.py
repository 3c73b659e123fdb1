"""Other endpoints, reconnects that the app asks for, and words in an outage."""

import asyncio
import socket
import wave

import pytest

from realtalk_async.exceptions import (
    AudioUnavailable,
    ClosedStream,
    InvalidConfiguration,
    ServiceRefused,
    ServiceUnreachable,
    WaitExpired,
)
from realtalk_async.logs import Logger
from realtalk_async.offline import Peer
from realtalk_async.voice import OutageSound, Status, Stream, events

TIMEOUT = 60
QUESTION = "What is two plus three?"


@pytest.fixture
async def peer():
    async with Peer(pace=0) as peer:
        yield peer


@pytest.fixture
async def other():
    async with Peer(pace=0) as peer:
        yield peer


@pytest.fixture
def nobody():
    """Return an address at which nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"ws://127.0.0.1:{free.getsockname()[1]}/v1/realtime"


@pytest.fixture
def make(tmp_path):
    def make(url, **options):
        options = {"microphone": None, "speaker": None, **options}
        return Stream(logger=Logger(tmp_path / "app.log"), url=url, **options)

    return make


def observe(stream, *kinds):
    seen = []
    stream.subscribe(seen.append, *kinds)
    return seen


async def ask(stream):
    return await asyncio.wait_for(stream.send_text(QUESTION, trigger_response=True), 60)


async def until(condition):
    async with asyncio.timeout(TIMEOUT):
        while not condition():
            await asyncio.sleep(0.01)


# --- Several addresses --------------------------------------------------------------


async def test_the_next_address_is_dialled_when_the_first_cannot_be_reached(
    nobody, peer, make
):
    stream = make([nobody, f"{peer.url}?model=small"])
    changes = observe(stream, events.EndpointChanged)
    connected = observe(stream, events.Connected)
    async with stream:
        assert (await ask(stream)).completed
    assert [change.model for change in changes] == ["small"]
    assert "cannot reach" in changes[0].reason
    assert [event.model for event in connected] == ["small"]
    assert stream.summary().restarts["connection"] == 0


async def test_the_conversation_goes_on_elsewhere_after_a_fatal_error(
    peer, other, make
):
    stream = make([peer.url, other.url])
    changes = observe(stream, events.EndpointChanged)
    async with stream:
        assert (await ask(stream)).completed
        peer.fault("error-insufficient_quota@response.created")
        assert (await ask(stream)).status is Status.LOST
        assert (await ask(stream)).completed
        assert peer.connections == other.connections == 1
        assert len(stream.conversation()) == 5
    assert "insufficient_quota" in changes[0].reason


async def test_a_session_ends_if_all_addresses_refuse_it(peer, other, make):
    stream = make([peer.url, other.url])
    with pytest.raises(ServiceRefused):
        async with stream:
            for each in (peer, other):
                each.fault("error-insufficient_quota@response.created")
            await ask(stream)
            await ask(stream)
    assert peer.connections == other.connections == 1


async def test_a_start_without_any_address_that_answers_fails(nobody, make):
    with pytest.raises(ServiceUnreachable):
        async with make([nobody, nobody]):
            pass


async def test_the_session_returns_to_the_first_address(peer, other, make):
    """A reconnect tries all addresses again, in their order."""
    stream = make([peer.url, other.url])
    async with stream:
        peer.fault("error-insufficient_quota@response.created")
        await ask(stream)
        assert (await ask(stream)).completed
        await stream.reconnect()
        assert (await ask(stream)).completed
        assert (peer.connections, other.connections) == (2, 1)


# --- A reconnect that the app asks for ----------------------------------------------


async def test_a_reconnect_replays_the_conversation_and_is_no_failure(peer, make):
    stream = make(peer.url)
    recycled = observe(stream, events.ConnectionRecycled)
    restored = observe(stream, events.ConnectionRestored)
    lost = observe(stream, events.ConnectionLost)
    async with stream:
        await ask(stream)
        for _ in range(3):
            await stream.reconnect(TIMEOUT)
            assert stream.is_ready()
        assert (await ask(stream)).completed
        assert stream.process_status()["connection"].restarts == 0
    assert peer.connections == 4
    assert [event.requested for event in recycled] == [True] * 3
    assert [event.replayed for event in restored] == [2] * 3
    assert lost == []
    assert "as the app asked" in str(recycled[0])


async def test_a_reconnect_waits_for_the_response_under_way(peer, make):
    stream = make(peer.url)
    async with stream:
        request = stream.send_text(QUESTION, trigger_response=True)
        await stream.reconnect()
        assert (await request).completed


async def test_a_reconnect_ends_a_response_that_never_ends(peer, make, monkeypatch):
    module = "realtalk_async.voice.protocol.requests.replacement"
    monkeypatch.setattr(f"{module}.PATIENCE", 0.2)
    stream = make(peer.url)
    peer.fault("stall@response.output_text.delta")
    async with stream:
        request = stream.send_text(QUESTION, trigger_response=True)
        started = observe(stream, events.ResponseStarted)
        await until(lambda: started)
        await stream.reconnect()
        outcome = await request
        assert outcome.status is Status.LOST
        assert outcome.reason == "the app asked for another connection"
        assert (await ask(stream)).completed


async def test_a_reconnect_outside_a_session_is_refused(peer, make):
    stream = make(peer.url)
    with pytest.raises(ClosedStream):
        await stream.reconnect()
    async with stream:
        with pytest.raises(InvalidConfiguration):
            await stream.reconnect(-1)
    with pytest.raises(ClosedStream):
        await stream.reconnect()


# --- Words in an outage -------------------------------------------------------------


@pytest.fixture
def sorry(tmp_path):
    """Return the path of a sound of 300 ms, and its samples."""
    path, pcm = tmp_path / "sorry.wav", bytes(range(1, 241)) * 60
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 24_000, 0, "NONE", ""))
        file.writeframes(pcm)
    return path, pcm


async def test_a_file_is_played_once_in_each_outage(make, sorry):
    path, pcm = sorry
    heard = []
    peer = await Peer(pace=0).__aenter__()
    sound = OutageSound(path, after=0.05)
    stream = make(peer.url, outage_sound=sound, speaker=heard.append)
    announced = observe(stream, events.OutageAnnounced)
    async with stream:
        await peer.__aexit__(None, None, None)
        await until(lambda: sum(map(len, heard)) >= len(pcm))
        with pytest.raises(WaitExpired):
            await stream.reconnect(0.3)
        assert len(announced) == 1
        assert b"".join(heard) == pcm
        stream.interrupt()
    assert announced[0].seconds >= 0.05


async def test_no_file_is_played_in_a_short_outage(peer, make, sorry):
    heard = []
    stream = make(peer.url, outage_sound=sorry[0], speaker=heard.append)
    announced = observe(stream, events.OutageAnnounced)
    async with stream:
        await stream.reconnect()
        assert (announced, heard) == ([], [])


async def test_a_file_that_cannot_be_played_is_refused_at_the_start(
    peer, make, tmp_path
):
    (tmp_path / "bad.wav").write_text("no sound")
    for name in ("bad.wav", "missing.wav"):
        with pytest.raises(AudioUnavailable, match=name):
            async with make(peer.url, outage_sound=tmp_path / name, speaker=print):
                pass


@pytest.mark.parametrize("wrong", [5, OutageSound])
def test_an_outage_sound_that_makes_no_sense_is_refused(wrong, make):
    with pytest.raises(InvalidConfiguration, match="outage_sound"):
        make(None, outage_sound=wrong)
    with pytest.raises(InvalidConfiguration, match="after"):
        OutageSound("a.wav", after=-1)
