"""Exclusive devices of real processes: leases, and waiting for busy devices."""

import asyncio
import contextlib
import os
import signal
import time

import pytest

from realtalk_async import events
from realtalk_async.exceptions import DeviceBusy, InvalidConfiguration
from realtalk_async.supervision import TEMPORARY, Ladder, ProcessManager, RestartPolicy
from realtalk_async.supervision.kernel import process_groups
from realtalk_async.testing import programs

AT_ONCE = RestartPolicy(first_delay=0.0, max_failures=3)


BUSY = "echo 'arecord: main: audio open error: Device or resource busy' >&2; exit 1"


@pytest.fixture
def received(manager):
    found = []
    manager.subscribe(found.append)
    return found


async def test_the_next_holder_starts_when_the_whole_group_of_the_last_one_has_ended(
    manager, received
):
    """B9: also a member that ignores SIGTERM."""
    script = (
        "(trap '' TERM; echo ready; while :; do sleep 0.05; done) & exec sleep 1000"
    )
    ladder = Ladder((15, 0.2), (9, 5.0))
    old = await manager.start(
        "old", programs.shell(script), devices=["hw:0"], ladder=ladder
    )
    await old.wait_for_line("ready")
    new = asyncio.ensure_future(manager.start("new", programs.runs(), devices=["hw:0"]))
    left = []

    def look(event):
        if isinstance(event, events.ProcessStarted):
            left.extend(process_groups.living_members(old.pid))

    manager.subscribe(look)
    while not [one for one in received if isinstance(one, events.DeviceAwaited)]:
        await asyncio.sleep(0)
    [waiting] = [one for one in received if isinstance(one, events.DeviceAwaited)]
    assert waiting.holders == {"hw:0": f"'old' (running, pid {old.pid})"}
    assert manager.processes["new"].pid is None
    await old.stop()
    assert (await new).state == "running"
    assert left == []


async def test_a_restart_keeps_its_device(manager, received):
    """A crash must not change the holder of the microphone."""
    one = await manager.start("one", programs.runs(), devices=["mic"], restart=AT_ONCE)
    other = asyncio.ensure_future(
        manager.start("other", programs.runs(), devices=["mic"])
    )
    for restarts in (1, 2):
        one.send_signal(9)
        await one._lifecycle.until(lambda restarts=restarts: one.restarts == restarts)
    assert manager.processes["other"].pid is None
    await one.kill()
    await other
    started = [e.process for e in received if isinstance(e, events.ProcessStarted)]
    assert started == ["one", "one", "one", "other"]


async def test_the_wait_for_a_device_times_out_and_names_its_holder(manager):
    """A timeout counts as a failure; a stop ends the wait."""
    one = await manager.start("one", programs.runs(), devices=["mic"])
    began = time.monotonic()
    with pytest.raises(DeviceBusy) as caught:
        await manager.start(
            "late",
            programs.runs(),
            devices=["mic"],
            device_patience=0.1,
            restart=RestartPolicy(max_failures=0),
        )
    assert time.monotonic() - began >= 0.1
    assert str(caught.value) == (
        f"'late' waited 0.1 s for a device that another process holds "
        f"('mic': 'one' (running, pid {one.pid})); stop that process, or raise "
        f"device_patience"
    )
    assert manager.processes["late"].state == "fatal"
    task = asyncio.ensure_future(
        manager.start("waits", programs.runs(), devices=["mic"])
    )
    while "waits" not in manager.processes:
        await asyncio.sleep(0)
    status = await manager.stop("waits")
    assert (status.state, status.pid) == ("exited", None)
    await task
    await one.stop()
    other = await manager.start("other", programs.runs(), devices=["mic"])
    assert other.state == "running", "a stopped process holds and awaits nothing"


async def test_a_task_may_hold_a_device(manager):
    """B10: the rules are those of processes."""
    await manager.start_task("link", asyncio.Event().wait, devices=["port"])
    with pytest.raises(DeviceBusy, match="'port': 'link'"):
        await manager.start_task(
            "other", asyncio.Event().wait, devices=["port"], device_patience=0.01
        )
    await manager.stop("link")
    one = await manager.start("one", programs.runs(), devices=["port"])
    assert one.state == "running"


async def test_a_start_is_repeated_while_another_program_holds_the_device(
    manager, received, tmp_path
):
    """B9: these attempts are no failures, whatever the policy is."""
    script = f"[ -e {tmp_path}/free ] || {{ {BUSY}; }}; echo ready; exec sleep 1000"
    one = await manager.start(
        "mic",
        programs.shell(script),
        devices=["hw:0"],
        restart=RestartPolicy(max_failures=0),
    )
    await one._lifecycle.until(lambda: one.restarts == 1 and one.state == "backoff")
    (tmp_path / "free").touch()
    await one._lifecycle.until(lambda: one.restarts == 2)
    await one.wait_for_line("ready")
    scheduled = [e for e in received if isinstance(e, events.RestartScheduled)]
    assert all("not counted as a failure" in one.reason for one in scheduled)
    report = one.get_history().incarnations[0]
    assert (report.sign.kind, report.exit_status) == ("device busy", 1)
    assert one.get_status().state == "running"


async def test_a_device_that_stays_busy_becomes_a_failure(manager):
    one = await manager.start(
        "mic",
        programs.shell(BUSY),
        devices=["hw:0"],
        device_patience=0.2,
        restart=RestartPolicy(max_failures=0),
    )
    status = await one.wait_until_settled()
    assert status.state == "fatal"
    assert "device busy for longer than device_patience; failure score" in status.reason
    assert one.incarnation >= 2


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"restart": RestartPolicy(max_failures=0)}, "it has no device"),
        ({"restart": TEMPORARY, "devices": ["hw:0"]}, "it is never to be restarted"),
    ],
)
async def test_a_busy_device_is_a_failure_for_processes_without_devices_or_restarts(
    manager, options, why
):
    one = await manager.start("mic", programs.shell(BUSY), **options)
    await one.wait_until_settled()
    assert one.incarnation == 1, why


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"devices": "hw:0"}, "devices must be a list of names, not 'hw:0'"),
        ({"devices": ["x"], "device_patience": -1}, "device_patience must be"),
    ],
)
async def test_invalid_devices_are_refused(manager, options, said):
    """Nothing is registered."""
    with pytest.raises(InvalidConfiguration, match=said):
        await manager.start("mic", programs.runs(), **options)
    assert dict(manager.processes) == {}


async def test_devices_dependencies_and_strategies_together_cause_no_deadlock(logger):
    async with ProcessManager(logger, strategy="one_for_all") as manager:
        for name in ("a", "b", "c"):
            await manager.start(
                name,
                programs.runs(),
                devices=[name],
                depends_on=["a"] if name == "c" else (),
                restart=AT_ONCE,
            )
        manager.processes["b"].send_signal(9)
        async with asyncio.timeout(120):
            for one in manager.processes.values():
                while one.restarts != 1:
                    await one._lifecycle._changed.wait()
                await one.wait_until_running()


async def test_a_device_that_is_released_during_the_shutdown_starts_no_process(logger):
    """The waiting process was started earlier than the holder."""
    async with ProcessManager(logger) as manager:
        received = []
        manager.subscribe(received.append)
        early = await manager.start("early", programs.runs(), devices=["mic"])
        await early.stop()
        slow = await manager.start("slow to end", programs.cleans_up(0.2))
        await slow.wait_for_line("ready")
        await manager.start("holder", programs.runs(), devices=["mic"])
        again = asyncio.ensure_future(early.restart())
        while not [one for one in received if isinstance(one, events.DeviceAwaited)]:
            await asyncio.sleep(0)
    assert await again is False
    started = [e.process for e in received if isinstance(e, events.ProcessStarted)]
    assert started == ["early", "slow to end", "holder"]


LEAVES_A_ZOMBIE = """
import os, time
group = os.getpid()
if not os.fork():
    os.setpgid(0, 0)
    if not os.fork():
        os.setpgid(0, group)
        print("ready", flush=True)
time.sleep(1000)
"""
"""A member of its group has a parent outside that never reaps it."""


@pytest.mark.parametrize("survivor", ["the program", "a child of it", "a zombie of it"])
async def test_a_device_is_free_when_an_unkillable_holder_has_ended_at_last(
    manager, monkeypatch, survivor
):
    """Its signals have no effect, as in the state D; then it ends."""
    received = []
    manager.subscribe(received.append)
    ladder = Ladder(("TERM", 0.05), ("KILL", 0.05))
    is_zombie = survivor == "a zombie of it"
    program = programs.python(LEAVES_A_ZOMBIE) if is_zombie else programs.forks(1)
    one = await manager.start("one", program, devices=["hw:0"], ladder=ladder)
    await one.wait_for_line("ready")
    running = one._lifecycle.record.running
    members = [each.pid for each in process_groups.living_members(one.pid)]
    if survivor == "the program":
        monkeypatch.setattr(running, "signal", lambda number: None)
    else:
        monkeypatch.setattr(running, "signal", running.signal_alone)
    await one.stop()
    assert [e for e in received if isinstance(e, events.Unkillable)]
    two = asyncio.create_task(manager.start("two", programs.runs(), devices=["hw:0"]))
    while not (waits := [e for e in received if isinstance(e, events.DeviceAwaited)]):
        await asyncio.sleep(0)
    assert "which cannot be killed" in waits[0].holders["hw:0"]
    for pid in members:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(10):
        assert (await two).status == "running"
    assert "cannot be killed" not in str(manager.explain("one"))
    await two.result().stop()
    assert await one.restart(), "it can be used again"
    await one.stop()
    async with asyncio.timeout(10):
        await manager.start("three", programs.runs(), devices=["hw:0"])
