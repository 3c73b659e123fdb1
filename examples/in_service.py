"""Run an app as a service: metrics, health, systemd's watchdog, ordered end at SIGTERM."""

import asyncio
import os
import signal

from realtalk_async import PERMANENT, Command, Logger, Probe, ProcessManager
from realtalk_async.ops import notify_systemd, serve_metrics

HOST = os.environ.get("METRICS_HOST", "127.0.0.1")  # in a pod: 0.0.0.0
PORT = int(os.environ.get("METRICS_PORT", "9464"))


async def main() -> None:
    """Run a clock until SIGTERM and report its state to systemd and Prometheus."""
    end = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end.set)
    async with Logger() as logger:
        manager = ProcessManager(logger)
        # Entered before the manager, the endpoint also reports the shutdown.
        async with serve_metrics(manager, host=HOST, port=PORT) as endpoint, manager:
            await manager.start(
                "clock",
                Command("sh", "-c", "while date; do sleep 1; done"),
                restart=PERMANENT,
                critical=True,  # if it is lost, the app fails and systemd restarts it
                probes=[Probe.silence(5.0)],
            )
            async with notify_systemd(manager):
                print(f"metrics and health at {endpoint.url}", flush=True)
                await end.wait()


if __name__ == "__main__":
    asyncio.run(main())
