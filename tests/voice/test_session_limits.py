"""Sessions that end by a bound of the app, with the offline peer."""

import pytest

from realtalk_async.exceptions import ClosedStream
from realtalk_async.logs import Logger
from realtalk_async.offline import Peer
from realtalk_async.voice import LimitReached, SessionLimits, Stream
from realtalk_async.voice.timeline import svg

SPEAKER = ["sh", "-c", "exec cat >/dev/null"]


@pytest.fixture
async def peer():
    async with Peer(pace=0) as peer:
        yield peer


def make(peer, tmp_path, limits, **options):
    options = {"microphone": None, "speaker": None, **options}
    logger = Logger(tmp_path / "app.log")
    return Stream(logger=logger, url=peer.url, limits=limits, **options)


async def test_a_session_ends_by_its_tokens_after_the_response(peer, tmp_path):
    """The last response is heard; the end is no failure, and everything tells the cause."""
    stream = make(peer, tmp_path, SessionLimits(tokens=60), speaker=SPEAKER)
    outcomes = []
    with pytest.raises(ClosedStream, match="the limit of 60 tokens"):
        async with stream:
            while True:
                request = stream.send_text("What is 2 plus 3?", trigger_response=True)
                outcomes.append(await request)
    summary = stream.summary()
    used = stream.metrics().usage
    assert used.total >= 60 > used.total - outcomes[-1].usage.total
    assert used == sum((o.usage for o in outcomes[1:]), outcomes[0].usage)
    assert used.output_audio > 0
    assert used.cached > 0
    assert summary.ended_by == f"the limit of 60 tokens ({used.total} used)"
    assert f"usage: {used}" in str(summary)
    assert summary.to_dict()["usage"]["total"] == used.total
    assert stream.metrics().to_dict()["usage"]["total"] == used.total
    assert stream._session.playback.queued == 0
    kinds = [mark.kind for mark in summary.timeline]
    assert kinds.count("usage") == len(outcomes)
    assert kinds.count("limit") == 1
    assert "tokens" in svg.render(summary.timeline)
    log = (tmp_path / "app.log").read_text()
    assert "[ERROR]" not in log
    assert "[WARNING]" not in log


@pytest.mark.parametrize(
    ("limits", "cause"),
    [
        (SessionLimits(minutes=0.01), "the limit of 0.01 minutes"),
        (SessionLimits(idle_minutes=0.01), "the limit of 0.01 idle minutes"),
    ],
)
async def test_a_session_ends_by_its_time(limits, cause, peer, tmp_path):
    stream = make(peer, tmp_path, limits)
    seen = []
    stream.subscribe(seen.append, LimitReached)
    summary = await stream.start_streaming()
    assert summary.ended_by == cause
    assert [str(event) for event in seen] == [cause]
