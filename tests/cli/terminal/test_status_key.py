"""Ctrl-T of a macOS terminal."""

import asyncio
import os
import signal

from realtalk_async.cli.terminal import status_key
from realtalk_async.testing import programs


async def test_the_key_prints_the_status_of_all_processes(manager, monkeypatch):
    """Another signal stands for SIGINFO, which Linux does not have."""
    monkeypatch.setattr(status_key, "STATUS_KEY", signal.SIGUSR2)
    printed = asyncio.Queue()
    status_key.print_status_at_key(manager, printed.put_nowait)
    try:
        await manager.start("mic", programs.runs())
        os.kill(os.getpid(), signal.SIGUSR2)
        assert (await printed.get()).split()[:2] == ["NAME", "STATE"]
        assert (await printed.get()).split()[:2] == ["mic", "running"]
    finally:
        asyncio.get_running_loop().remove_signal_handler(signal.SIGUSR2)
