from __future__ import annotations

import pytest

from realtalk_async.exceptions import InvalidConfiguration
from realtalk_async.offline.faults.kinds import (
    AUDIO_DELTA,
    CLOSE_CODES,
    FAULT_KINDS,
    Fault,
    describe_faults,
)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("drop", Fault("drop", "", AUDIO_DELTA, 1)),
        ("drop:5", Fault("drop", "", AUDIO_DELTA, 5)),
        ("close-1001:2", Fault("close", "1001", AUDIO_DELTA, 2)),
        ("stall@session.created", Fault("stall", "", "session.created", 1)),
        ("late-1.5@response.done:3", Fault("late", "1.5", "response.done", 3)),
        (
            "error-rate_limit_exceeded@*:9",
            Fault("error", "rate_limit_exceeded", "*", 9),
        ),
        ("missing", Fault("missing", "", "response.done", 1)),
    ],
)
def test_a_fault_is_parsed_from_its_text(text, fault):
    assert Fault.parse(text) == fault


@pytest.mark.parametrize(
    "text",
    [
        "",
        "explode",
        "drop:0",
        "drop:x",
        "close-99",
        "close-soon",
        "late-x",
        "refuse-200",
        "close-1006",
        "missing@now",
        "drop@now:2",
    ],
)
def test_an_invalid_fault_is_refused(text):
    with pytest.raises(InvalidConfiguration):
        Fault.parse(text)


def test_every_kind_and_close_code_is_listed():
    listing = describe_faults()
    assert all(f"\n{kind.syntax}" in listing for kind in FAULT_KINDS.values())
    assert all(kind.syntax.startswith(name) for name, kind in FAULT_KINDS.items())
    assert all(f"{code} (closes with" in listing for code in CLOSE_CODES)
    assert max(map(len, listing.splitlines())) <= 88


def test_defaults_of_a_kind_are_valid():
    for name, kind in FAULT_KINDS.items():
        assert Fault.parse(name) == Fault(name, kind.argument, kind.event)
