"""New entries of a log while it is written, rotated, removed and truncated."""

import contextlib
import os
from datetime import datetime

import anyio
import pytest

from realtalk_async.exceptions import InvalidConfiguration
from realtalk_async.logs import Level, LogEntry, Logger
from realtalk_async.logs.entry import format_line

START = datetime.fromisoformat("2025-05-13 14:30:22").astimezone()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "app.log"


async def collect(entries, count):
    """Return the messages of the next entries."""
    return [(await anext(entries)).message for _ in range(count)]


async def test_following_yields_matching_entries_of_all_writers_from_now_on(path):
    async with Logger(path) as logger:
        await logger.error("a", "before")
        followed = logger.follow_logs(level="ERROR", pattern="^[0-9]")
        for number in range(10):
            logger.error("a", str(number))
            logger.info("a", str(number))
            logger.error("a", "no number")
        with anyio.fail_after(120):
            assert await collect(followed, 10) == [str(n) for n in range(10)]
            await Logger(path).error("b", "99")
            assert await collect(followed, 1) == ["99"]


@pytest.mark.parametrize("free", [0, 1, 2])
async def test_no_file_is_missed_during_a_rotation(path, free):
    """Regression: older files were missed while a number was free for a moment."""
    logger = Logger(path)
    followed = logger.follow_logs()
    files = [path, *(path.with_name(f"{path.name}.{n}") for n in (1, 2, 3, 4))]
    for number in range(4):
        with path.open("a") as file:
            file.write(f"[2025-05-13 14:30:22] [INFO] [a] {number}\n")
        for place in (3, 2, 1, 0):
            if place >= free or number < 3:
                with contextlib.suppress(FileNotFoundError):
                    files[place].rename(files[place + 1])
    assert [file.exists() for file in files].count(False) == 1
    assert not files[free].exists()
    found = await logger.get_logs()
    assert [entry.message for entry in found] == ["0", "1", "2", "3"]
    with anyio.fail_after(120):
        assert await collect(followed, 4) == ["0", "1", "2", "3"]


async def test_following_continues_through_several_rotations_between_two_reads(path):
    async with Logger(path, max_bytes=2_000, backups=99) as logger:
        followed = logger.follow_logs()
        for number in range(500):
            logger.info("a", str(number))
        with anyio.fail_after(120):
            assert await collect(followed, 500) == [str(n) for n in range(500)]


@pytest.mark.parametrize("how", ["removed", "truncated"])
async def test_following_continues_after_the_file_is_removed_or_truncated(path, how):
    logger = Logger(path)
    logger.info("a", "x" * 1000)
    followed = logger.follow_logs(pattern="^[0-9]$")
    logger.info("a", "1")
    with anyio.fail_after(120):
        assert await collect(followed, 1) == ["1"]
        if how == "removed":
            path.unlink()
        else:
            os.truncate(path, 0)
        logger.info("a", "2")
        assert await collect(followed, 1) == ["2"]


async def test_following_waits_for_the_end_of_a_line(path):
    logger = Logger(path)
    followed = logger.follow_logs()
    line = format_line(LogEntry(START, Level.INFO, "a", "whole")) + "\n"
    with path.open("a", buffering=1) as writer:
        writer.write(line[:30])
        writer.flush()
        with anyio.move_on_after(0.3) as scope:
            await anext(followed)
        assert scope.cancelled_caught
        writer.write(line[30:])
    logger.info("a", "next")
    with anyio.fail_after(120):
        assert await collect(followed, 2) == ["whole", "next"]


def test_follow_logs_refuses_invalid_arguments_before_the_first_await(path):
    with pytest.raises(InvalidConfiguration):
        Logger(path).follow_logs("FATAL")
