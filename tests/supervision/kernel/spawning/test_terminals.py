"""`Command(…, tty=True)`: a terminal of its own, which is its controlling one."""

import contextlib
import errno
import os

import pytest

from realtalk_async.exceptions import InvalidConfiguration, ProcessDead, SpawnFailed
from realtalk_async.supervision import TEMPORARY, Command, Limits

STATE = """
tty >&2; stty size; ps -o tpgid=,sess= -p $$; echo controlling >/dev/tty
for n in 0 1 2; do test -t $n && echo terminal $n; done
"""


def on_terminal(line, **options):
    return Command.shell(line, tty=True, **options)


def terminals():
    """Return the descriptors of terminals that this process has open."""
    found = []
    for number in map(int, os.listdir("/proc/self/fd")):
        with contextlib.suppress(OSError):
            path = os.readlink(f"/proc/self/fd/{number}")
            found += [number] if path.startswith(("/dev/pt", "/dev/tty")) else []
    return found


async def start(manager, command):
    return await manager.start("one", command, restart=TEMPORARY)


@pytest.mark.parametrize("limits", [None, Limits(open_files=64)])
async def test_a_program_leads_the_session_of_a_terminal_of_its_own(manager, limits):
    one = await start(manager, on_terminal(STATE, limits=limits))
    await one.wait()
    name, size, group, *rest = [line.raw.decode() for line in one.get_stdout()]
    assert name.startswith("/dev/pts/")
    assert size == "24 80\n"  # the size of the app's own stdout, which is a file
    assert group.split() == [str(one.pid)] * 2
    assert rest == [
        "controlling\n", "terminal 0\n", "terminal 1\n", "terminal 2\n",
    ]  # fmt: skip
    assert len(one.get_stderr()) == 0
    assert one.get_history().incarnations[-1].capture == "end of file"


async def test_what_is_sent_is_typed_until_the_end_of_file(manager):
    line = "stty -echo; echo ready; read x; echo got $x; cat; echo end"
    one = await start(manager, on_terminal(line, stdin=True))
    await one.wait_for_line("ready")
    await one.send(b"text\n")
    await one.wait_for_line("got text")
    one.close_stdin()
    await one.wait_for_line("end")
    await one.wait()
    with pytest.raises(ProcessDead):
        await one.send(b"more")


async def test_without_a_stdin_the_terminal_stays_open(manager):
    one = await start(manager, on_terminal("timeout 0.2 cat; echo code $?"))
    assert await one.wait_for_line("code 124")


async def test_a_terminal_is_resized(manager):
    line = "trap 'stty size; exit' WINCH; echo ready; while sleep 0.02; do :; done"
    one = await start(manager, on_terminal(line))
    await one.wait_for_line("ready")
    with pytest.raises(InvalidConfiguration, match="rows"):
        one.resize(80, 0)
    assert one.resize(132, 50)
    assert await one.wait_for_line("^50 132")
    await one.wait()
    assert not one.resize(80, 24)


async def test_a_program_without_a_terminal_is_not_resized(manager):
    one = await start(manager, Command("sleep", "1000", stdin=True))
    assert not one.resize(80, 24)


async def test_a_refused_start_leaves_no_terminal(manager, monkeypatch):
    before = terminals()
    missing = Command("/nowhere/program", tty=True, stdin=True)
    with pytest.raises(SpawnFailed, match="no such file"):
        await start(manager, missing)

    def refuse():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "openpty", refuse)
        with pytest.raises(SpawnFailed, match="no terminal is left"):
            await start(manager, on_terminal("true"))
    assert terminals() == before


async def test_the_end_closes_every_descriptor(manager):
    before = terminals()
    one = await start(manager, on_terminal("sleep 1000 & exit 0", stdin=True))
    await one.wait()  # the orphan has the terminal open until it is ended
    assert terminals() == before


@pytest.mark.parametrize(
    "options",
    [
        {"stdout": "binary"},
        {"redirect": {"stderr": None}},
        {"stdin": "other.stdout"},
        {"options": {"process_group": 0}},
        {"options": {"start_new_session": False}},
        {"options": {"executable": "/bin/true"}},
        {"tty": 1},
    ],
)
def test_what_a_terminal_excludes_is_refused(options):
    with pytest.raises(InvalidConfiguration, match="tty"):
        Command("true", **{"tty": True, **options})


async def test_a_terminal_needs_a_manager():
    with pytest.raises(InvalidConfiguration, match="needs a ProcessManager"):
        await Command("true", tty=True)()
    assert Command("true", tty=True) != Command("true")
    assert Command("true", tty=True).replace("x").tty
