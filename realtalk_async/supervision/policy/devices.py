"""
Who holds which device, who waits for it, and how long a busy one is waited out. Pure.

A device is whatever only one process can have at a time: a sound card, a port, a file.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from realtalk_async.supervision.policy.restart import Restart

DEVICE_BUSY = "device busy"
"""What a crash report says of a program that found its device taken."""

DEVICE_TIMEOUT = 30.0
"""Seconds to wait for a device unless something else is said."""

FIRST_WAIT = 0.1
LONGEST_WAIT = 2.0
"""Seconds between two tries to have a device that another program holds; doubled."""


@dataclass(slots=True)
class LeaseTable:
    """The devices that are held, and the queue for them."""

    holders: dict[str, str] = field(default_factory=dict[str, str])
    """Who holds a device, by its name."""
    queue: dict[str, tuple[str, ...]] = field(
        default_factory=dict[str, tuple[str, ...]]
    )
    """Who waits for which devices, the first one first."""

    def ask(self, name: str, devices: tuple[str, ...]) -> bool:
        """
        Ask for devices, all or none of them.

        Returns:
            True if *name* holds them now; otherwise it has a place in the queue.
        """
        if all(self.holders.get(device) == name for device in devices):
            return True
        self.queue.setdefault(name, devices)
        return name in self._grant()

    def withdraw(self, name: str) -> None:
        """Leave the queue; those behind may move up."""
        if self.queue.pop(name, None) is not None:
            self._grant()

    def release(self, name: str) -> None:
        """Give back all that *name* holds; those who wait are served in their order."""
        self.holders = {d: who for d, who in self.holders.items() if who != name}
        self.withdraw(name)
        self._grant()

    def waits(self, name: str) -> bool:
        """Return whether *name* stands in the queue."""
        return name in self.queue

    def held_by(self, name: str) -> tuple[str, ...]:
        """Return the devices that *name* holds."""
        return tuple(device for device, who in self.holders.items() if who == name)

    def blockers(self, name: str) -> dict[str, str]:
        """Return who holds, or is to have before *name*, each device it waits for."""
        found: dict[str, str] = {}
        for device in self.queue.get(name, ()):
            before = self.holders.get(device) or self._first_for(device)
            if before != name:
                found[device] = before
        return found

    def _first_for(self, device: str) -> str:
        return next(name for name, wanted in self.queue.items() if device in wanted)

    def _grant(self) -> list[str]:
        """Serve the queue in order; nobody is overtaken by one who wants the same."""
        served: list[str] = []
        taken = set(self.holders)
        for name, devices in list(self.queue.items()):
            if taken.isdisjoint(devices):
                self.holders |= dict.fromkeys(devices, name)
                del self.queue[name]
                served.append(name)
            taken.update(devices)
        return served


@dataclass(slots=True)
class RetryWindow:
    """How long a device that a stranger holds is waited out."""

    seconds: float
    """After that each further try that fails counts as a crash."""
    since: float | None = None
    """When it was first found busy, in monotonic seconds."""
    tries: int = 0

    def retry(self, uptime: float, now: float, share: float) -> Restart | None:
        """
        Return when to try again after a death for a busy device; None if that is over.

        Args:
            uptime: Seconds that the process lived: if it lived long, it had the device.
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
            f"{DEVICE_BUSY} for {waited:.1f} s of {self.seconds:g} s that are waited out; "
            f"not counted as a failure, next start in {delay:.2f} s",
            counted=False,
        )

    def forget(self) -> None:
        """Note that it died of something else, or that it was told to."""
        self.since = None
