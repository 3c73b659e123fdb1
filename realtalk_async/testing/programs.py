"""
Programs that misbehave, each in the one way that it is named for.

They are commands like any other. Where a test has to know that a program has come far
enough, it prints a line: ``ready``.
"""

from __future__ import annotations

import sys
from typing import Any

from realtalk_async.supervision import Command


def python(source: str, *args: str, **options: Any) -> Command:  # noqa: ANN401 - Command's
    """Return a command that has this interpreter run *source*."""
    return Command(sys.executable, "-I", "-S", "-u", "-c", source, *args, **options)


def shell(line: str, **options: Any) -> Command:  # noqa: ANN401 - Command's
    """Return a command that has ``/bin/sh`` run *line*."""
    return Command("/bin/sh", "-c", line, **options)


def exits(status: int) -> Command:
    """Exit with that status at once."""
    return shell(f"exit {status}")


def speaks(*lines: str, status: int = 0) -> Command:
    """Print those lines and exit."""
    return python(
        "import sys\nfor line in sys.argv[2:]: print(line)\nsys.exit(int(sys.argv[1]))",
        str(status),
        *lines,
    )


def runs() -> Command:
    """Print ``ready`` and do nothing until it is ended."""
    return shell("echo ready; exec sleep 1000")


def ignores_sigterm() -> Command:
    """Ignore SIGTERM and SIGINT."""
    return python(
        "import signal, time\n"
        "for n in (signal.SIGTERM, signal.SIGINT): signal.signal(n, signal.SIG_IGN)\n"
        "print('ready')\n"
        "time.sleep(1000)"
    )


def cleans_up(seconds: float) -> Command:
    """Take so long to clean up after SIGTERM, then say ``clean`` and exit with 0."""
    return python(
        "import signal, sys, time\n"
        "def clean(*_):\n"
        "    time.sleep(float(sys.argv[1])); print('clean'); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, clean)\n"
        "print('ready')\n"
        "while True: signal.pause()",
        str(seconds),
    )


def forks(count: int) -> Command:
    """Fork that many children that sleep, then sleep."""
    return python(
        "import os, sys, time\n"
        "for _ in range(int(sys.argv[1])):\n"
        "    if os.fork() == 0: time.sleep(1000); os._exit(0)\n"
        "print('ready')\n"
        "time.sleep(1000)",
        str(count),
    )


def leaves_a_grandchild(*, ignoring_sigterm: bool = False) -> Command:
    """Exit at once, leaving a grandchild that holds the pipes open."""
    trap = "trap '' TERM; " if ignoring_sigterm else ""
    return shell(f"({trap}echo ready; sleep 1000) & exit 0")


def escapes() -> Command:
    """Leave a daemon in a session of its own, and say its pid."""
    return python(
        "import os, sys, time\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    null = os.open(os.devnull, os.O_RDWR)\n"
        "    print(os.getpid(), flush=True)\n"
        "    for n in (0, 1, 2): os.dup2(null, n)\n"
        "    time.sleep(1000)\n"
        "time.sleep(1000)"
    )


def floods() -> Command:
    """Write as fast as it can, for ever."""
    return Command("yes", "a line like any other, again and again and again")


def bursts(count: int) -> Command:
    """Write that many numbered lines at once and exit."""
    return python(
        "import sys\nsys.stdout.write(''.join(f'{n}\\n' for n in range(int(sys.argv[1]))))",
        str(count),
    )


def echoes() -> Command:
    """Copy its input to its output."""
    return Command("cat", stdin=True)


def never_reads() -> Command:
    """Have an input, and never read it."""
    return Command("sleep", "1000", stdin=True)


def fails_first(times: int, counter: str) -> Command:
    """Exit with 1 that many times, then run; counts its starts in the file *counter*."""
    return shell(
        f'echo >> "{counter}"; [ $(wc -l < "{counter}") -gt {times} ] || exit 1; '
        "echo ready; exec sleep 1000"
    )


def binds(port: int) -> Command:
    """Bind a port on the loopback, say ``ready``, and have a child that holds it too."""
    return python(
        "import os, socket, sys, time\n"
        "one = socket.socket(); one.bind(('127.0.0.1', int(sys.argv[1]))); one.listen()\n"
        "os.fork()\n"
        "print('ready')\n"
        "time.sleep(1000)",
        str(port),
    )
