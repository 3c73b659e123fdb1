"""The pytest plugin, in test runs of its own: both async plugins, both modes, xdist."""

import asyncio
import os
import subprocess
import sys

import pytest

from realtalk_async.testing import leaks, virtual_time
from realtalk_async.testing.scripted_child import ScriptedChildren

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


@pytest.fixture
def go(pytester):
    """Return what runs a test file in a pytest of its own."""

    def run(body, how=STRICT, *more):
        arguments, mark, preamble = HOWS[how]
        text = f"import pytest\n{preamble}\n{body}".replace("@ASYNC", mark)
        pytester.makepyfile(test_it=text)
        return pytester.runpytest_subprocess(
            "-p", "no:cacheprovider", "-Werror", "--strict-markers", *arguments, *more
        )

    return run


GOOD = """
@ASYNC
async def test_it(realtalk_manager, realtalk_logger, scripted_child, realtalk_no_leaks):
    async with realtalk_manager as manager:
        child = await manager.start("child", scripted_child.hang())
        await child.wait_for_line("ready")
        status = await child.stop()
    assert status.exit_status == -15
    await realtalk_logger.info("test", "done")
    (entry,) = await realtalk_logger.get_logs(component="test")
    assert entry.message == "done"
"""


@pytest.mark.parametrize("how", HOWS)
def test_the_fixtures_work_with(go, how):
    """Every way to run an async test; the guard finds nothing."""
    go(GOOD, how).assert_outcomes(passed=1)


def test_the_fixtures_work_under_xdist(go):
    """Reports of failed tests come from the workers with all they have."""
    body = GOOD + BAD
    result = go(body, STRICT, "-n", "2", "-p", "xdist")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*realtalk-async child mic*", "*stderr*device busy"])


BAD = """
@ASYNC
async def test_bad(realtalk_manager, scripted_child):
    async with realtalk_manager as manager:
        mic = await manager.start("mic", scripted_child.crash(3, "device busy"))
        other = await manager.start("other", scripted_child.emit("hello", "world"))
        await mic.wait()
        await other.wait()
        assert False, "as intended"
"""


def test_a_failing_test_shows_its_children_and_its_log(go):
    """Exit, last lines and log; those of a passing test are its own business."""
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


def test_a_passing_test_shows_nothing(go):
    """Whatever died in it."""
    result = go(BAD.replace("assert False", "assert True"), STRICT, "-rA")
    result.assert_outcomes(passed=1)
    assert "realtalk-async child" not in result.stdout.str()


def test_the_apps_own_children_are_shown_too(go):
    """Those of any manager; but not what an earlier test has left in the same log."""
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


def test_a_failing_teardown_shows_them_as_well(go):
    """Such as that of the leak guard, when the manager is gone already."""
    body = """
KEPT = []

@ASYNC
async def test_it(realtalk_no_leaks, realtalk_manager, scripted_child):
    KEPT.append(open("/dev/null"))
    async with realtalk_manager as manager:
        await (await manager.start("mic", scripted_child.emit("hello"))).wait()
"""
    result = go(body)
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(
        ["*left a thing behind*", "*- realtalk-async child mic -*", "  stdout * hello"]
    )


def test_a_crowd_is_not_shown_in_full(go):
    """Who failed goes first."""
    body = """
@ASYNC
async def test_it(realtalk_manager, scripted_child):
    async with realtalk_manager as manager:
        for number in range(25):
            await (await manager.start(f"c{number}", scripted_child.emit())).wait()
        await (await manager.start("bad", scripted_child.crash())).wait()
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


def test_only_the_newest_lives_are_shown(go):
    """A report is to be read."""
    body = """
from realtalk_async import RestartPolicy

@ASYNC
async def test_it(realtalk_manager, scripted_child):
    policy = RestartPolicy(max_failures=4, first_delay=0)
    async with realtalk_manager as manager:
        mic = await manager.start("mic", scripted_child.crash(3), restart=policy)
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


def test_a_manager_that_is_not_entered_says_so(go):
    """The one mistake that is easy to make."""
    body = """
@ASYNC
async def test_it(realtalk_manager, scripted_child):
    await realtalk_manager.start("child", scripted_child.hang())
"""
    result = go(body)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*NotStarted*async with ProcessManager*"])


@pytest.mark.parametrize("how", HOWS)
def test_the_offline_peer_answers_and_commits_faults(go, how):
    """By call; the fixture is entered like the others."""
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


# ---- the leak guard

LEAKS = {
    "child": "import subprocess\n    KEPT.append(subprocess.Popen(['sleep', '5']))",
    "descriptor": "KEPT.append(open('/dev/null'))",
    "thread": "import threading, time\n"
    "    KEPT.append(threading.Thread(target=time.sleep, args=(5,), daemon=True))\n"
    "    KEPT[0].start()",
}


@pytest.mark.parametrize("what", LEAKS)
def test_the_guard_finds(go, what):
    """Whatever is left, in a test of any kind."""
    body = f"KEPT = []\n\ndef test_it(realtalk_no_leaks):\n    {LEAKS[what]}\n"
    result = go(body)
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*the test has left a thing behind:*", f"{what}: *"])


@pytest.mark.parametrize("how", HOWS)
def test_the_guard_finds_a_task(go, how):
    """While the loop still runs: later it would be cancelled in silence."""
    body = """
import asyncio
KEPT = []

@ASYNC
async def test_it(realtalk_no_leaks):
    KEPT.append(asyncio.create_task(asyncio.sleep(1000), name="the forgotten one"))
"""
    result = go(body, how)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*left a task behind*", "*the forgotten one*"])


def test_the_guard_is_silent_about_what_fixtures_have(go):
    """Those of a wider scope, and a task that ends by itself in a moment."""
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


def test_the_guard_is_silent_about_output_that_is_kept(go):
    """A manager's children can be asked for what they said, also after its end."""
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


def test_the_guard_can_be_asked_for_by_the_configuration(go, pytester):
    """For all tests, by pytest's own means."""
    pytester.makeini("[pytest]\nusefixtures = realtalk_no_leaks\n")
    body = "KEPT = []\n\ndef test_it():\n    KEPT.append(open('/dev/null'))\n"
    go(body).assert_outcomes(passed=1, errors=1)


def test_a_test_that_fails_is_told_of_its_own_failure(go):
    """Not of the task that it has left because of it."""
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


def test_what_has_gone_is_not_left():
    """The guard waits for it for a moment."""
    before = leaks.look()
    assert leaks.left_since(before) == []


# ---- scripted children


@pytest.mark.parametrize(
    ("command", "exit_status"),
    [
        (ScriptedChildren().crash(), 1),
        (ScriptedChildren().crash(-11), -11),
        (ScriptedChildren().emit("a", "b", status=4), 4),
    ],
)
async def test_a_scripted_child_ends_as_it_is_told(command, exit_status):
    """With its status or signal."""
    process = await command()
    await process.communicate()
    assert process.returncode == exit_status


async def test_each_scripted_child_does_what_its_name_says(manager, tmp_path):
    """One thing each."""
    children = ScriptedChildren()
    says = {
        "hang": (children.hang(), "ready"),
        "ignore_term": (children.ignore_term(), "ready"),
        "fork_and_hold_pipe": (children.fork_and_hold_pipe(), "ready"),
        "flood": (children.flood(), "again and again"),
        "setsid": (children.setsid(), r"\d+"),
        "fail_first": (children.fail_first(0, str(tmp_path / "n")), "ready"),
    }
    for name, (command, line) in says.items():
        process = await manager.start(name, command)
        await process.wait_for_line(line)
        if name == "flood":
            await process.stop()
    echo = await manager.start("echo", children.echo())
    await echo.send(b"hello\n")
    await echo.wait_for_line("hello")


# ---- virtual time

STORY = """
import asyncio
from realtalk_async import RestartPolicy
from realtalk_async.events import RestartScheduled

async def story(manager, child):
    loop, delays = asyncio.get_running_loop(), []
    manager.subscribe(
        lambda event: isinstance(event, RestartScheduled) and delays.append(event.delay)
    )
    policy = RestartPolicy("permanent", first_delay=3600, max_delay=3600, max_failures=9)
    async with manager:
        mic = await manager.start("mic", child.crash(), restart=policy)
        began = loop.time()
        async with asyncio.timeout(1e6):
            while mic.restarts < 2:
                await asyncio.sleep(60)
        assert loop.time() - began >= sum(delays[:2]) > 0
        return True
"""


def test_hours_of_backoff_take_no_time(go):
    """By the fixture, which needs no other plugin."""
    body = (
        STORY
        + """
def test_it(realtalk_manager, scripted_child, virtual_time, realtalk_no_leaks):
    assert virtual_time(story(realtalk_manager, scripted_child))
"""
    )
    # "by mark" turns pytest-asyncio off already, without options that nobody would know.
    go(body, "anyio, by mark", "-p", "no:anyio").assert_outcomes(passed=1)


@pytest.mark.parametrize("how", HOWS)
def test_whole_tests_run_in_virtual_time(go, pytester, how):
    """By the loop factories of either plugin."""
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
    assert asyncio.get_running_loop().time() - began >= 36000
    assert time.monotonic() - real < 600
"""
    go(body, how).assert_outcomes(passed=1)


def test_timers_come_in_their_order():
    """Whatever the distance between them."""

    async def main():
        order = []

        async def note(seconds):
            await asyncio.sleep(seconds)
            order.append(seconds)

        await asyncio.gather(*map(note, (5e6, 0.001, 86400, 1.0)))
        return order

    assert virtual_time.run(main()) == [0.001, 1.0, 86400, 5e6]


def test_what_has_happened_goes_before_a_timer():
    """A byte that lies in a pipe is read before any time passes."""

    async def main():
        loop, heard = asyncio.get_running_loop(), []
        reading, writing = os.pipe()
        loop.add_reader(
            reading, lambda: heard.append((os.read(reading, 9), loop.time()))
        )
        os.write(writing, b"x")
        began = loop.time()
        await asyncio.sleep(3600)
        loop.remove_reader(reading)
        os.close(reading)
        os.close(writing)
        return heard == [(b"x", began)]

    assert virtual_time.run(main())


def test_patience_waits_for_a_child():
    """In real time, before each jump; a timer in virtual time is what is overtaken."""

    async def main():
        child = await asyncio.create_subprocess_exec("sleep", "0.05")
        try:
            async with asyncio.timeout(3600):
                return await child.wait()
        except TimeoutError:
            await child.wait()
            raise

    assert virtual_time.run(main(), patience=20.0) == 0
    with pytest.raises(TimeoutError):
        virtual_time.run(main())  # a jump waits for nobody


def test_a_thread_is_heard_in_virtual_time():
    """It wakes the loop up."""

    async def main():
        return await asyncio.to_thread(lambda: 42)

    assert virtual_time.run(main(), patience=1.0) == 42


def test_an_importing_test_run_hardly_notices():
    """The plugin is loaded in every test run of whoever has installed the package."""
    code = (
        "import pytest, time; began = time.perf_counter(); "
        "import realtalk_async.testing.plugin; print(time.perf_counter() - began)"
    )
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60)
        for _ in range(5)
    ]
    assert min(float(done.stdout) for done in runs) < 0.01


def test_the_plugin_loads_only_what_is_asked_for():
    """Whoever does not use it is not to wait for it."""
    code = (
        "import sys, realtalk_async; before = set(sys.modules); "
        "import realtalk_async.testing.plugin; "
        "print(*sorted(m for m in set(sys.modules) - before if 'realtalk' in m))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "realtalk_async.testing realtalk_async.testing.plugin\n"
