"""Decisions about the default devices, and a `pactl` that is a script."""

import pytest

from realtalk_async.voice.audio.default_devices import (
    Defaults,
    DefaultsTracker,
    check_command,
    check_source,
    find_monitor,
    parse_info,
    read_defaults,
)
from realtalk_async.voice.audio.hearing import Hearing
from realtalk_async.voice.events import SoundProblem
from realtalk_async.voice.protocol.microphone import InputFilter

INFO = """Server String: /run/user/0/pulse/native
Server Name: PulseAudio (on PipeWire 1.2.7)
Default Sample Specification: float32le 2ch 48000Hz
Default Sink: alsa_output.usb-headset.analog-stereo
Default Source: alsa_input.pci-0000_00_1f.3.analog-stereo
Cookie: 1234:abcd
"""


@pytest.fixture
def hearing():
    """Return a listener, and the problems that it tells."""
    problems = []
    return Hearing("device", InputFilter(), problems.append), problems


def test_defaults_are_those_of_the_server_unless_variables_name_others():
    found = parse_info(INFO, {})
    assert found.source == "alsa_input.pci-0000_00_1f.3.analog-stereo"
    assert found.sink == "alsa_output.usb-headset.analog-stereo"
    assert parse_info(INFO, {"PULSE_SOURCE": "mine"}) == ("mine", found.sink)
    assert parse_info("Connection failure", {}) == ("", "")


def test_only_a_change_from_one_device_to_another_is_followed():
    tracker = DefaultsTracker()
    assert tracker.update(Defaults("a", "")) == ("", "")
    assert tracker.update(Defaults("a", "x")) == ("", "")
    assert tracker.update(Defaults("b", "x")) == ("b", "")
    assert tracker.update(Defaults("", "")) == ("", "")  # all are unplugged
    assert tracker.update(Defaults("b", "y")) == ("", "y")
    assert tracker.update(Defaults("b", "y")) == ("", "")


def test_monitor_as_default_microphone_is_told_once_and_ends_with_it(hearing):
    listener, problems = hearing
    check_source("alsa_input.usb", listener)
    assert problems == []
    for _ in range(3):
        check_source("alsa_output.pci.monitor", listener)
    (event,) = problems
    assert event.problem is SoundProblem.MONITOR
    assert "'alsa_output.pci.monitor' is a monitor" in str(event)
    assert any("monitor" in line for line in listener.microphone_details())
    check_source("alsa_input.usb", listener)
    assert not any("monitor" in line for line in listener.microphone_details())


@pytest.mark.parametrize(
    ("words", "monitor"),
    [
        (["parec", "-d", "spk.monitor", "--raw"], "spk.monitor"),
        (["sh", "-c", "exec parec --device=a.b.monitor --raw"], "a.b.monitor"),
        (["ffmpeg", "-f", "pulse", "-i", "@DEFAULT_MONITOR@"], "@DEFAULT_MONITOR@"),
        (["parec", "-d", "monitor.headset"], None),
        (["./room.monitoring", "--raw"], None),
    ],
)
def test_monitor_in_a_command_is_found(words, monitor, hearing):
    assert find_monitor(words) == monitor
    listener, problems = hearing
    check_command(words, listener)
    assert len(problems) == (monitor is not None)


@pytest.mark.parametrize(
    ("script", "found"),
    [
        (f"cat <<'END'\n{INFO}END", True),
        ("echo 'Connection failure' >&2; exit 1", False),
        ("exec sleep 600", False),
    ],
)
async def test_pactl_that_fails_or_hangs_tells_nothing(
    tmp_path, script, found, monkeypatch
):
    monkeypatch.setattr("realtalk_async.voice.audio.default_devices._TIMEOUT", 0.5)
    for name in ("PULSE_SOURCE", "PULSE_SINK"):
        monkeypatch.delenv(name, raising=False)
    path = tmp_path / "pactl"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    defaults = await read_defaults(str(path))
    assert (defaults is not None) == found
    assert await read_defaults(str(tmp_path / "none")) is None
