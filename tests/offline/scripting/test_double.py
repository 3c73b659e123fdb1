"""The offline peer as a test double, with a plain client and with a `Stream`."""

from __future__ import annotations

import asyncio
import re
import time
from typing import TYPE_CHECKING

import pytest

from realtalk_async import InvalidConfiguration, Stream, WaitExpired
from realtalk_async.exceptions import ScriptNotFollowed
from realtalk_async.offline import Failure, Peer, PeerThread, Question, ToolCall
from realtalk_async.voice import events

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def stream_to(tmp_path, logger):
    """Return a function that makes a text session with a peer."""

    def make(peer: Peer, **options: object) -> Stream:
        silent = {"microphone": None, "speaker": None}
        return Stream(logger=logger, url=peer.url, **silent, **options)

    return make


async def until(condition: Callable[[], object]) -> None:
    """Wait until a condition is true."""
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


async def ask(stream: Stream, text: str) -> str:
    """Send a text; return the response as one line."""
    async with asyncio.timeout(60):
        return str(await stream.send_text(text, trigger_response=True))


async def test_a_function_answers(stream_to):
    async with Peer(answer=str.upper) as peer, stream_to(peer) as stream:
        assert await ask(stream, "good morning") == "completed: GOOD MORNING"


async def test_an_async_function_gets_the_conversation_and_the_tools(stream_to):
    seen: list[Question] = []

    async def answer(text: str, question: Question) -> str | None:
        await asyncio.sleep(0)
        seen.append(question)
        return None if text.startswith("what is") else f"{len(question.messages)}"

    def get_time(zone: str) -> str:
        return zone

    async with (
        Peer(answer=answer) as peer,
        stream_to(peer, tools=[get_time]) as stream,
    ):
        assert await ask(stream, "hello") == "completed: 1"
        assert await ask(stream, "hello") == "completed: 3"
        rules = await ask(stream, "what is one plus one?")
    assert rules == "completed: One plus one is two."
    assert [tool["name"] for tool in seen[0].tools] == ["get_time"]


@pytest.mark.parametrize("result", [5, {"a": 1}, [None], ZeroDivisionError])
async def test_a_function_without_an_answer_fails_response_and_test(stream_to, result):
    def answer(_text: str) -> object:
        if result is ZeroDivisionError:
            raise ZeroDivisionError("oops")
        return result

    with pytest.raises(ScriptNotFollowed, match=r"answer\(\) (raised|returned)"):
        async with Peer(answer=answer) as peer, stream_to(peer) as stream:
            assert "failed (answer_failed" in await ask(stream, "hello")


async def test_a_script_answers_with_words_calls_and_failures(stream_to):
    asked: list[str] = []

    async def get_weather(city: str) -> str:
        asked.append(city)
        return "sunny" if city == "Rome" else "rainy"

    both = [ToolCall("get_weather", {"city": city}) for city in ("Rome", "Oslo")]
    script = [
        ("What is the weather?", ["One moment.", *both]),
        (re.compile("sunny|rainy"), "Better in Rome."),
        (None, Failure("rate_limit_exceeded", "Too fast.")),
        ("bye", lambda text: f"You said {text}"),
    ]
    async with (
        Peer(script=script) as peer,
        stream_to(peer, tools=[get_weather]) as stream,
    ):
        assert await ask(stream, "what is the weather") == (
            "completed: Better in Rome."
        )
        failed = await ask(stream, "really?")
        assert await ask(stream, "Bye!") == "completed: You said Bye!"
    assert sorted(asked) == ["Oslo", "Rome"]
    assert failed.startswith("failed (rate_limit_exceeded")
    output = peer.received.find(
        "conversation.item.create",
        where=lambda event: event["item"]["type"] == "function_call_output",
    )
    assert len(output) == 2


async def test_words_that_the_script_does_not_expect_fail_response_and_test(stream_to):
    with pytest.raises(ScriptNotFollowed) as caught:
        async with (
            Peer(script=[("one", "1"), ("two", "2")]) as peer,
            stream_to(peer) as stream,
        ):
            await ask(stream, "one")
            failed = await ask(stream, "three")
    assert "script_mismatch" in failed
    assert "expects 'two', but got 'three'" in failed
    assert "expects 'two', but got 'three'" in str(caught.value)
    assert "1 of 2 steps of the script are done" in str(caught.value)


async def test_a_script_that_is_over_or_unfinished_fails_the_test(stream_to):
    with pytest.raises(ScriptNotFollowed, match="script is over"):
        async with Peer(script=[(None, "1")]) as peer, stream_to(peer) as stream:
            await ask(stream, "one")
            await ask(stream, "two")
    with pytest.raises(ScriptNotFollowed, match="0 of 1 steps"):
        async with Peer(script=[(None, "1")]):
            pass


async def test_another_failure_of_the_test_gets_a_note():
    with pytest.raises(KeyError) as caught:
        async with Peer(script=[("hello", "1")]):
            raise KeyError("mine")
    assert "step 1 expects 'hello'" in caught.value.__notes__[0]


async def test_the_steps_go_on_after_a_reconnect(stream_to):
    script = [("one", "1"), ("two", "2")]
    async with Peer(script=script) as peer, stream_to(peer) as stream:
        assert await ask(stream, "one") == "completed: 1"
        peer.fault("drop@now")
        await until(lambda: stream.metrics().restarts["connection"] == 1)
        assert await ask(stream, "two") == "completed: 2"


async def test_the_assistant_speaks_unasked(stream_to):
    heard: list[str] = []
    async with Peer() as peer, stream_to(peer) as stream:
        stream.subscribe(
            lambda event: (
                heard.append(event.outcome.text)
                if isinstance(event, events.ResponseFinished)
                else None
            )
        )
        slow = asyncio.ensure_future(peer.say("First. " * 20))
        await until(lambda: stream.metrics().turns)
        await peer.say("Second.")
        await slow
        await until(lambda: len(heard) == 2)
        assert await ask(stream, "say goodbye") == "completed: Goodbye."
    assert heard[0].startswith("First. First.")
    assert heard[1] == "Second."


async def test_what_the_assistant_says_goes_to_one_connection_or_to_all(stream_to):
    async with Peer() as peer, stream_to(peer) as one, stream_to(peer) as other:
        await peer.say("For all.")
        await peer.say("For you.", connection=2)
        await until(lambda: other.metrics().responses.get("completed") == 2)
        await until(lambda: one.metrics().responses.get("completed") == 1)
        with pytest.raises(InvalidConfiguration, match="connection 3 is not connected"):
            await peer.say("x", connection=3)


async def test_saying_ends_when_the_client_disconnects(stream_to):
    async with asyncio.timeout(60), Peer(pace=0.1) as peer:
        async with stream_to(peer) as stream:
            peer.fault("drop@response.output_text.delta:3")
            said = asyncio.ensure_future(peer.say("One two three. " * 50))
            await until(lambda: not stream.metrics().connected)
        await said


async def test_any_event_can_be_sent(stream_to):
    async with Peer() as peer, stream_to(peer) as stream:
        async with asyncio.timeout(60):
            feed = stream.events(events.ServiceError)
            error = {"type": "x", "code": "odd", "message": "Odd.", "param": None}
            await peer.send({"type": "error", "event_id": "e", "error": error})
            event = await anext(feed)
    assert isinstance(event, events.ServiceError)
    assert event.code == "odd"


async def test_saying_and_sending_need_a_client():
    async with Peer() as peer:
        with pytest.raises(InvalidConfiguration, match="no client is connected"):
            await peer.say("hello")
        with pytest.raises(InvalidConfiguration, match="no client is connected"):
            await peer.send({"type": "x"})
        for wrong in (
            {},
            {"type": 5},
            {"type": "x", "a": object()},
            {"type": "x", 5: 1},
        ):
            with pytest.raises(InvalidConfiguration, match="event"):
                await peer.send(wrong)


async def test_a_wait_that_expires_tells_what_was_received(stream_to):
    async with Peer() as peer, stream_to(peer):
        first = await peer.wait_received("session.update", connection=1)
        assert first is peer.received.find("session.update")[0]
        with pytest.raises(WaitExpired, match=r"1 session\.update"):
            await peer.wait_received("response.create", timeout=0.01)
        with pytest.raises(WaitExpired):
            await peer.wait_received(
                "session.update", where=lambda event: "x" in event, timeout=0.01
            )


async def test_latency_delays_each_event(stream_to):
    async with Peer(latency=(0.15, 0.05), seed=3) as peer, stream_to(peer) as stream:
        begun = time.monotonic()
        assert await ask(stream, "say goodbye") == "completed: Goodbye."
        assert time.monotonic() - begun > 0.1
        await peer.say("Hello.")
        await until(lambda: stream.metrics().responses["completed"] == 2)


def test_answer_and_script_exclude_each_other():
    with pytest.raises(InvalidConfiguration, match="exclude each other"):
        Peer(answer=str.upper, script=[])


def test_a_peer_in_a_thread_fails_the_test_as_well():
    with (
        pytest.raises(ScriptNotFollowed),
        PeerThread(Peer(script=[("a", "b")])) as peer,
    ):
        with pytest.raises(InvalidConfiguration, match="no client"):
            peer.say("hello")
        with pytest.raises(InvalidConfiguration, match="no client"):
            peer.send({"type": "x"})
        assert peer.received.find("session.update") == []
