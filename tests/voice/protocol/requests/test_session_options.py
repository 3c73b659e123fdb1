"""Options of the service's session: what is checked, merged and refused."""

from __future__ import annotations

import enum
import math

import pytest
from openai.types.realtime import RealtimeSessionCreateRequest
from pydantic import TypeAdapter

from realtalk_async.exceptions import InvalidConfiguration
from realtalk_async.voice.protocol.requests.json_value import MAX_DEPTH
from realtalk_async.voice.protocol.requests.session_config import (
    SemanticVad,
    ServerVad,
    SessionConfig,
    session_change,
)
from realtalk_async.voice.protocol.requests.session_options import merged

OFFICIAL = TypeAdapter(RealtimeSessionCreateRequest)
LOOK = {"type": "function", "name": "look", "parameters": {"type": "object"}}
MCP = {"type": "mcp", "server_label": "maps", "server_url": "https://maps.example"}


class Effort(enum.StrEnum):
    LOW = "low"


def nested(levels):
    value = {}
    for _ in range(levels - 1):
        value = {"a": value}
    return value


def configured(options, **parameters):
    """Return the session object of a configuration with *options*."""
    session = SessionConfig(**parameters).with_options("session", options).to_message()
    OFFICIAL.validate_python(session)
    return session


def test_options_are_merged_into_what_the_parameters_give():
    session = configured(
        {
            "max_output_tokens": 500,
            "reasoning": {"effort": Effort.LOW},
            "audio": {
                "input": {
                    "noise_reduction": {"type": "far_field"},
                    "transcription": {"language": "de"},
                    "turn_detection": {"idle_timeout_ms": 6000},
                },
                "output": {"speed": 1.25},
            },
        },
        instructions="Be brief.",
    )
    audio_input, output = session["audio"]["input"], session["audio"]["output"]
    assert session["instructions"] == "Be brief."
    assert session["reasoning"] == {"effort": "low"}
    assert type(session["reasoning"]["effort"]) is str
    assert audio_input["transcription"] == {"model": "gpt-transcribe", "language": "de"}
    assert audio_input["turn_detection"] == {
        **ServerVad().to_message(),
        "idle_timeout_ms": 6000,
    }
    assert audio_input["noise_reduction"] == {"type": "far_field"}
    assert (output["voice"], output["speed"]) == ("marin", 1.25)


def test_an_object_of_another_type_replaces_the_whole_object():
    vad = {"type": "semantic_vad", "eagerness": "low"}
    session = configured({"audio": {"input": {"turn_detection": vad}}})
    assert session["audio"]["input"]["turn_detection"] == vad
    assert merged({"a": {"b": 1}}, {"a": None}) == {"a": None}
    assert merged({"a": None}, {"a": {"b": 1}}) == {"a": {"b": 1}}


def test_a_parameter_at_its_default_may_be_given_as_an_option():
    options = {
        "model": "gpt-realtime-2",
        "instructions": "Sing.",
        "audio": {"output": {"voice": {"id": "voice_1"}}, "input": {}},
    }
    config = SessionConfig().with_options("session", options)
    assert config.model == "gpt-realtime-2"
    session = config.to_message()
    assert session["instructions"] == "Sing."
    assert session["audio"]["output"]["voice"] == {"id": "voice_1"}
    started = config.started_with("gpt-realtime-3", "cedar")
    assert started.model == "gpt-realtime-3"
    assert "model" not in started.to_message()
    assert started.to_message()["audio"]["output"]["voice"] == "cedar"


@pytest.mark.parametrize(
    ("parameters", "options", "words"),
    [
        (
            {"instructions": "Speak."},
            {"instructions": "Sing."},
            "session.instructions is 'Sing.', but instructions= gives 'Speak.'",
        ),
        (
            {"voice": "cedar"},
            {"audio": {"output": {"voice": "ash"}}},
            "session.audio.output.voice is 'ash', but voice= gives 'cedar'",
        ),
        (
            {"model": "gpt-realtime-2"},
            {"model": "gpt-realtime-3"},
            "session.model is 'gpt-realtime-3', but model= gives 'gpt-realtime-2'",
        ),
        (
            {"turn_detection": None},
            {"audio": {"input": {"turn_detection": {"type": "server_vad"}}}},
            "but turn_detection= gives None",
        ),
        (
            {"turn_detection": SemanticVad(eagerness="low")},
            {"audio": {"input": {"turn_detection": {"eagerness": "high"}}}},
            "turn_detection.eagerness is 'high', but turn_detection= gives 'low'",
        ),
        (
            {"transcription": None},
            {"audio": {"input": {"transcription": {"model": "gpt-transcribe"}}}},
            "but transcription= gives None",
        ),
        (
            {},
            {"audio": {"output": {"format": {"type": "audio/pcmu"}}}},
            "session.audio.output.format.type must stay 'audio/pcm'",
        ),
        ({}, {"type": "transcription"}, "session.type must stay 'realtime'"),
        ({}, {"audio": "x"}, "session.audio must be an object, not 'x'"),
        ({}, {"audio": {"input": None}}, "session.audio.input must be an object"),
        ({}, {"model": " "}, "session.model must be one line"),
        ({}, {"tools": {}}, "session.tools must be a list of objects"),
        ({}, {"tools": [5]}, "session.tools[0] must be an object"),
        ({}, {"tools": [LOOK]}, "session.tools[0] describes the function 'look'"),
    ],
)
def test_a_contradiction_names_both_places(parameters, options, words):
    with pytest.raises(InvalidConfiguration) as caught:
        SessionConfig(**parameters).with_options("session", options)
    assert words in str(caught.value)


def test_a_value_that_a_parameter_gives_may_be_repeated():
    config = SessionConfig(instructions="Be brief.", voice="cedar")
    assert config.with_options("session", config.to_message()).to_message() == (
        config.to_message()
    )


def test_tools_of_the_service_stand_behind_the_functions():
    session = configured({"tools": [MCP]}, tools=(LOOK,))
    assert session["tools"] == [LOOK, MCP]
    described = {**LOOK, "description": "Look up the weather."}
    assert configured({"tools": [described, MCP]}, tools=(LOOK,))["tools"] == [
        *(described, MCP)
    ]


@pytest.mark.parametrize(
    ("options", "path"),
    [
        (5, "session"),
        ({1: 2}, "each key of session"),
        ({"a": {2: 3}}, "each key of session.a"),
        ({"prompt": object()}, "session.prompt"),
        ({"audio": {"output": {"speed": math.nan}}}, "session.audio.output.speed"),
        ({"a": [{"b": {1}}]}, "session.a[0].b"),
        ({"a": 2**63}, "session.a"),
        ({"a": b"bytes"}, "session.a"),
    ],
)
def test_a_value_that_is_no_json_is_refused_with_its_path(options, path):
    with pytest.raises(InvalidConfiguration) as caught:
        SessionConfig().with_options("session", options)
    assert str(caught.value).startswith(f"{path} must be ")


def test_options_are_not_nested_without_end():
    config = SessionConfig()
    config.with_options("session", nested(MAX_DEPTH))
    endless = {}
    endless["a"] = [endless]
    for options in nested(MAX_DEPTH + 1), endless:
        with pytest.raises(InvalidConfiguration, match="deeper than 64 levels"):
            config.with_options("session", options)


def test_later_changes_of_the_given_dict_have_no_effect():
    options = {"audio": {"output": {"speed": 1.0}}}
    config = SessionConfig().with_options("session", options)
    options["audio"]["output"]["speed"] = 1.5
    assert config.to_message()["audio"]["output"]["speed"] == 1.0


def test_a_change_sends_what_changes_and_turn_detection_whole():
    config = SessionConfig()
    change = config.check_change("options", {"instructions": "Sing."})
    assert session_change(config, change)["session"] == {
        "type": "realtime",
        "instructions": "Sing.",
    }
    detection = {"audio": {"input": {"turn_detection": {"threshold": 0.9}}}}
    session = session_change(config, config.check_change("options", detection))
    OFFICIAL.validate_python(session["session"])
    assert session["session"] == {
        "type": "realtime",
        "audio": {
            "input": {"turn_detection": {**ServerVad().to_message(), "threshold": 0.9}}
        },
    }


def test_neither_model_nor_format_can_change_during_a_session():
    config = SessionConfig(instructions="Speak.", tools=(LOOK,))
    with pytest.raises(InvalidConfiguration, match=r"options\.model must stay"):
        config.check_change("options", {"model": "other"})
    rate = {"audio": {"input": {"format": {"type": "audio/pcm", "rate": 8000}}}}
    with pytest.raises(InvalidConfiguration, match=r"format\.rate must stay 24000"):
        config.check_change("options", rate)
    assert config.check_change("options", {"instructions": "Sing.", "tools": [LOOK]})
    with pytest.raises(InvalidConfiguration, match="tools=") as caught:
        config.check_change("options", {"tools": [{**LOOK, "name": "jump"}]})
    assert "'jump'" in str(caught.value)


def test_the_effective_turn_detection_tells_who_interrupts_and_responds():
    vad = {"interrupt_response": False, "create_response": False}
    config = SessionConfig().with_options(
        "session", {"audio": {"input": {"turn_detection": vad}}}
    )
    assert (config.interrupts, config.responds) == (False, False)
    assert (SessionConfig().interrupts, SessionConfig().responds) == (True, True)
    silent = SessionConfig().changed({"audio": {"input": {"turn_detection": None}}})
    assert (silent.detection, silent.interrupts, silent.responds) == (
        None,
        False,
        False,
    )
