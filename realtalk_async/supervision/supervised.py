"""What the app sees of one supervised thing, and may wish of it, whatever it is."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Generic, TypeVar

from realtalk_async.supervision.lifecycle.lifecycle import Lifecycle
from realtalk_async.times import now_local

if TYPE_CHECKING:
    from datetime import datetime

    from realtalk_async.supervision.reports.report import IncarnationReport
    from realtalk_async.supervision.status import ProcessStatus, State

LifecycleType = TypeVar("LifecycleType", bound=Lifecycle)


class Supervised(Generic[LifecycleType]):
    """
    The face of a supervised thing: nothing here acts on it; its lifecycle does.

    Args:
        lifecycle: Who owns it over all of its lives.
    """

    def __init__(self, lifecycle: LifecycleType) -> None:
        self._lifecycle = lifecycle
        self._last_checked: datetime | None = None

    @property
    def name(self) -> str:
        """Its name."""
        return self._lifecycle.name

    @property
    def state(self) -> State:
        """The finer state: starting, running, backoff, stopping, exited, fatal."""
        return self._lifecycle.state

    @property
    def reason(self) -> str:
        """In words: what it does now, or how it ended and what comes next."""
        return self._lifecycle.reason

    @property
    def incarnation(self) -> int:
        """
        Which life it is in; 0 before the first.

        Counted from 1, and on from those who had its name before.
        """
        return self._lifecycle.number

    @property
    def restarts(self) -> int:
        """How many times a new incarnation took the place of a dead one."""
        return self._lifecycle.restarts

    @property
    def is_settled(self) -> bool:
        """Whether it is dead and will not start again by itself."""
        return self._lifecycle.settled

    @property
    def last_checked(self) -> datetime | None:
        """When `check` last looked, local time."""
        return self._last_checked

    async def check(self) -> ProcessStatus:
        """
        Look at it now, note the time, and return its status.

        A death is noticed without this, within a fraction of a millisecond.
        """
        # One turn of the loop lets a death that the kernel has already told of be seen.
        await asyncio.sleep(0)
        self.mark_checked(now_local())
        return self.get_status()

    def mark_checked(self, now: datetime) -> None:
        """Note that its manager has looked; a death would have been told of by now."""
        self._last_checked = now

    def get_status(self) -> ProcessStatus:
        """Return what is known now, without looking afresh."""
        return self._lifecycle.status(self._last_checked)

    def get_report(self) -> IncarnationReport | None:
        """Return the report of the current or last incarnation; None before the first."""
        return self._lifecycle.report()

    async def restart_with_group(self, why: str) -> None:
        """End its current life, to be followed by another; wait until it is over."""
        await self._lifecycle.restart_with_group(why)

    async def wait_until_running(self) -> ProcessStatus:
        """
        Wait until it is running (and ready, if a probe tells).

        Raises:
            ProcessDead: If it is dead for good.
        """
        await self._lifecycle.wait_until_running()
        return self.get_status()

    async def wait_until_settled(self) -> ProcessStatus:
        """
        Wait until it is dead and will not be started again by itself.

        Returns:
            Its last status: ``exited``, or ``fatal`` if restarting it was given up.

        Cancellation: Safe; it is not touched.
        """
        await self._lifecycle.wait_until_settled()
        return self.get_status()

    def reset(self) -> None:
        """
        Forget past failures, so that the next one is judged as the first.

        One that was given up stays dead; once it is brought back, it has all of its
        chances again.
        """
        self._lifecycle.decider.reset()
