"""Which loss of a child shuts its manager down."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from realtalk_async.exceptions import CriticalProcessFailed, GaveUp, TooManyRestarts

if TYPE_CHECKING:
    from collections.abc import Callable

    from realtalk_async.supervision.policy.intensity import Intensity
    from realtalk_async.supervision.reports.report import IncarnationReport


def fatal_loss(
    name: str,
    reason: str,
    get_report: Callable[[], IncarnationReport | None],
    intensity: Intensity,
    is_critical: bool,  # noqa: FBT001
    *,
    log: str,
) -> GaveUp | None:
    """
    Return the failure that shuts a manager down; None if the app continues.

    Args:
        name: The child that was given up, or ends because of such a child.
        reason: Why.
        get_report: Returns its newest report; called only for a failure.
        intensity: The limit of restarts of all children.
        is_critical: Whether the app cannot run without it.
        log: The path of the log, for the message.
    """
    count = intensity.within(time.monotonic())
    if intensity.most is not None and count > intensity.most:
        return TooManyRestarts(
            name,
            reason,
            get_report(),
            restarts=count,
            max_restarts=intensity.most,
            window=intensity.window,
            log=log,
        )
    if is_critical:
        return CriticalProcessFailed(name, reason, get_report(), log=log)
    return None
