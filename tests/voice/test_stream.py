"""Whole sessions: the offline peer, real recorders and players, real signals."""

import array
import asyncio
import io
import json
import os
import signal
import subprocess
import sys
import time
import wave

import anyio
import pytest

from realtalk_async.events import RestartScheduled
from realtalk_async.exceptions import (
    AudioUnavailable,
    AuthenticationRefused,
    ClosedStream,
    CriticalProcessFailed,
    InvalidConfiguration,
    MissingApiKey,
    ServiceRefused,
    ServiceUnreachable,
    UnknownProcess,
    WaitExpired,
)
from realtalk_async.logs import Logger
from realtalk_async.offline import Peer, render
from realtalk_async.supervision import ProcessManager
from realtalk_async.voice import Status, Stream, events
from realtalk_async.voice import connection as link
from realtalk_async.voice.audio import wav
from realtalk_async.voice.timeline import svg

SHORT = 240
"""Seconds: the machine may be busy; none of these tests waits for a clock of its own."""

QUESTION = "What is two plus three?"
ANSWER = "Two plus three is five."


@pytest.fixture(scope="module")
def question(tmp_path_factory):
    """A WAV in which somebody asks one question, and when."""
    path = tmp_path_factory.mktemp("speech") / "question.wav"
    (spoken,) = render([(QUESTION, 1.0)], path)
    return path, spoken


@pytest.fixture
async def peer(question):
    """The other side of the wire, talking as fast as it can; its model is loaded."""
    async with Peer(pace=0) as peer:
        yield peer


@pytest.fixture
def make(tmp_path):
    """Return what makes a stream without sound, which logs to this test's folder."""

    def make(url, **options):
        silent = {"microphone": None, "speaker": None}
        options = {"logger": Logger(tmp_path / "app.log"), **silent, **options}
        return Stream(url=url, **options)

    return make


def observe(stream):
    """Return the list to which all events of *stream* are added."""
    seen = []
    stream.subscribe(seen.append)
    return seen


async def happens(stream, kind, condition=lambda event: True):
    """Wait until an event of *kind* is told that meets *condition*."""
    arrived = asyncio.Event()

    def look(event):
        if isinstance(event, kind) and condition(event):
            arrived.set()

    unsubscribe = stream.subscribe(look)
    with anyio.fail_after(SHORT):
        await arrived.wait()
    unsubscribe()


def sent_texts(peer, connection):
    """Return role and text of each message created on that connection."""
    return [
        (item["role"], item["content"][0]["text"])
        for received in peer.received
        if received.connection == connection and "item" in received.event
        for item in [received.event["item"]]
    ]


async def ask(stream, text=QUESTION):
    """Ask in writing, and return how the response ended."""
    stream.send_text(text, trigger_response=True)
    return await stream.wait_for_response(SHORT)


# --- A conversation ---------------------------------------------------------------


async def test_a_conversation_in_writing(peer, make):
    """Ready inside the block; what was said can be read at any time, also after it."""
    stream = make(peer.url)
    assert not stream.is_ready()
    assert stream.process_status() == {}
    async with stream:
        assert stream.is_ready()
        outcome = await ask(stream)
        assert (outcome.status, outcome.text) == (Status.COMPLETED, ANSWER)
    assert not stream.is_ready()
    assert [(e.role, e.medium, e.content) for e in stream.conversation()] == [
        ("user", "text", QUESTION),
        ("assistant", "text", ANSWER),
    ]
    assert stream.transcript() == f"User [text]: {QUESTION}\nAssistant [text]: {ANSWER}"
    assert stream.process_status()["connection"].status == "dead"
    assert stream.summary().ended_by == "stop_streaming"
    assert "1 completed" in str(stream.summary())


async def test_a_spoken_conversation(peer, make, question, tmp_path):
    """A WAV asks, a WAV has the answer."""
    path, _ = question
    speaker = tmp_path / "answer.wav"
    stream = make(peer.url, microphone=path, speaker=str(speaker))
    seen = observe(stream)
    async with stream:
        assert set(stream.process_status()) == {"recorder", "player", "connection"}
        outcome = await stream.wait_for_response(SHORT)
        await stream.wait_until_played(SHORT)
    assert outcome.text == ANSWER
    assert outcome.first_output_at is not None
    assert [e.medium for e in stream.conversation()] == ["audio", "audio"]
    assert [e.role for e in stream.conversation()] == ["user", "assistant"]
    assert "two plus three" in stream.conversation()[0].content.lower()
    kinds = [type(event) for event in seen]
    for kind in (events.SpeechStarted, events.SpeechStopped, events.UserTranscript):
        assert kinds.count(kind) == 1
    with wave.open(str(speaker)) as file:
        played = file.getnframes() / file.getframerate()
    assert played == pytest.approx(stream.summary().played_audio, abs=0.01)
    assert played > 1
    assert stream.summary().restarts == {"connection": 0, "player": 0, "recorder": 0}


async def test_a_recorder_killed_in_mid_sentence_is_replaced_and_nothing_is_missed(
    peer, make, question, tmp_path
):
    """The new one goes on where the old one ended; the sentence is understood."""
    path, spoken = question
    stream = make(peer.url, microphone=path, speaker=tmp_path / "answer.wav")
    middle = (spoken.start + spoken.end) / 2 * 48_000
    async with stream:
        with anyio.fail_after(SHORT):
            while stream.summary().sent_audio * 48_000 < middle:
                await asyncio.sleep(0.01)
        os.kill(stream.process_status()["recorder"].pid, signal.SIGKILL)
        outcome = await stream.wait_for_response(SHORT)
    assert outcome.text == ANSWER
    assert stream.summary().restarts["recorder"] == 1
    history = stream.error_history("recorder")
    assert "SIGKILL" in str(history)
    entries = await stream.logger.get_logs(level="ERROR", component="recorder")
    assert "died" in entries[0].message or "killed" in str(entries[0])


async def test_a_player_killed_in_mid_response_is_replaced_and_goes_on_in_its_file(
    peer, make, tmp_path
):
    """What it had taken is kept."""
    speaker = tmp_path / "answer.wav"
    stream = make(peer.url, speaker=speaker)
    async with stream:
        await ask(stream)
        with anyio.fail_after(SHORT):
            while stream.summary().played_audio < 0.5:
                await asyncio.sleep(0.01)
        os.kill(stream.process_status()["player"].pid, signal.SIGKILL)
        await stream.wait_until_played(SHORT)
        assert stream.is_ready()
    assert stream.summary().restarts["player"] == 1
    with wave.open(str(speaker)) as file:
        played = file.getnframes() / file.getframerate()
    # At most what lay in the dead one's pipe is missing.
    assert played == pytest.approx(stream.summary().played_audio, abs=0.4)
    assert played > 1


async def test_the_users_voice_breaks_into_a_response(peer, make, tmp_path):
    """The rest is not played, and the service learns how much was heard."""
    path = tmp_path / "in.wav"
    first, second = render(
        [
            ("Say one two three four five six seven eight nine ten.", 1.0),
            (QUESTION, 1.0),
        ],
        path,
    )
    with wave.open(str(path)) as file:
        pcm = file.readframes(file.getnframes())
    middle = round((first.end + second.start) / 2 * 24_000) * 2

    async def microphone():
        """Speak, wait for some of the answer, and break in."""
        yield pcm[:middle]
        while stream.summary().played_audio < 0.2:
            yield bytes(960)
            await asyncio.sleep(0.02)
        yield pcm[middle:]
        while True:
            yield bytes(960)
            await asyncio.sleep(0.02)

    stream = make(peer.url, microphone=microphone, speaker=tmp_path / "out.wav")
    seen = observe(stream)
    async with stream:
        with anyio.fail_after(SHORT):
            while not any(isinstance(e, events.Interrupted) for e in seen):
                await asyncio.sleep(0.01)
            while ANSWER not in [o.text for o in stream.summary().outcomes]:
                await asyncio.sleep(0.01)
    (cut,) = [e for e in seen if isinstance(e, events.Interrupted)]
    assert 0 < cut.heard_ms < cut.received_ms
    (truncate,) = stream.eventlog.find("truncate$", direction="sent")
    assert truncate.data["audio_end_ms"] == cut.heard_ms
    assert [e.interrupted for e in stream.conversation() if e.role == "assistant"] == [
        True,
        False,
    ]


async def test_the_app_can_silence_a_response(make, tmp_path):
    """As the user's voice does."""
    async with (
        Peer(pace=1) as peer,
        make(peer.url, speaker=tmp_path / "out.wav") as stream,
    ):
        stream.send_text("Say a b c d e f g h i j k l m.", trigger_response=True)
        with anyio.fail_after(SHORT):
            while stream.summary().played_audio < 0.2:
                await asyncio.sleep(0.01)
        stream.interrupt()
        outcome = await stream.wait_for_response(SHORT)
        assert outcome.status is Status.CANCELLED
        played = stream.summary().played_audio
        await stream.wait_until_played(SHORT)
        assert stream.summary().played_audio == played
        assert stream.conversation()[-1].interrupted


async def test_the_status_message_follows_each_response(peer, make):
    """As a system message."""
    async with make(peer.url) as stream:
        stream.set_status_message("It is noon.")
        await ask(stream)
        await ask(stream)
        with anyio.fail_after(SHORT):
            while [r for r, _ in sent_texts(peer, 1)].count("system") < 2:
                await asyncio.sleep(0.01)
    assert [role for role, _ in sent_texts(peer, 1)] == ["user", "system"] * 2


async def test_texts_written_before_the_start_are_sent(peer, make):
    """They wait for the connection."""
    stream = make(peer.url)
    stream.send_text(QUESTION, trigger_response=True)
    async with stream:
        assert (await stream.wait_for_response(SHORT)).text == ANSWER
    with pytest.raises(ClosedStream):
        stream.send_text("too late")


async def test_a_tool_of_the_app_is_called_and_its_answer_told(peer, make):
    """The answer is what is waited for, not the call; a slow tool keeps nobody waiting."""
    asked = asyncio.Event()
    go_on = asyncio.Event()

    async def get_weather(city: str) -> dict[str, str]:
        """Tell the weather."""
        asked.set()
        await go_on.wait()
        return {"sky": "clear"}

    stream = make(peer.url, tools=[get_weather])
    async with stream:
        stream.send_text("How is the weather in Oslo?", trigger_response=True)
        with anyio.fail_after(SHORT):
            await asked.wait()
        assert len(stream.summary().outcomes) <= 1
        go_on.set()
        outcome = await stream.wait_for_response(SHORT)
    assert outcome.text == "The answer is: sky clear."
    assert [o.calls for o in stream.summary().outcomes] == [("get_weather",), ()]


async def test_a_new_connection_knows_what_the_tools_said(make):
    """The call and its answer stand where they were said."""

    async def get_weather(city: str) -> str:
        return f"clear in {city}"

    async with Peer(pace=0) as peer, make(peer.url, tools=[get_weather]) as stream:
        await ask(stream, "How is the weather in Oslo?")
        peer.fault("drop@now")
        await happens(stream, events.ConnectionRestored)
        assert (await ask(stream)).text == ANSWER
        told = [
            received.event["item"]
            for received in peer.received
            if received.connection == 2 and "item" in received.event
        ]
    assert [item["type"] for item in told[:4]] == [
        "message",
        "function_call",
        "function_call_output",
        "message",
    ]
    assert told[1]["call_id"] == told[2]["call_id"]
    assert told[2]["output"] == "clear in Oslo"
    assert not stream.view_log("^error", direction="received", file=io.StringIO())
    assert not await stream.logger.get_logs(pattern="reports an error")


async def test_a_tool_that_hangs_is_ended_with_the_session(peer, make):
    """Nothing is left."""
    asked = asyncio.Event()

    async def get_weather() -> None:
        asked.set()
        await asyncio.Event().wait()

    async with make(peer.url, tools=[get_weather]) as stream:
        stream.send_text("How is the weather?", trigger_response=True)
        with anyio.fail_after(SHORT):
            await asked.wait()


# --- Recording both sides ---------------------------------------------------------


def loud(path):
    """Return for each channel of a WAV its first and last loud second, or None."""
    with wave.open(str(path)) as file:
        samples = array.array("h", file.readframes(file.getnframes()))
        channels = file.getnchannels()
    sides = []
    for side in (samples[i::channels] for i in range(channels)):
        pieces = range(0, len(side), 240)
        places = [i for i in pieces if max(map(abs, side[i : i + 240])) > 500]
        sides.append((places[0] / 24_000, places[-1] / 24_000) if places else None)
    return sides


async def test_both_sides_are_recorded(peer, make, question, tmp_path):
    """The user left, the response right, one after the other."""
    path, _ = question
    record, speaker = tmp_path / "both.wav", tmp_path / "answer.wav"
    stream = make(peer.url, microphone=path, speaker=speaker, record=record)
    async with stream:
        assert (await stream.wait_for_response(SHORT)).text == ANSWER
        await stream.wait_until_played(SHORT)
    (asked, asked_until), (answered, answered_until) = loud(record)
    assert asked < asked_until < answered < answered_until
    ((began, ended),) = loud(speaker)
    # Never less; more where a busy machine let the player run dry.
    assert answered_until - answered > ended - began - 0.1


async def test_a_recording_that_cannot_be_written_is_said_at_once(peer, make, tmp_path):
    """Before anything is started."""
    stream = make(peer.url, record=tmp_path / "missing" / "both.wav")
    with pytest.raises(AudioUnavailable, match=r"both\.wav.*No such file"):
        await stream.start_streaming()
    assert stream.process_status() == {}


async def test_a_recording_that_breaks_off_leaves_the_session_alone(
    peer, make, tmp_path
):
    """It is said once."""
    record = tmp_path / "both.wav"
    stream = make(peer.url, record=record)
    async with stream:
        record.unlink()
        with anyio.fail_after(SHORT):
            while not await stream.logger.get_logs(pattern="recording ends"):
                await asyncio.sleep(0.05)
        assert (await ask(stream)).completed


KILLED = """
import asyncio, sys
from realtalk_async.voice import Stream

async def main():
    url, microphone, speaker, record = sys.argv[1:]
    stream = Stream(url=url, microphone=microphone, speaker=speaker, record=record)
    async with stream:
        await stream.wait_for_response()
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_a_recording_is_valid_after_the_app_was_killed(peer, question, tmp_path):
    """All but the last second is there."""
    path, spoken = question
    record = tmp_path / "both.wav"
    arguments = [peer.url, str(path), str(tmp_path / "out.wav"), str(record)]
    app = await asyncio.create_subprocess_exec(
        sys.executable, "-c", KILLED, *arguments, cwd=tmp_path, env={**os.environ}
    )
    frames = 0
    with anyio.fail_after(SHORT):
        while frames < (spoken.end + 0.5) * 24_000:
            await asyncio.sleep(0.1)
            if record.exists() and record.stat().st_size >= 44:
                with wave.open(str(record)) as file:
                    frames = file.getnframes()
        app.kill()
        await app.wait()
    with wave.open(str(record)) as file:
        assert file.getnframes() >= frames
        assert 44 + 4 * file.getnframes() <= record.stat().st_size
    assert loud(record)[0] is not None


# --- Events and figures -----------------------------------------------------------


async def test_events_can_be_iterated_over_until_the_end(peer, make):
    """Each reader has its own queue; one that is given up costs nothing."""
    stream = make(peer.url)
    everything, responses = stream.events(), stream.events(events.ResponseFinished)
    slow = stream.events(size=1)
    stream.events()
    async with stream:
        await ask(stream)
    assert [event.outcome.text async for event in responses] == [ANSWER]
    kinds = [event.kind async for event in everything]
    assert kinds[0] == "connection.opened"
    assert kinds[-1] == "response.finished"
    assert await anext(slow) == events.EventsMissed(len(kinds) - 1)
    assert stream.metrics().missed_events == len(kinds) - 1
    assert [event async for event in stream.events()] == []
    with pytest.raises(InvalidConfiguration, match="size"):
        stream.events(size=0)


async def test_a_session_in_numbers(peer, make, question, tmp_path):
    """Ready for JSON, at any time."""
    path, _ = question
    stream = make(peer.url, microphone=path, speaker=tmp_path / "answer.wav")
    assert stream.metrics().latency(0.5) is None
    async with stream:
        await stream.wait_for_response(SHORT)
        await stream.wait_until_played(SHORT)
        metrics = stream.metrics()
        assert metrics.connected
    (turn,) = metrics.turns
    assert 0 <= turn.started <= turn.first_output <= turn.first_sound
    assert metrics.latency(0.5) == turn.first_sound
    assert metrics.responses == {"completed": 1}
    assert metrics.sent_audio > 1
    assert metrics.queued_audio == 0
    again = json.loads(json.dumps(metrics.to_dict()))
    assert again["turns"][0]["response_id"] == turn.response_id
    assert again["restarts"]["recorder"] == 0


async def test_an_interruption_is_timed(peer, make, tmp_path):
    """What the player had at most, and its own latency."""
    stream = make(peer.url, speaker=tmp_path / "answer.wav")
    async with stream:
        stream.send_text("Say one two three four five six.", trigger_response=True)
        with anyio.fail_after(SHORT):
            while not stream.summary().played_audio:
                await asyncio.sleep(0.01)
        stream.interrupt()
    assert all(0 < ms <= 200 for ms in stream.metrics().barge_ins)


async def test_the_time_line_of_a_session_can_be_drawn(peer, make, question, tmp_path):
    """At its end from the summary, and at any time from a file."""
    path, _ = question
    stream = make(peer.url, microphone=path, speaker=tmp_path / "answer.wav")
    async with stream:
        os.kill(stream.process_status()["recorder"].pid, signal.SIGKILL)
        await stream.wait_for_response(SHORT)
        await stream.wait_until_played(SHORT)
        await stream.save_timeline(tmp_path / "timeline.jsonl")
    seen = {(mark.track, mark.kind) for mark in stream.summary().timeline}
    assert seen >= {
        ("connection", "connected"),
        ("recorder", "sound"),
        ("recorder", "died"),
        ("recorder", "restarted"),
        ("user", "speech"),
        ("user", "transcript"),
        ("service", "audio"),
        ("service", "completed"),
        ("speaker", "heard"),
    }
    (heard,) = [m for m in stream.summary().timeline if m.kind == "heard"]
    assert heard.amount == pytest.approx(stream.summary().played_audio)
    assert svg.render(tmp_path / "timeline.jsonl").startswith("<svg")
    assert svg.render(stream.summary()).startswith("<svg")


async def test_a_player_that_stands_by_takes_over_in_mid_response(peer, make):
    """The dead one is revived to stand by, until the other one dies in its turn."""
    command = ["sh", "-c", "exec cat >/dev/null"]
    stream = make(peer.url, speaker=command, standby=True, prebuffer_ms=40)
    async with stream:
        await ask(stream, "Tell me a story.")
        with anyio.fail_after(SHORT):
            for victim in ("player", "standby"):
                played = stream.summary().played_audio
                while stream.summary().played_audio < played + 0.2:
                    await asyncio.sleep(0.01)
                os.kill(stream.process_status()[victim].pid, signal.SIGKILL)
                while stream.summary().restarts[victim] == 0:
                    await asyncio.sleep(0.01)
            while len(stream.metrics().switches) < 2:
                await asyncio.sleep(0.01)
        stream.interrupt()
    restarts = {"connection": 0, "player": 1, "standby": 1}
    assert stream.metrics().restarts == restarts


# --- Push-to-talk, mute -----------------------------------------------------------


@pytest.fixture(scope="module")
def sentence(tmp_path_factory):
    """A WAV in which somebody asks at once."""
    path = tmp_path_factory.mktemp("speech") / "sentence.wav"
    (spoken,) = render([(QUESTION, 0.5)], path)
    return path, spoken


async def sends(stream, seconds):
    """Wait until so much of the microphone was sent."""
    with anyio.fail_after(SHORT):
        while stream.summary().sent_audio < seconds:
            await asyncio.sleep(0.01)


async def test_push_to_talk(peer, make, sentence):
    """What is said in the block is answered; outside of it nothing is heard."""
    path, spoken = sentence
    recorder = f"sleep 0.5; exec {sys.executable} {wav.__file__} read {path}"
    silence = f"{sys.executable} -c 'import os,sys; os.write(1, bytes(48_000))'"
    command = ["sh", "-c", f"{silence}; {recorder}"]
    stream = make(peer.url, microphone=command, turn_detection=None)
    async with stream:
        assert stream.summary().sent_audio == 0
        async with stream.push_to_talk():
            await sends(stream, spoken.end + 0.3)
        outcome = await stream.wait_for_response(SHORT)
        assert outcome.text == ANSWER
        sent = stream.summary().sent_audio
        with pytest.raises(ZeroDivisionError):
            async with stream.push_to_talk():
                await sends(stream, sent + 0.2)
                raise ZeroDivisionError
        stream.start_talking()
        assert not stream.stop_talking()  # too short
        assert not stream.stop_talking()  # it was not begun
        outcome = await stream.wait_for_response(SHORT)
        assert outcome.status is Status.CANCELLED
        assert "shorter than 100 ms" in outcome.reason
    assert stream.eventlog.find("commit$", direction="sent")[0].type
    assert len(stream.eventlog.find("commit$", direction="sent")) == 1
    assert len(stream.summary().outcomes) == 2
    with pytest.raises(ClosedStream):
        stream.start_talking()


async def test_push_to_talk_is_refused_where_the_service_finds_the_turns(peer, make):
    """Or where nothing could be heard."""
    async with make(peer.url) as stream:
        with pytest.raises(InvalidConfiguration, match="turn_detection"):
            stream.start_talking()
        assert not stream.stop_talking()
    async with make(peer.url, turn_detection=None) as stream:
        with pytest.raises(InvalidConfiguration, match="microphone"):
            stream.start_talking()


async def test_who_is_muted_is_not_heard(peer, make, question):
    """The service gets silence for as long."""
    path, spoken = question
    stream = make(peer.url, microphone=path)
    seen = observe(stream)
    stream.mute()
    async with stream:
        assert stream.is_muted
        await sends(stream, spoken.end + 0.2)
        stream.unmute()
        assert not stream.is_muted
    assert not [e for e in seen if isinstance(e, events.SpeechStarted)]


async def test_with_half_duplex_a_response_is_not_heard_by_the_service(
    peer, make, tmp_path
):
    """The microphone hears the loudspeaker all the time; no turn comes of it."""
    noise = "import os, time\nwhile 1: os.write(1, os.urandom(960)); time.sleep(.02)"
    stream = make(
        peer.url,
        microphone=[sys.executable, "-c", noise],
        speaker=["sh", "-c", "cat >/dev/null"],
        half_duplex=True,
    )
    async with stream:
        await ask(stream)
        session = stream._session
        withheld = session.input_filter.withheld
        with anyio.fail_after(SHORT):
            while session.input_filter.withheld == withheld:
                await asyncio.sleep(0.01)
            await stream.wait_until_played()
            await asyncio.sleep(0.3)
            sent = session.input_filter.passed - session.input_filter.withheld
            while session.input_filter.passed - session.input_filter.withheld == sent:
                await asyncio.sleep(0.01)


async def test_a_connection_is_left_before_it_expires(peer, make):
    """As planned, without an error; what the microphone gave meanwhile is kept."""
    silence = "import os, time\nwhile 1: os.write(1, bytes(960)); time.sleep(.02)"
    command = [sys.executable, "-c", silence]
    stream = make(f"{peer.url}?lifetime=3", microphone=command)
    seen = observe(stream)
    async with stream:
        with anyio.fail_after(SHORT):
            while not any(isinstance(e, events.ConnectionRestored) for e in seen):
                await asyncio.sleep(0.01)
        assert (await ask(stream)).completed
    assert stream.summary().dropped_audio == 0
    assert stream.summary().restarts["connection"] == 0
    assert not [e for e in seen if isinstance(e, events.ConnectionLost)]
    assert not await stream.logger.get_logs(level="ERROR")


async def test_the_event_log_can_be_viewed(peer, make):
    """Filtered, readable, and returned as well."""
    async with make(peer.url) as stream:
        await ask(stream)
    out = io.StringIO()
    found = stream.view_log("^response", direction="received", file=out)
    assert found[0].type == "response.created"
    assert found[-1].type == "response.done"
    assert len(out.getvalue().splitlines()) == len(found)
    assert stream.eventlog[0].type in ("session.update", "session.created")


# --- What cannot begin ------------------------------------------------------------


async def test_a_missing_key_is_said_before_anything_is_started(make, monkeypatch):
    """It names the variable and the offline peer; nothing was spawned."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    stream = make(None)
    with pytest.raises(MissingApiKey, match="OPENAI_API_KEY"):
        await stream.start_streaming()
    assert stream.process_status() == {}
    with pytest.raises(MissingApiKey):
        async with stream:
            pass


async def test_a_refused_key_ends_the_start(peer, make):
    """It is not tried again, and no sound is started."""
    stream = make(peer.url, api_key="sk-refused", speaker=["cat"])
    with pytest.raises(AuthenticationRefused, match="refused the key"):
        async with stream:
            pass
    assert stream.summary().restarts == {"connection": 0}
    with pytest.raises(ClosedStream):
        await stream.start_streaming()


async def test_a_service_that_is_not_there_ends_the_start(make):
    """At once: it is more likely a mistake than an outage."""
    async with Peer() as peer:
        url = peer.url
    with pytest.raises(ServiceUnreachable, match="is the peer running"):
        await make(url).start_streaming()


async def test_a_service_that_refuses_the_set_up_says_why(peer, make):
    """As for a voice that it does not have."""
    stream = make(f"{peer.url}?fault=error-insufficient_quota@session.updated")
    with pytest.raises(ServiceRefused, match="insufficient_quota"):
        await stream.start_streaming()


async def test_a_missing_recorder_is_said_before_anything_is_started(peer, make):
    """With what to do about it."""
    stream = make(peer.url, microphone=["no-such-recorder"])
    with pytest.raises(AudioUnavailable, match="no-such-recorder"):
        await stream.start_streaming()
    assert stream.process_status() == {}


async def test_a_recorder_that_cannot_record_is_said_with_its_last_words(peer, make):
    """It was tried again, for a device may be busy for a moment."""
    script = "echo 'Device or resource busy' >&2; exit 1"
    stream = make(peer.url, microphone=["sh", "-c", script])
    with pytest.raises(AudioUnavailable, match="Device or resource busy"):
        await stream.start_streaming()
    assert stream.summary().restarts["recorder"] > 3
    assert "Device or resource busy" in str(stream.error_history("recorder"))


async def test_a_player_that_cannot_play_is_said_with_its_last_words(peer, make):
    """Likewise."""
    script = "echo 'Connection failure' >&2; exit 1"
    stream = make(peer.url, speaker=["sh", "-c", script])
    with pytest.raises(AudioUnavailable, match="Connection failure"):
        await stream.start_streaming()


def program(folder, name, script):
    """Make a program of that *name*; return its folder."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(folder)


async def test_the_default_devices_are_those_of_the_first_program_that_works(
    peer, make, tmp_path, monkeypatch
):
    """The best one is installed, but its server does not run: the next is tried."""
    program(tmp_path, "pw-record", "echo 'no server' >&2; exit 1")
    program(tmp_path, "pw-play", "echo 'no server' >&2; exit 1")
    program(tmp_path, "parec", "exec cat /dev/zero")
    path = program(tmp_path, "pacat", "exec cat >/dev/null")
    monkeypatch.setenv("PATH", path, prepend=os.pathsep)
    async with make(peer.url, microphone="default", speaker="default") as stream:
        processes = stream.process_manager.processes
        assert (await ask(stream)).text == ANSWER
        histories = {name: str(stream.error_history(name)) for name in processes}
    assert "no server" in histories["recorder"]
    assert f"{path}/parec" in histories["recorder"]
    assert f"{path}/pacat" in histories["player"]


async def test_a_player_and_its_standby_are_the_first_program_that_works(
    peer, make, tmp_path, monkeypatch
):
    """Both fail with the best one; neither skips the next because of the other."""
    program(tmp_path, "pw-play", "echo 'no server' >&2; exit 1")
    path = program(tmp_path, "pacat", "exec cat >/dev/null")
    monkeypatch.setenv("PATH", path, prepend=os.pathsep)
    async with make(peer.url, speaker="default", standby=True) as stream:
        with anyio.fail_after(SHORT):
            while min(s.uptime for s in stream.process_status().values()) < 0.5:
                await asyncio.sleep(0.01)
        for name in ("player", "standby"):
            lives = stream.error_history(name).processes[name].incarnations
            assert [life.command.split()[0] for life in lives] == [
                f"{path}/pw-play",
                f"{path}/pacat",
            ]


async def test_a_server_that_goes_away_is_not_the_programs_fault(
    peer, make, tmp_path, monkeypatch
):
    """The program that worked is tried until it works again, however quickly it dies."""
    gone = tmp_path / "gone"
    dies = f"test -e {gone} && {{ echo 'Connection refused' >&2; exit 1; }}"
    path = program(tmp_path, "pw-play", f"{dies}; exec cat >/dev/null")
    program(tmp_path, "pacat", "exec cat >/dev/null")
    monkeypatch.setenv("PATH", path, prepend=os.pathsep)
    stream = make(peer.url, speaker="default")
    seen = observe(stream)
    async with stream:
        gone.touch()
        os.kill(stream.process_status()["player"].pid, signal.SIGKILL)
        with anyio.fail_after(SHORT):
            while len([e for e in seen if isinstance(e, events.DeviceFailed)]) < 10:
                await asyncio.sleep(0.01)
            gone.unlink()
            while stream.process_status()["player"].uptime < 0.5:
                await asyncio.sleep(0.01)
        lives = stream.error_history("player").processes["player"].incarnations
        assert {life.command.split()[0] for life in lives} == {f"{path}/pw-play"}
    troubles = [e.problem for e in seen if isinstance(e, events.DeviceFailed)]
    assert troubles[1:] == [events.DeviceProblem.SERVER_GONE] * (len(troubles) - 1)
    assert not stream.process_manager.degraded


async def test_a_machine_without_devices_is_told_what_to_do(
    peer, make, tmp_path, monkeypatch
):
    """Every candidate was tried; the message names them, and their last words."""
    path = program(tmp_path, "arecord", "echo 'audio open error: no such' >&2; exit 1")
    program(tmp_path, "sox", "echo 'can not open audio device' >&2; exit 2")
    monkeypatch.setenv("PATH", f"{path}:/usr/bin:/bin")
    stream = make(peer.url, microphone="default")
    with pytest.raises(AudioUnavailable) as caught:
        await stream.start_streaming()
    for word in ("arecord", "sox", "microphone=", "WAV"):
        assert word in str(caught.value)
    history = str(stream.error_history("recorder"))
    assert "audio open error" in history
    assert "can not open audio device" in history


# --- Faults of the service --------------------------------------------------------

ALIVE = [
    ("drop:1", Status.LOST),
    ("close-1000:1", Status.LOST),
    ("close-1001:1", Status.LOST),
    ("close-1011:1", Status.LOST),
    ("malformed:2", Status.COMPLETED),
    ("binary:2", Status.COMPLETED),
    ("badbase64:2", Status.COMPLETED),
    ("unknown:1", Status.COMPLETED),
    ("error:1", Status.COMPLETED),
    ("error-session_expired:1", Status.LOST),
    ("failed", Status.FAILED),
    ("incomplete", Status.INCOMPLETE),
    ("missing", Status.STALLED),
    ("missing@response.created", Status.COMPLETED),
    ("late@response.created", Status.COMPLETED),
    ("stall:1", Status.STALLED),
    ("twice", Status.COMPLETED),
    ("beta", Status.COMPLETED),
    ("drop@response.created", Status.LOST),
    ("drop@response.done", Status.LOST),
    ("malformed@response.done", Status.STALLED),
]


@pytest.mark.parametrize(("fault", "expected"), ALIVE, ids=[f for f, _ in ALIVE])
async def test_every_fault_ends_in_one_outcome_and_a_live_session(
    fault, expected, peer, make
):
    """The next question is answered."""
    stream = make(peer.url, speaker=["sh", "-c", "cat >/dev/null"], stall_after=1.0)
    seen = observe(stream)
    peer.fault(fault)
    async with stream:
        assert (await ask(stream)).status is expected
        if fault.startswith("stall"):
            return  # the peer says nothing ever again on this connection
        outcome = await ask(stream, "What is ten minus four?")
        assert outcome.status is Status.COMPLETED
        assert outcome.text == "Ten minus four is six."
    finished = [e for e in seen if isinstance(e, events.ResponseFinished)]
    assert len(finished) == 2
    lost = [e for e in seen if isinstance(e, events.ConnectionLost)]
    assert len(lost) == (expected is Status.LOST)


async def test_a_lost_connection_is_restored_with_the_conversation(peer, make):
    """Told again as text, on a new connection."""
    stream = make(peer.url)
    seen = observe(stream)
    async with stream:
        await ask(stream)
        peer.fault("drop@response.created")
        assert (await ask(stream, "Say hello.")).status is Status.LOST
        assert (await ask(stream, "What is ten minus four?")).completed
    assert peer.connections == 2
    assert sent_texts(peer, 2) == [
        ("user", QUESTION),
        ("assistant", ANSWER),
        ("user", "Say hello."),
        ("user", "What is ten minus four?"),
    ]
    assert [e.content for e in stream.conversation()] == [
        *(QUESTION, ANSWER, "Say hello."),
        *("What is ten minus four?", "Ten minus four is six."),
    ]
    (restored,) = [e for e in seen if isinstance(e, events.ConnectionRestored)]
    assert restored.replayed == 3
    assert stream.summary().restarts["connection"] == 1


async def test_a_fatal_error_ends_the_session_with_the_reason(peer, make):
    """Whoever waits is told too."""
    stream = make(peer.url)
    peer.fault("error-insufficient_quota@response.created")

    async def talk():
        async with stream:
            outcome = await ask(stream)
            assert outcome.status is Status.LOST
            with pytest.raises(ClosedStream):
                await stream.wait_for_response(SHORT)

    with pytest.raises(ServiceRefused, match="insufficient_quota") as caught:
        await talk()
    assert caught.value.code == "insufficient_quota"
    assert "insufficient_quota" in stream.summary().ended_by
    assert peer.connections == 1


# --- Children that are lost for good ----------------------------------------------

ONCE = """
import os, sys, time
if os.path.exists(sys.argv[1]):
    sys.exit("the device is gone")
while not os.path.exists(sys.argv[1]):
    os.write(1, bytes(960))
    time.sleep(0.02)
"""


@pytest.mark.parametrize("shared", [False, True], ids=["own", "given"])
async def test_a_recorder_that_is_lost_for_good_ends_the_session(
    peer, make, tmp_path, shared
):
    """Under a manager of its own, and under one that is given, which goes on."""
    gone = tmp_path / "gone"
    argv = [sys.executable, "-c", ONCE, str(gone)]
    async with Logger(tmp_path / "m.log") as logger, ProcessManager(logger) as manager:
        options = {"process_manager": manager} if shared else {}
        stream = make(peer.url, microphone=argv, **options)

        async def talk():
            async with stream:
                gone.touch()
                with pytest.raises(ClosedStream):
                    await stream.wait_for_response(SHORT)

        with pytest.raises(CriticalProcessFailed, match="recorder") as caught:
            await talk()
        assert caught.value.report is not None
        assert "the device is gone" in str(stream.error_history("recorder"))
        assert manager.status in ("running", "degraded")


async def test_a_recorder_that_lives_and_says_nothing_is_replaced(peer, make, question):
    """As all programs do when their device vanishes."""
    async with make(peer.url, microphone=question[0]) as stream:
        os.kill(stream.process_status()["recorder"].pid, signal.SIGSTOP)
        with anyio.fail_after(SHORT):
            while not stream.process_status()["recorder"].restarts:
                await asyncio.sleep(0.01)
        assert (await stream.wait_for_response(SHORT)).text == ANSWER
        assert "silent on stdout" in str(stream.error_history("recorder"))


async def test_a_recorder_at_a_wrong_rate_is_replaced_and_named(peer, make):
    """It would be heard as garble."""
    fast = "import os, time\nwhile 1: os.write(1, bytes(9600)); time.sleep(.02)"
    stream = make(peer.url, microphone=[sys.executable, "-c", fast])
    async with stream:
        await happens(
            stream,
            events.DeviceFailed,
            lambda event: event.problem is events.DeviceProblem.WRONG_RATE,
        )
    assert "bytes a second, not 48,000" in str(stream.error_history("recorder"))


async def test_a_busy_device_is_waited_for_without_counting(peer, make, tmp_path):
    """Far more often than failures are allowed; then it records again."""
    tries = tmp_path / "tries"
    child = f"""
import os, sys, time
tries = open({str(tries)!r}, "a+")
tries.write("x")
if 1 < tries.tell() < 12:
    sys.exit("arecord: main: audio open error: Device or resource busy")
for _ in range(25) if tries.tell() == 1 else iter(int, 1):
    os.write(1, bytes(960))
    time.sleep(0.02)
"""
    stream = make(peer.url, microphone=[sys.executable, "-c", child])
    seen = observe(stream)
    async with stream:
        with anyio.fail_after(SHORT):
            while stream.summary().sent_audio < 1:
                await asyncio.sleep(0.01)
    troubles = [e.problem for e in seen if isinstance(e, events.DeviceFailed)]
    assert troubles == [events.DeviceProblem.DIED] + [events.DeviceProblem.BUSY] * 10


async def test_a_recorder_that_exits_with_0_has_failed(peer, make, tmp_path):
    """As sox and ffmpeg do when the sound server goes away."""
    argv = ["sh", "-c", "head -c 96000 /dev/zero"]
    async with make(peer.url, microphone=argv) as stream:
        with anyio.fail_after(SHORT):
            while not stream.process_status()["recorder"].restarts:
                await asyncio.sleep(0.01)
        errors = await stream.logger.get_logs(level="ERROR", component="recorder")
        assert errors


async def test_a_player_that_is_lost_for_good_leaves_a_conversation_in_writing(
    peer, make, tmp_path
):
    """Degraded, and it says so."""
    gone = tmp_path / "gone"
    script = f"test -e {gone} && exit 1; exec cat >/dev/null"
    async with make(peer.url, speaker=["sh", "-c", script]) as stream:
        gone.touch()
        os.kill(stream.process_status()["player"].pid, signal.SIGKILL)
        with anyio.fail_after(SHORT):
            while "player" not in stream.process_manager.degraded:
                await asyncio.sleep(0.01)
        assert (await ask(stream)).text == ANSWER
        await stream.wait_until_played(SHORT)


async def test_a_player_that_takes_nothing_is_replaced(peer, make, tmp_path):
    """Alive and deaf, as one whose device vanished."""
    deaf = tmp_path / "deaf"
    deaf.touch()
    script = f"test -e {deaf} && {{ rm {deaf}; exec 0<&-; sleep 600; }}; cat >/dev/null"
    async with make(peer.url, speaker=["sh", "-c", script]) as stream:
        await ask(stream)
        with anyio.fail_after(SHORT):
            while stream.process_status()["player"].restarts < 1:
                await asyncio.sleep(0.01)
        await stream.wait_until_played(SHORT)
        assert stream.is_ready()


# --- Start and stop ---------------------------------------------------------------


async def test_start_streaming_runs_until_stopped_and_returns_a_summary(peer, make):
    """Stopped from another task; stopping again changes nothing."""
    stream = make(peer.url)
    await stream.stop_streaming()  # nothing to stop yet
    async with anyio.create_task_group() as tasks:

        async def stop():
            await ask(stream)
            await stream.stop_streaming()
            await stream.stop_streaming()

        tasks.start_soon(stop)
        with anyio.fail_after(SHORT):
            summary = await stream.start_streaming()
    assert summary.ended_by == "stop_streaming"
    assert [outcome.text for outcome in summary.outcomes] == [ANSWER]
    assert [entry.role for entry in summary.conversation] == ["user", "assistant"]
    assert summary.to_dict()["log_path"] == str(stream.logger.path)
    assert summary == stream.summary()
    await stream.stop_streaming()


async def test_the_arguments_of_the_start_win(peer, make):
    """As in the package this one follows."""
    stream = make(peer.url)
    async with anyio.create_task_group() as tasks:

        async def stop():
            while not stream.is_ready():
                await asyncio.sleep(0.01)
            await stream.stop_streaming()

        tasks.start_soon(stop)
        with anyio.fail_after(SHORT):
            await stream.start_streaming("sk-1", "gpt-other", "cedar")
    session = peer.received[0].event["session"]
    assert session["audio"]["output"]["voice"] == "cedar"
    connected = stream.eventlog.find("session.created")[0]
    assert connected.data["session"]["model"] == "gpt-other"


async def test_a_second_start_waits_with_the_first(peer, make):
    """And returns the same."""
    stream = make(peer.url)
    async with stream:
        joined = asyncio.create_task(stream.start_streaming())
        await asyncio.sleep(0)
        assert not joined.done()
    with anyio.fail_after(SHORT):
        assert (await joined).ended_by == "stop_streaming"


async def test_a_task_group_can_start_it(peer, make):
    """It returns when the session is ready."""
    async with anyio.create_task_group() as tasks:
        with anyio.fail_after(SHORT):
            stream = await tasks.start(make(peer.url).start_streaming)
            assert stream.is_ready()
            assert (await ask(stream)).text == ANSWER
        await stream.stop_streaming()


async def test_a_task_group_that_is_cancelled_ends_it(peer, make, question):
    """With all its children."""
    stream = make(peer.url, microphone=question[0])
    async with anyio.create_task_group() as tasks:
        await tasks.start(stream.start_streaming)
        tasks.cancel_scope.cancel()
    assert {s.status for s in stream.process_status().values()} == {"dead"}
    assert stream.summary().ended_by == "its task was cancelled"


async def test_the_block_may_be_left_in_another_task(peer, make, question):
    """As fixtures do."""
    stream = make(peer.url, microphone=question[0])
    with anyio.fail_after(SHORT):
        await asyncio.create_task(stream.__aenter__())
        assert stream.is_ready()
        await asyncio.create_task(stream.__aexit__(None, None, None))
    assert not stream.is_ready()


async def test_a_session_that_has_ended_cannot_be_entered_again(peer, make):
    """It is said, instead of a block in which nothing works."""
    stream = make(peer.url)
    async with stream:
        pass
    with pytest.raises(ClosedStream, match="another Stream"):
        async with stream:
            pytest.fail("it was entered")


async def test_a_manager_that_closes_ends_the_session(peer, tmp_path, make):
    """Whoever waits for a response is told; nobody waits for ever."""
    async with Logger(tmp_path / "app.log") as logger:
        manager = ProcessManager(logger)
        await manager.__aenter__()
        stream = make(peer.url, logger=logger, process_manager=manager)
        running = asyncio.create_task(stream.start_streaming())
        with anyio.fail_after(SHORT):
            while not stream.is_ready():
                await asyncio.sleep(0.01)
            waiting = asyncio.create_task(stream.wait_for_response(None))
            await asyncio.sleep(0)
            await manager.aclose()
            with pytest.raises(ClosedStream, match="connection"):
                await waiting
            with pytest.raises(CriticalProcessFailed, match="connection"):
                await running


async def test_a_subscriber_may_interrupt_at_an_interruption(peer, make):
    """It is over at once, and so it does not go round in circles."""
    stream = make(peer.url, speaker=["sh", "-c", "exec cat >/dev/null"])
    seen = observe(stream)
    stream.subscribe(
        lambda e: stream.interrupt() if isinstance(e, events.Interrupted) else None
    )
    async with stream:
        stream.send_text("Tell me a story.", trigger_response=True)
        with anyio.fail_after(SHORT):
            while not stream.summary().played_audio:
                await asyncio.sleep(0.01)
        stream.interrupt()
        await stream.wait_for_response(SHORT)
    assert len([e for e in seen if isinstance(e, events.Interrupted)]) == 1


async def test_a_session_that_is_stopped_before_it_is_ready_was_never_entered(
    peer, make
):
    """Its recorder lives and says nothing; somebody loses patience."""
    stream = make(peer.url, microphone=["sh", "-c", "exec sleep 600"])
    entering = asyncio.create_task(stream.__aenter__())
    with anyio.fail_after(SHORT):
        while "recorder" not in stream.process_status():
            await asyncio.sleep(0.01)
        await stream.stop_streaming()
        with pytest.raises(ClosedStream, match="stop_streaming"):
            await entering


async def test_an_error_in_the_block_is_raised_and_everything_is_ended(peer, make):
    """The app's own error, not one of ours."""
    with pytest.raises(ZeroDivisionError):
        async with make(peer.url):
            1 / 0  # noqa: B018


STEPS = [0, 1, 2, 3, 5, 8, 12, 16, 20, 25, 30, 40, 55, 75, 100, 150]


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("functions", [False, True])
async def test_cancelling_at_any_step_leaves_nothing(
    steps, functions, peer, make, question
):
    """No child, no descriptor, no task, no thread: the guard of this suite looks."""
    stream = make(peer.url, microphone=question[0], speaker=["sh", "-c", "cat >&2"])
    if functions:
        stream = make(peer.url, microphone=lambda: bytes(960), speaker=print)
    before = asyncio.all_tasks()
    running = asyncio.create_task(stream.start_streaming())
    for _ in range(steps):
        await asyncio.sleep(0)
    running.cancel()
    with anyio.fail_after(SHORT):
        await asyncio.wait([running])
    assert running.cancelled()
    for status in stream.process_status().values():
        assert status.status == "dead"
    left = asyncio.all_tasks() - before
    assert not [task for task in left if "peer" not in repr(task)] or not left


async def test_children_that_will_not_end_are_ended(peer, make, tmp_path):
    """Both ignore all that is gentle; the end takes no more than 3 s of waiting."""
    both = tmp_path / "both are deaf"
    deaf, ever = "trap '' TERM INT HUP", "while :; do sleep 0.01; done"
    wait = f"while [ ! -e '{both}' ]; do sleep 0.01; done"
    recorder = ["sh", "-c", f"{deaf}; {wait}; head -c 9600 /dev/zero; {ever}"]
    player = ["sh", "-c", f"{deaf}; : > '{both}'; {ever}"]
    stream = make(peer.url, microphone=recorder, speaker=player)
    async with stream:
        began = time.monotonic()
        await stream.stop_streaming()
        took = time.monotonic() - began
    assert took < 5  # 1.5 s of them are ours, the rest is a busy machine's
    statuses = stream.process_status()
    assert {s.exit_status for n, s in statuses.items() if n != "connection"} == {-9}


async def test_a_manager_and_a_logger_that_are_given_go_on(peer, tmp_path):
    """The session stops what it started, and nothing else."""
    async with (
        Logger(tmp_path / "app.log") as logger,
        ProcessManager(logger) as manager,
    ):
        for _ in range(2):
            stream = Stream(
                logger=logger,
                process_manager=manager,
                url=peer.url,
                microphone=None,
                speaker=["sh", "-c", "cat >/dev/null"],
            )
            async with stream:
                assert (await ask(stream)).text == ANSWER
            assert manager.status == "running"
            assert manager.processes["player"].status == "dead"
        entries = await logger.get_logs(component="session")
        assert [e.message for e in entries].count("Session ended") == 2


def pids(stream):
    """Return the pid and the incarnation of each of the three."""
    statuses = stream.process_status()
    return {name: (s.pid, s.incarnation) for name, s in statuses.items()}


QUIET = [
    *(sys.executable, "-c"),
    "import os, time\nwhile 1: os.write(1, bytes(960)); time.sleep(.02)",
]


async def test_each_of_the_three_is_revived_alone(make):
    """A lost connection leaves recorder and player alone, and the other way round."""
    async with Peer(pace=0) as peer:
        stream = make(peer.url, microphone=QUIET, speaker=["sh", "-c", "cat >&2"])
        async with stream:
            before = pids(stream)
            peer.fault("drop@now")
            await happens(stream, events.ConnectionRestored)
            after = pids(stream)
            assert after.pop("connection") != before.pop("connection")
            assert after == before
            before = pids(stream)
            os.kill(before["recorder"][0], signal.SIGKILL)
            with anyio.fail_after(SHORT):
                while not stream.process_status()["recorder"].restarts:
                    await asyncio.sleep(0.01)
            after = pids(stream)
            assert after.pop("recorder") != before.pop("recorder")
            assert after == before


async def drops(peer, stream, times):
    """Break the connection again and again; return why it was dialled when it was."""
    reasons = []
    stream.process_manager.subscribe(
        lambda e: reasons.append(e.reason) if isinstance(e, RestartScheduled) else None
    )
    for _ in range(times):
        peer.fault("drop@now")
        await happens(stream, events.ConnectionRestored)
    return reasons


async def test_a_connection_that_has_worked_is_dialled_again_at_once(make, monkeypatch):
    """However often it breaks; one that never works is left more and more time."""
    async with Peer(pace=0) as peer, make(peer.url) as stream:
        first = "failure score 1.0 of"
        assert [first in why for why in await drops(peer, stream, 3)] == [1, 0, 0]
        monkeypatch.setattr(link, "_PROVEN", 0.0)
        assert [first in why for why in await drops(peer, stream, 5)] == [1] * 5


async def test_a_managers_strategy_holds_for_a_session_too(tmp_path, make):
    """Who wants the children anew with the connection gives a manager that does that."""
    async with (
        Peer(pace=0) as peer,
        Logger(tmp_path / "app.log") as logger,
        ProcessManager(logger, strategy="rest_for_one") as manager,
    ):
        both = {"microphone": QUIET, "speaker": ["sh", "-c", "exec cat >&2"]}
        stream = make(peer.url, logger=logger, process_manager=manager, **both)
        async with stream:
            peer.fault("drop@now")
            await happens(stream, events.ConnectionRestored)
            with anyio.fail_after(SHORT):
                while list(stream.summary().restarts.values()) != [1, 1, 1]:
                    await asyncio.sleep(0.01)
            assert (await ask(stream)).text == ANSWER
            await stream.wait_until_played(SHORT)
    assert list(stream.summary().restarts) == ["connection", "player", "recorder"]


async def test_two_sessions_in_one_app(peer, make, tmp_path):
    """Each has its own children; in one manager there is room for one at a time."""
    async with make(peer.url) as one, make(peer.url) as two:
        assert (await ask(one)).text == (await ask(two)).text == ANSWER
        three = make(peer.url, process_manager=one.process_manager)
        with pytest.raises(InvalidConfiguration, match="'connection' that runs"):
            await three.start_streaming()
        assert (await ask(one)).text == ANSWER
    assert three.process_status()["connection"].cause != "failed"


SCRIPT = """
import asyncio, sys
from realtalk_async.voice import Stream
stream = Stream(url=sys.argv[1], microphone=sys.argv[2], speaker=None)
async def main():
    asyncio.get_running_loop().create_task(tell())
    summary = await stream.start_streaming()
    print("ended by", summary.ended_by, flush=True)
async def tell():
    while not stream.is_ready():
        await asyncio.sleep(0.01)
    print("ready", stream.process_status()["recorder"].pid, flush=True)
asyncio.run(main())
print("done", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_a_script_like_stop_streaming(peer, question, number):
    """It returns its summary, exits with 0, and leaves no child."""
    argv = [sys.executable, "-c", SCRIPT, peer.url, str(question[0])]
    with anyio.fail_after(SHORT):
        process = await asyncio.create_subprocess_exec(*argv, stdout=subprocess.PIPE)
        ready = await process.stdout.readline()
        recorder = int(ready.split()[1])
        process.send_signal(number)
        out, _ = await process.communicate()
    assert out.decode().splitlines() == [f"ended by {number.name}", "done"]
    assert process.returncode == 0
    with pytest.raises(ProcessLookupError):
        os.kill(recorder, 0)


async def test_handlers_of_the_app_are_left_alone(peer, make):
    """And Python's own are put back."""
    before = signal.getsignal(signal.SIGINT)
    mine = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        stream = make(peer.url)
        running = asyncio.create_task(stream.start_streaming())
        with anyio.fail_after(SHORT):
            while not stream.is_ready():
                await asyncio.sleep(0.01)
            assert signal.getsignal(signal.SIGTERM).__name__ == "<lambda>"
            await stream.stop_streaming()
            await running
        assert signal.getsignal(signal.SIGINT) is before
    finally:
        signal.signal(signal.SIGTERM, mine)


# --- The small print --------------------------------------------------------------


async def test_waiting_for_a_response_is_bounded(peer, make):
    """It is told when none comes, and when none can come any more."""
    async with make(peer.url) as stream:
        with pytest.raises(WaitExpired, match=r"0\.05 s"):
            await stream.wait_for_response(0.05)
        waiting = asyncio.create_task(stream.wait_for_response(None))
        await asyncio.sleep(0)
    with pytest.raises(ClosedStream):
        await waiting
    with pytest.raises(ClosedStream):
        await stream.wait_for_response()


async def test_a_response_under_way_at_the_end_is_lost(peer, make):
    """And whoever waits for it learns that."""
    async with make(f"{peer.url}?fault=stall@response.created") as stream:
        stream.send_text(QUESTION, trigger_response=True)
        waiting = asyncio.create_task(stream.wait_for_response(SHORT))
        await asyncio.sleep(0)
    assert (await waiting).status is Status.LOST


async def test_a_subscriber_that_raises_is_logged_and_called_again(peer, make):
    """And one that left is not."""
    stream = make(peer.url)
    calls = []

    def bad(event):
        calls.append(event)
        raise RuntimeError("mine")

    unsubscribe = stream.subscribe(bad)
    gone = observe(stream)
    async with stream:
        await ask(stream)
        unsubscribe()
        unsubscribe()
        before = len(calls)
        await ask(stream)
    assert 2 < before == len(calls) < len(gone)
    errors = await stream.logger.get_logs(level="ERROR", pattern="subscriber")
    assert len(errors) == before


async def test_questions_about_unknown_processes_name_the_known_ones(peer, make):
    """At any time."""
    async with make(peer.url, speaker=["sh", "-c", "cat >/dev/null"]) as stream:
        with pytest.raises(UnknownProcess, match="player"):
            stream.error_history("sox")
        assert stream.error_history("player") is not None
    assert stream.error_history() is not None


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ({"turn_detection": "server_vad"}, r"ServerVad\(…\).*'server_vad'"),
        ({"stall_after": 0}, "stall_after"),
        ({"prebuffer_ms": -1}, "prebuffer_ms"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused_at_once(option, said, tmp_path):
    """And no log is left behind."""
    with pytest.raises(InvalidConfiguration, match=said):
        Stream(**option)


async def test_a_session_logs_where_its_manager_does(peer, manager, logger):
    """Unless it is told otherwise."""
    options = {"url": peer.url, "microphone": None, "speaker": None}
    async with Stream(process_manager=manager, **options) as stream:
        assert stream.logger is logger
    entries = await logger.get_logs(component="session")
    assert entries[-1].message == "Session ended"


async def test_nonsense_is_refused(make):
    """Where the mistake is."""
    stream = make("http://example.org")
    with pytest.raises(InvalidConfiguration):
        await stream.start_streaming()
    with pytest.raises(InvalidConfiguration):
        stream.send_text(" ")
    with pytest.raises(InvalidConfiguration):
        stream.send_text("x", role="me")
