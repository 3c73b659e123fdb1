"""
The pytest plugin: what a test of a supervised app needs, and what it shows if it fails.

It is loaded with the package and does nothing in tests that do not ask for its fixtures.
They are plain fixtures, so they work in the same way with pytest-asyncio (strict and
auto), with anyio's plugin, and under xdist. What has to run in the test's event loop is
entered by the test, with ``async with``::

    async def test_the_recorder_is_revived(realtalk_manager, scripted_child):
        async with realtalk_manager as manager:
            recorder = await manager.start("recorder", scripted_child.hang())
            ...

=====================  ============================================================
fixture                what it is
=====================  ============================================================
``realtalk_logger``    a `Logger` on a file of this test
``realtalk_manager``   a `ProcessManager` with that logger, to be entered
``offline_peer``       the offline realtime `Peer`, to be entered; `fault` by call
``scripted_child``     commands for children that ``hang``, ``crash``, ``flood`` …
``realtalk_no_leaks``  fails a test that leaves a child, descriptor, thread or task;
                       for a module by ``pytestmark = pytest.mark.usefixtures(…)``,
                       for all by ``usefixtures = …`` in pytest's configuration
=====================  ============================================================

The report of a failed test shows, for each child of ``realtalk_manager``, how it ended
and its last lines, and then the newest lines of the log.
"""

from __future__ import annotations

import importlib
import inspect
from typing import TYPE_CHECKING, Any

import pytest

# Nothing else of the package is imported here, only in what needs it: a plugin must not
# slow down the start of every test run.
if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from realtalk_async.logs import Logger
    from realtalk_async.supervision import ProcessHistory, ProcessManager

    from .children import ScriptedChildren

MOST = 50
"""Newest log lines that a failure report shows."""
MOST_LIVES = 3
"""Newest incarnations of each child that a failure report shows."""

_logs = pytest.StashKey["Path"]()
_managers = pytest.StashKey["ProcessManager"]()


@pytest.fixture
def realtalk_logger(request: pytest.FixtureRequest, tmp_path: Path) -> Logger:
    """
    Return a `Logger` on a file of this test.

    It can be used with and without its ``async with`` block. If the test fails, its last
    50 lines stand in the report.
    """
    from realtalk_async.logs import Logger

    logger = Logger(tmp_path / "realtalk.log")
    request.node.stash[_logs] = logger.path
    return logger


@pytest.fixture
def realtalk_manager(
    request: pytest.FixtureRequest, realtalk_logger: Logger
) -> ProcessManager:
    """
    Return a `ProcessManager`, to be entered: ``async with realtalk_manager as manager:``.

    If the test fails, its report shows how each child ended, and its last lines.
    """
    from realtalk_async.supervision import ProcessManager

    manager = ProcessManager(realtalk_logger)
    request.node.stash[_managers] = manager
    return manager


@pytest.fixture
def offline_peer() -> Any:  # noqa: ANN401 - a `Peer`, which stands above this room
    """
    Return the offline realtime peer, to be entered: ``async with offline_peer as peer:``.

    ``peer.url`` is where to connect; ``peer.fault("drop:5")`` arms a fault.
    """
    try:
        # By name: only tests that ask for the peer reach up to the room above.
        return importlib.import_module("realtalk_async.offline").Peer()
    except ImportError as exc:
        pytest.fail(f"offline_peer: {exc}", pytrace=False)


@pytest.fixture
def scripted_child() -> ScriptedChildren:
    """Return what makes commands for children that do one thing, such as crash."""
    from .children import ScriptedChildren

    return ScriptedChildren()


@pytest.fixture
def realtalk_no_leaks() -> Generator[None]:
    """
    Fail the test if it leaves a child, a descriptor, a thread or a task behind.

    What fixtures asked for before this one have is theirs. Linux only.
    """
    from . import leaks

    before = leaks.look()
    yield
    if left := leaks.left_since(before):
        pytest.fail(leaks.tell("thing", left), pytrace=False)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    """Have a guarded test look for tasks while its loop still runs."""
    if not isinstance(item, pytest.Function):
        return
    if "realtalk_no_leaks" in item.fixturenames and inspect.iscoroutinefunction(
        item.obj
    ):
        from .leaks import watch_tasks

        item.obj = watch_tasks(item.obj)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add children and log of a failed test to its report."""
    report = yield
    if report.failed:
        report.sections += _sections(item)
    return report


def _sections(item: pytest.Item) -> list[tuple[str, str]]:
    sections: list[tuple[str, str]] = []
    manager = item.stash.get(_managers, None)
    if manager is not None:
        sections += [
            (f"realtalk-async child {name}", _of_child(history))
            for name, history in manager.get_error_history().processes.items()
        ]
    path = item.stash.get(_logs, None)
    if path is not None and path.exists():
        lines = path.read_text(errors="replace").splitlines()[-MOST:]
        sections.append((f"realtalk-async log ({path})", "\n".join(lines)))
    return sections


def _of_child(history: ProcessHistory) -> str:
    """Return how a child fared: its newest lives, each with its last lines."""
    lives = history.incarnations
    left_out = len(lives) - MOST_LIVES
    lines = [f"({left_out} earlier incarnations are left out)"] if left_out > 0 else []
    for life in lives[-MOST_LIVES:]:
        lines.append(f"incarnation {life.incarnation}: {life.summary}")
        lines += [f"  {line.stream} {line}" for line in life.last_words]
    lines.append(f"now {history.status}")
    return "\n".join(lines)
