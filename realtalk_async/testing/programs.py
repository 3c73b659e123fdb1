"""
Commands for tests: small programs that each show one kind of behaviour.

A program that keeps running prints the line ``ready`` when a test may rely on it:
``await process.wait_for_line("ready")``. Each function raises `InvalidConfiguration` for an
invalid argument.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from realtalk_async import arguments
from realtalk_async.supervision import Command

if TYPE_CHECKING:
    from realtalk_async.supervision.kernel.spawning.command_checks import Word


def python(source: str, *args: Word, **options: Any) -> Command:  # noqa: ANN401 - Command's
    """Return a command that runs *source* in this interpreter."""
    arguments.words("source", source)
    return Command(sys.executable, "-I", "-S", "-u", "-c", source, *args, **options)


def shell(line: str, **options: Any) -> Command:  # noqa: ANN401 - Command's
    """Return a command that runs *line* in ``/bin/sh``."""
    return Command.shell(line, **options)


def exits(status: int) -> Command:
    """Exit at once with *status*."""
    arguments.integer("status", status, minimum=0, maximum=255)
    return shell(f"exit {status}")


def prints(*lines: str, status: int = 0) -> Command:
    """Print *lines* on stdout and exit with *status*."""
    arguments.several("lines", lines, arguments.text, "texts")
    arguments.integer("status", status, minimum=0, maximum=255)
    return python(
        "import sys\nfor line in sys.argv[2:]: print(line)\nsys.exit(int(sys.argv[1]))",
        str(status),
        *lines,
    )


def crashes(status: int = 1, *lines: str) -> Command:
    """Print *lines* on stderr and exit with *status*; ``-n`` ends it by signal n."""
    arguments.integer("status", status, minimum=-64, maximum=255)
    arguments.several("lines", lines, arguments.text, "texts")
    return python(
        "import os, sys\n"
        "status, *lines = sys.argv[1:]\n"
        "for line in lines: print(line, file=sys.stderr)\n"
        "if int(status) < 0: os.kill(os.getpid(), -int(status))\n"
        "sys.exit(int(status))",
        str(status),
        *lines,
    )


def runs() -> Command:
    """Print ``ready`` and sleep until a signal ends it."""
    return shell("echo ready; exec sleep 1000")


def ignores_sigterm() -> Command:
    """Ignore SIGTERM and SIGINT, so that only SIGKILL ends it."""
    return python(
        "import signal, time\n"
        "for n in (signal.SIGTERM, signal.SIGINT): signal.signal(n, signal.SIG_IGN)\n"
        "print('ready')\n"
        "time.sleep(1000)"
    )


def cleans_up(seconds: float) -> Command:
    """After SIGTERM, sleep for *seconds*, print ``clean`` and exit with 0."""
    arguments.seconds("seconds", seconds)
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
    """Fork *count* children that sleep, then sleep."""
    arguments.integer("count", count, minimum=0)
    return python(
        "import os, sys, time\n"
        "for _ in range(int(sys.argv[1])):\n"
        "    if os.fork() == 0: time.sleep(1000); os._exit(0)\n"
        "print('ready')\n"
        "time.sleep(1000)",
        str(count),
    )


def leaves_a_grandchild(*, ignoring_sigterm: bool = False) -> Command:
    """Exit at once and leave a grandchild that holds the pipes open."""
    arguments.flag("ignoring_sigterm", ignoring_sigterm)
    trap = "trap '' TERM; " if ignoring_sigterm else ""
    return shell(f"({trap}echo ready; sleep 1000) & exit 0")


def daemonizes() -> Command:
    """Fork a daemon in a session of its own, print the daemon's pid, then sleep."""
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
    """Print the same line as fast as it can until a signal ends it."""
    return Command("yes", "a line like any other, again and again and again")


def bursts(count: int) -> Command:
    """Print *count* numbered lines in one write and exit."""
    arguments.integer("count", count, minimum=0)
    return python(
        "import sys\nsys.stdout.write(''.join(f'{n}\\n' for n in range(int(sys.argv[1]))))",
        str(count),
    )


def echoes() -> Command:
    """Copy stdin to stdout."""
    return Command("cat", stdin=True)


def never_reads() -> Command:
    """Sleep, with a stdin that it never reads."""
    return Command("sleep", "1000", stdin=True)


def fails_first(times: int, counter: str) -> Command:
    """Exit with 1 at the first *times* starts, then run; count in the file *counter*."""
    arguments.integer("times", times, minimum=0)
    arguments.path("counter", counter)
    return shell(
        f'echo >> "{counter}"; [ $(wc -l < "{counter}") -gt {times} ] || exit 1; '
        "echo ready; exec sleep 1000"
    )


def binds(port: int) -> Command:
    """Listen on a loopback port, print ``ready``, and share the port with a child."""
    arguments.port("port", port)
    return python(
        "import os, socket, sys, time\n"
        "one = socket.socket(); one.bind(('127.0.0.1', int(sys.argv[1]))); one.listen()\n"
        "os.fork()\n"
        "print('ready')\n"
        "time.sleep(1000)",
        str(port),
    )
