"""`ManagedProcess` on real processes."""

import asyncio
import os
import re
import signal
import sys
import threading
from datetime import datetime

import anyio
import pytest

from realtalk_async import events
from realtalk_async.exceptions import (
    InvalidConfiguration,
    NotStarted,
    ProcessDead,
    SpawnFailed,
    WaitExpired,
    WriteStalled,
)
from realtalk_async.logs import Logger
from realtalk_async.supervision import Command, Ladder, ManagedProcess
from realtalk_async.supervision.policy.restart import (
    TEMPORARY,
    TRANSIENT,
    RestartPolicy,
)
from realtalk_async.testing import programs

PIPE = asyncio.subprocess.PIPE


async def run(command, logger, name="child", **options):
    """Run a command to its end."""
    process = ManagedProcess(command, name, logger, **options)
    await process.start()
    await process.wait()
    return process


# ---- construction and properties


async def test_a_command_is_started_and_captured(logger):
    process = ManagedProcess(programs.prints("hello"), "child", logger)
    assert (process.state, process.status, process.pid) == ("starting", "dead", None)
    await process.start()
    await process.wait()
    assert [line.text for line in process.get_stdout()] == ["hello"]
    assert process.exit_status == 0


async def test_a_running_process_is_adopted_with_its_pipes(logger):
    command = ("sh", "-c", "echo out; echo err >&2; exit 7")
    spawned = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=PIPE)
    process = ManagedProcess(spawned, "child", logger)
    assert process.process is spawned
    status = await process.wait()
    assert status.exit_status == 7
    assert process.get_stdout()[0].text == "out"
    assert process.get_stderr()[0].text == "err"


async def test_a_finished_process_is_adopted(logger):
    spawned = await asyncio.create_subprocess_exec("echo", "late", stdout=PIPE)
    await spawned.wait()
    process = ManagedProcess(spawned, "child", logger)
    status = await process.wait()
    assert (status.status, status.exit_status) == ("dead", 0)
    assert process.get_stdout()[0].text == "late"


async def test_a_command_is_a_function_that_returns_a_process():
    """So a command can be a restart function."""
    process = await Command("echo", "hi")()
    assert isinstance(process, asyncio.subprocess.Process)
    assert (await process.communicate())[0] == b"hi\n"


async def test_the_public_fields_are_read_only(logger):
    process = ManagedProcess(programs.runs(), "mic", logger, max_size=1000)
    await process.start()
    await process.check()
    assert process.process_name == process.name == "mic"
    assert process.logger is logger
    assert process.max_size == 1000
    assert (process.status, process.state) == ("running", "running")
    assert (process.restarts, process.exit_status) == (0, None)
    for moment in (process.started_at, process.start_time, process.last_checked):
        assert isinstance(moment, datetime)
        assert moment.tzinfo is not None
    for field in ("status", "restarts", "exit_status", "name", "max_size"):
        with pytest.raises(AttributeError):
            setattr(process, field, 1)
    await process.stop()


async def test_the_exit_status_of_a_killed_process_is_the_negative_signal(logger):
    process = ManagedProcess(programs.runs(), "child", logger)
    await process.start()
    os.kill(process.pid, signal.SIGTERM)
    status = await process.wait()
    assert status.exit_status == -15
    assert status.cause == "signalled"
    assert "SIGTERM" in process.get_report().summary


async def test_the_exit_status_is_unknown_if_other_code_reaped_the_child(logger):
    process = ManagedProcess(programs.runs(), "child", logger)
    await process.start()
    os.kill(process.pid, signal.SIGKILL)
    os.waitpid(process.pid, 0)
    status = await process.wait()
    assert status.exit_status == "unknown"


# ---- check and status


async def test_check_records_the_time_and_returns_the_status(logger):
    process = ManagedProcess(programs.runs(), "child", logger)
    await process.start()
    assert process.last_checked is None
    first = await process.check()
    second = await process.check()
    assert first.status == "running"
    assert first.last_checked <= second.last_checked
    await process.stop()
    assert (await process.check()).status == "dead"


async def test_an_exit_is_noticed_without_a_check(logger):
    process = ManagedProcess(programs.runs(), "child", logger)
    await process.start()
    os.kill(process.pid, signal.SIGKILL)
    await process.wait()
    assert process.status == "dead"
    assert process.last_checked is None


async def test_the_status_is_ready_for_json(logger):
    process = await run(programs.exits(3), logger)
    result = process.get_status().to_dict()
    assert result["exit_status"] == 3
    assert result["cause"] == "failed"
    assert result["restarts"] == 0
    assert result["uptime"] > 0
    assert "child: dead (exited)" in str(process.get_status())


# ---- restart


async def test_a_restart_keeps_the_output_and_history_of_earlier_incarnations(logger):
    process = await run(programs.prints("one"), logger)
    assert await process.restart(lambda: programs.prints("two"))
    await process.wait()
    assert [line.text for line in process.get_stdout()] == ["one", "two"]
    assert [line.incarnation for line in process.get_stdout()] == [1, 2]
    assert process.restarts == 1
    assert len(process.get_history().incarnations) == 2
    assert process.get_history().attempts[0].succeeded


async def test_a_restart_without_a_function_runs_the_command_again(logger):
    process = await run(programs.prints("again"), logger)
    assert await process.restart()
    await process.wait()
    assert [line.text for line in process.get_stdout()] == ["again", "again"]


@pytest.mark.parametrize("kind", ["async", "sync", "command", "awaitable"])
async def test_a_restart_function_may_be_sync_or_async(logger, kind):
    async def spawn():
        return await asyncio.create_subprocess_exec("echo", "new", stdout=PIPE)

    functions = {
        "async": spawn,
        "sync": lambda: Command("echo", "new"),
        "command": Command("echo", "new"),
        "awaitable": lambda: spawn(),
    }
    process = await run(programs.exits(1), logger)
    assert await process.restart(functions[kind]) is True
    await process.wait()
    assert process.get_stdout()[-1].text == "new"


async def test_a_restart_function_receives_the_report_of_the_last_incarnation(logger):
    process = await run(programs.prints("position 42", status=1), logger)
    seen = []

    def resume(report):
        seen.append((report.exit_status, report.stdout[-1].text))
        return programs.exits(0)

    assert await process.restart(resume)
    await process.wait()
    assert seen == [(1, "position 42")]


async def test_a_restart_of_a_running_process_is_refused_with_a_warning(logger):
    process = ManagedProcess(programs.runs(), "child", logger)
    await process.start()
    pid = process.pid
    assert await process.restart(programs.exits(0)) is False
    assert (process.status, process.pid) == ("running", pid)
    await process.stop()
    [entry] = await logger.get_logs(level="WARNING", component="child")
    assert "it is running" in entry.message


async def _raise():
    raise ZeroDivisionError("no luck")


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (_raise, "no luck"),
        (lambda: 42, "42"),
        (lambda: None, "None"),
        (Command("/no/such/program"), "/no/such/program"),
    ],
    ids=["raises", "returns a number", "returns None", "cannot be spawned"],
)
async def test_a_failed_restart_returns_false_and_logs_an_error(
    logger, function, expected
):
    process = await run(programs.exits(1), logger)
    before = len(await logger.get_logs(level="ERROR"))
    assert await process.restart(function) is False
    assert process.status == "dead"
    errors = (await logger.get_logs(level="ERROR"))[before:]
    assert any(expected in str(entry) for entry in errors)
    attempt = process.get_history().attempts[-1]
    assert not attempt.succeeded
    assert expected in attempt.detail
    assert await process.restart(programs.exits(0)), "it can be tried again"
    await process.wait()


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_restart_function_that_hangs_is_cancelled_after_a_timeout(
    logger, kind, monkeypatch
):
    monkeypatch.setattr(
        "realtalk_async.supervision.lifecycle.app_callbacks.CALLBACK_TIMEOUT", 0.1
    )
    release = threading.Event()

    async def hang():
        await asyncio.Event().wait()

    process = await run(programs.exits(1), logger)
    hanging = hang if kind == "async" else release.wait
    assert await process.restart(hanging) is False
    release.set()
    assert "did not return within 0.1 s" in process.get_history().attempts[-1].detail


async def test_twenty_simultaneous_restarts_make_one_new_incarnation(logger):
    process = await run(programs.exits(1), logger)
    command = programs.runs()
    answers = await asyncio.gather(*(process.restart(command) for _ in range(20)))
    assert answers == [True] * 20
    assert process.incarnation == 2
    await process.stop()


async def test_a_stop_cancels_a_restart_function_that_hangs(logger):
    called = asyncio.Event()

    async def hang():
        called.set()
        await asyncio.Event().wait()

    process = await run(programs.exits(1), logger)
    restart = asyncio.ensure_future(process.restart(hang))
    await called.wait()
    await process.stop()
    assert await restart is False
    assert process.incarnation == 1


# ---- output


async def test_the_text_of_a_line_contains_its_arrival_time(logger):
    process = await run(programs.prints("hello"), logger)
    [line] = process.get_stdout()
    assert re.fullmatch(r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\] hello", str(line))
    assert line.raw == b"hello\n"
    assert line.at.tzinfo is not None


async def test_output_is_a_read_only_sequence(logger):
    process = await run(programs.bursts(1000), logger)
    lines = process.get_stdout()
    assert len(lines) == 1000
    assert [line.text for line in lines[10:13]] == ["10", "11", "12"]
    assert [line.text for line in lines[-3:]] == ["997", "998", "999"]
    assert lines[-1].text == lines[999].text == "999"
    assert [line.text for line in lines][:3] == ["0", "1", "2"]
    assert len(lines.between(lines[0].at, None)) == 1000
    assert lines.between(None, lines[0].at) == []
    with pytest.raises(IndexError):
        lines[1000]
    with pytest.raises(TypeError):
        lines[0] = "x"


async def test_both_streams_are_interleaved_in_the_order_of_arrival(logger):
    process = ManagedProcess(Command("cat", stdin=True), "child", logger)
    script = "read a; echo out1; read a; echo err1 >&2; read a; echo out2; exit 1"
    process = ManagedProcess(programs.shell(script, stdin=True), "child", logger)
    for _ in range(2):
        if process.incarnation:
            await process.restart()
        else:
            await process.start()
        for expected in ("out1", "err1", "out2"):
            await process.send(b"\n")
            await process.wait_for_line(expected, 10)
        await process.wait()
    combined = process.get_combined_output()
    result = [line.text for line in combined.interleaved]
    assert result == ["out1", "err1", "out2"] * 2
    assert combined.status.restarts == 1
    assert combined.to_dict()["stderr"][0]["text"] == "err1"


async def test_all_queries_work_after_the_process_has_died(logger):
    process = await run(programs.prints("last words", status=4), logger)
    report = process.get_report()
    assert report.last_lines[0].text == "last words"
    assert report.usage.peak_memory > 0
    assert report.to_dict()["exit_status"] == 4
    assert "last lines" in str(report)


# ---- max_size and spill


async def test_output_beyond_max_size_is_a_warning_and_a_counted_gap(logger):
    process = await run(programs.bursts(100_000), logger, max_size=1000)
    lines = process.get_stdout()
    assert process.exit_status == 0
    assert sum(len(line.raw) for line in lines) == 1000
    size = sum(len(f"{n}\n") for n in range(100_000))
    assert lines[-1].gap == size - 1000
    assert f"{size - 1000} bytes" in str(lines[-1])
    [entry] = await logger.get_logs(level="WARNING")
    assert entry.context["max_size"] == 1000
    assert "99999" in process.get_report().last_lines[-1].text


async def test_old_output_moves_to_the_disk_and_stays_complete(logger):
    """50 MB, more than the memory limit."""
    command = programs.python(
        "import sys\nfor n in range(500): sys.stdout.write(f'{n:09}' * 11111 + '\\n')"
    )
    process = await run(command, logger)
    lines = process.get_stdout()
    assert len(lines) == 500
    for number in (0, 1, 250, 499):
        assert lines[number].raw == b"%09d" % number * 11111 + b"\n"


# ---- capture


async def test_an_unterminated_last_line_is_captured_as_partial(logger):
    process = await run(programs.shell("printf 'one\\ntwo'"), logger)
    first, last = process.get_stdout()
    assert (first.partial, last.partial, last.text) == (False, True, "two")


async def test_a_grandchild_that_holds_the_pipe_delays_the_end_only_by_the_drain_bound(
    logger,
):
    process = ManagedProcess(
        programs.leaves_a_grandchild(), "child", logger, drain=0.05
    )
    await process.start()
    status = await process.wait()
    assert status.exit_status == 0
    assert process.get_report().capture == "drain bound"
    await process._lifecycle.until(lambda: process.is_settled)
    assert (await run(programs.exits(0), logger)).get_report().capture == "end of file"


async def test_python_warnings_of_a_child_become_warning_entries(logger):
    command = programs.python("import warnings; warnings.warn('old ways')")
    await run(command, logger, name="helper")
    [entry] = await logger.get_logs(level="WARNING", component="helper")
    assert entry.message == "old ways"
    assert entry.context["category"] == "UserWarning"


# ---- stop and wait


async def test_stop_ends_the_group_by_its_ladder(logger):
    ladder = Ladder((signal.SIGTERM, 0.1), (signal.SIGKILL, 5.0))
    process = ManagedProcess(programs.ignores_sigterm(), "child", logger, ladder=ladder)
    await process.start()
    await process.wait_for_line("ready")
    status = await process.stop()
    assert (status.exit_status, status.cause) == (-9, "stopped by us, escalated")
    steps = await logger.get_logs(pattern="Stopping")
    # The entry of the exit tells the first step of a normal stop.
    assert [entry.context["step"] for entry in steps] == ["SIGKILL"]
    (end,) = await logger.get_logs(pattern="Process stopped")
    assert end.message == "Process stopped (SIGKILL, escalated)"


async def test_stop_and_wait_are_idempotent(logger):
    process = ManagedProcess(programs.runs(), "child", logger)
    await process.start()
    first, second = await asyncio.gather(process.stop(), process.stop())
    assert first == second == await process.wait() == await process.stop()
    assert first.cause == "stopped by us"


async def test_each_stop_returns_even_if_a_restart_follows_at_once(logger):
    """Regression: a late waiter waited for the end of the next incarnation."""
    process = ManagedProcess(programs.runs(), "child", logger)
    await process.start()

    async def stop_and_restart():
        await process.stop()
        return await process.restart()

    async with asyncio.timeout(120):
        restarted, _ = await asyncio.gather(stop_and_restart(), process.stop())
    assert restarted
    assert process.status == "running"
    await process.stop()


async def test_repeated_waits_for_a_dead_process_do_not_block_the_loop(logger):
    """Regression: repeated waits during a backoff starved all other tasks."""
    policy = RestartPolicy("permanent", first_delay=0.01, max_delay=0.01)
    process = ManagedProcess(programs.shell("exit 1"), "child", logger, restart=policy)
    await process.start()
    async with asyncio.timeout(120):
        while not process.is_settled:
            await process.wait()
    assert process.state == "fatal"


async def test_a_stop_before_the_start_prevents_the_start(logger):
    process = ManagedProcess(programs.runs(), "child", logger)
    assert (await process.stop()).state == "exited"
    assert (process.pid, process.incarnation) == (None, 0)


# ---- stdin, following, bad input


async def test_concurrent_writes_to_stdin_are_complete_and_not_interleaved(logger):
    """More bytes than a pipe holds."""
    process = ManagedProcess(programs.echoes(), "child", logger)
    await process.start()
    one, two = b"a" * 300_000 + b"\n", b"b" * 300_000 + b"\n"
    await asyncio.gather(process.send(one), process.send(two))
    process.close_stdin()
    await process.wait()
    assert {line.raw for line in process.get_stdout()} == {one, two}


async def test_a_write_to_a_child_that_does_not_read_times_out(logger):
    process = ManagedProcess(programs.never_reads(), "child", logger)
    await process.start()
    with pytest.raises(WriteStalled) as caught:
        await process.send(bytes(1_000_000), timeout=0.1)
    assert 0 < caught.value.written < 1_000_000
    await process.stop()


async def test_a_write_to_a_dead_child_names_the_child(logger):
    process = await run(programs.exits(9), logger, name="player")
    with pytest.raises(ProcessDead, match=r"'player' is dead.*exit status 9"):
        await process.send(b"x")


async def test_a_write_to_a_child_that_dies_meanwhile_names_the_child(logger):
    process = ManagedProcess(programs.never_reads(), "player", logger)
    await process.start()
    writing = asyncio.ensure_future(process.send(bytes(1_000_000)))
    await asyncio.sleep(0)
    os.kill(process.pid, signal.SIGKILL)
    with pytest.raises(ProcessDead, match="player"):
        await writing
    await process.wait()


async def test_a_write_without_a_stdin_says_how_to_get_one(logger):
    process = ManagedProcess(programs.runs(), "child", logger)
    await process.start()
    with pytest.raises(InvalidConfiguration, match="stdin=True"):
        await process.send(b"x")
    await process.stop()


async def test_binary_stdout_reaches_its_consumer_while_stderr_is_captured(logger):
    """Byte for byte, across a restart, with a slow consumer."""
    script = "import sys; sys.stderr.write('log\\n'); sys.stdout.buffer.write(bytes(range(256)) * 4000)"
    command = programs.python(script, stdout="binary")
    process = ManagedProcess(command, "mic", logger)
    received = b""
    await process.start()
    while len(received) < 1_024_000:
        received += await process.receive()
    await process.wait()
    assert received == bytes(range(256)) * 4000
    assert process.get_stderr()[0].text == "log"
    assert len(process.get_stdout()) == 0
    with pytest.raises(ProcessDead):
        await process.receive()


async def test_follow_yields_every_line_across_restarts(logger):
    process = ManagedProcess(programs.echoes(), "child", logger)
    await process.start()
    received = []
    lines = process.follow()
    await process.send(b"one\n")
    received.append((await anext(lines)).text)
    await process.send(b"two\nthr")
    received.append((await anext(lines)).text)
    await process.send(b"ee\nfour")
    process.close_stdin()
    received += [line.text async for line in lines]
    assert received == ["one", "two", "three", "four"]


async def test_wait_for_line_returns_the_line_or_quotes_the_newest_one(logger):
    process = ManagedProcess(programs.runs(), "child", logger)
    await process.start()
    assert (await process.wait_for_line("^rea")).text == "ready"
    with pytest.raises(WaitExpired, match="newest line is 'ready'"):
        await process.wait_for_line("never", timeout=0.05)
    await process.stop()
    silent = ManagedProcess(["sleep", "60"], "silent", logger)
    await silent.start()
    with pytest.raises(WaitExpired, match=r"in 0\.05 s; it wrote nothing"):
        await silent.wait_for_line("never", timeout=0.05)
    await silent.stop()
    with pytest.raises(ProcessDead):
        await process.wait_for_line("never")


@pytest.mark.parametrize(
    ("command", "path", "hint"),
    [
        (Command("no-such-program-here"), "no-such-program-here", "PATH"),
        (Command("/etc/passwd"), "/etc/passwd", "executable"),
        (Command("/tmp"), "/tmp", "directory"),
        (Command("true", cwd="/no/such/dir"), "/no/such/dir", "does not exist"),
        (Command("true", cwd="/etc/passwd"), "/etc/passwd", "is not a directory"),
    ],
    ids=["missing", "not executable", "a directory", "no such cwd", "a file as cwd"],
)
async def test_a_refused_spawn_names_the_path_at_fault(logger, command, path, hint):
    process = ManagedProcess(command, "child", logger)
    with pytest.raises(SpawnFailed) as caught:
        await process.start()
    assert caught.value.path == path
    assert caught.value.errno in {2, 13, 20}
    assert hint in str(caught.value)
    assert process.get_report().cause == "spawn failed"


async def test_a_script_with_line_ends_of_windows_is_named_as_one(logger, tmp_path):
    script = tmp_path / "run.sh"
    script.write_bytes(b"#!/bin/sh\r\necho hi\r\n")
    script.chmod(0o755)
    with pytest.raises(SpawnFailed, match="ends with a carriage return"):
        await ManagedProcess([str(script)], "child", logger).start()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"process": "sox"}, "Command"),
        ({"name": ""}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"max_size": 0}, "max_size"),
        ({"drain": -1.0}, "drain"),
    ],
)
async def test_an_invalid_argument_raises_an_error_of_this_package(
    logger, arguments, message
):
    good = {"process": programs.runs(), "name": "child", "logger": logger}
    with pytest.raises(InvalidConfiguration, match=message):
        ManagedProcess(**{**good, **arguments})


@pytest.mark.parametrize(
    "arguments",
    [
        {"program": ""},
        {"program": "a\0b"},
        {"program": "true", "env": {"A=B": "c"}},
        {"program": "true", "stdout": "text"},
        {"program": "true", "options": {"preexec_fn": print}},
    ],
)
def test_a_command_refuses_invalid_arguments(arguments):
    with pytest.raises(InvalidConfiguration):
        Command(**arguments)


async def test_an_adopted_process_cannot_be_started_again_without_a_function(logger):
    spawned = await asyncio.create_subprocess_exec("true")
    process = ManagedProcess(spawned, "child", logger)
    await process.wait()
    await process._lifecycle.until(lambda: process.is_settled)
    with pytest.raises(NotStarted, match="restart function"):
        await process.start()
    assert await process.restart() is False


async def test_an_existing_process_cannot_be_managed_outside_the_loop(logger):
    spawned = await asyncio.create_subprocess_exec("true")
    await spawned.wait()

    def outside():
        with pytest.raises(NotStarted, match="event loop"):
            ManagedProcess(spawned, "child", logger)

    await anyio.to_thread.run_sync(outside)


async def test_the_variables_of_a_command_are_added_to_the_environment(logger):
    """None removes a variable."""
    os.environ["REALTALK_TEST"] = "there"
    try:
        script = "import os; print(os.environ.get('REALTALK_TEST'), os.environ['NEW'])"
        command = programs.python(script, env={"NEW": "1", "REALTALK_TEST": None})
        process = await run(command, logger)
    finally:
        del os.environ["REALTALK_TEST"]
    assert process.get_stdout()[0].text == "None 1"


async def test_a_restart_by_policy_calls_the_recovery_function(logger):
    """If the function fails, the command itself is run again."""
    reports = []

    def recover(report):
        reports.append(report.incarnation)
        if len(reports) == 1:
            raise ZeroDivisionError
        return programs.exits(0)

    from dataclasses import replace

    policy = replace(TRANSIENT, first_delay=0.0)
    process = ManagedProcess(
        programs.exits(1), "child", logger, restart=policy, recover=recover
    )
    await process.start()
    await process._lifecycle.until(lambda: process.is_settled)
    assert reports == [1, 2]
    assert process.exit_status == 0
    assert process.get_history().exit_statuses == [1, 1, 0]
    errors = await logger.get_logs(level="ERROR", pattern="Callback failed")
    assert "ZeroDivisionError" in errors[0].context["reason"]


def test_a_process_is_never_restarted_by_default():
    assert TEMPORARY.mode == "temporary"
    assert sys.platform != "win32"


async def test_binary_output_in_the_pipe_survives_the_exit(logger):
    size = 300_000  # more than the buffer, less than buffer and pipe together
    script = f"import sys; sys.stdout.buffer.write(b'x' * {size})"
    command = programs.python(script, stdout="binary")
    process = await run(command, logger, drain=0.2)
    assert process.get_report().capture == "end of file"
    received = b""
    while len(received) < size:
        received += await process.receive()
    assert len(received) == size


async def test_a_program_that_is_blocked_by_its_consumer_can_still_end(logger):
    """It flushes on SIGTERM, and the app does not receive."""
    script = (
        "import os, signal, sys\n"
        "signal.signal(signal.SIGTERM, lambda *_: stop.append(1))\n"
        "stop = []\n"
        "while not stop: os.write(1, bytes(4096))\n"
        "os.write(1, b'end')"
    )
    command = programs.python(script, stdout="binary")
    ladder = Ladder((signal.SIGTERM, 10.0), (signal.SIGKILL, 1.0))
    process = ManagedProcess(command, "mic", logger, ladder=ladder)
    await process.start()
    received = await process.receive()
    await asyncio.sleep(0.1)  # until buffer and pipe are full
    status = await process.stop()
    assert (status.exit_status, status.cause) == (0, "stopped by us")
    with pytest.raises(ProcessDead):
        while True:
            received = received[-3:] + await process.receive()
    assert received.endswith(b"end")


async def test_a_restart_during_a_stop_is_refused(logger):
    """Also while its leader is dead and its group is not."""
    script = "(trap '' TERM; echo ready; exec sleep 1000) & exec sleep 1000"
    ladder = Ladder((signal.SIGTERM, 0.3), (signal.SIGKILL, 5.0))
    process = ManagedProcess(programs.shell(script), "child", logger, ladder=ladder)
    await process.start()
    await process.wait_for_line("ready")
    stop = asyncio.ensure_future(process.stop())
    await process._lifecycle.until(lambda: process.status == "dead")
    assert not stop.done(), "a member of the group ignores SIGTERM"
    assert await process.restart() is False
    await stop
    assert (process.incarnation, process.state) == (1, "exited")
    assert await process.restart(), "when it is over it may be restarted"
    await process.stop()


async def test_a_failed_recovery_does_not_change_the_recorded_cause(logger):
    spawned = await asyncio.create_subprocess_exec("sh", "-c", "exit 7")
    process = ManagedProcess(
        spawned,
        "child",
        logger,
        restart=TRANSIENT.__class__(max_failures=1, first_delay=0.0),
        recover=lambda: 1 / 0,
    )
    await process._lifecycle.until(lambda: process.is_settled)
    [record] = process.get_history().incarnations
    assert (record.exit_status, record.cause) == (7, "failed")
    assert process.state == "fatal"
    assert "ZeroDivisionError" in process.reason


async def test_follow_begins_at_the_call(logger):
    """Not at the first iteration."""
    process = ManagedProcess(programs.echoes(), "child", logger)
    await process.start()
    await process.send(b"before\n")
    await process.wait_for_line("before")
    lines = process.follow()
    await process.send(b"after\n")
    await process.wait_for_line("after")
    assert (await anext(lines)).text == "after"
    await lines.aclose()
    await process.stop()


async def test_follow_of_both_streams_keeps_the_order_of_arrival(logger):
    """Also with more lines than one turn of the loop yields."""
    script = (
        "import sys\n"
        "for n in range(2000):\n"
        "    stream = sys.stdout if n % 3 else sys.stderr\n"
        "    stream.write(f'{n}\\n'); stream.flush()"
    )
    process = await run(programs.python(script), logger)
    result = [line.sequence async for line in process.follow(history=True)]
    assert result == sorted(result)
    assert len(result) == 2000


async def test_a_process_that_survives_its_ladder_is_reported_and_not_replaced(logger):
    """It is still alive; its later exit is noticed."""
    ladder = Ladder((signal.SIGKILL, 0.0))
    command = programs.python(  # the kernel needs time to release a large process
        "x = bytearray(100_000_000); print('ready'); import time; time.sleep(1000)"
    )
    process = ManagedProcess(command, "child", logger, ladder=ladder)
    await process.start()
    await process.wait_for_line("ready")
    status = await process.stop()
    if status.status == "running":  # the kill took longer than 0 s
        if process.status == "running":
            assert (await process.start()).incarnation == 1
        if process.status == "running":
            assert await process.restart() is False
        await process._lifecycle.until(lambda: process.status == "dead")
        [entry] = await logger.get_logs(pattern="cannot be killed")
        assert str(process.pid) in entry.context["survivors"][0]
    assert process.exit_status == -9


async def test_a_signal_reaches_the_program_or_names_a_dead_one(logger):
    process = ManagedProcess(programs.runs(), "child", logger)
    await process.start()
    with pytest.raises(InvalidConfiguration, match="999"):
        process.send_signal(999)
    process.send_signal(signal.SIGUSR1)
    assert (await process.wait()).exit_status == -signal.SIGUSR1
    with pytest.raises(ProcessDead, match="SIGTERM"):
        process.send_signal(signal.SIGTERM)


def test_all_queries_work_after_the_loop_has_ended(log_path):
    async def app():
        return await run(programs.prints("hello", status=3), Logger(log_path))

    process = asyncio.run(app())
    assert process.get_stdout()[0].text == "hello"
    assert process.process.returncode == 3
    assert process.process.pid == process.pid


async def test_lines_are_counted_while_the_loop_runs(logger, monkeypatch):
    """Later calls count only what is new."""
    monkeypatch.setattr("realtalk_async.supervision.process_streams.COUNTED_AT_ONCE", 1)
    script = "yes 0123456789 | head -n 100000; printf rest; read _; echo; echo end"
    process = ManagedProcess(programs.shell(script, stdin=True), "child", logger)
    await process.start()
    while process.last_line("stdout") != "rest":
        await asyncio.sleep(0.001)
    turns = []
    counting = asyncio.ensure_future(process.count_lines("stdout"))
    while not counting.done():
        turns.append(1)
        await asyncio.sleep(0)
    assert await counting == 100_000
    assert len(turns) >= 10
    process.close_stdin()
    await process.wait()
    assert await process.count_lines("stdout") == 100_002
    with pytest.raises(InvalidConfiguration, match="stream"):
        await process.count_lines("both")


async def test_a_refused_restart_is_told_to_people_and_subscribers(manager, capsys):
    """Its result is only False."""
    refused = []
    manager.subscribe(refused.append, events.RestartRefused)
    manager.print_events(sys.stdout)
    process = await manager.start("child", programs.runs())
    assert await process.restart() is False
    assert await manager.restart_process("child") is False
    assert [event.reason for event in refused] == [process.restart_refusal] * 2
    assert refused[0].pid == process.pid
    assert (
        "child: WARNING: Restart refused: it is running; stop it"
        in capsys.readouterr().out
    )


async def test_the_reason_why_a_restart_is_refused_can_be_asked_for(logger):
    process = ManagedProcess(programs.runs(), "child", logger)
    assert process.restart_refusal == ""
    await process.start()
    assert await process.restart() is False
    assert "it is running" in process.restart_refusal
    assert "ProcessManager.restart" in process.restart_refusal
    await process.stop()
    assert process.restart_refusal == ""
