import pytest

from realtalk_async.supervision import SWIFT
from realtalk_async.testing import programs


@pytest.mark.parametrize(
    ("command", "exit_status"),
    [
        (programs.exits(3), 3),
        (programs.crashes(), 1),
        (programs.crashes(-11), -11),
        (programs.prints("a", "b", status=4), 4),
    ],
)
async def test_program_ends_with_the_given_status(command, exit_status):
    process = await command()
    await process.communicate()
    assert process.returncode == exit_status


async def test_each_program_prints_its_line(manager, tmp_path):
    expected = {
        "runs": (programs.runs(), "ready"),
        "ignores_sigterm": (programs.ignores_sigterm(), "ready"),
        "leaves_a_grandchild": (programs.leaves_a_grandchild(), "ready"),
        "daemonizes": (programs.daemonizes(), r"\d+"),
        "fails_first": (programs.fails_first(0, str(tmp_path / "n")), "ready"),
        "prints": (programs.prints("hello"), "hello"),
        "bursts": (programs.bursts(3), "2"),
    }
    for name, (command, line) in expected.items():
        process = await manager.start(name, command, ladder=SWIFT)
        await process.wait_for_line(line)


async def test_flood_prints_until_it_is_stopped(manager):
    process = await manager.start("floods", programs.floods())
    await process.wait_for_line("again and again")
    assert (await process.stop()).status == "dead"


async def test_echo_copies_stdin_to_stdout(manager):
    process = await manager.start("echoes", programs.echoes())
    await process.send(b"hello\n")
    await process.wait_for_line("hello")


async def test_crash_prints_its_lines_on_stderr(manager):
    process = await manager.start("crashes", programs.crashes(3, "device busy"))
    await process.wait()
    assert [line.text for line in process.get_stderr()] == ["device busy"]
