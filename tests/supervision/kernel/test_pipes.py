"""Our ends of a child's pipes: what is read when, and how much of it."""

import asyncio
import contextlib
import fcntl
import os
from functools import partial

import pytest

from realtalk_async.supervision.kernel import pipes
from realtalk_async.supervision.kernel.pipes import PipeReader, PipeWriter


@pytest.fixture
def pipe():
    """A pipe whose writing end the test holds."""
    reading, writing = os.pipe()
    yield reading, writing
    for end in (reading, writing):
        with contextlib.suppress(OSError):  # its owner has closed it
            os.close(end)


class Ear:
    """Hears what a reader reads."""

    def __init__(self, size=1 << 16):
        self.chunks, self.ends = [], []
        self.memory = memoryview(bytearray(size))

    def hear(self, stream, data, _now):
        assert stream == "stdout"
        self.chunks.append(bytes(data))

    def read(self, descriptor, *, memory=True):
        """Return a reader that it listens to."""
        return PipeReader(
            descriptor,
            "stdout",
            self.hear,
            get_memory=lambda _: self.memory if memory else None,
            on_end=lambda: self.ends.append(True),
        )


async def until(condition):
    async with asyncio.timeout(120):
        while not condition():
            await asyncio.sleep(0.001)


async def test_bytes_are_read_into_the_room_that_is_offered(pipe):
    """One bounded read each time."""
    ear = Ear(4)
    reader = ear.read(pipe[0])
    os.write(pipe[1], b"abcdefg")
    await until(lambda: len(ear.chunks) == 2)
    assert ear.chunks == [b"abcd", b"efg"]
    os.close(pipe[1])
    assert await reader.ended is True


async def test_a_closed_reader_has_not_reached_the_end(pipe):
    """It says so."""
    reader = Ear().read(pipe[0], memory=False)
    reader.close()
    reader.close()
    assert await reader.ended is False


async def test_a_dribble_is_read_a_breath_at_a_time(pipe):
    """Many lines for the price of one, and none of them lost."""
    ear = Ear()
    reader = ear.read(pipe[0])
    for number in range(2_000):
        os.write(pipe[1], b"%04d\n" % number)
        await asyncio.sleep(0)
    os.close(pipe[1])
    assert await reader.ended is True
    assert b"".join(ear.chunks) == b"".join(b"%04d\n" % n for n in range(2_000))
    assert len(ear.chunks) < 1_000


@pytest.mark.parametrize("deed", ["close", "pause", "read_to_end"])
async def test_a_breath_does_not_outlive_its_reader(pipe, deed):
    """Closed, paused or let go while it waits."""
    reader = Ear().read(pipe[0], memory=False)
    while reader._batch_timer is None:
        os.write(pipe[1], b"x")
        await asyncio.sleep(0)
    getattr(reader, deed)()
    assert reader._batch_timer is None
    reader.close()
    assert await reader.ended is False


async def test_a_paused_reader_leaves_the_rest_in_the_pipe(pipe):
    """Until it is resumed."""
    ear = Ear(4)
    reader = ear.read(pipe[0])
    os.write(pipe[1], b"abcdefgh")
    await until(lambda: ear.chunks)
    reader.pause()
    heard = list(ear.chunks)
    for _ in range(5):
        await asyncio.sleep(0)
    assert ear.chunks == heard
    reader.resume()
    await until(lambda: b"".join(ear.chunks) == b"abcdefgh")
    reader.close()


async def test_the_pipe_of_a_child_that_fills_it_again_and_again_grows(pipe):
    """Not that of one who has said much once: larger pipes are scarce."""
    size = partial(fcntl.fcntl, pipe[0], fcntl.F_GETPIPE_SZ)
    ear, before = Ear(1 << 20), size()
    reader = ear.read(pipe[0])
    os.write(pipe[1], bytes(before))
    await until(lambda: ear.chunks)
    assert size() == before
    while size() == before:
        os.write(pipe[1], bytes(before))
        read = len(ear.chunks)
        while len(ear.chunks) == read:
            await asyncio.sleep(0)
    assert size() == pipes.LARGE_PIPE
    reader.close()


async def test_a_writer_whose_reader_is_gone_says_so(pipe):
    """And so does a closed one."""
    os.close(pipe[0])
    writer = PipeWriter(pipe[1])
    with pytest.raises(BrokenPipeError):
        await writer.write(b"x", [0])
    writer.close()
    with pytest.raises(BrokenPipeError):
        await writer.write(b"x", [0])


async def test_closing_wakes_a_writer_that_waits(pipe):
    """It has written what fitted."""
    writer = PipeWriter(pipe[1])
    progress = [0]
    writing = asyncio.ensure_future(writer.write(bytes(1_000_000), progress))
    await until(lambda: progress[0] > 0)
    writer.close()
    with pytest.raises(BrokenPipeError):
        await writing
    assert 0 < progress[0] < 1_000_000
