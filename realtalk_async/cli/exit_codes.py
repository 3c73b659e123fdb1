"""
What the exit code of `realtalk-async run` tells. Pure.

==========  ==================================================================
0           all ended as they should
1 to 125    what was lost first: its own exit status
126, 127    what was lost first could not be run: not executable, not there
128 + n     what was lost first was killed by signal n
2           the file or the command line has mistakes; nothing was run
129         we were told to end by SIGHUP (the terminal is gone)
130         … by Ctrl-C: all were ended by their ladders
137         … by Ctrl-C twice: what was left was killed
143         … by SIGTERM
141         nobody reads our output any more
1           what was lost exited well but too often, or was not well
==========  ==================================================================
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from realtalk_async.supervision import Cause

if TYPE_CHECKING:
    from realtalk_async.supervision import ProcessStatus

MISTAKEN = 2
UNREAD = 128 + signal.SIGPIPE
KILLED = 128 + signal.SIGKILL
NOT_EXECUTABLE = 126
NOT_FOUND = 127


def of_signal(number: int) -> int:
    """Return the exit code that shells give for a death by that signal."""
    return 128 + number


def of_loss(status: ProcessStatus) -> int:
    """Return the exit code for a process that cannot be kept alive."""
    if status.cause is Cause.SPAWN_FAILED:
        return NOT_FOUND
    code = status.exit_status
    if status.cause is Cause.UNHEALTHY or not isinstance(code, int) or code == 0:
        return 1
    return of_signal(-code) if code < 0 else code
