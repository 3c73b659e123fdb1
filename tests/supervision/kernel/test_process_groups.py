"""Process groups in the kernel's process table."""

import asyncio
import contextlib
import os
import signal
import subprocess

import pytest

from realtalk_async.operating_system import SYSTEM, ProcessInfo
from realtalk_async.supervision.kernel import process_groups
from realtalk_async.testing import programs

PIPE = asyncio.subprocess.PIPE


@contextlib.asynccontextmanager
async def group(command):
    """Run a command as the leader of its own group; kill the group at the end."""
    process = await command()
    try:
        await process.stdout.readline()
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        process._transport.close()


async def until(condition):
    async with asyncio.timeout(120):
        while not condition():
            await asyncio.sleep(0.005)


async def test_exactly_the_members_of_a_group_are_found():
    async with group(programs.forks(3)) as leader:
        members = process_groups.living_members(leader.pid)
        assert len(members) == 4
        assert leader.pid in [one.pid for one in members]
        assert {(one.group, one.session) for one in members} == {(leader.pid,) * 2}
        assert os.getpid() not in [one.pid for one in members]


async def test_a_zombie_is_a_member_but_is_not_alive():
    """``killpg`` succeeds for a zombie."""
    child = subprocess.Popen(["true"], start_new_session=True)
    pid = child.pid
    try:
        await until(lambda: SYSTEM.processes.read(pid).state == "Z")
        assert not SYSTEM.processes.read(pid).alive
        assert process_groups.living_members(pid) == []
        assert not process_groups.is_empty(pid)
    finally:
        child.wait()
    assert process_groups.is_empty(pid)
    assert SYSTEM.processes.read(pid) is None


async def test_a_stopped_group_is_continued_to_receive_sigterm():
    """The signal of a stopped process stays pending otherwise."""
    async with group(programs.cleans_up(0)) as leader:
        process_groups.send_signal(leader.pid, signal.SIGSTOP)
        await until(lambda: SYSTEM.processes.read(leader.pid).state == "T")
        process_groups.send_signal(leader.pid, signal.SIGTERM)
        assert await leader.wait() == 0


async def test_a_signal_to_an_ended_group_does_nothing():
    process = await asyncio.create_subprocess_exec("true", start_new_session=True)
    await process.wait()
    process_groups.send_signal(process.pid, signal.SIGTERM)


@pytest.mark.parametrize("name", ["plain", "a) R 1 (b", "ü \\ n"])
async def test_a_process_name_may_contain_any_characters(tmp_path, name):
    """Parentheses, spaces and letters also occur in the stat line itself."""
    program = tmp_path / name[:15]
    program.symlink_to("/bin/sleep")
    process = await asyncio.create_subprocess_exec(str(program), "1000")
    try:
        member = SYSTEM.processes.read(process.pid)
        assert member.name == name[:15]
        assert member.group == os.getpgid(process.pid)
        assert member.start > 0
        assert str(member) == f"pid {process.pid} ({name[:15]}) state {member.state}"
    finally:
        process.kill()
        await process.wait()


async def test_a_tag_finds_all_descendants_also_daemons():
    tag = f"REALTALK_TEST_TAG=x{os.getpid()}"
    name, _, value = tag.partition("=")
    command = programs.daemonizes()
    tagged = programs.python(command.argv[5], env={name: value})
    async with group(tagged) as leader:
        found = process_groups.find_tagged(tag)
        assert len(found) == 2
        assert len({one.session for one in found}) == 2
        process_groups.kill_tagged(tag)
        assert process_groups.find_tagged(tag) == []
        assert await leader.wait() == -9


def test_a_process_that_cannot_be_ended_delays_the_kill_only_by_its_bound(monkeypatch):
    immortal = [ProcessInfo(2**22 + 1, "x", "D", 0, 0, 0)]
    monkeypatch.setattr(process_groups, "find_tagged", lambda _tag: immortal)
    process_groups.kill_tagged("tag", 0.02)
