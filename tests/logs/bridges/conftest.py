"""A log, and the check that each test leaves logging and structlog as they were."""

import logging
import sys

import pytest
import structlog

from realtalk_async.logs import Logger, LogHandler


@pytest.fixture
def log(tmp_path):
    return Logger(tmp_path / "app.log")


@pytest.fixture(autouse=True)
def hooks_are_restored():
    """Check that logging, structlog and the hooks are as before each test."""
    root = logging.getLogger()
    yield
    assert not [each for each in root.handlers if isinstance(each, LogHandler)]
    assert not structlog.is_configured()
    assert sys.excepthook.__module__ != "realtalk_async.logs.bridges.install"
    structlog.reset_defaults()
