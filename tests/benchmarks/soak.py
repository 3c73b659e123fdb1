"""
Hold an hour of conversation in three minutes: ``python tests/benchmarks/soak.py``.

One voice session talks with the offline peer at twenty times the speed of speech. It
speaks, writes, calls tools and interrupts, while the script kills its recorder and its
player, faults break its connection, and connections are replaced before they expire. Ten
times during the conversation the script prints one line of JSON with the memory, tasks,
descriptors and children of the app. A verdict follows.

The speed comes from the clock of this process, ``time.monotonic``, which runs twenty times
as fast and which the session, its supervision and the event loop use. The microphone is a
program that delivers twenty times as much audio, and the peer sends as fast. The package
itself is unchanged.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import dataclasses
import gc
import itertools
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from pathlib import Path

from realtalk_async.exceptions import WaitExpired
from realtalk_async.logs import Logger
from realtalk_async.supervision import Command, Probe, ProcessManager
from realtalk_async.voice import (
    ConnectionLost,
    ConnectionRecycled,
    DeviceFailed,
    Interrupted,
    ProtocolProblem,
    ResponseText,
    ServiceError,
    Stream,
    UnknownEvent,
)

SENTENCES = (
    "What is seven plus five?",
    "Can you count from one to five?",
    "What is twenty minus eight?",
    "Good morning.",
)
STORY = "Tell me a story."
WEATHER = "How is the weather in Oslo?"

TURN = 15.0
"""Seconds for one turn: the question, the response, and a pause."""
TIMEOUT = 120.0
"""Seconds that a response may take; a longer wait counts as unresolved."""
KILL_EVERY = 7
"""The script kills a program in every seventh turn."""
REPEAT_AFTER = 8.0
"""Seconds without speech detection after which a sentence is spoken again."""
LIFETIME = 300
"""Seconds until the peer ends a session; the client reconnects before."""
TENTHS = 10

MOST_GROWTH = 8 * 2**20
"""Bytes that the memory may grow in addition to the history, for allocators."""

# Each connection has all of these faults, each once.
FAULTS = (
    "malformed@response.output_audio.delta:150",
    "unknown@response.done:9",
    "badbase64@response.output_audio.delta:400",
    "error-server_error@response.created:20",
    "twice@response.done:25",
    "drop@response.output_audio_transcript.delta:300",
)

# Delivers silence at SPEED, and the next sentence after each SIGUSR1.
MICROPHONE = """
import os, signal, sys, time
speed, paths = float(sys.argv[1]), sys.argv[2:]
said, signals = 0, []
signal.signal(signal.SIGUSR1, lambda *_: signals.append(1))
due, sound = time.monotonic(), b""
while True:
    if signals and not sound:
        signals.clear()
        sound = open(paths[said % len(paths)], "rb").read()
        said += 1
    piece, sound = sound[:4800], sound[4800:]
    os.write(1, piece.ljust(4800, bytes(1)))
    due += 0.1 / speed
    time.sleep(max(0, due - time.monotonic()))
"""
SPEAKER = ("sh", "-c", "exec cat >/dev/null")


# --- The fast clock ---------------------------------------------------------------


class FastSelector(selectors.DefaultSelector):
    """A selector that divides each timeout by *speed*."""

    speed = 1.0

    def select(self, timeout=None):
        """Wait for events."""
        return super().select(timeout and timeout / self.speed)


def speed_up(speed):
    """Make the clock of this process run *speed* times as fast from now on."""
    real, began = time.monotonic, time.monotonic()
    FastSelector.speed = speed
    time.monotonic = lambda: began + (real() - began) * speed


# --- Resources --------------------------------------------------------------------


def size_of(root):
    """Return the bytes of *root* and of all plain data that it refers to."""
    plain = (str, bytes, int, float, type(None), type)
    seen, todo, total = set(), [root], 0
    while todo:
        thing = todo.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        total += sys.getsizeof(thing)
        if not isinstance(thing, plain):
            todo += (each for each in gc.get_referents(thing) if is_data(each))
    return total


def is_data(thing):
    """Return whether a thing is data, not a class, a function or a running object."""
    if isinstance(thing, type) or callable(thing):
        return False
    ours = dataclasses.is_dataclass(thing) or type(thing).__module__ == "builtins"
    return ours or type(thing).__module__ in ("datetime", "collections", "pathlib")


def history_of(stream, manager):
    """Return the bytes of the history that the session keeps on purpose."""
    session = stream._session
    kept = (
        list(stream.eventlog),
        stream.conversation(),
        session.conversation,
        session.responses.outcomes,
        stream._timeline.marks,
        stream._meter,
        session.playback._sizes,
        manager.get_error_history().to_dict(),
    )
    return size_of(kept)


def count(stream):
    """Return the resources that this process holds."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)  # returns free memory to the system
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "rss": pages * os.sysconf("SC_PAGE_SIZE"),
        "fds": len(os.listdir("/proc/self/fd")),
        "threads": threading.active_count(),
        "tasks": len(asyncio.all_tasks()),
        "children": len(
            Path("/proc/self/task", str(os.getpid()), "children").read_text().split()
        ),
        "events": len(stream.eventlog),
    }


# --- The conversation -------------------------------------------------------------


class Talk:
    """One long conversation and its outcomes."""

    def __init__(self, stream, event_counts):
        self.stream = stream
        self.event_counts = event_counts
        self.victims = itertools.cycle(("player", "recorder"))
        self.latest = deque(maxlen=30)
        stream.subscribe(self.note)
        self.outcomes = Counter()
        self.unresolved = 0
        self.turns = 0

    def note(self, event):
        """Keep the latest events, to be printed if a wait is not resolved."""
        if not isinstance(event, ResponseText):
            at = f"{time.monotonic():.1f}"
            self.latest.append(f"{at} {type(event).__name__}: {event}"[:100])

    def speak(self):
        """Make the recorder deliver its next sentence, if it is running."""
        self.signal("recorder", signal.SIGUSR1)

    async def resolve(self, wait):
        """Wait for a response and for the end of its audio."""
        try:
            outcome = await wait
        except (WaitExpired, TimeoutError):
            self.unresolved += 1
            print("not resolved, after:", *self.latest, sep="\n  ", file=sys.stderr)
            return
        self.outcomes[str(outcome.status)] += 1
        await self.stream.wait_until_played(TIMEOUT)

    async def spoken(self):
        """Ask aloud, and again if no speech is detected, as the recorder may have died."""
        response = asyncio.create_task(self.stream.wait_for_response(None))
        before = self.event_counts["SpeechStarted"]
        while self.event_counts["SpeechStarted"] == before and not response.done():
            self.speak()
            await asyncio.wait([response], timeout=REPEAT_AFTER)
        await self.resolve(asyncio.wait_for(response, TIMEOUT))

    async def written(self, text=SENTENCES[0]):
        """Ask in writing."""
        self.stream.send_text(text, trigger_response=True)
        await self.resolve(self.stream.wait_for_response(TIMEOUT))

    async def tool_call(self):
        """Ask a question that needs a tool."""
        await self.written(WEATHER)

    async def interrupted(self):
        """Ask for a story and interrupt it."""
        self.stream.send_text(STORY, trigger_response=True)
        story = asyncio.create_task(self.stream.wait_for_response(TIMEOUT))
        await asyncio.wait([story])
        await asyncio.sleep(2)
        self.speak()
        await asyncio.sleep(2)
        await self.resolve(story)
        await self.spoken()

    def signal(self, name, number):
        """Send a signal to a program if it is running."""
        status = self.stream.process_status()[name]
        if status.status == "running":
            with contextlib.suppress(ProcessLookupError):
                os.kill(status.pid, number)

    async def hold(self, until):
        """Hold the conversation until the time *until*."""
        loop = asyncio.get_running_loop()
        kinds = (
            *(self.spoken, self.written, self.interrupted),
            *(self.spoken, self.tool_call),
        )
        while (began := time.monotonic()) < until:
            self.turns += 1
            if self.turns % KILL_EVERY == 0:
                victim = next(self.victims)
                loop.call_later(3, self.signal, victim, signal.SIGKILL)
            await kinds[self.turns % len(kinds)]()
            await asyncio.sleep(max(0, began + TURN - time.monotonic()))


async def get_weather(city: str) -> str:
    """Return the weather in a city."""
    await asyncio.sleep(0.5)
    return "fine"


RENDER = """
import sys
from pathlib import Path
from realtalk_async.offline import render
for path, sentence in zip(sys.argv[1::2], sys.argv[2::2]):
    render([(sentence, 0.7)], f"{path}.wav")
    Path(path).write_bytes(Path(f"{path}.wav").read_bytes()[44:])
"""


def speak_into(folder):
    """Render the sentences with a silence after each; return the paths of the samples."""
    paths = [str(folder / f"{number}.pcm") for number in range(len(SENTENCES))]
    pairs = itertools.chain(*zip(paths, SENTENCES, strict=True))
    # In another process, because the speech models would count as memory here.
    subprocess.run([sys.executable, "-c", RENDER, *pairs], check=True)
    return paths


async def soak(minutes, speed, folder, sentences):
    """Hold a conversation of *minutes*; yield the counts of each tenth."""
    logger = Logger(folder / "soak.log")
    microphone = [sys.executable, "-I", "-S", "-c", MICROPHONE, str(speed)]
    peer = [sys.executable, "-m", "realtalk_async.offline", "--port", "0"]
    query = "&".join([f"lifetime={LIFETIME}", *(f"fault={fault}" for fault in FAULTS)])
    async with logger, ProcessManager(logger) as manager:
        served = await manager.start(
            "peer",
            Command(*peer, "--pace", str(20 * speed)),
            probes=[Probe.line("peer ready", timeout=60 * speed)],
        )
        line = await served.wait_for_line("peer ready on", timeout=60 * speed)
        stream = Stream(
            logger=logger,
            process_manager=manager,
            url=f"{line.text.split()[-1]}?{query}",
            microphone=[*microphone, *sentences],
            speaker=SPEAKER,
            tools=[get_weather],
            record=folder / "both.wav",
        )
        counted = Counter()
        stream.subscribe(lambda event: counted.update([type(event).__name__]))
        async with stream:
            talk = Talk(stream, counted)
            stream.set_status_message("All is well.")
            began = time.monotonic()
            for tenth in range(1, TENTHS + 1):
                await talk.hold(began + minutes * 60 * tenth / TENTHS)
                yield {
                    "minutes": round((time.monotonic() - began) / 60, 1),
                    "turns": talk.turns,
                    **count(stream),
                    "history": history_of(stream, manager),
                    "peer_rss": peer_memory(served.pid),
                    "responses": dict(talk.outcomes),
                    "unresolved": talk.unresolved,
                    "restarts": stream.summary().restarts,
                    "dropped_audio": round(stream.summary().dropped_audio, 1),
                    "counted": {
                        kind.__name__: counted[kind.__name__] for kind in COUNTED
                    },
                }


COUNTED = (
    *(ConnectionLost, ConnectionRecycled, DeviceFailed, Interrupted),
    *(ProtocolProblem, ServiceError, UnknownEvent),
)


def peer_memory(pid):
    """Return the resident bytes of the peer."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf(
        "SC_PAGE_SIZE"
    )


HELD = {"fds": 0, "threads": 2, "tasks": 0, "children": 0}
"""The resources that must not grow, and the tolerance: idle threads come and go."""


def judge(counts):
    """Return the growth of memory after the first third, and what is wrong."""
    warm, last = counts[len(counts) // 3], counts[-1]
    most = {what: max(c[what] for c in counts[: len(counts) // 2]) for what in HELD}
    growth = (last["rss"] - warm["rss"]) - (last["history"] - warm["history"])
    wrong = [
        f"{last[what] - most[what]} {what} more than in the first half"
        for what, spare in HELD.items()
        if last[what] > most[what] + spare
    ]
    if growth > MOST_GROWTH:
        wrong.append(f"{growth / 2**20:.1f} MiB more memory than the history takes")
    if last["unresolved"]:
        wrong.append(f"{last['unresolved']} waits were not resolved")
    if not last["responses"].get("completed"):
        wrong.append("no response was completed")
    return growth, wrong


async def run(minutes, speed):
    """Hold the conversation, print its counts and the verdict."""
    counts = []
    with tempfile.TemporaryDirectory() as name:
        sentences = speak_into(Path(name))
        async with contextlib.aclosing(
            soak(minutes, speed, Path(name), sentences)
        ) as soaking:
            async for counted in soaking:
                print(json.dumps(counted), flush=True)
                counts.append(counted)
    growth, wrong = judge(counts)
    verdict = {"benchmark": "soak", "minutes": minutes, "speed": speed}
    verdict |= {"growth_beyond_history": growth, "wrong": wrong}
    print(json.dumps(verdict))
    return 1 if wrong else 0


def main():
    """Run the soak test; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--minutes", type=float, default=60.0, help="of conversation")
    parser.add_argument("--speed", type=float, default=20.0, help="times real time")
    options = parser.parse_args()
    speed_up(options.speed)
    with asyncio.Runner(
        loop_factory=lambda: asyncio.SelectorEventLoop(FastSelector())
    ) as runner:
        return runner.run(run(options.minutes, options.speed))


if __name__ == "__main__":
    sys.exit(main())
