"""The log file: short writes, rotation, removal, and the lock."""

import contextlib
import errno
import fcntl
import math
import os
import resource
import select
import shutil
import subprocess
import sys
import threading

import anyio
import pytest

from realtalk_async.logs import Logger, append_file, parse_line
from realtalk_async.logs.append_file import Rotation
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


def test_a_short_write_is_continued(path, monkeypatch):
    """The operating system may write fewer bytes than it was given."""
    write = os.write
    monkeypatch.setattr(
        "realtalk_async.logs.append_file.os.write", lambda fd, data: write(fd, data[:7])
    )
    file = LogQueue(path, format_notice)
    file.append(b"a line of some length\n")
    file.append(b"and another one\n")
    file.flush()
    assert path.read_bytes() == b"a line of some length\nand another one\n"


def test_an_unfinished_last_line_of_a_killed_process_is_ended(path):
    path.write_bytes(b"torn")
    logger = Logger(path)
    logger.info("a", "1")
    logger.info("a", "2")
    assert path.read_bytes().count(b"\n") == 3
    assert path.read_bytes().startswith(b"torn\n[")


def test_a_file_that_is_writable_but_not_readable_is_appended_to(path, monkeypatch):
    opened = os.open

    def refuse(name, flags, mode=0o777):
        if flags & os.O_RDWR:
            raise PermissionError(errno.EACCES, "Permission denied")
        return opened(name, flags, mode)

    monkeypatch.setattr("realtalk_async.logs.append_file.os.open", refuse)
    path.write_bytes(b"torn")
    Logger(path).info("a", "1")
    assert path.read_bytes().startswith(b"torn[")


def test_rotation_keeps_every_file_within_max_bytes(path):
    logger = Logger(path, max_bytes=1000, backups=3)
    for number in range(200):
        logger.info("a", str(number))
    files = [path.with_name(f"app.log.{n}") for n in (3, 2, 1)] + [path]
    assert sorted(os.listdir(path.parent)) == sorted(file.name for file in files)
    assert all(0 < file.stat().st_size <= 1000 for file in files)
    numbers = [int(message) for message in messages(*files)]
    assert numbers == list(range(numbers[0], 200))


def test_a_batch_is_split_across_rotated_files(path):
    file = LogQueue(path, format_notice, Rotation(100, 50))
    lines = [b"%03d\n" % number for number in range(500)]
    for line in lines:
        file.append(line)
    file.flush()
    names = [path.with_name(f"app.log.{n}") for n in range(50, 0, -1)] + [path]
    files = [name for name in names if name.exists()]
    assert len(files) == 20
    assert all(name.stat().st_size == 100 for name in files)
    assert b"".join(name.read_bytes() for name in files) == b"".join(lines)


def test_a_line_longer_than_max_bytes_gets_a_file_of_its_own(path):
    file = LogQueue(path, format_notice, Rotation(10, 5))
    for line in (b"1\n", b"x" * 50 + b"\n", b"2\n", b"3\n"):
        file.append(line)
    file.flush()
    assert path.read_bytes() == b"2\n3\n"
    assert path.with_name("app.log.1").read_bytes() == b"x" * 50 + b"\n"
    assert path.with_name("app.log.2").read_bytes() == b"1\n"


def test_rotation_without_backups_keeps_only_the_current_file(path):
    logger = Logger(path, max_bytes=500, backups=0)
    for number in range(100):
        logger.info("a", str(number))
    assert os.listdir(path.parent) == ["app.log"]
    assert messages(path)[-1] == "99"
    assert path.stat().st_size <= 500


def test_a_failed_rotation_loses_nothing_and_is_reported(path):
    (path.parent / "app.log.1").mkdir()
    logger = Logger(path, max_bytes=500, backups=1)
    for number in range(50):
        logger.info("a", str(number))
    assert messages(path) == [str(number) for number in range(50)]
    (entry,) = notices(path)
    assert "cannot be rotated" in entry.message


async def test_rotation_inside_the_block_loses_nothing(path):
    """Scenario 26."""
    async with Logger(path, max_bytes=10_000, backups=99) as logger:
        for number in range(2_000):
            write = logger.info("a", str(number))
            if number % 100 == 0:
                await write
        found = await logger.get_logs()
    assert [entry.message for entry in found] == [str(n) for n in range(2_000)]
    assert len(os.listdir(path.parent)) > 5


@pytest.mark.parametrize("how", ["removed", "renamed"])
async def test_a_file_that_was_removed_or_renamed_is_created_again_and_reported(
    path, how
):
    moved = path.with_name("moved.log")
    async with Logger(path) as logger:
        await logger.info("a", "1")
        if how == "removed":
            path.unlink()
        else:
            path.rename(moved)
        await logger.info("a", "2")
        await logger.info("a", "3")
    assert messages(path) == ["2", "3"]
    if how == "renamed":
        assert messages(moved) == ["1"]
    (entry,) = notices(path)
    assert entry.level == "WARNING"
    assert "removed or renamed" in entry.message


@pytest.mark.parametrize("reused", [False, True])
async def test_a_descriptor_closed_by_other_code_is_opened_again(
    path, tmp_path, reused
):
    """Its number may belong to another file by then."""
    other = tmp_path / "other"
    other.write_text("precious")
    async with Logger(path) as logger:
        assert await logger.info("a", "1")
        descriptor = logger._queue._file._descriptor
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
    assert messages(path) == ["1", "2", "3"]
    assert other.read_text() == "precious"
    assert ["closed by other code" in entry.message for entry in notices(path)] == [
        True
    ]


@pytest.mark.parametrize("what", ["directory", "link to itself"])
async def test_lines_wait_while_the_path_cannot_be_opened(path, what, capsys):
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
        with anyio.fail_after(120):
            while not await logger.flush():
                pass
    assert messages(path) == ["2"]
    assert "1 lines wait" in capsys.readouterr().err


async def test_lines_wait_while_the_process_has_no_free_descriptor(path, capsys):
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with Logger(path) as logger:
        assert await logger.info("a", "1")
        path.rename(path.with_name("moved"))
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
        try:
            assert await logger.info("a", "2") is False
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        with anyio.fail_after(120):
            while not await logger.flush():
                pass
    assert messages(path) == ["2"]
    assert "Too many open files" in capsys.readouterr().err


async def test_a_removed_folder_is_created_again(tmp_path):
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    async with Logger(folder / "app.log") as logger:
        await logger.info("a", "1")
        shutil.rmtree(tmp_path / "a")
        assert await logger.info("a", "2")
    assert messages(folder / "app.log") == ["2"]


async def test_repeated_removals_of_the_file_are_reported_once_a_minute(path):
    async with Logger(path) as logger:
        for number in range(5):
            await logger.info("a", str(number))
            path.rename(path.with_name(f"{number}.log"))
    files = [path.with_name(f"{number}.log") for number in range(5)]
    assert messages(*files) == ["0", "1", "2", "3", "4"]
    assert len(notices(*files)) == 1


def test_a_lock_that_is_never_released_delays_a_write_but_does_not_prevent_it(
    path, monkeypatch
):
    monkeypatch.setattr("realtalk_async.logs.append_file.LOCK_TIMEOUT", 0.05)
    logger = Logger(path)
    with path.open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        logger.info("a", "1")
        assert messages(path) == ["1"]


class Holder:
    """Another process that has the log locked; it acts while a writer sleeps."""

    def __init__(self, path, acts, *, releases_after=math.inf):
        self.path, self.acts, self.left = path, acts, releases_after
        self.now = 0.0
        self.file = path.open("ab")
        fcntl.flock(self.file, fcntl.LOCK_EX)

    def monotonic(self):
        return self.now

    def sleep(self, _seconds):
        self.now += 0.5
        self.left -= 1
        self.acts(self)
        if self.left <= 0:
            fcntl.flock(self.file, fcntl.LOCK_UN)

    def append(self):
        os.write(self.file.fileno(), b"[2025-05-13 14:30:22] [INFO] [other] first\n")

    def rotate(self):
        old, number = self.file, len(list(self.path.parent.iterdir()))
        self.path.rename(self.path.with_name(f"{self.path.name}.{number}"))
        self.file = self.path.open("ab")
        fcntl.flock(self.file, fcntl.LOCK_EX)
        old.close()


@pytest.fixture
def holder(path, monkeypatch):
    """Return a function that locks the log as another process."""
    holders = []

    def hold(acts, **options):
        holders.append(Holder(path, acts, **options))
        monkeypatch.setattr(append_file, "time", holders[-1])
        return holders[-1]

    yield hold
    for one in holders:
        one.file.close()


def test_the_wait_for_the_lock_continues_while_its_holder_appends(path, holder):
    """However slow it is: it may take longer than the timeout for all of its lines."""
    holder(Holder.append, releases_after=15)
    Logger(path).info("a", "last")
    assert messages(path) == ["first"] * 15 + ["last"]


def test_the_wait_for_the_lock_continues_while_its_holder_rotates(path, holder):
    """Each new file is locked before the writer can open it."""
    holder(Holder.rotate, releases_after=15)
    logger = Logger(path, max_bytes=1000, backups=3)
    logger.info("a", "last")
    assert messages(path) == ["last"]


def test_the_wait_for_the_lock_ends_although_others_append_without_it(path, holder):
    """Its holder was stopped. The next write waits for a shorter time."""
    held = holder(Holder.append)
    logger = Logger(path)
    logger.info("a", "1")
    assert held.now == append_file.MAX_LOCK_WAIT
    logger.info("a", "2")
    assert held.now == append_file.MAX_LOCK_WAIT + append_file.LOCK_TIMEOUT
    assert [message for message in messages(path) if message != "first"] == ["1", "2"]


def test_rotation_renames_no_file_beyond_the_first_free_number(path):
    """It need not try all numbers: there may be hundreds, and others wait meanwhile."""
    logger = Logger(path, max_bytes=1, backups=999)
    for name, text in [("app.log", "new"), ("app.log.1", "old"), ("app.log.3", "gap")]:
        path.with_name(name).write_text(f"{text}\n")
    logger.info("a", "1")
    names = [path.with_name(f"app.log.{number}") for number in (1, 2, 3)]
    assert [name.read_text() for name in names] == ["new\n", "old\n", "gap\n"]


def test_a_write_waits_for_the_lock_of_another_process(path):
    logger = Logger(path)
    locked = threading.Event()
    with path.open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)

        def release():
            locked.wait(120)
            os.write(other.fileno(), b"[2025-05-13 14:30:22] [INFO] [other] first\n")
            fcntl.flock(other, fcntl.LOCK_UN)

        thread = threading.Thread(target=release)
        thread.start()
        locked.set()
        logger.info("a", "second")
        thread.join(120)
    assert "second" in messages(path)


def test_all_lines_reach_a_reader_of_stdout_that_begins_late_whole_and_in_order():
    code = (
        "from realtalk_async import Logger\n"
        "import asyncio\n"
        "async def main():\n"
        "    async with Logger('/dev/stdout', max_bytes=1000) as logger:\n"
        "        for number in range(20_000):\n"
        "            logger.info('app', f'{number} {\"x\" * 50}')\n"
        "asyncio.run(main())"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as app:
        assert app.stdout is not None
        select.select([app.stdout], [], [], 60)
        with contextlib.suppress(subprocess.TimeoutExpired):
            app.wait(0.5)  # the pipe is full before the first read
        lines = app.stdout.read().decode().splitlines()
    assert [line.split("] ")[-1] for line in lines] == [
        f"{number} {'x' * 50}" for number in range(20_000)
    ]
