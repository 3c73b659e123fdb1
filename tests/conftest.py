"""What holds for every test: one loop, nothing left behind, nothing blocked."""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import settings

from realtalk_async.logs import Logger
from realtalk_async.supervision import ProcessManager, groups

# The same examples every time, so that a failure is a change's; "explore" looks for more.
settings.register_profile("steady", max_examples=50, deadline=None, derandomize=True)
settings.register_profile("explore", max_examples=1000, deadline=None)
settings.load_profile("steady")

# Files whose tests speak, listen or run whole programs: they need time, and processors.
REALTIME = {
    "test_cli",
    "test_control",
    "test_demo",
    "test_offline_main",
    "test_peer",
    "test_peer_clients",
    "test_plugin",
    "test_readme",
    "test_run",
    "test_script",
    "test_sound",
    "test_speech",
    "test_stream",
    "test_thread",
    "test_whisper",
}

PATIENCE = 2.0
"""Seconds in which the kernel must be rid of what a test has ended."""


def pytest_collection_modifyitems(items):
    """Mark what needs real time, by its file."""
    for item in items:
        if item.path.stem in REALTIME:
            item.add_marker(pytest.mark.realtime)


@pytest.fixture
def anyio_backend():
    """Run every async test on asyncio, which is all that this package is for."""
    return "asyncio", {"debug": True}


def _children() -> set[str]:
    me = os.getpid()
    return {
        f"{pid} {Path(f'/proc/{pid}/cmdline').read_bytes()[:80]!r}"
        for pid in map(int, filter(str.isdigit, os.listdir("/proc")))
        if _parent(pid) == me
    }


def _parent(pid: int) -> int | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    return int(stat.rpartition(")")[2].split()[1])


def _descriptors() -> set[str]:
    found: set[str] = set()
    for number in os.listdir("/proc/self/fd"):
        try:
            found.add(f"{number} → {os.readlink(f'/proc/self/fd/{number}')}")
        except OSError:
            continue  # the one that lists the folder
    return found


def _threads() -> set[str]:
    # anyio keeps its worker threads for the next test; they belong to the loop's runner.
    return {
        f"{one.name} {one.ident}"
        for one in threading.enumerate()
        if not one.name.startswith(("AnyIO", "asyncio_"))
    }


@pytest.fixture(autouse=True)
def nothing_left_behind(request):
    """Fail a test that leaves a child, a descriptor or a thread."""
    if sys.platform != "linux":
        yield
        return
    looks = {"child": _children, "descriptor": _descriptors, "thread": _threads}
    before = {what: look() for what, look in looks.items()}
    yield
    deadline = time.monotonic() + PATIENCE
    while True:
        left = {what: look() - before[what] for what, look in looks.items()}
        if not any(left.values()) or time.monotonic() > deadline:
            break
        gc.collect()  # costly with large libraries loaded, so only if something is left
        time.sleep(0.01)
    for what, found in left.items():
        assert not found, f"{request.node.name} left a {what} behind: {found}"


@pytest.fixture
def log_path(tmp_path):
    """The path of the log that `logger` writes."""
    return tmp_path / "app.log"


@pytest.fixture
async def logger(log_path):
    """A logger on a file of this test."""
    async with Logger(log_path) as logger:
        yield logger


@pytest.fixture
async def manager(logger):
    """A manager that checks often and jitters nothing away."""
    async with ProcessManager(logger, check_interval=0.05) as manager:
        yield manager


@pytest.fixture
def survivors():
    """Return who lives of a process group, or carries a tag."""

    def look(group_or_tag: int | str) -> list[groups.Member]:
        if isinstance(group_or_tag, str):
            return groups.tagged(group_or_tag)
        return groups.living(group_or_tag)

    return look
