"""Whether an app is well is decided from what its loop told, and how late it is."""

import dataclasses

import pytest

from realtalk_async.ops.health import Facts, liveness, readiness
from realtalk_async.ops.systemd import describe
from realtalk_async.supervision import Cause, ProcessStatus, State


def status(state, cause=None):
    """Return a status in which nothing else matters."""
    why = "killed by SIGKILL"
    none = (None, None)
    return ProcessStatus("mic", 1, "dead", state, 1, *none, 1.0, 0, None, cause, why)


def facts(state=State.RUNNING, cause=None, **changes):
    """Return facts with one critical process."""
    one = Facts("running", False, {"mic": status(state, cause)}, {})
    return dataclasses.replace(one, **changes)


@pytest.mark.parametrize(
    ("known", "alive", "ready"),
    [
        (facts(), "", ""),
        (facts(State.STARTING), "", "'mic' is starting"),
        (facts(State.BACKOFF), "", "'mic' is backoff: killed by SIGKILL"),
        (facts(State.STOPPING), "", "'mic' is stopping"),
        (facts(State.EXITED, Cause.FINISHED), "", ""),
        (facts(State.EXITED, Cause.STOPPED), "", "'mic' is exited"),
        (facts(State.FATAL), "'mic' is lost: killed", "'mic' is lost: killed"),
        (facts(status="failed"), "the manager has failed", "the manager has failed"),
        (facts(status="closed"), "the manager has closed", "the manager has closed"),
        (facts(status="new"), "", "the manager has not been entered"),
        (facts(status="degraded"), "", ""),
        (facts(closing=True), "", "the manager is closing"),
        (facts(session_ready=False), "", "the voice session is not ready"),
        (facts(session_ready=True), "", ""),
        (None, "has not answered", "has not answered"),
    ],
    ids=str,
)
def test_the_verdict_says_why_not(known, alive, ready):
    """One reason where one thing is wrong; none where all is well."""
    for judge, expected in ((liveness, alive), (readiness, ready)):
        verdict = judge(known, 0.0, 1.0)
        assert verdict.good is (not expected)
        if expected:
            (reason,) = verdict.reasons
            assert expected in reason
        assert verdict.to_dict()["ok"] is verdict.good


@pytest.mark.parametrize("judge", [liveness, readiness])
def test_a_loop_that_is_too_late_is_neither_alive_nor_ready(judge):
    """With how late it is."""
    assert judge(facts(), 0.99, 1.0).good
    verdict = judge(facts(), 1.5, 1.0)
    assert verdict.reasons == ("the event loop hangs: 1.500 s late, 1 s allowed",)
    assert verdict.to_dict()["loop"] == {"overdue": 1.5, "bound": 1.0}


def test_a_status_line_names_who_does_not_run_but_not_everybody():
    """A line stays a line."""
    states = {f"p{n}": State.BACKOFF for n in range(7)} | {"mic": State.RUNNING}
    assert describe("degraded", states) == (
        "degraded: 1 of 8 run; p0 (backoff), p1 (backoff), p2 (backoff), p3 (backoff), "
        "p4 (backoff) and 2 more"
    )
    assert describe("running", {"mic": State.RUNNING}) == "running: 1 of 1 run"
