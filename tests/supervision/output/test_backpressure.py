"""A disk that is behind makes the writers of output wait, also after the child's exit."""

import asyncio
import os
import threading

import pytest

from realtalk_async.supervision import Command, ManagedProcess
from realtalk_async.supervision.kernel.pipes import LARGE_PIPE
from realtalk_async.supervision.output import capture as capture_module
from realtalk_async.supervision.output import spill

FLOOD = "yes 0123456789012345678901234567890123456789"
PIPE = asyncio.subprocess.PIPE


@pytest.fixture
def stalled_disk(monkeypatch):
    """Let every write of old output wait until the end of the test."""
    goes_on = threading.Event()
    write = os.pwrite

    def wait(file, data, offset):
        assert goes_on.wait(120)
        return write(file, data, offset)

    monkeypatch.setattr("os.pwrite", wait)
    yield goes_on
    goes_on.set()


def in_memory(process):
    """Return the bytes of output of both streams that are held in memory."""
    stores = (buffer.store for buffer in process._capture.buffers.values())
    return sum(store.bytes_in_memory for store in stores)


def assert_bounded(process):
    limit = spill.BUDGET + spill.BACKLOG + LARGE_PIPE + 2 * spill.LARGEST_SEGMENT
    assert spill.BUDGET < in_memory(process) <= limit


@pytest.mark.usefixtures("stalled_disk")
@pytest.mark.parametrize("stream", ["", " >&2"])
async def test_a_grandchild_that_floods_after_the_exit_fills_no_memory(logger, stream):
    """It goes on for the whole drain; the rest is lost, and that is said."""
    command = Command("sh", "-c", f"{FLOOD}{stream} & exit 0")
    process = ManagedProcess(command, "child", logger, drain=0.5)
    await process.start()
    await process.wait()
    assert_bounded(process)
    assert process.get_report().capture == "drain bound"


async def test_binary_output_that_nobody_receives_fills_no_memory(logger, monkeypatch):
    """Sixteen megabytes wait for a late receiver at most."""
    monkeypatch.setattr(capture_module, "STOPPING_BACKLOG", 1 << 20)
    command = Command("sh", "-c", f"{FLOOD} & exit 0", stdout="binary")
    process = ManagedProcess(command, "child", logger, drain=0.3)
    await process.start()
    await process.wait()
    assert 1 << 20 <= process._capture._backlog_size <= (1 << 20) + 2 * LARGE_PIPE


async def test_an_adopted_process_waits_for_the_disk_as_well(
    logger, stalled_disk, monkeypatch
):
    spawned = await asyncio.create_subprocess_exec(
        "sh", "-c", f"{FLOOD} | head -c 30000000", stdout=PIPE
    )
    process = ManagedProcess(spawned, "child", logger)
    paused = asyncio.Event()
    listener = process._capture.listener
    pause = listener.pause_reading

    def note(stream):
        pause(stream)
        paused.set()

    monkeypatch.setattr(listener, "pause_reading", note)
    async with asyncio.timeout(120):
        await paused.wait()
    assert_bounded(process)
    assert process.status == "running"
    stalled_disk.set()
    await process.wait()
    assert process._capture.buffers["stdout"].size == 30_000_000


@pytest.mark.usefixtures("stalled_disk")
async def test_the_last_words_are_kept_although_the_disk_is_behind(logger):
    script = f"{FLOOD} | head -c 6500000; echo the end"
    command = Command("sh", "-c", script)
    process = ManagedProcess(command, "child", logger, drain=0.3)
    await process.start()
    await process.wait()
    assert process.get_stdout()[-1].text.endswith("the end")
    assert process.get_report().capture == "end of file"
