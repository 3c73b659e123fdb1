"""
The pytest plugin: fixtures for tests of a supervised app, and their failure report.

The plugin is loaded with the package and does nothing for a test that uses none of its
fixtures. The fixtures are synchronous, so they work alike with pytest-asyncio (strict and
auto), with anyio's plugin, and under xdist. The test itself enters the manager and the peer
in its event loop::

    from realtalk_async.testing import programs

    async def test_the_recorder_is_restarted(realtalk_manager):
        async with realtalk_manager as manager:
            recorder = await manager.start("recorder", programs.runs())
            ...

=====================  ============================================================
fixture                value
=====================  ============================================================
``realtalk_logger``    a `Logger` on a file of this test
``realtalk_manager``   a `ProcessManager` with that logger, to be entered
``offline_peer``       the offline realtime `Peer`, to be entered
``answering_peer``     makes a `Peer` whose answers a function gives
``scripted_peer``      makes a `Peer` that follows a script
``delayed_peer``       makes a `Peer` with a slow network
``offline_peer_url``   the URL of a peer that runs in a thread, for tests that are not async
``virtual_time``       runs a coroutine in a loop that jumps from timer to timer
``realtalk_no_leaks``  fails a test that leaves a child, descriptor, thread or task;
                       for a module by ``pytestmark = pytest.mark.usefixtures(…)``,
                       for all by ``usefixtures = …`` in pytest's configuration
=====================  ============================================================

The report of a failed test shows how each of its children ended with the child's last lines
of output, and then the newest lines of its logs. This includes each `ProcessManager` and
`Stream` that the app's own code makes.
"""

from __future__ import annotations

import importlib
import inspect
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

import pytest

# Each fixture imports what it needs, because pytest loads the plugin in every test run.
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping
    from pathlib import Path

    from realtalk_async.logs import Logger
    from realtalk_async.supervision import ProcessManager

Value = TypeVar("Value")

_began = pytest.StashKey[float]()
_sizes: pytest.StashKey[Mapping[Path, int]] = pytest.StashKey()
_kept = pytest.StashKey[list[object]]()
"""Values of fixtures, kept until the last report of the test has been made."""


@pytest.fixture
def realtalk_logger(request: pytest.FixtureRequest, tmp_path: Path) -> Logger:
    """
    Return a `Logger` on a file of this test.

    The logger works with and without its ``async with`` block. If the test fails, the
    report shows the log's newest 50 lines.
    """
    from realtalk_async.logs import Logger

    logger = Logger(tmp_path / "realtalk.log")
    return _keep(request, logger)


@pytest.fixture
def realtalk_manager(
    request: pytest.FixtureRequest, realtalk_logger: Logger
) -> ProcessManager:
    """Return a `ProcessManager`, to be entered: ``async with realtalk_manager:``."""
    from realtalk_async.supervision import ProcessManager

    return _keep(request, ProcessManager(realtalk_logger))


@pytest.fixture
def offline_peer() -> Any:  # noqa: ANN401 - a `Peer`, of a package that may be missing
    """
    Return the offline realtime peer, to be entered: ``async with offline_peer as peer:``.

    Connect to ``peer.url``; ``peer.fault("drop:5")`` injects a fault.
    """
    return _offline("offline_peer").Peer()


@pytest.fixture
def answering_peer() -> Callable[..., Any]:
    """
    Return a function that makes a peer with answers of the test.

    ``async with answering_peer(lambda text: f"You said {text}") as peer:``; further
    arguments are those of `Peer`.
    """
    peer = _offline("answering_peer").Peer
    return partial(_make_peer, peer, "answer")


@pytest.fixture
def scripted_peer() -> Callable[..., Any]:
    """
    Return a function that makes a peer with a script; see `Peer`.

    ``async with scripted_peer([("hello", "Hello."), (None, "Goodbye.")]) as peer:`` fails
    the test unless the client follows the script to its end.
    """
    peer = _offline("scripted_peer").Peer
    return partial(_make_peer, peer, "script")


@pytest.fixture
def delayed_peer() -> Callable[..., Any]:
    """
    Return a function that makes a peer with a slow network.

    ``async with delayed_peer(0.3) as peer:``, or with jitter ``delayed_peer((0.3, 0.1))``.
    """
    peer = _offline("delayed_peer").Peer
    return partial(_make_peer, peer, "latency")


@pytest.fixture
def offline_peer_url() -> Generator[str]:
    """Return the URL of a peer that runs in a thread while the test runs."""
    with _offline("offline_peer_url").PeerThread() as peer:
        yield peer.url


def _make_peer(peer: Any, name: str, value: object, **options: object) -> Any:  # noqa: ANN401
    return peer(**{name: value, **options})


def _offline(fixture: str) -> Any:  # noqa: ANN401 - a package that may be missing
    try:
        # By name: only tests with these fixtures need the packages of `offline`.
        return importlib.import_module("realtalk_async.offline")
    except ImportError as exc:
        pytest.fail(f"{fixture}: {exc}", pytrace=False)


@pytest.fixture
def virtual_time() -> Callable[..., Any]:
    """
    Return a function that runs a coroutine in virtual time: ``virtual_time(story())``.

    The loop jumps from timer to timer: see `realtalk_async.testing.virtual_time`, which also
    shows how to run async tests in such a loop. ``real_wait=0.01`` gives children and
    threads that many real seconds before each jump.
    """
    from realtalk_async.testing.virtual_time import run

    return run


@pytest.fixture
def realtalk_no_leaks(request: pytest.FixtureRequest) -> Generator[None]:
    """
    Fail the test if it leaves a child, a descriptor, a thread or a task behind.

    Resources of fixtures that were set up earlier do not count, nor do the files in which
    a manager keeps the output of its children, multiprocessing's resource tracker and
    tqdm's monitor. What else may stay is named by a marker: by a program's command line,
    or a thread's name, both with wildcards::

        @pytest.mark.realtalk_may_stay("pool_*", "*/chromedriver*")

    Linux only.
    """
    from realtalk_async.supervision.output import spill
    from realtalk_async.testing import leaks

    before = leaks.take_inventory()
    yield
    allowed = [
        str(one)
        for marker in request.node.iter_markers("realtalk_may_stay")
        for one in marker.args
    ]
    if left := leaks.find_leaks(before, ignore=spill.FILES, allowed=allowed):
        pytest.fail(leaks.describe("resources", left), pytrace=False)


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line(
        "markers",
        "realtalk_may_stay(*patterns): children (by command line) and threads (by name) "
        "that realtalk_no_leaks accepts",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    """Check a test with `realtalk_no_leaks` for tasks while its loop still runs."""
    if not isinstance(item, pytest.Function):
        return
    if "realtalk_no_leaks" in item.fixturenames and inspect.iscoroutinefunction(
        item.obj
    ):
        from realtalk_async.testing.leaks import check_tasks

        item.obj = check_tasks(item.obj)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Remember when a test begins: its report leaves out earlier events."""
    item.stash[_began] = time.time()
    if "realtalk_async.logs.queue" in sys.modules:
        from realtalk_async.testing import failure_report

        item.stash[_sizes] = failure_report.sizes_of_logs()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the children and the log of a failed test to its report."""
    report = yield
    # A test that has not imported the supervision package has no children.
    if report.failed and "realtalk_async.supervision.manager" in sys.modules:
        from realtalk_async.testing import failure_report

        report.sections += failure_report.sections(
            item.stash.get(_began, 0.0), item.stash.get(_sizes, dict["Path", int]())
        )
    if report.when == "teardown":
        item.stash[_kept] = []
    return report


def _keep(request: pytest.FixtureRequest, value: Value) -> Value:
    """Keep a fixture's value, so that the report of a failed teardown can show it."""
    item = cast("pytest.Item", request.node)
    item.stash.setdefault(_kept, []).append(value)
    return value
