"""Whether an app is alive, and whether it can serve: the verdict, and why not. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from realtalk_async.supervision.reports.status import Cause, State

if TYPE_CHECKING:
    from collections.abc import Mapping

    from realtalk_async.supervision import ProcessStatus


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of an app at one moment, as its loop tells it."""

    status: str
    """The manager's: ``running``, ``degraded``, ``failed``, ``new``, ``closed``."""
    closing: bool
    """Whether everything is being stopped."""
    critical: Mapping[str, ProcessStatus]
    degraded: Mapping[str, str]
    session_ready: bool | None = None
    """Whether the voice session is ready; None if there is none."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """An answer to ``/healthz`` or ``/readyz``."""

    reasons: tuple[str, ...]
    """Why not; empty if all is well."""
    overdue: float
    """Seconds that the loop is late."""
    bound: float
    """Seconds that it may be."""
    facts: Facts | None
    """The newest that the loop has told; None if it has not told any."""

    @property
    def good(self) -> bool:
        """Whether it is."""
        return not self.reasons

    def to_dict(self) -> dict[str, object]:
        """Return the answer ready for JSON."""
        facts = self.facts
        return {
            "ok": self.good,
            "reasons": list(self.reasons),
            "loop": {"overdue": round(self.overdue, 3), "bound": self.bound},
            "manager": facts and facts.status,
            "critical": {n: str(s.state) for n, s in facts.critical.items()}
            if facts
            else {},
            "degraded": dict(facts.degraded) if facts else {},
        }


def liveness(facts: Facts | None, overdue: float, bound: float) -> Verdict:
    """
    Return whether the app is alive: its loop turns, and nothing critical is lost.

    Args:
        facts: What the loop has told, now or the last time that it did.
        overdue: Seconds that it is late by now.
        bound: Seconds that it may be.
    """
    reasons = _of_loop(facts, overdue, bound)
    if facts is not None and facts.status in {"failed", "closed"}:
        reasons.append(f"the manager has {facts.status}")
    reasons += [
        f"critical process {name!r} is lost: {status.reason}"
        for name, status in (facts.critical.items() if facts else ())
        if status.state is State.FATAL
    ]
    return Verdict(tuple(reasons), overdue, bound, facts)


def readiness(facts: Facts | None, overdue: float, bound: float) -> Verdict:
    """
    Return whether the app can serve: it is alive, and all that is critical is ready.

    A critical process that has finished its work well counts as ready. Arguments as for
    `liveness`.
    """
    alive = liveness(facts, overdue, bound)
    reasons = list(alive.reasons)
    if facts is not None:
        if facts.status == "new":
            reasons.append("the manager has not been entered")
        elif facts.closing and not reasons:
            reasons.append("the manager is closing")
        reasons += [
            f"critical process {name!r} is {status.state}: {status.reason}"
            for name, status in facts.critical.items()
            if not _serves(status) and status.state is not State.FATAL
        ]
        if facts.session_ready is False:
            reasons.append("the voice session is not ready")
    return Verdict(tuple(reasons), overdue, bound, facts)


def _of_loop(facts: Facts | None, overdue: float, bound: float) -> list[str]:
    if overdue >= bound:
        return [f"the event loop hangs: {overdue:.3f} s late, {bound:g} s allowed"]
    return [] if facts else ["the event loop has not answered"]


def _serves(status: ProcessStatus) -> bool:
    finished = status.state is State.EXITED and status.cause is Cause.FINISHED
    return status.state is State.RUNNING or finished
