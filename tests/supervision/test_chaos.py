"""
Random signals and requests on random children. CHAOS_SEED and CHAOS_SECONDS set the
seed and the duration: 2 s for each strategy by default, 200 s in ``nox -s chaos``.
"""

import asyncio
import contextlib
import os
import random
import signal

import pytest

from realtalk_async import events
from realtalk_async.exceptions import ProcessDead, ProcessStillRunning
from realtalk_async.supervision import Ladder, ProcessManager, RestartPolicy
from realtalk_async.supervision.kernel import process_groups
from realtalk_async.testing import programs

SECONDS = float(os.environ.get("CHAOS_SECONDS", "2"))
SEED = int(os.environ.get("CHAOS_SEED", "1"))

pytestmark = pytest.mark.timeout(
    2 * SECONDS + 360
)  # half of it for the checks at the end

SIGNALS = [
    signal.SIGTERM,
    signal.SIGKILL,
    signal.SIGSTOP,
    signal.SIGCONT,
    signal.SIGSEGV,
    signal.SIGHUP,
    signal.SIGINT,
]
COUNTS = "n=0; while :; do echo $n; n=$((n+1)); done"
WITH_FAMILY = f"(trap '' TERM HUP INT; sleep 1000) & {COUNTS}"
SLOW = f"trap 'sleep 0.05; exit 3' TERM; {COUNTS}"
BRIEF = "for n in 0 1 2 3 4 5 6 7 8 9; do echo $n; done; exit $(($$ % 3))"
KINDS = [COUNTS, WITH_FAMILY, SLOW, BRIEF, f"{COUNTS} & wait"]

POLICY = RestartPolicy("permanent", first_delay=0.0, max_delay=0.02, max_failures=1e9)
LADDER = Ladder((signal.SIGTERM, 0.2), (signal.SIGKILL, 10.0))
SIZE = 200_000
"""Bytes kept of each stream: this test is not about the spill to disk."""


class EventChecker:
    """Receives every event and checks the invariants at each."""

    def __init__(self):
        self.pids = {}
        self.incarnations = {}
        self.violations = []
        self.deaths = 0

    def on_event(self, event):
        name = event.process
        if isinstance(event, events.ProcessStarted):
            before = self.pids.get(name)
            if before and (left := process_groups.living_members(before)):
                self.violations.append(f"{name}: {left} lived at the next start")
            if event.incarnation <= self.incarnations.get(name, 0):
                self.violations.append(f"{name}: incarnation {event.incarnation} again")
            self.pids[name] = event.pid
            self.incarnations[name] = event.incarnation
        elif isinstance(event, events.ProcessExited):
            self.deaths += 1
            if event.pid != self.pids[name]:
                self.violations.append(
                    f"{name}: {event.pid} died, not {self.pids[name]}"
                )
        elif isinstance(event, events.Unkillable):
            self.violations.append(str(event))


async def send_signals(dice, manager):
    """Send random signals to random children, to the group or to the program only."""
    one = dice.choice(list(manager.processes.values()))
    if one.status != "running" or one.pid is None:
        return
    send = os.killpg if dice.random() < 0.3 else os.kill
    with contextlib.suppress(ProcessLookupError):  # it has just exited
        send(one.pid, dice.choice(SIGNALS))


async def send_requests(dice, manager):
    """Request the stop or the restart of random children."""
    name = dice.choice(list(manager.processes))
    one = manager.processes[name]
    assert str(manager.explain(name)), "explain works at any time"
    match dice.randrange(5):
        case 0:
            await manager.stop(name)
        case 4:
            await one.kill()
        case 1:
            await one.restart()
        case 2:
            kind = programs.shell(dice.choice(KINDS))
            with contextlib.suppress(ProcessStillRunning):
                await manager.start(
                    name, kind, restart=POLICY, ladder=LADDER, max_size=SIZE
                )
        case _:
            with contextlib.suppress(ProcessDead, TimeoutError):
                await one.wait_for_line("5", timeout=0.5)


async def repeat(action, dice, manager, until):
    loop = asyncio.get_running_loop()
    while loop.time() < until:
        await action(dice, manager)
        await asyncio.sleep(dice.random() * 0.02)


async def makes_progress(one):
    """Wait until it is settled, runs, or starts its next incarnation."""
    number = one.incarnation
    await one._lifecycle.until(
        lambda: one.is_settled or one.state == "running" or one.incarnation != number
    )


def check_lines(history):
    """Check that the lines of each incarnation count from 0 on; return their number."""
    count = 0
    for record in history.incarnations:
        lines = [line for line in record.stdout if not line.gap and not line.partial]
        numbers = [int(line.text) for line in lines]
        assert numbers == list(range(len(numbers))), record
        count += len(numbers)
    return count


@pytest.mark.parametrize("strategy", ["one_for_one", "rest_for_one", "one_for_all"])
async def test_random_faults_leave_no_orphan_and_lose_no_line(logger, strategy):
    """Incarnation numbers rise, and each name has at most one living child."""
    dice = random.Random(SEED)
    checker = EventChecker()
    async with ProcessManager(
        logger, check_interval=0.05, strategy=strategy
    ) as manager:
        manager.subscribe(checker.on_event)
        for number in range(8):
            command = programs.shell(KINDS[number % len(KINDS)])
            await manager.start(
                f"{number}", command, restart=POLICY, ladder=LADDER, max_size=SIZE
            )
        until = asyncio.get_running_loop().time() + SECONDS
        async with asyncio.TaskGroup() as group:
            for action in (
                send_signals,
                send_signals,
                send_requests,
                send_requests,
                send_requests,
            ):
                generator = random.Random(dice.random())
                group.create_task(repeat(action, generator, manager, until))
        try:
            async with asyncio.timeout(240):
                for one in manager.processes.values():
                    await makes_progress(one)
        except TimeoutError:
            pytest.fail(f"stuck: {[str(s) for s in manager.get_statuses().values()]}")
        tag = manager._guard.tag
    assert checker.violations == []
    assert checker.deaths > SECONDS
    assert process_groups.find_tagged(tag) == []
    assert not (left := await manager.leak_report()), left
    lines = 0
    for name, history in manager.get_error_history().items():
        assert all(record.exit_status is not None for record in history.incarnations), (
            name
        )
        lines += check_lines(history)
        assert manager.processes[name].is_settled
    records = sum(checker.incarnations.values())
    print(
        f"{strategy}: {records} incarnations, {checker.deaths} deaths, {lines} lines in order"
    )
