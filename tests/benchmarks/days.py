"""
Hold three days of conversation in twenty minutes: ``python tests/benchmarks/days.py``.

One voice session talks with the offline peer: a written question every 45 seconds, with a
spoken answer. It calls tools and interrupts, while the script kills its player, faults
break each connection, and connections are replaced before they expire. The script prints
ten lines of JSON with the memory of the app and the sizes of what the session keeps, then
the verdict.

The clock is that of ``soak.py``, which has a microphone and lasts an hour: forty times as
fast as real time here. Between two turns it also leaps, two seconds at a time.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from soak import (
    COUNTED,
    FAULTS,
    HELD,
    SPEAKER,
    TENTHS,
    FastSelector,
    Talk,
    count,
    get_weather,
    history_of,
    speed_up,
)

from realtalk_async.logs import Logger
from realtalk_async.supervision import Command, Probe, ProcessManager
from realtalk_async.voice import Stream

DAY = 86_400.0
TURN = 45.0
"""Seconds from one question to the next."""
LIFETIME = 3600
"""Seconds until the peer ends a session; the client reconnects before."""
KILL_EVERY = 200
"""The script kills the player in each turn of this number."""
LEAP, PAUSE = 2.0, 0.003
"""Seconds that the clock leaps, and that the peer has to answer what is due, real ones."""
MOST_GROWTH = 16 * 2**20
"""Bytes that the memory may grow after the first third of the time, in all."""


class WrittenTalk(Talk):  # type: ignore[misc]  # a script of its own
    """A conversation without a microphone."""

    async def interrupted(self):
        """Ask for a story and interrupt it."""
        story = self.stream.send_text("Tell me a story.", trigger_response=True)
        await asyncio.sleep(2)
        self.stream.interrupt()
        await self.resolve(asyncio.wait_for(story, 120))

    async def hold(self, until):
        """Hold the conversation until the time *until*."""
        kinds = self.written, self.written, self.interrupted, self.written
        while (began := time.monotonic()) < until:
            self.turns += 1
            if self.turns % KILL_EVERY == 0:
                self.signal("player", signal.SIGKILL)
            kind = self.tool_call if self.turns % 5 == 0 else kinds[self.turns % 4]
            await kind()
            while time.monotonic() < began + TURN:
                CLOCK.leapt += LEAP
                await asyncio.sleep(PAUSE * FastSelector.speed)


class LeapingClock:
    """The clock of this process, which may leap."""

    leapt = 0.0

    def install(self):
        """Replace the clock of this process."""
        fast = time.monotonic
        time.monotonic = lambda: fast() + self.leapt


CLOCK = LeapingClock()


async def talk_for(days, speed, folder):
    """Hold a conversation of *days*; yield the counts of each tenth."""
    logger = Logger(folder / "days.log")
    peer = [sys.executable, "-m", "realtalk_async.offline", "--port", "0"]
    query = "&".join([f"lifetime={LIFETIME}", *(f"fault={fault}" for fault in FAULTS)])
    async with logger, ProcessManager(logger) as manager:
        served = await manager.start(
            "peer",
            Command(*peer, "--pace", "0"),
            probes=[Probe.line("peer ready", timeout=60 * speed)],
        )
        line = await served.wait_for_line("peer ready on", timeout=60 * speed)
        stream = Stream(
            logger=logger,
            process_manager=manager,
            url=f"{line.text.split()[-1]}?{query}",
            microphone=None,
            speaker=SPEAKER,
            tools=[get_weather],
        )
        counted = Counter()
        stream.subscribe(lambda event: counted.update([type(event).__name__]))
        async with stream:
            talk = WrittenTalk(stream, counted)
            stream.set_status_message("All is well.")
            began = time.monotonic()
            for tenth in range(1, TENTHS + 1):
                await talk.hold(began + days * DAY * tenth / TENTHS)
                yield {
                    "days": round((time.monotonic() - began) / DAY, 2),
                    "turns": talk.turns,
                    **count(stream),
                    "history": history_of(stream, manager),
                    "kept": kept(stream),
                    "dropped": dict(stream.metrics().dropped_history),
                    "responses": dict(talk.outcomes),
                    "unresolved": talk.unresolved,
                    "restarts": stream.summary().restarts,
                    "counted": {
                        kind.__name__: counted[kind.__name__] for kind in COUNTED
                    },
                }


def kept(stream):
    """Return the numbers of what the session keeps."""
    session = stream._session
    return {
        "items": len(session.conversation),
        "outcomes": len(session.responses.outcomes),
        "events": len(stream.eventlog),
        "marks": len(stream._timeline.marks),
        "parts": len(session.playback._sizes),
    }


def judge(counts):
    """Return the growth of memory after the first third, and what is wrong."""
    warm, last = counts[len(counts) // 3], counts[-1]
    growth = last["rss"] - warm["rss"]
    most = {what: max(c[what] for c in counts[: len(counts) // 2]) for what in HELD}
    wrong = [
        f"{last[what] - most[what]} {what} more than in the first half"
        for what, spare in HELD.items()
        if last[what] > most[what] + spare
    ]
    if growth > MOST_GROWTH:
        wrong.append(f"{growth / 2**20:.1f} MiB more memory")
    if last["unresolved"]:
        wrong.append(f"{last['unresolved']} waits were not resolved")
    if not last["responses"].get("completed"):
        wrong.append("no response was completed")
    return growth, wrong


async def run(days, speed):
    """Hold the conversation, print its counts and the verdict."""
    counts = []
    with tempfile.TemporaryDirectory() as name:
        async with contextlib.aclosing(talk_for(days, speed, Path(name))) as talking:
            async for counted in talking:
                print(json.dumps(counted), flush=True)
                counts.append(counted)
    growth, wrong = judge(counts)
    verdict = {"benchmark": "days", "days": days, "speed": speed}
    print(json.dumps({**verdict, "growth": growth, "wrong": wrong}))
    return 1 if wrong else 0


def main():
    """Run the conversation; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--days", type=float, default=3.0, help="of conversation")
    parser.add_argument("--speed", type=float, default=40.0, help="times real time")
    options = parser.parse_args()
    speed_up(options.speed)
    CLOCK.install()
    with asyncio.Runner(
        loop_factory=lambda: asyncio.SelectorEventLoop(FastSelector())
    ) as runner:
        return runner.run(run(options.days, options.speed))


if __name__ == "__main__":
    sys.exit(main())
