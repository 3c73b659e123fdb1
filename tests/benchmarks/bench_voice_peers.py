"""
Compare with other voice clients: ``python tests/benchmarks/bench_voice_peers.py [NAME …]``.

Benchmarks:
    voice import   ms and ms of CPU to import everything that a connection needs, in a new
                   interpreter; ``websockets`` is the lower bound, the bare websocket
                   client; ``ours, first line`` is ``import realtalk_async`` alone, which
                   loads the modules of a name when the name is first used
    voice deltas   ms of CPU for 1,000 received audio deltas of 100 ms, until they are
                   ready to be played

``openai-agents`` is left out if it is not installed.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import tempfile
import time
from functools import partial

from measure import Benchmark, Goal, main

PIECES = 1_000
PIECE = bytes(4_800)


IMPORT = """
import importlib, json, sys, time
began, spent = time.perf_counter(), time.process_time()
for module in sys.argv[1:]:
    importlib.import_module(module)
took, spent = time.perf_counter() - began, time.process_time() - spent
print(json.dumps({"ms": took * 1000, "CPU ms": spent * 1000}))
"""


def imports(*modules):
    """Return a subject that measures the import of modules that are compiled already."""

    def measure():
        command = [sys.executable, "-c", IMPORT, *modules]
        with tempfile.TemporaryDirectory() as compiled:
            environment = {**os.environ, "PYTHONPYCACHEPREFIX": compiled}
            environment.pop("PYTHONDONTWRITEBYTECODE", None)
            run = partial(subprocess.check_output, command, env=environment)
            run()
            return json.loads(run())

    return measure


def messages():
    """Yield the audio deltas of a response as the service sends them."""
    delta = base64.b64encode(PIECE).decode()
    ids = {"response_id": "resp_1", "item_id": "item_1", "output_index": 0}
    for number in range(PIECES):
        event = {"type": "response.output_audio.delta", "event_id": f"event_{number}"}
        yield json.dumps({**event, **ids, "content_index": 0, "delta": delta}).encode()


def timed(receive):
    """Return the CPU time that *receive* takes for all deltas."""
    pieces = list(messages())
    receive(pieces[0])
    began = time.process_time()
    for piece in pieces:
        receive(piece)
    return {"CPU ms": (time.process_time() - began) * 1000}


def ours():
    import asyncio

    from realtalk_async.logs import Logger
    from realtalk_async.voice.connection import Connection
    from realtalk_async.voice.dialing.summarizer import Summarizer
    from realtalk_async.voice.event_bus import SessionEventBus
    from realtalk_async.voice.protocol.history.limits import DEFAULT_LIMITS
    from realtalk_async.voice.protocol.requests.session_config import SessionConfig
    from realtalk_async.voice.protocol.session import Session

    async def work():
        session = Session(SessionConfig())
        logger = Logger()
        connection = Connection(
            session, SessionEventBus(logger), Summarizer(DEFAULT_LIMITS, logger)
        )
        session.connected(time.monotonic(), time.time())

        def receive(raw):
            session.receive_data(raw, time.monotonic())
            connection.update()

        figures = timed(receive)
        assert session.playback.queued == (PIECES + 1) * len(PIECE)
        connection.end("measured")
        return figures

    return asyncio.run(work())


def sdk():
    from openai.resources.realtime.realtime import AsyncRealtimeConnection

    connection = AsyncRealtimeConnection(None)
    return timed(lambda raw: base64.b64decode(connection.parse_event(raw).delta))


BENCHMARKS = (
    Benchmark(
        "voice import",
        {
            "ours": imports(
                "realtalk_async.voice.stream",
                "realtalk_async.voice.connection",
                "realtalk_async.voice.websocket",
            ),
            "ours, first line": imports("realtalk_async"),
            "openai": imports("openai", "openai.resources.realtime.realtime"),
            "openai-agents": imports("agents.realtime"),
            "websockets": imports("asyncio", "orjson", "websockets.asyncio.client"),
        },
        (Goal("CPU ms", at_most=150), Goal("ms", at_most=0.2, of="openai")),
        rounds=5,
    ),
    Benchmark("voice deltas", {"ours": ours, "openai": sdk}),
)

if __name__ == "__main__":
    main(__doc__, BENCHMARKS)
