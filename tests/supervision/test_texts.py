"""What people read of a failure and of a stop, with real children."""

import sys

import anyio
import pytest

from realtalk_async import Command, Probe, RestartPolicy, events
from realtalk_async.exceptions import CriticalProcessFailed, GaveUp
from realtalk_async.supervision import ProcessManager
from realtalk_async.testing import programs

WRONG_IMPORT = Command(sys.executable, "-c", "print('hello'); import nope")
WORDS = "ModuleNotFoundError: No module named 'nope'"
FAST = RestartPolicy(max_failures=1, first_delay=0.01, jitter=False)


async def test_a_wrong_import_is_told_by_its_own_words_what_was_tried_and_the_log(
    logger,
):
    seen = []
    with pytest.raises(CriticalProcessFailed) as caught:
        async with ProcessManager(logger) as manager:
            manager.subscribe(seen.append)
            await manager.start("worker", WRONG_IMPORT, restart=FAST, critical=True)
            await anyio.sleep_forever()
    error = caught.value
    assert str(error).startswith(
        f"{WORDS}; gave up on 'worker': exit status 1, 2 times in a row; failure score "
    )
    assert str(error).endswith(f"raise max_failures; log: {logger.path}")
    assert (error.last_words, error.log) == (WORDS, str(logger.path))
    first, second = (one for one in seen if isinstance(one, events.ProcessExited))
    assert str(first) == (
        f"worker died: {WORDS}; exit status 1 after 00:00:00; log: {logger.path}"
    )
    assert ", incarnation 2; log: " in str(second)


async def test_a_process_that_never_became_ready_is_told_alike(logger):
    async with ProcessManager(logger) as manager:
        with pytest.raises(GaveUp) as caught:
            await manager.start(
                "worker",
                WRONG_IMPORT,
                restart="temporary",
                probes=[Probe.line("never")],
            )
        assert str(caught.value).startswith(f"{WORDS}; gave up on 'worker': exit")
        assert str(caught.value).endswith(f"; log: {logger.path}")


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo out; echo err >&2; exit 1", "err"),
        ("echo out; exit 1", "out"),
        ("echo why; echo '-----'; exit 1", "why"),
        ("exit 1", ""),
        ("echo out; kill -9 $$", ""),
        ("echo err >&2; kill -9 $$", "err"),
        ("echo 'bind: Address already in use' >&2; echo bye >&2; exit 1", "bind: "),
        ("echo out; exit 0", ""),
    ],
)
async def test_the_last_words_are_the_line_that_says_why(logger, script, words):
    async with ProcessManager(logger) as manager:
        child = await manager.start("a", programs.shell(script), restart="temporary")
        await child.wait_until_settled()
        found = child.get_report().last_words
    assert found.startswith(words)
    assert bool(found) is bool(words)


async def test_a_normal_stop_is_one_line(logger):
    seen = []
    async with ProcessManager(logger) as manager:
        meter = await manager.start("meter", programs.runs())
        manager.subscribe(seen.append)
        await meter.stop()
    assert [str(one) for one in seen if not one.is_detail] == [
        "meter stopped (SIGTERM) after 00:00:00"
    ]
    entries = await logger.get_logs(component="meter", n=100)
    assert [one.message for one in entries] == [
        "Process started",
        "Process stopped (SIGTERM)",
    ]


async def test_a_stop_tells_the_step_and_an_exit_that_does_not_follow_from_it(logger):
    script = "trap 'exit 3' TERM; echo ready; while :; do sleep 0.01; done"
    async with ProcessManager(logger) as manager:
        child = await manager.start("a", programs.shell(script))
        await child.wait_for_line("ready")
        await child.stop()
        summary = child.get_report().summary
    assert summary.startswith("stopped (SIGTERM; exit status 3) after")


async def test_the_time_of_the_next_start_is_told_once(logger):
    slow = RestartPolicy(first_delay=30.0, jitter=False)
    seen = []
    async with ProcessManager(logger) as manager:
        manager.subscribe(seen.append)
        child = await manager.start("a", programs.exits(1), restart=slow)
        await child.wait()
        with anyio.fail_after(5):
            while child.state != "backoff":
                await anyio.sleep(0.01)
        (scheduled,) = (one for one in seen if isinstance(one, events.RestartScheduled))
        assert str(scheduled) == (
            "a will be restarted in 30.00 s: exit status 1; failure score 1.0 of 5"
        )
        assert child.reason == (
            "exit status 1; failure score 1.0 of 5; next start in 30.00 s"
        )


async def test_a_refused_connection_is_one_line(logger):
    """The traceback shows only code of libraries."""
    refused = "ConnectionRefusedError: [Errno 111] refused"

    async def connect():
        try:
            raise ValueError("the library's own")
        except ValueError as error:
            raise ConnectionRefusedError(111, "refused") from error

    async with ProcessManager(logger) as manager:
        task = await manager.start_task("link", connect, restart="temporary")
        await task.wait_until_settled()
    report = task.get_report()
    assert [line.text for line in report.last_lines] == [refused]
    assert report.last_words == refused
    (entry,) = await logger.get_logs(pattern="Task failed")
    assert entry.context["reason"] == refused
    assert "traceback" not in entry.context


async def test_an_error_of_the_task_itself_has_its_traceback(logger):
    async def connect():
        raise ValueError("wrong")

    async with ProcessManager(logger) as manager:
        task = await manager.start_task("link", connect, restart="temporary")
        await task.wait_until_settled()
    (entry,) = await logger.get_logs(pattern="Task failed")
    assert "in connect" in entry.context["traceback"]
