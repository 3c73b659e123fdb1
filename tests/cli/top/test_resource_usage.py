import asyncio
import os

import anyio

from realtalk_async.cli.top.resource_usage import read_usage

TIMEOUT = 120


async def test_the_usage_of_a_session_includes_all_its_processes():
    two = ["sh", "-c", "sleep 60 & sleep 60 & wait"]
    child = await asyncio.create_subprocess_exec(*two, start_new_session=True)
    try:
        with anyio.fail_after(TIMEOUT):
            while (found := read_usage().get(child.pid)) is None or found.memory < 1000:
                await asyncio.sleep(0.01)
        assert found.cpu >= 0
    finally:
        os.killpg(child.pid, 9)
        await child.wait()
