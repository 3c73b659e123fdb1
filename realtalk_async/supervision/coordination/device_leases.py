"""Exclusive leases of devices: processes wait for them in order, for a limited time."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from realtalk_async import arguments
from realtalk_async.concurrency.condition import Condition
from realtalk_async.exceptions import DeviceBusy
from realtalk_async.supervision.policy.devices import LeaseTable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


def checked_devices(devices: Iterable[str], patience: float) -> tuple[str, ...]:
    """
    Return the devices that a child needs, each once.

    Raises:
        InvalidConfiguration: If one of the arguments is invalid.
    """
    arguments.seconds("device_patience", patience, infinite=True)
    found = arguments.several("devices", devices, arguments.one_line, "names")
    return tuple(dict.fromkeys(found))


class DeviceLeases:
    """
    The leases of all devices of one manager.

    Args:
        describe: Returns a process and its state, for people.
        on_wait: Called with the name of a waiting process and the holder of each device.
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
        Wait until *name* holds all of *devices*; requests are served in order.

        It returns at once if *name* holds them already, as after a restart.

        Raises:
            DeviceBusy: If they are not free within so many *seconds*.

        Cancellation: The request is withdrawn.
        """
        if not devices or self.table.request(name, devices):
            return
        self._on_wait(name, self.blockers(name))
        self._deadlines[name] = time.monotonic() + seconds
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait_until(lambda: not self.table.is_waiting(name))
        except TimeoutError:
            if self.table.is_waiting(name):
                raise DeviceBusy(name, self.blockers(name), seconds) from None
        finally:
            self._deadlines.pop(name, None)
            self.table.withdraw(name)
            self._changed.notify()

    def blockers(self, name: str) -> dict[str, str]:
        """Return the holders of the devices that *name* waits for, by device."""
        blocking = self.table.blockers(name)
        return {device: self._describe(holder) for device, holder in blocking.items()}

    def remaining_wait(self, name: str) -> float:
        """Return the seconds until *name* stops waiting; 0 if it does not wait."""
        return max(0.0, self._deadlines.get(name, 0.0) - time.monotonic())

    def release(self, name: str) -> None:
        """Release all devices that *name* holds."""
        self.table.release(name)
        self._changed.notify()
