"""Commands: their arguments, their spawn, and the hints of a refused spawn."""

import asyncio
import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from realtalk_async.exceptions import InvalidConfiguration, SpawnFailed
from realtalk_async.operating_system import SYSTEM
from realtalk_async.supervision import Command
from realtalk_async.supervision.command import explain_refusal, spawn
from realtalk_async.supervision.kernel.fair_poller import FairPoller
from realtalk_async.testing import programs


def descriptors():
    return set(SYSTEM.descriptors())


def no_buffer(_stream):
    """Return no memory to read into: the reader allocates its own bytes."""


async def spawned(command, **environment):
    """Run a command to its end, and return (status, stdout, stderr)."""
    output = {"stdout": b"", "stderr": b""}

    def received(stream, data, _now):
        output[stream] += data

    running = spawn(
        command,
        extra_env=environment,
        on_data=received,
        get_memory=no_buffer,
        on_exit=lambda _child: None,
        on_error=print,
    )
    if running.stdin:
        running.stdin.close()
    await running.child.exited
    for reader in running.readers.values():
        assert await reader.ended, "by end of file"
    return running.child.exit_status, output["stdout"], output["stderr"]


async def test_both_streams_of_a_command_are_read_to_the_last_byte():
    command = programs.shell("echo out; printf err >&2; exit 3")
    assert await spawned(command) == (3, b"out\n", b"err")


async def test_working_directory_environment_and_options_reach_the_child(tmp_path):
    command = programs.shell(
        "pwd; umask; echo $A-$B", env={"A": "1"}, cwd=tmp_path, options={"umask": 0o27}
    )
    _, output, _ = await spawned(command, B="2")
    assert output.decode().split() == [str(tmp_path.resolve()), "0027", "1-2"]


async def test_stdin_is_empty_by_default():
    """A child never reads the app's terminal by accident."""
    assert await spawned(Command("cat")) == (0, b"", b"")
    assert await spawned(Command("cat", stdin=True)) == (0, b"", b"")


async def test_a_child_leads_a_session_of_its_own():
    """So its whole group can be ended, and no signal to the app's group reaches it."""
    _, output, _ = await spawned(programs.shell("cut -d' ' -f1,5,6 /proc/self/stat; :"))
    _, group, session = map(int, output.split())
    assert group == session
    assert session != os.getsid(0)


async def test_the_child_inherits_only_its_three_streams():
    _, output, _ = await spawned(programs.shell("ls /proc/self/fd"))
    assert output.split() == [b"0", b"1", b"2", b"3"], "3 is the folder that ls reads"


async def test_a_redirected_stream_is_not_captured(tmp_path):
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
    before = descriptors()
    with pytest.raises(OSError) as caught:
        spawn(
            command,
            extra_env={},
            on_data=print,
            get_memory=no_buffer,
            on_exit=print,
            on_error=print,
        )
    assert caught.value.errno in {errno.ENOENT, errno.EACCES, errno.EINVAL}
    assert descriptors() == before


async def test_a_command_starts_without_supervision():
    """
    ``await command()`` returns asyncio's own process, so a command can be a restart
    function.
    """
    process = await Command("cat", stdin=True, env={"A": "b"})()
    assert isinstance(process, asyncio.subprocess.Process)
    out, err = await process.communicate(b"hello")
    assert (out, err, process.returncode) == (b"hello", b"", 0)
    with pytest.raises(SpawnFailed, match="not on PATH"):
        await Command("no-such-program-here")()


def test_commands_with_equal_arguments_are_equal():
    one = Command("sox", "-d", Path("a b"), env={"X": "1"}, cwd=Path("/tmp"))
    assert one == Command("sox", "-d", "a b", env={"X": "1"}, cwd="/tmp")
    assert hash(one) == hash(Command("sox", "-d", "a b", env={"X": "1"}, cwd="/tmp"))
    assert one != Command("sox", "-d", "a b")
    assert one != "sox"
    assert str(one) == "sox -d 'a b'"
    assert repr(one) == "Command('sox', '-d', 'a b')"
    assert one.program_name == "sox"


def test_a_command_copies_its_arguments():
    """It is immutable."""
    env, options = {"A": "1"}, {"umask": 1}
    command = Command("x", env=env, options=options)
    env["A"], options["umask"] = "2", 2
    command.options["umask"] = 3
    assert (command.env, command.options) == ({"A": "1"}, {"umask": 1})


def test_replace_changes_only_the_arguments():
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
def test_invalid_arguments_are_refused(arguments):
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
def test_a_refused_spawn_contains_a_hint(number, hint):
    error = OSError(number, os.strerror(number))
    refusal = explain_refusal("one", Command("/bin/sh"), error)
    assert hint in str(refusal)
    assert refusal.errno == number


@pytest.mark.parametrize("allowed", [0, 1, 2])
async def test_a_child_that_the_loop_cannot_watch_is_killed(monkeypatch, allowed):
    """No descriptor stays open: the spawn counts as refused."""
    before, whole, calls = descriptors(), FairPoller.add, []

    def refuse(*arguments):
        calls.append(1)
        if len(calls) > allowed:
            raise OSError(errno.ENOSPC, "no more epoll watches")
        whole(*arguments)

    monkeypatch.setattr(FairPoller, "add", refuse)
    with pytest.raises(OSError, match="epoll"):
        spawn(
            programs.runs(),
            extra_env={},
            on_data=print,
            get_memory=no_buffer,
            on_exit=lambda _: None,
            on_error=print,
        )
    assert descriptors() == before


async def test_numbers_are_words_and_values_of_variables():
    command = Command("sleep", 5, 0.5, env={"PORT": 8000, "RATE": 1.5})
    assert command.argv == ("sleep", "5", "0.5")
    assert command.env == {"PORT": "8000", "RATE": "1.5"}
    assert command == Command("sleep", "5", "0.5", env={"PORT": "8000", "RATE": "1.5"})
    assert Command.of(["sleep", 5]).argv == command.replace(5).argv == ("sleep", "5")
    assert command.environment({"PORT": 1})["PORT"] == "1"


@pytest.mark.parametrize("word", [True, None, b"5", 5j, [5]])
def test_other_values_are_no_words(word):
    for make in (
        lambda: Command("sleep", word),
        lambda: Command.of(["sleep", word]),
        lambda: Command("sleep").replace(word),
    ):
        with pytest.raises(InvalidConfiguration, match="a path or a number"):
            make()


def test_a_list_needs_a_program_first():
    with pytest.raises(InvalidConfiguration, match=r"command\[0\] must be a path"):
        Command.of([5, "x"])


async def test_a_program_is_found_on_the_path_of_its_own_environment(manager, tmp_path):
    program = tmp_path / "only here"
    program.write_text("#!/bin/sh\necho found\n")
    program.chmod(0o755)
    command = Command("only here", env={"PATH": str(tmp_path)})
    process = await manager.start("one", command, restart="temporary")
    await process.wait_until_settled()
    assert process.get_stdout()[-1].text == "found"
    with pytest.raises(SpawnFailed, match="not on PATH"):
        await manager.start("two", Command("only-here"))
    with pytest.raises(SpawnFailed, match="not on the PATH of its env"):
        await manager.start("three", Command("sleep", 5, env={"PATH": str(tmp_path)}))
    assert manager.processes["three"].incarnation == 1


async def test_a_script_without_its_interpreter_is_refused_at_once(manager, tmp_path):
    script = tmp_path / "script"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    with pytest.raises(SpawnFailed, match="first line of the script"):
        await manager.start("one", [script])
    assert manager.processes["one"].incarnation == 1


@pytest.mark.parametrize(
    ("path", "expected"),
    [("/bundle", None), ("/bundle:/opt/lib", "/opt/lib"), ("/opt/lib", "/opt/lib")],
)
def test_a_child_has_no_libraries_of_a_frozen_app(path, expected, monkeypatch):
    """PyInstaller puts them first; a program of the system fails with them."""
    monkeypatch.setattr(sys, "_MEIPASS", "/bundle", raising=False)
    monkeypatch.setenv("LD_LIBRARY_PATH", path)
    assert Command("true").environment().get("LD_LIBRARY_PATH") == expected
    own = Command("true", env={"LD_LIBRARY_PATH": "/bundle"})
    assert own.environment()["LD_LIBRARY_PATH"] == "/bundle"
