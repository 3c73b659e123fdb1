"""A child in FastAPI's lifespan; if it is lost, the server ends: `uvicorn NAME:app`."""

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from realtalk_async import Command, CriticalProcessFailed, Logger, ProcessManager

WORKER = os.environ.get("WORKER", "while date; do sleep 1; done")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Run the worker while the server runs; the log also has uvicorn's lines."""
    # Each of several server processes has a worker of its own: its name tells which.
    name = f"worker-{os.getpid()}"
    try:
        async with Logger("app.log") as logger, ProcessManager(logger) as manager:
            with logger.install():
                app.state.worker = await manager.start(
                    name, Command.shell(WORKER), critical=True
                )
                yield
    except* CriticalProcessFailed as lost:
        print(*lost.exceptions, sep="\n", flush=True)
        # Without this, the server would go on without its worker and end with 0.
        os.kill(os.getpid(), signal.SIGTERM)


app = FastAPI(lifespan=lifespan)


@app.get("/")
async def last_line() -> dict[str, str]:
    """Return the last line of the worker."""
    return {"last line": app.state.worker.last_line("stdout")}
