"""`explain` in every state, on real processes."""

import asyncio
import math

import pytest

from realtalk_async.exceptions import UnknownProcess
from realtalk_async.supervision import (
    Ladder,
    Probe,
    ProcessManager,
    RestartPolicy,
)
from realtalk_async.supervision.policy.probes import Health
from realtalk_async.supervision.reports.explanation import (
    Forecast,
    SupervisorContext,
    explain,
)
from realtalk_async.supervision.reports.status import ProcessStatus, State
from realtalk_async.testing import programs

LATER = RestartPolicy(first_delay=1000, max_delay=1000, jitter=False)


def forecast(state=State.RUNNING, **fields):
    status = ProcessStatus(
        "mic", 7, "dead", state, 1, None, None, 1.0, 0, 1, None, "a reason"
    )
    common = {"mode": "transient", "rule": "the rule", "failures_left": 2}
    none = {"last": None, "failed": None, "attempts": ()}
    return Forecast(status=status, **{**none, **common, **fields})


FLAKY = Health(Probe.call(print, failure_threshold=3)).record("no")

NEXT = {
    "a start that is due": (
        forecast(State.BACKOFF, due=1.234),
        SupervisorContext(),
        ["starts again in 1.23 s"],
    ),
    "an overdue start": (
        forecast(State.BACKOFF, due=-1.0),
        SupervisorContext(dependencies={"net": "starting, not yet"}),
        ["starts again now", "waits for its dependency 'net': starting, not yet"],
    ),
    "a device": (
        forecast(State.STARTING),
        SupervisorContext(holders={"hw:0": "'aux' (running)"}, device_wait=2.0),
        ["waits for the device 'hw:0' of 'aux' (running), for 2.0 s more"],
    ),
    "a probe that fails": (
        forecast(probes=((FLAKY, 0.5), (FLAKY, None))),
        SupervisorContext(devices=("hw:0",)),
        [
            "liveness probe print runs again in 0.50 s; it has failed 1 of 3 times: no",
            "holds the device 'hw:0' exclusively",
        ],
    ),
    "a step of the ladder": (
        forecast(
            State.STOPPING, step="SIGTERM", next_step="SIGKILL", next_step_in=0.75
        ),
        SupervisorContext(),
        ["SIGKILL follows in 0.75 s if SIGTERM does not end it"],
    ),
    "the last step": (
        forecast(State.STOPPING, step="SIGKILL"),
        SupervisorContext(),
        ["SIGKILL was the last step of its ladder"],
    ),
    "a critical process": (
        forecast(failures_left=1),
        SupervisorContext(critical=True, intensity="2 of 5"),
        ["is given up at its next failure; then all others are stopped", "2 of 5"],
    ),
    "a process that is never given up": (
        forecast(failures_left=math.inf),
        SupervisorContext(together=("a", "b")),
        ["is restarted together with 'a', 'b'", "is never given up"],
    ),
    "a process that is never restarted": (
        forecast(mode="temporary"),
        SupervisorContext(),
        ["if it fails, it stays dead, and the app continues without it"],
    ),
    "a dead process": (
        forecast(State.FATAL),
        SupervisorContext(),
        ["stays dead until it is started again"],
    ),
}


@pytest.mark.parametrize(("process", "context", "expected"), NEXT.values(), ids=NEXT)
def test_the_explanation_lists_what_follows_in_order(process, context, expected):
    explanation = explain(process, context)
    assert [line for line in explanation.next if line in expected] == expected
    text = str(explanation)
    assert text.startswith("mic: ")
    assert all(line in text for line in ["a reason", "the rule", *expected])
    assert explanation.to_dict()["next"] == list(explanation.next)


async def test_the_explanation_of_a_backoff_contains_the_failure_and_the_rule(manager):
    one = await manager.start("mic", programs.exits(3), restart=LATER)
    await one._lifecycle.until(lambda: one.state == "backoff")
    explanation = manager.explain("mic")
    assert explanation.why == "exit status 3 after 00:00:00"
    assert explanation.rule == (
        "transient: restarted after a failure; failure score 1.0 of 5, halved every 30 s"
    )
    due, left = explanation.next
    assert 0 < float(due.removeprefix("starts again in ").removesuffix(" s")) <= 1000
    assert left == (
        "is given up after 5 more immediate failures; then the app continues without it"
    )
    assert explanation.report.exit_status == 3
    assert explanation.attempts == ()
    assert "exit status 3" in str(explanation)
    assert explanation.to_dict(most_lines=0)["report"]["exit_status"] == 3
    await one.stop()
    assert manager.explain("mic").why == "stopped while waiting for its restart"


async def test_the_explanation_names_the_dependency_or_device_that_is_awaited(manager):
    never = Probe.line("never")
    tasks = [
        asyncio.ensure_future(manager.start("net", programs.runs(), probes=[never])),
        asyncio.ensure_future(
            manager.start("app", programs.runs(), depends_on=["net"])
        ),
    ]
    await asyncio.sleep(0)
    await manager.start("one", programs.runs(), devices=["hw:0"])
    tasks.append(
        asyncio.ensure_future(manager.start("two", programs.runs(), devices=["hw:0"]))
    )
    while "two" not in manager.processes or "device" not in str(manager.explain("two")):
        await asyncio.sleep(0)
    assert "waits for its dependency 'net': starting, starting" in (
        manager.explain("app").next
    )
    assert manager.explain("app").why == "waiting for its dependencies"
    waiting = manager.explain("two").next[0]
    assert waiting.startswith("waits for the device 'hw:0' of 'one' (running, pid ")
    assert "holds the device 'hw:0' exclusively" in manager.explain("one").next
    assert "nothing has failed so far" in str(manager.explain("one"))
    for name in ("net", "app", "two"):
        await manager.stop(name)
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_the_explanation_of_a_stop_names_the_next_step_and_its_time(manager):
    ladder = Ladder((15, 20.0), (9, 1.0))
    one = await manager.start("one", programs.ignores_sigterm(), ladder=ladder)
    await one.wait_for_line("ready")
    stopping = asyncio.ensure_future(one.stop())
    while not (explanation := manager.explain("one").next)[0].startswith("SIGKILL"):
        await asyncio.sleep(0)
    assert explanation[0].endswith(" s if SIGTERM does not end it")
    await one.kill()
    await stopping
    assert manager.explain("one").next == ("stays dead until it is started again",)


async def test_a_closed_manager_still_explains_why_a_task_was_given_up(logger):
    async with ProcessManager(
        logger, strategy="one_for_all", max_restarts=9
    ) as manager:
        never = RestartPolicy(max_failures=0)
        await manager.start_task("task", fails, restart=never)
        await manager.tasks["task"].wait_until_settled()
        await manager.start("one", programs.runs())
        assert "all processes together had 0 of 9 restarts allowed in 60 s" in (
            manager.explain("one").next
        )
        with pytest.raises(UnknownProcess):
            manager.explain("unknown")
    explanation = manager.explain("task")
    assert explanation.why.startswith(
        "ZeroDivisionError: division by zero; failure score 1.0"
    )
    assert explanation.next == ("stays dead until it is started again",)
    assert "ZeroDivisionError" in str(explanation.report)
    assert manager.explain("one").status.state == "exited"


async def fails():
    return 1 / 0


async def test_explanation_has_the_details_of_the_app(manager):
    await manager.start("mic", ("sleep", "60"))
    manager.set_details("mic", lambda: ["level: -20 dBFS", "too loud"])
    explanation = manager.explain("mic")
    assert "  details   level: -20 dBFS\n  details   too loud\n" in str(explanation)
    assert explanation.to_dict()["details"] == ["level: -20 dBFS", "too loud"]
    manager.set_details("mic", lambda: 1 / 0)
    assert "ZeroDivisionError" in str(manager.explain("mic"))
