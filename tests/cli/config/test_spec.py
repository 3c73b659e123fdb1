from graphlib import CycleError
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from realtalk_async.cli.config.spec import start_order

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
