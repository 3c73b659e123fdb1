"""
The exceptions of this package.

Every exception derives from `RealtalkError`. Errors of usage are also a `ValueError` or a
`RuntimeError`, so that a caller may catch either. Each message is made of the fields of the
exception: what happened, the numbers, what to do.

    RealtalkError
    ├── InvalidConfiguration (ValueError)  an argument is invalid
    │   └── WrongEventLoop (RuntimeError)  a call from another event loop or thread
    ├── LogUnavailable (OSError)           the log file cannot be written
    ├── UnknownProcess (KeyError)          no process of this name is registered
    ├── ProcessStillRunning (RuntimeError) a running process has this name
    ├── NotStarted (RuntimeError)          used outside its ``async with`` block
    ├── ContainmentUnavailable (OSError)   no cgroup can be made
    ├── SpawnFailed                        the operating system refused to start it
    ├── ProcessDead                        a call needs a process that is dead
    ├── DeviceBusy                         another process holds a device for too long
    ├── WriteStalled                       a child did not read its stdin in time
    ├── WaitExpired (TimeoutError)         a wait exceeded its timeout
    ├── GaveUp                             the restart of a process was given up
    │   ├── CriticalProcessFailed          … of a critical process
    │   └── TooManyRestarts                … of all: too many failed in a short time
    ├── ScriptNotFollowed (AssertionError) a test went against the offline peer's script
    ├── EndSession                         a tool ends the voice session
    └── StreamError                        an error of the voice session
        ├── MissingApiKey                  no key for OpenAI or Azure
        ├── AuthenticationRefused          the service refused the key
        ├── ServiceUnreachable             no connection to the service
        ├── ServiceRefused                 the service ended the session permanently
        ├── RequestRefused                 the service refused a request; the session goes on
        ├── ResponseNotCompleted           a response was cancelled, failed, lost …
        ├── AudioUnavailable               no usable recorder, player or device
        └── ClosedStream (RuntimeError)    the session has ended or has not started
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class RealtalkError(Exception):
    """The base class of every exception of this package."""


class InvalidConfiguration(RealtalkError, ValueError):
    """An argument is invalid; nothing was changed."""


class WrongEventLoop(InvalidConfiguration, RuntimeError):
    """A call came from another event loop or thread; nothing was changed."""


class LogUnavailable(RealtalkError, OSError):
    """
    The log file cannot be written.

    The ``__cause__`` is the error of the operating system.
    """

    def __init__(self, path: str, reason: str, remedy: str | None = None) -> None:
        self.path = path
        """The requested path."""
        self.reason = reason
        """The message of the operating system."""
        remedy = remedy or (
            "give a path in an existing, writable folder, or no path "
            "for a file in the temporary directory"
        )
        super().__init__(f"cannot write the log {path!r}: {reason}; {remedy}")


class LogUnreadable(RealtalkError, OSError):
    """
    Entries of the log were asked for, but it cannot be read.

    The log is a pipe, a terminal, a socket or a device, or may not be read.
    """

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        """The path of the log."""
        self.reason = reason
        """Why it cannot be read."""
        super().__init__(
            f"cannot read the log {path!r}: {reason}; look where its reader writes the "
            f"lines, or give Logger the path of a file that you may read"
        )


class ContainmentUnavailable(RealtalkError, OSError):
    """
    No cgroup can be made; nothing was changed.

    The ``__cause__`` is the error of the operating system, if there was one.
    """

    def __init__(self, path: str, error: OSError, hint: str) -> None:
        self.path = path
        """The folder in which a cgroup was to be made."""
        self.error = error
        """The error of the operating system."""
        self.hint = hint
        """What to do."""
        super().__init__(
            f"cannot make a cgroup in {path!r}: {error.strerror} (errno {error.errno}); "
            f"{hint}"
        )
        self.errno: int | None = error.errno
        """The error number, see the `errno` module."""


class UnknownProcess(RealtalkError, KeyError):
    """No process or task of this name is registered."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        self.name = name
        """The requested name."""
        self.known: tuple[str, ...] = tuple(known)
        """The registered names, in the order of their registration."""
        listed = ", ".join(map(repr, self.known)) or "none yet"
        super().__init__(f"no process named {name!r}; known: {listed}")

    def __str__(self) -> str:
        # KeyError would show the repr of the message.
        return str(self.args[0])


class ProcessStillRunning(RealtalkError, RuntimeError):
    """A process of this name still runs; nothing was changed."""

    def __init__(self, name: str, pid: int | None) -> None:
        self.name = name
        self.pid = pid
        super().__init__(
            f"{name!r} still runs (pid {pid}); stop it first or choose another name"
        )


class NotStarted(RealtalkError, RuntimeError):
    """An object was used outside its ``async with`` block, or could not be started."""


class SpawnFailed(RealtalkError):
    """The operating system refused to start a program."""

    def __init__(
        self,
        name: str,
        error: OSError,
        path: str,
        hint: str,
        *,
        is_lasting: bool = False,
    ) -> None:
        self.name = name
        """The name of the process."""
        self.is_lasting = is_lasting
        """Whether a retry will not help: there is no such program, for example."""
        self.error = error
        """The error of the operating system."""
        self.errno: int | None = error.errno
        """The error number, see the `errno` module."""
        self.path = path
        """The path at fault: that of the program or of the working directory."""
        self.hint = hint
        """How to correct the error."""
        super().__init__(f"cannot start {name!r}: {error.strerror}: {path!r}; {hint}")


class ProcessDead(RealtalkError):
    """A call needs a process that is dead, or that died during the call."""

    def __init__(self, name: str, doing: str, last: str) -> None:
        self.name = name
        self.doing = doing
        """The operation that failed: ``write 960 bytes``, ``wait for a line``."""
        self.last = last
        """How the process ended, in words."""
        super().__init__(f"{name!r} is dead, cannot {doing}: {last}")


class DeviceBusy(RealtalkError):
    """A device did not become free in time: another process of the same manager holds it."""

    def __init__(self, name: str, holders: Mapping[str, str], seconds: float) -> None:
        self.name = name
        """The process that waited."""
        self.holders: dict[str, str] = dict(holders)
        """The holder of each missing device and its state, for people."""
        self.seconds = seconds
        """Seconds that the process waited."""
        listed = ", ".join(f"{device!r}: {who}" for device, who in holders.items())
        super().__init__(
            f"{name!r} waited {seconds:g} s for a device that another process holds "
            f"({listed}); stop that process, or raise device_patience"
        )


class WriteStalled(RealtalkError):
    """A child did not read its stdin within the timeout."""

    def __init__(self, name: str, written: int, total: int, seconds: float) -> None:
        self.name = name
        self.written = written
        """Bytes that were written to the child's pipe."""
        self.total = total
        """Bytes of the whole write."""
        self.seconds = seconds
        """The timeout in seconds."""
        super().__init__(
            f"{name!r} took only {written} of {total} bytes in {seconds:g} s; "
            f"it does not read its stdin: stop or restart it"
        )


class WaitExpired(RealtalkError, TimeoutError):
    """A wait exceeded its timeout."""


class GaveUp(RealtalkError):
    """A process died and its restart was given up."""

    def __init__(
        self, name: str, reason: str, report: object = None, *, log: str = ""
    ) -> None:
        self.name = name
        self.reason = reason
        """The rule that decided, with its numbers."""
        self.report = report
        """The `IncarnationReport` of the last incarnation, if there was one."""
        self.last_words: str = getattr(report, "last_words", "")
        """The line of its output that says why it failed; empty if none does."""
        self.log = log
        """The path of the log; empty if it is not known."""
        message = f"gave up on {name!r}: {reason}"
        if self.last_words and self.last_words not in reason:
            message = f"{self.last_words}; {message}"
        super().__init__(f"{message}; log: {log}" if log else message)


class CriticalProcessFailed(GaveUp):
    """A critical process was given up; all others were stopped."""


class TooManyRestarts(GaveUp):
    """All processes together exceeded ``max_restarts``; all were stopped."""

    def __init__(
        self,
        name: str,
        reason: str,
        report: object,
        *,
        restarts: int,
        max_restarts: int,
        window: float,
        log: str = "",
    ) -> None:
        super().__init__(name, reason, report, log=log)
        self.restarts = restarts
        """Restarts of all processes within the window, including the refused one."""
        self.max_restarts = max_restarts
        """The allowed number of restarts."""
        self.window = window
        """Seconds."""


class ScriptNotFollowed(RealtalkError, AssertionError):
    """A client did not follow the script of the offline peer, or its answer failed."""


class StreamError(RealtalkError):
    """The base class of the errors of a voice session."""


class EndSession(RealtalkError):
    """
    A tool raises it to end the session once the response that follows was heard::

        def hang_up() -> None:
            raise EndSession("Say goodbye in one sentence.")

    Without words of its own the model is asked to say goodbye. The session ends after
    60 s at the latest, also if the response is still heard or did not come.
    """

    def __init__(self, output: str = "The session ends now: say goodbye.") -> None:
        self.output = output
        """What the model gets as the result of the tool."""
        super().__init__(output)


class MissingApiKey(StreamError):
    """OpenAI or Azure is the service, and there is no key for it."""


class AuthenticationRefused(StreamError):
    """The service refused the key; the connection is not retried."""


class ServiceUnreachable(StreamError):
    """The service could not be reached."""


class ServiceRefused(StreamError):
    """The service ended the session for a reason that a retry cannot change."""

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        """The error code of the service, such as ``insufficient_quota``."""
        self.message = message
        super().__init__(f"the service ended the session: {code}: {message}")


class RequestRefused(StreamError):
    """The service refused a request of the app; the session goes on."""

    def __init__(self, code: str, message: str, request: str) -> None:
        self.code = code
        """The code of the service, such as ``cannot_update_voice``."""
        self.message = message
        """What the service said."""
        self.request = request
        """The type of the message that it refused, such as ``session.update``."""
        super().__init__(f"the service refused {request}: {code}: {message}")


class ResponseNotCompleted(StreamError):
    """A response did not complete; see `Outcome.raise_unless_completed`."""

    def __init__(self, status: str, reason: str) -> None:
        self.status = status
        """``cancelled``, ``failed``, ``incomplete``, ``lost`` or ``stalled``."""
        self.reason = reason
        """Why."""
        super().__init__(f"the response is {status}: {reason}")


class AudioUnavailable(StreamError):
    """No recorder, player or audio device could be used."""


class ClosedStream(StreamError, RuntimeError):
    """The session has ended, or has not started."""
