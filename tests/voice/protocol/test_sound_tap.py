"""Listeners get whole samples, whatever the sizes in which a recorder delivers."""

from realtalk_async.voice.protocol.microphone import InputFilter
from realtalk_async.voice.protocol.sound_tap import SoundTap


class Listener:
    """Collects the sound of the recorder."""

    def __init__(self):
        self.heard = []

    def recorded(self, pcm, at):
        self.heard.append(pcm)


def test_half_a_sample_waits_for_its_other_half():
    tap, listener = SoundTap(InputFilter()), Listener()
    tap.add(listener)
    for piece in (b"\1\2\3", b"\4\5", b"\6"):
        tap.recorded(piece, 1.0)
    assert listener.heard == [b"\1\2", b"\3\4", b"\5\6"]


def test_half_a_sample_of_a_dead_recorder_does_not_garble_the_next_one():
    gate = InputFilter()
    tap, listener = SoundTap(gate), Listener()
    tap.add(listener)
    tap.recorded(b"\1\2\3", 1.0)
    gate.realign()
    tap.recorded(b"\7\0\7\0", 2.0)
    assert listener.heard == [b"\1\2", b"\7\0\7\0"]
