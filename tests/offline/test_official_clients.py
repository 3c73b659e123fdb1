"""
The unchanged official clients against the offline peer.

`openai-agents` is not among the project's test requirements: ``nox -s peer_clients``
runs these tests in an environment of their own.
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
from realtalk_async.offline.speech.voice import synthesise

# Set before the import, which reads it: the tests must send no traces.
os.environ["OPENAI_AGENTS_DISABLE_TRACING"] = "1"
agents = pytest.importorskip("agents", reason="openai-agents: nox -s peer_clients")
realtime = pytest.importorskip("agents.realtime")

TIMEOUT = 240
SILENCE = bytes(48_000)
MODEL = "gpt-realtime-2.1"


@pytest.fixture
async def peer():
    async with Peer() as peer:
        yield peer


async def speech(text):
    """Return *text* as speech between silences, like the audio of a microphone."""
    spoken = await asyncio.get_running_loop().run_in_executor(None, synthesise, text)
    return SILENCE[:24_000] + spoken + SILENCE


class AgentSession:
    """An agent's session and its events."""

    def __init__(self, session):
        self.session = session
        self.events = []

    async def speak(self, text):
        """Send speech faster than real time."""
        pcm = await speech(text)
        for at in range(0, len(pcm), 4800):
            await self.session.send_audio(pcm[at : at + 4800])

    async def until(self, condition):
        """Read up to the first event that meets *condition*; return it."""
        with anyio.fail_after(TIMEOUT):
            async for event in self.session:
                assert event.type != "error", event
                self.events.append(event)
                if condition(event):
                    return event
        raise AssertionError("the session ended")

    async def turn(self):
        """Read up to the end of a response."""
        return await self.until(lambda event: is_raw(event, "turn_ended"))

    @property
    def audio(self):
        """The received audio."""
        return b"".join(e.audio.data for e in self.events if e.type == "audio")

    def messages(self, role):
        """Return the messages of *role* in the newest history."""
        histories = [e.history for e in self.events if e.type == "history_updated"]
        return [
            getattr(part, "text", None) or getattr(part, "transcript", None)
            for item in histories[-1]
            if item.type == "message" and item.role == role
            for part in item.content
        ]


def is_raw(event, kind):
    """Return whether it is a model event of that kind."""
    return event.type == "raw_model_event" and event.data.type == kind


@asynccontextmanager
async def agent_session(peer, query="", tools=(), **settings):
    """Run an agent against *peer*."""
    agent = realtime.RealtimeAgent(
        name="tester", instructions="Be brief.", tools=list(tools)
    )
    runner = realtime.RealtimeRunner(
        agent, config={"model_settings": {"model_name": MODEL, **settings}}
    )
    model = {"url": f"{peer.url}?model={MODEL}&{query}", "api_key": "any"}
    async with await runner.run(model_config=model) as session:
        yield AgentSession(session)


async def test_an_agent_gets_audio_and_a_transcript_for_a_typed_message(peer):
    async with agent_session(peer) as agent:
        await agent.session.send_message("What is seven plus five?")
        await agent.turn()
    assert len(agent.audio) > 48_000
    assert agent.messages("user") == ["What is seven plus five?"]
    assert agent.messages("assistant") == ["Seven plus five is twelve."]


async def test_the_speech_of_an_agent_is_recognised_and_answered(peer):
    async with agent_session(peer) as agent:
        await agent.speak("What is two plus three?")
        await agent.turn()
    assert agent.messages("user") == ["What is two plus three?"]
    assert agent.messages("assistant") == ["Two plus three is five."]


async def test_an_agents_tool_is_called_and_its_output_spoken(peer):
    asked = []

    async def get_weather(city: str) -> str:
        """Tell the weather in a city."""
        asked.append(city)
        return "sunny"

    async with agent_session(peer, tools=[agents.function_tool(get_weather)]) as agent:
        await agent.session.send_message("What is the weather in Paris?")
        await agent.until(lambda event: event.type == "tool_end")
        await agent.turn()
        while not any("sunny" in (text or "") for text in agent.messages("assistant")):
            await agent.turn()
    assert asked == ["Paris"]


async def test_an_agent_is_interrupted_by_the_users_voice(peer):
    detection = {"turn_detection": {"type": "server_vad", "interrupt_response": True}}
    async with agent_session(peer, "pace=1", **detection) as agent:
        await agent.session.send_message("tell me a story")
        await agent.until(lambda event: event.type == "audio")
        await agent.speak("What is two plus four?")
        await agent.until(lambda event: event.type == "audio_interrupted")
        await agent.until(
            lambda event: (
                event.type == "history_updated"
                and "Two plus four is six." in agent.messages("assistant")
            )
        )
    assert "conversation.item.truncate" in peer.types()


async def test_an_agent_commits_its_turn_by_push_to_talk(peer):
    async with agent_session(peer, turn_detection=None) as agent:
        await agent.session.send_audio(await speech("What is two plus three?"))
        await agent.session.send_audio(b"", commit=True)
        raw = realtime.RealtimeModelSendRawMessage
        await agent.session.model.send_event(raw(message={"type": "response.create"}))
        await agent.turn()
    assert agent.messages("assistant") == ["Two plus three is five."]


async def test_an_agent_gets_an_error_for_a_dropped_connection(peer):
    async with agent_session(peer, "fault=drop") as agent:
        await agent.session.send_message("hello")
        with pytest.raises(ConnectionClosedError):
            await agent.turn()


async def test_the_sdk_gets_transcript_audio_and_item_for_a_spoken_question(peer):
    base = peer.url.removesuffix("/realtime")
    seen = {}
    async with AsyncOpenAI(api_key="any", websocket_base_url=base) as sdk:
        with anyio.fail_after(TIMEOUT):
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
