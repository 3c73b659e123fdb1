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
``virtual_time``       runs a coroutine in a loop that jumps from timer to timer
``realtalk_no_leaks``  fails a test that leaves a child, descriptor, thread or task;
                       for a module by ``pytestmark = pytest.mark.usefixtures(…)``,
                       for all by ``usefixtures = …`` in pytest's configuration
=====================  ============================================================

The report of a failed test shows how each of its children ended, with its last lines, and
then what was logged during the test: of ``realtalk_manager``, and of every `ProcessManager`
and `Stream` that the app's own code has made.
"""

from __future__ import annotations

import importlib
import inspect
import sys
import time
from typing import TYPE_CHECKING, Any, TypeVar, cast

import pytest

# Nothing else of the package is imported here, only in what needs it: a plugin must not
# slow down the start of every test run.
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from realtalk_async.logs import Logger
    from realtalk_async.supervision import ProcessManager
    from realtalk_async.testing.scripted_child import ScriptedChildren

Value = TypeVar("Value")

_began = pytest.StashKey[float]()
_held = pytest.StashKey[list[object]]()
"""What a report may have to tell of, until the last one is made."""


@pytest.fixture
def realtalk_logger(request: pytest.FixtureRequest, tmp_path: Path) -> Logger:
    """
    Return a `Logger` on a file of this test.

    It can be used with and without its ``async with`` block. If the test fails, its last
    50 lines stand in the report.
    """
    from realtalk_async.logs import Logger

    logger = Logger(tmp_path / "realtalk.log")
    return _hold(request, logger)


@pytest.fixture
def realtalk_manager(
    request: pytest.FixtureRequest, realtalk_logger: Logger
) -> ProcessManager:
    """Return a `ProcessManager`, to be entered: ``async with realtalk_manager:``."""
    from realtalk_async.supervision import ProcessManager

    return _hold(request, ProcessManager(realtalk_logger))


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
    from realtalk_async.testing.scripted_child import ScriptedChildren

    return ScriptedChildren()


@pytest.fixture
def virtual_time() -> Callable[..., Any]:
    """
    Return what runs a coroutine in virtual time: ``virtual_time(story())``.

    The loop jumps from timer to timer; see `realtalk_async.testing.virtual_time` for what that
    means, and for tests that are coroutines themselves. ``patience=0.01`` gives children
    and threads so many real seconds before each jump.
    """
    from realtalk_async.testing.virtual_time import run

    return run


@pytest.fixture
def realtalk_no_leaks() -> Generator[None]:
    """
    Fail the test if it leaves a child, a descriptor, a thread or a task behind.

    What fixtures asked for before this one have is theirs, and so is the file of a
    child's old output, which is kept for as long as its manager is. Linux only.
    """
    from realtalk_async.supervision.output import spill
    from realtalk_async.testing import leaks

    before = leaks.look()
    yield
    if left := leaks.left_since(before, but=spill.FILES):
        pytest.fail(leaks.tell("thing", left), pytrace=False)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    """Have a guarded test look for tasks while its loop still runs."""
    if not isinstance(item, pytest.Function):
        return
    if "realtalk_no_leaks" in item.fixturenames and inspect.iscoroutinefunction(
        item.obj
    ):
        from realtalk_async.testing.leaks import watch_tasks

        item.obj = watch_tasks(item.obj)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Note when a test begins: what was over by then is not its own."""
    item.stash[_began] = time.time()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add children and log of a failed test to its report."""
    report = yield
    # Who has not loaded the package's core has no children.
    if report.failed and "realtalk_async.supervision.manager" in sys.modules:
        from realtalk_async.testing import failure_report

        report.sections += failure_report.sections(item.stash.get(_began, 0.0))
    if report.when == "teardown":
        item.stash[_held] = []
    return report


def _hold(request: pytest.FixtureRequest, value: Value) -> Value:
    """Keep a fixture's value for the report of a failed teardown."""
    item = cast("pytest.Item", request.node)  # pyright: ignore[reportUnknownMemberType]
    item.stash.setdefault(_held, []).append(value)
    return value
