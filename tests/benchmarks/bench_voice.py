"""
Measure the latency of a voice session: ``python tests/benchmarks/bench_voice.py [--rounds N]``.

A scripted service on a local websocket talks to a session whose recorder and player are
programs with pipes; only the sound card is missing. Every piece of audio contains the
time at which it was written, so a figure covers the whole path between two programs. The
output is one JSON line per figure, then a table. Figures are in milliseconds; other load
on the machine makes them worse.

Figures:
    microphone → service   the recorder writes 20 ms → the service has received them
    delta → player         the service sends audio → an idle player has read it
    barge-in               the service reports speech → the player has played everything
                           that it was given, as a sound card would
    recorder killed        last audio of the old recorder → first audio of the new one
    standby takes over     exit of the player noticed → the standby has taken the audio
    connection dropped     connection broken → connection restored
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import itertools
import json
import os
import signal
import struct
import sys
import tempfile
import time
from pathlib import Path

import orjson
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

from realtalk_async.logs import Logger
from realtalk_async.voice import ConnectionRestored, Stream
from realtalk_async.voice.metrics import quantile

FRAME = 960  # bytes in 20 ms
STAMP = b"STMP"

RECORDER = f"""
import os, struct, time
due = time.monotonic()
while True:
    stamp = b"{STAMP.decode()}" + struct.pack("<Q", time.monotonic_ns())
    os.write(1, stamp.ljust({FRAME}, b"\\0"))
    due += 0.02
    time.sleep(max(0, due - time.monotonic()))
"""

# Prints the age of each time stamp and, after a pause, the time at which the last audio
# has been played.
PLAYER = f"""
import os, select, struct, time
empty_at, reported = 0.0, True
while True:
    if not reported and not select.select([0], [], [], 0.3)[0]:
        print("empty", empty_at, flush=True)
        reported = True
    data = os.read(0, 65536)
    if not data:
        break
    now, reported = time.monotonic(), False
    empty_at = max(empty_at, now) + len(data) / 48000
    if data[:4] == b"{STAMP.decode()}":
        sent, = struct.unpack("<Q", data[4:12])
        print("delta", now - sent / 1e9, flush=True)
"""


class Service:
    """A scripted service that records when audio arrives."""

    def __init__(self):
        self.url = ""
        self.frames = []  # (time written, time received) of each microphone frame
        self.socket = None
        self._pending = b""
        self._responses = 0

    async def handle(self, socket):
        """Serve one connection."""
        self.socket, self._pending = socket, b""
        session = {"id": "sess_1", "type": "realtime"}
        await self.send("session.created", session=session)
        with contextlib.suppress(ConnectionClosed):
            async for raw in socket:
                now, message = time.monotonic(), orjson.loads(raw)
                if message["type"] == "session.update":
                    await self.send("session.updated", session=session)
                elif message["type"] == "input_audio_buffer.append":
                    self.record(base64.b64decode(message["audio"]), now)

    def record(self, pcm, now):
        """Read the time stamps in audio of the microphone."""
        self._pending += pcm
        start = self._pending.find(STAMP)
        while start >= 0 and len(self._pending) >= start + FRAME:
            (written,) = struct.unpack_from("<Q", self._pending, start + 4)
            self.frames.append((written / 1e9, now))
            self._pending = self._pending[start + FRAME :]
            start = self._pending.find(STAMP)

    async def send(self, kind, **fields):
        """Send a server event."""
        text = orjson.dumps({"type": kind, **fields}).decode()
        await self.socket.send(text)

    async def speak(self, ms):
        """Send a whole response at once; its audio begins with the time of sending."""
        self._responses += 1
        names = {"response_id": f"r{self._responses}", "item_id": f"i{self._responses}"}
        await self.send("response.created", response={"id": names["response_id"]})
        stamp = STAMP + struct.pack("<Q", time.monotonic_ns())
        pcm = base64.b64encode(stamp.ljust(48 * ms, b"\0")).decode()
        await self.send("response.output_audio.delta", **names, delta=pcm)
        done = {"id": names["response_id"], "status": "completed", "output": []}
        await self.send("response.done", response=done)


def printed(stream, what):
    """Return the numbers of one kind that the players have printed so far."""
    players = (p for n, p in stream.process_manager.processes.items() if n in SPEAKERS)
    lines = (line.text.split() for player in players for line in player.get_stdout())
    return [float(number) for kind, number in lines if kind == what]


SPEAKERS = ("player", "standby")


async def until(condition):
    """Wait until *condition()* is true, for one minute at most."""
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.002)


async def microphone(stream, service, rounds):
    """Measure 50 frames per round."""
    service.frames.clear()
    await until(lambda: len(service.frames) >= 50 * rounds)
    return [received - written for written, received in service.frames]


async def deltas(stream, service, rounds):
    """Measure 5 responses of 40 ms per round, each with an idle player."""
    for number in range(5 * rounds):
        await service.speak(40)
        await until(lambda n=number: len(printed(stream, "delta")) > n)
        await stream.wait_until_played()
        await asyncio.sleep(0.05)
    return printed(stream, "delta")[: 5 * rounds]


async def barge_ins(stream, service, rounds):
    """Measure responses of 3 s, each interrupted after half a second."""
    figures = []
    for _ in range(rounds):
        sent = time.monotonic()
        await service.speak(3000)
        await asyncio.sleep(0.5)
        spoke = time.monotonic()
        await service.send("input_audio_buffer.speech_started", item_id="u1")
        await until(lambda sent=sent: printed(stream, "empty")[-1:] > [sent])
        figures.append(printed(stream, "empty")[-1] - spoke)
    return figures


async def recorder_deaths(stream, service, rounds):
    """Kill the recorder while it delivers; a pause lets the failure score decay."""
    figures = []
    for number in range(rounds):
        await asyncio.sleep(1)
        service.frames.clear()
        await until(lambda: service.frames)
        os.kill(stream.process_status()["recorder"].pid, signal.SIGKILL)
        await until(lambda n=number: stream.summary().restarts["recorder"] > n)
        await asyncio.sleep(0.3)
        written = [written for written, _ in service.frames]
        figures.append(max(b - a for a, b in itertools.pairwise(written)))
        stream.process_manager.processes["recorder"].reset()
    return figures


async def drops(stream, service, rounds):
    """Break the connection without a close frame, once per session."""
    figures = []
    for _ in range(rounds):
        session = Stream(
            logger=stream.logger, url=service.url, microphone=None, speaker=None
        )
        restored = session.events(ConnectionRestored)
        async with session:
            await asyncio.sleep(0.1)
            broke = time.monotonic()
            service.socket.transport.abort()
            async with asyncio.timeout(60):
                await anext(restored)
            figures.append(time.monotonic() - broke)
    return figures


async def switches(stream, service, rounds):
    """Kill the current player during a response."""
    for number in range(rounds):
        await service.speak(2000)
        await asyncio.sleep(0.3)
        victim = SPEAKERS[number % 2]
        os.kill(stream.process_status()[victim].pid, signal.SIGKILL)
        await until(lambda n=number: len(stream.metrics().switches) > n)
        await service.send("input_audio_buffer.speech_started", item_id="u1")
        await asyncio.sleep(0.5)
        stream.process_manager.processes[victim].reset()
    return list(stream.metrics().switches)


FIGURES = (
    # name, measurement, quantile to compare with the goal, goal in ms
    ("microphone → service", microphone, 0.99, 25),
    ("delta → player", deltas, 0.99, 5),
    ("barge-in", barge_ins, 0.99, 60),
    ("recorder killed", recorder_deaths, 0.5, 150),
    ("standby takes over", switches, 0.5, None),
    ("connection dropped", drops, 0.5, 400),
)


async def measure(rounds, folder):
    """Measure all figures in one session."""
    service = Service()
    async with serve(service.handle, "127.0.0.1", 0, compression=None) as server:
        port = server.sockets[0].getsockname()[1]
        service.url = f"ws://127.0.0.1:{port}/v1/realtime"
        stream = Stream(
            logger=Logger(folder / "bench.log"),
            url=service.url,
            microphone=[sys.executable, "-I", "-S", "-c", RECORDER],
            speaker=[sys.executable, "-I", "-S", "-c", PLAYER],
            standby=True,
        )
        async with stream:
            await until(lambda: len(service.frames) > 50)  # warm up
            return [
                (name, share, limit, sorted(await take(stream, service, rounds)))
                for name, take, share, limit in FIGURES
            ]


def main():
    """Measure and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        measured = asyncio.run(measure(rounds, Path(folder)))
    table = []
    for name, share, limit, figures in measured:
        p50, worst = quantile(figures, 0.5) * 1000, figures[-1] * 1000
        counts = quantile(figures, share) * 1000
        fields = {"p50_ms": p50, "counts_ms": counts, "max_ms": worst}
        rounded = {key: round(value, 2) for key, value in fields.items()}
        record = {"benchmark": f"voice: {name}", "subject": "ours", "n": len(figures)}
        goal = {"share": share, "to_reach_ms": limit}
        print(json.dumps({**record, **rounded, **goal}, ensure_ascii=False))
        met = "" if limit is None else "met" if counts <= limit else "MISSED"
        verdict = "" if limit is None else f"≤ {limit} {met}"
        table.append(
            f"{name:22} {len(figures):5} {p50:8.2f} {counts:8.2f} {worst:8.2f} "
            f"{f'p{share * 100:.0f}':>5} {verdict}"
        )
    print(f"\n{'':22} {'n':>5} {'p50':>8} {'counts':>8} {'max':>8} {'':>5} goal")
    print("\n".join(table))


if __name__ == "__main__":
    main()
