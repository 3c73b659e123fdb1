from __future__ import annotations

import copy

import pytest
from openai.types.realtime import RealtimeSessionCreateRequest

from realtalk_async.offline import config
from realtalk_async.offline.effects import InvalidRequest, JsonObject, as_object


def updated(**session: object) -> JsonObject:
    """Return the defaults after an update."""
    return config.update(config.defaults("m"), {"type": "realtime", **session})


def with_input(**fields: object) -> JsonObject:
    """Return the defaults after an update of ``audio.input``."""
    return updated(audio={"input": fields})


def test_the_official_sdk_accepts_the_defaults():
    RealtimeSessionCreateRequest.model_validate(config.defaults("m"))


def test_an_update_is_merged_into_nested_objects():
    session = updated(audio={"output": {"voice": "cedar"}}, instructions="Be brief.")
    output = as_object(as_object(session["audio"])["output"])
    assert (output["voice"], output["speed"]) == ("cedar", 1.0)
    assert session["instructions"] == "Be brief."
    assert config.turn_detection(session) is not None


def test_turn_detection_can_be_turned_off_and_on():
    off = with_input(turn_detection=None)
    assert config.turn_detection(off) is None
    change: JsonObject = {"input": {"turn_detection": {"type": "server_vad"}}}
    on = config.update(off, {"type": "realtime", "audio": change})
    detection = config.turn_detection(on)
    assert detection is not None
    assert config.silence_ms(detection) == 500
    assert detection["interrupt_response"] is True


def test_a_transcription_takes_words_and_languages():
    transcription = {
        "model": "gpt-transcribe",
        "keywords": ["Oslo"],
        "languages": ["en"],
    }
    with_input(transcription=transcription)
    for wrong in "Oslo", [5]:
        with pytest.raises(InvalidRequest):
            with_input(transcription={**transcription, "keywords": wrong})


def test_the_variables_of_a_prompt_are_texts_or_contents():
    image = {"type": "input_image", "image_url": "data:,"}
    updated(prompt={"id": "pmpt_1", "variables": {"city": "Oslo", "photo": image}})
    for wrong in 5, {"type": "video"}, {}:
        with pytest.raises(InvalidRequest):
            updated(prompt={"id": "pmpt_1", "variables": {"photo": wrong}})


@pytest.mark.parametrize(("eagerness", "silence"), [("low", 1000), ("high", 300)])
def test_semantic_eagerness_sets_the_silence(eagerness, silence):
    session = with_input(
        turn_detection={"type": "semantic_vad", "eagerness": eagerness}
    )
    detection = config.turn_detection(session)
    assert detection is not None
    assert "threshold" not in detection
    assert config.silence_ms(detection) == silence


@pytest.mark.parametrize(
    ("session", "code", "param"),
    [
        (None, "missing_required_parameter", "session"),
        ({"voice": "marin"}, "missing_required_parameter", "session.type"),
        ({"type": "realtime", "voice": "marin"}, "unknown_parameter", "session.voice"),
        ({"type": "transcription"}, "invalid_value", "session.type"),
        (
            {"type": "realtime", "instructions": 5},
            "invalid_value",
            "session.instructions",
        ),
        (
            {"type": "realtime", "output_modalities": ["audio", "text"]},
            "invalid_value",
            "session.output_modalities",
        ),
        ({"type": "realtime", "tools": [{}]}, "missing_required_parameter", None),
        ({"type": "realtime", "tools": {}}, "invalid_value", "session.tools"),
        ({"type": "realtime", "max_output_tokens": 0}, "invalid_value", None),
        ({"type": "realtime", "audio": 5}, "invalid_value", "session.audio"),
    ],
)
def test_an_invalid_update_is_refused_with_its_parameter(session, code, param):
    with pytest.raises(InvalidRequest) as caught:
        config.update(config.defaults("m"), session)
    assert caught.value.code == code
    assert param is None or caught.value.param == param


@pytest.mark.parametrize(
    "audio_input",
    [
        {"format": {"type": "audio/pcm", "rate": 16_000}},
        {"format": {"type": "audio/opus"}},
        {"turn_detection": {"type": "telepathy"}},
        {"turn_detection": {"type": "server_vad", "threshold": 1.5}},
        {"turn_detection": {"type": "server_vad", "silence_duration_ms": 0.5}},
        {"turn_detection": {"type": "server_vad", "eagerness": "low"}},
        {"turn_detection": {"type": "semantic_vad", "threshold": 0.5}},
        {"turn_detection": {"type": "server_vad", "create_response": "yes"}},
    ],
)
def test_an_invalid_audio_input_is_refused_and_changes_nothing(audio_input):
    before = config.defaults("m")
    kept = copy.deepcopy(before)
    with pytest.raises(InvalidRequest):
        config.update(before, {"type": "realtime", "audio": {"input": audio_input}})
    assert before == kept


def test_a_session_may_be_sent_back_as_it_was_shown():
    shown = {**config.defaults("m"), "id": "sess_1", "object": "realtime.session"}
    shown["expires_at"] = 1
    assert config.update(config.defaults("m"), shown)["model"] == "m"


def test_response_options_are_checked():
    assert config.check_response(None) == {}
    with pytest.raises(InvalidRequest, match=r"response\.voice"):
        config.check_response({"voice": "marin"})
