import asyncio
import threading
import time
import wave

import anyio
import pytest

from realtalk_async.exceptions import AudioUnavailable
from realtalk_async.voice.audio import recording, wav
from realtalk_async.voice.audio.recording import Recording

SECOND = 48_000
TIMEOUT = 240


@pytest.fixture
def path(tmp_path):
    """Return the path of the recording."""
    return tmp_path / "both.wav"


class Disk:
    """A disk that blocks each write while `works` is not set."""

    def __init__(self):
        self.works = threading.Event()
        self.asked = threading.Event()
        self.works.set()

    def extend(self, path, frames, silence):
        """Write when the disk works."""
        self.asked.set()
        self.works.wait(TIMEOUT)
        wav.extend(path, frames, silence)


def frames_in(path):
    """Return the number of frames of a WAV file; its size must agree."""
    with wave.open(str(path)) as file:
        assert path.stat().st_size == 44 + 4 * file.getnframes()
        return file.getnframes()


async def until(condition):
    with anyio.fail_after(TIMEOUT):
        while not condition():
            await asyncio.sleep(0.01)


async def test_stalled_disk_costs_bounded_memory_and_is_logged_once(path, logger):
    """Audio that was not written becomes silence, and its duration is counted."""
    disk = Disk()
    both = Recording(path, logger, extend=disk.extend)
    disk.works.clear()
    running = asyncio.create_task(both.run())
    both.recorded(bytes(SECOND), time.monotonic())
    await until(disk.asked.is_set)
    for _ in range(100):
        both.recorded(bytes(SECOND), time.monotonic())
        both.played(None, bytes(SECOND), 0.0)
    assert both.pending <= recording._MAX_PENDING + 1
    entries = await logger.get_logs(level="WARNING", component="session")
    assert [entry.message.split(":")[0] for entry in entries] == [
        "The disk is too slow"
    ]
    disk.works.set()
    await until(lambda: both.missing)
    assert both.pending == 0
    before = frames_in(path)
    assert before >= recording._MAX_PENDING * SECOND / 2
    both.recorded(b"\1\0" * 24_000, time.monotonic())
    running.cancel()
    await asyncio.wait([running])
    await both.finish()
    assert frames_in(path) >= before + 24_000
    (end,) = await logger.get_logs(pattern="continues")
    assert end.context["missing"] == pytest.approx(both.missing, abs=0.06)


async def test_disk_that_never_works_again_does_not_delay_the_end(path, logger):
    disk = Disk()
    both = Recording(path, logger, extend=disk.extend)
    both.recorded(bytes(SECOND), time.monotonic())
    disk.works.clear()
    running = asyncio.create_task(both.run())
    await until(disk.asked.is_set)
    running.cancel()
    await asyncio.wait([running])
    with anyio.fail_after(TIMEOUT):
        await both.finish()
    assert await logger.get_logs(pattern="end of the recording")
    assert frames_in(path) == 0
    disk.works.set()


async def test_overwritten_file_ends_only_the_recording(path, logger):
    both = Recording(path, logger)
    path.write_text("mine now")
    running = asyncio.create_task(both.run())
    with anyio.fail_after(TIMEOUT):
        await running
    both.recorded(bytes(SECOND), time.monotonic())
    await both.finish()
    (entry,) = await logger.get_logs(level="ERROR")
    assert entry.message == "The recording ends here"
    assert path.read_text() == "mine now"


async def test_unwritable_path_is_an_error_at_once(tmp_path, logger):
    with pytest.raises(AudioUnavailable, match="No such file"):
        Recording(tmp_path / "missing" / "both.wav", logger)
