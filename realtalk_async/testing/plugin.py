"""
The pytest plugin: a logger for the test, whose entries are shown if the test fails.

It is loaded with the package, works beside pytest-asyncio and anyio, and does nothing in
tests that do not ask for its fixtures.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from realtalk_async.logs import Logger

MOST = 50
"""Newest log lines that a failure report shows."""

_logs = pytest.StashKey["Path"]()


@pytest.fixture
def realtalk_logger(request: pytest.FixtureRequest, tmp_path: Path) -> Logger:
    """
    Return a `Logger` on a file of this test.

    It can be used with and without its ``async with`` block. If the test fails, its last
    50 lines stand in the report.
    """
    # Imported here: a plugin must not slow down the start of every test run.
    from realtalk_async.logs import Logger

    logger = Logger(tmp_path / "realtalk.log")
    request.node.stash[_logs] = logger.path
    return logger


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the log of a failed test to its report."""
    report = yield
    path = item.stash.get(_logs, None)
    if report.failed and path is not None and path.exists():
        lines = path.read_text(errors="replace").splitlines()[-MOST:]
        report.sections.append((f"realtalk-async log ({path})", "\n".join(lines)))
    return report
