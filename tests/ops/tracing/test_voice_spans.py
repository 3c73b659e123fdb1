"""OpenTelemetry gets a span for each turn of a voice session, with its parts."""

import asyncio
import json

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from opentelemetry.trace import SpanKind, StatusCode

from realtalk_async import Stream
from realtalk_async.offline import Failure, Peer, ToolCall, render_async
from realtalk_async.ops import export_traces

MODEL = "gpt-realtime-2.1"


@pytest.fixture
def exporter():
    return InMemorySpanExporter()


@pytest.fixture
def provider(exporter):
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider


@pytest.fixture
def spans(exporter):
    """Return a function that returns the spans of turns, by their name, and checks them."""

    def find():
        known = {v for v in vars(gen_ai_attributes).values() if isinstance(v, str)}
        found = {}
        for span in exporter.get_finished_spans():
            if "realtalk.process.name" in span.attributes:
                continue
            for name in span.attributes:
                assert name in known or not name.startswith("gen_ai."), name
            assert span.start_time <= span.end_time
            found.setdefault(span.name, []).append(span)
        return found

    return find


async def until(condition):
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


async def ask(stream, text):
    async with asyncio.timeout(60):
        return await stream.send_text(text, trigger_response=True)


@pytest.fixture
def text_stream(manager, logger):
    def make(peer, **options):
        ours = {"logger": logger, "process_manager": manager}
        silent = {"microphone": None, "speaker": None}
        return Stream(url=peer.url, **silent, **ours, **options)

    return make


async def test_a_turn_with_a_tool_is_a_span_with_its_parts(
    manager, provider, spans, text_stream
):
    async def get_weather(city: str) -> str:
        return f"sunny in {city}"

    script = [
        ("How is it?", ToolCall("get_weather", {"city": "Rome"})),
        (None, "It is sunny."),
    ]
    async with Peer(script=script) as peer:
        stream = text_stream(peer, tools=[get_weather])
        async with export_traces(manager, stream, provider=provider), stream:
            await ask(stream, "How is it?")
            await until(lambda: "invoke_agent" in spans())
    found = spans()
    (turn,) = found["invoke_agent"]
    first, second = found[f"chat {MODEL}"]
    (tool,) = found["execute_tool get_weather"]
    assert turn.attributes["gen_ai.operation.name"] == "invoke_agent"
    assert turn.attributes["gen_ai.request.model"] == MODEL
    assert turn.attributes["gen_ai.conversation.id"].startswith("sess_")
    for part in (first, second, tool):
        assert part.parent.span_id == turn.context.span_id
        assert turn.start_time <= part.start_time <= part.end_time <= turn.end_time
    assert first.end_time <= tool.end_time <= second.start_time + 50_000_000
    assert first.kind is SpanKind.CLIENT
    assert first.attributes["gen_ai.response.finish_reasons"] == ("tool_calls",)
    assert second.attributes["gen_ai.response.finish_reasons"] == ("stop",)
    assert second.attributes["gen_ai.output.type"] == "text"
    assert second.attributes["gen_ai.usage.output_tokens"] > 0
    assert dict(tool.attributes) == {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "get_weather",
        "gen_ai.tool.type": "function",
        "gen_ai.tool.call.id": tool.attributes["gen_ai.tool.call.id"],
    }
    assert "sunny" not in repr(
        [dict(s.attributes) for s in (turn, first, second, tool)]
    )


async def test_words_are_recorded_if_they_are_asked_for(
    manager, provider, spans, text_stream
):
    async def fail(word: str) -> str:
        raise ValueError(f"no {word}")

    script = [("Hello?", ToolCall("fail", {"word": "bread"})), (None, "Sorry.")]
    async with Peer(script=script) as peer:
        stream = text_stream(peer, tools=[fail])
        traces = export_traces(manager, stream, provider=provider, record_words=True)
        async with traces, stream:
            await ask(stream, "Hello?")
            await until(lambda: "invoke_agent" in spans())
    (tool,) = spans()["execute_tool fail"]
    assert tool.attributes["error.type"] == "tool_error"
    assert tool.status.status_code is StatusCode.ERROR
    assert tool.status.description == "ValueError: no bread"
    assert json.loads(tool.attributes["gen_ai.tool.call.arguments"]) == {
        "word": "bread"
    }
    assert tool.attributes["gen_ai.tool.call.result"]
    answer = spans()[f"chat {MODEL}"][-1].attributes
    asked = json.loads(answer["gen_ai.input.messages"])
    assert asked == [{"role": "user", "parts": [{"type": "text", "content": "Hello?"}]}]
    (said,) = json.loads(answer["gen_ai.output.messages"])
    assert said["parts"] == [{"type": "text", "content": "Sorry."}]


async def test_a_failed_response_is_an_error_of_response_and_turn(
    manager, provider, spans, text_stream
):
    async with Peer(answer=lambda _: Failure("rate_limit", "Too fast.")) as peer:
        stream = text_stream(peer)
        async with export_traces(manager, stream, provider=provider), stream:
            await ask(stream, "Hello?")
            await ask(stream, "Hello?")
    found = spans()
    assert len(found["invoke_agent"]) == 2
    for span in (*found["invoke_agent"], *found[f"chat {MODEL}"]):
        assert span.attributes["error.type"] == "failed"
        assert "Too fast." in span.status.description


async def test_a_lost_connection_is_an_error_of_its_turn(
    manager, provider, spans, text_stream
):
    async with Peer() as peer:
        stream = text_stream(peer)
        async with export_traces(manager, stream, provider=provider), stream:
            peer.fault("drop@response.output_text.delta:2")
            assert (await ask(stream, "tell me a story")).status == "lost"
            await until(lambda: "invoke_agent" in spans())
            await peer.wait_received("session.update", count=2, timeout=60)
            assert (await ask(stream, "hello")).completed
    lost, good = spans()["invoke_agent"]
    assert lost.attributes["error.type"] == "lost"
    assert "broke" in lost.status.description
    assert good.status.status_code is StatusCode.UNSET


async def test_a_spoken_turn_has_speech_first_sound_and_playback(
    manager, logger, provider, spans, tmp_path
):
    question = tmp_path / "question.wav"
    await render_async([("What is two plus four?", 0.1)], question)
    async with Peer() as peer:
        stream = Stream(
            url=peer.url,
            logger=logger,
            process_manager=manager,
            microphone=str(question),
            speaker=lambda _: None,
        )
        async with export_traces(manager, stream, provider=provider), stream:
            await until(lambda: "invoke_agent" in spans())
    found = spans()
    (turn,) = found["invoke_agent"]
    parts = [found[name][0] for name in ("user_speech", "first_sound", "playback")]
    speech, first_sound, playback = parts
    assert {part.parent.span_id for part in parts} == {turn.context.span_id}
    assert speech.start_time == turn.start_time
    assert abs(first_sound.start_time - speech.end_time) < 50_000_000
    assert first_sound.end_time <= playback.start_time + 1_000_000
    assert playback.end_time - playback.start_time > 500_000_000
    seconds = turn.attributes["realtalk.first_sound.seconds"]
    assert 0 < seconds < 30
    answer = found[f"chat {MODEL}"][0]
    assert answer.attributes["gen_ai.output.type"] == "speech"


async def test_spans_that_are_open_end_with_the_block(
    manager, provider, spans, text_stream
):
    async def wait_for_ever(_text: str) -> str:
        await asyncio.Event().wait()
        return ""

    async with Peer(answer=wait_for_ever) as peer:
        stream = text_stream(peer)
        async with stream:
            async with export_traces(manager, stream, provider=provider):
                stream.send_text("hello", trigger_response=True)
                await peer.wait_received("response.create", timeout=60)
            assert "invoke_agent" in spans()
