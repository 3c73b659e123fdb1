"""The summary at the end of `realtalk-async run`: which processes failed, and why."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from realtalk_async import events
from realtalk_async.supervision import Cause

if TYPE_CHECKING:
    from collections.abc import Iterable

    from realtalk_async.cli.config.spec import AppSpec, ProcessSpec

_WELL = {Cause.FINISHED, Cause.STOPPED, Cause.ESCALATED}

_SHELL_ERROR = re.compile(r"^(?:\S*/)?(?:da)?sh: (?:line )?\d+: (.*)")
_BASH_WORDS = [
    "[[",
    "((",
    "declare",
    "function",
    "let",
    "local",
    "mapfile",
    "popd",
    "pushd",
    "readarray",
    "select",
    "shopt",
    "source",
    "time",
    "typeset",
]
_BASH_ONLY = re.compile(
    rf"(?:{'|'.join(map(re.escape, _BASH_WORDS))}): (?:not found|Permission denied)"
    r"|Syntax error|Bad substitution|Illegal option|: unexpected operator|bad trap"
    r"|: not a valid|bad variable name"
)


class RunSummary:
    """
    Remembers how the processes of a run ended.

    Args:
        spec: The processes.
    """

    def __init__(self, spec: AppSpec) -> None:
        self._processes = {one.name: one for one in spec.processes}
        self._started: set[str] = set()
        self._reasons: dict[str, str] = {}
        """Why a process was given up, in the order of the losses."""
        self._deaths: dict[str, events.ProcessExited] = {}
        """The newest death of each process; the event of its exit."""

    def replace_processes(self, spec: AppSpec, ended: Iterable[str]) -> None:
        """Take the processes of a changed spec; forget the failures of those that end."""
        self._processes = {one.name: one for one in spec.processes}
        for name in ended:
            self._reasons.pop(name, None)
            self._deaths.pop(name, None)
            self._started.discard(name)

    def note(self, event: events.Event) -> None:
        """Take what an event says about the end of a process."""
        match event:
            case events.ProcessStarted():
                self._started.add(event.process)
            case events.ProcessExited() if event.cause not in _WELL:
                self._deaths[event.process] = event
            case events.Degraded() | events.ShutdownStarted():
                self._reasons.setdefault(event.process, event.reason)
            case _:
                pass

    def note_loss(self, name: str, reason: str) -> None:
        """Take the reason for the end of the run."""
        self._reasons.setdefault(name, reason)

    def lines(self) -> list[str]:
        """Return a line for each process that failed or never started; none if all is well."""
        lost = [name for name in self._reasons if name in self._processes]
        if not lost:
            return []
        failed = [self._describe(self._processes[name]) for name in lost]
        blocked = [
            f"{one.name} was not started: it needs {', '.join(sorted(needs))}"
            for one in self._processes.values()
            if one.name not in self._started and (needs := self._lost_needs(one, lost))
        ]
        count = f"{len(lost)} of {len(self._processes)} failed"
        return [f"summary: {count}", *failed, *blocked]

    def _describe(self, process: ProcessSpec) -> str:
        reason, death = self._reasons[process.name], self._deaths.get(process.name)
        words = death.last_words if death is not None else ""
        told = f"{words}; {reason}" if words and words not in reason else reason
        hint = shell_hint(process, death.last_lines if death is not None else ())
        return f"{process.name} failed: {told}{hint}"

    def _lost_needs(self, process: ProcessSpec, lost: list[str]) -> set[str]:
        """Return the failed processes that a process needs, directly or not."""
        needs, left = set[str](), [*process.needs]
        while left:
            name = left.pop()
            if name not in needs and name in self._processes:
                needs.add(name)
                left += self._processes[name].needs
        return needs.intersection(lost)


def shell_hint(process: ProcessSpec, lines: Iterable[str]) -> str:
    """Return what to do if the shell refused a line that is for bash; or ""."""
    if process.shell != "/bin/sh":
        return ""
    said = (_SHELL_ERROR.match(line.strip()) for line in lines)
    if not any(one and _BASH_ONLY.search(one[1]) for one in said):
        return ""
    return (
        "; hint: /bin/sh runs this line; if it is written for bash, let bash run it: "
        "bash -c '…'"
    )
