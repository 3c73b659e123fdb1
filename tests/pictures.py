"""Draw the README's pictures, a timeline and the live view: ``nox -s pictures``."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
from pathlib import Path

from realtalk_async import Command, Logger, ProcessManager, RestartPolicy
from realtalk_async.cli.top.app import LiveView
from realtalk_async.control import ControlClient, serve_control

ROOT = Path(__file__).parent.parent
TIMELINE = ROOT / ".github" / "timeline.svg"
LIVE_VIEW = ROOT / ".github" / "top.svg"
SIZE = (112, 28)
BUSY = "arecord: main:850: audio open error: Device or resource busy"
CHILDREN = {
    "peer": "echo 'peer ready on ws://127.0.0.1:8765/v1/realtime'; exec sleep 600",
    "player": "while sleep 0.2; do echo 'frame: level -23.4 dB, 0 underruns'; done",
    "transcoder": "while sleep 0.1; do echo 'size= 812kB time=00:00:41.60'; done",
    "metrics": "sleep 1; while sleep 1; do echo 'GET /metrics 200'; done",
}
POLICY = RestartPolicy("transient", max_failures=2, first_delay=0.3)


def draw_timeline() -> None:
    """Run the example of a rough conversation, and draw the timeline that it saves."""
    with tempfile.TemporaryDirectory() as folder:
        example = ROOT / "examples" / "rough_ride.py"
        subprocess.run([sys.executable, example], cwd=folder, check=True)
        draw = [sys.executable, "-m", "realtalk_async.cli", "timeline", "ride.jsonl"]
        subprocess.run([*draw, "--out", str(TIMELINE)], cwd=folder, check=True)


async def draw_live_view() -> None:
    """Run an app whose recorder finds its device busy; save the live view of it."""
    async with (
        Logger() as logger,
        ProcessManager(logger) as manager,
        serve_control(manager) as socket,
    ):
        for name, line in CHILDREN.items():
            await manager.start(name, Command("sh", "-c", line))
        fails = Command("sh", "-c", f"sleep 0.7; echo '{BUSY}' >&2; exit 1")
        await manager.start("recorder", fails, restart=POLICY)
        await asyncio.sleep(6)
        app = LiveView(ControlClient(socket))
        async with app.run_test(size=SIZE) as pilot:
            await asyncio.sleep(2.5)
            await pilot.press("end", "4")
            while manager.processes["recorder"].state != "fatal":
                await asyncio.sleep(0.05)
            await asyncio.sleep(2)
            LIVE_VIEW.write_text(app.export_screenshot())
    logger.path.unlink()


if __name__ == "__main__":
    sys.argv = ["app.py"]  # the app name that the view shows
    draw_timeline()
    asyncio.run(draw_live_view())
