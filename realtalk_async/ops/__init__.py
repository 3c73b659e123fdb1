"""
An app in production: metrics, health checks, and notifications to systemd.

`metrics` is the catalogue, `registry` counts, `collector` reads everything in the app's
event loop, `health` decides; `http`, `prometheus`, `otel` and `systemd` export.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from realtalk_async.lazy_imports import lazily

if TYPE_CHECKING:
    from realtalk_async.ops.collector import Collector
    from realtalk_async.ops.http import application, serve_metrics
    from realtalk_async.ops.otel import export_metrics
    from realtalk_async.ops.systemd import notify_systemd
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "collector": "Collector",
            "http": "application serve_metrics",
            "otel": "export_metrics",
            "systemd": "notify_systemd",
        },
    )

__all__ = [
    "Collector",
    "application",
    "export_metrics",
    "notify_systemd",
    "serve_metrics",
]
