"""The public base class of `ManagedProcess` and `SupervisedTask`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Generic, TypeVar

from realtalk_async import arguments
from realtalk_async.supervision.lifecycle.lifecycle import Lifecycle
from realtalk_async.times import now_local

if TYPE_CHECKING:
    from datetime import datetime

    from realtalk_async.supervision.reports.kept_history import Earlier
    from realtalk_async.supervision.reports.report import IncarnationReport
    from realtalk_async.supervision.reports.status import ProcessStatus, State

LifecycleType = TypeVar("LifecycleType", bound=Lifecycle)


class Supervised(Generic[LifecycleType]):
    """
    A supervised process or task as the app sees it; its lifecycle does all the work.

    Args:
        lifecycle: The lifecycle of the process or task.
    """

    def __init__(self, lifecycle: LifecycleType) -> None:
        self._lifecycle = lifecycle
        self._last_checked: datetime | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def _check_loop(self) -> None:
        """
        Check that the caller runs in the event loop of this object.

        That is the event loop of the first call; once it has settled, every loop may call.

        Raises:
            WrongEventLoop: If the caller runs in another one.
        """
        try:
            running = asyncio.get_running_loop()
        except (
            RuntimeError
        ):  # a function that does not wait may be called without a loop
            return
        if self._loop is None or self.is_settled:
            self._loop = running
        arguments.check_loop(self._loop, f"{self.name!r}: this manager")

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
        """The state in words: what happens now, or how it ended and what follows."""
        return self._lifecycle.reason

    @property
    def incarnation(self) -> int:
        """
        The number of the current or last incarnation; 0 before the first.

        Counted from 1; a reused name continues the numbers of its former holder.
        """
        return self._lifecycle.number

    @property
    def restarts(self) -> int:
        """How many times a new incarnation replaced a dead one."""
        return self._lifecycle.restarts

    @property
    def is_settled(self) -> bool:
        """Whether it is dead and will not be restarted automatically."""
        return self._lifecycle.settled

    @property
    def is_done(self) -> bool:
        """Whether it is a one-shot that has finished with success."""
        return self._lifecycle.is_done

    @property
    def stop_requested(self) -> bool:
        """Whether a stop was requested since its last start."""
        return self._lifecycle.stop_requested

    def request_stop(self) -> None:
        """Request its stop, and return at once; no restart follows."""
        self._check_loop()
        self._lifecycle.request_stop()

    @property
    def last_checked(self) -> datetime | None:
        """The local time of the last check."""
        return self._last_checked

    async def check(self) -> ProcessStatus:
        """
        Check it now, record the time, and return its status.

        An exit is noticed without this, within a fraction of a millisecond.
        """
        self._check_loop()
        # One turn of the loop processes an exit notice that has already arrived.
        await asyncio.sleep(0)
        self.mark_checked(now_local())
        return self.get_status()

    def mark_checked(self, now: datetime) -> None:
        """Record the time of a check; the kernel has reported any exit before it."""
        self._last_checked = now

    def get_status(self) -> ProcessStatus:
        """Return the current status without a new check."""
        return self._lifecycle.status(self._last_checked)

    def count_incarnations(self) -> Earlier:
        """Return the count of all incarnations so far."""
        return self._lifecycle.count_all()

    def get_report(self) -> IncarnationReport | None:
        """Return the report of the current or last incarnation; None before the first."""
        return self._lifecycle.report()

    async def restart_with_group(self, why: str) -> None:
        """End the current incarnation so that the next one follows; wait until it ended."""
        arguments.words("why", why)
        self._check_loop()
        await self._lifecycle.restart_with_group(why)

    async def wait_until_running(self) -> ProcessStatus:
        """
        Wait until it is running (and ready, if it has a readiness probe).

        Raises:
            ProcessDead: If it is dead and will not be restarted automatically.
            WrongEventLoop: If it is called from another event loop.
        """
        self._check_loop()
        await self._lifecycle.wait_until_running()
        return self.get_status()

    async def wait_until_settled(self) -> ProcessStatus:
        """
        Wait until it is dead and will not be restarted automatically.

        Returns:
            Its last status: ``exited``, or ``fatal`` if its restart was given up.

        Cancellation: Safe; the process or task is not affected.

        Raises:
            WrongEventLoop: If it is called from another event loop.
        """
        self._check_loop()
        await self._lifecycle.wait_until_settled()
        return self.get_status()

    def reset(self) -> None:
        """
        Reset the failure score, so that the next failure counts as the first.

        A process that was given up stays dead; after a new start, its policy allows the
        full number of failures again.
        """
        self._lifecycle.decider.reset()
