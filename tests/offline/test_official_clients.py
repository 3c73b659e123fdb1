"""
The official clients against the offline peer, unchanged.

`openai-agents` is not among the project's test requirements: ``nox -s peer_clients``
runs these in an environment of their own.
"""

import asyncio
import base64
import os
from contextlib import asynccontextmanager

import anyio
import pytest
from openai import AsyncOpenAI
from websockets.exceptions import ConnectionClosedError

from realtalk_async.offline import Peer
from realtalk_async.offline.speech.recogniser import synthesise

# Before the import, which reads it: nothing may be reported to anybody.
os.environ["OPENAI_AGENTS_DISABLE_TRACING"] = "1"
agents = pytest.importorskip("agents", reason="openai-agents: nox -s peer_clients")
realtime = pytest.importorskip("agents.realtime")

PATIENCE = 60
SILENCE = bytes(48_000)
MODEL = "gpt-realtime-2.1"


@pytest.fixture
async def peer():
    """A peer of this test."""
    async with Peer() as peer:
        yield peer


async def speech(text):
    """Speak *text*, with silence around it as a microphone would have."""
    spoken = await asyncio.get_running_loop().run_in_executor(None, synthesise, text)
    return SILENCE[:24_000] + spoken + SILENCE


class Talk:
    """An agent's session, and all that it told."""

    def __init__(self, session):
        self.session = session
        self.events = []

    async def say(self, text):
        """Say something aloud, faster than it was spoken."""
        pcm = await speech(text)
        for at in range(0, len(pcm), 4800):
            await self.session.send_audio(pcm[at : at + 4800])

    async def until(self, condition):
        """Read up to the first event that meets *condition*, and return it."""
        with anyio.fail_after(PATIENCE):
            async for event in self.session:
                assert event.type != "error", event
                self.events.append(event)
                if condition(event):
                    return event
        raise AssertionError("the session ended")

    async def turn(self):
        """Read up to the end of a reply."""
        return await self.until(lambda event: is_raw(event, "turn_ended"))

    @property
    def audio(self):
        """All audio that came."""
        return b"".join(e.audio.data for e in self.events if e.type == "audio")

    def said(self, role):
        """Return what was said by *role*, from the newest history."""
        histories = [e.history for e in self.events if e.type == "history_updated"]
        return [
            getattr(part, "text", None) or getattr(part, "transcript", None)
            for item in histories[-1]
            if item.type == "message" and item.role == role
            for part in item.content
        ]


def is_raw(event, kind):
    """Whether it is that event of the model."""
    return event.type == "raw_model_event" and event.data.type == kind


@asynccontextmanager
async def talking(peer, query="", tools=(), **settings):
    """Run an agent against *peer*."""
    agent = realtime.RealtimeAgent(
        name="tester", instructions="Be brief.", tools=list(tools)
    )
    runner = realtime.RealtimeRunner(
        agent, config={"model_settings": {"model_name": MODEL, **settings}}
    )
    model = {"url": f"{peer.url}?model={MODEL}&{query}", "api_key": "any"}
    async with await runner.run(model_config=model) as session:
        yield Talk(session)


async def test_an_agent_is_answered_in_writing_and_aloud(peer):
    """A typed message, a spoken answer, and both in the agent's history."""
    async with talking(peer) as talk:
        await talk.session.send_message("What is seven plus five?")
        await talk.turn()
    assert len(talk.audio) > 48_000
    assert talk.said("user") == ["What is seven plus five?"]
    assert talk.said("assistant") == ["Seven plus five is twelve."]


async def test_an_agent_that_speaks_is_heard(peer):
    """Voice activity, transcription and the answer find their way into its history."""
    async with talking(peer) as talk:
        await talk.say("What is two plus three?")
        await talk.turn()
    assert talk.said("user") == ["What is two plus three?"]
    assert talk.said("assistant") == ["Two plus three is five."]


async def test_an_agents_tool_is_called_and_its_output_spoken(peer):
    """Called by what was said, with arguments taken from it."""
    asked = []

    async def get_weather(city: str) -> str:
        """Tell the weather in a city."""
        asked.append(city)
        return "sunny"

    async with talking(peer, tools=[agents.function_tool(get_weather)]) as talk:
        await talk.session.send_message("What is the weather in Paris?")
        await talk.until(lambda event: event.type == "tool_end")
        await talk.turn()
        while not any("sunny" in (text or "") for text in talk.said("assistant")):
            await talk.turn()
    assert asked == ["Paris"]


async def test_an_agent_is_interrupted_by_the_users_voice(peer):
    """It truncates what was not heard, and the peer takes that."""
    detection = {"turn_detection": {"type": "server_vad", "interrupt_response": True}}
    async with talking(peer, "pace=1", **detection) as talk:
        await talk.session.send_message("tell me a story")
        await talk.until(lambda event: event.type == "audio")
        await talk.say("What is two plus four?")
        await talk.until(lambda event: event.type == "audio_interrupted")
        await talk.until(
            lambda event: (
                event.type == "history_updated"
                and "Two plus four is six." in talk.said("assistant")
            )
        )
    assert "conversation.item.truncate" in peer.types()


async def test_an_agent_may_say_when_its_turn_is_over(peer):
    """Push-to-talk: it commits, and asks for the answer."""
    async with talking(peer, turn_detection=None) as talk:
        await talk.session.send_audio(await speech("What is two plus three?"))
        await talk.session.send_audio(b"", commit=True)
        raw = realtime.RealtimeModelSendRawMessage
        await talk.session.model.send_event(raw(message={"type": "response.create"}))
        await talk.turn()
    assert talk.said("assistant") == ["Two plus three is five."]


async def test_an_agent_learns_of_a_lost_connection(peer):
    """A fault is a fault for it too; nothing hangs."""
    async with talking(peer, "fault=drop") as talk:
        await talk.session.send_message("hello")
        with pytest.raises(ConnectionClosedError):
            await talk.turn()


async def test_the_sdk_speaks_and_is_answered(peer):
    """The plain client: spoken question, transcript, audio, and the item again."""
    base = peer.url.removesuffix("/realtime")
    seen = {}
    async with AsyncOpenAI(api_key="any", websocket_base_url=base) as sdk:
        with anyio.fail_after(PATIENCE):
            async with sdk.realtime.connect(model=MODEL) as connection:
                await connection.session.update(
                    session={
                        "type": "realtime",
                        "audio": {
                            "input": {"transcription": {"model": "gpt-transcribe"}}
                        },
                    }
                )
                pcm = await speech("What is seven plus five?")
                for at in range(0, len(pcm), 4800):
                    audio = base64.b64encode(pcm[at : at + 4800]).decode()
                    await connection.input_audio_buffer.append(audio=audio)
                async for event in connection:
                    seen.setdefault(event.type, event)
                    if event.type == "response.done":
                        item = event.response.output[0].id
                        await connection.conversation.item.retrieve(item_id=item)
                    if event.type == "conversation.item.retrieved":
                        break
    kind = "conversation.item.input_audio_transcription.completed"
    assert seen[kind].transcript == "What is seven plus five?"
    (part,) = seen["conversation.item.retrieved"].item.content
    assert part.transcript == "Seven plus five is twelve."
