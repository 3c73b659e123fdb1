"""Shared memory: what a killed process has logged is in the log, exactly once."""

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
from realtalk_async.logs.queue import LogFile

pytestmark = pytest.mark.skipif(
    not spool.FOLDER.is_dir(), reason="there is no shared memory with names here"
)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "app.log"
    yield path
    assert spool.names(path) == []


def files_of(path):
    """The log's files, the oldest first."""
    numbered = [
        one for one in path.parent.glob("app.log.*") if one.suffix[1:].isdigit()
    ]
    numbered.sort(key=lambda one: -int(one.suffix[1:]))
    return [*numbered, path]


def messages(path, component="a"):
    """What one component has said, in all files; every line must be an entry."""
    lines = [line for one in files_of(path) for line in one.read_bytes().splitlines()]
    entries = [parse_line(line) for line in lines]
    assert None not in entries
    return [e.message for e in entries if e is not None and e.component == component]


def bring_in(path, **options):
    """Do what the next process would do first."""
    Logger(path, **options).info("next", "process")


# Life and death


VICTIM = """
import asyncio, mmap, sys, threading
from realtalk_async.logs import Logger
path, count, options, threads = sys.argv[1], sys.argv[2], eval(sys.argv[3]), int(sys.argv[4])
with open(count, "r+b") as file:
    told = mmap.mmap(file.fileno(), 8 * 16)

def work(number, pause):
    sent = 0
    while True:
        logger.info(f"a{number}", str(sent), {"some": "context"})
        sent += 1
        told[8 * number : 8 * number + 8] = sent.to_bytes(8, "little")
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


def start_victim(path, counter, options, threads=2):
    """Start a process that logs in some threads and counts the calls that returned."""
    counter.write_bytes(bytes(8 * 16))
    argv = [sys.executable, "-c", VICTIM, path, counter, repr(options), str(threads)]
    child = subprocess.Popen([str(one) for one in argv], stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"ready\n"
    return child


def kill(child):
    child.send_signal(signal.SIGKILL)
    child.communicate(timeout=30)


def until_logged(counter, lines):
    """Wait until the first thread has logged so many lines."""
    give_up = 30_000
    while int.from_bytes(counter.read_bytes()[:8], "little") < lines:
        give_up -= 1
        assert give_up
        threading.Event().wait(0.001)


def counted(counter, threads=2):
    data = counter.read_bytes()
    return [int.from_bytes(data[8 * n : 8 * n + 8], "little") for n in range(threads)]


@pytest.mark.parametrize("rotation", [{}, {"max_bytes": 20_000, "backups": 9_999}])
@pytest.mark.parametrize("lines", [1, 300, 911, 2_345])
def test_no_line_is_lost_or_doubled_by_sigkill(path, tmp_path, lines, rotation):
    """What was acknowledged is found, each line once and in its thread's order."""
    counter = tmp_path / "counter"
    child = start_victim(path, counter, {"spool": True, **rotation})
    until_logged(counter, lines)
    kill(child)
    bring_in(path, **rotation)
    for number, acknowledged in enumerate(counted(counter)):
        found = messages(path, f"a{number}")
        # The call that was under way may have got as far as the spool.
        assert len(found) - acknowledged in {0, 1}
        assert found == [str(n) for n in range(len(found))]
    assert len(messages(path, "next")) == 1


async def test_the_living_bring_in_what_the_dead_have_left(path, tmp_path):
    """Another process of the same log does, and whoever asks; it is said."""
    counter = tmp_path / "counter"
    async with Logger(path, spool=True) as logger:
        child = await asyncio.to_thread(start_victim, path, counter, {"spool": True}, 1)
        await asyncio.to_thread(until_logged, counter, 200)
        await asyncio.to_thread(kill, child)
        (acknowledged,) = counted(counter, 1)
        found = await logger.get_logs(component="a0")
        assert len(found) - acknowledged in {0, 1}
        said = await logger.get_logs(component="log")
        for entry in said:  # none, if all had been written
            assert entry.context["process"] == child.pid
            assert "killed process" in entry.message
    await asyncio.get_running_loop().shutdown_default_executor()


async def test_a_follower_sees_what_a_killed_process_has_left(path, tmp_path):
    """Though nobody else logs."""
    dead = left_by_the_dead(path, [b"[2025-05-13 14:30:22] [INFO] [a] last words\n"])
    logger = Logger(path)
    follower = logger.follow_logs(component="a")
    with anyio.fail_after(10):
        async for entry in follower:
            assert entry.message == "last words"
            break
    assert not dead.exists()
    await asyncio.get_running_loop().shutdown_default_executor()


def left_by_the_dead(path, lines, written=0):
    """Leave a spool as a killed process would; return its path."""
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
def test_a_write_that_was_cut_at_any_byte_is_completed(path, others):
    """Each line is there once, whatever part of it the killed process had written."""
    data = b"".join(LINES)
    for cut in range(len(data) + 1):
        path.write_bytes(LINES[0])
        left_by_the_dead(path, LINES, written=len(data))
        whole = data[:cut].endswith(b"\n")
        with path.open("ab") as file:
            file.write(data[:cut])
            file.writelines(others if whole else [])
        bring_in(path)
        found = messages(path)
        if others and whole:
            found.remove("9")
        assert found == ["0", "0", "1", "2"], cut
        path.unlink()


def test_a_line_that_was_cut_at_any_byte_was_never_acknowledged(path):
    """It is left out, and those before it are there."""
    for cut in range(len(LINES[1])):
        left_by_the_dead(path, [LINES[0], LINES[1][:cut]] if cut else [LINES[0]])
        bring_in(path)
        assert messages(path) == ["0"], cut
        path.unlink()


CRASHES = """
import itertools, os, signal, sys
from pathlib import Path
from realtalk_async.logs.append_file import Rotation
from realtalk_async.logs.queue import LogFile
from realtalk_async.logs import spool

folder = Path(sys.argv[1])
rotate, twice = sys.argv[2] == "rotate", sys.argv[3] == "twice"
rotation = Rotation(700, 9) if rotate else None
lines = [b"[2025-05-13 14:30:22] [INFO] [a] %03d %s\\n" % (n, b"x" * n) for n in range(30)]
announce = lambda message, context: b""

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
    file.begin_spool(bool)
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
    file.end_spool()
    file.flush()

def in_child(work):
    child = os.fork()
    if not child:
        work()
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0

def check(path, known):
    LogFile(path, announce, rotation).flush()
    files = sorted(path.parent.glob(path.name + ".*"), key=lambda f: -int(f.suffix[1:]))
    text = b"".join(file.read_bytes() for file in [*files, path] if file.exists())
    found = text.splitlines(keepends=True)
    assert found == lines[: len(found)], (path, found)
    assert len(found) >= known, (path, len(found))
    assert not spool.names(path)
    for file in [*files, path]:
        file.unlink(missing_ok=True)

spool.SEGMENT = 4 * 4096  # sooner made
spool._SIZE = spool._HEADER + 2 * spool.SEGMENT
points = 0
for step in itertools.count(1, int(sys.argv[4])):
    path = folder / "app.log"
    survived = in_child(lambda: log(LogFile(path, announce, rotation), step))
    if twice and not survived:
        second = 1
        while spool.names(path):
            def recover():
                die_at(second)
                LogFile(path, announce, rotation).flush()
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
def test_a_process_may_be_killed_at_any_line_of_our_code(
    tmp_path, rotate, twice, every
):
    """While it writes, and once more while another one completes what it had begun."""
    # Every eleventh of some 2,000 lines that are run, for the sake of time.
    ran = subprocess.run(
        [sys.executable, "-c", CRASHES, str(tmp_path), rotate, twice, str(every)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout) > 20


# Beside the dead


def test_nothing_is_brought_in_without_the_lock_of_the_log(path, monkeypatch):
    """A process that was stopped in its write may yet finish it: it can wait."""
    monkeypatch.setattr("realtalk_async.logs.append_file.LOCK_PATIENCE", 0.05)
    left_by_the_dead(path, LINES)
    with path.open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        bring_in(path)
        assert messages(path) == []
    bring_in(path)
    assert messages(path) == ["0", "1", "2"]
    assert len(messages(path, "next")) == 2


def test_a_log_that_is_collected_brings_nothing_in(path, monkeypatch):
    """That may happen while another one has the file locked, in the same thread."""
    monkeypatch.setattr("realtalk_async.logs.queue.LOOK_EVERY", 0.0)
    file = LogFile(path, lambda message, context: b"")
    file.flush()
    left = left_by_the_dead(path, LINES)
    del file
    gc.collect()
    assert left.exists()
    bring_in(path)


def test_a_spool_is_for_its_owner_alone(path):
    """Others may neither read nor write what was logged."""
    left = left_by_the_dead(path, LINES)
    assert stat.S_IMODE(left.stat().st_mode) == 0o600
    assert left.stat().st_uid == os.geteuid()
    bring_in(path)


def test_what_is_no_spool_is_not_brought_in(path):
    """A name is no proof: it is removed if it is ours, and never read otherwise."""
    left = left_by_the_dead(path, LINES)
    left.write_bytes(b"[2025-05-13 14:30:22] [ERROR] [a] forged\n")
    other = left.with_name(f"{left.name}x")
    other.symlink_to("/etc/hostname")
    fifo = left.with_name(f"{left.name}y")
    os.mkfifo(fifo)
    empty = left.with_name(f"{left.name}z")
    with empty.open("wb") as file:
        file.truncate(path.stat().st_size if path.exists() else 10)
    bring_in(path)
    assert messages(path) == []
    assert messages(path, "next") == ["process"]
    assert not left.exists()
    assert Path("/etc/hostname").exists()
    other.unlink()
    fifo.unlink()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file away")
def test_the_spool_of_another_user_is_left_alone(path):
    """Anybody may put a file into shared memory: it must not get into our log."""
    left = left_by_the_dead(path, LINES)
    os.chown(left, 12345, 12345)
    bring_in(path)
    assert messages(path) == []
    assert left.exists()
    left.unlink()


async def test_the_spool_of_a_living_process_is_left_alone(path):
    """Also within one process."""
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


def test_a_symbolic_link_is_the_log_that_it_leads_to(path):
    """Both names find what was left."""
    link = path.with_name("link.log")
    link.symlink_to(path)
    left_by_the_dead(link, LINES)
    bring_in(path)
    assert messages(path) == ["0", "1", "2"]


def test_a_log_of_the_same_name_elsewhere_is_another_log(path):
    """What was left of one is not for the other."""
    folder = path.parent / "elsewhere"
    folder.mkdir()
    left = left_by_the_dead(folder / path.name, LINES)
    bring_in(path)
    assert messages(path) == []
    assert left.exists()
    bring_in(folder / path.name)
    assert messages(folder / path.name) == ["0", "1", "2"]


async def test_a_spool_outlives_the_folder_of_its_log(path):
    """It is made again, and nothing is lost."""
    folder = path.parent / "folder"
    folder.mkdir()
    async with Logger(folder / "app.log", spool=True) as logger:
        assert await logger.info("a", "1")
        shutil.rmtree(folder)
        logger.info("a", "2")
        assert await logger.info("a", "3")
    assert messages(folder / "app.log") == ["2", "3"]


# In daily life


async def test_nothing_is_left_in_shared_memory_after_the_block(path):
    """And the log is the same as without."""
    async with Logger(path, spool=True) as logger:
        for number in range(5_000):
            logger.info("a", str(number), {"some": "context"})
            if number % 500 == 0:
                await asyncio.sleep(0.005)
        assert await logger.error("a", "5000")
    assert spool.names(path) == []
    logger.info("a", "5001")
    assert messages(path) == [str(number) for number in range(5_002)]


async def test_the_block_may_be_entered_again(path):
    """Each time with a spool."""
    logger = Logger(path, spool=True)
    for number in range(3):
        async with logger:
            assert len(spool.names(path)) == 1
            logger.info("a", str(number))
    assert messages(path) == ["0", "1", "2"]


async def test_a_spool_that_is_full_makes_its_callers_write(path, monkeypatch):
    """Nobody else does while the loop is kept from running; the order stays."""
    monkeypatch.setattr(spool, "SEGMENT", 16 * 4096)
    monkeypatch.setattr(spool, "_SIZE", spool._HEADER + 2 * spool.SEGMENT)
    async with Logger(path, spool=True) as logger:
        for number in range(5_000):
            logger.info("a", str(number), {"some": "context"})
        logger.info("a", "x" * 100_000)
        logger.info("a", "last")
    assert messages(path) == [*map(str, range(5_000)), "x" * 100_000, "last"]


async def test_threads_keep_their_order_while_the_spool_overflows(path, monkeypatch):
    """Whichever queue their lines come to wait in."""
    monkeypatch.setattr(spool, "SEGMENT", 4 * 4096)
    monkeypatch.setattr(spool, "_SIZE", spool._HEADER + 2 * spool.SEGMENT)
    async with Logger(path, spool=True) as logger:

        def work(number):
            for index in range(2_000):
                logger.info(f"t{number}", str(index), {"some": "context"})

        threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        with anyio.fail_after(30):
            while any(thread.is_alive() for thread in threads):
                await asyncio.sleep(0.001)
    for number in range(8):
        assert messages(path, f"t{number}") == [str(n) for n in range(2_000)]


async def test_a_signal_handler_may_log_into_the_spool(path):
    """It may interrupt a log call of its own thread."""
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


async def test_without_shared_memory_the_log_works_and_says_so(path, monkeypatch):
    """No room there is no reason to have no log."""
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


def test_a_forked_child_keeps_out_of_its_parents_spool(path):
    """Its lines are written by itself, those of its parent once."""
    ran = [sys.executable, "-W", "ignore", "-c", FORKS, str(path)]
    subprocess.run(ran, check=True, timeout=60)
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


def test_what_a_full_disk_refused_is_written_by_the_next_process(path):
    """Without the spool it would be lost with its process."""
    argv = [sys.executable, "-c", FULL_DISK, str(path)]
    ran = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True)
    assert "No space left on device" in ran.stderr
    assert "lost" not in ran.stderr
    assert messages(path) == ["written"]
    bring_in(path)
    assert messages(path) == ["written", "waits"]
