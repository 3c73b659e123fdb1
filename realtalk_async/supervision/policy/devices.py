"""
Exclusive devices: which process holds one, which processes wait, how long to retry.

A device is a resource that only one process can use at a time: a sound card, a port, a
file.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from realtalk_async.supervision.policy.restart import Restart

DEVICE_BUSY = "device busy"
"""The kind of failure of a program whose device another program uses."""

DEVICE_PATIENCE = 30.0
"""Seconds to wait for a device, by default."""

FIRST_WAIT = 0.1
LONGEST_WAIT = 2.0
"""Seconds between two tries for a device that another program uses; doubled each time."""


@dataclass(slots=True)
class LeaseTable:
    """The devices in use, and the queue for them."""

    holders: dict[str, str] = field(default_factory=dict[str, str])
    """The process that holds a device, by the name of the device."""
    queue: dict[str, tuple[str, ...]] = field(
        default_factory=dict[str, tuple[str, ...]]
    )
    """The devices that each waiting process wants, in order of arrival."""

    def request(self, name: str, devices: tuple[str, ...]) -> bool:
        """
        Request devices, all or none of them.

        Returns:
            True if *name* holds them now; otherwise it is in the queue.
        """
        if all(self.holders.get(device) == name for device in devices):
            return True
        self.queue.setdefault(name, devices)
        return name in self._grant()

    def withdraw(self, name: str) -> None:
        """Leave the queue; processes behind *name* may get their devices."""
        if self.queue.pop(name, None) is not None:
            self._grant()

    def release(self, name: str) -> None:
        """Release all devices of *name*, and grant them to the queue in order."""
        self.holders = {d: who for d, who in self.holders.items() if who != name}
        self.withdraw(name)
        self._grant()

    def is_waiting(self, name: str) -> bool:
        """Return whether *name* is in the queue."""
        return name in self.queue

    def held_by(self, name: str) -> tuple[str, ...]:
        """Return the devices that *name* holds."""
        return tuple(device for device, who in self.holders.items() if who == name)

    def blockers(self, name: str) -> dict[str, str]:
        """Return, for each device that *name* waits for, the process that has precedence."""
        found: dict[str, str] = {}
        for device in self.queue.get(name, ()):
            before = self.holders.get(device) or self._first_for(device)
            if before != name:
                found[device] = before
        return found

    def _first_for(self, device: str) -> str:
        return next(name for name, wanted in self.queue.items() if device in wanted)

    def _grant(self) -> list[str]:
        """Grant devices in order of arrival; no process overtakes another for a device."""
        granted: list[str] = []
        taken = set(self.holders)
        for name, devices in list(self.queue.items()):
            if taken.isdisjoint(devices):
                self.holders |= dict.fromkeys(devices, name)
                del self.queue[name]
                granted.append(name)
            taken.update(devices)
        return granted


@dataclass(slots=True)
class RetryWindow:
    """How long a process retries to get a device that another program uses."""

    seconds: float
    """Length of the window; each failed try after it counts as a crash."""
    since: float | None = None
    """When the device was first busy, in monotonic seconds."""
    tries: int = 0

    def retry(self, uptime: float, now: float, share: float) -> Restart | None:
        """
        Return the next try after an exit for a busy device; None after the window.

        Args:
            uptime: Seconds that the process ran: after a long run it had the device.
            now: Monotonic seconds.
            share: A random number in [0, 1) for the jitter.
        """
        if self.since is None or uptime > self.seconds:
            self.since, self.tries = now, 0
        waited = now - self.since
        if waited >= self.seconds:
            return None
        full = min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(self.tries, 10))
        self.tries += 1
        delay = full * (0.5 + share / 2)
        return Restart(
            delay,
            f"{DEVICE_BUSY} for {waited:.1f} s, retried for {self.seconds:g} s; "
            f"not counted as a failure",
            counted=False,
        )

    def reset(self) -> None:
        """End the window: the process was stopped, or it failed for another reason."""
        self.since = None
