"""Health checks decide from the status of the app and the lateness of its event loop."""

import dataclasses

import pytest

from realtalk_async.ops.health import AppStatus, check_liveness, check_readiness
from realtalk_async.supervision import Cause, ProcessStatus, State


def status(state, cause=None):
    why = "killed by SIGKILL"
    none = (None, None)
    return ProcessStatus("mic", 1, "dead", state, 1, *none, 1.0, 0, None, cause, why)


def app(state=State.RUNNING, cause=None, **changes):
    one = AppStatus("running", False, {"mic": status(state, cause)}, {})
    return dataclasses.replace(one, **changes)


@pytest.mark.parametrize(
    ("known", "alive", "ready"),
    [
        (app(), "", ""),
        (app(State.STARTING), "", "'mic' is starting"),
        (app(State.BACKOFF), "", "'mic' is backoff: killed by SIGKILL"),
        (app(State.STOPPING), "", "'mic' is stopping"),
        (app(State.EXITED, Cause.FINISHED), "", ""),
        (app(State.EXITED, Cause.STOPPED), "", "'mic' is exited"),
        (app(State.FATAL), "'mic' is lost: killed", "'mic' is lost: killed"),
        (app(status="failed"), "the manager has failed", "the manager has failed"),
        (app(status="closed"), "the manager has closed", "the manager has closed"),
        (app(status="new"), "", "the manager has not been entered"),
        (app(status="degraded"), "", ""),
        (app(closing=True), "", "the manager is closing"),
        (app(session_ready=False), "", "the voice session is not ready"),
        (app(session_ready=True), "", ""),
        (None, "has not answered", "has not answered"),
    ],
    ids=str,
)
def test_a_report_has_one_reason_for_each_problem(known, alive, ready):
    for check, expected in ((check_liveness, alive), (check_readiness, ready)):
        report = check(known, 0.0, 1.0)
        assert report.ok is (not expected)
        if expected:
            (reason,) = report.reasons
            assert expected in reason
        assert report.to_dict()["ok"] is report.ok


@pytest.mark.parametrize("check", [check_liveness, check_readiness])
def test_a_loop_that_is_too_late_is_neither_alive_nor_ready(check):
    assert check(app(), 0.99, 1.0).ok
    report = check(app(), 1.5, 1.0)
    assert report.reasons == ("the event loop hangs: 1.500 s late, 1 s allowed",)
    assert report.to_dict()["loop"] == {"overdue": 1.5, "max_lag": 1.0}
