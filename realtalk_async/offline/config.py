"""
The configuration of a session: its defaults, and the check of ``session.update``.

An update is checked as a whole before any of it applies. Fields of the service that have
no effect here are accepted and shown again.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, TypeAlias, cast, get_args

from realtalk_async.g711 import AudioFormat
from realtalk_async.offline.effects import (
    SAMPLE_RATE,
    InvalidRequest,
    JsonObject,
    as_list,
    as_object,
)

if TYPE_CHECKING:
    from collections.abc import Callable

Check: TypeAlias = "Callable[[object, str], None]"
"""Raises `InvalidRequest` if the value of the dotted name is invalid."""

SILENCE_BY_EAGERNESS = {"low": 1000, "medium": 500, "auto": 500, "high": 300}
"""``semantic_vad`` has no model here: eagerness sets the silence in ms that ends a turn."""


def defaults(model: str) -> JsonObject:
    """Return the configuration of a new session."""
    pcm = {"type": "audio/pcm", "rate": SAMPLE_RATE}
    return {
        "type": "realtime",
        "model": model,
        "output_modalities": ["audio"],
        "instructions": "",
        "tools": [],
        "tool_choice": "auto",
        "max_output_tokens": "inf",
        "tracing": None,
        "prompt": None,
        "audio": {
            "input": {
                "format": dict(pcm),
                "transcription": None,
                "noise_reduction": None,
                "turn_detection": _server_vad({}),
            },
            "output": {"format": dict(pcm), "voice": "marin", "speed": 1.0},
        },
        "include": None,
    }


def update(current: JsonObject, change: object) -> JsonObject:
    """
    Return a copy of *current* with *change* merged into it.

    Raises:
        InvalidRequest: If a field is missing, unknown or invalid.
    """
    wanted = as_object(change)
    if "type" not in wanted:
        name = "session.type" if wanted else "session"
        raise InvalidRequest("missing_required_parameter", _missing(name), name)
    _check(wanted, _SESSION, "session")
    merged = _merge(current, wanted)
    _complete_turn_detection(merged)
    return merged


def check_response(options: object) -> JsonObject:
    """
    Return the options of a ``response.create``.

    Raises:
        InvalidRequest: If a field is unknown or invalid.
    """
    if options is None:
        return {}
    _check(options, _RESPONSE, "response")
    return as_object(options)


def turn_detection(settings: JsonObject) -> JsonObject | None:
    """Return the turn detection, or ``None`` for push-to-talk."""
    audio_input = as_object(as_object(settings.get("audio")).get("input"))
    detection = audio_input.get("turn_detection")
    return as_object(detection) if detection else None


def silence_ms(detection: JsonObject) -> int:
    """Return the silence in ms that ends a turn."""
    if detection.get("type") == "semantic_vad":
        return SILENCE_BY_EAGERNESS[str(detection.get("eagerness", "auto"))]
    return cast("int", detection.get("silence_duration_ms", 500))


def idle_timeout_ms(detection: JsonObject) -> int | None:
    """Return the silence in ms after a response that is a turn; ``None`` for no limit."""
    return cast("int | None", detection.get("idle_timeout_ms"))


def voice(settings: JsonObject) -> object:
    """Return the voice that *settings* ask for, or ``None``."""
    return as_object(as_object(settings.get("audio")).get("output")).get("voice")


def speed(settings: JsonObject) -> float:
    """Return the speed of the voice; 1.0 is its normal speed."""
    output = as_object(as_object(settings.get("audio")).get("output"))
    return cast("float", output.get("speed", 1.0))


def transcribes(settings: JsonObject) -> bool:
    """Return whether the client gets transcripts of its audio."""
    audio_input = as_object(as_object(settings.get("audio")).get("input"))
    return bool(audio_input.get("transcription"))


def input_format(settings: JsonObject) -> AudioFormat:
    """Return the format of the client's audio."""
    found = _audio(settings, "input", "format").get("type", "audio/pcm")
    return cast("AudioFormat", found)


def output_format(settings: JsonObject, options: JsonObject) -> AudioFormat:
    """Return the format of a response with these options."""
    given = _audio(options, "output", "format") or _audio(settings, "output", "format")
    return cast("AudioFormat", given.get("type", "audio/pcm"))


def _audio(settings: JsonObject, direction: str, name: str) -> JsonObject:
    audio = as_object(as_object(settings.get("audio")).get(direction))
    return as_object(audio.get(name))


def _server_vad(given: JsonObject) -> JsonObject:
    return {
        "type": "server_vad",
        "threshold": 0.5,
        "prefix_padding_ms": 300,
        "silence_duration_ms": 500,
        "create_response": True,
        "interrupt_response": True,
        "idle_timeout_ms": None,
        **given,
    }


def _complete_turn_detection(settings: JsonObject) -> None:
    """Fill in the fields of turn detection that the client omitted."""
    detection = turn_detection(settings)
    if detection is None:
        return
    flags: JsonObject = {"create_response": True, "interrupt_response": True}
    audio_input = as_object(as_object(settings["audio"])["input"])
    if detection["type"] == "server_vad":
        detection.pop("eagerness", None)
        audio_input["turn_detection"] = _server_vad(detection)
    else:
        kept = {"type", "eagerness", "create_response", "interrupt_response"}
        given = {key: value for key, value in detection.items() if key in kept}
        audio_input["turn_detection"] = {"eagerness": "auto", **flags, **given}


def _merge(current: JsonObject, change: JsonObject) -> JsonObject:
    merged = copy.deepcopy(current)
    for key, value in change.items():
        before, after = as_object(merged.get(key)), as_object(value)
        merges = before and after and key != "format"
        merged[key] = _merge(before, after) if merges else copy.deepcopy(value)
    return merged


# --- checks


def _missing(name: str) -> str:
    return f"Missing required parameter: '{name}'."


def _check(value: object, check: Check | JsonObject, name: str) -> None:
    """Apply a check, or a table of checks to an object."""
    if callable(check):
        check(value, name)
        return
    if not isinstance(value, dict):
        raise _wrong(name, value, "an object")
    for key, item in as_object(cast("object", value)).items():
        if key not in check:
            message = f"Unknown parameter: '{name}.{key}'."
            raise InvalidRequest("unknown_parameter", message, f"{name}.{key}")
        _check(item, cast("Check | JsonObject", check[key]), f"{name}.{key}")


def _wrong(name: str, value: object, expected: str) -> InvalidRequest:
    message = f"Invalid value for '{name}': {value!r}; expected {expected}."
    return InvalidRequest("invalid_value", message, name)


def _anything(_value: object, _name: str) -> None:
    return


def _text(value: object, name: str) -> None:
    if not isinstance(value, str):
        raise _wrong(name, value, "a string")


def _flag(value: object, name: str) -> None:
    if value is not None and not isinstance(value, bool):
        raise _wrong(name, value, "true or false")


def _voice(value: object, name: str) -> None:
    if not (isinstance(value, str) and value) and "id" not in as_object(value):
        raise _wrong(name, value, "the name of a voice")


def _object(value: object, name: str) -> None:
    if not isinstance(value, dict):
        raise _wrong(name, value, "an object")


def _include(value: object, name: str) -> None:
    if not isinstance(value, list):
        raise _wrong(name, value, "a list of fields to include")
    for index, item in enumerate(as_list(cast("object", value))):
        _one_of("item.input_audio_transcription.logprobs")(item, f"{name}[{index}]")


def _names(value: object, name: str) -> None:
    if not isinstance(value, list):
        raise _wrong(name, value, "a list of texts")
    for index, item in enumerate(as_list(cast("object", value))):
        _text(item, f"{name}[{index}]")


def _metadata(value: object, name: str) -> None:
    _object(value, name)
    for key, item in as_object(value).items():
        _text(item, f"{name}.{key}")


def _variables(value: object, name: str) -> None:
    _object(value, name)
    for key, item in as_object(value).items():
        if not isinstance(item, str):
            _check(as_object(item).get("type"), _CONTENT, f"{name}.{key}.type")


def _word_or_object(*words: str) -> Check:
    """Check for one of some words, or an object with a ``type``."""

    def check(value: object, name: str) -> None:
        if isinstance(value, str) and value in words:
            return
        shown = " or ".join(map(repr, words))
        if not isinstance(as_object(value).get("type"), str):
            raise _wrong(name, value, f"{shown}, or an object with a type")

    return check


def _one_of(*choices: object) -> Check:
    def check(value: object, name: str) -> None:
        if value not in choices:
            raise _wrong(name, value, " or ".join(map(repr, choices)))

    return check


def _between(low: float, high: float, *, whole: bool = False) -> Check:
    def check(value: object, name: str) -> None:
        kinds = int if whole else (int, float)
        right = isinstance(value, kinds) and not isinstance(value, bool)
        if not (right and low <= cast("float", value) <= high):
            kind = "a whole number" if whole else "a number"
            raise _wrong(name, value, f"{kind} from {low:g} to {high:g}")

    return check


def _or_null(check: Check | JsonObject) -> Check:
    def checked(value: object, name: str) -> None:
        if value is not None:
            _check(value, check, name)

    return checked


def _format(value: object, name: str) -> None:
    kind = as_object(value).get("type")
    if kind not in get_args(AudioFormat):
        raise _wrong(f"{name}.type", kind, "'audio/pcm', 'audio/pcmu' or 'audio/pcma'")
    rate: JsonObject = {"rate": _one_of(SAMPLE_RATE)} if kind == "audio/pcm" else {}
    _check(value, {"type": _anything, **rate}, name)


def _modalities(value: object, name: str) -> None:
    if value not in (["audio"], ["text"]):
        raise _wrong(name, value, "['audio'] or ['text']")


def _max_tokens(value: object, name: str) -> None:
    if value != "inf":
        _between(1, 4096, whole=True)(value, name)


def _tools(value: object, name: str) -> None:
    if not isinstance(value, list):
        raise _wrong(name, value, "a list of tools")
    for index, tool in enumerate(as_list(cast("object", value))):
        if as_object(tool).get("type") not in ("function", "mcp"):
            message = _missing(f"{name}[{index}].type")
            raise InvalidRequest(
                "missing_required_parameter", message, f"{name}[{index}]"
            )
        for key in {"name", "description"} & as_object(tool).keys():
            _text(as_object(tool)[key], f"{name}[{index}].{key}")


def _detection(value: object, name: str) -> None:
    kind = as_object(value).get("type")
    if not isinstance(kind, str) or kind not in _DETECTIONS:
        raise _wrong(f"{name}.type", kind, "'server_vad' or 'semantic_vad'")
    _check(value, _DETECTIONS[kind], name)


_CONTENT = _one_of("input_text", "input_image", "input_file")
_tool_choice = _word_or_object("none", "auto", "required")


def _tracing(value: object, name: str) -> None:
    if value not in (None, "auto"):
        table: JsonObject = {
            "workflow_name": _text,
            "group_id": _text,
            "metadata": _object,
        }
        _check(value, table, name)


def _truncation(value: object, name: str) -> None:
    if value not in ("auto", "disabled"):
        kind = _one_of("retention_ratio")
        ratio = _between(0, 1)
        _check(
            value,
            {"type": kind, "retention_ratio": ratio, "token_limits": _anything},
            name,
        )
        if not {"type", "retention_ratio"} <= as_object(value).keys():
            raise _wrong(name, value, "'auto', 'disabled' or a retention_ratio")


def _prompt(value: object, name: str) -> None:
    _check(
        value,
        {"id": _text, "version": _or_null(_text), "variables": _or_null(_variables)},
        name,
    )
    if "id" not in as_object(value):
        raise InvalidRequest(
            "missing_required_parameter", _missing(f"{name}.id"), f"{name}.id"
        )


_TRANSCRIPTION: JsonObject = {
    "model": _text,
    "language": _or_null(_text),
    "prompt": _or_null(_text),
    "delay": _anything,
    "keywords": _or_null(_names),
    "languages": _or_null(_names),
}

_DETECTIONS: dict[str, JsonObject] = {
    "server_vad": {
        "type": _anything,
        "threshold": _between(0, 1),
        "prefix_padding_ms": _between(0, 10_000, whole=True),
        "silence_duration_ms": _between(20, 10_000, whole=True),
        "create_response": _flag,
        "interrupt_response": _flag,
        "idle_timeout_ms": _or_null(_between(5000, 30_000, whole=True)),
    },
    "semantic_vad": {
        "type": _anything,
        "eagerness": _one_of(*SILENCE_BY_EAGERNESS),
        "create_response": _flag,
        "interrupt_response": _flag,
    },
}

_NOISE_REDUCTION: JsonObject = {
    "type": _one_of("near_field", "far_field"),
    "strength": _or_null(_between(0, float("inf"))),
}

_OUTPUT: JsonObject = {"format": _format, "voice": _voice, "speed": _between(0.25, 1.5)}

_SESSION: JsonObject = {
    "type": _one_of("realtime"),
    "id": _anything,
    "object": _anything,
    "expires_at": _anything,
    "model": _text,
    "instructions": _text,
    "output_modalities": _modalities,
    "tools": _tools,
    "tool_choice": _tool_choice,
    "max_output_tokens": _max_tokens,
    "parallel_tool_calls": _flag,
    "reasoning": _or_null(_object),
    "tracing": _tracing,
    "truncation": _truncation,
    "prompt": _or_null(_prompt),
    "include": _or_null(_include),
    "audio": {
        "input": {
            "format": _format,
            "transcription": _or_null(_TRANSCRIPTION),
            "noise_reduction": _or_null(_NOISE_REDUCTION),
            "turn_detection": _or_null(_detection),
        },
        "output": _OUTPUT,
    },
}

_RESPONSE: JsonObject = {
    "conversation": _one_of("auto", "none"),
    "input": _or_null(_anything),
    "instructions": _text,
    "output_modalities": _modalities,
    "tools": _tools,
    "tool_choice": _tool_choice,
    "max_output_tokens": _max_tokens,
    "parallel_tool_calls": _flag,
    "reasoning": _or_null(_object),
    "metadata": _or_null(_metadata),
    "prompt": _or_null(_prompt),
    "audio": {"output": _OUTPUT},
}
