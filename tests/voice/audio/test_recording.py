"""A recording of both sides, on disks of all kinds."""

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
PATIENCE = 60


@pytest.fixture
def path(tmp_path):
    """Where the recording is."""
    return tmp_path / "both.wav"


class Disk:
    """One that takes nothing while it is held up."""

    def __init__(self):
        self.works = threading.Event()
        self.asked = threading.Event()
        self.works.set()

    def extend(self, path, frames, silence):
        """Write, once it works."""
        self.asked.set()
        self.works.wait(PATIENCE)
        wav.extend(path, frames, silence)


def frames_in(path):
    """Return how many frames a WAV holds, by its header and by its size."""
    with wave.open(str(path)) as file:
        assert path.stat().st_size == 44 + 4 * file.getnframes()
        return file.getnframes()


async def until(condition):
    """Wait until *condition* is true."""
    with anyio.fail_after(PATIENCE):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_stalled_disk_costs_bounded_memory_and_is_told_once(path, logger):
    """The session goes on; what was not kept is silence, and counted."""
    disk = Disk()
    tape = Recording(path, logger, extend=disk.extend)
    disk.works.clear()
    running = asyncio.create_task(tape.run())
    tape.recorded(bytes(SECOND), time.monotonic())
    await until(disk.asked.is_set)
    for _ in range(100):
        tape.recorded(bytes(SECOND), time.monotonic())
        tape.played(None, bytes(SECOND), 0.0)
    assert tape.waiting <= recording._MOST + 1
    said = await logger.get_logs(level="WARNING", component="session")
    assert [entry.message.split(":")[0] for entry in said] == ["The disk is too slow"]
    disk.works.set()
    await until(lambda: tape.missing)
    assert tape.waiting == 0
    before = frames_in(path)
    assert before >= recording._MOST * SECOND / 2
    tape.recorded(b"\1\0" * 24_000, time.monotonic())
    running.cancel()
    await asyncio.wait([running])
    await tape.finish()
    assert frames_in(path) >= before + 24_000
    (end,) = await logger.get_logs(pattern="goes on")
    assert end.context["missing"] == pytest.approx(tape.missing, abs=0.06)


async def test_a_disk_that_never_works_again_does_not_hold_up_the_end(path, logger):
    """What is there stays valid."""
    disk = Disk()
    tape = Recording(path, logger, extend=disk.extend)
    tape.recorded(bytes(SECOND), time.monotonic())
    disk.works.clear()
    running = asyncio.create_task(tape.run())
    await until(disk.asked.is_set)
    running.cancel()
    await asyncio.wait([running])
    with anyio.fail_after(PATIENCE):
        await tape.finish()
    assert await logger.get_logs(pattern="no end")
    assert frames_in(path) == 0
    disk.works.set()


async def test_a_file_that_somebody_spoils_ends_the_recording_only(path, logger):
    """It is said once."""
    tape = Recording(path, logger)
    path.write_text("mine now")
    running = asyncio.create_task(tape.run())
    with anyio.fail_after(PATIENCE):
        await running
    tape.recorded(bytes(SECOND), time.monotonic())
    await tape.finish()
    (said,) = await logger.get_logs(level="ERROR")
    assert said.message == "The recording ends here"
    assert path.read_text() == "mine now"


async def test_a_path_that_cannot_be_written_is_said_at_once(tmp_path, logger):
    """Before anything is started."""
    with pytest.raises(AudioUnavailable, match="No such file"):
        Recording(tmp_path / "missing" / "both.wav", logger)
