"""The sound of whole conversations is fed to the listener, faster than real time."""

import numpy
import pytest

from realtalk_async.voice.audio.hearing import Hearing
from realtalk_async.voice.events import SoundProblem
from realtalk_async.voice.protocol.microphone import InputFilter

RATE = 24_000


def told_of(made, microphone, speaker=None, *, kind="device", **options):
    """Return the problems that are told of so many samples of microphone and speaker."""
    problems = []
    hearing = Hearing(kind, InputFilter(**options), problems.append)
    made.feed(hearing, microphone, speaker)
    return [event.problem for event in problems]


def echo_of(speaker, *, delay=0.2, gain=0.3, reverb=0.0):
    """Return the speaker as a microphone hears it."""
    late = numpy.concatenate([numpy.zeros(int(delay * RATE)), speaker])[: len(speaker)]
    if reverb:
        tail = numpy.random.default_rng(5).normal(0, 1, int(reverb * RATE))
        tail *= numpy.exp(-6.9 * numpy.arange(len(tail)) / len(tail))
        tail[0] = 3
        spectrum = numpy.fft.rfft(late, 2 * len(late)) * numpy.fft.rfft(
            tail, 2 * len(late)
        )
        wet = numpy.fft.irfft(spectrum)[: len(late)]
        late = wet / (wet.std() + 1e-9) * late.std()
    return gain * late


# --- No false word ----------------------------------------------------------------


@pytest.mark.parametrize("seed", [1, 2])
def test_a_conversation_with_noise_and_pauses_has_no_problem(made, voices, seed):
    microphone, speaker = made.conversation(1.5, voices, seed=seed)
    assert told_of(made, microphone, speaker) == []


# --- Digital silence --------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "value"),
    [("device", 0), ("command", 8), ("function", -300), ("file", 0)],
)
def test_seven_seconds_of_digital_silence_are_told_once(made, kind, value):
    silence = numpy.full(6 * RATE, value)
    assert told_of(made, silence, kind=kind) == []
    silence = numpy.full(16 * RATE, value)
    assert told_of(made, silence, kind=kind) == [SoundProblem.SILENT]


@pytest.mark.parametrize(
    ("kind", "problems"),
    [
        ("device", [SoundProblem.SILENT]),
        ("command", [SoundProblem.SILENT]),
        ("function", []),
        ("file", []),
    ],
)
def test_silence_after_sound_is_a_fault_of_devices_only(made, kind, problems, voices):
    sound = numpy.concatenate([voices[0][0], numpy.zeros(20 * RATE)])
    assert told_of(made, sound, kind=kind) == problems


def test_digital_silence_is_not_told_while_muted_or_gated_or_between_turns(made):
    for option in ("muted", "gated", "closed"):
        problems = []
        gate = InputFilter(
            push_to_talk=option == "closed", half_duplex=option == "gated"
        )
        gate.muted = option == "muted"
        hearing = Hearing("device", gate, problems.append)
        speaker = made.noise(20, 1000) if option == "gated" else None
        made.feed(hearing, numpy.zeros(20 * RATE), speaker)
        assert problems == [], option


def test_quiet_room_is_no_digital_silence(made):
    assert told_of(made, made.noise(20, 0.7)) == []


def test_details_have_the_problem_as_long_as_it_lasts(made):
    problems = []
    hearing = Hearing("device", InputFilter(), problems.append)
    made.feed(hearing, numpy.zeros(10 * RATE))
    (event,) = problems
    assert "digital silence for 7 s" in str(event)
    assert any("digital silence" in line for line in hearing.microphone_details())
    made.feed(hearing, made.noise(1, 100), began=1010.0)
    assert not any("digital silence" in line for line in hearing.microphone_details())


# --- Clipping ---------------------------------------------------------------------


@pytest.mark.parametrize("ceiling", [32_767, 20_000])
def test_clipped_speech_is_told_once(made, voices, ceiling):
    speech = numpy.concatenate([*voices[0], *voices[0]])
    loud = numpy.clip(speech * 32_767 / abs(speech).max() * 8, -ceiling, ceiling)
    assert told_of(made, loud + made.noise(len(loud) / RATE, 0.01)) == [
        SoundProblem.CLIPPED
    ]


def test_loud_speech_that_is_not_clipped_has_no_problem(made, voices):
    speech = numpy.concatenate(voices[0])
    assert told_of(made, speech * 32_767 / abs(speech).max()) == []


# --- Echo -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "room",
    [
        {"delay": 0.0},
        {"delay": 0.25, "gain": 0.05},
        {"delay": 0.6},
        {"delay": 0.15, "reverb": 0.4},
    ],
)
def test_echo_of_the_speaker_is_told_once(made, voices, room):
    speaker = numpy.concatenate([*voices[1], *voices[1]])
    microphone = echo_of(speaker, **room) + made.noise(len(speaker) / RATE, 20)
    assert told_of(made, microphone, speaker) == [SoundProblem.ECHO]


def test_echo_is_not_told_with_half_duplex(made, voices):
    speaker = numpy.concatenate([*voices[1], *voices[1]])
    assert told_of(made, echo_of(speaker), speaker, half_duplex=True) == []


def test_user_who_speaks_at_the_same_time_is_no_echo(made, voices):
    user, assistant = (numpy.concatenate([*one, *one, *one]) for one in voices)
    length = min(len(user), len(assistant))
    assert told_of(made, user[:length], assistant[:length]) == []


# --- Levels -----------------------------------------------------------------------


def test_levels_are_those_of_the_last_second(made, monkeypatch):
    hearing = Hearing("device", InputFilter(), lambda event: None)
    assert hearing.microphone_dbfs is None
    made.feed(hearing, made.noise(3, 327.68), made.noise(3, 3276.8))
    now = 1003.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    assert hearing.microphone_dbfs == pytest.approx(-40, abs=1)
    assert hearing.speaker_dbfs == pytest.approx(-20, abs=1)
    assert hearing.microphone_details()[0] == "level: -40 dBFS"
    now = 1005.0
    assert hearing.microphone_dbfs is None
