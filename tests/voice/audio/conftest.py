"""Made conversations, fed to listeners of the sound faster than real time."""

import random
from types import SimpleNamespace

import numpy
import pytest

from realtalk_async.offline.speech.voice import synthesise

RATE = 24_000
USER = [
    "What time is it?",
    "Could you tell me a little more about that, please?",
    "No, stop, I meant the other one.",
    "Yes.",
    "I would like to book a table for four people on Friday evening.",
]
ASSISTANT = [
    "Sure, it is a quarter past nine.",
    "There are three restaurants nearby, and all of them are open until midnight.",
    "Fine.",
    "The weather will be sunny in the morning, with some clouds later in the day.",
    "I have booked a table for four at seven. Is there anything else that I can do?",
]


def samples_of(text):
    return numpy.frombuffer(synthesise(text), "<i2").astype(float)


@pytest.fixture(scope="session")
def voices():
    """Return the sentences of the user, of another pitch, and those of the assistant."""
    chance = random.Random(2)
    user = []
    for text in USER:
        speech = samples_of(text)
        faster = numpy.arange(0, len(speech) - 1, chance.uniform(0.8, 0.95))
        user.append(numpy.interp(faster, numpy.arange(len(speech)), speech))
    return user, [samples_of(text) for text in ASSISTANT]


def feed(hearing, microphone, speaker=None, *, began=1000.0, seed=1):
    """Feed both sides in pieces of odd sizes, as programs deliver them."""
    chance = random.Random(seed)
    speaker = numpy.zeros(len(microphone)) if speaker is None else speaker
    heard, played, position = to_pcm(microphone), to_pcm(speaker), 0
    while position < len(heard):
        size = min(chance.randint(200, 4000), len(heard) - position)
        now = began + (position + size) / 2 / RATE
        even = position + position % 2, position + size + (position + size) % 2
        piece = played[slice(*even)]
        if any(piece):
            hearing.played(None, piece, began + even[0] / 2 / RATE)
        hearing.recorded(
            heard[position : position + size], now + chance.uniform(0, 0.03)
        )
        position += size


def to_pcm(samples):
    return numpy.clip(numpy.rint(samples), -32768, 32767).astype("<i2").tobytes()


def noise(seconds, level, *, seed=3):
    """Return noise of a root mean square of *level*, with most power at low pitches."""
    white = numpy.random.default_rng(seed).normal(0, 1, int(seconds * RATE))
    brown = numpy.convolve(white, numpy.exp(-numpy.arange(60) / 20), "same")
    return brown / brown.std() * level


def conversation(minutes, voices, *, seed=1):
    """
    Return both sides of a conversation: speech, interruptions, noise, pauses.

    The levels of voice and noise change with each quarter of a minute. There are pauses of
    many seconds, and some in which the device suppresses all noise.
    """
    user, assistant = voices
    chance, length = random.Random(seed), int(minutes * 60 * RATE)
    microphone = numpy.concatenate(
        [
            noise(15, chance.choice([2, 8, 30, 120, 400]), seed=chance.randrange(10**6))
            for _ in range(length // (15 * RATE) + 1)
        ]
    )[:length]
    speaker, position = numpy.zeros(length), 0
    while True:
        speaks = chance.choice(user) * chance.choice([0.1, 0.3, 1.0, 1.4])
        position = add(microphone, speaks, position)
        answer = chance.choice(assistant)
        position += int(chance.uniform(0.2, 1.5) * RATE)
        end = add(speaker, answer, position)
        if chance.random() < 0.3:  # the user speaks at the same time
            add(microphone, chance.choice(user), position + len(answer) // 3)
        position = end + int(chance.choice([0.1, 0.5, 2, 8]) * RATE)
        if chance.random() < 0.2:
            gap = int(chance.uniform(1, 5) * RATE)
            microphone[position : position + gap] = 0
            position += gap
        if position > length:
            return microphone, speaker


def add(track, sound, position):
    part = track[position : position + len(sound)]
    part += sound[: len(part)]
    return position + len(sound)


@pytest.fixture(scope="session")
def made():
    """Return the functions that make sound, and that feed it to a listener."""
    return SimpleNamespace(
        feed=feed, noise=noise, conversation=conversation, to_pcm=to_pcm
    )
