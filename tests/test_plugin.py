"""The pytest plugin, in test runs of its own: both async plugins, both modes, xdist."""

import subprocess
import sys

import pytest

from realtalk_async.testing import leaks
from realtalk_async.testing.children import ScriptedChildren

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
