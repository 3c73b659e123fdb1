"""The ends of a child's pipes in this process: the sizes and times of reads."""

import asyncio
import contextlib
import errno
import fcntl
import os
import select
from functools import partial

import pytest

from realtalk_async.supervision.kernel import pipes
from realtalk_async.supervision.kernel.pipes import PipeReader, PipeWriter


@pytest.fixture
def pipe():
    """Yield a pipe whose writing end the test holds."""
    reading, writing = os.pipe()
    yield reading, writing
    for end in (reading, writing):
        with contextlib.suppress(OSError):  # its owner has closed it
            os.close(end)


class Receiver:
    """Collects the bytes of a reader."""

    def __init__(self, size=1 << 16):
        self.chunks, self.ends = [], []
        self.memory = memoryview(bytearray(size))

    def receive(self, stream, data, _now):
        assert stream == "stdout"
        self.chunks.append(bytes(data))

    def read(self, descriptor, *, memory=True):
        """Return a reader that delivers to this receiver."""
        return PipeReader(
            descriptor,
            "stdout",
            self.receive,
            get_memory=lambda _: self.memory if memory else None,
            on_end=lambda: self.ends.append(True),
            on_error=print,
        )


async def until(condition):
    async with asyncio.timeout(120):
        while not condition():
            await asyncio.sleep(0.001)


async def test_bytes_are_read_into_the_offered_buffer(pipe):
    receiver = Receiver(4)
    reader = receiver.read(pipe[0])
    os.write(pipe[1], b"abcdefg")
    await until(lambda: len(receiver.chunks) == 2)
    assert receiver.chunks == [b"abcd", b"efg"]
    os.close(pipe[1])
    assert await reader.ended is True


async def test_a_closed_reader_reports_that_it_has_not_reached_the_end(pipe):
    reader = Receiver().read(pipe[0], memory=False)
    reader.close()
    reader.close()
    assert await reader.ended is False


async def test_lines_that_arrive_quickly_are_read_in_batches(pipe):
    receiver = Receiver()
    reader = receiver.read(pipe[0])
    for number in range(2_000):
        os.write(pipe[1], b"%04d\n" % number)
        await asyncio.sleep(0)
    os.close(pipe[1])
    assert await reader.ended is True
    assert b"".join(receiver.chunks) == b"".join(b"%04d\n" % n for n in range(2_000))
    assert len(receiver.chunks) < 1_000


@pytest.mark.parametrize("call", ["close", "pause"])
async def test_a_steady_trickle_is_not_read_after_close_or_pause(pipe, call):
    receiver = Receiver()
    reader = receiver.read(pipe[0], memory=False)
    for _ in range(50):
        os.write(pipe[1], b"x")
        await asyncio.sleep(0)
    getattr(reader, call)()
    count = len(receiver.chunks)
    if call == "pause":
        os.write(pipe[1], b"x")
    await asyncio.sleep(0.01)
    assert len(receiver.chunks) == count
    reader.close()
    assert await reader.ended is False


async def test_a_paused_reader_leaves_the_rest_in_the_pipe_until_it_is_resumed(pipe):
    receiver = Receiver(4)
    reader = receiver.read(pipe[0])
    os.write(pipe[1], b"abcdefgh")
    await until(lambda: receiver.chunks)
    reader.pause()
    received = list(receiver.chunks)
    for _ in range(5):
        await asyncio.sleep(0)
    assert receiver.chunks == received
    reader.resume()
    await until(lambda: b"".join(receiver.chunks) == b"abcdefgh")
    reader.close()


def refuse(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


async def test_a_reader_is_resumed_although_the_system_watches_no_more(
    pipe, monkeypatch
):
    """Otherwise its child would wait for ever."""
    receiver = Receiver()
    reader = receiver.read(pipe[0])
    reader.pause()
    os.write(pipe[1], b"abc")
    monkeypatch.setattr(select, "epoll", refuse)
    reader.resume()
    await until(lambda: receiver.chunks == [b"abc"])
    os.write(pipe[1], b"def")
    await until(lambda: receiver.chunks == [b"abc", b"def"])
    reader.close()


async def test_a_write_waits_although_the_system_watches_no_more(pipe, monkeypatch):
    for end in pipe:
        os.set_blocking(end, False)
    writer, data = PipeWriter(pipe[1]), bytes(1 << 17)
    monkeypatch.setattr(asyncio.get_running_loop(), "add_writer", refuse)
    task = asyncio.create_task(writer.write(data, [0]))
    received = 0
    while received < len(data):
        await asyncio.sleep(0)
        with contextlib.suppress(BlockingIOError):
            received += len(os.read(pipe[0], 1 << 16))
    await task
    writer.close()


async def test_a_pipe_that_is_full_repeatedly_is_enlarged(pipe):
    """A pipe that is full once is not: the system limits the memory of large pipes."""
    size = partial(fcntl.fcntl, pipe[0], fcntl.F_GETPIPE_SZ)
    receiver, before = Receiver(1 << 20), size()
    reader = receiver.read(pipe[0])
    os.write(pipe[1], bytes(before))
    await until(lambda: receiver.chunks)
    assert size() == before
    while size() == before:
        os.write(pipe[1], bytes(before))
        read = len(receiver.chunks)
        while len(receiver.chunks) == read:
            await asyncio.sleep(0)
    assert size() == pipes.LARGE_PIPE
    reader.close()


async def test_a_write_to_a_closed_pipe_raises(pipe):
    os.close(pipe[0])
    writer = PipeWriter(pipe[1])
    with pytest.raises(BrokenPipeError):
        await writer.write(b"x", [0])
    writer.close()
    with pytest.raises(BrokenPipeError):
        await writer.write(b"x", [0])


async def test_closing_ends_a_waiting_write(pipe):
    writer = PipeWriter(pipe[1])
    progress = [0]
    writing = asyncio.ensure_future(writer.write(bytes(1_000_000), progress))
    await until(lambda: progress[0] > 0)
    writer.close()
    with pytest.raises(BrokenPipeError):
        await writing
    assert 0 < progress[0] < 1_000_000


@pytest.mark.parametrize("call", ["read_to_end", "read_rest"])
async def test_the_rest_of_an_exited_child_is_read_to_its_end(pipe, call):
    receiver = Receiver()
    reader = receiver.read(pipe[0])
    os.write(pipe[1], b"x" * 50_000)
    os.close(pipe[1])
    getattr(reader, call)()
    assert await reader.ended
    assert (b"".join(receiver.chunks), receiver.ends) == (b"x" * 50_000, [True])


async def test_a_reader_that_reads_to_the_end_can_be_paused(pipe):
    """A grandchild may go on writing; what it writes must not fill the memory."""
    receiver = Receiver()
    reader = receiver.read(pipe[0])
    reader.read_to_end()
    reader.pause()
    os.write(pipe[1], b"later")
    await asyncio.sleep(0.01)
    assert receiver.chunks == []
    reader.read_rest()  # not more than a pipe holds
    assert receiver.chunks == [b"later"]
    assert receiver.ends == []
    reader.resume()
    os.close(pipe[1])
    assert await reader.ended
