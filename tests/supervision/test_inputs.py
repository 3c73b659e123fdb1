"""The output of one process is the stdin of another, whichever of them restarts."""

import asyncio
import signal
from pathlib import Path

import pytest

from realtalk_async import (
    ChildSpec,
    Command,
    InvalidConfiguration,
    ManagedProcess,
    RestartPolicy,
    UnknownProcess,
)
from realtalk_async.supervision.output import tap

AT_ONCE = RestartPolicy("permanent", first_delay=0, max_failures=1000)
COUNTS = "i=0; while echo $$ $((i+=1)); do sleep 0.01; done"


async def until(condition):
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


def texts(process):
    return [line.text for line in process.get_stdout()]


@pytest.mark.parametrize("stdout", ["lines", "binary"])
async def test_the_flow_outlives_a_restart_of_the_reader_and_loses_nothing(
    stdout, manager
):
    """Also what the dead reader had not yet read from its pipe."""
    source = await manager.start("source", Command("sh", "-c", COUNTS, stdout=stdout))
    # It reads ten lines byte by byte, so that no other line is in its hands, and stops.
    ten = (
        "for i in 0 1 2 3 4 5 6 7 8 9; do read line; echo $$ $line; done; kill -STOP $$"
    )
    reader = Command("sh", "-c", ten, stdin=source.stdout)
    meter = await manager.start("meter", reader, restart=AT_ONCE)
    for number in range(1, 4):
        await until(lambda n=number: len(texts(meter)) == 10 * n)
        size = source.bytes_received("stdout")[0]
        await until(lambda n=size: source.bytes_received("stdout")[0] > n + 50)
        meter.send_signal(signal.SIGKILL)
    numbers = [int(one.split()[2]) for one in texts(meter)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert source.restarts == 0


async def test_the_flow_outlives_a_restart_of_the_source(manager):
    source = await manager.start("source", Command("sh", "-c", COUNTS), restart=AT_ONCE)
    first = source.pid
    meter = await manager.start("meter", Command("cat", stdin="source.stdout"))
    await until(lambda: len(texts(meter)) > 5)
    source.send_signal(signal.SIGKILL)
    await until(lambda: any(not one.startswith(f"{first} ") for one in texts(meter)))
    assert meter.restarts == 0
    count = len(texts(meter))
    assert texts(meter)[: count - 1] == texts(source)[: count - 1]


async def test_the_reader_reads_everything_and_then_end_of_file(manager):
    """Also what was written before it was started."""
    source = await manager.start(
        "source", ["seq", "100000"], restart="temporary", oneshot=True
    )
    for number in range(2):
        name = f"count-{number}"
        count = await manager.start(
            name, Command("wc", "-l", stdin=source.stdout), restart="temporary"
        )
        status = await count.wait()
        assert status.exit_status == 0
        assert texts(count) == ["100000"]


async def test_stderr_can_be_read_as_well(manager):
    source = await manager.start(
        "source", Command.shell("echo out; echo err >&2"), restart="temporary"
    )
    cat = await manager.start(
        "cat", Command("cat", stdin=source.stderr), restart="temporary"
    )
    await cat.wait()
    assert texts(cat) == ["err"]


@pytest.mark.parametrize("stdout", ["lines", "binary"])
async def test_what_nobody_reads_is_bounded_and_counted(
    stdout, manager, logger, monkeypatch
):
    monkeypatch.setattr(tap, "BUDGET", 100_000)
    flood = "read go; head -c 3000000 /dev/zero; echo done >&2; exec sleep 1000"
    command = Command("sh", "-c", flood, stdin=True, stdout=stdout)
    source = await manager.start("source", command)
    reader = Command("sh", "-c", "head -c 1000 | wc -c", stdin="source.stdout")
    meter = await manager.start("meter", reader, restart="temporary")
    await meter.stop()
    await source.send(b"go\n")
    await source.wait_for_line("done", 60)  # it is not blocked although nothing reads
    await until(lambda: source.bytes_received("stdout")[0] == 3_000_000)
    await manager.restart("meter")
    await meter.wait()
    assert texts(meter) == ["1000"]
    (entry,) = await logger.get_logs(component="meter", pattern="were skipped")
    assert 2_800_000 <= entry.context["bytes"] < 3_000_000
    assert entry.level == "WARNING"


async def test_a_slow_reader_of_a_binary_stdout_blocks_the_source_not_the_loop(manager):
    flood = "head -c 3000000 /dev/zero; echo done >&2; exec sleep 1000"
    command = Command("sh", "-c", flood, stdout="binary")
    source = await manager.start("source", command, restart="temporary")
    meter = await manager.start(
        "meter",
        Command.shell("kill -STOP $$; wc -c", stdin="source.stdout"),
        restart="temporary",
    )
    state = Path(f"/proc/{meter.pid}/stat")
    await until(lambda: ") T " in state.read_text())
    await asyncio.sleep(0.1)
    assert source.last_line("stderr") == ""
    meter.send_signal(signal.SIGCONT)
    await source.wait_for_line("done", 60)
    source.send_signal(signal.SIGTERM)
    await meter.wait()
    assert texts(meter) == ["3000000"]


async def test_mistakes_are_refused_by_name(manager, logger):
    with pytest.raises(UnknownProcess, match="nobody"):
        await manager.start("one", Command("cat", stdin="nobody.stdout"))
    with pytest.raises(InvalidConfiguration, match=r"'one' -> 'one'"):
        await manager.start("one", Command("cat", stdin="one.stdout"))
    with pytest.raises(InvalidConfiguration, match=r"such as 'recorder\.stdout'"):
        Command("cat", stdin="recorder")
    await manager.start_task("task", lambda: asyncio.sleep(1000))
    with pytest.raises(InvalidConfiguration, match="'task' is a task"):
        await manager.start("one", Command("cat", stdin="task.stdout"))
    with pytest.raises(InvalidConfiguration, match="needs a ProcessManager"):
        ManagedProcess(Command("cat", stdin="a.stdout"), "one", logger)
    assert not manager.processes


async def test_a_circle_is_refused_and_a_second_reader_of_a_binary_stdout(manager):
    once = {"restart": "temporary"}
    await manager.start("a", ["true"], **once)
    await manager.start("b", Command("cat", stdin="a.stdout"), **once)
    await manager.processes["a"].wait()
    with pytest.raises(InvalidConfiguration, match=r"'b' -> 'a'|'a' -> 'b'"):
        await manager.start("a", Command("cat", stdin="b.stdout"), **once)
    await manager.start("pcm", Command("sleep", "1000", stdout="binary"))
    await manager.start("c", Command("cat", stdin="pcm.stdout"))
    with pytest.raises(InvalidConfiguration, match="'c' reads it already"):
        await manager.start("d", Command("cat", stdin="pcm.stdout"))


async def test_a_reader_waits_while_its_source_is_stopped(manager):
    source = await manager.start("source", Command("sh", "-c", COUNTS))
    meter = await manager.start("meter", Command("cat", stdin=source.stdout))
    for _ in range(2):
        count = len(texts(meter))
        await until(lambda n=count: len(texts(meter)) > n)
        await manager.stop("source")
        await manager.restart("source")
    assert meter.incarnation == 1
    assert meter.status == "running"


async def test_a_source_that_a_new_list_replaces_is_read_on(manager):
    def specs(word):
        loop = f"while echo {word}; do sleep 0.01; done"
        return [
            ChildSpec("cat", Command("cat", stdin="source.stdout")),
            ChildSpec("source", Command.shell(loop)),
        ]

    await manager.apply(specs("one"))
    await until(lambda: "one" in texts(manager.processes["cat"]))
    difference = await manager.apply(specs("two"))
    assert "source" in difference.restarted
    await until(lambda: "two" in texts(manager.processes["cat"]))
