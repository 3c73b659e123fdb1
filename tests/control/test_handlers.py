import asyncio
import os
import time

import anyio
import anyio.to_thread
import pytest

from realtalk_async import Command, RestartPolicy
from realtalk_async.control import (
    ControlClient,
    ControlUnavailable,
    Request,
    handlers,
)
from realtalk_async.control.handlers import Differ
from realtalk_async.testing import programs

TIMEOUT = 120


async def send(path, method, **fields):
    """Send a request from a thread, as another process would."""
    request = Request(method, **fields)
    with anyio.fail_after(TIMEOUT):
        return await anyio.to_thread.run_sync(
            lambda: list(ControlClient(path).send(request))
        )


async def test_ps_gives_the_app_and_every_process(manager, socket_path):
    await manager.start("app", programs.runs())
    (found,) = await send(socket_path, "ps")
    assert found["pid"] == os.getpid()
    assert found["status"] == "running"
    assert found["log"] == str(manager.logger.path)
    (app,) = found["processes"]
    assert (app["name"], app["state"]) == ("app", "running")
    assert app["pid"] == manager.processes["app"].pid
    assert app["containment"] == "group"
    assert found["containment"] == manager.containment.to_dict()


async def test_tail_gives_the_newest_lines_of_both_streams(manager, socket_path):
    # Each line is answered before the next: two pipes have no order of their own.
    script = "for n in 1 2 3; do echo o$n; read _; echo e$n >&2; read _; done"
    app = await manager.start("app", programs.shell(script, stdin=True))
    for number in "123":
        for stream in "oe":
            await app.wait_for_line(f"^{stream}{number}$")
            await app.send(b"\n")
    await app.wait()
    lines = await send(socket_path, "tail", name="app", n=3)
    assert [one["text"] for one in lines][-1] == "e3"
    assert len(lines) == 3
    assert await send(socket_path, "tail", name="app", n=0) == []
    assert len(await send(socket_path, "tail", name="app")) == 6


async def test_tail_follows_until_the_end_without_a_gap(manager, socket_path):
    command = programs.python(
        "import time\n"
        "for n in range(200): print(n); time.sleep(0.001)\n"
        "print('end', end='')"
    )
    await manager.start("app", command)
    lines = await send(socket_path, "tail", name="app", n=1000, follow=True)
    assert [one["text"] for one in lines] == [*map(str, range(200)), "end"]


async def test_the_task_of_a_disconnected_follower_ends(manager, socket_path):
    def connections():
        names = [repr(task.get_coro()) for task in asyncio.all_tasks()]
        return [name for name in names if "Connections._serve" in name]

    await manager.start("app", programs.runs())
    with anyio.fail_after(TIMEOUT):
        async with await anyio.connect_unix(socket_path) as stream:
            await stream.send(b'{"method": "tail", "name": "app", "follow": true}\n')
            await stream.receive()
            assert len(connections()) == 1
        while connections():
            await anyio.sleep(0.01)


async def test_logs_are_filtered_and_followed(manager, socket_path):
    manager.logger.info("a", "one")
    manager.logger.error("b", "two")
    (entry,) = await send(socket_path, "logs", component="b")
    assert (entry["level"], entry["message"]) == ("ERROR", "two")
    assert "[ERROR] [b] two" in entry["line"]
    with anyio.fail_after(TIMEOUT):
        async with await anyio.connect_unix(socket_path) as stream:
            await stream.send(b'{"method": "logs", "level": "ERROR", "follow": true}\n')
            assert b"two" in await stream.receive()
            manager.logger.info("c", "three")
            manager.logger.error("d", "four")
            assert b"four" in await stream.receive()


async def test_explain_gives_the_last_failure_after_a_restart(manager, socket_path):
    command = programs.shell(
        "[ -e again ] && exec sleep 1000; touch again; echo device busy >&2; exit 3",
        cwd=str(socket_path.parent),
    )
    app = await manager.start("app", command, restart=RestartPolicy(first_delay=0))
    with anyio.fail_after(TIMEOUT):
        while app.incarnation < 2:
            await anyio.sleep(0.01)
    (found,) = await send(socket_path, "explain", name="app")
    assert found["report"]["exit_status"] == 3
    assert found["report"]["sign"]["kind"] == "device busy"
    assert found["status"]["state"] == "running"
    assert [one["succeeded"] for one in found["attempts"]] == [True]
    assert "device busy" in found["text"]
    assert "restarted by policy: pid" in found["text"]


async def test_explain_says_that_nothing_has_failed(manager, socket_path):
    await manager.start("app", programs.runs())
    (found,) = await send(socket_path, "explain", name="app")
    assert "nothing has failed so far" in found["text"]


async def test_coroutines_are_listed_but_have_no_output_and_no_restart(
    manager, socket_path
):

    async def fail():
        raise ValueError("no wind")

    async def wait():
        await anyio.sleep_forever()

    await manager.start_task("sail", fail, restart=RestartPolicy("temporary"))
    await manager.start_task("wait", wait)
    with anyio.fail_after(TIMEOUT):
        while manager.tasks["sail"].get_status().status == "running":
            await anyio.sleep(0.01)
    (found,) = await send(socket_path, "explain", name="sail")
    assert "ValueError: no wind" in found["text"]
    assert len(await send(socket_path, "history")) == 2
    (found,) = await send(socket_path, "ps")
    assert [one["name"] for one in found["processes"]] == ["sail", "wait"]
    for kind in ("tail", "restart"):
        with pytest.raises(ControlUnavailable, match="is a coroutine"):
            await send(socket_path, kind, name="wait")
    (status,) = await send(socket_path, "stop", name="wait")
    assert status["status"] == "dead"


async def test_history_gives_every_incarnation(manager, socket_path):
    await (await manager.start("a", programs.prints("hello"))).wait()
    await (await manager.start("b", programs.exits(0))).wait()
    a, b = await send(socket_path, "history")
    assert a["incarnations"][0]["stdout"] == []
    assert b["incarnations"][0]["exit_status"] == 0
    (a,) = await send(socket_path, "history", name="a", n=5)
    assert a["incarnations"][0]["stdout"][0]["text"] == "hello"


async def test_restart_of_a_running_process_counts_as_no_failure(manager, socket_path):
    app = await manager.start("app", programs.runs())
    await app.wait_for_line("ready")
    before = app.pid
    (status,) = await send(socket_path, "restart", name="app")
    assert status["state"] == "running"
    assert status["pid"] == app.pid != before
    assert app.get_history().failures == []


async def test_a_temporary_process_is_restarted_on_request(manager, socket_path):
    policy = RestartPolicy("temporary")
    app = await manager.start("app", programs.runs(), restart=policy)
    before = app.pid
    (status,) = await send(socket_path, "restart", name="app")
    assert status["pid"] != before
    assert app.incarnation == 2


async def test_a_stopped_process_is_restarted(manager, socket_path):
    app = await manager.start("app", programs.runs())
    (stopped,) = await send(socket_path, "stop", name="app")
    assert stopped["state"] == "exited"
    (status,) = await send(socket_path, "restart", name="app")
    assert status["state"] == "running"
    assert app.status == "running"


async def test_a_failed_restart_gives_its_reason(manager, socket_path, tmp_path):
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\nexec sleep 1000\n")
    program.chmod(0o755)

    policy = RestartPolicy(max_failures=0)
    await manager.start("app", Command(program), restart=policy)
    program.unlink()
    with pytest.raises(ControlUnavailable, match="No such file"):
        await send(socket_path, "restart", name="app")


def test_an_item_has_only_the_changed_fields():
    differ = Differ()
    one, two = {"state": "running", "bytes": 0}, {"state": "running", "bytes": 5}
    assert differ.compare({"a": one, "b": one}) == {
        "changed": {"a": one, "b": one},
        "gone": [],
    }
    assert differ.compare({"a": two, "b": one}) == {
        "changed": {"a": {"bytes": 5}},
        "gone": [],
    }
    assert differ.compare({"b": one}) == {"changed": {}, "gone": ["a"]}


async def test_a_watch_gives_the_app_and_then_its_changes(manager, socket_path):
    for number in range(5):
        await manager.start(f"idle-{number}", Command("sleep", "60"))
    items = ControlClient(socket_path).send_async(Request("watch", period=0.1))
    with anyio.fail_after(TIMEOUT):
        first = await anext(items)
        assert set(first["changed"]) == {f"idle-{number}" for number in range(5)}
        assert first["pid"] == os.getpid()
        assert (await anext(items))["changed"] == {}
        await manager.stop("idle-3")
        while not (changed := (await anext(items))["changed"]):
            pass
    assert set(changed) == {"idle-3"}
    await items.aclose()


async def test_a_watch_has_the_details_of_the_app_where_there_is_no_output(
    manager, socket_path
):
    async def wait():
        await anyio.sleep_forever()

    await manager.start("quiet", Command("sleep", "60"))
    await manager.start_task("task", wait)
    for name in ("quiet", "task"):
        manager.set_details(name, lambda: ["level: -20 dBFS", "too loud"])
    items = ControlClient(socket_path).send_async(Request("watch", period=0.1))
    with anyio.fail_after(TIMEOUT):
        rows = (await anext(items))["changed"]
    await items.aclose()
    assert {name: row["last"] for name, row in rows.items()} == {
        "quiet": "level: -20 dBFS",
        "task": "level: -20 dBFS",
    }


async def test_lines_are_cut_at_the_requested_width(manager, socket_path):
    wide = Command("sh", "-c", "printf '%0100000d\\n' 7; exec sleep 60")
    process = await manager.start("wide", wide)
    await process.wait_for_line("7$")
    request = Request("tail", name="wide", width=30)
    lines = [one async for one in ControlClient(socket_path).send_async(request)]
    assert [len(one["text"]) for one in lines] == [30]


async def test_a_watch_tells_uptimes_without_the_wall_clock(
    manager, socket_path, monkeypatch
):
    """A step of the clock is no change of the uptime."""
    await manager.start("sleeper", Command("sleep", "1000"))
    statuses = manager.get_statuses()
    before = handlers._lasting_fields(statuses["sleeper"])["began"]
    real = time.time
    monkeypatch.setattr("time.time", lambda: real() + 8 * 3600)
    now = handlers._lasting_fields(manager.get_statuses()["sleeper"])["began"]
    assert abs(now - before) < handlers.MEASURED
    differ = Differ()
    differ.compare({"a": {"began": before}})
    assert differ.compare({"a": {"began": now}}) == {"changed": {}, "gone": []}
    assert differ.compare({"a": {"began": now + 1}})["changed"] == {
        "a": {"began": now + 1}
    }
    assert abs(time.monotonic() - now) < 60.0
