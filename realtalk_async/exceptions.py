"""
All that can go wrong, by name.

Every error of this package derives from `RealtalkError`. Mistakes in how it is
called are also a `ValueError` or a `RuntimeError`, so that a caller may catch either.
The message of each is made of its fields: what happened, the numbers, what to do.

    RealtalkError
    ├── InvalidConfiguration (ValueError)  an argument makes no sense
    ├── LogUnavailable (OSError)           the log's path cannot be written
    ├── UnknownProcess (KeyError)          no process of that name is registered
    ├── ProcessStillRunning (RuntimeError) the name is taken by a living process
    ├── NotStarted (RuntimeError)          used outside its ``async with`` block
    ├── SpawnFailed                        the operating system refused to start it
    ├── ProcessDead                        the process ended while something needed it
    ├── DeviceBusy                         another process did not give a device back
    ├── WriteStalled                       a child did not take its input in time
    ├── WaitExpired (TimeoutError)         what was waited for did not happen in time
    ├── GaveUp                             restarting was given up, and why
    │   ├── CriticalProcessFailed          … of a process the app cannot do without
    │   └── TooManyRestarts                … of all: too many failed in a short time
    └── StreamError                        the voice session
        ├── MissingApiKey                  no key, and no offline peer was named
        ├── AuthenticationRefused          the service refused the key
        ├── ServiceUnreachable             no connection to the service
        ├── ServiceRefused                 the service ended the session for good
        ├── AudioUnavailable               no recorder, player or device
        └── ClosedStream (RuntimeError)    the session has ended or has not begun
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class RealtalkError(Exception):
    """The base of every error of this package."""


class InvalidConfiguration(RealtalkError, ValueError):
    """An argument makes no sense; nothing was changed."""


class LogUnavailable(RealtalkError, OSError):
    """
    The log's path cannot be written.

    The error that the operating system gave is the ``__cause__``.
    """

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        """The path that was asked for."""
        self.reason = reason
        """What the operating system said."""
        super().__init__(
            f"cannot write the log {path!r}: {reason}; "
            f"give a path in a folder that exists and is writable, or none at all "
            f"for a file in the temporary directory"
        )


class UnknownProcess(RealtalkError, KeyError):
    """No process of that name is registered."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        self.name = name
        """The name that was asked for."""
        self.known: tuple[str, ...] = tuple(known)
        """The names that are registered, in the order of their registration."""
        listed = ", ".join(map(repr, self.known)) or "none yet"
        super().__init__(f"no process named {name!r}; known: {listed}")

    def __str__(self) -> str:
        # KeyError would show the repr of the message.
        return str(self.args[0])


class ProcessStillRunning(RealtalkError, RuntimeError):
    """The name is taken by a process that still runs; nothing was changed."""

    def __init__(self, name: str, pid: int | None) -> None:
        self.name = name
        self.pid = pid
        super().__init__(
            f"{name!r} still runs (pid {pid}); stop it first or choose another name"
        )


class NotStarted(RealtalkError, RuntimeError):
    """Something was used outside its ``async with`` block."""


class SpawnFailed(RealtalkError):
    """The operating system refused to start a program."""

    def __init__(self, name: str, error: OSError, path: str, hint: str) -> None:
        self.name = name
        """The process that was to start."""
        self.error = error
        """What the operating system said."""
        self.errno: int | None = error.errno
        """The error number, see the `errno` module."""
        self.path = path
        """The path at fault: the program's, or the working directory's."""
        self.hint = hint
        """What to do about it."""
        super().__init__(f"cannot start {name!r}: {error.strerror}: {path!r}; {hint}")


class ProcessDead(RealtalkError):
    """The process ended, or had ended, while something needed it."""

    def __init__(self, name: str, doing: str, last: str) -> None:
        self.name = name
        self.doing = doing
        """What needed the process: ``write 960 bytes``, ``wait for a line``."""
        self.last = last
        """How it ended, in words."""
        super().__init__(f"{name!r} is dead, cannot {doing}: {last}")


class DeviceBusy(RealtalkError):
    """A device was not to be had in time: another process of the same manager has it."""

    def __init__(self, name: str, holders: Mapping[str, str], seconds: float) -> None:
        self.name = name
        """Who waited."""
        self.holders: dict[str, str] = dict(holders)
        """Who holds each device that was missing, in words."""
        self.seconds = seconds
        """How long was waited."""
        listed = ", ".join(f"{device!r}: {who}" for device, who in holders.items())
        super().__init__(
            f"{name!r} waited {seconds:g} s in vain for a device that another process "
            f"has ({listed}); stop that one, or raise device_timeout"
        )


class WriteStalled(RealtalkError):
    """A child did not take its input within the time allowed."""

    def __init__(self, name: str, written: int, total: int, seconds: float) -> None:
        self.name = name
        self.written = written
        """Bytes that the child's pipe took."""
        self.total = total
        """Bytes that were to be written."""
        self.seconds = seconds
        """How long was waited."""
        super().__init__(
            f"{name!r} took only {written} of {total} bytes in {seconds:g} s; "
            f"it does not read its input: stop or restart it"
        )


class WaitExpired(RealtalkError, TimeoutError):
    """What was waited for did not happen within the time allowed."""


class GaveUp(RealtalkError):
    """A process died and restarting it was given up."""

    def __init__(self, name: str, reason: str, report: object = None) -> None:
        self.name = name
        self.reason = reason
        """Which rule decided, with its numbers."""
        self.report = report
        """The `IncarnationReport` of the last incarnation, if there was one."""
        super().__init__(f"gave up on {name!r}: {reason}")


class CriticalProcessFailed(GaveUp):
    """A process that the app cannot do without is lost; all others were stopped."""


class TooManyRestarts(GaveUp):
    """So many processes failed in so short a time that all of them were stopped."""

    def __init__(
        self,
        name: str,
        reason: str,
        report: object,
        *,
        restarts: int,
        max_restarts: int,
        window: float,
    ) -> None:
        super().__init__(name, reason, report)
        self.restarts = restarts
        """Restarts of all processes within the window, the one that was due included."""
        self.max_restarts = max_restarts
        """How many were allowed."""
        self.window = window
        """Seconds."""


class StreamError(RealtalkError):
    """The base of what goes wrong in a voice session."""


class MissingApiKey(StreamError):
    """There is no key for the service, and no offline peer was named."""


class AuthenticationRefused(StreamError):
    """The service refused the key; it is not tried again."""


class ServiceUnreachable(StreamError):
    """No connection to the service could be made."""


class ServiceRefused(StreamError):
    """The service ended the session for a reason that trying again cannot mend."""

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        """The service's own code, such as ``insufficient_quota``."""
        self.message = message
        super().__init__(f"the service ended the session: {code}: {message}")


class AudioUnavailable(StreamError):
    """No recorder, player or audio device could be used."""


class ClosedStream(StreamError, RuntimeError):
    """The session has ended, or has not begun."""
