"""
Plant one error at a time in the supervision of one child, while two neighbours run.

A first run lists the places: each call of a function of the package on behalf of the victim,
and each await at which its supervision waits. Each further run raises an error at one place:
a `PlantedError`, or a `CancelledError` that cancels nothing. The neighbours must not notice,
nothing may be left, and the error must be told: once in the log, or to the caller.

The suite plants at every twentieth place. As a program, this file plants at all of them and
prints a table: ``nox -s faults``.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dis
import inspect
import re
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest

import realtalk_async
from realtalk_async import Logger, Probe, ProcessManager, RestartPolicy
from realtalk_async.exceptions import RealtalkError
from realtalk_async.operating_system import SYSTEM
from realtalk_async.supervision.kernel import process_groups
from realtalk_async.testing import programs

PACKAGE = str(Path(realtalk_async.__file__).parent)
FOLDERS = (f"{PACKAGE}/supervision/", f"{PACKAGE}/concurrency/", f"{PACKAGE}/event_bus")
RESUME, SEND = dis.opmap["RESUME"], dis.opmap["SEND"]
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


def is_sending(frame) -> bool:
    """Return whether a coroutine has just resumed the one that it awaits."""
    code, index = frame.f_code.co_code, frame.f_lasti
    return index >= 0 and code[index] == SEND


class Tracer:
    """Lists the places of the victim, or raises *error* at one place."""

    def __init__(self, manager, place=None, error=PlantedError) -> None:
        self._manager = manager
        self._place = place
        self._error = error
        self.calls: dict[Place, bool] = {}
        """The places of calls; whether the function is a coroutine function."""
        self.awaits: dict[Place, None] = {}
        self.is_in_check: set[Place] = set()
        """Places within the check of a probe: an error there is a failed check."""
        self._inner: set[Place] = set()
        """Awaits of a coroutine of the package: the error is planted within it."""
        self.is_planted = False

    def __call__(self, frame, event, _argument):
        code = frame.f_code
        if event != "call" or not code.co_filename.startswith(FOLDERS):
            return
        if code.co_flags & inspect.CO_GENERATOR:
            return  # it may be called to be closed, and must not raise then
        if code.co_name in {"__repr__", "__str__", "<genexpr>", "<listcomp>"}:
            return
        if not is_resumed(frame) and _is_called_by_loop(frame):
            return  # a task or callback that begins: no code of the package has run yet
        if not self._is_of_victim(frame):
            return
        place = self._place_of(frame)
        if place.kind == "await":
            self._inner |= {self._place_of(one) for one in _awaiting(frame)}
            self.awaits[place] = None
            self.is_in_check |= {place} if _is_in_check(frame) else set()
        else:
            self.calls[place] = bool(code.co_flags & inspect.CO_COROUTINE)
            self.is_in_check |= {place} if _is_in_check(frame) else set()
        if place == self._place:
            self._place, self.is_planted = None, True
            sys.settrace(None)
            raise self._error(str(place))

    def _place_of(self, frame) -> Place:
        if is_resumed(frame) or is_sending(frame):
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
        child = find_victim(self._manager)
        if child is None:
            return set()
        lifecycle = child._lifecycle
        found = [child, lifecycle, lifecycle._capture, *lifecycle.records]
        found += lifecycle._capture.buffers.values()
        probes = getattr(lifecycle, "probes", None)
        found += probes.runners if probes else ()
        for record in lifecycle.records:
            running = getattr(record.running, "_running", None)
            if running is not None:
                found += [record.running, running.child, *running.readers.values()]
        return set(map(id, found))

    def places(self) -> list[tuple[Place, type[BaseException]]]:
        """Return each place with each error to plant there."""
        found: list[tuple[Place, type[BaseException]]]
        found = [(one, PlantedError) for one in self.calls]
        found += [
            (one, asyncio.CancelledError) for one, wait in self.calls.items() if wait
        ]
        leaves = [one for one in self.awaits if one not in self._inner]
        for one in leaves:
            found += [(one, PlantedError), (one, asyncio.CancelledError)]
        return found


def _is_in_check(frame) -> bool:
    while frame is not None:
        if frame.f_code.co_name == "_run_check":
            return True
        frame = frame.f_back
    return False


def _is_called_by_loop(frame) -> bool:
    back = frame.f_back
    return back is None or back.f_code.co_filename == asyncio.events.__file__


def _awaiting(frame):
    """Return the coroutines of the package that await the one of *frame*."""
    frame = frame.f_back
    while frame is not None and (is_resumed(frame) or is_sending(frame)):
        yield frame
        frame = frame.f_back


def find_victim(manager):
    return manager.processes.get(VICTIM) or manager.tasks.get(VICTIM)


async def run_task(manager) -> None:
    """Start, fail, restart and stop the victim: a task."""
    begun = asyncio.Event()

    async def fail() -> None:
        begun.set()
        await asyncio.sleep(0.001)
        raise ValueError("the victim failed")

    victim = await manager.start_task(VICTIM, fail, restart=POLICY)
    await victim._lifecycle.until(lambda: victim.restarts > 0 or victim.is_settled)
    await victim.stop()


async def run_process(manager) -> None:
    """Start, feed, restart and stop the victim: a process with output and probes."""
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

    def __init__(self, manager, run_victim) -> None:
        self._manager = manager
        self._run_victim = run_victim
        self._told: list[object] = []
        """Errors that the loop was told, because they came out of a callback."""
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
        for _ in range(2):
            await self._run_victim(self._manager)
            await settle()
        # The guard and the file of the log bring descriptors: both must be there.
        while self._manager._guard.pid is None:
            await asyncio.sleep(0.001)
        await self._manager.logger.info("test", "the victim may live")
        self._before = inventory()

    async def places(self) -> list[tuple[Place, type[BaseException]]]:
        """
        Return the places, from three lives without an error.

        One life does not show for each await whether it is within another.
        """
        tracer = Tracer(self._manager)
        for _ in range(3):
            sys.settrace(tracer)
            try:
                await self._run_victim(self._manager)
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
                await self._run_victim(self._manager)
        except TimeoutError:
            problems.append("it hangs")
        except (PlantedError, RealtalkError, asyncio.CancelledError) as exc:
            raised = exc
        finally:
            sys.settrace(None)
        if tracer.is_planted and place not in tracer.is_in_check:
            problems += await self._check_told(place, error, raised)
        problems += await self._check_rest()
        return Outcome(place, error.__name__, tracer.is_planted, tuple(problems))

    async def _check_told(
        self, place: Place, error: type[BaseException], raised: BaseException | None
    ) -> list[str]:
        """Return a problem unless one ERROR entry, or the caller, was told."""
        pattern = re.escape(f"{error.__name__}('{place}")
        entries = await self._manager.logger.get_logs(level="ERROR", pattern=pattern)
        count = len(entries) + len(self._told)
        if not count and raised is not None:
            return []
        return [] if count == 1 else [f"told {count} times"]

    async def _check_rest(self) -> list[str]:
        problems = []
        manager = self._manager
        if (victim := find_victim(manager)) is not None:
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
            self._before = after
        return problems


def inventory() -> tuple[int, int]:
    """Return the numbers of open descriptors and of tasks."""
    return len(SYSTEM.descriptors()), len(asyncio.all_tasks())


async def settled_inventory(expected: tuple[int, int]) -> tuple[int, int]:
    """Return the numbers once they are as expected, or after a second."""
    deadline = time.monotonic() + 1
    while (found := inventory()) != expected and time.monotonic() < deadline:
        await asyncio.sleep(0.01)
    return found


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def plant_all(
    log: Path, run_victim, *, share: int = 1, first: int = 0
) -> list[Outcome]:
    """Plant at each place, or at every *share*-th from the *first* on."""
    outcomes = []
    async with Logger(log) as logger, ProcessManager(logger) as manager:
        laboratory = Laboratory(manager, run_victim)
        await laboratory.begin()
        places = await laboratory.places()
        for place, error in places[first::share]:
            outcome = await laboratory.plant(place, error)
            outcomes.append(outcome)
            if outcome.problems:
                print(
                    f"{error.__name__} at {place}: {'; '.join(outcome.problems)}",
                    flush=True,
                )
            if any(
                "lost" in problem or "close" in problem for problem in outcome.problems
            ):
                break  # what follows would blame the wrong place
    return outcomes


def main() -> int:
    """Plant at all places; return 1 if anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=2)[1])
    parser.add_argument("--share", type=int, default=1, help="every n-th place only")
    parser.add_argument("--first", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(BrokenPipeError):
        outcomes = [
            outcome
            for run_victim in (run_process, run_task)
            for outcome in asyncio.run(
                plant_all(
                    Path(folder, f"{run_victim.__name__}.log"),
                    run_victim,
                    share=options.share,
                    first=options.first,
                )
            )
        ]
    planted = [one for one in outcomes if one.planted]
    kinds = Counter((one.place.kind, one.error) for one in planted)
    for (kind, error), count in sorted(kinds.items()):
        print(f"{count:4}  {error} at each {kind}")
    lost = sum("neighbour" in text for one in planted for text in one.problems)
    wrong = sum(bool(one.problems) for one in outcomes)
    print(
        f"{len(planted)} errors planted, {lost} neighbours lost, {wrong} with a problem"
    )
    return int(bool(wrong))


@pytest.mark.parametrize("run_victim", [run_process, run_task])
def test_an_error_in_the_supervision_of_one_child_reaches_no_other(
    tmp_path, run_victim
):
    outcomes = asyncio.run(plant_all(tmp_path / "app.log", run_victim, share=20))
    assert sum(one.planted for one in outcomes) >= 3
    assert [one for one in outcomes if one.problems] == []


if __name__ == "__main__":
    sys.exit(main())
