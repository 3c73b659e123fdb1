from graphlib import CycleError
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtalk_async.cli.config.spec import (
    AppSpec,
    ProcessSpec,
    start_order,
    with_colours,
)
from realtalk_async.supervision import Command

NAMES = st.sampled_from("abcdefgh")


@given(st.dictionaries(NAMES, st.lists(NAMES, max_size=3)))
def test_each_name_starts_after_the_names_that_it_needs(needs):
    try:
        groups = start_order(needs)
    except CycleError as exc:
        circle = exc.args[1]
        assert all(a in needs[b] for a, b in pairwise(circle))
        return
    started: set[str] = set()
    for group in groups:
        for name in group:
            assert {one for one in needs[name] if one in needs} <= started
        started |= set(group)
    assert started == set(needs)


@pytest.mark.parametrize(
    ("own", "options", "environment", "is_terminal", "is_forced"),
    [
        ({}, {}, {}, True, True),
        ({}, {}, {"CLICOLOR": "1", "TERM": "xterm", "NO_COLOR": ""}, True, True),
        ({}, {}, {}, False, False),
        ({}, {}, {"TERM": "dumb"}, True, False),
        ({}, {}, {"NO_COLOR": "1"}, True, False),
        ({}, {}, {"FORCE_COLOR": "3"}, True, False),
        ({}, {}, {"CLICOLOR": "0"}, True, False),
        ({"NO_COLOR": "1"}, {}, {}, True, False),
        ({"FORCE_COLOR": None}, {}, {}, True, False),
        ({}, {"tty": True}, {}, True, False),
    ],
)
def test_colours_are_forced_where_a_person_looks_and_has_not_decided(
    own, options, environment, is_terminal, is_forced
):
    one = ProcessSpec("one", Command("ls", env=own, **options))
    spec = AppSpec("Procfile", (one,))
    told = with_colours(spec, environment, is_terminal=is_terminal).processes[0].command
    forced = {"FORCE_COLOR": "1", "CLICOLOR_FORCE": "1"} if is_forced else {}
    assert told.env == {**own, **forced}
    assert one.command.env == own
