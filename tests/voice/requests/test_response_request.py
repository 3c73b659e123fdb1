"""Each request for a response ends, and says how and why."""

from __future__ import annotations

import asyncio
import threading

import anyio
import pytest

from realtalk_async.exceptions import (
    ClosedStream,
    CriticalProcessFailed,
    MissingApiKey,
    ResponseNotCompleted,
    ServiceRefused,
    WrongEventLoop,
)
from realtalk_async.logs import Logger
from realtalk_async.offline import Peer
from realtalk_async.supervision import RestartPolicy
from realtalk_async.voice import ResponseStarted, ServiceError, Status, Stream
from realtalk_async.voice import supervisor as supervisor_module

TIMEOUT = 240  # seconds: the machine may be busy
QUESTION = "What is two plus three?"


@pytest.fixture
async def peer():
    async with Peer(pace=0) as peer:
        yield peer


@pytest.fixture
def make(peer, tmp_path):
    def make(**options):
        logger = Logger(tmp_path / "app.log")
        silent = {"microphone": None, "speaker": None}
        return Stream(logger=logger, url=peer.url, **silent, **options)

    return make


async def begun(stream):
    """Wait until a response has started."""
    started = asyncio.Event()
    unsubscribe = stream.subscribe(lambda _: started.set(), ResponseStarted)
    await started.wait()
    unsubscribe()


async def test_two_tasks_that_ask_get_each_their_own_response(make):
    async def ask(question):
        stream.send_text(question, trigger_response=True)
        await asyncio.sleep(0)  # the other task asks meanwhile
        return (await stream.wait_for_response(TIMEOUT)).text

    async with make() as stream:
        numbers = ("one", "two", "three")
        answers = await asyncio.gather(*(ask(f"{n} plus one?") for n in numbers))
    assert answers == [
        "One plus one is two.",
        "Two plus one is three.",
        "Three plus one is four.",
    ]


async def test_a_task_that_has_not_asked_waits_for_the_last_request_of_all(make):
    async with make() as stream:
        with anyio.fail_after(TIMEOUT):
            mine = stream.send_text("one plus one?", trigger_response=True)
            await mine

            async def ask():
                return stream.send_text("two plus two?", trigger_response=True)

            theirs = await asyncio.create_task(ask())
            assert await stream.wait_for_response() is await theirs


@pytest.mark.parametrize(
    ("fault", "status", "reason"),
    [
        ("failed-rate_limit", Status.FAILED, "rate_limit"),
        ("incomplete-content_filter", Status.INCOMPLETE, "content_filter"),
        ("drop@response.created", Status.LOST, "the connection to"),
        ("close-1011@response.created", Status.LOST, "1011"),
        ("missing", Status.STALLED, "nothing more came for 0.3 s"),
    ],
)
async def test_a_response_that_does_not_complete_tells_why(
    peer, make, fault, status, reason
):
    peer.fault(fault)
    async with make(stall_after=0.3 if status is Status.STALLED else 60) as stream:
        with anyio.fail_after(TIMEOUT):
            outcome = await stream.send_text(QUESTION, trigger_response=True)
            assert outcome.status is status
            assert reason in outcome.reason
            with pytest.raises(ResponseNotCompleted) as caught:
                outcome.raise_unless_completed()
            assert str(caught.value) == f"the response is {status}: {outcome.reason}"
            assert caught.value.status == str(status)
            again = await stream.send_text(QUESTION, trigger_response=True)
            assert again.raise_unless_completed() is again


async def test_an_interrupted_response_is_cancelled_and_the_next_one_answered(tmp_path):
    def play(pcm: bytes) -> None:
        pass

    async with Peer(pace=1) as peer:
        logger = Logger(tmp_path / "app.log")
        stream = Stream(logger=logger, url=peer.url, microphone=None, speaker=play)
        async with stream:
            with anyio.fail_after(TIMEOUT):
                first = stream.send_text("Tell me a story.", trigger_response=True)
                queued = stream.send_text(QUESTION, trigger_response=True)
                await begun(stream)
                stream.interrupt()
                outcome = await first
                assert outcome.status is Status.CANCELLED
                assert outcome.reason == "client_cancelled"
                assert (await queued).text == "Two plus three is five."


async def test_a_request_whose_message_is_refused_is_failed_and_not_answered(
    peer, make
):
    async with make() as stream:
        errors = []
        stream.subscribe(errors.append, ServiceError)
        with anyio.fail_after(TIMEOUT):
            taken = {"id": "item_realtalk_1", "type": "message", "role": "user"}
            text = [{"type": "input_text", "text": "taken"}]
            event = {"type": "conversation.item.create"}
            await stream.send_event({**event, "item": {**taken, "content": text}})
            outcome = await stream.send_text(QUESTION, trigger_response=True)
    assert [error.code for error in errors] == ["item_already_exists"]
    assert outcome.status is Status.FAILED
    assert "item_already_exists" in outcome.reason


async def test_a_request_ends_when_the_session_is_stopped(peer, make):
    peer.fault("stall@response.created")
    async with make(stall_after=60) as stream:
        with anyio.fail_after(TIMEOUT):
            sent = stream.send_text(QUESTION, trigger_response=True)
            queued = stream.send_text("And now?", trigger_response=True)
            waiting = (
                asyncio.ensure_future(queued),
                asyncio.ensure_future(stream.wait_for_response(None)),
            )
            await peer.wait_received("response.create")
            await stream.stop_streaming()
            lost = await sent
            assert (lost.status, lost.reason) == (Status.LOST, "stop_streaming")
            for one in waiting:
                with pytest.raises(ClosedStream, match="stop_streaming"):
                    await one
    with pytest.raises(ClosedStream, match="stop_streaming"):
        stream.send_text(QUESTION, trigger_response=True)


async def test_a_request_ends_when_the_connection_is_lost_for_good(
    peer, make, monkeypatch
):
    once = RestartPolicy("permanent", max_failures=1, first_delay=0.01)
    monkeypatch.setattr(supervisor_module, "RECONNECT", once)
    peer.fault("drop@response.created")
    stream = make()
    with anyio.fail_after(TIMEOUT), pytest.raises(CriticalProcessFailed):
        async with stream:
            await peer.wait_received("session.update")
            sent = stream.send_text(QUESTION, trigger_response=True)
            queued = stream.send_text("And now?", trigger_response=True)
            change = asyncio.ensure_future(sent)
            await peer.wait_received("response.create")
            await peer.aclose()
            assert (await change).status is Status.LOST
            with pytest.raises(ClosedStream, match="connection"):
                await queued


async def test_a_request_ends_when_the_service_ends_the_session(peer, make):
    peer.fault("error-insufficient_quota@response.created")
    stream = make()
    with anyio.fail_after(TIMEOUT), pytest.raises(ServiceRefused):
        async with stream:
            sent = stream.send_text(QUESTION, trigger_response=True)
            queued = stream.send_text("And now?", trigger_response=True)
            assert (await sent).status is Status.LOST
            assert "insufficient_quota" in (await sent).reason
            with pytest.raises(ClosedStream, match="insufficient_quota"):
                await queued


async def test_a_request_ends_when_the_session_cannot_start(tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    logger = Logger(tmp_path / "app.log")
    stream = Stream(logger=logger, microphone=None, speaker=None)
    request = stream.send_text(QUESTION, trigger_response=True)
    waiting = asyncio.ensure_future(request)
    await asyncio.sleep(0)
    with pytest.raises(MissingApiKey):
        await stream.start_streaming()
    with anyio.fail_after(TIMEOUT), pytest.raises(ClosedStream, match="did not start"):
        await waiting
    with anyio.fail_after(TIMEOUT), pytest.raises(ClosedStream, match="no API key"):
        await request


async def test_a_request_cannot_be_awaited_in_another_event_loop(make):
    """It would never wake up."""
    caught = []

    async with make() as stream:
        with anyio.fail_after(TIMEOUT):
            request = stream.send_text(QUESTION, trigger_response=True)

            async def wait():
                await request

            def elsewhere():
                try:
                    asyncio.run(wait())
                except WrongEventLoop as error:
                    caught.append(str(error))

            thread = threading.Thread(target=elsewhere)
            thread.start()
            while thread.is_alive():
                await asyncio.sleep(0.005)
            assert (await request).completed
    assert caught[0].startswith("this stream lives in another event loop")
