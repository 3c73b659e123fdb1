"""
Every fault of the offline peer in every phase of a turn: the table of what becomes of it.

Each cell is a session of its own, with the real peer on a real websocket and with real
programs as microphone and speaker. Of each it is asked:

- was the fault told, by exactly one event of the right type, or by none if it is harmless?
- did all that waits for a response get its outcome, and the right one?
- is the session alive: is the next question answered? Or, where going on is of no use,
  did it end with the reason?

``python tests/voice/test_fault_phases.py`` runs the whole table and prints it.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import itertools
import os
import signal
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from realtalk_async.exceptions import (
    AuthenticationRefused,
    ClosedStream,
    ServiceRefused,
    ServiceUnreachable,
    StreamError,
)
from realtalk_async.logs import Logger
from realtalk_async.offline import Peer, render
from realtalk_async.offline.faults import CLOSE_CODES
from realtalk_async.voice import Status, Stream, events

QUESTION = "What is two plus three?"
ANSWER = "Two plus three is five."
STORY = "Tell me a story."
WEATHER = "How is the weather in Oslo?"
HURRY = 0.3
"""Seconds that are waited for what will never come, instead of half a minute."""

BOUND = 120
"""Seconds for anything: the machine may be busy; nothing here waits for its clock."""

# Silence in real time; whenever it is told to, it speaks, faster than anybody could.
MICROPHONE = """
import os, signal, sys, time
pcm = open(sys.argv[1], "rb").read()
told = []
signal.signal(signal.SIGUSR1, lambda *_: told.append(1))
due = time.monotonic()
while True:
    while told:
        told.pop()
        for at in range(0, len(pcm), 9600):
            os.write(1, pcm[at : at + 9600])
            time.sleep(0.005)
    os.write(1, bytes(960))
    due = max(due + 0.02, time.monotonic() - 0.1)
    time.sleep(max(0, due - time.monotonic()))
"""
SPEAKER = ("sh", "-c", "exec cat >/dev/null")


# --- The phases -------------------------------------------------------------------


@dataclass
class Scene:
    """One cell while it is played."""

    peer: Peer
    stream: Stream
    seen: list[events.VoiceEvent] = field(default_factory=list)
    tool_called: asyncio.Event = field(default_factory=asyncio.Event)
    tool_may_answer: asyncio.Event = field(default_factory=asyncio.Event)

    def note(self, event):
        """Keep an event; what is dialled again is in no hurry."""
        self.seen.append(event)
        if isinstance(event, events.ConnectionLost):
            hurry(self.stream, BOUND)

    async def until(self, kind, count=1):
        """Wait until so many events of a kind were told."""
        await until(lambda: self.count(kind) >= count)

    def count(self, kind):
        """Return how many events of a kind were told."""
        return sum(isinstance(event, kind) for event in self.seen)

    def ask(self, text=QUESTION):
        """Ask in writing."""
        self.stream.send_text(text, trigger_response=True)

    async def speak(self):
        """Have the microphone say the question."""
        await until(lambda: self.stream.is_ready())
        os.kill(self.stream.process_status()["recorder"].pid, signal.SIGUSR1)


async def until(condition):
    """Wait for *condition*."""
    async with asyncio.timeout(BOUND):
        while not condition():
            await asyncio.sleep(0.002)


async def in_idle(scene, fault):
    await until(lambda: scene.stream.is_ready())
    scene.peer.fault(fault)


async def while_speaking(scene, fault):
    scene.peer.fault(fault)
    await scene.speak()


async def while_answering(scene, fault):
    scene.peer.fault(fault)
    scene.ask()


async def while_a_tool_runs(scene, fault):
    if not fault.endswith("@now"):
        scene.peer.fault(fault)
    scene.ask(WEATHER)
    if fault.endswith("@now"):
        async with asyncio.timeout(BOUND):
            await scene.tool_called.wait()
        scene.peer.fault(fault)


async def while_playing(scene, fault):
    scene.ask(STORY)
    await scene.until(events.ResponseFinished)
    assert scene.stream.metrics().queued_audio > 1
    scene.peer.fault(fault)


async def while_interrupting(scene, fault):
    scene.ask(STORY)
    await until(lambda: scene.stream.metrics().played_audio > 0.1)
    scene.peer.fault(fault)
    scene.stream.interrupt()


async def while_reconnecting(scene, fault):
    await until(lambda: scene.stream.is_ready())
    scene.peer.fault(fault)
    scene.peer.fault("drop@now")


@dataclass(frozen=True)
class Phase:
    """A moment of a conversation at which faults strike."""

    name: str
    event: str
    """Of the peer, at which they strike."""
    reach: object
    """Brings the conversation there, with the fault armed."""
    kinds: frozenset[str]
    """The faults that there can be."""
    sound: bool = True
    spoken: bool = False
    asks: bool = True
    """Whether a response is due by then."""
    pace: float = 0
    """Seconds of sound that the peer sends per second; 0 is as fast as can be."""

    @property
    def is_answering(self):
        """Whether a response is under way, or promised."""
        return self.event.startswith(("response.", "input_audio_buffer."))


BREAKS = frozenset(
    ("drop", "close", "stall", "malformed", "binary", "unknown", "error")
)
EVENTS = BREAKS | {"late", "twice", "missing", "beta"}
ENDS = frozenset(("failed", "incomplete"))
PHASES = (
    Phase(
        *("connecting", "session.created", None, EVENTS | {"refuse"}),
        sound=False,
        asks=False,
    ),
    Phase("setting up", "session.updated", None, EVENTS, sound=False, asks=False),
    Phase("idle", "now", in_idle, BREAKS | {"beta"}, sound=False, asks=False),
    Phase(
        *("user speaks", "input_audio_buffer.speech_stopped", while_speaking, EVENTS),
        spoken=True,
    ),
    Phase(
        *("committed", "response.created", while_speaking, EVENTS | ENDS),
        spoken=True,
    ),
    Phase(
        *("text comes", "response.output_text.delta:2", while_answering, EVENTS | ENDS),
        sound=False,
    ),
    Phase(
        *("words come", "response.output_audio_transcript.delta:2", while_answering),
        EVENTS | ENDS,
    ),
    Phase(
        *("sound comes", "response.output_audio.delta:2", while_answering),
        EVENTS | ENDS | {"badbase64"},
    ),
    Phase("response ends", "response.done", while_answering, EVENTS | ENDS),
    Phase("tool runs", "now", while_a_tool_runs, BREAKS | {"beta"}, sound=False),
    Phase("playing", "now", while_playing, BREAKS | {"beta"}),
    Phase(
        *("interrupting", "response.done", while_interrupting, EVENTS | ENDS),
        pace=2,
    ),
    Phase(
        *("reconnecting", "session.updated", while_reconnecting, EVENTS | {"refuse"}),
        sound=False,
        asks=False,
    ),
)

FAULTS = (
    "drop",
    "close-1000",
    "close-1001",
    "close-1011",
    "stall",
    "malformed",
    "binary",
    "badbase64",
    "unknown",
    "error-server_error",
    "error-rate_limit_exceeded",
    *(f"error-{code}" for code in CLOSE_CODES),
    "failed-server_error",
    "failed-insufficient_quota",
    "incomplete-max_output_tokens",
    "incomplete-content_filter",
    "missing",
    "late-0.1",
    "twice",
    "beta",
    "refuse-401",
    "refuse-404",
    "refuse-429",
    "refuse-503",
)


# --- What must become of it -------------------------------------------------------


TELLING = (
    events.ConnectionLost,
    events.ProtocolProblem,
    events.ServiceError,
    events.UnknownEvent,
    events.TranscriptionFailed,
)


@dataclass(frozen=True)
class Cell:
    """A fault in a phase."""

    fault: str
    phase: Phase

    @property
    def kind(self):
        return self.fault.partition("-")[0]

    @property
    def argument(self):
        return self.fault.partition("-")[2]

    @property
    def text(self):
        """The fault as the peer is told it."""
        if self.kind == "refuse":
            return self.fault
        if self.kind in ENDS:
            return f"{self.fault}@response.done"
        return f"{self.fault}@{self.phase.event}"

    @property
    def told(self):
        """The type of the one event that tells of it; None if its outcome does."""
        match self.kind:
            case "drop" | "close" | "stall":
                return events.ConnectionLost
            case "malformed" | "badbase64":
                return events.ProtocolProblem
            case "unknown":
                return events.UnknownEvent
            case "binary" if self.phase.event == "now":
                return events.UnknownEvent  # the frame holds one
            case "error":
                return events.ServiceError
        return None

    @property
    def breaks(self):
        """Whether it breaks the connection."""
        return self.told is events.ConnectionLost or self.argument == "session_expired"

    @property
    def unconfirmed(self):
        """Whether it makes the service confirm no set-up, which is told too."""
        kinds = ("stall", "malformed", "missing")
        return self.phase.event == "session.updated" and self.kind in kinds

    @property
    def hangs(self):
        """Whether something that is waited for never comes."""
        waited_for = ("response.done", "session.updated")
        lacks = self.kind in ("missing", "malformed") and self.phase.event in waited_for
        return self.kind == "stall" or lacks

    @property
    def is_fatal(self):
        """Whether it is of no use to go on."""
        return self.argument in CLOSE_CODES and self.argument != "session_expired"

    @property
    def ends_with(self):
        """The exception, and what it says, with which it ends; None if it goes on."""
        if self.is_fatal:
            return ServiceRefused, self.argument
        if self.fault == "refuse-401":
            return AuthenticationRefused, "401"
        if self.fault == "refuse-404":
            return ServiceRefused, "404"
        # The very first connection: more likely a mistake than an outage.
        first = self.phase.reach is None
        if first and (self.kind == "refuse" or self.breaks) and not self.unconfirmed:
            return ServiceUnreachable, ""
        return None

    @property
    def waited(self):
        """What who waits for a response gets; None if there is none yet to wait for."""
        phase = self.phase
        if self.is_fatal or self.ends_with:
            if phase.reach is None:
                return None
            if self.kind in ENDS:
                return Status.FAILED
            return self._ended
        if self.kind in ENDS:
            return Status(self.kind)
        if self.unconfirmed and self.kind == "stall":
            return Status.STALLED
        if phase.name == "interrupting" and not (self.breaks and self.kind != "stall"):
            return Status.CANCELLED
        if phase.is_answering and self.hangs and phase.name != "user speaks":
            return Status.STALLED
        if phase.is_answering and self.breaks:
            return Status.LOST
        return Status.COMPLETED

    @property
    def _ended(self):
        if self.phase.name == "playing":
            return Status.COMPLETED
        return Status.LOST if self.phase.is_answering else ClosedStream

    def __str__(self):
        return f"{self.fault} {self.phase.name}".replace(" ", "_")


def cells():
    """All that there can be."""
    for fault, phase in itertools.product(FAULTS, PHASES):
        cell = Cell(fault, phase)
        if cell.kind in phase.kinds:
            yield cell


CELLS = tuple(cells())


def share():
    """Every third of each fault, and one at least: what is played by default."""
    by_fault = itertools.groupby(CELLS, lambda cell: cell.fault)
    for number, (_, some) in enumerate(by_fault):
        group = list(some)
        yield from group[number % min(3, len(group)) :: 3]


SHARE = tuple(share())


# --- Playing it -------------------------------------------------------------------


@dataclass
class Played:
    """What became of a cell."""

    seen: list[events.VoiceEvent]
    outcomes: tuple[events.Outcome, ...]
    error: BaseException | None = None
    alive: bool = False
    waited: object = None
    """What the waiter got: an outcome, or an exception."""

    @property
    def told(self):
        return [event for event in self.seen if tells(event)]

    def __str__(self):
        said = [type(event).__name__ for event in self.told]
        return f"{said} {self.waited} {self.error!r} alive={self.alive}"


def hurry(stream, seconds):
    """Have *stream* wait only so long for what will not come."""
    session = stream._session
    connection = session.connection
    session.responses._stall_after = session.responses._cancel_grace = seconds
    session._turn._stall_after = seconds
    connection._silence = connection._timeout = seconds
    connection.keepalive._silence = connection.keepalive._timeout = seconds
    if connection._configuring_until is not None:
        connection._configuring_until = time.monotonic() + seconds
    stream._connection.update()


async def play(cell, folder, pcm):
    """Play a cell, and tell what became of it."""
    phase = cell.phase
    command = [sys.executable, "-I", "-S", "-c", MICROPHONE, str(pcm)]
    async with Peer(pace=phase.pace) as peer:
        called, may_answer = asyncio.Event(), asyncio.Event()

        async def get_weather(city: str) -> str:
            """Tell the weather."""
            called.set()
            await may_answer.wait()
            return "fine"

        stream = Stream(
            logger=Logger(folder / "app.log"),
            url=peer.url,
            microphone=command if phase.spoken else None,
            speaker=SPEAKER if phase.sound else None,
            tools=[get_weather] if phase.reach is while_a_tool_runs else [],
        )
        scene = Scene(peer, stream, [], called, may_answer)
        stream.subscribe(scene.note)
        played = Played(scene.seen, ())
        try:
            async with asyncio.timeout(BOUND):
                await converse(cell, scene, played)
        except (StreamError, TimeoutError) as error:
            played.error = error
        played.outcomes = stream.summary().outcomes
    return played


async def converse(cell, scene, played):
    """Hold the conversation of a cell."""
    stream, peer, phase = scene.stream, scene.peer, cell.phase
    if phase.reach is None:
        peer.fault(cell.text)
        if cell.hangs:
            stream._session.connection._timeout = HURRY
    async with stream:
        waiting = asyncio.create_task(stream.wait_for_response(BOUND))
        try:
            if phase.reach is not None:
                await phase.reach(scene, cell.text)
                await until(lambda: not peer._faults._armed)
            if cell.hangs:
                hurry(stream, HURRY)
            if not (cell.unconfirmed and cell.kind == "stall"):
                await settle(cell, scene)
                if cell.unconfirmed:
                    hurry(stream, BOUND)
            if not (cell.ends_with or phase.asks):
                scene.ask()
            if not cell.ends_with:
                scene.tool_may_answer.set()
            (played.waited,) = await asyncio.gather(waiting, return_exceptions=True)
            if not cell.ends_with:
                await settle(cell, scene)
                hurry(stream, BOUND)
                played.alive = await answers(scene)
        finally:
            waiting.cancel()
            await asyncio.wait([waiting])


async def settle(cell, scene):
    """Wait until the fault was told, and mended."""
    stream = scene.stream
    if cell.ends_with:
        await until(lambda: stream.summary().ended_by)
        return
    if cell.told is not None:
        await scene.until(cell.told)
    if cell.breaks or cell.phase.reach is while_reconnecting:
        lost = 1 + (cell.phase.reach is while_reconnecting and cell.breaks)
        await scene.until(events.ConnectionLost, lost)
        await scene.until(events.ConnectionRestored)
    await until(lambda: stream.is_ready())


async def answers(scene):
    """Return whether the next question is answered: what session is alive does that."""
    stream = scene.stream
    scene.ask()
    outcome = await stream.wait_for_response(BOUND)
    return (outcome.status, outcome.text) == (Status.COMPLETED, ANSWER)


def judge(cell, played):
    """Return what is wrong with what became of a cell; nothing if it is as it should."""
    wrong = []
    if cell.ends_with:
        kind, said = cell.ends_with
        if not (isinstance(played.error, kind) and said in str(played.error)):
            wrong.append(f"ended with {played.error!r}")
    elif played.error or not played.alive:
        wrong.append(f"did not live on: {played.error!r}")
    allowed = {cell.told, None}
    told = collections.Counter(type(event) for event in played.told)
    if cell.phase.reach is while_reconnecting:
        told[events.ConnectionLost] -= 1  # the one that began it
    if cell.unconfirmed:
        told[events.ProtocolProblem] -= 1
    if cell.told and told[cell.told] != 1 and not (cell.ends_with and not told):
        wrong.append(f"told {told[cell.told]} times by {cell.told.__name__}")
    others = {k: n for k, n in told.items() if n > 0 and k not in allowed}
    if cell.argument == "session_expired":
        others.pop(events.ConnectionLost, None)  # it follows
    if others:
        wrong.append(f"told also by {others}")
    begun = [
        e.response_id for e in played.seen if isinstance(e, events.ResponseStarted)
    ]
    ended = [o.response_id for o in played.outcomes if o.response_id]
    if sorted(begun) != sorted(ended):
        wrong.append(f"{begun} began, {ended} ended")
    waited, due = played.waited, cell.waited
    got = waited.status if isinstance(waited, events.Outcome) else type(waited)
    if due is not None and got != due:
        wrong.append(f"who waited for {due} got {waited!r}")
    return wrong


def tells(event):
    """Whether an event tells of a fault."""
    barred = "conversation_already_has_active_response"  # no fault: asked again
    return isinstance(event, TELLING) and getattr(event, "code", "") != barred


# --- The table --------------------------------------------------------------------


@pytest.fixture(scope="session")
def pcm(tmp_path_factory):
    """The question, as samples."""
    return speak_into(tmp_path_factory.mktemp("fault-phases"))


def speak_into(folder):
    wav = folder / "question.wav"
    render([(QUESTION, 0.8)], wav)
    path = folder / "question.pcm"
    path.write_bytes(wav.read_bytes()[44:])
    return path


@pytest.mark.parametrize("cell", SHARE, ids=str)
async def test_a_fault_in_a_phase_is_told_once_and_survived(cell, tmp_path, pcm):
    """Or it ends the session with the reason; nobody waits for ever."""
    played = await play(cell, tmp_path, pcm)
    assert not judge(cell, played), str(played)


async def run(chosen, at_once):
    """Play cells, some at once; yield each with what became of it."""
    gate, results = asyncio.Semaphore(at_once), {}
    with tempfile.TemporaryDirectory() as name:
        pcm = await asyncio.to_thread(speak_into, Path(name))

        async def one(number, cell):
            folder = Path(name) / str(number)
            folder.mkdir()
            async with gate:
                try:
                    results[cell] = await play(cell, folder, pcm)
                except Exception as error:
                    results[cell] = Played([], (), error)

        async with asyncio.TaskGroup() as tasks:
            for number, cell in enumerate(chosen):
                tasks.create_task(one(number, cell))
    return results


def print_table(results):
    """Print what who waited got in each cell, and whether all is as it should be."""
    wrong = {cell: judge(cell, played) for cell, played in results.items()}
    by_place = {(cell.fault, cell.phase): cell for cell in results}
    phases = [phase for phase in PHASES if any(cell.phase is phase for cell in results)]
    width = max(map(len, FAULTS))
    print(" " * width, *(f"{phase.name:>12}" for phase in phases))
    for fault in FAULTS:
        row = [by_place.get((fault, phase)) for phase in phases]
        if any(row):
            shown = (tell(cell, results, wrong) if cell else "-" for cell in row)
            print(f"{fault:{width}}", *(f"{text:>12}" for text in shown))
    for cell, problems in wrong.items():
        if problems:
            print(f"\n{cell.fault}, {cell.phase.name}: {'; '.join(problems)}")
    return sum(map(bool, wrong.values()))


def tell(cell, results, wrong):
    """What to show of a cell: the outcome, or that it ended with the reason."""
    played = results[cell]
    if wrong[cell]:
        return "WRONG"
    if cell.ends_with:
        return "ended"
    waited = played.waited
    return str(waited.status) if isinstance(waited, events.Outcome) else "alive"


def main():
    """Play all cells and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--at-once", type=int, default=4, help="sessions at a time")
    parser.add_argument("-k", default="", help="only cells whose name has this")
    options = parser.parse_args()
    chosen = [cell for cell in CELLS if options.k in str(cell)]
    began = time.monotonic()
    results = asyncio.run(run(chosen, options.at_once))
    wrong, seconds = print_table(results), time.monotonic() - began
    ended = sum(bool(cell.ends_with) for cell in results)
    print(
        f"\n{len(results)} cells in {seconds:.0f} s: {len(results) - wrong} as they "
        f"should be; {len(results) - ended} sessions lived on, {ended} ended with the "
        f"reason, {wrong} wrong"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
