"""The offline peer on a real websocket: a client speaks, it hears, answers, speaks."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio
import pytest
from openai import AsyncOpenAI
from openai.types.realtime import RealtimeServerEvent
from pydantic import TypeAdapter
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from realtalk_async.exceptions import InvalidConfiguration, NotStarted
from realtalk_async.offline import Peer
from realtalk_async.offline.speech.recogniser import SphinxEar, synthesise

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

Event: TypeAlias = dict[str, Any]

OFFICIAL: TypeAdapter[Any] = TypeAdapter(RealtimeServerEvent)
SILENCE = bytes(48_000)
PATIENCE = 30


@pytest.fixture
async def peer():
    """A peer of this test."""
    async with Peer() as peer:
        yield peer


class Client:
    """A plain client that holds each event against the official SDK's types."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.events: list[Event] = []

    async def send(self, kind: str, **fields: object) -> None:
        """Send an event."""
        await self.socket.send(json.dumps({"type": kind, "event_id": "evt", **fields}))

    async def say(self, pcm: bytes) -> None:
        """Send audio, 40 ms at a time and much faster than it was spoken."""
        for at in range(0, len(pcm), 1920):
            audio = base64.b64encode(pcm[at : at + 1920]).decode()
            await self.send("input_audio_buffer.append", audio=audio)

    async def configure(self, **session: object) -> None:
        """Update the session and wait until that is done."""
        await self.send("session.update", session={"type": "realtime", **session})
        await self.until("session.updated")

    async def write(self, text: str, **response: object) -> None:
        """Say something in writing and ask for a response."""
        content = [{"type": "input_text", "text": text}]
        item = {"type": "message", "role": "user", "content": content}
        await self.send("conversation.item.create", item=item)
        await self.send("response.create", response=response)

    async def until(self, kind: str) -> Event:
        """Read up to the next event of that type."""
        with anyio.fail_after(PATIENCE):
            while True:
                event: Event = json.loads(await self.socket.recv())
                assert OFFICIAL.validate_python(event).type == event["type"]
                self.events.append(event)
                if event["type"] == kind:
                    return event

    async def answer(self) -> Event:
        """Read up to the end of the response; return it."""
        response: Event = (await self.until("response.done"))["response"]
        return response

    def joined(self, kind: str) -> str:
        """Join the deltas of that type."""
        return "".join(e["delta"] for e in self.events if e["type"] == f"{kind}.delta")

    @property
    def audio(self) -> bytes:
        """All audio that came."""
        kind = "response.output_audio.delta"
        deltas = (e["delta"] for e in self.events if e["type"] == kind)
        return b"".join(map(base64.b64decode, deltas))


@asynccontextmanager
async def connected(
    peer: Peer, query: str = "", **options: Any
) -> AsyncIterator[Client]:
    """Connect a client and read its ``session.created``."""
    async with connect(f"{peer.url}?{query}", **options) as socket:
        client = Client(socket)
        await client.until("session.created")
        yield client


async def speech(text: str) -> bytes:
    """Speak *text*, with silence around it as a microphone would have."""
    spoken = await asyncio.get_running_loop().run_in_executor(None, synthesise, text)
    return SILENCE[:24_000] + spoken + SILENCE


def hear(pcm: bytes) -> str:
    """Return the words of what the peer said."""
    ear = SphinxEar()
    ear.feed(SILENCE[:24_000] + pcm + SILENCE)
    return ear.finish()


async def test_a_spoken_sum_is_heard_worked_out_and_spoken(peer):
    """The whole way: voice, websocket, recogniser, answer, voice, and heard again."""
    async with connected(peer) as client:
        heard = {"transcription": {"model": "gpt-transcribe"}}
        await client.configure(audio={"input": heard})
        await client.say(await speech("What is seven plus five?"))
        response = await client.answer()
    kind = "conversation.item.input_audio_transcription.completed"
    transcripts = [e["transcript"] for e in client.events if e["type"] == kind]
    assert transcripts == ["What is seven plus five?"]
    said = client.joined("response.output_audio_transcript")
    assert said == "Seven plus five is twelve."
    assert response["status"] == "completed"
    assert response["output"][0]["content"][0]["transcript"] == said
    words = await asyncio.get_running_loop().run_in_executor(None, hear, client.audio)
    assert "twelve" in words.split()


async def test_the_events_of_a_turn_come_in_the_services_order(peer):
    """Over the wire as in the state machine."""
    async with connected(peer) as client:
        await client.say(await speech("Good morning."))
        await client.answer()
    order = list(dict.fromkeys(event["type"] for event in client.events))
    assert order == [
        "session.created",
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
        "response.created",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_audio_transcript.delta",
        "response.output_audio.delta",
        "response.output_audio_transcript.done",
        "response.output_audio.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.done",
    ]


async def test_speaking_into_an_answer_stops_it(peer):
    """Barge-in: cancelled by the turn, and no audio of it comes any more."""
    async with connected(peer, "pace=1") as client:
        await client.write("tell me a story")
        await client.until("response.output_audio.delta")
        await client.say(await speech("What time is it?"))
        interrupted = await client.answer()
        seen = len(client.events)
        following = await client.answer()
    assert interrupted["status_details"]["reason"] == "turn_detected"
    later = [
        e for e in client.events[seen:] if e.get("response_id") == interrupted["id"]
    ]
    assert later == []
    assert following["status"] == "completed"


async def test_what_was_interrupted_can_be_truncated_to_what_was_heard(peer):
    """Then it cannot be truncated to more."""
    async with connected(peer, "pace=1") as client:
        await client.write("count to twenty")
        delta = await client.until("response.output_audio.delta")
        await client.send("response.cancel")
        assert (await client.answer())["status"] == "cancelled"
        where = {"item_id": delta["item_id"], "content_index": 0}
        kind = "conversation.item.truncate"
        await client.send(kind, audio_end_ms=60, **where)
        assert (await client.until("conversation.item.truncated"))["audio_end_ms"] == 60
        await client.send(kind, audio_end_ms=70, **where)
        error = (await client.until("error"))["error"]
    assert (error["param"], error["event_id"]) == ("audio_end_ms", "evt")


async def test_push_to_talk_answers_what_was_committed(peer):
    """Without any silence at its end."""
    async with connected(peer) as client:
        await client.configure(audio={"input": {"turn_detection": None}})
        await client.say((await speech("What is two plus four?"))[: -len(SILENCE)])
        await client.send("input_audio_buffer.commit")
        await client.send("response.create")
        await client.answer()
    assert client.joined("response.output_audio_transcript") == "Two plus four is six."
    assert "input_audio_buffer.speech_started" not in [e["type"] for e in client.events]


async def test_audio_inside_an_item_is_heard(peer):
    """A whole recording in one event."""
    audio = base64.b64encode(await speech("What is two plus four?")).decode()
    content = [{"type": "input_audio", "audio": audio}]
    item = {"type": "message", "role": "user", "content": content}
    async with connected(peer) as client:
        await client.send("conversation.item.create", item=item)
        await client.send("response.create", response={"output_modalities": ["text"]})
        await client.answer()
    assert client.joined("response.output_text") == "Two plus four is six."


async def test_a_text_answer_has_no_audio(peer):
    """``output_modalities: ["text"]``."""
    async with connected(peer) as client:
        await client.configure(output_modalities=["text"])
        await client.write("What is 6 * 7?")
        await client.answer()
    said = client.joined("response.output_text")
    assert said == "Six times seven is forty two."
    assert client.audio == b""


async def test_a_tool_is_called_and_its_output_spoken(peer):
    """The round that every agent makes."""
    parameters = {"type": "object", "properties": {"city": {"type": "string"}}}
    tool = {"type": "function", "name": "get_weather", "parameters": parameters}
    async with connected(peer) as client:
        await client.configure(tools=[tool])
        await client.write("What is the weather in Paris?")
        done = await client.until("response.function_call_arguments.done")
        await client.answer()
        output = {"type": "function_call_output", "call_id": done["call_id"]}
        item = {**output, "output": '{"sky": "blue"}'}
        await client.send("conversation.item.create", item=item)
        await client.send("response.create")
        await client.answer()
    assert (done["name"], json.loads(done["arguments"])) == (
        "get_weather",
        {"city": "Paris"},
    )
    said = client.joined("response.output_audio_transcript")
    assert said == "The answer is: sky blue."


async def test_sessions_do_not_disturb_each_other(peer):
    """Three at once, each with its own question."""
    questions = {
        "What is seven plus five?": "Seven plus five is twelve.",
        "What is two plus four?": "Two plus four is six.",
        "How much is nine minus three?": "Nine minus three is six.",
    }
    said: dict[str, str] = {}

    async def ask(question: str) -> None:
        async with connected(peer) as client:
            await client.say(await speech(question))
            await client.answer()
            said[question] = client.joined("response.output_audio_transcript")

    async with anyio.create_task_group() as tasks:
        for question in questions:
            tasks.start_soon(ask, question)
    assert said == questions
    assert peer.connections == 3


async def test_what_is_no_event_is_answered_with_an_error(peer):
    """And the session lives on."""
    async with connected(peer) as client:
        for message in ("{", "[]", "5", '"text"', b"\xff"):
            await client.socket.send(message)
            assert (await client.until("error"))["error"]["code"] == "invalid_json"
        await client.send("no.such.event")
        assert (await client.until("error"))["error"]["param"] == "type"
        await client.configure(instructions="Be brief.")


@pytest.mark.parametrize("header", ["Authorization", "api-key"])
async def test_a_key_that_is_refused_gets_401(peer, header):
    """As the service answers a wrong key; any other one is accepted."""
    key = "Bearer a-refused-key" if header == "Authorization" else "refused"
    with pytest.raises(InvalidStatus) as caught:
        await connect(peer.url, additional_headers={header: key})
    assert caught.value.response.status_code == 401
    assert b"invalid_api_key" in caught.value.response.body
    async with connected(peer, additional_headers={header: "Bearer good"}):
        pass


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/other", 404),
        ("/v1/realtime?fault=explode", 400),
        ("/v1/realtime?pace=nan", 400),
        ("/v1/realtime?lifetime=-1", 400),
        ("/v1/realtime?pace=fast", 400),
    ],
)
async def test_a_wrong_address_is_refused(peer, path, status):
    """A typing error in a fault is not silently no fault."""
    with pytest.raises(InvalidStatus) as caught:
        await connect(peer.url.removesuffix("/v1/realtime") + path)
    assert caught.value.response.status_code == status


async def test_azures_path_and_the_model_are_accepted(peer):
    """The model is shown again."""
    url = peer.url.replace("/v1/", "/openai/v1/")
    async with connect(f"{url}?model=my-deployment") as socket:
        created = await Client(socket).until("session.created")
    assert created["session"]["model"] == "my-deployment"


async def test_the_api_before_ga_is_switched_off(peer):
    """An error, then close code 4000."""
    headers = {"OpenAI-Beta": "realtime=v1"}
    async with connect(peer.url, additional_headers=headers) as socket:
        error = await Client(socket).until("error")
        with pytest.raises(ConnectionClosed) as caught:
            await socket.recv()
    assert error["error"]["code"] == "beta_api_shape_disabled"
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 4000


async def test_a_session_expires(peer):
    """An error, then close code 1001, as the service after an hour."""
    async with connected(peer, "lifetime=0.05") as client:
        error = await client.until("error")
        with pytest.raises(ConnectionClosed) as caught:
            await client.until("nothing")
    assert error["error"]["code"] == "session_expired"
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 1001


async def test_a_fault_in_the_url_strikes_on_every_connection(peer):
    """At the event that it names."""
    for _ in range(2):
        async with connected(peer, "fault=drop:3") as client:
            await client.write("count to ten")
            with pytest.raises(ConnectionClosed) as caught:
                await client.answer()
        assert caught.value.rcvd is None
        kinds = [event["type"] for event in client.events]
        assert kinds.count("response.output_audio.delta") == 2


async def test_a_fault_by_call_strikes_once(peer):
    """The next connection is whole."""
    peer.fault("close-1011@session.updated")
    async with connected(peer) as client:
        with pytest.raises(ConnectionClosed) as caught:
            await client.configure()
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 1011
    async with connected(peer) as client:
        await client.configure()


async def test_a_fault_by_call_may_strike_at_once(peer):
    """All who are connected, whatever they are told just then; the next are spared."""
    async with connected(peer) as one, connected(peer) as other:
        peer.fault("close-1011@now")
        for client in (one, other):
            with pytest.raises(ConnectionClosed) as closed:
                await client.until("session.updated")
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1011
    async with connected(peer) as third:
        await third.configure()


async def test_faults_of_the_peer_strike_on_every_connection():
    """For clients whose address cannot be changed."""
    async with Peer(faults=["drop@session.updated"]) as peer:
        for _ in range(2):
            async with connected(peer) as client:
                with pytest.raises(ConnectionClosed):
                    await client.configure()


async def test_who_strikes_nobody_is_told(peer):
    """A fault now, without a client, is a mistake of the test."""
    with pytest.raises(InvalidConfiguration, match="nobody"):
        peer.fault("drop@now")
    with pytest.raises(InvalidStatus):
        async with connected(peer, "fault=drop@now"):
            pass


async def test_a_late_event_is_overtaken(peer):
    """It comes after those that were sent behind it."""
    async with connected(peer, "fault=late-0.2@response.created") as client:
        await client.write("hello", output_modalities=["text"])
        await client.until("response.created")
    kinds = [event["type"] for event in client.events]
    assert kinds[-1] == "response.created"
    assert "response.done" in kinds


async def test_a_stalled_connection_stays_open_and_silent(peer):
    """It still hears."""
    async with connected(peer, "fault=stall@session.updated") as client:
        await client.send("session.update", session={"type": "realtime"})
        await client.send("session.update", session={"type": "realtime"})
        await peer.wait_received("session.update", count=2)
        await (await client.socket.ping())
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.socket.recv(), 0.1)


async def test_a_handshake_can_be_refused(peer):
    """Once by call, each time by URL."""
    peer.fault("refuse-429")
    with pytest.raises(InvalidStatus) as caught:
        await connect(peer.url)
    assert caught.value.response.status_code == 429
    async with connected(peer):
        pass


def test_a_fault_that_does_not_exist_is_refused_at_once():
    """Not when it should have struck."""
    with pytest.raises(InvalidConfiguration, match="explode"):
        Peer().fault("explode")


async def test_what_clients_send_is_recorded(peer):
    """By connection, in its order."""
    for _ in range(2):
        async with connected(peer) as client:
            await client.configure(instructions="Be brief.")
            await client.write("hello", output_modalities=["text"])
            await client.answer()
    kinds = ["session.update", "conversation.item.create", "response.create"]
    assert peer.types(1) == peer.types(2) == kinds
    assert peer.types() == kinds * 2
    received = await peer.wait_received("session.update", count=2)
    assert received.connection == 2
    assert received.event["session"]["instructions"] == "Be brief."


async def test_waiting_for_what_does_not_come_ends(peer):
    """With a TimeoutError."""
    with pytest.raises(TimeoutError):
        await peer.wait_received("session.update", timeout=0.01)


async def test_closing_ends_connections_tasks_and_threads():
    """While a client is connected and an answer is under way; and again."""
    tasks, threads = asyncio.all_tasks(), threading.active_count()
    peer = Peer(pace=1)
    async with peer, connect(peer.url) as socket:
        client = Client(socket)
        await client.write("tell me a story")
        await client.until("response.output_audio.delta")
        with anyio.fail_after(5):
            await peer.aclose()
        with pytest.raises(ConnectionClosed) as caught:
            await client.until("nothing")
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 1001
    await peer.aclose()
    assert asyncio.all_tasks() == tasks
    assert threading.active_count() == threads
    assert "not running" in repr(peer)


async def test_a_client_that_goes_in_mid_sentence_leaves_nothing(peer):
    """Neither its task nor its utterance."""
    tasks = len(asyncio.all_tasks())
    async with connected(peer) as client:
        await client.say((await speech("What time is it?"))[: -len(SILENCE)])
        await client.until("input_audio_buffer.speech_started")
        client.socket.transport.abort()
    with anyio.fail_after(PATIENCE):
        while len(asyncio.all_tasks()) > tasks:
            await asyncio.sleep(0)
    async with connected(peer) as client:
        await client.say(await speech("What is two plus four?"))
        await client.answer()
    assert client.joined("response.output_audio_transcript") == "Two plus four is six."


async def test_a_client_that_reads_nothing_holds_up_nobody(peer):
    """An unread answer waits; others are served."""
    async with connected(peer, "pace=0", max_queue=1, close_timeout=0.1) as deaf:
        for _ in range(3):
            await deaf.write("tell me a story")
        async with connected(peer) as client:
            await client.write("hello", output_modalities=["text"])
            assert (await client.answer())["status"] == "completed"


async def test_who_speaks_faster_than_is_heard_waits(peer):
    """What waits to be heard is bounded, and all of it is heard."""
    waiting = []
    listen = peer._speech.listen

    def count(ear, pcm):
        listen(ear, pcm)
        jobs = peer._speech._worker._executor._work_queue
        waiting.append(jobs.qsize() * len(pcm))

    peer._speech.listen = count
    async with connected(peer, max_size=None) as client:
        await client.configure(audio={"input": {"turn_detection": None}})
        sound = await speech("One two three four five six seven eight nine ten.") * 5
        await client.say(sound)
        await client.send("input_audio_buffer.commit")
        item = (await client.until("conversation.item.added"))["item"]["id"]
        await client.send("response.create")
        await client.answer()
        await client.send("conversation.item.retrieve", item_id=item)
        (part,) = (await client.until("conversation.item.retrieved"))["item"]["content"]
    assert 0 < max(waiting) <= 11 * len(SILENCE)
    assert base64.b64decode(part["audio"]) == sound
    assert part["transcript"].lower().count("seven") > 3


async def test_a_taken_port_is_an_error_and_leaves_nothing(peer):
    """The operating system's own."""
    port = int(peer.url.split(":")[2].split("/")[0])
    threads = threading.active_count()
    with pytest.raises(OSError, match="address already in use"):
        async with Peer(port):
            pytest.fail("started")
    assert threading.active_count() == threads


def test_there_is_no_url_before_the_start():
    """It says how to start."""
    with pytest.raises(NotStarted, match="async with"):
        _ = Peer().url


async def test_what_the_voice_cannot_say_is_a_failed_response(peer):
    """And the session goes on."""
    async with connected(peer) as client:
        await client.write("say " + "1" * 400)
        response = await client.answer()
        assert response["status"] == "failed"
        assert response["status_details"]["error"]["code"] == "server_error"
        await client.write("hello")
        assert (await client.answer())["status"] == "completed"


async def test_the_official_client_talks_to_it_unchanged(peer):
    """The SDK's own realtime connection, for a typed and spoken turn."""
    base = peer.url.removesuffix("/realtime")
    said, audio = "", b""
    async with AsyncOpenAI(api_key="any", websocket_base_url=base) as sdk:
        with anyio.fail_after(PATIENCE):
            async with sdk.realtime.connect(model="gpt-realtime-2.1") as connection:
                await connection.session.update(
                    session={"type": "realtime", "output_modalities": ["audio"]}
                )
                await connection.conversation.item.create(
                    item={
                        "type": "message",
                        "role": "user",
                        "content": [{"type": "input_text", "text": "3 times 4"}],
                    }
                )
                await connection.response.create()
                async for event in connection:
                    if event.type == "response.output_audio_transcript.delta":
                        said += event.delta
                    elif event.type == "response.output_audio.delta":
                        audio += base64.b64decode(event.delta)
                    elif event.type == "response.done":
                        break
    assert said == "Three times four is twelve."
    assert len(audio) > 48_000
