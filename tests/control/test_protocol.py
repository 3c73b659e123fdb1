import contextlib

from hypothesis import given
from hypothesis import strategies as st

from realtalk_async import InvalidConfiguration
from realtalk_async.control import (
    Request,
    protocol,
)

TIMEOUT = 120
TEXTS = st.text(max_size=8)


@given(
    st.builds(
        Request,
        st.sampled_from(protocol.METHODS),
        TEXTS,
        st.none() | st.integers(0, protocol.MAX_LINES),
        st.booleans(),
        st.none() | TEXTS,
        st.none() | TEXTS,
        st.none() | TEXTS,
    )
)
def test_a_request_is_decoded_as_it_was_encoded(question):
    line = question.encode()
    assert line.count(b"\n") == 1
    assert Request.decode(line) == question


@given(st.binary())
def test_any_bytes_are_a_request_or_invalid(data):
    with contextlib.suppress(InvalidConfiguration):
        Request.decode(data)


@given(st.binary())
def test_any_bytes_are_a_line_of_a_response_or_a_failure(data):
    assert isinstance(
        protocol.decode_line(data), protocol.Item | protocol.Failure | protocol.End
    )


def test_an_item_that_is_too_long_becomes_a_failure():
    found = protocol.decode_line(protocol.encode_item("x" * protocol.MAX_RESPONSE_LINE))
    assert isinstance(found, protocol.Failure)
    assert "ask for less" in found.error
