"""Shared memory: each line of a killed process reaches the log exactly once."""

import asyncio
import fcntl
import gc
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import anyio
import pytest

from realtalk_async.logs import Logger, parse_line, spool
from realtalk_async.logs.append_file import Piece
from realtalk_async.logs.queue import LogQueue
from realtalk_async.operating_system import SYSTEM

pytestmark = pytest.mark.skipif(
    not spool.FOLDER.is_dir(), reason="this system has no named shared memory"
)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "app.log"
    yield path
    assert spool.names(path) == []


def files_of(path):
    """Return the files of a log, the oldest first."""
    numbered = [
        each for each in path.parent.glob("app.log.*") if each.suffix[1:].isdigit()
    ]
    numbered.sort(key=lambda each: -int(each.suffix[1:]))
    return [*numbered, path]


def messages(path, component="a"):
    """Return the messages of a log in order; each line must be an entry."""
    lines = [line for file in files_of(path) for line in file.read_bytes().splitlines()]
    entries = [parse_line(line) for line in lines]
    assert None not in entries
    return [e.message for e in entries if e is not None and e.component == component]


def recover(path, **options):
    """Recover like the next process that logs."""
    Logger(path, **options).info("next", "process")


# SIGKILL


LOGGING_PROCESS = """
import asyncio, mmap, sys, threading
from realtalk_async.logs import Logger
path, count, options, threads = sys.argv[1], sys.argv[2], eval(sys.argv[3]), int(sys.argv[4])
with open(count, "r+b") as file:
    counts = mmap.mmap(file.fileno(), 8 * 16)

def work(number, pause):
    sent = 0
    while True:
        logger.info(f"a{number}", str(sent), {"some": "context"})
        sent += 1
        counts[8 * number : 8 * number + 8] = sent.to_bytes(8, "little")
        if sent % 50 == 0:
            pause.wait(0.0005)

async def main():
    global logger
    async with Logger(path, **options) as logger:
        for number in range(threads):
            args = (number, threading.Event())
            threading.Thread(target=work, args=args, daemon=True).start()
        print("ready", flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""


def start_logging_process(path, counter, options, threads=2):
    """Start a process whose threads log and count the calls that returned."""
    counter.write_bytes(bytes(8 * 16))
    argv = [
        sys.executable,
        "-c",
        LOGGING_PROCESS,
        path,
        counter,
        repr(options),
        str(threads),
    ]
    child = subprocess.Popen([str(each) for each in argv], stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"ready\n"
    return child


def kill(child):
    child.send_signal(signal.SIGKILL)
    child.communicate(timeout=120)


def until_logged(counter, lines):
    """Wait until the first thread has logged so many lines."""
    attempts = 30_000
    while int.from_bytes(counter.read_bytes()[:8], "little") < lines:
        attempts -= 1
        assert attempts
        threading.Event().wait(0.001)


def counted(counter, threads=2):
    data = counter.read_bytes()
    return [int.from_bytes(data[8 * n : 8 * n + 8], "little") for n in range(threads)]


@pytest.mark.parametrize("rotation", [{}, {"max_bytes": 20_000, "backups": 9_999}])
@pytest.mark.parametrize("lines", [1, 300, 911, 2_345])
def test_sigkill_neither_loses_nor_doubles_a_line(path, tmp_path, lines, rotation):
    counter = tmp_path / "counter"
    child = start_logging_process(path, counter, {"spool": True, **rotation})
    until_logged(counter, lines)
    kill(child)
    recover(path, **rotation)
    for number, acknowledged in enumerate(counted(counter)):
        found = messages(path, f"a{number}")
        # The interrupted call may have written its line to the spool.
        assert len(found) - acknowledged in {0, 1}
        assert found == [str(n) for n in range(len(found))]
    assert len(messages(path, "next")) == 1


async def test_writers_and_readers_recover_the_lines_of_a_killed_process(
    path, tmp_path
):
    counter = tmp_path / "counter"
    async with Logger(path, spool=True) as logger:
        child = await asyncio.to_thread(
            start_logging_process, path, counter, {"spool": True}, 1
        )
        await asyncio.to_thread(until_logged, counter, 200)
        await asyncio.to_thread(kill, child)
        (acknowledged,) = counted(counter, 1)
        found = await logger.get_logs(component="a0")
        assert len(found) - acknowledged in {0, 1}
        notices = await logger.get_logs(component="log")
        for entry in notices:  # empty if the process had written all lines
            assert entry.context["process"] == child.pid
            assert "killed process" in entry.message
    await asyncio.get_running_loop().shutdown_default_executor()


async def test_following_yields_the_lines_of_a_killed_process(path, tmp_path):
    dead = abandoned_spool(path, [b"[2025-05-13 14:30:22] [INFO] [a] last words\n"])
    logger = Logger(path)
    follower = logger.follow_logs(component="a")
    with anyio.fail_after(120):
        async for entry in follower:
            assert entry.message == "last words"
            break
    assert not dead.exists()
    await asyncio.get_running_loop().shutdown_default_executor()


def abandoned_spool(path, lines, written=0):
    """Create the spool of a killed process; return its path."""
    left = spool.create(path, [], bool)
    for line in lines:
        left.append(line)
    if written:
        status = path.stat()
        piece = Piece(written, status.st_dev, status.st_ino, status.st_size)
        assert left.take()
        left.begins(piece)
    left.close()
    return left.path


LINES = [b"[2025-05-13 14:30:22] [INFO] [a] %d\n" % number for number in range(3)]


@pytest.mark.parametrize("others", [[], [b"[2025-05-13 14:30:22] [INFO] [a] 9\n"]])
def test_a_write_interrupted_at_any_byte_is_completed_without_doubles(path, others):
    data = b"".join(LINES)
    for cut in range(len(data) + 1):
        path.write_bytes(LINES[0])
        abandoned_spool(path, LINES, written=len(data))
        whole = data[:cut].endswith(b"\n")
        with path.open("ab") as file:
            file.write(data[:cut])
            file.writelines(others if whole else [])
        recover(path)
        found = messages(path)
        if others and whole:
            found.remove("9")
        assert found == ["0", "0", "1", "2"], cut
        path.unlink()


def test_a_line_that_was_not_whole_in_the_spool_is_left_out(path):
    """Its call had not returned."""
    for cut in range(len(LINES[1])):
        abandoned_spool(path, [LINES[0], LINES[1][:cut]] if cut else [LINES[0]])
        recover(path)
        assert messages(path) == ["0"], cut
        path.unlink()


CRASHES = """
import itertools, os, signal, sys
from pathlib import Path
from realtalk_async.logs.append_file import Rotation
from realtalk_async.logs.queue import LogQueue
from realtalk_async.logs import spool

folder = Path(sys.argv[1])
rotate, twice = sys.argv[2] == "rotate", sys.argv[3] == "twice"
rotation = Rotation(700, 9) if rotate else None
lines = [b"[2025-05-13 14:30:22] [INFO] [a] %03d %s\\n" % (n, b"x" * n) for n in range(30)]
format_notice = lambda message, context: b""

def die_at(step):
    steps = itertools.count(1)
    def trace(frame, event, argument):
        if "/logs/" not in frame.f_code.co_filename:
            return None
        if event == "line" and next(steps) == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return trace
    sys.settrace(trace)

def log(file, step):
    file.start_spool(bool)
    for line in lines[:10]:
        file.append(line)
    file.flush()
    for line in lines[10:25]:
        file.append(line)
    die_at(step)
    file.flush()
    for line in lines[25:]:
        file.append(line)
    file.flush()
    file.stop_spool()
    file.flush()

def in_child(work):
    child = os.fork()
    if not child:
        work()
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0

def check(path, known):
    LogQueue(path, format_notice, rotation).flush()
    files = sorted(path.parent.glob(path.name + ".*"), key=lambda f: -int(f.suffix[1:]))
    text = b"".join(file.read_bytes() for file in [*files, path] if file.exists())
    found = text.splitlines(keepends=True)
    assert found == lines[: len(found)], (path, found)
    assert len(found) >= known, (path, len(found))
    assert not spool.names(path)
    for file in [*files, path]:
        file.unlink(missing_ok=True)

spool.SEGMENT = 4 * 4096  # faster to create
spool._SIZE = spool._HEADER + 2 * spool.SEGMENT
points = 0
for step in itertools.count(1, int(sys.argv[4])):
    path = folder / "app.log"
    survived = in_child(lambda: log(LogQueue(path, format_notice, rotation), step))
    if twice and not survived:
        second = 1
        while spool.names(path):
            def recover():
                die_at(second)
                LogQueue(path, format_notice, rotation).flush()
            second += 37
            in_child(recover)
            points += 1
    check(path, 25)
    points += 1
    if survived:
        break
print(points)
"""


@pytest.mark.parametrize("rotate", ["rotate", "grow"])
@pytest.mark.parametrize(("twice", "every"), [("once", 11), ("twice", 197)])
def test_a_process_can_be_killed_at_any_line_of_our_code(
    tmp_path, rotate, twice, every
):
    """With ``twice``, the process that recovers its lines is killed as well."""
    # Every eleventh of about 2,000 executed lines, to save time.
    ran = subprocess.run(
        [sys.executable, "-c", CRASHES, str(tmp_path), rotate, twice, str(every)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout) > 20


# Recovery next to other processes


def test_nothing_is_recovered_without_the_lock_of_the_log(path, monkeypatch):
    """A stopped process may still finish its write."""
    monkeypatch.setattr("realtalk_async.logs.append_file.LOCK_TIMEOUT", 0.05)
    abandoned_spool(path, LINES)
    with path.open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        recover(path)
        assert messages(path) == []
    recover(path)
    assert messages(path) == ["0", "1", "2"]
    assert len(messages(path, "next")) == 2


def test_garbage_collection_of_a_log_recovers_nothing(path, monkeypatch):
    """It may happen while the same thread holds the lock through another log."""
    monkeypatch.setattr("realtalk_async.logs.queue.RECOVERY_INTERVAL", 0.0)
    file = LogQueue(path, lambda message, context: b"")
    file.flush()
    left = abandoned_spool(path, LINES)
    del file
    gc.collect()
    assert left.exists()
    recover(path)


def test_only_its_user_can_read_and_write_a_spool(path):
    left = abandoned_spool(path, LINES)
    assert stat.S_IMODE(left.stat().st_mode) == 0o600
    assert left.stat().st_uid == os.geteuid()
    recover(path)


def test_a_file_that_is_not_a_spool_is_removed_unread(path):
    left = abandoned_spool(path, LINES)
    left.write_bytes(b"[2025-05-13 14:30:22] [ERROR] [a] forged\n")
    other = left.with_name(f"{left.name}x")
    other.symlink_to("/etc/hostname")
    fifo = left.with_name(f"{left.name}y")
    os.mkfifo(fifo)
    empty = left.with_name(f"{left.name}z")
    with empty.open("wb") as file:
        file.truncate(path.stat().st_size if path.exists() else 10)
    recover(path)
    assert messages(path) == []
    assert messages(path, "next") == ["process"]
    assert not left.exists()
    assert Path("/etc/hostname").exists()
    other.unlink()
    fifo.unlink()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file away")
def test_a_file_of_another_user_is_not_recovered(path):
    """Any user can create a file in shared memory."""
    left = abandoned_spool(path, LINES)
    os.chown(left, 12345, 12345)
    recover(path)
    assert messages(path) == []
    assert left.exists()
    left.unlink()


async def test_the_spool_of_a_running_process_is_not_recovered(path):
    async with Logger(path, spool=True) as logger:
        await logger.flush()
        logger.info("a", "1")
        assert len(spool.names(path)) == 1
        async with Logger(path, spool=True) as other:
            assert len(spool.names(path)) == 2
            other.info("a", "2")
            assert await other.flush()
        assert len(spool.names(path)) == 1
    assert sorted(messages(path)) == ["1", "2"]
    assert messages(path, "log") == []


def test_a_symbolic_link_shares_the_spools_of_its_log(path):
    link = path.with_name("link.log")
    link.symlink_to(path)
    abandoned_spool(link, LINES)
    recover(path)
    assert messages(path) == ["0", "1", "2"]


def test_names_of_one_log_that_differ_in_case_share_its_spools(path, monkeypatch):
    def fold(system, folder, name):
        return name.casefold()

    monkeypatch.setattr(type(SYSTEM), "comparable_name", fold)
    abandoned_spool(path.with_name("App.LOG"), LINES)
    recover(path)
    assert messages(path) == ["0", "1", "2"]


def test_a_log_of_the_same_name_in_another_folder_has_its_own_spools(path):
    folder = path.parent / "elsewhere"
    folder.mkdir()
    left = abandoned_spool(folder / path.name, LINES)
    recover(path)
    assert messages(path) == []
    assert left.exists()
    recover(folder / path.name)
    assert messages(folder / path.name) == ["0", "1", "2"]


async def test_a_spool_is_recovered_after_its_folder_was_removed(path):
    folder = path.parent / "folder"
    folder.mkdir()
    async with Logger(folder / "app.log", spool=True) as logger:
        assert await logger.info("a", "1")
        shutil.rmtree(folder)
        logger.info("a", "2")
        assert await logger.info("a", "3")
    assert messages(folder / "app.log") == ["2", "3"]


# Without a kill


async def test_the_spool_is_removed_at_the_end_of_the_block(path):
    async with Logger(path, spool=True) as logger:
        for number in range(5_000):
            logger.info("a", str(number), {"some": "context"})
            if number % 500 == 0:
                await asyncio.sleep(0.005)
        assert await logger.error("a", "5000")
    assert spool.names(path) == []
    logger.info("a", "5001")
    assert messages(path) == [str(number) for number in range(5_002)]


async def test_each_block_has_a_new_spool(path):
    logger = Logger(path, spool=True)
    for number in range(3):
        async with logger:
            assert len(spool.names(path)) == 1
            logger.info("a", str(number))
    assert messages(path) == ["0", "1", "2"]


async def test_callers_write_a_full_spool_while_the_loop_is_blocked(path, monkeypatch):
    monkeypatch.setattr(spool, "SEGMENT", 16 * 4096)
    monkeypatch.setattr(spool, "_SIZE", spool._HEADER + 2 * spool.SEGMENT)
    async with Logger(path, spool=True) as logger:
        for number in range(5_000):
            logger.info("a", str(number), {"some": "context"})
        logger.info("a", "x" * 100_000)
        logger.info("a", "last")
    assert messages(path) == [*map(str, range(5_000)), "x" * 100_000, "last"]


async def test_lines_of_threads_keep_their_order_while_the_spool_overflows(
    path, monkeypatch
):
    monkeypatch.setattr(spool, "SEGMENT", 4 * 4096)
    monkeypatch.setattr(spool, "_SIZE", spool._HEADER + 2 * spool.SEGMENT)
    async with Logger(path, spool=True) as logger:

        def work(number):
            for index in range(2_000):
                logger.info(f"t{number}", str(index), {"some": "context"})

        threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        with anyio.fail_after(120):
            while any(thread.is_alive() for thread in threads):
                await asyncio.sleep(0.001)
    for number in range(8):
        assert messages(path, f"t{number}") == [str(n) for n in range(2_000)]


async def test_a_signal_handler_can_log_into_the_spool(path):
    async with Logger(path, spool=True) as logger:
        before = signal.signal(
            signal.SIGUSR1, lambda *_: (logger.error("a", "signal"), None)[1]
        )
        try:
            for _ in range(200):
                logger.info("a", "call")
                signal.raise_signal(signal.SIGUSR1)
        finally:
            signal.signal(signal.SIGUSR1, before)
    assert sorted(messages(path)) == ["call"] * 200 + ["signal"] * 200


async def test_without_shared_memory_the_log_works_and_reports_it(path, monkeypatch):
    monkeypatch.setattr(spool, "FOLDER", Path("/nowhere"))
    async with Logger(path, spool=True) as logger:
        assert await logger.info("a", "1")
        (entry,) = await logger.get_logs(component="log")
        assert "no spool" in entry.message
    assert messages(path) == ["1"]


FORKS = """
import asyncio, os, sys
from realtalk_async.logs import Logger

async def main():
    async with Logger(sys.argv[1], spool=True) as logger:
        logger.info("a", "parent")
        child = os.fork()
        if child == 0:
            logger.info("a", "child")
            os._exit(0)
        os.waitpid(child, 0)
        logger.info("a", "parent again")

asyncio.run(main())
"""


def test_a_forked_child_does_not_use_the_spool_of_its_parent(path):
    ran = [sys.executable, "-W", "ignore", "-c", FORKS, str(path)]
    subprocess.run(ran, check=True, timeout=240)
    assert sorted(messages(path)) == ["child", "parent", "parent again"]


FULL_DISK = """
import asyncio, os, sys
from realtalk_async.logs import Logger

def full(*_):
    raise OSError(28, "No space left on device")

async def main():
    async with Logger(sys.argv[1], spool=True) as logger:
        await logger.info("a", "written")
        os.write = full
        logger.info("a", "waits")

asyncio.run(main())
"""


def test_lines_that_a_full_disk_refused_are_written_by_the_next_process(path):
    argv = [sys.executable, "-c", FULL_DISK, str(path)]
    ran = subprocess.run(argv, capture_output=True, text=True, timeout=240, check=True)
    assert "No space left on device" in ran.stderr
    assert "lost" not in ran.stderr
    assert messages(path) == ["written"]
    recover(path)
    assert messages(path) == ["written", "waits"]
