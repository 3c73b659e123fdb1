"""Restart decisions: numbers in, numbers out."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtalk_async.events import Cause
from realtalk_async.exceptions import InvalidConfiguration
from realtalk_async.supervision.policy.restart import (
    PERMANENT,
    TEMPORARY,
    TRANSIENT,
    FailureScore,
    GiveUp,
    Restart,
    RestartDecider,
    RestartPolicy,
    StayDown,
    classify,
)

KINDS = {
    # kind of exit: exit status, stopped, escalated, unhealthy, cause
    "clean exit": (0, False, False, False, Cause.FINISHED),
    "failure": (1, False, False, False, Cause.FAILED),
    "signal": (-9, False, False, False, Cause.SIGNALLED),
    "stopped": (-15, True, False, False, Cause.STOPPED),
    "stopped, cleaned up": (0, True, False, False, Cause.STOPPED),
    "escalated": (-9, True, True, False, Cause.ESCALATED),
    "unhealthy": (-15, True, False, True, Cause.UNHEALTHY),
    "unhealthy, killed": (-9, True, True, True, Cause.UNHEALTHY),
    "spawn refused": (None, False, False, False, Cause.SPAWN_FAILED),
    "reaped by another": ("unknown", False, False, False, Cause.UNKNOWN),
}
DECISIONS = {
    #                      temporary  transient  permanent
    "clean exit": (StayDown, StayDown, Restart),
    "failure": (GiveUp, Restart, Restart),
    "signal": (GiveUp, Restart, Restart),
    "stopped": (StayDown, StayDown, StayDown),
    "stopped, cleaned up": (StayDown, StayDown, StayDown),
    "escalated": (StayDown, StayDown, StayDown),
    "unhealthy": (GiveUp, Restart, Restart),
    "unhealthy, killed": (GiveUp, Restart, Restart),
    "spawn refused": (GiveUp, Restart, Restart),
    "reaped by another": (GiveUp, Restart, Restart),
}
TABLE = [
    (policy, kind, DECISIONS[kind][column])
    for column, policy in enumerate((TEMPORARY, TRANSIENT, PERMANENT))
    for kind in KINDS
]


@pytest.mark.parametrize(
    ("policy", "kind", "expected_type"),
    TABLE,
    ids=[f"{policy.mode}: {kind}" for policy, kind, _ in TABLE],
)
def test_every_policy_decides_on_every_kind_of_exit(policy, kind, expected_type):
    """Scenario 20: the whole table."""
    status, stopped, escalated, unhealthy, expected = KINDS[kind]
    cause = classify(
        status, policy, stopped=stopped, escalated=escalated, unhealthy=unhealthy
    )
    assert cause == expected
    decision = RestartDecider(policy).decide(cause, status, now=0.0, share=0.5)
    assert type(decision) is expected_type
    if isinstance(decision, GiveUp):
        assert decision.allowed is False, "the policy itself says never"


def test_the_delays_are_exactly_those_of_the_policy():
    """Scenario 12: a process that dies at once, for ever; its score hardly decays."""
    policy = RestartPolicy(
        max_failures=5, first_delay=0.1, max_delay=0.5, jitter=False, decay=1e9
    )
    decider = RestartDecider(policy)
    delays = []
    while isinstance(
        decision := decider.decide(Cause.FAILED, 1, float(len(delays)), 0.9), Restart
    ):
        delays.append(decision.delay)
    assert delays == pytest.approx([0.1, 0.2, 0.4, 0.5, 0.5], rel=1e-6)
    assert isinstance(decision, GiveUp)
    assert decision.allowed
    how = "exit status 1, 6 times in a row; failure score 6.0 exceeds 5"
    assert how in decision.reason
    assert "raise max_failures" in decision.reason


def test_one_crash_an_hour_is_never_given_up():
    """Scenario 13: for ten years."""
    decider = RestartDecider(RestartPolicy(max_failures=1.5))
    for hour in range(24 * 365 * 10):
        decision = decider.decide(Cause.SIGNALLED, -11, hour * 3600.0, 0.0)
        assert isinstance(decision, Restart)
    assert decider.score.failures == pytest.approx(1.0)


@given(
    st.lists(st.floats(0, 1000), min_size=1, max_size=30),
    st.floats(0, 10),
    st.floats(0.1, 100),
)
def test_it_gives_up_exactly_when_counting_by_hand_says_so(pauses, most, decay):
    """The weight of a failure halves every *decay* seconds."""
    decider = RestartDecider(RestartPolicy(max_failures=most, decay=decay))
    times, now = [], 0.0
    for pause in pauses:
        now += pause
        times.append(now)
        weight = sum(0.5 ** ((now - then) / decay) for then in times)
        decision = decider.decide(Cause.FAILED, 1, now, 0.0)
        if math.isclose(weight, most, rel_tol=1e-6):
            return
        assert isinstance(decision, GiveUp) == (weight > most)


@given(
    st.floats(0, 1e6),
    st.floats(0, 1, exclude_max=True),
    st.floats(0, 100),
    st.floats(0, 100),
    st.booleans(),
)
def test_delays_are_within_their_bounds_and_not_random_without_jitter(
    failures, share, first, most, jitter
):
    first = min(first, most)
    policy = RestartPolicy(first_delay=first, max_delay=most, jitter=jitter)
    delay = policy.delay(failures, share)
    assert 0 <= delay <= most
    assert delay <= first * 2 ** min(max(failures - 1, 0), 64)
    if not jitter:
        assert delay == policy.delay(failures, 0.0)


def test_full_jitter_gives_delays_from_0_to_the_backoff():
    """So that twenty children that died together do not restart together."""
    policy = RestartPolicy(first_delay=1.0)
    assert [policy.delay(1, share) for share in (0.0, 0.25, 0.5)] == [0.0, 0.25, 0.5]


def test_success_and_fatal_statuses_are_those_of_the_policy():
    """As systemd's SuccessExitStatus and RestartPreventExitStatus."""
    policy = RestartPolicy(
        success_statuses=frozenset({0, 3, -15}), fatal_statuses=frozenset({78})
    )
    for status, cause in ((3, Cause.FINISHED), (-15, Cause.FINISHED), (1, "failed")):
        found = classify(
            status, policy, stopped=False, escalated=False, unhealthy=False
        )
        assert found == cause
    decision = RestartDecider(policy).decide(Cause.FAILED, 78, 0.0, 0.0)
    assert isinstance(decision, GiveUp)
    assert "lists as fatal" in decision.reason


def test_a_permanent_process_that_always_exits_with_0_backs_off():
    decider = RestartDecider(RestartPolicy("permanent", max_failures=2))
    verdicts = [decider.decide(Cause.FINISHED, 0, 0.0, 0.0) for _ in range(3)]
    assert [type(decision) for decision in verdicts] == [Restart, Restart, GiveUp]


def test_a_limit_of_0_gives_up_at_the_first_failure():
    decision = RestartDecider(RestartPolicy(max_failures=0)).decide(
        Cause.FAILED, 1, 0.0, 0.0
    )
    assert isinstance(decision, GiveUp)


def test_a_reset_restores_the_score_and_the_first_delay():
    decider = RestartDecider(
        RestartPolicy(jitter=False, first_delay=1.0, max_failures=2)
    )
    decider.decide(Cause.FAILED, 1, 0.0, 0.0)
    decider.decide(Cause.FAILED, 1, 0.0, 0.0)
    decider.reset()
    decision = decider.decide(Cause.FAILED, 1, 0.0, 0.0)
    assert isinstance(decision, Restart)
    assert decision.delay == 1.0


def test_decisions_tolerate_a_clock_that_stands_still_or_goes_back():
    assert FailureScore(1.0, 10.0).fail(5.0, 30.0) == FailureScore(2.0, 5.0)


@pytest.mark.parametrize(
    ("cause", "status", "said"),
    [
        (Cause.FAILED, 7, "exit status 7"),
        (Cause.SIGNALLED, -11, "killed by SIGSEGV"),
        (Cause.UNHEALTHY, -15, "unhealthy"),
        (Cause.SPAWN_FAILED, None, "spawn failed"),
        (Cause.UNKNOWN, "unknown", "other code reaped the process"),
    ],
)
def test_the_text_of_a_decision_has_the_exit_and_the_next_step(cause, status, said):
    policy = RestartPolicy(jitter=False, first_delay=0.25)
    decision = RestartDecider(policy).decide(cause, status, 0.0, 0.0)
    assert said in decision.reason
    # The delay is a field of its own: whoever tells the reason tells the delay beside it.
    assert decision.reason.endswith("; failure score 1.0 of 5")


def test_a_reason_that_repeats_is_counted_and_shortened():
    decider = RestartDecider(RestartPolicy(jitter=False, max_failures=2))
    how = "ConnectionRefusedError: " + "x" * 100
    said = [
        decider.decide(Cause.FAILED, None, 0.0, 0.0, how=how).reason for _ in range(2)
    ]
    assert said[0] == f"{how}; failure score 1.0 of 2"
    assert said[1].startswith(f"{how[:60]} …, 2 times in a row; failure score 2.0 of 2")
    given_up = decider.decide(Cause.FAILED, None, 0.0, 0.0, how=how)
    assert given_up.reason.startswith(f"{how}, 3 times in a row; failure score 3.0")


def test_another_end_begins_a_new_count():
    decider = RestartDecider(RestartPolicy(jitter=False, max_failures=9))
    said = [
        decider.decide(Cause.FAILED, status, 0.0, 0.0).reason for status in (1, 1, 2, 1)
    ]
    assert [one.partition(";")[0] for one in said] == [
        "exit status 1",
        "exit status 1, 2 times in a row",
        "exit status 2",
        "exit status 1",
    ]
    decider.reset()
    assert "in a row" not in decider.decide(Cause.FAILED, 1, 0.0, 0.0).reason


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"mode": "sometimes"}, "mode must be"),
        ({"max_failures": -1}, "max_failures must be a number, 0 or more"),
        ({"first_delay": -0.1}, "first_delay"),
        ({"max_delay": float("nan")}, "max_delay"),
        ({"decay": 0}, "decay must be a number of seconds greater than 0"),
    ],
)
def test_an_invalid_policy_is_refused_with_the_argument(arguments, said):
    with pytest.raises(InvalidConfiguration, match=said):
        RestartPolicy(**arguments)
