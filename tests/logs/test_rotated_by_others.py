"""A log that logrotate rotates, that a fork inherits, and that signals and threads fill."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import threading

import anyio
import pytest

from realtalk_async.logs import Logger, parse_line


def create(path):
    """Do what logrotate does with ``create``: rename, then a new empty file."""
    path.rename(f"{path}.1")
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o640))


def copytruncate(path):
    """Do what logrotate does with ``copytruncate``: copy, then truncate in place."""
    shutil.copyfile(path, f"{path}.1")
    os.truncate(path, 0)


def messages(path):
    found = [parse_line(line) for line in path.read_bytes().splitlines()]
    assert None not in found
    return [one.message for one in found if one and one.component != "log"]


@pytest.mark.parametrize("rotate", [create, copytruncate])
@pytest.mark.parametrize("spool", [False, True])
async def test_logrotate_loses_no_line_and_searches_find_all(tmp_path, rotate, spool):
    path = tmp_path / "app.log"
    async with Logger(path, spool=spool) as logger:
        following = logger.follow_logs(component="app")
        followed = []
        for number in range(50):
            await logger.info("app", f"before {number}")
        with anyio.fail_after(30):
            followed += [(await anext(following)).message for _ in range(50)]
        rotate(path)
        for number in range(20):
            await logger.info("app", f"after {number}")
        with anyio.fail_after(30):
            followed += [(await anext(following)).message for _ in range(20)]
        entries = await logger.get_logs(component="app")
    old = [f"before {number}" for number in range(50)]
    new = [f"after {number}" for number in range(20)]
    assert messages(path.with_name("app.log.1")) == old
    assert messages(path) == new
    assert [entry.message for entry in entries] == followed == old + new
    assert b"\0" not in path.read_bytes()


@pytest.mark.parametrize("rotate", [create, copytruncate])
def test_logrotate_leaves_a_logger_without_a_loop_its_lines(tmp_path, rotate):
    path = tmp_path / "app.log"
    logger = Logger(path)
    logger.info("app", "before")
    rotate(path)
    logger.info("app", "after")
    assert messages(path.with_name("app.log.1")) == ["before"]
    assert messages(path) == ["after"]


FORKS = """
import asyncio, multiprocessing, os, sys
from realtalk_async import Logger

def work(name):
    for number in range(50):
        logger.info(name, str(number))
    logger.error(name, "last")

async def main():
    async with logger:
        logger.info("parent", "first")
        if sys.argv[2] == "fork":
            pid = os.fork()
            if not pid:
                work("child")
                os._exit(0)
            work("parent")
            os.waitpid(pid, 0)
        else:
            child = multiprocessing.get_context("fork").Process(target=work, args=("child",))
            child.start()
            work("parent")
            child.join()

logger = Logger(sys.argv[1], spool=sys.argv[3] == "spool")
asyncio.run(main())
"""


@pytest.mark.parametrize("way", ["fork", "multiprocessing"])
@pytest.mark.parametrize("queue", ["memory", "spool"])
def test_a_fork_and_its_parent_log_each_line_once(tmp_path, way, queue):
    path = tmp_path / "app.log"
    words = [sys.executable, "-W", "ignore", "-c", FORKS, str(path), way, queue]
    subprocess.run(words, check=True, timeout=60)
    entries = [parse_line(line) for line in path.read_bytes().splitlines()]
    found = {"parent": [], "child": []}
    for entry in entries:
        assert entry is not None
        found[entry.component].append(entry.message)
    lines = [*map(str, range(50)), "last"]
    assert found == {"parent": ["first", *lines], "child": lines}


async def test_signal_handlers_and_threads_log_while_others_do(tmp_path):
    path = tmp_path / "app.log"
    handled = []
    async with Logger(path) as logger:

        def handle(number, frame):
            handled.append(number)
            logger.warning("signal", str(len(handled)))

        def work():
            for number in range(200):
                logger.info("thread", str(number))
                os.kill(os.getpid(), signal.SIGUSR1)

        before = signal.signal(signal.SIGUSR1, handle)
        try:
            thread = threading.Thread(target=work)
            thread.start()
            with anyio.fail_after(60):
                while thread.is_alive():
                    logger.info("loop", "x")
                    await asyncio.sleep(0)
        finally:
            signal.signal(signal.SIGUSR1, before)
        thread.join()
        signals = await logger.get_logs(component="signal")
        threads = await logger.get_logs(component="thread")
    assert handled
    assert sorted(int(one.message) for one in signals) == [
        number + 1 for number in range(len(handled))
    ]
    assert [one.message for one in threads] == list(map(str, range(200)))
