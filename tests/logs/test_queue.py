"""The queue of lines: one write for many, a full disk, dropped lines, forks."""

import asyncio
import errno
import os
import subprocess
import sys
import time
import warnings

import anyio
import pytest

from realtalk_async.logs import Level, Logger, parse_line
from realtalk_async.logs.entry import LINE_FORMATS
from realtalk_async.logs.queue import LogQueue


def entries(*paths):
    """Return all entries of some files, in order; each line must be an entry."""
    lines = [line for path in paths for line in path.read_bytes().splitlines()]
    read = [parse_line(line) for line in lines]
    assert None not in read
    return [entry for entry in read if entry is not None]


def messages(*paths):
    """Return the messages of some files, without entries about the log itself."""
    return [entry.message for entry in entries(*paths) if entry.component != "log"]


def notices(*paths):
    """Return the entries of the log about itself."""
    return [entry for entry in entries(*paths) if entry.component == "log"]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "app.log"


def format_notice(message, context):
    """Stand in for the logger's format of an entry about the log."""
    return f"log: {message} {dict(context)}\n".encode()


def test_flush_writes_all_waiting_lines_with_one_write(path, monkeypatch):
    writes = []
    write = os.write

    def counted(descriptor: int, data: bytes) -> int:
        writes.append(len(data))
        return write(descriptor, data)

    monkeypatch.setattr("realtalk_async.logs.append_file.os.write", counted)
    file = LogQueue(path, format_notice)
    for number in range(1000):
        file.append(b"%d\n" % number)
    assert file.write(b"last\n") == 5
    file.flush()
    assert len(writes) == 1
    assert path.read_bytes().split() == [*(b"%d" % n for n in range(1000)), b"last"]
    assert (file.written, file.dropped) == (1001, 0)


def test_close_and_garbage_collection_write_waiting_lines(path):
    file = LogQueue(path, format_notice)
    file.append(b"1\n")
    file.close()
    file.close()
    file = LogQueue(path, format_notice)
    file.append(b"2\n")
    del file
    assert path.read_bytes() == b"1\n2\n"


class FullDisk:
    """Writes *room* more bytes, then fails like a full disk."""

    def __init__(self, monkeypatch, room=0):
        self.room = room
        self._write = os.write
        monkeypatch.setattr("realtalk_async.logs.append_file.os.write", self)

    def __call__(self, descriptor, data):
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        sent = self._write(descriptor, data[: self.room])
        self.room -= sent
        return sent


async def test_lines_wait_for_a_full_disk_and_an_await_returns_false(
    path, monkeypatch, capsys
):
    async with Logger(path) as logger:
        assert await logger.info("a", "1") is True
        disk = FullDisk(monkeypatch)
        assert await logger.info("a", "2") is False
        assert await logger.error("a", "3") is False
        assert await logger.flush() is False
        disk.room = 1_000_000
        with anyio.fail_after(120):
            while not await logger.info("a", "4"):
                pass
    assert messages(path)[:3] == ["1", "2", "3"]
    (entry,) = notices(path)
    assert "could not be written" in entry.message
    assert "No space left on device" in entry.message
    complaints = capsys.readouterr().err
    assert complaints.count("No space left on device") == 1
    assert str(path) in complaints


async def test_waiting_lines_are_written_without_another_call_once_there_is_room(
    path, monkeypatch
):
    async with Logger(path) as logger:
        disk = FullDisk(monkeypatch)
        assert not await logger.info("a", "1")
        disk.room = 1_000_000
        with anyio.fail_after(120):
            while not path.stat().st_size:
                await asyncio.sleep(0.01)
    assert messages(path) == ["1"]


def test_a_disk_that_fills_up_within_a_line_leaves_no_partial_line(path, monkeypatch):
    file = LogQueue(path, format_notice)
    disk = FullDisk(monkeypatch, room=25)
    lines = [b"line %d\n" % number for number in range(9)]  # of 7 bytes
    for line in lines:
        file.append(line)
    with pytest.raises(OSError, match="No space left"):
        file.flush()
    assert path.read_bytes() == b"".join(lines[:3])
    assert file.lines == lines[3:]
    assert isinstance(file.error, OSError)
    disk.room = 1_000
    file.flush()
    assert path.read_bytes().startswith(b"".join(lines))
    assert b"could not be written" in path.read_bytes()
    assert file.error is None


def test_lines_beyond_the_limit_are_dropped_info_first_and_counted_in_the_log(
    path, monkeypatch
):
    file = LogQueue(path, format_notice)
    disk = FullDisk(monkeypatch)
    for number in range(30):
        file.append(
            b"] [%-7s %02d\n" % ((b"ERROR", b"WARNING", b"INFO")[number % 3], number)
        )
    with pytest.raises(OSError, match="No space left"):
        file.flush()
    assert file.drop_excess(15 * 14, b"] [") is True
    assert file.drop_excess(15 * 14, b"] [") is False
    kept = [line.decode()[3:].split() for line in file.lines]
    assert [number for level, number in kept if level == "ERROR"] == [
        f"{number:02d}" for number in range(0, 30, 3)
    ]
    assert [number for level, number in kept if level == "WARNING"] == [
        f"{number:02d}" for number in range(1, 15, 3)
    ]
    assert len(kept) == 15
    disk.room = 10_000
    file.flush()
    text = path.read_text()
    assert "15 lines were dropped: No space left on device" in text
    assert "{'INFO': 10, 'WARNING': 5}" in text
    assert (file.dropped, len(file.lines)) == (15, 0)


async def test_memory_is_bounded_and_every_dropped_line_is_counted_in_the_log(
    path, monkeypatch
):
    async with Logger(path, max_waiting=20_000) as logger:
        disk = FullDisk(monkeypatch)
        pending = logger.info("a", "the first")
        sent = 1
        with anyio.fail_after(120):
            while not pending.lines_dropped:
                logger.info("a", "x" * 100)
                sent += 1
        assert sum(map(len, logger._queue.lines)) <= 2_000_000
        logger.error("a", "important")
        disk.room = 10_000_000
        assert await pending is False
        with anyio.fail_after(120):
            while not await logger.flush():
                pass
    reports = [entry for entry in notices(path) if "dropped" in entry.message]
    dropped = sum(entry.context["INFO"] for entry in reports)
    assert dropped > 0
    assert len(messages(path)) + dropped == sent + 1
    assert "important" in messages(path)


def test_dev_full_raises_nothing_and_is_reported_on_stderr(capsys):
    logger = Logger("/dev/full")
    logger.info("a", "1")
    logger.error("a", "2")
    assert asyncio.run(logger.flush()) is False
    assert "No space left on device" in capsys.readouterr().err
    logger._queue.lines.clear()


LIMITED = """
import asyncio, resource, sys
from realtalk_async.logs import Logger
path, limit = sys.argv[1], 20_000
async def main():
    async with Logger(path) as logger:
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        for number in range(1_000):
            logger.info("a", str(number))
        refused = not await logger.flush()
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        async with asyncio.timeout(120):
            while not await logger.flush():
                pass
        print("refused" if refused else "taken")
asyncio.run(main())
"""


def test_a_temporary_limit_of_the_file_size_loses_no_line(path):
    ran = subprocess.run(
        [sys.executable, "-c", LIMITED, str(path)],
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    assert ran.stdout == "refused\n"
    assert "File too large" in ran.stderr
    assert messages(path) == [str(number) for number in range(1_000)]
    assert "could not be written" in notices(path)[0].message


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
def test_a_full_file_system_tears_no_line(tmp_path, capsys):
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("mounting is not allowed here")
    try:
        ballast = small / "ballast"
        ballast.write_bytes(bytes(32 * 1024))
        logger = Logger(small / "app.log")
        for number in range(1_000):
            logger.info("a", str(number))
        assert len(entries(small / "app.log")) < 1_000
        ballast.unlink()
        assert asyncio.run(logger.get_logs(n=0)) == []
        assert messages(small / "app.log") == [str(number) for number in range(1_000)]
    finally:
        subprocess.run(["umount", str(small)], check=True)
    assert "No space left" in capsys.readouterr().err


def test_lines_are_written_once_after_a_fork(path):
    async def main():
        async with Logger(path) as logger:
            logger.info("a", "parent before")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # of the threads
                child = os.fork()
            if not child:
                logger.info("a", "child")
                os._exit(0)
            logger.info("a", "parent after")
            assert os.waitpid(child, 0)[1] == 0

    asyncio.run(main())
    assert sorted(messages(path)) == ["child", "parent after", "parent before"]


@pytest.mark.parametrize("line_format", LINE_FORMATS)
@pytest.mark.parametrize(
    "zone", ["Africa/Monrovia", "XXX-5:53:28", "XXX0:44:30", "XXX-14", "UTC"]
)
def test_levels_are_found_whatever_the_offset_of_the_zone(
    path, monkeypatch, line_format, zone
):
    """Monrovia's offset had seconds in 1970: the length of a time varies."""
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        format_ = LINE_FORMATS[line_format]
        lines = [
            (format_.prefix(format_.timestamp(now), level, "c") + "x").encode()
            for now in (0.0, 1.8e9)
            for level in Level
        ]
        file = LogQueue(path, format_notice)
        for line in lines:
            file.append(line)
        kept = [line for line in lines if b"ERROR" in line]
        assert file.drop_excess(sum(map(len, kept)), format_.before_level.encode())
        assert file.lines == kept

        file.close()
    finally:
        monkeypatch.undo()
        time.tzset()
