"""No orphans: a real app is killed with SIGKILL, and none of its processes survives."""

import asyncio
import os
import re
import signal
import sys
import textwrap
import time
from functools import partial
from pathlib import Path

import pytest

from realtalk_async import events
from realtalk_async.supervision import Command, ProcessManager
from realtalk_async.supervision.kernel import guard_process, process_groups
from realtalk_async.supervision.kernel.guard import MOST_REPLACED, Guard
from realtalk_async.testing import programs

APP = textwrap.dedent(
    """
    import asyncio, sys
    from realtalk_async.logs import Logger
    from realtalk_async.supervision import Command, ProcessManager
    from realtalk_async.testing import programs

    async def main():
        async with ProcessManager(Logger(sys.argv[1])) as manager:
            print("tag", manager._guard.tag, flush=True)
    """
)
BODIES = {
    "a child": "await manager.start('one', programs.runs())",
    "a grandchild": "await manager.start('one', programs.forks(2))",
    "a child that ignores SIGTERM": """
        one = await manager.start('one', programs.ignores_sigterm())
        await one.wait_for_line('ready')
    """,
    "a stopped child": """
        one = await manager.start('one', programs.runs())
        one.process.send_signal(19)
    """,
    "a daemon in a session of its own": """
        one = await manager.start('one', programs.daemonizes())
        await one.wait_for_line('[0-9]+')
    """,
    "a child with an empty environment": """
        await manager.create_subprocess_exec('sleep', '1000', env={})
    """,
    "a child that wiped its environment": """
        one = await manager.start('one', programs.shell('exec env -i sleep 1000'))
        while b'REALTALK' in open(f'/proc/{one.pid}/environ', 'rb').read():
            await asyncio.sleep(0.01)
    """,
    "many children": """
        for n in range(20):
            await manager.start(f'one {n}', programs.runs())
    """,
}


def app(body, log_path):
    """Return the command of an app that prints the pids of its children and waits."""
    body = textwrap.indent(textwrap.dedent(body).strip(), " " * 8)
    ending = textwrap.indent(
        textwrap.dedent(
            """
            print("pids", *(p.pid for p in manager.processes.values()), flush=True)
            await asyncio.sleep(1000)
            """
        ),
        " " * 8,
    )
    return (sys.executable, "-c", f"{APP}{body}{ending}\nasyncio.run(main())", log_path)


async def killed(command, until):
    """Run an app until it has printed its line, kill it, and return the line."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command), stdout=asyncio.subprocess.PIPE
    )
    said = ""
    try:
        async with asyncio.timeout(120):
            while until not in said:
                line = await process.stdout.readline()
                assert line, said
                said += line.decode()
    finally:
        process.kill()
        await process.communicate()
    return said


def tag_in(said):
    return re.search("tag (.*)", said)[1]


def pids_in(said):
    return [int(pid) for pid in re.search("pids (.*)", said)[1].split()]


def still_there(tag, pids):
    members = [process_groups.read_process(pid) for pid in pids]
    return process_groups.find_tagged(tag) + [
        one for one in members if one and one.alive
    ]


async def gone(tag, pids=()):
    """Wait until no process is left."""
    deadline = time.monotonic() + 120
    while left := still_there(tag, pids):
        assert time.monotonic() < deadline, left
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
async def test_no_child_survives_sigkill_of_the_app(body, log_path):
    """Scenario 6: within a second, or several if the machine is busy."""
    said = await killed(app(body, log_path), "pids")
    assert pids_in(said)
    await gone(tag_in(said), pids_in(said))


@pytest.mark.parametrize("milliseconds", range(0, 20, 4))
async def test_no_child_survives_sigkill_of_the_app_during_a_spawn(
    milliseconds, log_path
):
    """Scenario 6: the guard knows the tag before the first child exists."""
    body = """
        for n in range(1000):
            print('spawning', flush=True)
            await manager.start(f'one {n}', programs.runs())
    """
    command = app(body, log_path)
    process = await asyncio.create_subprocess_exec(
        *map(str, command), stdout=asyncio.subprocess.PIPE
    )
    try:
        tag = tag_in((await process.stdout.readline()).decode())
        await process.stdout.readline()
        time.sleep(milliseconds / 1000)
    finally:
        process.kill()
        await process.communicate()
    await gone(tag)
    await asyncio.sleep(0.05)
    assert process_groups.find_tagged(tag) == [], "no process is spawned afterwards"


async def test_the_guard_ends_with_the_manager(logger):
    async with ProcessManager(logger) as manager:
        guard = manager._guard.pid
        assert process_groups.read_process(guard).alive
    assert process_groups.read_process(guard) is None
    async with ProcessManager(logger, guard=False) as manager:
        await manager.start("one", programs.exits(0))
        assert manager.environment == {}


async def test_a_killed_guard_is_logged_and_replaced(manager, log_path):
    """The new guard also ends the children that are older than itself."""
    received = []
    manager.subscribe(received.append)
    wiped = await manager.start("one", programs.shell("exec env -i sleep 1000"))
    before = manager._guard.pid
    os.kill(before, signal.SIGKILL)
    while not (lost := [one for one in received if isinstance(one, events.GuardLost)]):
        await asyncio.sleep(0.01)
    assert f"pid {before} ended with status -9; replaced by pid" in lost[0].reason
    assert manager._guard.pid != before
    assert wiped.pid in manager._guard._reported
    [entry] = await manager.logger.get_logs(level="WARNING", component="manager")
    assert entry.message == "The guard process died and was replaced"


async def test_no_child_survives_sigkill_of_the_guard_and_then_of_the_app(log_path):
    body = """
        one = await manager.start('one', programs.ignores_sigterm())
        await one.wait_for_line('ready')
        before = manager._guard.pid
        manager._guard._child.send_signal(9)
        while manager._guard.pid == before:
            await asyncio.sleep(0.01)
    """
    said = await killed(app(body, log_path), "pids")
    await gone(tag_in(said), pids_in(said))


async def test_a_guard_that_always_dies_is_given_up():
    """Children can still be started, without a guard."""
    lost = []
    guard = Guard(lost.append)
    guard.start()
    while len(lost) <= MOST_REPLACED:
        known = len(lost)
        guard._child.send_signal(signal.SIGKILL)
        while len(lost) == known:
            await asyncio.sleep(0.005)
    assert lost[-1].endswith("children are unguarded now")
    guard.add(os.getpid())
    guard.discard(os.getpid())
    await guard.aclose()
    guard.kill_now()


async def test_a_guard_that_cannot_be_started_is_an_error_of_entering_the_manager(
    monkeypatch, logger
):
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(FileNotFoundError):
        async with ProcessManager(logger):
            pass


async def test_a_guard_reads_all_reports_of_an_app_that_died_before_it_was_ready(
    log_path,
):
    """The reports are still in the pipe."""
    body = """
        manager._guard._child.send_signal(19)
        one = await manager.start('one', programs.shell('exec env -i sleep 1000'))
        while b'REALTALK' in open(f'/proc/{one.pid}/environ', 'rb').read():
            await asyncio.sleep(0.01)
        print('guard', manager._guard.pid)
    """
    said = await killed(app(body, log_path), "pids")
    assert still_there(tag_in(said), pids_in(said))
    os.kill(int(re.search("guard (.*)", said)[1]), signal.SIGCONT)
    await gone(tag_in(said), pids_in(said))


async def test_the_guard_does_not_kill_a_process_that_reuses_a_reported_pid():
    other = await asyncio.create_subprocess_exec("sleep", "1000")
    try:
        start = guard_process.read_stat(other.pid)[19]
        find = partial(guard_process.find_children, b"TAG=of no process")
        assert find({other.pid: start}) == [other.pid]
        assert find({other.pid: "12345"}) == []
    finally:
        other.kill()
        await other.wait()


async def test_descendants_of_a_supervised_app_are_ended_with_it(manager, log_path):
    """The guard of that app has a tag of its own, so it lives long enough to do this."""
    body = """
        one = await manager.start('inner', programs.ignores_sigterm())
        await one.wait_for_line('ready')
    """
    outer = await manager.start("outer", Command(*app(body, log_path)))
    line = await outer.wait_for_line("pids", timeout=120)
    tag = tag_in((await outer.wait_for_line("tag")).text)
    await manager.stop("outer")
    await gone(tag, pids_in(line.text))


def test_the_guard_process_imports_only_the_standard_library():
    """So that it starts within milliseconds."""
    source = (Path(process_groups.__file__).parent / "guard_process.py").read_text()
    modules = set(re.findall(r"^(?:import|from) (\w+)", source, re.MULTILINE))
    assert modules <= set(sys.stdlib_module_names)
