"""No orphans: a real app is killed with SIGKILL, and none of its processes survives."""

import asyncio
import contextlib
import errno
import os
import re
import signal
import socket
import sys
import textwrap
import time
from functools import partial
from pathlib import Path

import pytest

from realtalk_async import events
from realtalk_async.operating_system import SYSTEM
from realtalk_async.supervision import Command, ProcessManager
from realtalk_async.supervision.kernel import guard as guard_module
from realtalk_async.supervision.kernel import guard_process, process_groups
from realtalk_async.supervision.kernel.guard import MAX_UNSENT, Guard
from realtalk_async.testing import programs

APP = textwrap.dedent(
    """
    import asyncio, os, sys
    from realtalk_async.logs import Logger
    from realtalk_async.supervision import Command, ProcessManager, exec_probe
    from realtalk_async.operating_system import SYSTEM
    from realtalk_async.supervision.kernel import process_groups
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
        while one.pid in [p.pid for p in SYSTEM.processes.tagged(manager._guard.tag)]:
            await asyncio.sleep(0.01)
    """,
    "an orphan without the tag in the group of a child in the app's session": """
        line = '(env -i sleep 1000 & echo $!); exec sleep 1000'
        group = Command.shell(line, options={'process_group': 0})
        one = await manager.start('one', group)
        pid = int((await one.wait_for_line('[0-9]+')).text)
        while SYSTEM.processes.read(pid).name != 'sleep':
            await asyncio.sleep(0.01)
        print('pids', one.pid, pid, flush=True)
        await asyncio.sleep(1000)
    """,
    "the program of a probe": """
        probe = exec_probe(programs.runs(), period=0.01, timeout=100)
        await manager.start('one', programs.runs(), probes=[probe])
        while len(process_groups.find_tagged(manager._guard.tag)) < 2:
            await asyncio.sleep(0.01)
    """,
    "the program of a probe that wiped its environment": """
        bare = programs.shell('exec env -i sleep 1000')
        probe = exec_probe(bare, period=0.01, timeout=100)
        await manager.start('one', programs.runs(), probes=[probe])
        while len(manager._guard._reported) < 2:
            await asyncio.sleep(0.01)
    """,
    "a process that a restart function starts": """
        async def restart():
            await Command('sleep', '1000')()
            await asyncio.sleep(1000)
        await manager.start('one', programs.exits(1), recover=restart)
        await manager.start('two', programs.runs())
        while len(process_groups.find_tagged(manager._guard.tag)) < 2:
            await asyncio.sleep(0.01)
    """,
    "a child of a stopped app": """
        one = await manager.start('one', programs.runs())
        print('pids', one.pid, flush=True)
        os.kill(os.getpid(), 19)
    """,
    "a grandchild that left its session and its environment and ignores SIGTERM": """
        one = await manager.start('one', programs.shell(
            'env -i setsid sh -c "trap \\"\\" TERM; exec sleep 1000" & echo $!; wait'
        ))
        pid = int((await one.wait_for_line('[0-9]+')).text)
        while SYSTEM.processes.read(pid).name != 'sleep':
            await asyncio.sleep(0.01)
        print('pids', one.pid, pid, flush=True)
        await asyncio.sleep(1000)
    """,
    "a process that a task starts": """
        async def work():
            await Command('sleep', '1000')()
            await asyncio.sleep(1000)
        await manager.start_task('task', work)
        await manager.start('two', programs.runs())
        while len(process_groups.find_tagged(manager._guard.tag)) < 2:
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
            print("pids", *(p.pid for p in manager.processes.values() if p.pid), flush=True)
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
    members = [SYSTEM.processes.read(pid) for pid in pids]
    return process_groups.find_tagged(tag) + [
        one for one in members if one and one.alive
    ]


async def gone(tag, pids=()):
    """Wait until no process is left."""
    deadline = time.monotonic() + 120
    while left := still_there(tag, pids):
        assert time.monotonic() < deadline, left
        await asyncio.sleep(0.01)


async def ended(pid):
    """Wait until a process that is no child of this one has ended."""
    async with asyncio.timeout(10):
        while (one := SYSTEM.processes.read(pid)) and one.alive:
            await asyncio.sleep(0.001)


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
        assert SYSTEM.processes.read(guard).alive
    await ended(guard)
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
    assert f"pid {before} ended; replaced by pid" in lost[0].reason
    assert lost[0].replaced
    assert manager._guard.pid != before
    assert wiped.pid in manager._guard._reported
    [entry] = await manager.logger.get_logs(level="WARNING", component="manager")
    assert entry.message == "The guard process died and was replaced"


async def test_no_child_survives_sigkill_of_the_guard_and_then_of_the_app(log_path):
    body = """
        one = await manager.start('one', programs.ignores_sigterm())
        await one.wait_for_line('ready')
        before = manager._guard.pid
        os.kill(before, 9)
        while manager._guard.pid in {None, before}:
            await asyncio.sleep(0.01)
    """
    said = await killed(app(body, log_path), "pids")
    await gone(tag_in(said), pids_in(said))


async def test_a_guard_is_replaced_for_as_long_as_it_is_killed(monkeypatch):
    """Its absence is reported once, and its return; children are reported meanwhile."""
    monkeypatch.setattr(guard_module, "RETRY_DELAYS", (0.0, 0.01))
    received = asyncio.Queue()
    guard = Guard(lambda *event: received.put_nowait(event))
    guard.start()
    reason = ""
    for number in range(12):
        os.kill(guard.pid, signal.SIGKILL)
        while True:
            reason, replaced = await received.get()
            if replaced:
                break
            assert number, "the first loss is repaired at once"
            guard.add(os.getpid())
            guard.discard(os.getpid())
    assert f"replaced by pid {guard.pid}" in reason
    assert received.empty()
    await guard.aclose()
    guard.kill_now()


@pytest.mark.parametrize("trouble", ["no program", "no spawn", "no descriptor"])
async def test_a_guard_that_cannot_be_replaced_is_an_error_until_it_can(
    trouble, manager, monkeypatch
):
    """And nothing of it disturbs the children."""
    monkeypatch.setattr(guard_module, "RETRY_DELAYS", (0.0, 0.01))
    child = await manager.start("one", programs.runs())
    received = asyncio.Queue()

    def note_loss(event):
        if isinstance(event, events.GuardLost):
            received.put_nowait(event)

    manager.subscribe(note_loss)
    with monkeypatch.context() as patch:
        if trouble == "no program":
            absent = sys.executable, "/no/such/file.py"
            patch.setattr(guard_module, "script_words", lambda module: absent)
        elif trouble == "no spawn":
            patch.setattr(guard_module, "spawn_process", refuse)
        else:
            patch.setattr(socket, "socketpair", refuse)
        os.kill(manager._guard.pid, signal.SIGKILL)
        lost = await received.get()
        assert not lost.replaced
        other = await manager.start("two", programs.runs())
        await manager.stop("two")
    found = await received.get()
    assert found.replaced
    assert f"replaced by pid {manager._guard.pid}" in found.reason
    assert (child.state, other.state, received.empty()) == ("running", "exited", True)
    [entry] = await manager.logger.get_logs(level="ERROR", component="manager")
    assert entry.message.startswith("There is no guard process")


def refuse(*_arguments, **_options):
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


async def test_a_guard_that_does_not_read_blocks_nothing_and_misses_no_report():
    """A stopped one: more reports than any buffer holds, then it is continued."""
    guard = Guard(print)
    guard.start()
    guard.add(os.getpid())
    stopped = guard.pid
    os.kill(stopped, signal.SIGSTOP)
    began = time.monotonic()
    for pid in range(10_000_000, 10_100_000):
        guard.add(pid)
        guard.discard(pid)
    assert len(guard._unsent) < 2 * MAX_UNSENT
    assert time.monotonic() - began < 5
    os.kill(guard.pid, signal.SIGCONT)
    async with asyncio.timeout(10):
        while guard._unsent or guard._is_behind:
            await asyncio.sleep(0.001)
    await guard.aclose()
    await ended(stopped)


async def test_the_guard_is_told_of_a_child_before_its_start_returns(manager):
    """An app that is killed right then has nothing unsent; the child may have no tag."""
    await asyncio.sleep(0)
    await manager.start("one", programs.runs())
    assert manager._guard._reported
    assert not manager._guard._unsent


def test_a_guard_that_has_missed_reports_gets_all_that_are_left():
    """After `reset`."""
    here = os.getpid()
    reports = guard_process.Reports()
    rest, dismissed = guard_process.handle_lines(
        b"+%d\nreset\n+1\n-7\n+" % here, reports
    )
    assert (rest, dismissed, list(reports.leaders)) == (b"+", False, [1])


async def test_a_stopped_guard_does_not_delay_the_end_of_the_manager(
    logger, monkeypatch
):
    """It is killed after a while."""
    monkeypatch.setattr(guard_module, "END_TIMEOUT", 0.05)
    async with ProcessManager(logger) as manager:
        guard = manager._guard.pid
        os.kill(guard, signal.SIGSTOP)
    await ended(guard)


async def test_an_app_that_does_not_ignore_sigpipe_survives_its_guard(log_path):
    """Many programs restore the default disposition of SIGPIPE."""
    body = """
        import signal
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        os.kill(manager._guard.pid, 9)
        for n in range(10):
            await manager.start(f'one {n}', programs.exits(0))
        await manager.start('last', programs.runs())
    """
    said = await killed(app(body, log_path), "pids")
    await gone(tag_in(said))


async def test_the_guard_is_no_child_of_the_app(manager):
    """And not of its session."""
    fields = guard_process.read_stat(manager._guard.pid)
    assert int(fields[1]) != os.getpid()
    assert int(fields[3]) != os.getsid(0)
    assert manager._guard.pid not in children_of(os.getpid())


async def test_a_guard_detaches_itself_where_there_is_no_shell(monkeypatch):
    """As in a container with nothing but an interpreter."""
    whole = os.access
    monkeypatch.setattr(
        os, "access", lambda path, mode: path != "/bin/sh" and whole(path, mode)
    )
    guard = Guard(print)
    guard.start()
    async with asyncio.timeout(10):
        while guard.pid is None:
            await asyncio.sleep(0.001)
        while guard.pid in children_of(os.getpid()):
            await asyncio.sleep(0.001)
        while int(guard_process.read_stat(guard.pid)[3]) != guard.pid:
            await asyncio.sleep(0.001)
    pid = guard.pid
    await guard.aclose()
    await ended(pid)


def children_of(parent):
    return [one.pid for one in SYSTEM.processes.children(parent)]


def descendants_of(parent):
    found = children_of(parent)
    return found + [deeper for pid in found for deeper in descendants_of(pid)]


def members_of_group(group):
    return [one.pid for one in SYSTEM.processes.in_group(group)]


@pytest.mark.parametrize("choose", [children_of, descendants_of, members_of_group])
async def test_no_child_survives_an_outsider_that_kills_the_apps_children_first(
    choose, log_path
):
    """As `pkill -P` and Ray's raylet do; one grandchild has a session of its own."""
    body = """
        tree = "sleep 1000 & setsid sleep 1000 & echo ready; exec sleep 1000"
        one = await manager.start('one', programs.shell(tree))
        await one.wait_for_line('ready')
    """
    process = await asyncio.create_subprocess_exec(
        *map(str, app(body, log_path)),
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    said = ""
    try:
        while "pids" not in said:
            said += (await process.stdout.readline()).decode()
        for pid in choose(process.pid):
            os.kill(pid, signal.SIGKILL)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()
    await gone(tag_in(said), pids_in(said))


async def test_a_guard_that_cannot_be_started_is_an_error_of_entering_the_manager(
    monkeypatch, logger
):
    monkeypatch.setattr(guard_module, "spawn_process", refuse)
    with pytest.raises(OSError, match="Too many open files"):
        async with ProcessManager(logger):
            pass


async def test_a_guard_reads_all_reports_of_an_app_that_died_before_it_was_ready(
    log_path,
):
    """The reports are still in the pipe."""
    body = """
        os.kill(manager._guard.pid, 19)
        one = await manager.start('one', programs.shell('exec env -i sleep 1000'))
        while one.pid in [p.pid for p in SYSTEM.processes.tagged(manager._guard.tag)]:
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
        reports = guard_process.Reports()
        find = partial(guard_process.find_children, b"TAG=of no process", reports)
        reports.leaders[other.pid] = start
        assert find() == [other.pid]
        reports.leaders[other.pid] = "12345"
        assert find() == []
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
