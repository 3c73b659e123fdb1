"""The path of a log; a log without a path of its own gets a new file."""

from __future__ import annotations

import contextlib
import os
import re
import stat
import tempfile
from datetime import datetime
from pathlib import Path

from realtalk_async.exceptions import LogUnavailable

KEPT_LOGS = 10
"""Logs without a path of their own that stay when their apps have ended."""

_UNNAMED_LOG = re.compile(r"(realtalk-\d{8}-\d{6}-(\d+)-\w+\.log)(?:\.\d+)?")


def absolute_log_path(log_path: str | os.PathLike[str] | None) -> Path:
    """
    Return *log_path* as an absolute path; without it, create a file.

    It is absolute because the app may change its working directory. The new file is in
    the temporary directory, named after the time and the process. Of the files that apps
    which have ended left there, the newest `KEPT_LOGS` stay.

    Raises:
        LogUnavailable: If the temporary directory cannot be written.
    """
    if log_path is not None:
        return Path(log_path).absolute()
    started = f"{datetime.now().astimezone():%Y%m%d-%H%M%S}"
    remove_old_logs(Path(tempfile.gettempdir()))
    try:
        prefix = f"realtalk-{started}-{os.getpid()}-"
        descriptor, path = tempfile.mkstemp(".log", prefix)
    except OSError as error:
        folder = tempfile.gettempdir()
        raise LogUnavailable(folder, error.strerror or str(error)) from error
    os.close(descriptor)
    return Path(path)


def remove_old_logs(folder: Path) -> None:
    """Remove the unnamed logs of ended apps of this user, except the newest ones."""
    ended: list[tuple[str, os.DirEntry[str]]] = []
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            match = _UNNAMED_LOG.fullmatch(entry.name)
            if match is not None and not _is_running(int(match[2])):
                ended.append((match[1], entry))
    logs = sorted({log for log, entry in ended if _size_of_own(entry)}, reverse=True)
    kept = set(logs[:KEPT_LOGS])
    for log, entry in ended:
        if log not in kept and _size_of_own(entry) is not None:
            with contextlib.suppress(OSError):
                os.unlink(entry.path)


def _size_of_own(entry: os.DirEntry[str]) -> int | None:
    """Return the size of a regular file of this user; None for any other entry."""
    with contextlib.suppress(OSError):
        status = entry.stat(follow_symlinks=False)
        if stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid():
            return status.st_size
    return None


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # it belongs to another user
        return True
    return True
