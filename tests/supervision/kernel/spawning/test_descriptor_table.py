"""Space for descriptors before it is needed."""

import subprocess
import sys

import pytest

PROGRAM = """
import asyncio, resource, sys
from realtalk_async import Logger, ProcessManager

async def main():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
    async with Logger(sys.argv[1]) as logger, ProcessManager(logger):
        with open("/proc/self/status") as status:
            print(*[line for line in status if line.startswith("FDSize")])

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the table is Linux's")
def test_a_manager_has_space_for_descriptors_before_its_first_child(tmp_path):
    """Otherwise a start would wait for the kernel for 10 ms, several times."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "app.log")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["FDSize:", "1024"]
