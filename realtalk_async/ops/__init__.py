"""
An app in service: metrics, health, and a word to systemd.

From bottom to top. Words: `catalogue`. Pure: `tally`, `health`, `sound`. Edges: `pulse`,
`notify`, `prometheus`, `endpoint`. Things: `watch`, `serve`, `otel`, `systemd`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from realtalk_async.lazy import lazily

if TYPE_CHECKING:
    from .endpoint import application
    from .otel import export_metrics
    from .serve import serve_metrics
    from .systemd import notify_systemd
    from .watch import Watch
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "endpoint": "application",
            "otel": "export_metrics",
            "serve": "serve_metrics",
            "systemd": "notify_systemd",
            "watch": "Watch",
        },
    )

__all__ = [
    "Watch",
    "application",
    "export_metrics",
    "notify_systemd",
    "serve_metrics",
]
