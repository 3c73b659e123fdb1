"""Commands: what they hold, how they are spawned, and how a refusal is explained."""

import asyncio
import errno
import os
import subprocess
from pathlib import Path

import pytest

from realtalk_async.exceptions import InvalidConfiguration, SpawnFailed
from realtalk_async.supervision import Command
from realtalk_async.supervision.command import explain_refusal, spawn
from realtalk_async.supervision.kernel.fair_poller import Watch
from realtalk_async.testing import programs

pytestmark = pytest.mark.timeout(20)


def descriptors():
    return set(os.listdir("/proc/self/fd"))


def nothing(_stream):
    """Return no memory to read into: bytes of their own are wanted."""


async def spawned(command, **environment):
    """Spawn a command, let it run to its end, and return (status, stdout, stderr)."""
    said = {"stdout": b"", "stderr": b""}

    def heard(stream, data, _now):
        said[stream] += data

    running = spawn(
        command,
        extra_env=environment,
        on_data=heard,
        get_memory=nothing,
        on_exit=lambda _child: None,
    )
    if running.stdin:
        running.stdin.close()
    await running.child.exited
    for reader in running.readers.values():
        assert await reader.ended, "by end of file"
    return running.child.exit_status, said["stdout"], said["stderr"]


async def test_a_spawned_command_is_heard_to_its_last_byte():
    """Both streams apart."""
    command = programs.shell("echo out; printf err >&2; exit 3")
    assert await spawned(command) == (3, b"out\n", b"err")


async def test_working_directory_environment_and_options_reach_the_child(tmp_path):
    """An option of `subprocess.Popen` too."""
    command = programs.shell(
        "pwd; umask; echo $A-$B", env={"A": "1"}, cwd=tmp_path, options={"umask": 0o27}
    )
    _, said, _ = await spawned(command, B="2")
    assert said.decode().split() == [str(tmp_path.resolve()), "0027", "1-2"]


async def test_its_input_is_empty_unless_it_is_asked_for():
    """A child never reads the app's terminal by accident."""
    assert await spawned(Command("cat")) == (0, b"", b"")
    assert await spawned(Command("cat", stdin=True)) == (0, b"", b"")


async def test_a_child_leads_a_session_of_its_own():
    """So that its whole group can be ended, and no signal to ours reaches it."""
    _, said, _ = await spawned(programs.shell("cut -d' ' -f1,5,6 /proc/self/stat; :"))
    _, group, session = map(int, said.split())
    assert group == session
    assert session != os.getsid(0)


async def test_no_descriptor_of_ours_reaches_the_child():
    """It has its three."""
    _, said, _ = await spawned(programs.shell("ls /proc/self/fd"))
    assert said.split() == [b"0", b"1", b"2", b"3"], "3 is the folder that ls reads"


async def test_a_stream_may_go_elsewhere(tmp_path):
    """To a file, or to the other stream; then it is not captured."""
    with (tmp_path / "out").open("wb") as file:
        command = programs.shell(
            "echo out; echo err >&2", redirect={"stdout": file.fileno()}
        )
        assert await spawned(command) == (0, b"", b"err\n")
    assert (tmp_path / "out").read_bytes() == b"out\n"
    mixed = {"stderr": subprocess.STDOUT}
    command = programs.shell("echo out; echo err >&2", redirect=mixed)
    assert await spawned(command) == (0, b"out\nerr\n", b"")


@pytest.mark.parametrize(
    "command",
    [
        Command("no-such-program-here", stdin=True),
        Command("/etc/passwd"),
        Command("true", cwd="/no/such/dir"),
        Command("true", options={"user": "no-such-user"}),
        Command("true", options={"no_such_option": 1}),
        Command("true", env={"A": "\ud800"}),
    ],
    ids=["missing", "not executable", "cwd", "user", "option", "surrogate"],
)
async def test_a_refused_spawn_leaves_no_descriptor_open(command):
    """Scenario 10."""
    before = descriptors()
    with pytest.raises(OSError) as caught:
        spawn(command, extra_env={}, on_data=print, get_memory=nothing, on_exit=print)
    assert caught.value.errno in {errno.ENOENT, errno.EACCES, errno.EINVAL}
    assert descriptors() == before


async def test_a_command_starts_outside_any_supervision_too():
    """``await command()`` is asyncio's own process, so it serves as a function."""
    process = await Command("cat", stdin=True, env={"A": "b"})()
    assert isinstance(process, asyncio.subprocess.Process)
    out, err = await process.communicate(b"hello")
    assert (out, err, process.returncode) == (b"hello", b"", 0)
    with pytest.raises(SpawnFailed, match="not on PATH"):
        await Command("no-such-program-here")()


def test_a_command_is_a_value():
    """Equal if all of it is equal; it can be a key."""
    one = Command("sox", "-d", Path("a b"), env={"X": "1"}, cwd=Path("/tmp"))
    assert one == Command("sox", "-d", "a b", env={"X": "1"}, cwd="/tmp")
    assert hash(one) == hash(Command("sox", "-d", "a b", env={"X": "1"}, cwd="/tmp"))
    assert one != Command("sox", "-d", "a b")
    assert one != "sox"
    assert str(one) == "sox -d 'a b'"
    assert repr(one) == "Command('sox', '-d', 'a b')"
    assert one.program_name == "sox"


def test_a_command_does_not_change_when_what_it_was_made_of_does():
    """It is immutable."""
    env, options = {"A": "1"}, {"umask": 1}
    command = Command("x", env=env, options=options)
    env["A"], options["umask"] = "2", 2
    command.options["umask"] = 3
    assert (command.env, command.options) == ({"A": "1"}, {"umask": 1})


def test_the_same_with_other_arguments():
    """All else stays."""
    command = Command("ffmpeg", "-i", "a", stdin=True, stdout="binary", cwd="/tmp")
    other = command.replace("-ss", "42")
    assert other.argv == ("ffmpeg", "-ss", "42")
    assert (other.stdin, other.stdout, other.cwd) == (True, "binary", "/tmp")
    assert Command.shell("a | b").argv == ("/bin/sh", "-c", "a | b")


@pytest.mark.parametrize(
    "arguments",
    [
        {"program": "a", "options": {"shell": True}},
        {"program": "a", "options": {"stdout": 1}},
        {"program": "a", "env": {"": "x"}},
        {"program": b"bytes"},
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_starts(arguments):
    """See also the process's own tests."""
    with pytest.raises(InvalidConfiguration):
        Command(**arguments)


@pytest.mark.parametrize(
    ("number", "hint"),
    [
        (errno.EMFILE, "ulimit -n"),
        (errno.ENFILE, "ulimit -n"),
        (errno.EAGAIN, "retry later"),
        (errno.ENOMEM, "retry later"),
        (errno.EINVAL, "options"),
        (errno.ENOEXEC, "#!/bin/sh"),
        (errno.ENOENT, "interpreter"),
    ],
)
def test_a_refusal_says_what_to_do(number, hint):
    """By its errno."""
    error = OSError(number, os.strerror(number))
    refusal = explain_refusal("one", Command("/bin/sh"), error)
    assert hint in str(refusal)
    assert refusal.errno == number


@pytest.mark.parametrize("allowed", [0, 1, 2])
async def test_a_loop_that_cannot_watch_leaves_no_child(monkeypatch, allowed):
    """Nor a descriptor: the spawn counts as refused."""
    before, whole, calls = descriptors(), Watch.add, []

    def refuse(*arguments):
        calls.append(1)
        if len(calls) > allowed:
            raise OSError(errno.ENOSPC, "no more epoll watches")
        whole(*arguments)

    monkeypatch.setattr(Watch, "add", refuse)
    with pytest.raises(OSError, match="epoll"):
        spawn(
            programs.runs(),
            extra_env={},
            on_data=print,
            get_memory=nothing,
            on_exit=lambda _: None,
        )
    assert descriptors() == before
