"""Devices lent to one process at a time: waiting for them in order, for so long."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from realtalk_async.concurrency.condition import Condition
from realtalk_async.exceptions import DeviceBusy
from realtalk_async.supervision.policy.devices import LeaseTable

if TYPE_CHECKING:
    from collections.abc import Callable


class DeviceLeases:
    """
    Lends devices.

    Args:
        describe: Says in words who somebody is, and how he is.
        on_wait: Called with who has to wait, and who holds each device he waits for.
    """

    def __init__(
        self,
        describe: Callable[[str], str],
        on_wait: Callable[[str, dict[str, str]], None],
    ) -> None:
        self.table = LeaseTable()
        self._describe = describe
        self._on_wait = on_wait
        self._changed = Condition()
        self._deadlines: dict[str, float] = {}

    async def acquire(
        self, name: str, devices: tuple[str, ...], seconds: float
    ) -> None:
        """
        Wait for all of *devices*; who came first is served first.

        Whoever holds them already, as after a restart, goes on holding them.

        Raises:
            DeviceBusy: If they were not to be had in so many *seconds*.

        Cancellation: The place in the queue is given up.
        """
        if not devices or self.table.ask(name, devices):
            return
        self._on_wait(name, self.blockers(name))
        self._deadlines[name] = time.monotonic() + seconds
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait_until(lambda: not self.table.waits(name))
        except TimeoutError:
            if self.table.waits(name):
                raise DeviceBusy(name, self.blockers(name), seconds) from None
        finally:
            self._deadlines.pop(name, None)
            self.table.withdraw(name)
            self._changed.notify()

    def blockers(self, name: str) -> dict[str, str]:
        """Return who is in the way of *name*, in words, by device."""
        blocking = self.table.blockers(name)
        return {device: self._describe(who) for device, who in blocking.items()}

    def remaining_wait(self, name: str) -> float:
        """Return the seconds for which *name* goes on waiting; 0 if it does not wait."""
        return max(0.0, self._deadlines.get(name, 0.0) - time.monotonic())

    def release(self, name: str) -> None:
        """Give back all that *name* holds."""
        self.table.release(name)
        self._changed.notify()
