"""Children on demand: what a test may ask for by one word."""

from __future__ import annotations

from typing import TYPE_CHECKING

from realtalk_async.testing import programs

if TYPE_CHECKING:
    from realtalk_async.supervision import Command


class ScriptedChildren:
    """
    Commands for children that do one thing each.

    Those that go on say ``ready`` first, so that a test can wait for it:
    ``await process.wait_for_line("ready")``. More of them are in `programs`.
    """

    def emit(self, *lines: str, status: int = 0) -> Command:
        """Print those lines and exit."""
        return programs.speaks(*lines, status=status)

    def hang(self) -> Command:
        """Say ``ready`` and nothing more, until it is ended."""
        return programs.runs()

    def ignore_term(self) -> Command:
        """Ignore SIGTERM and SIGINT: only SIGKILL ends it."""
        return programs.ignores_sigterm()

    def fork_and_hold_pipe(self) -> Command:
        """Exit at once and leave a grandchild that holds the pipes open."""
        return programs.leaves_a_grandchild()

    def crash(self, status: int = 1, *last_words: str) -> Command:
        """Print its last words on stderr and exit with that status; -n is signal n."""
        return programs.python(
            "import os, sys\n"
            "status, *words = sys.argv[1:]\n"
            "for word in words: print(word, file=sys.stderr)\n"
            "if int(status) < 0: os.kill(os.getpid(), -int(status))\n"
            "sys.exit(int(status))",
            str(status),
            *last_words,
        )

    def flood(self) -> Command:
        """Write as fast as it can, for ever."""
        return programs.floods()

    def setsid(self) -> Command:
        """Leave a daemon in a session of its own, whose pid it prints, and hang."""
        return programs.escapes()

    def echo(self) -> Command:
        """Copy its input to its output."""
        return programs.echoes()

    def fail_first(self, times: int, counter: str) -> Command:
        """Crash that many times, then hang; counts its starts in the file *counter*."""
        return programs.fails_first(times, counter)
