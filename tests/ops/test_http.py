"""The HTTP endpoint of a real app, also while its event loop hangs."""

import asyncio
import contextlib
import json
import socket
import socketserver
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse

from realtalk_async import PERMANENT, Command, Probe, ProcessManager, RestartPolicy
from realtalk_async.exceptions import CriticalProcessFailed
from realtalk_async.ops import Collector, application, metrics, serve_metrics
from realtalk_async.ops import collector as collector_module
from realtalk_async.ops import http as http_module
from realtalk_async.ops.http import MAX_CLIENTS
from realtalk_async.ops.registry import NameLimiter
from realtalk_async.testing import programs

AT_ONCE = RestartPolicy("permanent", first_delay=0, max_failures=100)


def fetch(url, accept="text/plain"):
    """Return status and body of one request."""
    request = urllib.request.Request(url, headers={"Accept": accept})
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            status, body = answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            status, body = error.code, error.read()
    return status, body.decode()


async def get(endpoint, path):
    """Return status and body of a page."""
    status, body = await asyncio.to_thread(fetch, endpoint.url + path)
    return status, json.loads(body) if path != "/metrics" else body


async def scrape(endpoint):
    """Return all values by name and label values."""
    status, body = await get(endpoint, "/metrics")
    assert status == 200
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in parse(body)
        for sample in family.samples
    }


async def until(condition):
    async with asyncio.timeout(120):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_scrape_reports_states_restarts_exits_times_and_output(manager):
    async with serve_metrics(manager, port=0) as endpoint:
        ticker = "echo one; echo two; echo three >&2; exec sleep 1000"
        mic = await manager.start("mic", programs.shell(ticker), restart=AT_ONCE)
        await mic.wait_for_line("three")
        mic.send_signal(9)
        await until(lambda: mic.restarts == 1)
        await mic.wait_for_line("three")
        await mic.wait_for_line("two")
        values = await scrape(endpoint)
    assert values["realtalk_process_state", "mic", "running"] == 1
    assert values["realtalk_process_state", "fatal", "mic"] == 0
    assert values["realtalk_process_restarts_total", "mic"] == 1
    assert values["realtalk_process_exits_total", "mic", "signalled"] == 1
    assert values["realtalk_process_output_bytes_total", "mic", "stdout"] == 16
    assert values["realtalk_process_output_lines_total", "mic", "stdout"] == 4
    assert values["realtalk_process_output_lines_total", "mic", "stderr"] == 2
    assert values["realtalk_process_output_dropped_bytes_total", "mic", "stdout"] == 0
    recovery = "realtalk_process_recovery_duration_seconds"
    assert values[f"{recovery}_count", "mic"] == 1
    assert 0 < values[f"{recovery}_sum", "mic"] < 30
    detection = "realtalk_process_detection_duration_seconds"
    assert values[f"{detection}_count", "exit", "mic"] == 1
    assert 0 < values[f"{detection}_sum", "exit", "mic"] < 30
    assert values["realtalk_manager_degraded",] == 0
    assert values["realtalk_loop_overdue_seconds",] < 30


async def test_detection_by_a_probe_is_timed_from_the_last_sign_of_life(manager):
    async with serve_metrics(manager, port=0) as endpoint:
        await manager.start(
            "mic", programs.runs(), probes=[Probe.silence(0.3, grace=0.1)]
        )
        await until(lambda: manager.processes["mic"].restarts >= 1)
        values = await scrape(endpoint)
    detection = "realtalk_process_detection_duration_seconds"
    assert values[f"{detection}_count", "mic", "probe"] >= 1
    mean = values[f"{detection}_sum", "mic", "probe"]
    assert 0.3 <= mean / values[f"{detection}_count", "mic", "probe"] < 30
    assert values["realtalk_process_exits_total", "mic", "unhealthy"] >= 1


async def test_a_binary_stdout_counts_as_output(manager):
    async with serve_metrics(manager, port=0) as endpoint:
        sound = programs.python(
            "import sys; sys.stdout.buffer.write(bytes(4800)); input()",
            stdout="binary",
            stdin=True,
        )
        mic = await manager.start("mic", sound)
        received = 0
        while received < 4800:
            received += len(await mic.receive())
        values = await scrape(endpoint)
    assert values["realtalk_process_output_bytes_total", "mic", "stdout"] == 4800


async def test_gaps_and_dropped_bytes_are_counted(manager):
    async with serve_metrics(manager, port=0) as endpoint:
        chatty = programs.prints("x" * 999)
        process = await manager.start("chatty", chatty, max_size=600)
        await process.wait()
        values = await scrape(endpoint)
    assert values["realtalk_process_output_gaps_total", "chatty", "stdout"] == 1
    dropped = "realtalk_process_output_dropped_bytes_total"
    assert values[dropped, "chatty", "stdout"] == 400


async def test_both_exposition_formats_are_accepted_by_the_official_parsers(manager):
    async with serve_metrics(manager, port=0) as endpoint:
        await manager.start("mic", programs.exits(3), restart=PERMANENT)
        await until(lambda: manager.processes["mic"].restarts >= 1)
        url = f"{endpoint.url}/metrics"
        _, plain = await asyncio.to_thread(fetch, url)
        accept = "application/openmetrics-text; version=1.0.0"
        _, strict = await asyncio.to_thread(fetch, url, accept)
    assert strict.endswith("# EOF\n")
    names = {family.name for family in parse_openmetrics(strict)}
    assert "realtalk_process_recovery_duration_seconds" in names
    assert names == {family.name.removesuffix("_total") for family in parse(plain)}


async def test_process_names_beyond_the_limit_share_one_series_with_their_sum(
    manager, monkeypatch
):
    monkeypatch.setattr(NameLimiter.__init__, "__defaults__", (2,))
    async with serve_metrics(manager, port=0) as endpoint:
        for number in range(5):
            one = await manager.start(f"job-{number}", programs.prints("done"))
            await one.wait()
        values = await scrape(endpoint)
    exited = {key: n for key, n in values.items() if key[0] == "realtalk_process_state"}
    assert exited["realtalk_process_state", "exited", "job-1"] == 1
    assert exited["realtalk_process_state", "_other", "exited"] == 3
    assert len(exited) == 3 * 6
    lines = "realtalk_process_output_lines_total"
    assert values[lines, "_other", "stdout"] == 3


async def test_lines_of_a_flood_are_counted_over_several_scrapes(manager, monkeypatch):
    monkeypatch.setattr(collector_module, "MAX_AGE", 0.0)
    many = programs.shell("yes 0123456789 | head -c 1100000; exec sleep 1000")
    async with serve_metrics(manager, port=0) as endpoint:
        process = await manager.start("many", many)
        await until(lambda: process.get_volume("stdout", most=0).size == 1_100_000)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(collector_module, "MAX_COUNTED", 64 * 1024)
            first = await scrape(endpoint)
        second = await scrape(endpoint)
    lines = ("realtalk_process_output_lines_total", "many", "stdout")
    assert 0 < first[lines] < 100_000
    assert second[lines] == 100_000
    size = ("realtalk_process_output_bytes_total", "many", "stdout")
    assert first[size] == 1_100_000


# ---- health


async def test_only_critical_processes_decide_readiness(manager):
    waits = programs.shell("read line; echo ready; exec sleep 1000", stdin=True)
    async with serve_metrics(manager, port=0) as endpoint:
        assert (await get(endpoint, "/readyz"))[0] == 200
        start = asyncio.create_task(
            manager.start("mic", waits, critical=True, probes=[Probe.line("ready")])
        )
        await until(lambda: "mic" in manager.processes and manager.processes["mic"].pid)
        status, body = await get(endpoint, "/readyz")
        assert (status, body["critical"]) == (503, {"mic": "starting"})
        assert body["reasons"] == ["critical process 'mic' is starting: starting"]
        assert (await get(endpoint, "/healthz"))[0] == 200
        await manager.processes["mic"].send(b"\n")
        await start
        assert (await get(endpoint, "/readyz"))[0] == 200
        never = RestartPolicy("transient", max_failures=0)
        await manager.start("helper", programs.exits(3), restart=never)
        await manager.processes["helper"].wait()
        await until(lambda: manager.degraded)
        status, body = await get(endpoint, "/readyz")
        assert (status, body["manager"]) == (200, "degraded")
        assert "exit status 3" in body["degraded"]["helper"]


async def test_liveness_fails_during_the_shutdown_after_a_lost_critical_process(logger):
    manager = ProcessManager(logger)
    async with serve_metrics(manager, port=0) as endpoint:
        status, body = await get(endpoint, "/readyz")
        assert body["reasons"] == ["the manager has not been entered"]
        with pytest.raises(CriticalProcessFailed):
            async with manager:
                slow = programs.cleans_up(1.0)
                helper = await manager.start("helper", slow)
                await helper.wait_for_line("ready")
                never = RestartPolicy("transient", max_failures=0)
                await manager.start(
                    "mic", programs.exits(3), critical=True, restart=never
                )
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(30)
                asyncio.current_task().uncancel()
                status, body = await get(endpoint, "/healthz")
                assert status == 503
                assert body["manager"] == "failed"
                assert "exit status 3" in "".join(body["reasons"])
        status, body = await get(endpoint, "/healthz")
        assert status == 503


async def test_a_hanging_loop_fails_health_checks_at_once_and_can_still_be_scraped(
    manager,
):
    answers, asked = [], threading.Event()

    def ask(url):
        asked.wait(120)
        answers.extend(
            fetch(url + page) for page in ("/healthz", "/readyz", "/metrics")
        )

    async with serve_metrics(manager, port=0, max_lag=0.3) as endpoint:
        await manager.start("mic", programs.runs(), critical=True)
        before = await scrape(endpoint)
        asking = threading.Thread(target=ask, args=(endpoint.url,))
        asking.start()
        asked.set()
        while asking.is_alive():
            time.sleep(0.01)  # a callback must not block
        async with asyncio.timeout(120):
            while (await get(endpoint, "/healthz"))[0] != 200:
                await asyncio.sleep(0.01)  # it turns again, and all is well
    for status, body in answers[:2]:
        assert status == 503
        assert "the event loop hangs" in json.loads(body)["reasons"][0]
    status, body = answers[2]
    assert status == 200
    assert 'realtalk_process_state{process="mic",state="running"} 1.0' in body
    overdue = [
        line for line in body.splitlines() if line.startswith("realtalk_loop_over")
    ]
    assert float(overdue[0].split()[1]) >= 0.3
    assert before["realtalk_loop_overdue_seconds",] < float(overdue[0].split()[1])


def read_to_end(endpoint):
    """Return what the server sends until it ends the connection; b"" if it refuses."""
    with (
        socket.create_connection((endpoint.host, endpoint.port), 120) as client,
        contextlib.suppress(ConnectionError),
    ):
        client.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        return client.makefile("rb").read()
    return b""


async def test_slow_clients_delay_no_others_and_clients_beyond_the_limit_are_refused(
    manager, monkeypatch
):
    monkeypatch.setattr(http_module._Handler, "timeout", 240.0)
    async with serve_metrics(manager, port=0) as endpoint:
        where = endpoint.host, endpoint.port
        slow = [socket.create_connection(where, 120) for _ in range(MAX_CLIENTS - 1)]
        assert b" 200 OK" in await asyncio.to_thread(read_to_end, endpoint)
        # The server accepts connections in their order, so that it counts this one next.
        slow.append(socket.create_connection(where, 120))
        assert await asyncio.to_thread(read_to_end, endpoint) == b""
        for one in slow:
            one.close()
        async with asyncio.timeout(120):
            while not await asyncio.to_thread(read_to_end, endpoint):
                await asyncio.sleep(0.01)


async def test_a_client_finds_its_slot_free_once_it_has_read_its_answer_to_the_end(
    manager, monkeypatch
):
    """However slowly the thread of the server ends the connection."""
    whole = http_module._Server.shutdown_request

    def slowly(server, request):
        whole(server, request)
        time.sleep(0.2)

    monkeypatch.setattr(http_module._Server, "shutdown_request", slowly)
    monkeypatch.setattr(http_module, "MAX_CLIENTS", 1)
    async with serve_metrics(manager, port=0) as endpoint:
        for _ in range(3):
            assert b" 200 OK" in await asyncio.to_thread(read_to_end, endpoint)


async def test_a_client_whose_thread_cannot_be_started_leaves_its_slot_free(
    manager, monkeypatch
):
    monkeypatch.setattr(http_module, "MAX_CLIENTS", 1)
    async with serve_metrics(manager, port=0) as endpoint:
        with monkeypatch.context() as patch:

            def fails(_server, _request, _address):
                raise RuntimeError("can't start new thread")

            patch.setattr(socketserver.ThreadingMixIn, "process_request", fails)
            assert await asyncio.to_thread(read_to_end, endpoint) == b""
        assert b" 200 OK" in await asyncio.to_thread(read_to_end, endpoint)


async def test_a_cancelled_block_leaves_neither_thread_nor_port(manager):
    entered, port = asyncio.Event(), []

    async def serve():
        async with serve_metrics(manager, port=0) as endpoint:
            port.append(endpoint.port)
            entered.set()
            await asyncio.sleep(1000)

    task = asyncio.create_task(serve())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port[0]), 5)


async def test_a_port_in_use_is_an_error(manager):
    async with serve_metrics(manager, port=0) as endpoint:
        with pytest.raises(OSError, match="in use"):
            async with serve_metrics(manager, port=endpoint.port):
                pass


async def test_ipv6_is_served(manager):
    try:
        async with serve_metrics(manager, host="::1", port=0) as endpoint:
            assert (await get(endpoint, "/healthz"))[0] == 200
    except OSError as error:
        pytest.skip(str(error))


async def test_an_unknown_path_lists_the_known_paths(manager):
    async with serve_metrics(manager, port=0) as endpoint:
        status, body = await get(endpoint, "/")
    assert (status, body) == (404, {"pages": ["/metrics", "/healthz", "/readyz"]})


async def test_the_endpoint_can_be_mounted_as_a_wsgi_application(manager):
    responses = []
    async with Collector(manager) as collector:
        pages = application(collector)
        environ = {"PATH_INFO": "/healthz", "REQUEST_METHOD": "GET"}
        body = await asyncio.to_thread(
            pages, environ, lambda *one: responses.append(one)
        )
        assert collector.check("liveness").ok  # in the loop, without waiting for it
        assert collector.snapshot().samples  # the last snapshot
    assert responses[0][0] == "200 OK"
    assert json.loads(b"".join(body))["ok"]


async def test_the_last_snapshot_can_be_read_after_the_block(manager):
    async with Collector(manager) as collector:
        mic = await manager.start("mic", programs.prints("a", "b"))
        await mic.wait()
    snapshot = await asyncio.to_thread(collector.snapshot)
    assert snapshot.samples[metrics.LINES]["mic", "stdout"] == 2


def test_without_prometheus_client_the_error_names_the_extra():
    code = (
        "import sys; sys.modules['prometheus_client'] = None\n"
        "import asyncio\n"
        "from realtalk_async import Logger, ProcessManager\n"
        "from realtalk_async.ops import serve_metrics\n"
        "async def main():\n"
        "    async with Logger('/dev/null') as log, ProcessManager(log) as manager:\n"
        "        async with serve_metrics(manager, port=0): pass\n"
        "asyncio.run(main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=240
    )
    assert "pip install 'realtalk-async[metrics]'" in done.stderr


async def test_supervised_coroutines_have_states_too(manager):
    async with serve_metrics(manager, port=0) as endpoint:
        await manager.start_task("link", lambda: asyncio.sleep(1000))
        await manager.start("cat", Command("cat", stdin=True))
        values = await scrape(endpoint)
    assert values["realtalk_process_state", "link", "running"] == 1


async def test_log_lines_are_counted_by_level(manager, logger):
    async with serve_metrics(manager, port=0) as endpoint:
        before = await scrape(endpoint)
        for log in (logger.info, logger.warning, logger.error, logger.error):
            log("test", "one more")
        logger.log("info", "test", "one more")
        await asyncio.sleep(collector_module.MAX_AGE)
        after = await scrape(endpoint)
    lines = "realtalk_log_lines_total"
    more = {
        level: after[lines, level] - before[lines, level]
        for level in ("INFO", "WARNING", "ERROR")
    }
    assert more == {"INFO": 2, "WARNING": 1, "ERROR": 2}
    assert after["realtalk_log_dropped_total",] == 0
    assert after["realtalk_log_waiting_bytes",] >= 0
