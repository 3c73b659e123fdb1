"""
An app in production: metrics, health checks, and notifications to systemd.

`metrics` is the catalogue, `registry` counts, `collector` reads everything in the app's
event loop, `health` decides; `http`, `prometheus`, `otel`, `otel_traces`,
`otel_logs` and `systemd` export.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from realtalk_async.lazy_imports import lazily

if TYPE_CHECKING:
    from realtalk_async.ops.collector import Collector
    from realtalk_async.ops.http import application, serve_metrics
    from realtalk_async.ops.otel import export_metrics
    from realtalk_async.ops.otel_logs import export_logs
    from realtalk_async.ops.otel_traces import export_traces
    from realtalk_async.ops.systemd import notify_systemd
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "collector": "Collector",
            "http": "application serve_metrics",
            "otel": "export_metrics",
            "otel_logs": "export_logs",
            "otel_traces": "export_traces",
            "systemd": "notify_systemd",
        },
    )

__all__ = [
    "Collector",
    "application",
    "export_logs",
    "export_metrics",
    "export_traces",
    "notify_systemd",
    "serve_metrics",
]
