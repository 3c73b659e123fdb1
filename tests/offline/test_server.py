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
from realtalk_async.offline.speech.sphinx import SphinxRecogniser
from realtalk_async.offline.speech.voice import synthesise

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

Event: TypeAlias = dict[str, Any]

OFFICIAL: TypeAdapter[Any] = TypeAdapter(RealtimeServerEvent)
SILENCE = bytes(48_000)
TIMEOUT = 120


@pytest.fixture
async def peer():
    async with Peer() as peer:
        yield peer


class Client:
    """A plain client that validates each event with the official SDK."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.events: list[Event] = []

    async def send(self, kind: str, **fields: object) -> None:
        """Send an event."""
        await self.socket.send(json.dumps({"type": kind, "event_id": "evt", **fields}))

    async def send_audio(self, pcm: bytes) -> None:
        """Send audio in pieces of 40 ms, much faster than real time."""
        for at in range(0, len(pcm), 1920):
            audio = base64.b64encode(pcm[at : at + 1920]).decode()
            await self.send("input_audio_buffer.append", audio=audio)

    async def configure(self, **session: object) -> None:
        """Update the session and wait for ``session.updated``."""
        await self.send("session.update", session={"type": "realtime", **session})
        await self.until("session.updated")

    async def write(self, text: str, **response: object) -> None:
        """Send a text message and request a response."""
        content = [{"type": "input_text", "text": text}]
        item = {"type": "message", "role": "user", "content": content}
        await self.send("conversation.item.create", item=item)
        await self.send("response.create", response=response)

    async def until(self, kind: str) -> Event:
        """Read up to the next event of that type."""
        with anyio.fail_after(TIMEOUT):
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
        """The received audio."""
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
    """Return *text* as speech between silences, like the audio of a microphone."""
    spoken = await asyncio.get_running_loop().run_in_executor(None, synthesise, text)
    return SILENCE[:24_000] + spoken + SILENCE


def recognise(pcm: bytes) -> str:
    """Return the words of the peer's audio."""
    recogniser = SphinxRecogniser()
    recogniser.feed(SILENCE[:24_000] + pcm + SILENCE)
    return recogniser.finish()


async def test_a_spoken_sum_gets_a_transcript_and_a_spoken_answer(peer):
    async with connected(peer) as client:
        audio_input = {"transcription": {"model": "gpt-transcribe"}}
        await client.configure(audio={"input": audio_input})
        await client.send_audio(await speech("What is seven plus five?"))
        response = await client.answer()
    kind = "conversation.item.input_audio_transcription.completed"
    transcripts = [e["transcript"] for e in client.events if e["type"] == kind]
    assert transcripts == ["What is seven plus five?"]
    said = client.joined("response.output_audio_transcript")
    assert said == "Seven plus five is twelve."
    assert response["status"] == "completed"
    assert response["output"][0]["content"][0]["transcript"] == said
    words = await asyncio.get_running_loop().run_in_executor(
        None, recognise, client.audio
    )
    assert "twelve" in words.split()


async def test_the_events_of_a_turn_have_the_order_of_the_service(peer):
    async with connected(peer) as client:
        await client.send_audio(await speech("Good morning."))
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


async def test_speech_cancels_the_response_and_its_audio(peer):
    async with connected(peer, "pace=1") as client:
        await client.write("tell me a story")
        await client.until("response.output_audio.delta")
        await client.send_audio(await speech("What time is it?"))
        interrupted = await client.answer()
        seen = len(client.events)
        following = await client.answer()
    assert interrupted["status_details"]["reason"] == "turn_detected"
    later = [
        e for e in client.events[seen:] if e.get("response_id") == interrupted["id"]
    ]
    assert later == []
    assert following["status"] == "completed"


async def test_a_cancelled_response_can_be_truncated_but_not_extended(peer):
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


async def test_push_to_talk_answers_the_committed_audio(peer):
    async with connected(peer) as client:
        await client.configure(audio={"input": {"turn_detection": None}})
        await client.send_audio(
            (await speech("What is two plus four?"))[: -len(SILENCE)]
        )
        await client.send("input_audio_buffer.commit")
        await client.send("response.create")
        await client.answer()
    assert client.joined("response.output_audio_transcript") == "Two plus four is six."
    assert "input_audio_buffer.speech_started" not in [e["type"] for e in client.events]


async def test_audio_inside_an_item_is_recognised(peer):
    audio = base64.b64encode(await speech("What is two plus four?")).decode()
    content = [{"type": "input_audio", "audio": audio}]
    item = {"type": "message", "role": "user", "content": content}
    async with connected(peer) as client:
        await client.send("conversation.item.create", item=item)
        await client.send("response.create", response={"output_modalities": ["text"]})
        await client.answer()
    assert client.joined("response.output_text") == "Two plus four is six."


async def test_a_text_response_has_no_audio(peer):
    async with connected(peer) as client:
        await client.configure(output_modalities=["text"])
        await client.write("What is 6 * 7?")
        await client.answer()
    said = client.joined("response.output_text")
    assert said == "Six times seven is forty two."
    assert client.audio == b""


async def test_a_tool_is_called_and_its_output_spoken(peer):
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


async def test_simultaneous_sessions_get_their_own_answers(peer):
    questions = {
        "What is seven plus five?": "Seven plus five is twelve.",
        "What is two plus four?": "Two plus four is six.",
        "How much is nine minus three?": "Nine minus three is six.",
    }
    said: dict[str, str] = {}

    async def ask(question: str) -> None:
        async with connected(peer) as client:
            await client.send_audio(await speech(question))
            await client.answer()
            said[question] = client.joined("response.output_audio_transcript")

    async with anyio.create_task_group() as tasks:
        for question in questions:
            tasks.start_soon(ask, question)
    assert said == questions
    assert peer.connections == 3


async def test_a_message_that_is_no_event_gets_an_error_and_the_session_goes_on(peer):
    async with connected(peer) as client:
        for message in ("{", "[]", "5", '"text"', b"\xff"):
            await client.socket.send(message)
            assert (await client.until("error"))["error"]["code"] == "invalid_json"
        await client.send("no.such.event")
        assert (await client.until("error"))["error"]["param"] == "type"
        await client.configure(instructions="Be brief.")


@pytest.mark.parametrize("header", ["Authorization", "api-key"])
async def test_a_key_that_is_refused_gets_401(peer, header):
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
async def test_an_invalid_url_is_refused(peer, path, status):
    """A misspelt fault must not be ignored."""
    with pytest.raises(InvalidStatus) as caught:
        await connect(peer.url.removesuffix("/v1/realtime") + path)
    assert caught.value.response.status_code == status


async def test_the_path_of_azure_and_any_model_are_accepted(peer):
    url = peer.url.replace("/v1/", "/openai/v1/")
    async with connect(f"{url}?model=my-deployment") as socket:
        created = await Client(socket).until("session.created")
    assert created["session"]["model"] == "my-deployment"


async def test_a_client_of_the_beta_api_is_refused_with_4000(peer):
    headers = {"OpenAI-Beta": "realtime=v1"}
    async with connect(peer.url, additional_headers=headers) as socket:
        error = await Client(socket).until("error")
        with pytest.raises(ConnectionClosed) as caught:
            await socket.recv()
    assert error["error"]["code"] == "beta_api_shape_disabled"
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 4000


async def test_a_session_expires_with_an_error_and_1001(peer):
    async with connected(peer, "lifetime=0.05") as client:
        error = await client.until("error")
        with pytest.raises(ConnectionClosed) as caught:
            await client.until("nothing")
    assert error["error"]["code"] == "session_expired"
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 1001


async def test_a_fault_in_the_url_is_injected_on_each_connection(peer):
    for _ in range(2):
        async with connected(peer, "fault=drop:3") as client:
            await client.write("count to ten")
            with pytest.raises(ConnectionClosed) as caught:
                await client.answer()
        assert caught.value.rcvd is None
        kinds = [event["type"] for event in client.events]
        assert kinds.count("response.output_audio.delta") == 2


async def test_a_fault_by_call_is_injected_once(peer):
    peer.fault("close-1011@session.updated")
    async with connected(peer) as client:
        with pytest.raises(ConnectionClosed) as caught:
            await client.configure()
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 1011
    async with connected(peer) as client:
        await client.configure()


async def test_a_fault_with_now_is_injected_at_once_on_all_open_connections(peer):
    async with connected(peer) as one, connected(peer) as other:
        peer.fault("close-1011@now")
        for client in (one, other):
            with pytest.raises(ConnectionClosed) as closed:
                await client.until("session.updated")
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1011
    async with connected(peer) as third:
        await third.configure()


async def test_faults_of_the_peer_are_injected_on_each_connection():
    async with Peer(faults=["drop@session.updated"]) as peer:
        for _ in range(2):
            async with connected(peer) as client:
                with pytest.raises(ConnectionClosed):
                    await client.configure()


async def test_a_fault_with_now_needs_an_open_connection(peer):
    with pytest.raises(InvalidConfiguration, match="no client"):
        peer.fault("drop@now")
    with pytest.raises(InvalidStatus):
        async with connected(peer, "fault=drop@now"):
            pass


async def test_a_late_event_comes_after_later_events(peer):
    async with connected(peer, "fault=late-0.2@response.created") as client:
        await client.write("hello", output_modalities=["text"])
        await client.until("response.created")
    kinds = [event["type"] for event in client.events]
    assert kinds[-1] == "response.created"
    assert "response.done" in kinds


async def test_a_stalled_connection_reads_and_answers_pings_but_sends_nothing(peer):
    async with connected(peer, "fault=stall@session.updated") as client:
        await client.send("session.update", session={"type": "realtime"})
        await client.send("session.update", session={"type": "realtime"})
        await peer.wait_received("session.update", count=2)
        await (await client.socket.ping())
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.socket.recv(), 0.1)


async def test_a_handshake_is_refused_once_by_call(peer):
    peer.fault("refuse-429")
    with pytest.raises(InvalidStatus) as caught:
        await connect(peer.url)
    assert caught.value.response.status_code == 429
    async with connected(peer):
        pass


def test_an_unknown_fault_is_refused_by_the_call():
    with pytest.raises(InvalidConfiguration, match="explode"):
        Peer().fault("explode")


async def test_the_events_of_clients_are_recorded_by_connection(peer):
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


async def test_waiting_for_an_event_times_out(peer):
    with pytest.raises(TimeoutError):
        await peer.wait_received("session.update", timeout=0.01)


async def test_closing_ends_connections_tasks_and_threads():
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


async def test_a_client_that_disconnects_during_speech_leaves_no_task_and_no_words(
    peer,
):
    tasks = len(asyncio.all_tasks())
    async with connected(peer) as client:
        await client.send_audio((await speech("What time is it?"))[: -len(SILENCE)])
        await client.until("input_audio_buffer.speech_started")
        client.socket.transport.abort()
    with anyio.fail_after(TIMEOUT):
        while len(asyncio.all_tasks()) > tasks:
            await asyncio.sleep(0)
    async with connected(peer) as client:
        await client.send_audio(await speech("What is two plus four?"))
        await client.answer()
    assert client.joined("response.output_audio_transcript") == "Two plus four is six."


async def test_a_client_that_reads_nothing_does_not_delay_other_clients(peer):
    async with connected(peer, "pace=0", max_queue=1, close_timeout=0.1) as stuck:
        for _ in range(3):
            await stuck.write("tell me a story")
        async with connected(peer) as client:
            await client.write("hello", output_modalities=["text"])
            assert (await client.answer())["status"] == "completed"


async def test_audio_faster_than_recognition_is_read_later_and_completely(peer):
    waiting = []
    feed = peer._speech.feed

    def count(recogniser, pcm):
        feed(recogniser, pcm)
        jobs = peer._speech._worker._executor._work_queue
        waiting.append(jobs.qsize() * len(pcm))

    peer._speech.feed = count
    async with connected(peer, max_size=None) as client:
        await client.configure(audio={"input": {"turn_detection": None}})
        audio = await speech("One two three four five six seven eight nine ten.") * 5
        await client.send_audio(audio)
        await client.send("input_audio_buffer.commit")
        item = (await client.until("conversation.item.added"))["item"]["id"]
        await client.send("response.create")
        await client.answer()
        await client.send("conversation.item.retrieve", item_id=item)
        (part,) = (await client.until("conversation.item.retrieved"))["item"]["content"]
    assert 0 < max(waiting) <= 11 * len(SILENCE)
    assert base64.b64decode(part["audio"]) == audio
    assert part["transcript"].lower().count("seven") > 3


async def test_a_taken_port_raises_oserror_and_leaves_no_thread(peer):
    port = int(peer.url.split(":")[2].split("/")[0])
    threads = threading.active_count()
    with pytest.raises(OSError, match="address already in use"):
        async with Peer(port):
            pytest.fail("started")
    assert threading.active_count() == threads


def test_the_url_before_the_start_raises_not_started():
    with pytest.raises(NotStarted, match="async with"):
        _ = Peer().url


async def test_a_text_on_which_the_voice_fails_is_a_failed_response(peer):
    async with connected(peer) as client:
        await client.write("say " + "1" * 400)
        response = await client.answer()
        assert response["status"] == "failed"
        assert response["status_details"]["error"]["code"] == "server_error"
        await client.write("hello")
        assert (await client.answer())["status"] == "completed"


async def test_the_official_client_gets_an_answer(peer):
    base = peer.url.removesuffix("/realtime")
    said, audio = "", b""
    async with AsyncOpenAI(api_key="any", websocket_base_url=base) as sdk:
        with anyio.fail_after(TIMEOUT):
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


# --- mistakes of clients --------------------------------------------------------------

DEEP = 100_000
MISTAKES = {
    "no JSON": ("{", "invalid_json"),
    "no object": ("[1]", "invalid_json"),
    "empty text": ("", "invalid_json"),
    "empty binary frame": (b"", "invalid_json"),
    "binary noise": (bytes(range(256)), "invalid_json"),
    "two values": ("{}{}", "invalid_json"),
    "NaN": ('{"type": NaN}', "invalid_json"),
    "half a surrogate": ('{"type": "\\ud800"}', "invalid_json"),
    "deeper than JSON": ("[" * DEEP + "]" * DEEP, "invalid_json"),
    "deep object": ('{"session": ' * 200 + "1" + "}" * 200, "invalid_value"),
    "empty object": ("{}", "missing_required_parameter"),
    "unknown type": ('{"type": "nonsense"}', "invalid_value"),
    "type of a wrong type": ('{"type": {"a": []}}', "invalid_value"),
    "binary frame": (b'{"type": "response.cancel"}', "response_cancel_not_active"),
    "17 MB": ('{"type": "' + "x" * 17 * 2**20 + '"}', "message_too_large"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
async def test_each_mistake_of_a_client_is_an_error_event(peer, mistake):
    message, code = MISTAKES[mistake]
    async with connected(peer) as client:
        await client.socket.send(message)
        assert (await client.until("error"))["error"]["code"] == code
        await client.configure()


async def test_text_that_is_no_utf8_is_an_error_event(peer):
    async with connected(peer) as client:
        await client.socket.send(b'{"type": "\xff\xfe"}', text=True)
        assert (await client.until("error"))["error"]["code"] == "invalid_json"
        await client.configure()


async def test_an_id_that_is_taken_is_an_error_event(peer):
    content = [{"type": "input_text", "text": "hello"}]
    item = {"id": "mine", "type": "message", "role": "user", "content": content}
    async with connected(peer) as client:
        for _ in range(2):
            await client.send("conversation.item.create", item=item)
        assert (await client.until("error"))["error"]["code"] == "item_already_exists"
        await client.configure()
