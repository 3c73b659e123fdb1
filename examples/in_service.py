"""An app in service: metrics, health, systemd's watchdog; SIGTERM ends it in good order."""

import asyncio
import os
import signal

from realtalk_async import PERMANENT, Command, Logger, Probe, ProcessManager
from realtalk_async.ops import notify_systemd, serve_metrics

HOST = os.environ.get("METRICS_HOST", "127.0.0.1")  # in a pod: 0.0.0.0
PORT = int(os.environ.get("METRICS_PORT", "9464"))


async def main() -> None:
    """Run a clock until SIGTERM; whoever watches us learns how it is."""
    end = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end.set)
    async with Logger() as logger:
        manager = ProcessManager(logger)
        # Entered around the manager, it also tells how everything is stopped.
        async with serve_metrics(manager, host=HOST, port=PORT) as endpoint, manager:
            await manager.start(
                "clock",
                Command("sh", "-c", "while date; do sleep 1; done"),
                restart=PERMANENT,
                critical=True,  # given up: the app fails, and systemd starts it again
                probes=[Probe.silence(5.0)],
            )
            async with notify_systemd(manager):
                print(f"metrics and health at {endpoint.url}", flush=True)
                await end.wait()


if __name__ == "__main__":
    asyncio.run(main())
