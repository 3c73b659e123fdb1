import pytest

from realtalk_async import InvalidConfiguration
from realtalk_async.offline.scripting.latency import Latency, check_latency


def arrivals(**options):
    latency = Latency(**options)
    return [latency.arrival(now / 100) for now in range(200)]


def test_without_latency_an_event_arrives_at_once():
    assert Latency(0, 0, seed=1).arrival(5.0) == 5.0


def test_events_arrive_within_the_jitter_and_in_their_order():
    found = arrivals(mean=0.2, jitter=0.1, seed=1)
    delays = [at - now / 100 for now, at in enumerate(found)]
    assert found == sorted(found)
    assert 0.1 <= min(delays) < max(delays) <= 0.3
    assert max(delays) - min(delays) > 0.05


def test_the_same_seed_gives_the_same_delays():
    options = {"mean": 0.2, "jitter": 0.1}
    assert arrivals(**options, seed=1) == arrivals(**options, seed=1)
    assert arrivals(**options, seed=1) != arrivals(**options, seed=2)


@pytest.mark.parametrize(
    "latency", [-1, "1", None, (1,), (1, 2), (0.1, -0.1), (1, 0, 0), True, float("inf")]
)
def test_an_invalid_latency_is_refused(latency):
    with pytest.raises(InvalidConfiguration, match="latency must be"):
        check_latency(latency, 0)
