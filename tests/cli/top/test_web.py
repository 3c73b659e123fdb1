"""The live view in a browser: over its websocket, and in a real Chromium if there is one."""

import contextlib
import http.client
import os
import shutil
import socket
import subprocess
import sys
import time

import pytest
from websockets.sync.client import connect

TIMEOUT = 120
CLI = [sys.executable, "-m", "realtalk_async.cli"]
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")

pytestmark = pytest.mark.timeout(3 * TIMEOUT)


@contextlib.contextmanager
def running(*arguments, **rest):
    """Run a command of the command line inside the block."""
    with subprocess.Popen(
        [*CLI, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **rest
    ) as child:
        try:
            yield child
        finally:
            child.terminate()
            child.wait(TIMEOUT)


def as_bytes(frame):
    return frame if isinstance(frame, bytes) else frame.encode()


def free_port():
    with socket.socket() as one:
        one.bind(("localhost", 0))
        return one.getsockname()[1]


def until(condition):
    """Wait until the condition is true."""
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.05)


def answers(port):
    with contextlib.suppress(OSError):
        one = http.client.HTTPConnection("localhost", port, timeout=TIMEOUT)
        try:
            one.request("GET", "/")
            return one.getresponse().status == 200
        finally:
            one.close()
    return False


@pytest.fixture
def served(tmp_path, monkeypatch):
    """Serve the view of an app with one process; yield the port."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    (tmp_path / "Procfile").write_text("talker: echo a-line; exec sleep 600\n")
    port = free_port()
    sockets = tmp_path / "realtalk-async"
    with running("run", "Procfile", cwd=tmp_path):
        until(lambda: sockets.exists() and os.listdir(sockets))
        with running("top", "--web", "--port", str(port)) as web:
            until(lambda: answers(port) or web.poll() is not None)
            assert web.poll() is None
            yield port


def test_a_browser_gets_a_read_only_view(served):
    """The websocket carries the bytes of a terminal; no key acts on the app."""
    seen = b""
    with connect(f"ws://localhost:{served}/ws?width=100&height=30") as browser:
        deadline = time.monotonic() + TIMEOUT
        while b"a-line" not in seen:
            seen += as_bytes(browser.recv(timeout=deadline - time.monotonic()))
    assert b"talker" in seen
    assert b"Restart" not in seen


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
def test_chromium_shows_the_view_and_passes_keys_on(served, tmp_path):
    """Headless, by playwright if it is installed."""
    sync_api = pytest.importorskip("playwright.sync_api")
    frames = []

    def seen(text):
        return any(text in frame for frame in frames)

    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1000, "height": 600})

        def listen(websocket):
            websocket.on("framereceived", lambda data: frames.append(as_bytes(data)))

        page.on("websocket", listen)
        page.goto(f"http://localhost:{served}", wait_until="commit")
        wait(page, lambda: seen(b"a-line"))
        page.mouse.click(500, 550)
        page.keyboard.press("3")
        wait(page, lambda: seen(b"Process started"))
        page.screenshot(path=str(tmp_path / "top.png"))
        browser.close()


def wait(page, condition):
    """Let the page work until the condition is true."""
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline, "it took too long"
        page.wait_for_timeout(50)
