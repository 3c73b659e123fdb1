import os
import re
import select
import signal
import subprocess
import sys
import termios

import pytest

TIMEOUT = 60


class Terminal:
    """A pseudo-terminal with a program as its session's leader, such as a shell."""

    def __init__(self, argv, cwd, size=(24, 80), **env):
        self.master, slave = os.openpty()
        termios.tcsetwinsize(slave, size)
        try:
            # A session's leader that opens a terminal makes it its controlling one.
            line = 'exec "$@" <"$0" >"$0" 2>&1'
            self.process = subprocess.Popen(
                ["sh", "-c", line, os.ttyname(slave), *argv],
                cwd=cwd,
                env={**os.environ, "PS1": "PROMPT$ ", "TERM": "xterm", **env},
                start_new_session=True,
            )
        finally:
            self.slave = slave  # open: it keeps its modes while no other has it open
        self.said = b""
        self._seen = 0

    def type(self, text):
        os.write(self.master, text.encode())

    def enter(self, line):
        self.type(line + "\n")

    def expect(self, pattern):
        """Wait for output after what the last call has found."""
        while not (found := re.search(pattern, self.said[self._seen :].decode())):
            assert select.select([self.master], [], [], TIMEOUT)[0], self.said
            self.said += os.read(self.master, 65536)
        self._seen += found.end()
        return found

    def prompt(self):
        self.expect(r"PROMPT\$ ")

    def close(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGHUP)
        os.close(self.slave)
        os.close(self.master)
        try:
            self.process.wait(TIMEOUT)
        finally:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def on_terminal(tmp_path):
    """Return a function that begins a program on a terminal, in an empty folder."""
    begun = []

    def begin(argv, **options):
        begun.append(Terminal(argv, tmp_path, **options))
        return begun[-1]

    yield begin
    for terminal in begun:
        terminal.close()


@pytest.fixture
def shell(on_terminal):
    """An interactive bash on a terminal, whose `run` runs a command."""
    terminal = on_terminal(["bash", "--norc", "--noprofile", "-i"], TERM="dumb")
    terminal.prompt()
    cli = f"{sys.executable} -m realtalk_async.cli"
    terminal.enter(f'run() {{ {cli} run --no-control -- "$@"; }}; stty -echo')
    terminal.prompt()
    return terminal
