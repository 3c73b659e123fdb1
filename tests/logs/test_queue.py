"""The file: rotation, a full disk, a file that vanishes, lines that must be dropped."""

import asyncio
import errno
import fcntl
import os
import resource
import shutil
import subprocess
import sys
import threading
import warnings

import anyio
import pytest

from realtalk_async.logs import Logger, parse_line
from realtalk_async.logs.append_file import Rotation
from realtalk_async.logs.queue import LogFile


def entries(*paths):
    """All entries of some files, in order; every line must be one."""
    lines = [line for path in paths for line in path.read_bytes().splitlines()]
    read = [parse_line(line) for line in lines]
    assert None not in read
    return [entry for entry in read if entry is not None]


def said(*paths):
    """The messages of some files, without those of the log about itself."""
    return [entry.message for entry in entries(*paths) if entry.component != "log"]


def about_itself(*paths):
    """What the log has said about itself."""
    return [entry for entry in entries(*paths) if entry.component == "log"]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "app.log"


def announce(message, context):
    """A stand-in for the logger's line about itself."""
    return f"log: {message} {dict(context)}\n".encode()


# The buffer


def test_a_flush_writes_all_that_waits_with_one_write(path, monkeypatch):
    """In the order of arrival."""
    writes = []
    write = os.write

    def counted(descriptor: int, data: bytes) -> int:
        writes.append(len(data))
        return write(descriptor, data)

    monkeypatch.setattr("realtalk_async.logs.append_file.os.write", counted)
    file = LogFile(path, announce)
    for number in range(1000):
        file.append(b"%d\n" % number)
    assert file.write(b"last\n") == 5
    file.flush()
    assert len(writes) == 1
    assert path.read_bytes().split() == [*(b"%d" % n for n in range(1000)), b"last"]
    assert (file.written, file.dropped) == (1001, 0)


def test_a_short_write_is_continued(path, monkeypatch):
    """The operating system may take less than it is given."""
    write = os.write
    monkeypatch.setattr(
        "realtalk_async.logs.append_file.os.write", lambda fd, data: write(fd, data[:7])
    )
    file = LogFile(path, announce)
    file.append(b"a line of some length\n")
    file.append(b"and another one\n")
    file.flush()
    assert path.read_bytes() == b"a line of some length\nand another one\n"


def test_closing_writes_what_waits(path):
    """Also when it is the garbage collector who closes."""
    file = LogFile(path, announce)
    file.append(b"1\n")
    file.close()
    file.close()
    file = LogFile(path, announce)
    file.append(b"2\n")
    del file
    assert path.read_bytes() == b"1\n2\n"


def test_a_line_that_a_killed_process_left_unfinished_is_ended(path):
    """The next entry begins on a line of its own."""
    path.write_bytes(b"torn")
    logger = Logger(path)
    logger.info("a", "1")
    logger.info("a", "2")
    assert path.read_bytes().count(b"\n") == 3
    assert path.read_bytes().startswith(b"torn\n[")


def test_a_log_that_may_be_written_but_not_read_is_written(path, monkeypatch):
    """Permissions of a log that only gathers."""
    opened = os.open

    def refuse(name, flags, mode=0o777):
        if flags & os.O_RDWR:
            raise PermissionError(errno.EACCES, "Permission denied")
        return opened(name, flags, mode)

    monkeypatch.setattr("realtalk_async.logs.append_file.os.open", refuse)
    path.write_bytes(b"torn")
    Logger(path).info("a", "1")
    assert path.read_bytes().startswith(b"torn[")


def test_a_pipe_is_written_to_and_never_read(tmp_path):
    """A named pipe with a reader is a log too."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(OSError, match="No such device"):
        Logger(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        logger = Logger(pipe)
        logger.info("a", "through")
        assert b"through" in os.read(reader, 1000)
        assert asyncio.run(logger.get_logs()) == []
    finally:
        os.close(reader)


# Rotation


def test_rotation_keeps_every_file_within_its_size(path):
    """And all lines that the number of files allows, in order."""
    logger = Logger(path, max_bytes=1000, backups=3)
    for number in range(200):
        logger.info("a", str(number))
    files = [path.with_name(f"app.log.{n}") for n in (3, 2, 1)] + [path]
    assert sorted(os.listdir(path.parent)) == sorted(file.name for file in files)
    assert all(0 < file.stat().st_size <= 1000 for file in files)
    numbers = [int(message) for message in said(*files)]
    assert numbers == list(range(numbers[0], 200))


def test_a_batch_is_divided_among_files(path):
    """No file is too large only because many lines came at once; none is lost."""
    file = LogFile(path, announce, Rotation(100, 50))
    lines = [b"%03d\n" % number for number in range(500)]
    for line in lines:
        file.append(line)
    file.flush()
    names = [path.with_name(f"app.log.{n}") for n in range(50, 0, -1)] + [path]
    files = [name for name in names if name.exists()]
    assert len(files) == 20
    assert all(name.stat().st_size == 100 for name in files)
    assert b"".join(name.read_bytes() for name in files) == b"".join(lines)


def test_a_line_larger_than_a_file_gets_a_file_of_its_own(path):
    """It is neither cut nor dropped."""
    file = LogFile(path, announce, Rotation(10, 5))
    for line in (b"1\n", b"x" * 50 + b"\n", b"2\n", b"3\n"):
        file.append(line)
    file.flush()
    assert path.read_bytes() == b"2\n3\n"
    assert path.with_name("app.log.1").read_bytes() == b"x" * 50 + b"\n"
    assert path.with_name("app.log.2").read_bytes() == b"1\n"


def test_rotation_without_backups_keeps_the_present_file_only(path):
    """What is old is gone, as asked."""
    logger = Logger(path, max_bytes=500, backups=0)
    for number in range(100):
        logger.info("a", str(number))
    assert os.listdir(path.parent) == ["app.log"]
    assert said(path)[-1] == "99"
    assert path.stat().st_size <= 500


def test_a_rotation_that_fails_loses_nothing_and_is_said(path):
    """Better one file too large than no log; here a directory stands in the way."""
    (path.parent / "app.log.1").mkdir()
    logger = Logger(path, max_bytes=500, backups=1)
    for number in range(50):
        logger.info("a", str(number))
    assert said(path) == [str(number) for number in range(50)]
    (entry,) = about_itself(path)
    assert "cannot be rotated" in entry.message


async def test_rotation_loses_nothing_while_the_block_runs(path):
    """Scenario 26: every line is there, in order, over all files."""
    async with Logger(path, max_bytes=10_000, backups=99) as logger:
        for number in range(2_000):
            logger.info("a", str(number))
            if number % 100 == 0:
                await asyncio.sleep(0.005)
        found = await logger.get_logs()
    assert [entry.message for entry in found] == [str(n) for n in range(2_000)]
    assert len(os.listdir(path.parent)) > 5


# A file that vanishes


@pytest.mark.parametrize("how", ["removed", "renamed"])
async def test_a_file_that_vanishes_is_made_again(path, how):
    """No line is lost that was not in a removed file, and the log says what happened."""
    moved = path.with_name("moved.log")
    async with Logger(path) as logger:
        await logger.info("a", "1")
        if how == "removed":
            path.unlink()
        else:
            path.rename(moved)
        await logger.info("a", "2")
        await logger.info("a", "3")
    assert said(path) == ["2", "3"]
    if how == "renamed":
        assert said(moved) == ["1"]
    (entry,) = about_itself(path)
    assert entry.level == "WARNING"
    assert "removed or renamed" in entry.message


@pytest.mark.parametrize("reused", [False, True])
async def test_a_descriptor_that_others_close_is_opened_again(path, tmp_path, reused):
    """Even if it is another file by now: nothing is written there."""
    other = tmp_path / "other"
    other.write_text("precious")
    async with Logger(path) as logger:
        assert await logger.info("a", "1")
        descriptor = logger._file._appender._descriptor
        os.close(descriptor)
        if reused:
            opened = os.open(other, os.O_RDWR)
            if opened != descriptor:
                os.dup2(opened, descriptor)
                os.close(opened)
        assert await logger.info("a", "2")
        assert await logger.info("a", "3")
        if reused:
            os.close(descriptor)
    assert said(path) == ["1", "2", "3"]
    assert other.read_text() == "precious"
    assert ["something closed" in entry.message for entry in about_itself(path)] == [
        True
    ]


@pytest.mark.parametrize("what", ["directory", "link to itself"])
async def test_what_stands_in_the_way_of_the_file_is_waited_for(path, what, capsys):
    """Lines wait until it is gone."""
    async with Logger(path) as logger:
        assert await logger.info("a", "1")
        path.unlink()
        if what == "directory":
            path.mkdir()
        else:
            path.symlink_to(path)
        assert await logger.info("a", "2") is False
        if what == "directory":
            path.rmdir()
        else:
            path.unlink()
        with anyio.fail_after(10):
            while not await logger.flush():
                pass
    assert said(path) == ["2"]
    assert "1 lines wait" in capsys.readouterr().err


async def test_a_process_without_descriptors_keeps_its_lines(path, capsys):
    """The file has to be opened again, and cannot be for a while."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with Logger(path) as logger:
        assert await logger.info("a", "1")
        path.rename(path.with_name("moved"))
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
        try:
            assert await logger.info("a", "2") is False
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        with anyio.fail_after(10):
            while not await logger.flush():
                pass
    assert said(path) == ["2"]
    assert "Too many open files" in capsys.readouterr().err


async def test_a_folder_that_vanishes_is_made_again(tmp_path):
    """It was there when the log began: somebody cleaned up too eagerly."""
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    async with Logger(folder / "app.log") as logger:
        await logger.info("a", "1")
        shutil.rmtree(tmp_path / "a")
        assert await logger.info("a", "2")
    assert said(folder / "app.log") == ["2"]


async def test_a_file_that_vanishes_again_and_again_is_said_once_a_minute(path):
    """Nobody wants a log that speaks mostly about itself."""
    async with Logger(path) as logger:
        for number in range(5):
            await logger.info("a", str(number))
            path.rename(path.with_name(f"{number}.log"))
    files = [path.with_name(f"{number}.log") for number in range(5)]
    assert said(*files) == ["0", "1", "2", "3", "4"]
    assert len(about_itself(*files)) == 1


# A disk that is full


class FullDisk:
    """Takes *room* more bytes, then fails as a full disk does."""

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


async def test_a_full_disk_is_survived_and_said(path, monkeypatch, capsys):
    """Awaiting tells the truth; the lines wait and are written when there is room."""
    async with Logger(path) as logger:
        assert await logger.info("a", "1") is True
        disk = FullDisk(monkeypatch)
        assert await logger.info("a", "2") is False
        assert await logger.error("a", "3") is False
        assert await logger.flush() is False
        disk.room = 1_000_000
        with anyio.fail_after(10):
            while not await logger.info("a", "4"):
                pass
    assert said(path)[:3] == ["1", "2", "3"]
    (entry,) = about_itself(path)
    assert "could not be written" in entry.message
    assert "No space left on device" in entry.message
    complaints = capsys.readouterr().err
    assert complaints.count("No space left on device") == 1
    assert str(path) in complaints


async def test_lines_that_wait_for_room_are_written_by_themselves(path, monkeypatch):
    """Nobody has to log again for it."""
    async with Logger(path) as logger:
        disk = FullDisk(monkeypatch)
        assert not await logger.info("a", "1")
        disk.room = 1_000_000
        with anyio.fail_after(10):
            while not path.stat().st_size:
                await asyncio.sleep(0.01)
    assert said(path) == ["1"]


def test_a_disk_that_fills_up_in_the_middle_of_a_line_tears_none(path, monkeypatch):
    """What was written of a line is taken back; the rest of the batch waits."""
    file = LogFile(path, announce)
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


def test_what_exceeds_the_queue_is_dropped_info_first_and_said(path, monkeypatch):
    """An ERROR is never given up for an INFO; how many of each is in the log."""
    file = LogFile(path, announce)
    disk = FullDisk(monkeypatch)
    for number in range(30):
        file.append(
            b"%-7s %02d\n" % ((b"ERROR", b"WARNING", b"INFO")[number % 3], number)
        )
    with pytest.raises(OSError, match="No space left"):
        file.flush()
    assert file.shed(15 * 11, 0) is True
    assert file.shed(15 * 11, 0) is False
    kept = [line.decode().split() for line in file.lines]
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


async def test_memory_stays_bounded_and_nothing_is_dropped_silently(path, monkeypatch):
    """What is not in the file was counted in the file; a receipt of then says False."""
    async with Logger(path, max_waiting=20_000) as logger:
        disk = FullDisk(monkeypatch)
        receipt = logger.info("a", "the first")
        sent = 1
        with anyio.fail_after(20):
            while not receipt.broken:
                logger.info("a", "x" * 100)
                sent += 1
        assert sum(map(len, logger._file.lines)) <= 2_000_000
        logger.error("a", "important")
        disk.room = 10_000_000
        assert await receipt is False
        with anyio.fail_after(10):
            while not await logger.flush():
                pass
    reports = [entry for entry in about_itself(path) if "dropped" in entry.message]
    dropped = sum(entry.context["INFO"] for entry in reports)
    assert dropped > 0
    assert len(said(path)) + dropped == sent + 1
    assert "important" in said(path)


def test_dev_full_is_a_disk_that_is_always_full(capsys):
    """The device made for this: nothing raises, and it is said."""
    logger = Logger("/dev/full")
    logger.info("a", "1")
    logger.error("a", "2")
    assert asyncio.run(logger.flush()) is False
    assert "No space left on device" in capsys.readouterr().err
    logger._file.lines.clear()


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
        async with asyncio.timeout(20):
            while not await logger.flush():
                pass
        print("refused" if refused else "taken")
asyncio.run(main())
"""


def test_a_real_limit_of_the_file_size_loses_no_line(path):
    """A child may write 20,000 bytes, then more: all is there, and whole."""
    ran = subprocess.run(
        [sys.executable, "-c", LIMITED, str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert ran.stdout == "refused\n"
    assert "File too large" in ran.stderr
    assert said(path) == [str(number) for number in range(1_000)]
    assert "could not be written" in about_itself(path)[0].message


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
def test_a_real_full_file_system_tears_no_line(tmp_path, capsys):
    """A file system of 64 KiB fills up, is emptied, and the log goes on."""
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
        assert said(small / "app.log") == [str(number) for number in range(1_000)]
    finally:
        subprocess.run(["umount", str(small)], check=True)
    assert "No space left" in capsys.readouterr().err


# The lock


def test_a_writer_that_was_stopped_with_the_lock_does_not_stop_us(path, monkeypatch):
    """After a while it is written without the lock."""
    monkeypatch.setattr("realtalk_async.logs.append_file.LOCK_PATIENCE", 0.05)
    logger = Logger(path)
    with path.open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        logger.info("a", "1")
        assert said(path) == ["1"]


def test_the_lock_of_another_process_is_waited_for(path):
    """Our line comes after what the other wrote under its lock."""
    logger = Logger(path)
    locked = threading.Event()
    with path.open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)

        def release():
            locked.wait(10)
            os.write(other.fileno(), b"[2025-05-13 14:30:22] [INFO] [other] first\n")
            fcntl.flock(other, fcntl.LOCK_UN)

        thread = threading.Thread(target=release)
        thread.start()
        locked.set()
        logger.info("a", "second")
        thread.join(10)
    assert "second" in said(path)


def test_a_fork_writes_each_line_once(path):
    """What waited in the parent is the parent's; the child writes its own."""

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
    assert sorted(said(path)) == ["child", "parent after", "parent before"]
