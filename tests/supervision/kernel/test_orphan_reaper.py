"""An app that adopts orphans, as PID 1 or subreaper, reaps them and nothing else."""

import ctypes
import os
import shutil
import signal
import subprocess
import sys

import pytest

from realtalk_async.operating_system import SYSTEM
from realtalk_async.supervision.kernel import orphan_reaper

pytestmark = pytest.mark.timeout(60)

SUBREAPER = """
import asyncio, ctypes, os, subprocess, sys
from realtalk_async import Logger, ProcessManager
from realtalk_async.supervision.kernel import orphan_reaper
from realtalk_async.testing import programs

ORPHANS = '''
for i in $(seq 50); do (sleep 0.01 & sleep 0.01 | sleep 0.02 &); done
set -m
(sleep 0.01 &)
setsid sh -c "(sleep 0.01 &); sleep 0.02 & exit"
echo ready
exec sleep 1000
'''

def children():
    file = f"/proc/self/task/{os.getpid()}/children"
    return set(map(int, open(file).read().split()))

async def main():
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
    orphan_reaper.INTERVAL = 0.01
    own = [
        subprocess.Popen(["sh", "-c", "exit 3"], start_new_session=session)
        for session in (False, True)
    ]
    forked = os.fork()
    if not forked:
        os.setsid()
        os._exit(4)
    async with ProcessManager(Logger(sys.argv[1])) as manager:
        child = await manager.start("child", programs.shell(ORPHANS))
        await child.wait_for_line("ready")
        guard = manager._guard.pid
        os.kill(guard, 9)  # its parent is this process
        while manager._guard.pid in {None, guard}:
            await asyncio.sleep(0.01)
        known = {child.pid, manager._guard.pid, forked, *(one.pid for one in own)}
        while children() - known:
            await asyncio.sleep(0.01)
        assert children() == known
        print([one.wait() for one in own], os.waitpid(forked, 0)[1] >> 8, end=" ")
    print(child.exit_status)

asyncio.run(main())
"""


def test_a_subreaper_reaps_orphans_and_no_child_that_the_app_started(log_path):
    """A killed guard too; the statuses of all others stay right."""
    script = [sys.executable, "-c", SUBREAPER, log_path]
    done = subprocess.run(script, capture_output=True, text=True, timeout=50)
    assert (done.stdout, done.stderr) == (f"[3, 3] 4 {-signal.SIGTERM}\n", "")


def may_unshare():
    command = ["unshare", "--fork", "--pid", "--mount-proc", "true"]
    return (
        bool(shutil.which("unshare"))
        and not subprocess.run(command, capture_output=True).returncode
    )


ORPHANS = {
    "of a shell": "for i in $(seq 100); do (sleep 0.1 &); done",
    "in groups of their own": "set -m; for i in $(seq 50); do (sleep 0.1 &); done",
    "in sessions of their own": "for i in $(seq 20); do (setsid sleep 0.1 &); done",
}


@pytest.mark.skipif(not may_unshare(), reason="needs the right to make a PID namespace")
@pytest.mark.parametrize("orphans", ORPHANS.values(), ids=ORPHANS)
def test_run_as_pid_1_reaps_orphans_and_ends_with_its_command(orphans, tmp_path):
    """As in a container without an init."""
    script = f"{orphans}; sleep 2.5; ps -eo stat= | grep -c Z || true"
    run = [shutil.which("realtalk-async") or _beside_python(), "run", "--", "sh", "-c"]
    unshare = ["unshare", "--kill-child", "--fork", "--pid", "--mount-proc"]
    done = subprocess.run(
        [*unshare, *run, script],
        capture_output=True,
        text=True,
        timeout=30,
        cwd=tmp_path,
    )
    assert (done.stdout, done.returncode) == ("0\n", 0)


def _beside_python():
    return os.path.join(os.path.dirname(sys.executable), "realtalk-async")


def test_a_usual_app_adopts_no_orphans():
    """And a subreaper does."""
    libc = ctypes.CDLL(None)
    assert not SYSTEM.adopts_orphans()
    libc.prctl(36, 1, 0, 0, 0)
    try:
        assert SYSTEM.adopts_orphans()
    finally:
        libc.prctl(36, 0, 0, 0, 0)
    orphan_reaper.reap_zombies({os.getsid(0)})
