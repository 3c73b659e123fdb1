from hypothesis import given
from hypothesis import strategies as st

from realtalk_async.cli.top.rows import ORDERS, AppState, Usage
from realtalk_async.control.handlers import Differ


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from("abc"),
            st.fixed_dictionaries(
                {"state": st.sampled_from("xy"), "bytes": st.integers()}
            ),
        )
    )
)
def test_all_changes_together_give_the_whole_state(items):
    differ, state = Differ(), AppState()
    for now, rows in enumerate(items, 1):
        state.update(differ.compare(rows), float(now))
        known = {n: {"state": r.state, "bytes": r.bytes} for n, r in state.rows.items()}
        assert known == rows


def item(**rows):
    return {"status": "running", "degraded": {}, "gone": [], "changed": rows}


def test_rates_are_differences_over_time():
    state = AppState()
    state.update(item(a={"bytes": 1000}), 10.0)
    assert state.rows["a"].rate == 0
    state.update(item(a={"bytes": 3000}), 12.0)
    assert state.rows["a"].rate == 1000
    state.update(item(), 13.0)
    assert state.rows["a"].rate == 0


def test_the_cpu_of_a_new_incarnation_starts_at_zero():
    state = AppState()
    state.update(item(a={"pid": 7, "uptime": None}), 1.0)
    state.update_usage({7: Usage(5.0, 100)}, 1.0)
    state.update_usage({7: Usage(5.5, 100)}, 2.0)
    assert (state.rows["a"].cpu, state.rows["a"].memory) == (50.0, 100)
    state.update(item(a={"pid": 8}), 3.0)
    state.update_usage({8: Usage(9.0, 50)}, 3.0)
    assert state.rows["a"].cpu == 0
    state.update(item(a={"uptime": 3.0}), 4.0)
    state.update_usage({8: Usage(9.5, 50)}, 4.0)
    assert state.rows["a"].cpu is None


def test_every_order_has_all_rows():
    state = AppState()
    state.update(item(b={"bytes": 0}, a={"bytes": 0}), 1.0)
    state.update(item(a={"bytes": 9}), 2.0)
    orders = {order: [row.name for row in state.ordered(order)] for order in ORDERS}
    assert orders["start"] == ["b", "a"]
    assert orders["name"] == orders["output"] == ["a", "b"]
    assert all(sorted(names) == ["a", "b"] for names in orders.values())


def test_an_uptime_is_of_the_monotonic_clock():
    """The wall clock may be set, and goes on while the machine sleeps."""
    state = AppState()
    state.update(item(a={"began": 100.0, "uptime": None}, b={"uptime": 3.0}), 130.0)
    assert [state.rows[name].seconds(160.0) for name in "ab"] == [60.0, 3.0]
    assert state.rows["a"].seconds(99.9) == 0.0
