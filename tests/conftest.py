"""Fixtures of all tests: the event loop, leak checks, a logger, a manager."""

from __future__ import annotations

import asyncio
import inspect
import signal
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from realtalk_async.exceptions import ContainmentUnavailable
from realtalk_async.logs import Logger
from realtalk_async.operating_system import SYSTEM
from realtalk_async.supervision import ProcessManager
from realtalk_async.supervision.kernel import process_groups
from realtalk_async.supervision.kernel.cgroups.manager_cgroup import ManagerCgroup
from realtalk_async.supervision.output import spill
from realtalk_async.testing import leaks

if TYPE_CHECKING:
    from realtalk_async.operating_system import ProcessInfo

# The same examples in each run, so that only a change makes a test fail.
settings.register_profile("steady", max_examples=50, deadline=None, derandomize=True)
settings.register_profile("explore", max_examples=1000, deadline=None)
settings.load_profile("steady")

TESTS = Path(__file__).parent

# Tests of sound, speech, whole sessions and programs: they need real time and two cores.
REALTIME = {
    "cli/test_commands",
    "cli/test_demo",
    "cli/test_group_signals",
    "cli/test_inspect",
    "cli/test_prompts_and_progress",
    "cli/test_reload",
    "cli/test_run_files",
    "cli/test_runner",
    "cli/test_signals_and_streams",
    "cli/test_suspend",
    "cli/top/test_app",
    "cli/top/test_web",
    "control/test_server",
    "offline/speech/test_script",
    "offline/speech/test_voice",
    "offline/speech/test_voice_detector",
    "offline/test_main",
    "offline/test_official_clients",
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
    "voice/test_interaction",
    "voice/test_interruptions",
    "voice/test_stream",
}

SLOW = {
    "offline/speech/test_engine",
    "offline/speech/test_sphinx",
    "offline/speech/test_whisper",
    "voice/audio/test_hearing_half_hour",
    "voice/test_soak",
}

ONE_PYTHON = {
    "cli/config/",
    "logs/bridges/",
    "logs/test_entry",
    "logs/test_serialize",
    "logs/test_several_processes",
    "offline/",
    "ops/tracing/",
    "supervision/kernel/test_orphans",
    "supervision/output/test_forgetting",
    "supervision/policy/",
    "supervision/reports/",
    "supervision/test_cancellations",
    "test_arguments",
    "test_layers",
    "voice/audio/test_hearing",
    "voice/credentials/",
    "voice/protocol/",
    "voice/timeline/",
}

SWEEP = {
    "logs/test_hostile_values",
    "logs/times/test_repeated_hour",
    "supervision/output/test_chunk_index",
    "supervision/test_thousand_runs",
}

MARKED = {
    "realtime": REALTIME,
    "slow": SLOW,
    "one_python": ONE_PYTHON,
    "sweep": SWEEP,
}
"""The files and folders/ whose tests have a marker; pyproject.toml says what they mean."""


LINUX_ONLY = TESTS / "operating_system" / "linux_only.toml"
"""The tests that need what only Linux has, with what that is."""


def pytest_configure():
    # A script that runs the tests in the background lets them ignore these signals, and
    # programs that the tests start would ignore them too.
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
        if signal.getsignal(number) is signal.SIG_IGN:
            is_interrupt = number == signal.SIGINT
            default = signal.default_int_handler if is_interrupt else signal.SIG_DFL
            signal.signal(number, default)
    files = {name for names in MARKED.values() for name in names}
    paths = {name: name if name.endswith("/") else f"{name}.py" for name in files}
    missing = [name for name, path in paths.items() if not (TESTS / path).exists()]
    if missing:
        raise pytest.UsageError(f"MARKED names files that do not exist: {missing}")


def pytest_ignore_collect(collection_path, config):
    """Import no file whose tests ``-m`` deselects: each worker imports all others."""
    if collection_path.suffix != ".py" or not config.option.markexpr:
        return None
    has = {marker: marker in markers_of(collection_path) for marker in MARKED}
    try:
        selected = eval(config.option.markexpr, {"__builtins__": {}}, has)
    except (NameError, SyntaxError):
        return None  # it names other markers: pytest decides for each test
    return None if selected else True


def pytest_collection_modifyitems(items):
    linux_only = {} if SYSTEM.name == "Linux" else tomllib.loads(LINUX_ONLY.read_text())
    for item in items:
        file = str(item.path.relative_to(TESTS))
        for name in (file, f"{file}::{item.originalname}"):
            if reason := linux_only.get(name):
                item.add_marker(pytest.mark.skip(reason=f"only on Linux: {reason}"))
    for item in items:
        own = MARKED.keys() & {mark.name for mark in item.iter_markers()}
        if own:  # `pytest_ignore_collect` would not know of it
            raise pytest.UsageError(f"{item.nodeid}: {own} belongs in MARKED")
        for marker in markers_of(item.path):
            item.add_marker(getattr(pytest.mark, marker))


def markers_of(path):
    """Return the markers of the tests in a file."""
    file = str(path.relative_to(TESTS).with_suffix(""))
    above = {f"{folder.as_posix()}/" for folder in Path(file).parents}
    return {marker for marker, names in MARKED.items() if names & {file, *above}}


@pytest.fixture
def anyio_backend():
    """Run async tests on asyncio only, in debug mode."""
    return "asyncio", {"debug": True}


@pytest.fixture(autouse=True)
def no_leaks(request):
    """Fail a test that leaves a child, a descriptor, a thread or a task behind."""
    if sys.platform != "linux":
        yield
        return
    if inspect.iscoroutinefunction(request.function):
        request.getfixturevalue("no_leaked_tasks")
    before = leaks.take_inventory()
    yield
    # pytest still refers to processes, and those keep the files of their output.
    left = leaks.find_leaks(before, ignore=spill.FILES)
    assert not left, leaks.describe("resources", left)


@pytest.fixture
async def no_leaked_tasks():
    """Fail a test that leaves a task behind after its fixtures are closed."""
    yield
    # anyio's own tasks run tests and fixtures.
    left = {task for task in asyncio.all_tasks() if "TestRunner." not in repr(task)}
    if left:
        await asyncio.wait(left, timeout=leaks.SETTLE_TIME)
    left = {task for task in left if not task.done()}
    assert not left, leaks.describe("tasks", [repr(task) for task in left])


@pytest.fixture
def log_path(tmp_path):
    """Return the path of the log that `logger` writes."""
    return tmp_path / "app.log"


@pytest.fixture
async def logger(log_path):
    """Yield a logger on a file of this test."""
    async with Logger(log_path) as logger:
        yield logger


@pytest.fixture
async def manager(logger):
    """Yield a manager that checks its children every 50 ms."""
    async with ProcessManager(logger, check_interval=0.05) as manager:
        yield manager


@pytest.fixture(scope="session")
def can_make_cgroups():
    """Skip a test where this machine can make no cgroup, with the reason."""
    try:
        made = ManagerCgroup(lambda _path: None)
    except ContainmentUnavailable as error:
        pytest.skip(str(error))
    made.close_now()


@pytest.fixture
def survivors():
    """Return a function that lists live processes of a group or with a tag."""

    def find(group_or_tag: int | str) -> list[ProcessInfo]:
        if isinstance(group_or_tag, str):
            return process_groups.find_tagged(group_or_tag)
        return process_groups.living_members(group_or_tag)

    return find
