"""
Plant one error at a time in the supervision of one process, while two neighbours run.

A first run lists the places: each call of a function of the package on behalf of the victim,
and each await at which its supervision waits. Each further run raises an error at one place:
a `PlantedError`, or a `CancelledError` that cancels nothing. The neighbours must not notice,
nothing may be left, and the error must be told: once in the log, or to the caller.

``python tests/supervision/planted_faults.py`` plants at all places and prints a table.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dis
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import realtalk_async
from realtalk_async import Logger, Probe, ProcessManager, RestartPolicy
from realtalk_async.events import InternalError
from realtalk_async.exceptions import RealtalkError
from realtalk_async.supervision.kernel import process_groups
from realtalk_async.testing import programs

PACKAGE = str(Path(realtalk_async.__file__).parent)
FOLDERS = (f"{PACKAGE}/supervision/", f"{PACKAGE}/concurrency/", f"{PACKAGE}/event_bus")
RESUME = dis.opmap["RESUME"]
VICTIM = "victim"
DEPTH = 25
"""Callers of a function that are searched for the victim."""

TIMEOUT = 5.0
"""Seconds after which a run counts as hanging."""

POLICY = RestartPolicy("permanent", first_delay=0.0, max_failures=4, decay=1000.0)


class PlantedError(Exception):
    """The error that is planted."""


class Place(NamedTuple):
    """Where an error is planted."""

    kind: str
    """``call`` or ``await``."""
    function: str
    caller: str
    """The function and line of a call; the line of an await."""

    def __str__(self) -> str:
        return f"{self.kind} {self.function} from {self.caller}"


def function_of(frame) -> str:
    code = frame.f_code
    return f"{Path(code.co_filename).stem}.{code.co_qualname}"


def is_resumed(frame) -> bool:
    """Return whether a coroutine continues after an await, instead of beginning."""
    code, index = frame.f_code.co_code, frame.f_lasti
    return index >= 0 and code[index] == RESUME and code[index + 1] & 3 == 3


class Tracer:
    """Lists the places of the victim, or raises *error* at one place."""

    def __init__(self, manager, place=None, error=PlantedError) -> None:
        self._manager = manager
        self._place = place
        self._error = error
        self.calls: dict[Place, bool] = {}
        """The places of calls; whether the function is a coroutine function."""
        self.awaits: dict[Place, None] = {}
        self._inner: set[Place] = set()
        """Awaits of a coroutine of the package: the error is planted within it."""
        self.is_planted = False

    def __call__(self, frame, event, _argument):
        code = frame.f_code
        if event != "call" or not code.co_filename.startswith(FOLDERS):
            return
        if code.co_name in {"__repr__", "__str__", "<genexpr>", "<listcomp>"}:
            return
        if code.co_flags & 0x80 and not is_resumed(frame) and not _is_called(frame):
            return  # the first step of a task: no code of the package has run yet
        if not self._is_of_victim(frame):
            return
        place = self._place_of(frame)
        if place.kind == "await":
            self._inner |= {self._place_of(one) for one in _awaiting(frame)}
            self.awaits[place] = None
        else:
            self.calls[place] = bool(code.co_flags & 0x80)
        if place == self._place:
            self._place, self.is_planted = None, True
            sys.settrace(None)
            raise self._error(str(place))

    def _place_of(self, frame) -> Place:
        if is_resumed(frame):
            return Place("await", function_of(frame), f"line {frame.f_lineno}")
        back = frame.f_back
        caller = f"{function_of(back)}:{back.f_lineno}" if back else "the loop"
        return Place("call", function_of(frame), caller)

    def _is_of_victim(self, frame) -> bool:
        owned = self._objects_of_victim()
        for _ in range(DEPTH):
            if frame is None:
                return False
            names = frame.f_code.co_varnames
            if names and frame.f_code.co_filename.startswith(PACKAGE):
                values = frame.f_locals
                if values.get("name") == VICTIM:
                    return True
                one = values.get("self")
                if one is not None and id(one) in owned:
                    return True
            frame = frame.f_back
        return False

    def _objects_of_victim(self) -> set[int]:
        process = self._manager.processes.get(VICTIM)
        if process is None:
            return set()
        lifecycle = process._lifecycle
        found = [process, lifecycle, lifecycle._capture, *lifecycle.records]
        found += lifecycle._capture.buffers.values()
        found += lifecycle.probes.runners if lifecycle.probes else ()
        for record in lifecycle.records:
            running = getattr(record.running, "_running", None)
            if running is not None:
                found += [record.running, running.child, *running.readers.values()]
        return set(map(id, found))

    def places(self) -> list[tuple[Place, type[BaseException]]]:
        """Return each place with each error to plant there."""
        found = [(one, PlantedError) for one in self.calls]
        found += [
            (one, asyncio.CancelledError) for one, wait in self.calls.items() if wait
        ]
        leaves = [one for one in self.awaits if one not in self._inner]
        for one in leaves:
            found += [(one, PlantedError), (one, asyncio.CancelledError)]
        return found


def _is_called(frame) -> bool:
    return frame.f_back is not None and frame.f_back.f_code.co_name != "_run"


def _awaiting(frame):
    """Return the coroutines of the package that await the one of *frame*."""
    frame = frame.f_back
    while frame is not None and is_resumed(frame):
        yield frame
        frame = frame.f_back


async def live(manager) -> None:
    """The life of the victim: start, output, death, restart, stop."""
    command = programs.shell("echo begin; read line; echo $line; echo late >&2; exit 3")
    command = type(command)(*command.argv, stdin=True)
    victim = await manager.start(
        VICTIM,
        command,
        restart=POLICY,
        probes=[Probe.line("begin"), Probe.silence(60.0)],
    )
    await victim.wait_for_line("begin")
    await victim.send(b"word\n")
    await victim._lifecycle.until(lambda: victim.restarts > 0 or victim.is_settled)
    await victim.stop()


class Outcome(NamedTuple):
    """What a planted error did."""

    place: Place
    error: str
    planted: bool
    problems: tuple[str, ...]


class Laboratory:
    """A manager with two neighbours, in which one victim after the other lives."""

    def __init__(self, manager) -> None:
        self._manager = manager
        self._told: list[object] = []
        self._neighbours: dict[str, int] = {}
        self._before = (0, 0)

    async def begin(self) -> None:
        """Start the neighbours; let one victim live, so that all is loaded and warm."""
        asyncio.get_running_loop().set_exception_handler(
            lambda _loop, context: self._told.append(context)
        )
        for name in ("left", "right"):
            started = await self._manager.start(name, programs.runs())
            self._neighbours[name] = started.pid
        self._manager.subscribe(
            lambda event: self._told.append(event)
            if isinstance(event, InternalError)
            else None
        )
        await live(self._manager)
        await settle()
        self._before = inventory()

    async def places(self) -> list[tuple[Place, type[BaseException]]]:
        """Return the places, from one life without an error."""
        tracer = Tracer(self._manager)
        sys.settrace(tracer)
        try:
            await live(self._manager)
        finally:
            sys.settrace(None)
        return tracer.places()

    async def plant(self, place: Place, error: type[BaseException]) -> Outcome:
        """Let a victim live with one error planted; return what was wrong after it."""
        self._told.clear()
        tracer, problems, raised = Tracer(self._manager, place, error), [], None
        sys.settrace(tracer)
        try:
            async with asyncio.timeout(TIMEOUT):
                await live(self._manager)
        except TimeoutError:
            problems.append("it hangs")
        except (PlantedError, RealtalkError, asyncio.CancelledError) as exc:
            raised = exc
        finally:
            sys.settrace(None)
        if tracer.is_planted:
            problems += self._check_told(raised)
        problems += await self._check_rest()
        return Outcome(place, error.__name__, tracer.is_planted, tuple(problems))

    def _check_told(self, raised: BaseException | None) -> list[str]:
        count = len(self._told) + (raised is not None and not self._told)
        return [] if count == 1 else [f"told {count} times"]

    async def _check_rest(self) -> list[str]:
        problems = []
        manager = self._manager
        if (victim := manager.processes.get(VICTIM)) is not None:
            pids = [one.pid for one in victim.get_history().incarnations if one.pid]
            try:
                async with asyncio.timeout(TIMEOUT):
                    await victim.stop()
            except TimeoutError:
                problems.append("it cannot be stopped")
            await settle()
            if any(map(process_groups.living_members, pids)):
                problems.append("a process of its group is left")
        await settle()
        for name, pid in self._neighbours.items():
            status = manager.processes[name].get_status()
            if (status.pid, status.state) != (pid, "running"):
                problems.append(f"neighbour {name} was lost: {status}")
        if manager.closing:
            problems.append("the manager closes")
        elif (after := await settled_inventory(self._before)) != self._before:
            problems.append(f"descriptors, tasks {self._before} became {after}")
        return problems


def inventory() -> tuple[int, int]:
    """Return the numbers of open descriptors and of tasks."""
    return len(os.listdir("/proc/self/fd")), len(asyncio.all_tasks())


async def settled_inventory(expected: tuple[int, int]) -> tuple[int, int]:
    """Return the numbers once they are as expected, or after a second."""
    deadline = time.monotonic() + 1
    while (found := inventory()) != expected and time.monotonic() < deadline:
        await asyncio.sleep(0.01)
    return found


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def plant_all(log: Path, *, share: int = 1, first: int = 0) -> list[Outcome]:
    """Plant at each place, or at every *share*-th from the *first* on."""
    outcomes = []
    async with Logger(log) as logger, ProcessManager(logger) as manager:
        laboratory = Laboratory(manager)
        await laboratory.begin()
        places = await laboratory.places()
        for place, error in places[first::share]:
            outcome = await laboratory.plant(place, error)
            outcomes.append(outcome)
            if outcome.problems:
                print(f"{error.__name__} at {place}: {'; '.join(outcome.problems)}", flush=True)
            if any("lost" in problem or "close" in problem for problem in outcome.problems):
                break  # what follows would blame the wrong place
    return outcomes


def main() -> int:
    """Plant at all places; return 1 if anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=2)[1])
    parser.add_argument("--share", type=int, default=1, help="every n-th place only")
    parser.add_argument("--first", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(BrokenPipeError):
        log = Path(folder, "faults.log")
        outcomes = asyncio.run(plant_all(log, share=options.share, first=options.first))
    planted = [one for one in outcomes if one.planted]
    kinds = Counter((one.place.kind, one.error) for one in planted)
    for (kind, error), count in sorted(kinds.items()):
        print(f"{count:4}  {error} at each {kind}")
    lost = sum("neighbour" in text for one in planted for text in one.problems)
    wrong = sum(bool(one.problems) for one in outcomes)
    print(f"{len(planted)} errors planted, {lost} neighbours lost, {wrong} with a problem")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
