"""
An app in service: metrics, health, and a word to systemd.

From bottom to top. Words: `catalogue`. Pure: `tally`, `health`, `sound`. Edges: `pulse`,
`notify`, `prometheus`, `endpoint`. Things: `watch`, `serve`, `otel`, `systemd`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from realtalk_async.lazy_imports import lazily

if TYPE_CHECKING:
    from realtalk_async.ops.collector import Watch
    from realtalk_async.ops.http import application
    from realtalk_async.ops.otel import export_metrics
    from realtalk_async.ops.serve import serve_metrics
    from realtalk_async.ops.systemd import notify_systemd
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "http": "application",
            "otel": "export_metrics",
            "serve": "serve_metrics",
            "systemd": "notify_systemd",
            "collector": "Watch",
        },
    )

__all__ = [
    "Watch",
    "application",
    "export_metrics",
    "notify_systemd",
    "serve_metrics",
]
