"""One supervised child in each kind of host: captured, logged, ended, nothing left."""

import os
import shutil
import subprocess
import sys
import time
import zipapp
from pathlib import Path

import pytest

import realtalk_async
from realtalk_async.operating_system import SYSTEM, ps_command

PACKAGES = str(Path(realtalk_async.__file__).parents[1])

RUN = """
import asyncio, os, sys
from realtalk_async import Command, Logger, ProcessManager

async def main(path):
    async with Logger(path) as logger, ProcessManager(logger) as manager:
        code = "echo 'caf\\u00e9 from the child'; echo $$; exec sleep 1000"
        child = await manager.start("child", Command("sh", "-c", code))
        await child.wait_for_line(r"^\\d+$", timeout=30)
        words = [line.text for line in child.get_stdout()]
        await manager.stop("child")
        entries = await logger.get_logs(component="child")
        assert entries, "no entry in the log"
    with open(path + ".result", "w", encoding="utf-8") as file:
        file.write("\\n".join(words))
"""
START = "asyncio.run(main(sys.argv[1]))\n"
IN_THREAD = """
import threading

def work():
    try:
        asyncio.run(main(sys.argv[1]))
    except BaseException as error:
        errors.append(error)
        raise

errors = []
thread = threading.Thread(target=work)
thread.start()
thread.join()
sys.exit(len(errors))
"""
ON_UVLOOP = "import uvloop\nuvloop.run(main(sys.argv[1]))\n"
EAGER = """
async def eagerly():
    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
    await asyncio.create_task(main(sys.argv[1]))

asyncio.run(eagerly())
"""
CLOSED = "import os\nfor number in range(3):\n    os.close(number)\n"
FEW_DESCRIPTORS = (
    "import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))\n"
)
NO_PIDFD = """
import ctypes, struct

class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]

LOAD, IF_EQUAL, RETURN = 0x20, 0x15, 0x06  # of BPF
steps = [(LOAD, 0, 0, 0), (IF_EQUAL, 0, 1, 434), (RETURN, 0, 0, 0x00050001)]
steps.append((RETURN, 0, 0, 0x7FFF0000))  # 434, pidfd_open: EPERM; all else is allowed
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *one) for one in steps))
program = Program(len(steps), ctypes.cast(code, ctypes.c_void_p).value)
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
assert libc.prctl(22, 2, ctypes.byref(program), 0, 0) == 0  # PR_SET_SECCOMP
import os
try:
    os.pidfd_open(os.getpid())
except PermissionError:
    pass
"""
FROZEN = """
import sys
sys.frozen, sys.executable = True, sys.argv.pop(1)
"""
THEN_KILLED = """
asyncio.run(main(sys.argv[1]))

async def killed(path):
    async with Logger(path) as logger, ProcessManager(logger) as manager:
        child = await manager.start("killed", ["sh", "-c", "sleep 1000 & echo $!; wait"])
        await child.wait_for_line(r"^\\d+$", timeout=30)
        another = await manager.start("another", ["sleep", "1000"])
        pids = [child.pid, int(child.get_stdout()[0].text), another.pid]
        with open(path + ".left", "w") as file:
            file.write(" ".join(map(str, pids)))
        os.kill(os.getpid(), 9)

asyncio.run(killed(sys.argv[1]))
"""
NON_ROOT = "import os\nos.setgroups([])\nos.setgid(65534)\nos.setuid(65534)\n"


def is_root_able_to_make_a_namespace():
    command = ["unshare", "--fork", "--pid", "--mount-proc", "true"]
    return (
        shutil.which("unshare") and not subprocess.run(command, check=False).returncode
    )


def unshare(*what):
    """Return the words before a command that runs it where *what* was done before."""
    steps = " && ".join(what)
    return ["unshare", "--mount", "sh", "-c", f'{steps} && exec "$@"', "sh"]


def is_alive(pid):
    """Return whether a process is more than a zombie."""
    found = SYSTEM.processes.read(pid)
    return found is not None and found.alive


def verify_killed(folder, words, **options):
    """Run a program that is killed with SIGKILL at its end: nothing of it survives."""
    log = folder / "app.log"
    done = subprocess.run(
        [*words, str(log)], capture_output=True, text=True, timeout=60, **options
    )
    assert done.returncode == -9, done.stderr
    assert (folder / "app.log.result").read_text("utf-8").startswith("caf\u00e9")
    pids = [int(one) for one in (folder / "app.log.left").read_text().split()]
    assert len(pids) == 3
    deadline = time.monotonic() + 60
    while (left := [pid for pid in pids if is_alive(pid)]) and (
        time.monotonic() < deadline
    ):
        time.sleep(0.01)
    assert left == []
    return log.read_text("utf-8"), done


def verify(folder, words, **options):
    """Run a program in a host; the child's line is captured and no process is left."""
    log = folder / "app.log"
    done = subprocess.run(
        [*words, str(log)], capture_output=True, text=True, timeout=60, **options
    )
    assert done.returncode == 0, done.stderr
    line, pid = (folder / "app.log.result").read_text("utf-8").splitlines()
    assert line == "caf\u00e9 from the child"
    assert "[child]" in log.read_text("utf-8")
    assert [one for one in command_lines() if str(log) in one] == []
    return int(pid), done


def command_lines():
    """Return the command lines of all processes."""
    if SYSTEM.name != "Linux":
        return map(os.fsdecode, ps_command.run("-A", "-ww", "-o", "pid=,args="))
    every = SYSTEM.processes.read_all()
    return [" ".join(SYSTEM.processes.command(one.pid)) for one in every]


HOSTS = {
    "plain": ("", START, {}),
    "a loop in a thread": ("", IN_THREAD, {}),
    "uvloop": ("", ON_UVLOOP, {}),
    "no HOME": ("", START, {"HOME": None, "XDG_RUNTIME_DIR": None}),
    "LANG=C": ("", START, {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": None}),
    "a TMPDIR that is not there": ("", START, {"TMPDIR": "/nonexistent"}),
    "descriptors 0 to 2 closed": (CLOSED, START, {}),
    "256 descriptors": (FEW_DESCRIPTORS, START, {}),
}


def environment(changes):
    changed = os.environ | {"PYTHONPATH": PACKAGES} | changes
    return {name: value for name, value in changed.items() if value is not None}


@pytest.mark.parametrize("host", HOSTS)
def test_a_child_is_supervised_in(host, tmp_path):
    if host == "uvloop":
        pytest.importorskip("uvloop")
    before, start, changes = HOSTS[host]
    words = [sys.executable, "-c", before + RUN + start]
    pid, _ = verify(tmp_path, words, env=environment(changes))
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with 3.12")
def test_a_child_is_supervised_in_eager_tasks(tmp_path):
    words = [sys.executable, "-c", RUN + EAGER]
    verify(tmp_path, words, env=environment({}))


def test_a_child_is_supervised_by_an_isolated_interpreter(tmp_path):
    path = f"import sys\nsys.path.insert(0, {PACKAGES!r})\n"
    verify(tmp_path, [sys.executable, "-I", "-c", path + RUN + START])


def test_a_child_is_supervised_where_the_temporary_folder_is_read_only(tmp_path):
    folder = tmp_path / "tmp"
    folder.mkdir(mode=0o500)
    words = [sys.executable, "-c", RUN + START]
    verify(tmp_path, words, env=environment({"TMPDIR": str(folder)}))


def can_run_as_another_user():
    if os.geteuid() != 0:
        return False
    words = [sys.executable, "-c", "import asyncio, realtalk_async.supervision, anyio"]
    try:
        done = subprocess.run(
            words,
            check=False,
            capture_output=True,
            user=65534,
            group=65534,
            extra_groups=[],
            cwd="/",
        )
    except OSError:
        return False
    return done.returncode == 0


@pytest.mark.skipif(
    not can_run_as_another_user(), reason="another user may not run this interpreter"
)
def test_a_child_is_supervised_for_a_user_without_rights(tmp_path):
    for folder in [tmp_path, *tmp_path.parents]:
        if folder != Path("/tmp") and folder.is_relative_to("/tmp"):
            folder.chmod(0o755)
    tmp_path.chmod(0o777)
    words = [sys.executable, "-c", FEW_DESCRIPTORS + NON_ROOT + RUN + START]
    verify(tmp_path, words, env=environment({"HOME": None}), cwd="/")


@pytest.mark.skipif(
    not is_root_able_to_make_a_namespace(), reason="no namespace of process ids"
)
def test_a_child_is_supervised_by_pid_1(tmp_path):
    space = ["unshare", "--fork", "--pid", "--mount-proc"]
    words = [*space, sys.executable, "-c", "import os\nassert os.getpid() == 1\n"]
    words[-1] += RUN + START
    verify(tmp_path, words, env=environment({}))


def test_a_child_is_supervised_by_a_zipapp(tmp_path):
    source = tmp_path / "source"
    shutil.copytree(
        Path(realtalk_async.__file__).parent,
        source / "realtalk_async",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    (source / "__main__.py").write_text(RUN + THEN_KILLED)
    zipapp.create_archive(source, tmp_path / "app.pyz")
    shutil.rmtree(source)
    words = [sys.executable, "-P", str(tmp_path / "app.pyz")]
    bare = environment({"PYTHONPATH": None})
    log, _ = verify_killed(tmp_path, words, env=bare, cwd=tmp_path)
    assert "guard" not in log


@pytest.mark.skipif(
    not is_root_able_to_make_a_namespace(), reason="no namespace of mounts"
)
def test_a_child_is_supervised_without_proc_and_shared_memory(tmp_path):
    """Neither is there; the log says what that means."""
    space = unshare("mount -t tmpfs none /proc", "mount -t tmpfs -o ro none /dev/shm")
    program = RUN.replace("Logger(path)", "Logger(path, spool=True)") + THEN_KILLED
    words = [*space, sys.executable, "-c", program]
    log, _ = verify_killed(tmp_path, words, env=environment({}))
    assert "[WARNING] [manager] there is neither /proc nor a ps" in log
    assert "no spool, so that SIGKILL may lose lines" in log


def test_a_child_is_supervised_where_pidfd_open_is_denied(tmp_path):
    words = [sys.executable, "-c", NO_PIDFD + RUN + THEN_KILLED]
    verify_killed(tmp_path, words, env=environment({}))


@pytest.mark.parametrize("name", ["app", "python3"])
def test_the_guard_never_starts_a_frozen_app_again(name, tmp_path):
    app = tmp_path / name
    app.write_text(f"#!/bin/sh\necho again >>{tmp_path}/again\n")
    app.chmod(0o755)
    words = [sys.executable, "-c", FROZEN + RUN + THEN_KILLED, str(app)]
    log, _ = verify_killed(tmp_path, words, env=environment({}))
    assert not (tmp_path / "again").exists()
    assert "guard" not in log
