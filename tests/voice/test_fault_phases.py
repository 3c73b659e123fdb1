"""
Every fault of the offline peer in every phase of a turn: a table of the results.

Each cell is a session of its own, with the real peer on a real websocket and with real
programs as microphone and speaker. A cell checks:

- Exactly one event of the right type reports the fault, or none if it is harmless.
- A caller that waits for a response gets the right outcome.
- The session answers the next question, or it ended with the reason if the fault is
  fatal.

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
SHORT_TIMEOUT = 0.3
"""Seconds for a message that a fault withholds, instead of half a minute."""

BOUND = 120
"""Seconds for any step; only a test that fails waits for so long."""

# Silence in real time; at SIGUSR1 the question, faster than real time.
MICROPHONE = """
import os, signal, sys, time
pcm = open(sys.argv[1], "rb").read()
requests = []
signal.signal(signal.SIGUSR1, lambda *_: requests.append(1))
due = time.monotonic()
while True:
    while requests:
        requests.pop()
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
    """One cell while it runs."""

    peer: Peer
    stream: Stream
    seen: list[events.VoiceEvent] = field(default_factory=list)
    tool_called: asyncio.Event = field(default_factory=asyncio.Event)
    tool_may_answer: asyncio.Event = field(default_factory=asyncio.Event)

    def note(self, event):
        """Record an event; a new connection gets long timeouts again."""
        self.seen.append(event)
        if isinstance(event, events.ConnectionLost):
            shorten_timeouts(self.stream, BOUND)

    async def until(self, kind, count=1):
        """Wait for *count* events of a kind."""
        await until(lambda: self.count(kind) >= count)

    def count(self, kind):
        """Return the number of events of a kind."""
        return sum(isinstance(event, kind) for event in self.seen)

    def ask(self, text=QUESTION):
        """Ask a question as text."""
        _ = self.stream.send_text(text, trigger_response=True)

    async def speak(self):
        """Let the microphone speak the question."""
        await until(lambda: self.stream.is_ready())
        os.kill(self.stream.process_status()["recorder"].pid, signal.SIGUSR1)


async def until(condition):
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
    """A moment of a conversation in which a fault happens."""

    name: str
    event: str
    """The event of the peer at which the fault happens."""
    reach: object
    """Brings the conversation to this phase, with the fault armed."""
    kinds: frozenset[str]
    """The kinds of faults that are possible here."""
    sound: bool = True
    spoken: bool = False
    asks: bool = True
    """Whether a response has been requested by then."""
    pace: float = 0
    """Seconds of audio that the peer sends in a second; 0: as fast as possible."""

    @property
    def is_answering(self):
        """Whether a response is under way or requested."""
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
        *("text", "response.output_text.delta:2", while_answering, EVENTS | ENDS),
        sound=False,
    ),
    Phase(
        *("transcript", "response.output_audio_transcript.delta:2", while_answering),
        EVENTS | ENDS,
    ),
    Phase(
        *("audio", "response.output_audio.delta:2", while_answering),
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


# --- The expected results ---------------------------------------------------------


REPORTING_EVENTS = (
    events.ConnectionLost,
    events.ProtocolProblem,
    events.ServiceError,
    events.UnknownEvent,
    events.TranscriptionFailed,
)


@dataclass(frozen=True)
class Cell:
    """One fault in one phase."""

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
        """The fault as the peer parses it."""
        if self.kind == "refuse":
            return self.fault
        if self.kind in ENDS:
            return f"{self.fault}@response.done"
        return f"{self.fault}@{self.phase.event}"

    @property
    def reported(self):
        """The type of the event that reports the fault; None if the outcome does."""
        match self.kind:
            case "drop" | "close" | "stall":
                return events.ConnectionLost
            case "malformed" | "badbase64":
                return events.ProtocolProblem
            case "unknown":
                return events.UnknownEvent
            case "binary" if self.phase.event == "now":
                return events.UnknownEvent  # the frame contains one
            case "error":
                return events.ServiceError
        return None

    @property
    def breaks(self):
        """Whether the fault breaks the connection."""
        return (
            self.reported is events.ConnectionLost or self.argument == "session_expired"
        )

    @property
    def unconfirmed(self):
        """Whether the service does not confirm the configuration, which is an event."""
        kinds = ("stall", "malformed", "missing")
        return self.phase.event == "session.updated" and self.kind in kinds

    @property
    def hangs(self):
        """Whether an awaited message never arrives."""
        waited_for = ("response.done", "session.updated")
        lacks = self.kind in ("missing", "malformed") and self.phase.event in waited_for
        return self.kind == "stall" or lacks

    @property
    def is_fatal(self):
        """Whether the session cannot go on."""
        return self.argument in CLOSE_CODES and self.argument != "session_expired"

    @property
    def ends_with(self):
        """The exception that ends the session, and a part of its text; or None."""
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
        """The outcome or error of a waiting caller; None if it cannot wait yet."""
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


def all_cells():
    """Return every possible cell."""
    for fault, phase in itertools.product(FAULTS, PHASES):
        cell = Cell(fault, phase)
        if cell.kind in phase.kinds:
            yield cell


CELLS = tuple(all_cells())


def share():
    """Return a ninth of the cells of each fault, at least one: the default."""
    by_fault = itertools.groupby(CELLS, lambda cell: cell.fault)
    for number, (_, some) in enumerate(by_fault):
        group = list(some)
        yield from group[number % min(9, len(group)) :: 9]


SHARE = tuple(share())


# --- Running a cell ---------------------------------------------------------------


@dataclass
class CellResult:
    """The result of a cell."""

    seen: list[events.VoiceEvent]
    outcomes: tuple[events.Outcome, ...]
    error: BaseException | None = None
    alive: bool = False
    waited: object = None
    """The outcome that the waiting caller got, or an exception."""

    @property
    def reported(self):
        return [event for event in self.seen if reports_fault(event)]

    def __str__(self):
        said = [type(event).__name__ for event in self.reported]
        return f"{said} {self.waited} {self.error!r} alive={self.alive}"


def shorten_timeouts(stream, seconds):
    """Shorten the timeouts of *stream* for messages that a fault withholds."""
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
    """Run a cell, and return its result."""
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
        result = CellResult(scene.seen, ())
        try:
            async with asyncio.timeout(BOUND):
                await converse(cell, scene, result)
        except (StreamError, TimeoutError) as error:
            result.error = error
        result.outcomes = stream.summary().outcomes
    return result


async def converse(cell, scene, result):
    """Run the conversation of a cell."""
    stream, peer, phase = scene.stream, scene.peer, cell.phase
    if phase.reach is None:
        peer.fault(cell.text)
        if cell.hangs:
            stream._session.connection._timeout = SHORT_TIMEOUT
    async with stream:
        waiting = asyncio.create_task(stream.wait_for_response(BOUND))
        try:
            if phase.reach is not None:
                await phase.reach(scene, cell.text)
                await until(lambda: not peer._faults._armed)
            if cell.hangs:
                shorten_timeouts(stream, SHORT_TIMEOUT)
            if not (cell.unconfirmed and cell.kind == "stall"):
                await settle(cell, scene)
                if cell.unconfirmed:
                    shorten_timeouts(stream, BOUND)
            if not (cell.ends_with or phase.asks):
                scene.ask()
            if not cell.ends_with:
                scene.tool_may_answer.set()
            (result.waited,) = await asyncio.gather(waiting, return_exceptions=True)
            if not cell.ends_with:
                await settle(cell, scene)
                shorten_timeouts(stream, BOUND)
                result.alive = await answers(scene)
        finally:
            waiting.cancel()
            await asyncio.wait([waiting])


async def settle(cell, scene):
    """Wait until the fault was reported and the session has recovered."""
    stream = scene.stream
    if cell.ends_with:
        await until(lambda: stream.summary().ended_by)
        return
    if cell.reported is not None:
        await scene.until(cell.reported)
    if cell.breaks or cell.phase.reach is while_reconnecting:
        lost = 1 + (cell.phase.reach is while_reconnecting and cell.breaks)
        await scene.until(events.ConnectionLost, lost)
        await scene.until(events.ConnectionRestored)
    await until(lambda: stream.is_ready())


async def answers(scene):
    """Return whether the session answers the next question."""
    stream = scene.stream
    scene.ask()
    outcome = await stream.wait_for_response(BOUND)
    return (outcome.status, outcome.text) == (Status.COMPLETED, ANSWER)


def find_errors(cell, result):
    """Return the deviations of a cell from its expected result."""
    wrong = []
    if cell.ends_with:
        kind, said = cell.ends_with
        if not (isinstance(result.error, kind) and said in str(result.error)):
            wrong.append(f"ended with {result.error!r}")
    elif result.error or not result.alive:
        wrong.append(f"did not go on: {result.error!r}")
    allowed = {cell.reported, None}
    reported = collections.Counter(type(event) for event in result.reported)
    if cell.phase.reach is while_reconnecting:
        reported[events.ConnectionLost] -= 1  # the first loss
    if cell.unconfirmed:
        reported[events.ProtocolProblem] -= 1
    if (
        cell.reported
        and reported[cell.reported] != 1
        and not (cell.ends_with and not reported)
    ):
        wrong.append(
            f"reported {reported[cell.reported]} times by {cell.reported.__name__}"
        )
    others = {k: n for k, n in reported.items() if n > 0 and k not in allowed}
    if cell.argument == "session_expired":
        others.pop(events.ConnectionLost, None)  # the close that follows
    if others:
        wrong.append(f"also reported by {others}")
    begun = [
        e.response_id for e in result.seen if isinstance(e, events.ResponseStarted)
    ]
    ended = [o.response_id for o in result.outcomes if o.response_id]
    if sorted(begun) != sorted(ended):
        wrong.append(f"{begun} began, {ended} ended")
    waited, due = result.waited, cell.waited
    got = waited.status if isinstance(waited, events.Outcome) else type(waited)
    if due is not None and got != due:
        wrong.append(f"expected {due}, got {waited!r}")
    return wrong


def reports_fault(event):
    """Return whether an event reports a fault."""
    barred = "conversation_already_has_active_response"  # repeated, not reported
    return isinstance(event, REPORTING_EVENTS) and getattr(event, "code", "") != barred


# --- The table --------------------------------------------------------------------


@pytest.fixture(scope="session")
def pcm(tmp_path_factory):
    """Return the samples of the question."""
    return speak_into(tmp_path_factory.mktemp("fault-phases"))


def speak_into(folder):
    wav = folder / "question.wav"
    render([(QUESTION, 0.8)], wav)
    path = folder / "question.pcm"
    path.write_bytes(wav.read_bytes()[44:])
    return path


@pytest.mark.parametrize("cell", SHARE, ids=str)
async def test_a_fault_in_a_phase_is_reported_once_and_the_session_goes_on(
    cell, tmp_path, pcm
):
    """Or the session ends with the reason; no caller waits for ever."""
    result = await play(cell, tmp_path, pcm)
    assert not find_errors(cell, result), str(result)


async def run(chosen, at_once):
    """Run the cells, several at once; yield each with its result."""
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
                    results[cell] = CellResult([], (), error)

        async with asyncio.TaskGroup() as tasks:
            for number, cell in enumerate(chosen):
                tasks.create_task(one(number, cell))
    return results


def print_table(results):
    """Print the outcome that a waiting caller got in each cell, and all deviations."""
    wrong = {cell: find_errors(cell, result) for cell, result in results.items()}
    by_place = {(cell.fault, cell.phase): cell for cell in results}
    phases = [phase for phase in PHASES if any(cell.phase is phase for cell in results)]
    width = max(map(len, FAULTS))
    print(" " * width, *(f"{phase.name:>12}" for phase in phases))
    for fault in FAULTS:
        row = [by_place.get((fault, phase)) for phase in phases]
        if any(row):
            shown = (cell_text(cell, results, wrong) if cell else "-" for cell in row)
            print(f"{fault:{width}}", *(f"{text:>12}" for text in shown))
    for cell, problems in wrong.items():
        if problems:
            print(f"\n{cell.fault}, {cell.phase.name}: {'; '.join(problems)}")
    return sum(map(bool, wrong.values()))


def cell_text(cell, results, wrong):
    """Return the text of a cell in the table."""
    result = results[cell]
    if wrong[cell]:
        return "WRONG"
    if cell.ends_with:
        return "ended"
    waited = result.waited
    return str(waited.status) if isinstance(waited, events.Outcome) else "alive"


def main():
    """Run all cells and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--at-once", type=int, default=4, help="sessions at a time")
    parser.add_argument("-k", default="", help="only cells whose name contains this")
    options = parser.parse_args()
    chosen = [cell for cell in CELLS if options.k in str(cell)]
    began = time.monotonic()
    results = asyncio.run(run(chosen, options.at_once))
    wrong, seconds = print_table(results), time.monotonic() - began
    ended = sum(bool(cell.ends_with) for cell in results)
    print(
        f"\n{len(results)} cells in {seconds:.0f} s: {len(results) - wrong} as "
        f"expected; {len(results) - ended} sessions went on, {ended} ended with the "
        f"reason, {wrong} wrong"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
