"""Children in cgroups: no descendant escapes, and no cgroup is left."""

import asyncio
import contextlib
import os
import re
import signal
import sys
import textwrap
from pathlib import Path

import pytest

from realtalk_async import (
    Command,
    ContainmentUnavailable,
    InvalidConfiguration,
    Ladder,
    Limits,
    Logger,
    ProcessManager,
    SpawnFailed,
    UnknownProcess,
)
from realtalk_async.operating_system import SYSTEM
from realtalk_async.supervision.kernel.cgroups import manager_cgroup
from realtalk_async.supervision.kernel.cgroups.cgroup import Cgroup
from realtalk_async.testing import programs

needs_cgroup = pytest.mark.usefixtures("can_make_cgroups")

DAEMON = textwrap.dedent(
    """
    import os, sys, time
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:  # as daemons do: its parent is PID 1, its environment is empty
            null = os.open(os.devnull, os.O_RDWR)
            print("daemon", os.getpid(), flush=True)
            for n in (0, 1, 2):
                os.dup2(null, n)
            os.execve("/bin/sleep", ["sleep", "1000"], {})
        os._exit(0)
    time.sleep(1000)
    """
)


def daemonizes_twice():
    """Return a command whose daemon only a cgroup can find."""
    return Command(sys.executable, "-c", DAEMON)


def is_alive(pid):
    found = SYSTEM.processes.read(pid)
    return found is not None and found.alive


async def until(condition):
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


def folders(manager):
    """Return the names of the cgroups of the manager's children."""
    return sorted(one.name for one in Path(manager.containment.path).glob("*/"))


@pytest.fixture
async def contained(log_path):
    async with (
        Logger(log_path) as logger,
        ProcessManager(logger, containment="cgroup") as manager,
    ):
        yield manager
        path = manager.containment.path
    assert not os.path.exists(path)


async def daemon_of(process):
    line = await process.wait_for_line("daemon")
    pid = int(line.text.split()[1])
    # It has left the environment that carries the tag.
    await until(lambda: b"=" not in Path(f"/proc/{pid}/environ").read_bytes())
    return pid


@needs_cgroup
async def test_a_daemon_that_left_its_session_ends_with_its_child(contained):
    process = await contained.start("one", daemonizes_twice())
    pid = await daemon_of(process)
    assert folders(contained) == ["one-1"]
    assert Path(f"/proc/{pid}/cgroup").read_text().rstrip().endswith("/one-1")
    await process.stop()
    assert not is_alive(pid)
    assert folders(contained) == []


@needs_cgroup
async def test_without_a_cgroup_that_daemon_survives_its_child(manager):
    """So the test above fails without the containment."""
    process = await manager.start("one", daemonizes_twice())
    pid = await daemon_of(process)
    await process.stop()
    assert is_alive(pid)
    os.kill(pid, signal.SIGKILL)


@needs_cgroup
async def test_a_program_that_exits_takes_its_daemons_along(contained):
    line = f"{sys.executable} -c '{DAEMON}' & read -r _; exit 3"
    command = Command.shell(line, stdin=True)
    process = await contained.start("one", command, restart="temporary")
    pid = await daemon_of(process)
    await process.send(b"\n")
    status = await process.wait_until_settled()
    assert status.exit_status == 3
    assert not is_alive(pid)
    assert folders(contained) == []


@needs_cgroup
async def test_a_member_that_ends_during_the_last_look_leaves_no_cgroup(
    contained, monkeypatch
):
    looked = []
    is_empty, pids = Cgroup.is_empty, Cgroup.pids
    monkeypatch.setattr(Cgroup, "is_empty", lambda one: bool(looked) and is_empty(one))
    monkeypatch.setattr(Cgroup, "pids", lambda one: looked.append(one) or pids(one))
    process = await contained.start("one", Command("true"), restart="temporary")
    await process.wait_until_settled()
    assert looked
    assert folders(contained) == []


@needs_cgroup
async def test_the_gentle_steps_reach_the_daemon_too(contained, tmp_path):
    seen = tmp_path / "seen"
    daemon = f"trap 'echo TERM > {seen}; exit' TERM; echo ready; while :; do sleep 0.01; done"
    command = Command("sh", "-c", 'setsid sh -c "$0" & sleep 1000', daemon)
    ladder = Ladder(("TERM", 20.0))
    process = await contained.start("one", command, ladder=ladder)
    await process.wait_for_line("ready")
    await process.stop()
    assert seen.read_text() == "TERM\n"


@needs_cgroup
async def test_what_forks_all_the_time_is_ended(contained):
    fork = "while :; do setsid sh -c 'sleep 0.01; kill -STOP $$' & done"
    command = Command.shell(f"trap '' TERM; echo ready; {fork}")
    ladder = Ladder(("TERM", 0.05))
    process = await contained.start("one", command, ladder=ladder)
    await process.wait_for_line("ready")
    await process.stop()
    assert folders(contained) == []
    assert process.get_report().capture != "open"


@needs_cgroup
async def test_the_first_instruction_is_in_the_cgroup(contained):
    """The program forks at once, a hundred times: each grandchild is a member."""
    code = "cat /proc/self/cgroup & setsid cat /proc/self/cgroup & wait"
    commands = [contained.start(f"n{n}", Command.shell(code)) for n in range(100)]
    for process in await asyncio.gather(*commands):
        await process.wait_until_settled()
        found = [one.text for one in process.get_stdout()]
        lines = [one for one in found if one.startswith("0::")]
        assert len(lines) == 2
        assert all(re.search(rf"/{process.name}-\d+$", one) for one in lines)
    assert folders(contained) == []


@needs_cgroup
async def test_each_incarnation_has_a_cgroup_of_its_own(contained):
    process = await contained.start("one", programs.runs(), restart="permanent")
    assert folders(contained) == ["one-1"]
    process.process.send_signal(signal.SIGKILL)
    await until(lambda: process.incarnation == 2 and process.status == "running")
    assert folders(contained) == ["one-2"]


@needs_cgroup
async def test_one_child_is_contained_on_request(manager):
    assert manager.containment.path is None
    one = await manager.start("one", programs.runs(), containment="cgroup")
    two = await manager.start("two", programs.runs())
    assert folders(manager) == ["one-1"]
    assert one.get_status().to_dict()["containment"] == "cgroup"
    assert ", cgroup, restarts 0" in str(one.get_status())
    assert two.get_status().to_dict()["containment"] == "group"
    assert "group" not in str(two.get_status())
    assert manager.containment.mechanism == "group"


@needs_cgroup
async def test_the_mechanism_and_what_it_cannot_do_are_told(contained):
    told = contained.containment
    assert told.mechanism == "cgroup"
    assert told.to_dict()["path"] == told.path
    for name in ("memory", "pids"):
        is_missing = name not in told.controllers
        words = f"without the controller {name}"
        assert any(words in one for one in told.cannot) is is_missing
    assert "can leave it" in str(told)


async def test_the_default_tells_what_process_groups_cannot_do(manager):
    told = manager.containment
    assert (told.mechanism, told.path, told.controllers) == ("group", None, ())
    assert "leaves its group and session" in str(told)


@needs_cgroup
async def test_limits_without_controllers_hold_in_a_cgroup(contained):
    command = Command.shell("ulimit -n; ulimit -t", limits=Limits(open_files=33, cpu=9))
    process = await contained.start("one", command)
    await process.wait_until_settled()
    assert [one.text for one in process.get_stdout()] == ["33", "9"]


@needs_cgroup
async def test_a_kill_for_memory_is_told_from_the_events_of_the_cgroup(
    contained, monkeypatch
):
    """The count comes from a file that stands for the kernel's."""
    monkeypatch.setattr(Cgroup, "oom_kills", lambda _: 1)
    command = Command.shell("kill -KILL $$", limits=Limits(memory=1 << 30))
    process = await contained.start("one", command, restart="temporary")
    status = await process.wait_until_settled()
    words = "killed by SIGKILL (out of memory: memory limit of 1024 MiB)"
    assert process.get_report().summary.startswith(words)
    assert words in status.reason


@needs_cgroup
async def test_a_cgroup_that_cannot_be_removed_is_logged(logger, monkeypatch):
    """And the guard ends all the same."""
    monkeypatch.setattr(manager_cgroup, "KILL_TIMEOUT", 0.05)
    async with ProcessManager(logger, containment="cgroup") as manager:
        cgroup, guard = Cgroup(manager.containment.path), manager._guard.pid
        monkeypatch.setattr(Cgroup, "remove", lambda _: False)
    monkeypatch.undo()
    assert cgroup.remove()
    await until(lambda: not is_alive(guard))
    [entry] = await logger.get_logs(level="WARNING", component="manager")
    assert entry.message == "A cgroup cannot be removed"


# ---- refusals


@pytest.fixture
def no_cgroup(monkeypatch, tmp_path):
    """No cgroup v2 is mounted."""
    monkeypatch.setattr(manager_cgroup, "PROC", tmp_path)


async def test_a_manager_that_can_make_no_cgroup_is_not_entered(logger, no_cgroup):
    manager = ProcessManager(logger, containment="cgroup")
    with pytest.raises(ContainmentUnavailable, match=r"errno 2.*Delegate=yes"):
        await manager.__aenter__()
    assert manager.status == "closed"


async def test_a_start_that_can_make_no_cgroup_changes_nothing(manager, no_cgroup):
    with pytest.raises(ContainmentUnavailable, match="leave containment='group'"):
        await manager.start("one", programs.runs(), containment="cgroup")
    with pytest.raises(UnknownProcess):
        await manager.check_process("one")
    await manager.start("one", programs.runs())


@needs_cgroup
async def test_a_cgroup_that_vanished_is_a_refused_start(contained):
    os.rmdir(contained.containment.path)
    with pytest.raises(SpawnFailed, match="Delegate=yes") as failed:
        await contained.start("one", programs.runs(), restart="temporary")
    assert failed.value.path == contained.containment.path


@needs_cgroup
async def test_a_program_that_does_not_exist_leaves_no_cgroup(contained):
    with pytest.raises(SpawnFailed, match="not on PATH"):
        await contained.start("one", Command("no-such-program"), restart="temporary")
    assert folders(contained) == []


@pytest.mark.parametrize(
    "option", [{"user": 0}, {"group": 0}, {"extra_groups": []}, {"executable": "sh"}]
)
async def test_an_option_that_a_cgroup_excludes_is_refused(manager, option):
    """Before anything changes."""
    command = Command("true", options=option)
    with pytest.raises(InvalidConfiguration, match=f"'{next(iter(option))}'"):
        await manager.start("one", command, containment="cgroup")
    assert manager.containment.path is None
    assert not manager.processes


# ---- the app is killed

APP = textwrap.dedent(
    f"""
    import asyncio, sys
    from realtalk_async import Command, Logger, ProcessManager

    DAEMON = {DAEMON!r}

    async def main():
        async with ProcessManager(Logger(sys.argv[1]), containment="cgroup") as manager:
            print("path", manager.containment.path, flush=True)
            for n in range(int(sys.argv[2])):
                one = await manager.start(f"n{{n}}", Command(sys.executable, "-c", DAEMON))
                await one.wait_for_line("daemon")
            print("ready", flush=True)
            await asyncio.sleep(1000)

    asyncio.run(main())
    """
)


@contextlib.asynccontextmanager
async def running_app(log_path, children):
    """Yield an app and the folder of its cgroup; then kill it."""
    argv = (sys.executable, "-c", APP, str(log_path), str(children))
    app = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
    try:
        async with asyncio.timeout(60):
            path = Path((await app.stdout.readline()).decode().split()[1])
            yield app, path
    finally:
        app.kill()
        await app.communicate()


@needs_cgroup
@pytest.mark.parametrize("kill_guard", [False, True])
async def test_nothing_survives_a_killed_app(log_path, kill_guard):
    """Also if the guard was killed, and replaced, before."""
    async with running_app(log_path, 3) as (app, path):
        assert await app.stdout.readline() == b"ready\n"
        if kill_guard:
            await replace_guard(app.pid)
        files = path.glob("*/cgroup.procs")
        pids = [int(n) for one in files for n in one.read_text().split()]
        assert len(pids) >= 6
    await until(lambda: not path.exists())
    assert not any(map(is_alive, pids))


async def replace_guard(app):
    """Kill the guard of an app, and wait for the next one."""

    def guards():
        found = []
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    words = Path(f"/proc/{entry}/cmdline").read_bytes().split(b"\0")
                except OSError:
                    continue
                # Not the shell that starts it, whose words are nearly the same.
                if words[1:3] == [b"-I", b"-S"] and str(app).encode() in words:
                    found.append(int(entry))
        return found

    def is_ready(guard):
        """Return whether it has detached, after it had read all reports."""
        try:
            return os.getsid(guard) == guard
        except ProcessLookupError:  # the process that starts it has ended
            return False

    [before] = guards()
    os.kill(before, signal.SIGKILL)
    await until(lambda: any(is_ready(one) for one in guards() if one != before))


@needs_cgroup
@pytest.mark.parametrize("milliseconds", range(0, 40, 8))
async def test_an_app_killed_at_any_moment_leaves_no_cgroup(log_path, milliseconds):
    async with running_app(log_path, 50) as (_, path):
        await asyncio.sleep(milliseconds / 1000)
    await until(lambda: not path.exists())
