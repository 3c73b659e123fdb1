"""Which of several endpoints the next connection gets."""

import pytest

from realtalk_async.exceptions import (
    AuthenticationRefused,
    InvalidConfiguration,
    MissingApiKey,
    ServiceRefused,
    ServiceUnreachable,
)
from realtalk_async.voice.dialing.endpoint_list import (
    REST,
    EndpointList,
    check_urls,
    find_endpoints,
)

AWAY = ServiceUnreachable("away")
REFUSED = ServiceRefused("insufficient_quota", "no")


def three():
    urls = [f"ws://127.0.0.1:{port}/v1" for port in (1, 2, 3)]
    return find_endpoints(urls, None, "m", {})


def choose(endpoints, now=0.0):
    endpoints.choose(now)
    return endpoints.index


def test_the_first_is_preferred():
    assert choose(three()) == 0


def test_one_that_cannot_be_reached_rests_and_is_preferred_again():
    endpoints = three()
    choose(endpoints)
    assert endpoints.failed(AWAY, 0.0, worked=False)
    assert choose(endpoints, 1.0) == 1
    assert choose(endpoints, REST - 1) == 1
    assert choose(endpoints, REST) == 0


def test_a_connection_that_worked_and_breaks_is_dialled_again():
    endpoints = three()
    choose(endpoints)
    assert not endpoints.failed(AWAY, 5.0, worked=True)
    assert choose(endpoints, 5.0) == 0


@pytest.mark.parametrize("error", [REFUSED, AuthenticationRefused("no")])
def test_one_that_refuses_is_left_for_good_until_the_app_reconnects(error):
    endpoints = three()
    choose(endpoints)
    assert endpoints.failed(error, 0.0, worked=True)
    assert choose(endpoints, 10 * REST) == 1
    endpoints.forget_failures()
    assert choose(endpoints) == 0


def test_the_last_one_that_refuses_ends_the_session():
    endpoints = three()
    for expected in (True, True, False):
        choose(endpoints)
        assert endpoints.has_other == expected
        assert endpoints.failed(REFUSED, 0.0, worked=False) == expected


def test_if_all_rest_the_one_that_rested_longest_is_dialled_after_a_delay():
    endpoints = three()
    for now, expected in ((0.0, True), (1.0, True), (2.0, False)):
        choose(endpoints, now)
        assert endpoints.failed(AWAY, now, worked=False) == expected
    assert choose(endpoints, 3.0) == 0


def test_a_refusal_dials_even_one_that_rests():
    endpoints = find_endpoints(["ws://a/v1", "ws://b/v1"], None, "m", {})
    choose(endpoints)
    endpoints.failed(AWAY, 0.0, worked=False)
    choose(endpoints, 1.0)
    assert endpoints.failed(REFUSED, 1.0, worked=False)
    assert choose(endpoints, 2.0) == 0


def test_one_address_behaves_as_before():
    for url in ("ws://a/v1", None):
        endpoints = find_endpoints(url, "k", "m", {})
        choose(endpoints)
        assert not endpoints.failed(AWAY, 0.0, worked=False)
        assert not endpoints.failed(REFUSED, 0.0, worked=False)
        assert choose(endpoints) == 0


def test_the_key_goes_to_the_host_of_the_first_address_only():
    first = "wss://api.openai.com/v1/realtime"
    urls = [first, f"{first}?model=other", "ws://10.0.0.5/v1", "wss://r.azure.com/v1"]
    endpoints = find_endpoints(urls, "sk-1", "m", {"AZURE_OPENAI_API_KEY": "az"})
    headers = [dict(each.headers) for each in endpoints._endpoints]
    key = {"Authorization": "Bearer sk-1"}
    assert headers == [key, key, {}, {"api-key": "az"}]
    assert [each.model for each in endpoints._endpoints] == ["m", "other", "m", "m"]
    assert "sk-1" not in str(endpoints.current)
    with pytest.raises(MissingApiKey, match=r"r\.azure\.com"):
        find_endpoints(urls, "sk-1", "m", {})


def test_an_address_is_shown_without_user_and_password():
    (endpoint,) = find_endpoints(["ws://u:p@h:1/v1?model=x"], None, "m", {})._endpoints
    assert str(endpoint) == "ws://h:1/v1 (x)"


@pytest.mark.parametrize(
    "url", [[], [None], ["http://a"], ["ws://a", ""], 5, {"ws://a"}]
)
def test_addresses_that_make_no_sense_are_refused(url):
    with pytest.raises(InvalidConfiguration, match="url"):
        check_urls(url)


def test_a_tuple_is_as_good_as_a_list():
    check_urls(("ws://a", "wss://b/c"))
    assert isinstance(find_endpoints(("ws://a",), None, "m", {}), EndpointList)
