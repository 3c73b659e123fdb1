"""What holds for every test: one loop, nothing left behind, nothing blocked."""

from __future__ import annotations

import asyncio
import inspect
import sys
from pathlib import Path

import pytest
from hypothesis import settings

from realtalk_async.logs import Logger
from realtalk_async.supervision import ProcessManager
from realtalk_async.supervision.kernel import process_groups
from realtalk_async.supervision.output import spill
from realtalk_async.testing import leaks

# The same examples every time, so that a failure is a change's; "explore" looks for more.
settings.register_profile("steady", max_examples=50, deadline=None, derandomize=True)
settings.register_profile("explore", max_examples=1000, deadline=None)
settings.load_profile("steady")

TESTS = Path(__file__).parent

# Files whose tests speak, listen or run whole programs: they need time, and processors.
REALTIME = {
    "cli/test_demo",
    "cli/test_main",
    "cli/test_runner",
    "cli/top/test_app",
    "control/test_server",
    "offline/speech/test_recogniser",
    "offline/speech/test_whisper",
    "offline/test_main",
    "offline/test_official_clients",
    "offline/test_script",
    "offline/test_server",
    "offline/test_server_thread",
    "ops/test_examples",
    "ops/test_run_as_service",
    "ops/test_systemd",
    "ops/test_voice_metrics",
    "supervision/test_chaos",
    "test_readme",
    "testing/test_plugin",
    "voice/audio/test_callbacks",
    "voice/audio/test_real_devices",
    "voice/test_fault_phases",
    "voice/test_soak",
    "voice/test_stream",
}


def pytest_collection_modifyitems(items):
    """Mark what needs real time, by its file."""
    for item in items:
        if str(item.path.relative_to(TESTS).with_suffix("")) in REALTIME:
            item.add_marker(pytest.mark.realtime)


@pytest.fixture
def anyio_backend():
    """Run every async test on asyncio, which is all that this package is for."""
    return "asyncio", {"debug": True}


@pytest.fixture(autouse=True)
def nothing_left_behind(request):
    """Fail a test that leaves a child, a descriptor or a thread."""
    if sys.platform != "linux":
        yield
        return
    if inspect.iscoroutinefunction(request.function):
        request.getfixturevalue("no_task_left_behind")
    before = leaks.look()
    yield
    # Old output is kept for as long as its process is: pytest lets go of it only later.
    left = leaks.left_since(before, but=spill.FILES)
    assert not left, f"{request.node.name} left behind: {left}"


@pytest.fixture
async def no_task_left_behind():
    """Fail a test that leaves a task, once its fixtures are done."""
    yield
    # What runs tests and fixtures is anyio's own; everything else must have ended.
    left = {task for task in asyncio.all_tasks() if "TestRunner." not in repr(task)}
    if left:
        await asyncio.wait(left, timeout=leaks.PATIENCE)
    left = {task for task in left if not task.done()}
    assert not left, leaks.tell("task", [repr(task) for task in left])


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

    def look(group_or_tag: int | str) -> list[process_groups.Member]:
        if isinstance(group_or_tag, str):
            return process_groups.tagged(group_or_tag)
        return process_groups.living(group_or_tag)

    return look
