"""
The restart decision: whether a dead process restarts, after which delay, when to give up.

The failure score decays with time (thejerf/suture): each failure adds one to the score,
and the score halves every ``decay`` seconds. A process that fails once an hour restarts
for ever; a process that fails again and again at once is given up.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, get_args

from realtalk_async import arguments
from realtalk_async.events import Cause
from realtalk_async.supervision.kernel.exit_status import ExitStatus, describe_exit

if TYPE_CHECKING:
    from collections.abc import Sequence

Strategy = Literal["one_for_one", "rest_for_one", "one_for_all"]
"""The processes that restart with one: none; those started after it; all others."""

Mode = Literal["permanent", "transient", "temporary"]

MOST_REPEATED = 60
"""Characters of a reason that is given again."""


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """
    When to restart a process.

    Raises:
        InvalidConfiguration: If an argument is invalid; the message names it.
    """

    mode: Mode = "transient"
    """``permanent``: always; ``transient``: after a failure; ``temporary``: never."""
    max_failures: float = 5
    """
    Give up when the failure score exceeds this: 0 at the first failure, `math.inf` never.
    """
    decay: float = 30.0
    """Seconds in which the failure score halves."""
    first_delay: float = 0.1
    """Seconds of the first backoff; doubled for each further failure."""
    max_delay: float = 30.0
    """Seconds of the longest backoff."""
    jitter: bool = True
    """Draw each delay evenly between 0 and the backoff (full jitter)."""
    success_statuses: frozenset[int] = frozenset({0})
    """Exit statuses that do not count as a failure."""
    fatal_statuses: frozenset[int] = frozenset()
    """Exit statuses after which a restart would be useless: give up at once."""

    def __post_init__(self) -> None:
        arguments.choice("mode", self.mode, get_args(Mode))
        arguments.number("max_failures", self.max_failures, minimum=0, infinite=True)
        arguments.number("decay", self.decay, of="seconds", more_than=0)
        arguments.seconds("first_delay", self.first_delay)
        arguments.seconds("max_delay", self.max_delay)
        if self.first_delay > self.max_delay:
            allowed = f"max_delay ({self.max_delay:g} s) at most; raise max_delay too"
            raise arguments.refused("first_delay", allowed, self.first_delay)
        arguments.flag("jitter", self.jitter)
        for name in ("success_statuses", "fatal_statuses"):
            of = "exit statuses"
            given = arguments.several(name, getattr(self, name), arguments.integer, of)
            object.__setattr__(self, name, frozenset(given))

    @classmethod
    def of(cls, restart: RestartPolicy | Mode) -> RestartPolicy:
        """
        Return a policy, also for its word.

        Args:
            restart: A policy, or one of the words ``permanent``, ``transient`` and
                ``temporary``.

        Raises:
            InvalidConfiguration: If it is neither.
        """
        if isinstance(restart, RestartPolicy):
            return restart
        is_word = isinstance(restart, str)  # pyright: ignore[reportUnnecessaryIsInstance] - untyped callers
        if is_word and restart in get_args(Mode):
            return cls(restart)
        allowed = f"a RestartPolicy, {arguments.any_of(get_args(Mode))}"
        raise arguments.refused("restart", allowed, restart)

    def delay(self, failures: float, share: float) -> float:
        """
        Return the seconds to wait before the next start.

        Args:
            failures: The failure score, this failure included.
            share: A random number in [0, 1) for the jitter.

        Raises:
            InvalidConfiguration: If an argument is invalid.
        """
        arguments.number("failures", failures, minimum=0)
        arguments.number("share", share, minimum=0, maximum=1)
        exponent = min(max(failures - 1, 0.0), 64.0)
        full = min(self.max_delay, self.first_delay * float(2.0**exponent))
        return full * share if self.jitter else full


PERMANENT = RestartPolicy("permanent")
"""Restart after every exit: for a process that must always run, such as a recorder."""
TRANSIENT = RestartPolicy("transient")
"""Restart after a failure: for a job that may finish."""
TEMPORARY = RestartPolicy("temporary")
"""Never restart."""


@dataclass(frozen=True, slots=True)
class FailureScore:
    """The failures so far, decayed with time."""

    failures: float = 0.0
    at: float = 0.0
    """The time to which `failures` applies, in monotonic seconds."""

    def left(self, now: float, decay: float) -> float:
        """Return the score at *now*."""
        return self.failures * float(0.5 ** (max(0.0, now - self.at) / decay))

    def fail(self, now: float, decay: float) -> FailureScore:
        """Return the score after one more failure."""
        return FailureScore(self.left(now, decay) + 1.0, now)


@dataclass(frozen=True, slots=True)
class Restart:
    """Start again after a delay."""

    delay: float
    """Seconds."""
    reason: str
    counted: bool = True
    """Whether it follows a failure, and not a request or the restart of others."""


@dataclass(frozen=True, slots=True)
class StayDown:
    """Do not restart: the process has done its work, or was stopped."""

    reason: str


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Do not restart although the process has failed."""

    reason: str
    allowed: bool = True
    """Whether the policy allows restarts at all."""


Decision = Restart | StayDown | GiveUp


def restarted_together(
    name: str, order: Sequence[str], strategy: Strategy
) -> tuple[str, ...]:
    """
    Return the processes that restart with *name*, including it, in the order of start.

    Args:
        name: The process that is to restart.
        order: All names, in the order of start.
        strategy: Selects the processes that restart with it.
    """
    if strategy == "one_for_one":
        return (name,)
    first = order.index(name) if strategy == "rest_for_one" else 0
    return tuple(order[first:])


@dataclass(slots=True)
class RestartDecider:
    """Decides what follows each exit of one process, and keeps its failure score."""

    policy: RestartPolicy
    score: FailureScore = field(default_factory=FailureScore)
    last_end: str = ""
    """How it ended the last time, in words."""
    repeats: int = 0
    """How many times in a row it ended so."""

    def decide(
        self,
        cause: Cause,
        exit_status: ExitStatus | None,
        now: float,
        share: float,
        how: str = "",
    ) -> Decision:
        """
        Return what follows an exit.

        Args:
            cause: Why the process ended.
            exit_status: None if the process could not be started.
            now: Monotonic seconds.
            share: A random number in [0, 1) for the jitter.
            how: Describes the end, if the exit status is not the best description.
        """
        if cause in {Cause.STOPPED, Cause.ESCALATED}:
            return StayDown("it was stopped")
        failed = cause is not Cause.FINISHED
        how = how or self._describe(cause, exit_status)
        policy = self.policy
        if not failed and policy.mode != "permanent":
            return StayDown(f"{how}: it finished")
        if policy.mode == "temporary":
            return GiveUp(f"{how}; its policy says never to restart it", allowed=False)
        if exit_status in policy.fatal_statuses:
            return GiveUp(f"{how}, which its policy lists as fatal")
        self.repeats = self.repeats + 1 if how == self.last_end else 1
        self.last_end = how
        # A clean exit of a permanent process counts too: its restarts must not spin.
        self.score = self.score.fail(now, policy.decay)
        if self.score.failures > policy.max_failures:
            return GiveUp(self._too_many(how))
        how = _shortened(how) if self.repeats > 1 else how
        delay = policy.delay(self.score.failures, share)
        return Restart(
            delay,
            f"{how}{self._times()}; failure score {self.score.failures:.1f} of {policy.max_failures:g}",
        )

    def forget_failures(self) -> None:
        """Clear the score: a person who restarts a process has seen its failures."""
        self.score = FailureScore()
        self.last_end, self.repeats = "", 0

    def _too_many(self, how: str) -> str:
        policy = self.policy
        return (
            f"{how}{self._times()}; failure score {self.score.failures:.1f} exceeds {policy.max_failures:g} "
            f"(halved every {policy.decay:g} s); fix the program or raise max_failures"
        )

    @staticmethod
    def _describe(cause: Cause, exit_status: ExitStatus | None) -> str:
        if cause in {Cause.SPAWN_FAILED, Cause.UNHEALTHY, Cause.INTERNAL_ERROR}:
            return str(cause)
        return describe_exit(exit_status)

    def failures_left(self, now: float) -> float:
        """Return the number of further failures, at once, that lead to giving up."""
        left = self.policy.max_failures - self.score.left(now, self.policy.decay)
        return math.floor(max(left, 0.0)) + 1 if math.isfinite(left) else math.inf

    def rule(self, now: float) -> str:
        """Return the rule of the policy in words, with its numbers."""
        policy = self.policy
        when = _RULES[policy.mode]
        if policy.mode == "temporary":
            return f"temporary: {when}"
        return (
            f"{policy.mode}: {when}; failure score "
            f"{self.score.left(now, policy.decay):.1f} of {policy.max_failures:g}, "
            f"halved every {policy.decay:g} s"
        )

    def reset(self) -> None:
        """Forget all failures."""
        self.score = replace(self.score, failures=0.0)
        self.last_end, self.repeats = "", 0

    def _times(self) -> str:
        return f", {self.repeats} times in a row" if self.repeats > 1 else ""


def _shortened(how: str) -> str:
    """Return the beginning of a reason that was given in full before."""
    return how if len(how) <= MOST_REPEATED else f"{how[:MOST_REPEATED].rstrip()} …"


_RULES: dict[Mode, str] = {
    "permanent": "restarted however it ends",
    "transient": "restarted after a failure",
    "temporary": "never restarted",
}


def classify(
    exit_status: ExitStatus | None,
    policy: RestartPolicy,
    *,
    stopped: bool,
    escalated: bool,
    unhealthy: bool,
    broken: bool = False,
) -> Cause:
    """
    Return why an incarnation ended.

    Args:
        exit_status: None if the incarnation never ran.
        policy: Lists the exit statuses that are a success.
        stopped: Whether the app stopped it.
        escalated: Whether the stop took SIGKILL after a softer step.
        unhealthy: Whether it was ended because a probe failed.
        broken: Whether it was ended because its supervision failed.
    """
    if exit_status is None:
        return Cause.SPAWN_FAILED
    if broken:
        return Cause.INTERNAL_ERROR
    if unhealthy:
        return Cause.UNHEALTHY
    if stopped:
        return Cause.ESCALATED if escalated else Cause.STOPPED
    if exit_status == "unknown":
        return Cause.UNKNOWN
    if exit_status in policy.success_statuses:
        return Cause.FINISHED
    return Cause.SIGNALLED if exit_status < 0 else Cause.FAILED
