"""Runs pytest with the plugin: with both async plugins, in both modes, under xdist."""

import asyncio
import os
import subprocess
import sys
import threading
import time

import pytest

from realtalk_async import Logger, ProcessManager, WaitExpired
from realtalk_async.concurrency.daemon_thread import call_in_thread
from realtalk_async.testing import leaks, programs, virtual_time

SCOPE = ["-o", "asyncio_default_fixture_loop_scope=function"]
HOWS = {
    "pytest-asyncio, strict": (["-p", "no:anyio", *SCOPE], "@pytest.mark.asyncio", ""),
    "pytest-asyncio, auto": (["-p", "no:anyio", "--asyncio-mode=auto", *SCOPE], "", ""),
    "anyio, by mark": (
        ["-p", "no:asyncio"],
        "@pytest.mark.anyio",
        "@pytest.fixture\ndef anyio_backend(): return 'asyncio'\n",
    ),
    "both, side by side": (
        SCOPE,
        "@pytest.mark.anyio",
        "@pytest.fixture\ndef anyio_backend(): return 'asyncio'\n",
    ),
}
STRICT = "pytest-asyncio, strict"
IMPORTS = "import pytest\nfrom realtalk_async.testing import programs"


@pytest.fixture
def go(pytester):
    """Return a function that runs a test file in its own pytest."""

    def run(body, how=STRICT, *more):
        arguments, mark, preamble = HOWS[how]
        text = f"{IMPORTS}\n{preamble}\n{body}".replace("@ASYNC", mark)
        pytester.makepyfile(test_it=text)
        # Hypothesis takes a third of the time of a pytest with one test.
        return pytester.runpytest_subprocess(
            *["-p", "no:cacheprovider", "-p", "no:hypothesispytest"],
            *["-Werror", "--strict-markers", *arguments, *more],
        )

    return run


GOOD = """
@ASYNC
async def test_it(realtalk_manager, realtalk_logger, realtalk_no_leaks):
    async with realtalk_manager as manager:
        child = await manager.start("child", programs.runs())
        await child.wait_for_line("ready")
        status = await child.stop()
    assert status.exit_status == -15
    await realtalk_logger.info("test", "done")
    (entry,) = await realtalk_logger.get_logs(component="test")
    assert entry.message == "done"
"""


@pytest.mark.parametrize("how", HOWS)
def test_fixtures_work_with_each_async_plugin(go, how):
    go(GOOD, how).assert_outcomes(passed=1)


def test_fixtures_and_reports_work_under_xdist(go):
    body = GOOD + BAD
    result = go(body, STRICT, "-n", "2", "-p", "xdist")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*realtalk-async child mic*", "*stderr*device busy"])


BAD = """
@ASYNC
async def test_bad(realtalk_manager):
    async with realtalk_manager as manager:
        mic = await manager.start("mic", programs.crashes(3, "device busy"))
        other = await manager.start("other", programs.prints("hello", "world"))
        await mic.wait()
        await other.wait()
        assert False, "as intended"
"""


def test_report_of_a_failed_test_shows_children_and_log(go):
    result = go(BAD)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*as intended*",
            "*- realtalk-async child mic -*",
            "incarnation 1: exit status 3*",
            "  stderr * device busy",
            "now mic: *",
            "*- realtalk-async child other -*",
            "  stdout * hello",
            "  stdout * world",
            "*- realtalk-async log (*",
            "*[[]ERROR] [[]mic] Process died*",
        ]
    )


def test_report_of_a_passed_test_shows_no_children(go):
    result = go(BAD.replace("assert False", "assert True"), STRICT, "-rA")
    result.assert_outcomes(passed=1)
    assert "realtalk-async child" not in result.stdout.str()


def test_report_shows_children_of_managers_that_the_app_made(go):
    """Children and log lines of earlier tests are left out."""
    body = """
from pathlib import Path
from realtalk_async import Command, Logger, ProcessManager

async def app(folder, name):
    async with Logger(folder / "app.log") as logger, ProcessManager(logger) as manager:
        one = await manager.start(name, Command("sh", "-c", f"echo it is {name}; exit 3"))
        await one.wait()
        logger.info("app", f"with {name}")
        return manager

KEPT = []

@ASYNC
async def test_one(request):
    KEPT.append(await app(Path(request.config.rootpath), "first"))
    time.sleep(1.1)  # the log tells the time to the second

@ASYNC
async def test_two(request):
    KEPT.append(await app(Path(request.config.rootpath), "second"))
    assert False
"""
    result = go("import time\n" + body)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "*- realtalk-async child second -*",
            "  stdout * it is second",
            "*- realtalk-async log (*app.log) -*",
            "*with second",
        ]
    )
    assert "it is first" not in result.stdout.str()
    assert "with first" not in result.stdout.str()


def test_report_of_a_failed_teardown_shows_children(go):
    """The manager has been closed by then."""
    body = """
KEPT = []

@ASYNC
async def test_it(realtalk_no_leaks, realtalk_manager):
    KEPT.append(open("/dev/null"))
    async with realtalk_manager as manager:
        await (await manager.start("mic", programs.prints("hello"))).wait()
"""
    result = go(body)
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(
        [
            "*left resources behind*",
            "*- realtalk-async child mic -*",
            "  stdout * hello",
        ]
    )


def test_report_shows_at_most_20_children_failed_ones_first(go):
    body = """
@ASYNC
async def test_it(realtalk_manager):
    async with realtalk_manager as manager:
        for number in range(25):
            await (await manager.start(f"c{number}", programs.prints())).wait()
        await (await manager.start("bad", programs.crashes())).wait()
        assert False
"""
    result = go(body)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*- realtalk-async child bad -*",
            "*- realtalk-async child c0 -*",
            "*- realtalk-async children left out -*",
            "c19, c20, c21, c22, c23, c24",
        ]
    )


def test_report_shows_the_newest_3_incarnations_of_a_child(go):
    body = """
from realtalk_async import RestartPolicy

@ASYNC
async def test_it(realtalk_manager):
    policy = RestartPolicy(max_failures=4, first_delay=0)
    async with realtalk_manager as manager:
        mic = await manager.start("mic", programs.crashes(3), restart=policy)
        while not mic.is_settled:
            await mic.wait()
    assert False
"""
    result = go(body)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "(2 earlier incarnations are left out)",
            "incarnation 3: *",
            "incarnation 5: *",
        ]
    )


def test_starting_a_child_before_the_manager_is_entered_names_the_mistake(go):
    body = """
@ASYNC
async def test_it(realtalk_manager):
    await realtalk_manager.start("child", programs.runs())
"""
    result = go(body)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*NotStarted*async with ProcessManager*"])


@pytest.mark.parametrize("how", HOWS)
def test_offline_peer_answers_and_injects_faults(go, how):
    body = """
from realtalk_async import Stream

@ASYNC
async def test_it(offline_peer, realtalk_manager, realtalk_logger):
    ours = {"logger": realtalk_logger, "process_manager": realtalk_manager}
    async with offline_peer as peer, realtalk_manager:
        peer.fault("drop@response.output_text.delta:2")
        async with Stream(url=peer.url, microphone=None, speaker=None, **ours) as stream:
            stream.send_text("What is seven plus five?", trigger_response=True)
            assert (await stream.wait_for_response(timeout=30)).status == "lost"
            stream.send_text("What is seven plus five?", trigger_response=True)
            assert "twelve" in (await stream.wait_for_response(timeout=30)).text
"""
    go(body, how).assert_outcomes(passed=1)


def test_each_kind_of_peer_has_a_fixture(go):
    body = """
from realtalk_async import Stream

async def ask(peer):
    async with Stream(url=peer.url, microphone=None, speaker=None) as stream:
        return (await stream.send_text("hello", trigger_response=True)).text

@ASYNC
async def test_answers(answering_peer):
    async with answering_peer(str.upper) as peer:
        assert await ask(peer) == "HELLO"

@ASYNC
async def test_script(scripted_peer):
    async with scripted_peer([("hello", "Hi."), ("bye", "Bye.")]) as peer:
        assert await ask(peer) == "Hi."

@ASYNC
async def test_delay(delayed_peer):
    async with delayed_peer((0.01, 0.01), seed=1) as peer:
        assert await ask(peer) == "Hello. How can I help you?"

def test_thread(offline_peer_url):
    assert offline_peer_url.startswith("ws://127.0.0.1:")
"""
    result = go(body)
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(["*ScriptNotFollowed*1 of 2 steps*expects 'bye'*"])


# ---- leak checks

LEAKS = {
    "child": "import subprocess\n    KEPT.append(subprocess.Popen(['sleep', '5']))",
    "descriptor": "KEPT.append(open('/dev/null'))",
    "thread": "import threading, time\n"
    "    KEPT.append(threading.Thread(target=time.sleep, args=(5,), daemon=True))\n"
    "    KEPT[0].start()",
}


@pytest.mark.parametrize("what", LEAKS)
def test_no_leaks_fixture_finds(go, what):
    body = f"KEPT = []\n\ndef test_it(realtalk_no_leaks):\n    {LEAKS[what]}\n"
    result = go(body)
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*the test left resources behind:*", f"{what}: *"])


@pytest.mark.parametrize("how", HOWS)
def test_no_leaks_fixture_finds_a_task(go, how):
    """After the test the async plugin would cancel the task silently."""
    body = """
import asyncio
KEPT = []

@ASYNC
async def test_it(realtalk_no_leaks):
    KEPT.append(asyncio.create_task(asyncio.sleep(1000), name="forgotten task"))
"""
    result = go(body, how)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*left tasks behind*", "*forgotten task*"])


def test_no_leaks_fixture_ignores_resources_of_other_fixtures(go):
    """A task that is about to end is no leak either."""
    body = """
import asyncio

@pytest.fixture(scope="session")
def shared():
    with open("/dev/null") as file:
        yield file

@ASYNC
async def test_it(realtalk_no_leaks, shared):
    asyncio.create_task(asyncio.sleep(0))
    asyncio.create_task(asyncio.sleep(1000)).cancel()
"""
    go(body).assert_outcomes(passed=1)


def test_no_leaks_fixture_ignores_the_files_of_kept_output(go):
    """A manager keeps the output of its children after its end."""
    body = """
KEPT = []

@ASYNC
async def test_it(realtalk_no_leaks, realtalk_manager):
    from realtalk_async import Command
    async with realtalk_manager as manager:
        KEPT.append(manager)
        much = Command("sh", "-c", "yes 0123456789 | head -c 11000000")
        process = await manager.start("much", much)
        await process.wait()
    assert len(process.get_stdout()) == 1_000_000
"""
    go(body).assert_outcomes(passed=1)


def test_no_leaks_fixture_can_be_enabled_for_all_tests(go, pytester):
    pytester.makeini("[pytest]\nusefixtures = realtalk_no_leaks\n")
    body = "KEPT = []\n\ndef test_it():\n    KEPT.append(open('/dev/null'))\n"
    go(body).assert_outcomes(passed=1, errors=1)


def test_failed_test_reports_its_own_error_not_the_leak(go):
    """The task was left because of that error."""
    body = """
import asyncio

@ASYNC
async def test_it(realtalk_no_leaks):
    asyncio.create_task(asyncio.sleep(1000))
    raise ValueError("the cause")
"""
    result = go(body)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*ValueError: the cause"])


def test_unchanged_resources_are_no_leak():
    before = leaks.take_inventory()
    assert leaks.find_leaks(before) == []


# ---- scripted children


# ---- virtual time

STORY = """
import asyncio
from realtalk_async import RestartPolicy
from realtalk_async.events import RestartScheduled

async def story(manager):
    loop, delays = asyncio.get_running_loop(), []
    manager.subscribe(
        lambda event: isinstance(event, RestartScheduled) and delays.append(event.delay)
    )
    policy = RestartPolicy("permanent", first_delay=3600, max_delay=3600, max_failures=9)
    async with manager:
        mic = await manager.start("mic", programs.crashes(), restart=policy)
        began = loop.time()
        async with asyncio.timeout(1e6):
            while mic.restarts < 2:
                await asyncio.sleep(60)
        assert loop.time() - began >= sum(delays[:2]) > 0
        return True
"""


def test_virtual_time_fixture_skips_hours_of_backoff(go):
    """The fixture needs no async plugin."""
    body = (
        STORY
        + """
def test_it(realtalk_manager, virtual_time, realtalk_no_leaks):
    assert virtual_time(story(realtalk_manager))
"""
    )
    # "by mark" turns pytest-asyncio off already; without both plugins, their options are unknown.
    go(body, "anyio, by mark", "-p", "no:anyio").assert_outcomes(passed=1)


@pytest.mark.parametrize("how", HOWS)
def test_async_tests_run_in_virtual_time(go, pytester, how):
    """Both async plugins accept a loop factory."""
    factory = "from realtalk_async.testing.virtual_time import VirtualTimeLoop\n"
    pytester.makeconftest(
        factory
        + """
import pytest

@pytest.hookimpl(optionalhook=True)
def pytest_asyncio_loop_factories(config, item):
    return {"virtual": VirtualTimeLoop}
"""
    )
    body = """
import asyncio, time
from realtalk_async.testing.virtual_time import VirtualTimeLoop

@pytest.fixture
def anyio_backend():
    return "asyncio", {"loop_factory": VirtualTimeLoop}

@ASYNC
async def test_it(realtalk_no_leaks):
    began, real = asyncio.get_running_loop().time(), time.monotonic()
    await asyncio.sleep(36000)
    assert round(asyncio.get_running_loop().time() - began, 3) == 36000
    assert time.monotonic() - real < 600
"""
    go(body, how).assert_outcomes(passed=1)


def test_virtual_timers_fire_in_order():
    async def main():
        order = []

        async def note(seconds):
            await asyncio.sleep(seconds)
            order.append(seconds)

        await asyncio.gather(*map(note, (5e6, 0.001, 86400, 1.0)))
        return order

    assert virtual_time.run(main()) == [0.001, 1.0, 86400, 5e6]


def test_ready_events_precede_a_virtual_timer():
    async def main():
        loop, received = asyncio.get_running_loop(), []
        reading, writing = os.pipe()
        loop.add_reader(
            reading, lambda: received.append((os.read(reading, 9), loop.time()))
        )
        os.write(writing, b"x")
        began = loop.time()
        await asyncio.sleep(3600)
        loop.remove_reader(reading)
        os.close(reading)
        os.close(writing)
        return received == [(b"x", began)]

    assert virtual_time.run(main())


def test_real_wait_lets_a_child_finish_before_a_timer():
    """Without it, a timer fires first, however long it is."""

    async def main():
        child = await asyncio.create_subprocess_exec("sleep", "0.05")
        try:
            async with asyncio.timeout(3600):
                return await child.wait()
        except TimeoutError:
            await child.wait()
            raise

    assert virtual_time.run(main(), real_wait=20.0) == 0
    with pytest.raises(TimeoutError):
        virtual_time.run(main())  # a jump does not wait for a child


def test_thread_result_arrives_in_virtual_time():
    async def main():
        return await asyncio.to_thread(lambda: 42)

    assert virtual_time.run(main(), real_wait=1.0) == 42


def test_plugin_imports_in_less_than_10_ms():
    """Every test run on a machine with the package loads the plugin."""
    code = (
        "import pytest, time; began = time.perf_counter(); "
        "import realtalk_async.testing.plugin; print(time.perf_counter() - began)"
    )
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60)
        for _ in range(5)
    ]
    assert min(float(done.stdout) for done in runs) < 0.01


def test_plugin_imports_no_other_module_of_the_package():
    code = (
        "import sys, realtalk_async; before = set(sys.modules); "
        "import realtalk_async.testing.plugin; "
        "print(*sorted(m for m in set(sys.modules) - before if 'realtalk' in m))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "realtalk_async.testing realtalk_async.testing.plugin\n"


# What stays by design, and what may stay


def test_no_leaks_accepts_multiprocessings_resource_tracker(go):
    body = """
from multiprocessing import shared_memory

def test_it(realtalk_no_leaks):
    memory = shared_memory.SharedMemory(create=True, size=64)
    memory.close()
    memory.unlink()
"""
    go(body).assert_outcomes(passed=1)


POOL = """
import subprocess, time
from concurrent.futures import ThreadPoolExecutor
POOL, KEPT = ThreadPoolExecutor(1, "app_pool"), []

@MARK
def test_it(realtalk_no_leaks):
    POOL.submit(int).result()
    KEPT.append(subprocess.Popen(["sleep", "1000"]))
    time.sleep(0.05)

def teardown_module():
    for one in KEPT:
        one.kill()
        one.wait()
"""


def test_no_leaks_names_the_program_and_the_thread(go):
    result = go(POOL.replace("@MARK", ""))
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["child: sleep 1000 (pid *", "thread: app_pool_0 (*"])


def test_no_leaks_accepts_what_the_marker_names(go):
    mark = '@pytest.mark.realtalk_may_stay("app_pool*", "sleep 1000")'
    go(POOL.replace("@MARK", mark)).assert_outcomes(passed=1)


def test_a_child_is_known_by_pid_and_start_time(monkeypatch):
    with subprocess.Popen(["sleep", "1000"]) as child:
        try:
            before = leaks.take_inventory()
            child.send_signal(19)  # SIGSTOP
            os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
            assert leaks.find_leaks(before) == []
        finally:
            child.kill()


def test_each_of_two_tests_within_a_second_shows_its_own_log(go):
    body = """
KEPT = []

def test_one(realtalk_logger):
    KEPT.append(realtalk_logger)
    realtalk_logger.info("app", "line of the first test")
    from realtalk_async import supervision
    _ = supervision.ProcessManager

def test_two(realtalk_logger):
    realtalk_logger.info("app", "line of the second test")
    assert False
"""
    result = go(body)
    result.assert_outcomes(passed=1, failed=1)
    assert "line of the second test" in result.stdout.str()
    assert "line of the first test" not in result.stdout.str().partition("= FAILURES")[
        2
    ].replace('"line of the first test"', "")


# Virtual time and threads


def test_virtual_time_does_not_jump_while_a_thread_works():
    async def story():
        async with asyncio.timeout(60):
            await asyncio.to_thread(threading.Event().wait, 0.2)
        async with asyncio.timeout(60):
            await call_in_thread(lambda: threading.Event().wait(0.2), "a call")
        return "both ended in time"

    assert virtual_time.run(story()) == "both ended in time"


def test_the_timeout_of_a_wait_for_a_line_is_virtual(tmp_path):
    async def story():
        async with (
            Logger(tmp_path / "app.log") as logger,
            ProcessManager(logger) as manager,
        ):
            quiet = await manager.start("quiet", programs.runs())
            began, virtual = time.monotonic(), asyncio.get_running_loop().time()
            with pytest.raises(WaitExpired):
                await quiet.wait_for_line("never", timeout=60)
            passed = asyncio.get_running_loop().time() - virtual
            return passed, time.monotonic() - began

    virtual, real = virtual_time.run(story(), real_wait=0.01)
    assert virtual > 59, (virtual, real)
    assert real < 50, (virtual, real)
