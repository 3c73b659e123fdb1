"""Limits hold from the first instruction of a program on, and for its descendants."""

import os
import resource
import signal
import sys
import textwrap

import pytest

from realtalk_async import (
    Command,
    InvalidConfiguration,
    Limits,
    Logger,
    ProcessManager,
    SpawnFailed,
)
from realtalk_async.supervision.kernel.exit_status import Usage
from realtalk_async.supervision.kernel.spawning.limits import describe_end

MIB = 1 << 20
PRINT_LIMITS = textwrap.dedent(
    """
    import resource as r
    kinds = r.RLIMIT_AS, r.RLIMIT_NPROC, r.RLIMIT_CPU, r.RLIMIT_NOFILE
    print(*(n for kind in kinds for n in r.getrlimit(kind)))
    """
)
ALL = Limits(memory=512 * MIB, processes=1000, cpu=7, open_files=64)


@pytest.fixture
async def manager(log_path):
    async with Logger(log_path) as logger, ProcessManager(logger) as manager:
        yield manager


async def numbers(manager, name, command):
    """Return what a command prints, as numbers."""
    process = await manager.start(name, command, restart="temporary")
    await process.wait_until_settled()
    [line] = process.get_stdout()
    return [int(word) for word in line.text.split()]


@pytest.mark.parametrize("options", [{}, {"umask": 0o77}], ids=["posix_spawn", "Popen"])
async def test_all_limits_are_in_force_in_the_program(manager, options):
    command = Command(sys.executable, "-c", PRINT_LIMITS, limits=ALL, options=options)
    found = await numbers(manager, "x", command)
    size = 512 * MIB
    assert found == [size, size, 1000, 1000, 7, 8, 64, 64]


async def test_a_grandchild_inherits_the_limits(manager):
    line = f"{sys.executable} -c '{PRINT_LIMITS}' & wait"
    found = await numbers(manager, "x", Command.shell(line, limits=ALL))
    assert found[0] == 512 * MIB
    assert found[6] == 64


async def test_the_app_and_other_children_keep_their_own_limits(manager):
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    await numbers(manager, "x", Command(sys.executable, "-c", PRINT_LIMITS, limits=ALL))
    found = await numbers(manager, "y", Command(sys.executable, "-c", PRINT_LIMITS))
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == before
    assert tuple(found[6:]) == before


async def test_a_limit_above_that_of_the_app_keeps_that_of_the_app(manager):
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    limits = Limits(open_files=1 << 40, memory=1 << 100)
    command = Command(sys.executable, "-c", PRINT_LIMITS, limits=limits)
    found = await numbers(manager, "x", command)
    assert found[6:] == [hard, hard]


async def test_an_allocation_beyond_the_memory_fails(manager):
    code = "bytearray(400 * 2**20)"
    command = Command(sys.executable, "-c", code, limits=Limits(memory=200 * MIB))
    process = await manager.start("x", command, restart="temporary")
    await process.wait_until_settled()
    report = process.get_report()
    assert report.exit_status == 1
    assert report.sign.kind == "out of memory"
    assert "its limit" in report.sign.advice


async def test_the_reason_of_an_end_by_the_cpu_limit_says_so(manager):
    spin = Command.shell("while :; do :; done", limits=Limits(cpu=1))
    process = await manager.start("x", spin, restart="temporary")
    status = await process.wait_until_settled()
    report = process.get_report()
    assert report.exit_status == -signal.SIGXCPU
    assert report.summary.startswith("killed by SIGXCPU (cpu limit of 1 s) after")
    assert "cpu limit of 1 s" in status.reason


async def test_a_program_that_ignores_sigxcpu_is_killed_a_second_later(manager):
    spin = Command.shell("trap '' XCPU; while :; do :; done", limits=Limits(cpu=1))
    process = await manager.start("x", spin, restart="temporary")
    await process.wait_until_settled()
    report = process.get_report()
    assert report.exit_status == -signal.SIGKILL
    assert "(cpu limit of 1 s)" in report.summary
    assert report.usage.user + report.usage.system > 1.5


def test_a_kill_by_others_is_no_cpu_limit():
    limits = Limits(cpu=5)
    assert describe_end(limits, -signal.SIGKILL, Usage(1.0, 1.0, 0)) == ""
    assert describe_end(limits, 1, Usage(9.0, 1.0, 0)) == ""
    assert describe_end(limits, "unknown", None) == ""
    assert describe_end(Limits(), -signal.SIGXCPU, Usage(9.0, 1.0, 0)) == ""


async def test_the_limits_of_a_command_without_supervision_hold_too():
    process = await Command(sys.executable, "-c", PRINT_LIMITS, limits=ALL)()
    output, _ = await process.communicate()
    assert output.split()[6:] == [b"64", b"64"]


async def test_pid_session_streams_and_words_are_those_without_limits(
    manager, tmp_path
):
    code = "import os, sys; print(os.getpid(), os.getsid(0), *map(len, sys.argv[1:]))"
    words = ("", "a b", "'\"$x`y`\n", "ü*")
    command = Command(
        sys.executable, "-c", code, *words, limits=ALL, cwd=tmp_path, env={"A.B": "x"}
    )
    process = await manager.start("x", command, restart="temporary")
    await process.wait_until_settled()
    pid = str(process.pid)
    assert process.get_stdout()[0].text.split()[:2] == [pid, pid]
    assert process.get_stdout()[0].text.split()[2:] == [str(len(one)) for one in words]
    assert process.get_status().exit_status == 0


@pytest.mark.parametrize(
    ("program", "hint"),
    [
        ("no-such-program", "not on PATH"),
        ("./not-executable", "not executable"),
        ("./folder", "directory"),
        ("./missing", "check the path"),
    ],
)
async def test_a_program_that_cannot_run_is_refused_as_without_limits(
    manager, tmp_path, monkeypatch, program, hint
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "not-executable").write_text("x")
    (tmp_path / "folder").mkdir()
    for name, limits in ("with", ALL), ("without", None):
        with pytest.raises(SpawnFailed, match=hint) as failed:
            await manager.start(
                name, Command(program, limits=limits), restart="temporary"
            )
        assert failed.value.path == program


def test_limits_exclude_another_executable():
    """The shell would be replaced, and no limit set."""
    options = {"executable": "/bin/echo"}
    with pytest.raises(InvalidConfiguration, match="'executable'"):
        Command("true", limits=ALL, options=options)
    assert Command("true", limits=Limits(), options=options).options == options


def test_limits_are_part_of_a_command():
    command = Command("true", limits=ALL)
    assert command.replace("x").limits == ALL
    assert command != Command("true")
    assert not Limits()
    assert str(Limits(cpu=3)) == "cpu 3"
    assert Limits(cpu=3, memory=MIB).to_dict() == {"memory": MIB, "cpu": 3}


async def test_without_limits_no_shell_comes_first(manager):
    process = await manager.start("x", Command("sleep", "60", limits=Limits()))
    # The program runs in the moment in which `start` returns.
    assert os.readlink(f"/proc/{process.pid}/exe").endswith("sleep")
