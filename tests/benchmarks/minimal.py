"""
The simplest programs for the same work: what a row of ``bench_loop.py`` can reach at all.

They hold no history, no policy, no events and no log, and they handle no error. What they
share with ours: children with two pipes, all output read and kept (beyond 1 MiB on the
disk), exits by pidfd, and bounded work in each turn of the loop.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import subprocess
import tempfile
import time

KEPT_IN_MEMORY = 1 << 20
READ_TIME = 0.0005  # seconds of reading in a turn
EXITS = 8  # exits in a turn


class Capture:
    """Reads pipes for at most READ_TIME in a turn, and lets the loop run in between."""

    def __init__(self, *, pause=0.0):
        self.size = 0
        self._pause = pause
        self._loop = asyncio.get_running_loop()
        self._kept = bytearray()
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process

    def add(self, descriptor):
        os.set_blocking(descriptor, False)
        self._loop.add_reader(descriptor, self._read, descriptor)

    def _read(self, descriptor):
        until = time.perf_counter() + READ_TIME
        while time.perf_counter() < until:
            try:
                data = os.read(descriptor, 65536)
            except BlockingIOError:
                break
            if not data:
                self._loop.remove_reader(descriptor)
                os.close(descriptor)
                return
            self.size += len(data)
            self._kept += data
            if len(self._kept) > KEPT_IN_MEMORY:
                self._file.write(self._kept)
                self._kept.clear()
        if self._pause:
            self._loop.remove_reader(descriptor)
            self._loop.call_later(
                self._pause, self._loop.add_reader, descriptor, self._read, descriptor
            )


class Children:
    """Children with two pipes; each exit is awaited by a future."""

    def __init__(self):
        self._loop = asyncio.get_running_loop()
        self._ready = []

    def start(self, argv):
        return Child(self, argv)

    def handle_exit(self, child):
        """Handle at most EXITS in a turn."""
        if not self._ready:
            self._loop.call_soon(self._reap)
        self._ready.append(child)

    def _reap(self):
        now, self._ready = self._ready[:EXITS], self._ready[EXITS:]
        for child in now:
            child.reap()
        if self._ready:
            self._loop.call_soon(self._reap)


class Child:
    def __init__(self, children, argv):
        self._children = children
        self._loop = asyncio.get_running_loop()
        self._popen = subprocess.Popen(
            argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )
        self.pid = self._popen.pid
        self._descriptors = (self._popen.stdout.fileno(), self._popen.stderr.fileno())
        for descriptor in self._descriptors:
            os.set_blocking(descriptor, False)
            fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, 65536)
            self._loop.add_reader(descriptor, self._read, descriptor)
        self._pidfd = os.pidfd_open(self.pid)
        self._loop.add_reader(self._pidfd, self._on_exit)
        self._exited = self._loop.create_future()

    def _read(self, descriptor):
        if not os.read(descriptor, 65536):
            self._loop.remove_reader(descriptor)

    def _on_exit(self):
        self._loop.remove_reader(self._pidfd)
        self._children.handle_exit(self)

    def reap(self):
        os.close(self._pidfd)
        status = self._popen.wait()
        for descriptor in self._descriptors:
            if self._loop.remove_reader(descriptor):
                while os.read(descriptor, 65536):
                    pass
        self._popen.stdout.close()
        self._popen.stderr.close()
        self._exited.set_result(status)

    def kill(self):
        self._popen.kill()

    async def wait(self):
        return await asyncio.shield(self._exited)
