"""`run -- COMMAND` in an interactive shell on a terminal is a job as any other."""

import asyncio
import os
import signal
import subprocess
import sys

import pytest

from realtalk_async.cli.terminal.key_signals import KeySignals
from realtalk_async.supervision.kernel.process_groups import living_members

ASK = f"{sys.executable} -c 'import getpass; print(len(getpass.getpass()))'"


def test_a_command_is_stopped_and_continued_with_the_run(shell):
    shell.enter("run sh -c 'echo up; cat; echo $?'; echo code=$?")
    shell.expect("up\r")
    shell.enter("one")
    shell.expect("one\r")
    shell.type("\x1a")
    shell.expect("Stopped")
    shell.prompt()
    shell.enter("echo the shell$((1)) reads")
    shell.expect("shell1 reads")
    shell.enter("bg")
    shell.expect("&\r")
    shell.enter("until jobs | grep Stopped; do sleep 0.02; done")  # it reads
    shell.expect("Stopped")
    shell.enter("fg")
    shell.enter("two")
    shell.expect("two\r")
    shell.type("\x04")
    shell.expect("0\r")
    shell.enter("echo code=$?")
    shell.expect("code=0")


@pytest.mark.parametrize("line", ["{} &", "{} | cat"])
def test_a_password_prompt_of_a_job_that_is_not_in_the_foreground_gets_it(shell, line):
    shell.enter(line.format(f"run {ASK}"))
    if line.endswith("&"):
        shell.enter("until jobs | grep Stopped; do sleep 0.02; done; fg")
    shell.expect("Password: ")
    shell.enter("secret")
    shell.expect("6\r")
    shell.prompt()


def test_keys_reach_the_command_alone_and_the_terminal_is_restored(shell):
    shell.enter("stty -a >before")
    shell.enter(
        'run sh -c \'trap "exit 7" INT; stty raw isig; printf "\\033[?25lup "; '
        "ps -o stat= -o sess= $$; while :; do sleep 0.05; done'; echo code=$?"
    )
    state, session = shell.expect(r"up *(\S+) +(\d+)").groups()
    assert state.endswith("+")  # in the foreground
    assert int(session) == shell.process.pid
    shell.type("\x03")
    shell.expect("code=7")
    shell.enter("stty -a | diff - before && echo same")
    shell.expect("same")
    assert b"\x1b[0m\x1b[?25hcode=7" in shell.said
    shell.enter("run sh -c 'echo up; exec sleep 1000'; echo code=$?")
    shell.expect("up\r")
    shell.type("\x1c")
    shell.expect("code=131")
    assert b"died" not in shell.said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
async def test_a_signal_to_the_group_is_noticed_although_the_command_ignores_it(number):
    line = f'trap "" {number.name.removeprefix("SIG")}; echo up; exec sleep 1000'
    with subprocess.Popen(
        ["sh", "-c", line], process_group=0, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout.readline() == b"up\n"
        noticed = asyncio.Queue()
        keys = KeySignals(child.pid, noticed.put_nowait)
        assert keys.recent() == 0
        for _ in range(2):  # the command goes on, and so does the watch
            os.killpg(child.pid, number)
            assert await asyncio.wait_for(noticed.get(), 60) == number
        assert keys.recent() == number
        keys.close()
        assert [one.pid for one in living_members(child.pid)] == [child.pid]
        child.kill()


async def test_a_signal_just_before_the_end_is_noticed():
    with subprocess.Popen(["sleep", "1000"], process_group=0) as child:
        keys = KeySignals(child.pid, lambda _: None)
        os.killpg(child.pid, signal.SIGINT)
        keys.close()
        assert keys.recent() == signal.SIGINT
