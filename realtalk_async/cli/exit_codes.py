"""
The exit codes of `realtalk-async run`.

==========  ==================================================================
0           all processes ended well
1 to 125    the exit status of the first process that was given up
126, 127    the first lost process could not be run, was not found
128 + n     the first lost process was killed by signal n
1           also: the first lost process exited with 0 too often, or was unhealthy;
            or the output could not be written, as on a full disk
2           the file or the options are invalid; nothing was run
129         SIGHUP, or the terminal is gone; otherwise SIGHUP has the file read again
130         Ctrl-C: all processes were stopped by their ladders
137         Ctrl-C twice: the remaining processes were killed
143         SIGTERM
141         the reader of the output is gone
==========  ==================================================================
"""

from __future__ import annotations

import errno
import os
import signal
from typing import TYPE_CHECKING

from realtalk_async.cli.stdout import READER_GONE
from realtalk_async.supervision import Cause

if TYPE_CHECKING:
    from realtalk_async.supervision import ProcessStatus

INVALID = 2
NOT_EXECUTABLE = 126
NOT_FOUND = 127
KILLED = 128 + signal.SIGKILL
OUTPUT_CLOSED = 128 + signal.SIGPIPE


def of_signal(number: int) -> int:
    """Return the exit code that shells give for a death by that signal."""
    return 128 + number


def of_broken_output(error: OSError) -> int:
    """Return the exit code after a failed write to stdout or stderr."""
    return OUTPUT_CLOSED if error.errno in READER_GONE else 1


def of_loss(status: ProcessStatus) -> int:
    """Return the exit code for a process that was given up."""
    if status.cause is Cause.SPAWN_FAILED:
        is_missing = os.strerror(errno.ENOENT) in status.reason
        return NOT_FOUND if is_missing else NOT_EXECUTABLE
    code = status.exit_status
    if status.cause is Cause.UNHEALTHY or not isinstance(code, int) or code == 0:
        return 1
    return of_signal(-code) if code < 0 else code
