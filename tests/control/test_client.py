import contextlib
import os
import signal
import sys
import time
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from realtalk_async import Command
from realtalk_async.control import (
    AppDoesNotAnswer,
    ControlClient,
    ControlUnavailable,
    Request,
    find_app,
    find_apps,
)
from realtalk_async.control.sockets import connect_nowait, is_suspended
from realtalk_async.supervision import Ladder
from realtalk_async.testing import programs

TIMEOUT = 120


async def test_apps_are_found_and_asked_by_methods(manager, socket_path):
    await manager.start("one", programs.prints("hello"))
    manager.logger.warning("one", "look at this")

    def use():
        (app,) = find_apps()
        assert app.path == find_app("one").path == socket_path
        assert app.path == find_app(app=str(os.getpid())).path
        assert app.get_status()["processes"][0]["name"] == "one"
        assert "look at this" in [one["message"] for one in app.get_logs()]
        assert [one["text"] for one in app.tail("one", follow=True)] == ["hello"]
        (history,) = app.get_history("one")
        assert history["status"]["name"] == "one"
        assert "one" in app.explain("one")["text"]
        assert app.restart("one")["incarnation"] == 2
        assert app.stop("one")["status"] == "dead"

    with anyio.fail_after(TIMEOUT):
        await anyio.to_thread.run_sync(use)


async def test_a_request_can_be_sent_from_an_event_loop(manager, socket_path):
    await manager.start("one", programs.prints("hello"))
    client = ControlClient(socket_path)
    with anyio.fail_after(TIMEOUT):
        tail = client.send_async(Request("tail", name="one", follow=True))
        assert [one["text"] async for one in tail] == ["hello"]
        with pytest.raises(ControlUnavailable, match="no process named 'two'"):
            await anext(client.send_async(Request("tail", name="two")))


async def test_an_app_that_does_not_run_is_unavailable(tmp_path):
    client = ControlClient(tmp_path / "nothing.sock")
    with pytest.raises(ControlUnavailable, match=r"nothing\.sock"):
        client.get_status()
    with pytest.raises(ControlUnavailable, match=r"nothing\.sock"):
        await anext(client.send_async(Request("ps")))
    assert find_apps() == []
    with pytest.raises(ControlUnavailable, match="no running app was found"):
        find_app()
    with pytest.raises(ControlUnavailable, match="has the pid 1"):
        find_apps("1")


HUNG_APP = """
import os, signal, socket, sys
listener = socket.socket(socket.AF_UNIX)
path = os.path.join(sys.argv[1], f"{os.getpid()}.sock")
listener.bind(path)
listener.listen(int(sys.argv[2]))
print(path, flush=True)
os.kill(os.getpid(), signal.SIGSTOP)
"""


@pytest.fixture(params=[100, 0], ids=["it takes connections", "its queue is full"])
async def hung_app(manager, socket_path, request):
    """The socket of a suspended app beside that of the manager."""
    folder = str(socket_path.parent)
    app = await manager.start(
        "hung", Command(sys.executable, "-c", HUNG_APP, folder, str(request.param))
    )
    path = Path((await app.wait_for_line(r"\.sock")).text)
    with anyio.fail_after(TIMEOUT):
        while not is_suspended(app.pid):
            await anyio.sleep(0.01)
    waiting = []
    with contextlib.suppress(BlockingIOError):
        while request.param == 0:
            waiting.append(connect_nowait(path))
    yield path
    for one in waiting:
        one.close()


REQUESTS = [
    Request("ps"),
    Request("watch"),
    Request("tail", name="one", follow=True),
    Request("logs", follow=True),
    Request("history"),
    Request("explain", name="one"),
    Request("restart", name="one"),
    Request("stop", name="one"),
]


async def test_every_request_to_a_hung_app_has_a_bound(hung_app):
    client = ControlClient(hung_app)

    def ask(request):
        with pytest.raises(AppDoesNotAnswer, match=r"pid \d+ does not .*suspended"):
            list(client.send(request))

    async def ask_async(request):
        with pytest.raises(AppDoesNotAnswer):
            await anext(client.send_async(request))

    began = time.monotonic()
    async with anyio.create_task_group() as tasks:
        for one in REQUESTS:
            tasks.start_soon(anyio.to_thread.run_sync, ask, one)
            tasks.start_soon(ask_async, one)
    assert time.monotonic() - began < 10


async def test_a_hung_app_hides_no_other(hung_app, manager, socket_path):
    await manager.start("one", programs.prints("hello"))

    def use():
        assert find_app("one").path == socket_path
        assert find_app().path == socket_path
        with pytest.raises(ControlUnavailable, match="does not answer"):
            find_app("two")
        with pytest.raises(AppDoesNotAnswer):
            find_app(app=str(hung_app))

    await anyio.to_thread.run_sync(use)


async def test_a_slow_response_of_a_living_app_is_waited_for(manager, socket_path):
    slow = Command("sh", "-c", "trap 'sleep 2.5; exit' TERM; echo up; sleep 9 & wait")
    process = await manager.start("slow", slow, ladder=Ladder((signal.SIGTERM, 60)))
    await process.wait_for_line("up")
    status = await anyio.to_thread.run_sync(ControlClient(socket_path).stop, "slow")
    assert status["status"] == "dead"
