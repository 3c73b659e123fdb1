"""The hour that comes twice at the end of summer time, in lines without an offset."""

import os
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from realtalk_async.logs import entry as entry_module
from realtalk_async.logs import follow
from realtalk_async.logs.follow import LogFollower
from realtalk_async.logs.query import make_query, search
from realtalk_async.logs.times import repeated_hour
from realtalk_async.times import second_time

ZONES = {
    # The zone, and the moment at which its clocks go back.
    "Europe/Berlin": datetime(2026, 10, 25, 1, 0, tzinfo=UTC),
    "America/New_York": datetime(2026, 11, 1, 6, 0, tzinfo=UTC),
    "Australia/Lord_Howe": datetime(2026, 4, 4, 15, 0, tzinfo=UTC),  # by half an hour
}


@pytest.fixture(params=ZONES)
def change(request, monkeypatch):
    """Live in a zone; return the moment at which its clocks go back."""
    monkeypatch.setenv("TZ", request.param)
    _begin_zone()
    yield ZONES[request.param]
    monkeypatch.undo()
    _begin_zone()


def _begin_zone():
    time.tzset()
    entry_module.parse_timestamp.cache_clear()
    repeated_hour._hour_may_come_twice.cache_clear()


def write(path, moments, ended=None):
    """Write a line for each moment, in the default format."""
    lines = (
        f"[{one.astimezone():%Y-%m-%d %H:%M:%S}] [INFO] [c] x\n" for one in moments
    )
    path.write_text("".join(lines))
    written = (ended or moments[-1]).timestamp()
    os.utime(path, (written, written))


def found(path, **wanted):
    names = ("level", "component", "pattern", "n", "since", "until")
    query = make_query(*(wanted.get(name) for name in names))
    entries = search(path, query, threading.Event(), {})
    return [entry.timestamp for entry in entries]


def minutes(change, *numbers):
    return [change + timedelta(minutes=number) for number in numbers]


@pytest.mark.parametrize("component", [None, "c", "component"])
@pytest.mark.parametrize("after", [0, 1, 100])
def test_the_order_of_the_lines_tells_the_first_from_the_second(
    change, tmp_path, component, after
):
    """Also if the log ends in the hour, and if a filter selects some of the lines."""
    path = tmp_path / "app.log"
    moments = minutes(change, *range(-90, 29), *range(29, 29 + after))
    write(path, moments)
    expected = moments if component != "component" else []
    assert found(path, component=component) == expected
    for since in minutes(change, -50, -20, 0, 5, 20):
        later = [one for one in expected if one >= since]
        assert found(path, component=component, since=since) == later
        earlier = [one for one in expected if one < since]
        assert found(path, component=component, until=since) == earlier


@pytest.mark.parametrize(
    "numbers",
    [
        (-61, -59, -29, -20, -10, 60),  # silent after the first time
        (-90, 1, 10, 20, 29, 35),  # silent before the second time
        (1, 10, 29, 31),
        (-90, -61, -20, -1),
        (-20, 2, 5),
    ],
)
def test_lines_of_one_of_the_times_continue_what_is_beside_them(
    change, tmp_path, numbers
):
    path = tmp_path / "app.log"
    moments = minutes(change, *numbers)
    write(path, moments)
    assert found(path) == moments


def test_lines_of_now_are_in_the_second_time(change, tmp_path):
    """An app that was started in it; the file tells when its last line was written."""
    path = tmp_path / "app.log"
    moments = minutes(change, 3, 9, 20)
    write(path, moments)
    assert found(path) == moments
    write(path, [change - timedelta(minutes=one) for one in (25, 24, 23)])
    assert found(path) == [change - timedelta(minutes=one) for one in (25, 24, 23)]


def test_the_order_holds_across_rotated_files(change, tmp_path):
    path = tmp_path / "app.log"
    moments = minutes(change, *range(-90, 100, 2))
    write(path.with_name("app.log.2"), moments[:20])
    write(path.with_name("app.log.1"), moments[20:50])
    write(path, moments[50:])
    assert found(path) == moments
    since = change + timedelta(minutes=4)
    assert found(path, since=since) == [one for one in moments if one >= since]


@pytest.mark.usefixtures("change")
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    max_examples=50,
    deadline=None,
)
@given(numbers=st.lists(st.integers(0, 24), min_size=80, max_size=80))
def test_lines_a_few_seconds_out_of_order_change_nothing(change, tmp_path, numbers):
    """Those of several threads; the parts of a file that are read have any size."""
    path = tmp_path / "app.log"
    moments = minutes(change, *range(-70, 70))
    for number in numbers:
        moments.insert(number, moments[number] - timedelta(seconds=3))
    write(path, moments)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(repeated_hour, "PART", 100 + len(numbers))
        assert found(path) == moments


def test_a_time_with_its_offset_means_what_it_says(change, tmp_path):
    path = tmp_path / "app.log"
    moments = minutes(change, -10, 10)
    path.write_text(
        "".join(f"[{one.astimezone().isoformat()}] [INFO] [c] x\n" for one in moments)
        + f'{{"timestamp": "{moments[0].astimezone().isoformat()}", "level": "INFO", '
        '"component": "c", "message": "x"}\n'
    )
    assert found(path) == [*moments, moments[0]]


def test_new_lines_mean_the_time_at_which_they_are_written(
    change, tmp_path, monkeypatch
):
    path = tmp_path / "app.log"
    for number in (-10, 10):
        [moment] = minutes(change, number)
        path.write_text("")
        query = make_query(None, None, None, None, moment, None)
        follower = LogFollower(path, query, lambda _: None)
        monkeypatch.setattr(follow, "time", moment.timestamp)
        write(path, [moment])
        assert [one.timestamp for one in follower._growth.read()] == [moment]


def test_only_a_reading_that_comes_twice_has_a_second_time(change):
    first = change - timedelta(minutes=10)
    second = second_time(first.astimezone())
    assert second.replace(tzinfo=None) == first.astimezone().replace(tzinfo=None)
    assert timedelta(0) < second - first <= timedelta(hours=1)
    assert second_time(second) == second
    for number in (-61, 61, 1000):
        assert second_time((change + timedelta(minutes=number)).astimezone()) is None
