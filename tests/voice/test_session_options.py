"""Options of the service's session, from `Stream` to the offline peer."""

from __future__ import annotations

import asyncio
import typing
from typing import Any

import anyio
import pytest
from openai.types.realtime import RealtimeSessionCreateRequest
from pydantic import BaseModel

from realtalk_async.exceptions import (
    ClosedStream,
    InvalidConfiguration,
    RequestRefused,
)
from realtalk_async.logs import Logger
from realtalk_async.offline import Peer
from realtalk_async.voice import ServiceError, SessionUpdated, Status, Stream
from realtalk_async.voice.protocol.requests.json_value import without_secrets

TIMEOUT = 240  # seconds: the machine may be busy
PCM = {"type": "audio/pcm", "rate": 24000}
KEPT = {"prompt_cache_breakpoint": {"mode": "explicit", "ttl": "30m"}}
VARIABLES = {
    "city": "Oslo",
    "season": {"type": "input_text", "text": "winter", **KEPT},
    "photo": {"type": "input_image", "detail": "low", "image_url": "data:,", **KEPT},
    "report": {
        "type": "input_file",
        "detail": "low",
        "file_id": "file_1",
        "file_data": "data:,",
        "file_url": "https://files.example",
        "filename": "report.pdf",
        **KEPT,
    },
}
AUDIO: dict[str, Any] = {
    "input": {
        "format": PCM,
        "noise_reduction": {"type": "near_field", "strength": 0.5},
        "transcription": {
            "model": "gpt-transcribe",
            "language": "en",
            "languages": ["en", "de"],
            "keywords": ["Oslo"],
            "prompt": "Names of places.",
            "delay": "low",
        },
        "turn_detection": {
            "type": "server_vad",
            "threshold": 0.6,
            "prefix_padding_ms": 200,
            "silence_duration_ms": 400,
            "create_response": True,
            "interrupt_response": False,
            "idle_timeout_ms": 6000,
        },
    },
    "output": {"format": PCM, "voice": "cedar", "speed": 1.2},
}
SESSION: dict[str, Any] = {
    "type": "realtime",
    "model": "gpt-realtime-2",
    "instructions": "Be brief.",
    "output_modalities": ["text"],
    "max_output_tokens": 500,
    "parallel_tool_calls": False,
    "include": ["item.input_audio_transcription.logprobs"],
    "tool_choice": {"type": "function", "name": "look"},
    "tools": [
        {
            "type": "mcp",
            "server_label": "maps",
            "server_url": "https://maps.example",
            "server_description": "Maps.",
            "connector_id": "connector_gmail",
            "authorization": "token",
            "headers": {"X-Place": "Oslo"},
            "allowed_tools": {"read_only": True, "tool_names": ["find"]},
            "require_approval": {
                "always": {"read_only": False, "tool_names": ["send"]},
                "never": {"read_only": True, "tool_names": ["find"]},
            },
            "allowed_callers": ["direct"],
            "defer_loading": True,
            "tunnel_id": "tunnel_1",
        }
    ],
    "prompt": {"id": "pmpt_1", "version": "2", "variables": VARIABLES},
    "reasoning": {"effort": "low"},
    "tracing": {"workflow_name": "w", "group_id": "g", "metadata": {"a": "b"}},
    "truncation": {
        "type": "retention_ratio",
        "retention_ratio": 0.8,
        "token_limits": {"post_instructions": 4000},
    },
    "audio": AUDIO,
}
SEMANTIC = {
    "type": "semantic_vad",
    "eagerness": "low",
    "create_response": True,
    "interrupt_response": True,
}


def models(annotation):
    """Return the models and typed dicts that an annotation of the client names."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for one in typing.get_args(annotation) for model in models(one)]


def names(model):
    """Return all names of fields in a model of the client, at any depth."""
    found = set(model.model_fields)
    for field in model.model_fields.values():
        for inner in models(field.annotation):
            found |= names(inner)
    return found


def keys(value):
    """Return all keys of a value, at any depth."""
    if isinstance(value, dict):
        return set(value).union(*map(keys, value.values()))
    return set().union(*map(keys, value)) if isinstance(value, list) else set()


def look(city: str) -> str:
    """Look at the weather."""
    return f"sunny in {city}"


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


def updates(peer, connection=None):
    """Return the session objects that the peer got."""
    return [
        one.event["session"]
        for one in peer.received
        if one.type == "session.update" and connection in (None, one.connection)
    ]


def includes(whole, part):
    """Return whether *whole* has all values of *part*."""
    if isinstance(whole, dict) and isinstance(part, dict):
        return all(k in whole and includes(whole[k], v) for k, v in part.items())
    return whole == part


async def test_the_peer_gets_every_field_of_the_official_session(peer, make):
    official = names(RealtimeSessionCreateRequest)
    tool = {"name", "description", "parameters"}  # of a function, from `tools`
    assert official - keys(SESSION) - keys(SEMANTIC) - tool == set()
    audio_input = AUDIO["input"]
    for detection in audio_input["turn_detection"], SEMANTIC:
        audio = {**AUDIO, "input": {**audio_input, "turn_detection": detection}}
        async with make(session={**SESSION, "audio": audio}, tools=[look]) as stream:
            (created,) = stream.eventlog.find("^session.updated$")
        got = updates(peer)[-1]
        RealtimeSessionCreateRequest.model_validate(got)
        assert got["tools"][1:] == SESSION["tools"]
        assert got["tools"][0]["name"] == "look"
        for shown in got, created.data["session"]:
            tools = shown["tools"][1:]
            assert without_secrets(tools) == without_secrets(SESSION["tools"])
            assert includes(
                {**shown, "tools": SESSION["tools"]}, {**SESSION, "audio": audio}
            )


async def test_the_secrets_of_a_tool_are_in_no_log(make):
    mcp = {"type": "mcp", "server_label": "maps", "server_url": "https://maps.example"}
    secrets = {"authorization": "secret-1", "headers": {"X-Key": "secret-2"}}
    options = {"tools": [{**mcp, **secrets}]}
    async with make(session=options) as stream:
        seen: list[object] = []
        stream.subscribe(seen.append)
        with anyio.fail_after(TIMEOUT):
            await stream.update_session(options)
        shown = f"{seen}{[event.data for event in stream.eventlog]}"
        assert "maps.example" in shown
        assert "secret-" not in shown
        assert "secret-" not in stream.logger.path.read_text()
    bad = {"tools": [{**mcp, "authorization": b"secret-3"}]}
    with pytest.raises(InvalidConfiguration) as caught:
        make(session=bad)
    assert str(caught.value).startswith("session.tools[0].authorization must be")
    assert "secret-" not in str(caught.value)


async def test_a_change_is_kept_over_reconnects(peer, make):
    async with make(session={"max_output_tokens": 500}) as stream:
        seen = []
        stream.subscribe(seen.append, SessionUpdated)
        with anyio.fail_after(TIMEOUT):
            await stream.update_session({"instructions": "Sing."})
            await stream.update_session({"audio": {"output": {"speed": 1.5}}})
            assert [event.options for event in seen] == [
                {"instructions": "Sing."},
                {"audio": {"output": {"speed": 1.5}}},
            ]
            assert updates(peer)[1] == {"type": "realtime", "instructions": "Sing."}
            peer.fault("drop@response.created")
            lost = await stream.send_text("one plus one?", trigger_response=True)
            assert lost.status is Status.LOST
            await stream.send_text("one plus one?", trigger_response=True)
    (again,) = updates(peer, 2)
    assert (again["instructions"], again["max_output_tokens"]) == ("Sing.", 500)
    assert again["audio"]["output"]["speed"] == 1.5


async def test_a_refused_change_raises_and_is_not_kept(peer, make):
    async with make() as stream:
        errors = []
        stream.subscribe(errors.append, ServiceError)
        with anyio.fail_after(TIMEOUT):
            with pytest.raises(RequestRefused, match="speed") as caught:
                await stream.update_session({"audio": {"output": {"speed": 9}}})
            await stream.update_session({"instructions": "Sing."})
            assert (caught.value.code, caught.value.request) == (
                *("invalid_value", "session.update"),
            )
            assert [error.about for error in errors] == ["session.update"]
            peer.fault("drop@response.created")
            await stream.send_text("one plus one?", trigger_response=True)
            assert (await stream.send_text("Two?", trigger_response=True)).completed
    (again,) = updates(peer, 2)
    assert "speed" not in again["audio"]["output"]
    assert again["instructions"] == "Sing."


async def test_a_change_without_a_connection_is_sent_on_the_next_one(peer, make):
    async with make() as stream:
        peer.fault("drop@response.created")
        request = stream.send_text("one plus one?", trigger_response=True)
        with anyio.fail_after(TIMEOUT):
            assert (await request).status is Status.LOST
            assert not stream.is_ready()
            await stream.update_session({"instructions": "Sing."})
            assert stream.is_ready()
    assert [one.get("instructions") for one in updates(peer, 2)] == [None, "Sing."]


async def test_a_change_before_the_start_is_part_of_the_first_configuration(peer, make):
    stream = make()
    await stream.update_session({"instructions": "Sing."})
    async with stream:
        pass
    assert [one["instructions"] for one in updates(peer)] == ["Sing."]


async def test_changes_of_several_tasks_end_each_for_itself(peer, make):
    async with make() as stream:
        speeds = (1.5, 9, 0.5, "fast")
        with anyio.fail_after(TIMEOUT):
            results = await asyncio.gather(
                *(
                    stream.update_session({"audio": {"output": {"speed": speed}}})
                    for speed in speeds
                ),
                return_exceptions=True,
            )
        assert [type(result) for result in results] == [
            *(type(None), RequestRefused, type(None), RequestRefused),
        ]


async def test_push_to_talk_can_be_switched_on_and_off(make, tmp_path):
    async def silence():
        while True:
            yield bytes(960)
            await asyncio.sleep(0.02)

    options = {"microphone": silence}
    stream = Stream(
        logger=Logger(tmp_path / "b.log"),
        url="ws://127.0.0.1:1",
        speaker=None,
        **options,
    )
    await stream.update_session({"audio": {"input": {"turn_detection": None}}})
    stream.start_talking()
    assert stream.stop_talking(discard=True) is False
    vad = {"type": "semantic_vad"}
    await stream.update_session({"audio": {"input": {"turn_detection": vad}}})
    with pytest.raises(InvalidConfiguration, match="push-to-talk"):
        stream.start_talking()


async def test_a_change_ends_with_an_error_when_the_session_ends(peer, make):
    peer.fault("stall@session.updated")
    stream = make()
    async with anyio.create_task_group() as group:
        with anyio.fail_after(TIMEOUT):
            running = asyncio.ensure_future(stream.start_streaming())
            await peer.wait_received("session.update")
            change = asyncio.ensure_future(stream.update_session({"instructions": "x"}))
            event = asyncio.ensure_future(stream.send_event({"type": "x"}))
            await asyncio.sleep(0)
            await stream.stop_streaming()
            for waiting in change, event:
                with pytest.raises(ClosedStream, match="stop_streaming"):
                    await waiting
            await running
        group.cancel_scope.cancel()
    with pytest.raises(ClosedStream):
        await stream.update_session({})
    with pytest.raises(ClosedStream):
        await stream.send_event({"type": "x"})


async def test_an_event_of_the_app_is_sent_as_it_is(peer, make):
    stream = make()
    with pytest.raises(ClosedStream, match="has not started"):
        await stream.send_event({"type": "response.create"})
    async with stream:
        errors = []
        stream.subscribe(errors.append, ServiceError)
        with anyio.fail_after(TIMEOUT):
            event_id = await stream.send_event({"type": "nonsense", "a": [1, None]})
            mine = {"type": "response.create", "event_id": "mine"}
            assert await stream.send_event({**mine, "response": {"x": 1}}) == "mine"
            while len(errors) < 2:
                await asyncio.sleep(0.005)
            (got,) = (one.event for one in peer.received if one.type == "nonsense")
            assert got == {"type": "nonsense", "a": [1, None], "event_id": event_id}
            assert [(e.event_id, e.about) for e in errors] == [
                *((event_id, "nonsense"), ("mine", "response.create")),
            ]
            content = [{"type": "input_text", "text": "one plus one?"}]
            item = {"type": "message", "role": "user", "content": content}
            await stream.send_event({"type": "conversation.item.create", "item": item})
            outcome = asyncio.ensure_future(stream.wait_for_response())
            await stream.send_event({"type": "response.create"})
            assert (await outcome).text == "One plus one is two."
