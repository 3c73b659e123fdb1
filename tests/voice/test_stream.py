"""Sessions with the offline peer, real recorders and players, and real signals."""

import array
import asyncio
import io
import json
import os
import signal
import subprocess
import sys
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
from realtalk_async.voice import connection as connection_module
from realtalk_async.voice.audio import sound_file
from realtalk_async.voice.timeline import svg

TIMEOUT = 240
"""Seconds for any step; only a test that fails waits for so long."""

QUESTION = "What is two plus three?"
ANSWER = "Two plus three is five."


@pytest.fixture(scope="module")
def question(tmp_path_factory):
    """Return a WAV with one spoken question, and its times."""
    path = tmp_path_factory.mktemp("speech") / "question.wav"
    (spoken,) = render([(QUESTION, 1.0)], path)
    return path, spoken


@pytest.fixture
async def peer(question):
    """Yield a peer that sends audio as fast as possible; its recogniser is loaded."""
    async with Peer(pace=0) as peer:
        yield peer


@pytest.fixture
def make(tmp_path):
    """Return a function that makes a stream without audio; its log is in *tmp_path*."""

    def make(url, **options):
        silent = {"microphone": None, "speaker": None}
        options = {"logger": Logger(tmp_path / "app.log"), **silent, **options}
        return Stream(url=url, **options)

    return make


def observe(stream):
    """Return a list that receives all events of *stream*."""
    seen = []
    stream.subscribe(seen.append)
    return seen


async def happens(stream, kind, condition=lambda event: True):
    """Wait for an event of *kind* that meets *condition*."""
    arrived = asyncio.Event()

    def look(event):
        if isinstance(event, kind) and condition(event):
            arrived.set()

    unsubscribe = stream.subscribe(look)
    with anyio.fail_after(TIMEOUT):
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
    """Ask a question as text, and return the outcome of its response."""
    stream.send_text(text, trigger_response=True)
    return await stream.wait_for_response(TIMEOUT)


# --- A conversation ---------------------------------------------------------------


async def test_a_text_conversation_can_be_read_during_and_after_the_block(peer, make):
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


async def test_a_question_in_a_wav_gets_an_answer_in_a_wav(
    peer, make, question, tmp_path
):
    path, _ = question
    speaker = tmp_path / "answer.wav"
    stream = make(peer.url, microphone=path, speaker=str(speaker))
    seen = observe(stream)
    async with stream:
        assert set(stream.process_status()) == {"recorder", "player", "connection"}
        outcome = await stream.wait_for_response(TIMEOUT)
        await stream.wait_until_played(TIMEOUT)
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


async def test_a_recorder_killed_within_a_sentence_is_replaced_and_no_audio_is_lost(
    peer, make, question, tmp_path
):
    """The next one continues where it ended, so the sentence is recognised."""
    path, spoken = question
    stream = make(peer.url, microphone=path, speaker=tmp_path / "answer.wav")
    middle = (spoken.start + spoken.end) / 2 * 48_000
    async with stream:
        with anyio.fail_after(TIMEOUT):
            while stream.summary().sent_audio * 48_000 < middle:
                await asyncio.sleep(0.01)
        os.kill(stream.process_status()["recorder"].pid, signal.SIGKILL)
        outcome = await stream.wait_for_response(TIMEOUT)
    assert outcome.text == ANSWER
    assert stream.summary().restarts["recorder"] == 1
    history = stream.error_history("recorder")
    assert "SIGKILL" in str(history)
    entries = await stream.logger.get_logs(level="ERROR", component="recorder")
    assert "died" in entries[0].message or "killed" in str(entries[0])


async def test_a_player_killed_within_a_response_is_replaced_and_continues_its_file(
    peer, make, tmp_path
):
    speaker = tmp_path / "answer.wav"
    stream = make(peer.url, speaker=speaker)
    async with stream:
        await ask(stream)
        with anyio.fail_after(TIMEOUT):
            while stream.summary().played_audio < 0.5:
                await asyncio.sleep(0.01)
        before = stream.summary().played_audio
        os.kill(stream.process_status()["player"].pid, signal.SIGKILL)
        await stream.wait_until_played(TIMEOUT)
        assert stream.is_ready()
    assert stream.summary().restarts["player"] == 1
    with wave.open(str(speaker)) as file:
        played = file.getnframes() / file.getframerate()
    # Only audio that the dead player had received may be missing, however much of it the
    # player had written by then.
    total = stream.summary().played_audio
    assert total - before - 0.4 <= played <= total + 0.4
    assert played > 0.5


async def test_the_users_voice_interrupts_a_response(peer, make, tmp_path):
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
        with anyio.fail_after(TIMEOUT):
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


async def test_the_app_can_interrupt_a_response(make, tmp_path):
    async with (
        Peer(pace=1) as peer,
        make(peer.url, speaker=tmp_path / "out.wav") as stream,
    ):
        stream.send_text("Say a b c d e f g h i j k l m.", trigger_response=True)
        with anyio.fail_after(TIMEOUT):
            while stream.summary().played_audio < 0.2:
                await asyncio.sleep(0.01)
        stream.interrupt()
        outcome = await stream.wait_for_response(TIMEOUT)
        assert outcome.status is Status.CANCELLED
        played = stream.summary().played_audio
        await stream.wait_until_played(TIMEOUT)
        assert stream.summary().played_audio == played
        assert stream.conversation()[-1].interrupted


async def test_the_status_message_follows_each_response(peer, make):
    async with make(peer.url) as stream:
        stream.set_status_message("It is noon.")
        await ask(stream)
        await ask(stream)
        with anyio.fail_after(TIMEOUT):
            while [r for r, _ in sent_texts(peer, 1)].count("system") < 2:
                await asyncio.sleep(0.01)
    assert [role for role, _ in sent_texts(peer, 1)] == ["user", "system"] * 2


async def test_texts_written_before_the_start_are_sent(peer, make):
    stream = make(peer.url)
    stream.send_text(QUESTION, trigger_response=True)
    async with stream:
        assert (await stream.wait_for_response(TIMEOUT)).text == ANSWER
    with pytest.raises(ClosedStream):
        stream.send_text("too late")


async def test_a_tool_is_called_and_its_output_answered(peer, make):
    """A caller waits for the answer, not for the call; a slow tool delays no other."""
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
        with anyio.fail_after(TIMEOUT):
            await asked.wait()
        assert len(stream.summary().outcomes) <= 1
        go_on.set()
        outcome = await stream.wait_for_response(TIMEOUT)
    assert outcome.text == "The answer is: sky clear."
    assert [o.calls for o in stream.summary().outcomes] == [("get_weather",), ()]


@pytest.mark.parametrize("way", ["the request", "wait_for_response"])
async def test_a_tool_can_let_the_model_speak_and_wait_for_it(peer, make, way):
    spoken = []

    async def get_weather(city: str) -> str:
        filler = stream.send_text("Say: one moment", trigger_response=True)
        waiting = filler if way == "the request" else stream.wait_for_response(TIMEOUT)
        spoken.append((await waiting).text)
        return "clear sky"

    stream = make(peer.url, tools=[get_weather])
    async with stream:
        question = stream.send_text(
            "How is the weather in Oslo?", trigger_response=True
        )
        with anyio.fail_after(TIMEOUT):
            answer = await (
                question if way == "the request" else stream.wait_for_response()
            )
    assert answer.text == "The answer is: clear sky."
    assert spoken == ["One moment."]


async def test_a_new_connection_gets_the_calls_and_outputs_of_tools_in_their_place(
    make,
):
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


async def test_a_tool_that_hangs_is_cancelled_at_the_end_of_the_session(peer, make):
    asked = asyncio.Event()

    async def get_weather() -> None:
        asked.set()
        await asyncio.Event().wait()

    async with make(peer.url, tools=[get_weather]) as stream:
        stream.send_text("How is the weather?", trigger_response=True)
        with anyio.fail_after(TIMEOUT):
            await asked.wait()


# --- Recording both sides ---------------------------------------------------------


def loud(path):
    """Return the first and last loud second of each channel of a WAV, or None."""
    with wave.open(str(path)) as file:
        samples = array.array("h", file.readframes(file.getnframes()))
        channels = file.getnchannels()
    sides = []
    for side in (samples[i::channels] for i in range(channels)):
        pieces = range(0, len(side), 240)
        places = [i for i in pieces if max(map(abs, side[i : i + 240])) > 500]
        sides.append((places[0] / 24_000, places[-1] / 24_000) if places else None)
    return sides


async def test_the_recording_has_the_user_left_and_the_response_right(
    peer, make, question, tmp_path
):
    path, _ = question
    record, speaker = tmp_path / "both.wav", tmp_path / "answer.wav"
    stream = make(peer.url, microphone=path, speaker=speaker, record=record)
    async with stream:
        assert (await stream.wait_for_response(TIMEOUT)).text == ANSWER
        await stream.wait_until_played(TIMEOUT)
    (asked, asked_until), (answered, answered_until) = loud(record)
    assert asked < asked_until < answered < answered_until
    ((began, ended),) = loud(speaker)
    # Never less; more if the player ran empty on a busy machine.
    assert answered_until - answered > ended - began - 0.1


async def test_an_unwritable_recording_is_an_error_before_anything_starts(
    peer, make, tmp_path
):
    stream = make(peer.url, record=tmp_path / "missing" / "both.wav")
    with pytest.raises(AudioUnavailable, match=r"both\.wav.*No such file"):
        await stream.start_streaming()
    assert stream.process_status() == {}


async def test_a_recording_that_fails_does_not_end_the_session(peer, make, tmp_path):
    """It is logged once."""
    record = tmp_path / "both.wav"
    stream = make(peer.url, record=record)
    async with stream:
        record.unlink()
        with anyio.fail_after(TIMEOUT):
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


async def test_a_recording_is_valid_after_sigkill_of_the_app(peer, question, tmp_path):
    """It lacks at most the last second."""
    path, spoken = question
    record = tmp_path / "both.wav"
    arguments = [peer.url, str(path), str(tmp_path / "out.wav"), str(record)]
    app = await asyncio.create_subprocess_exec(
        sys.executable, "-c", KILLED, *arguments, cwd=tmp_path, env={**os.environ}
    )
    frames = 0
    with anyio.fail_after(TIMEOUT):
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
    """Each reader has its own queue; a reader that ended early costs nothing."""
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


async def test_the_metrics_of_a_session_are_ready_for_json_at_any_time(
    peer, make, question, tmp_path
):
    path, _ = question
    stream = make(peer.url, microphone=path, speaker=tmp_path / "answer.wav")
    assert stream.metrics().latency(0.5) is None
    async with stream:
        await stream.wait_for_response(TIMEOUT)
        await stream.wait_until_played(TIMEOUT)
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


async def test_an_interruption_has_the_players_delay_and_its_own_latency(
    peer, make, tmp_path
):
    stream = make(peer.url, speaker=tmp_path / "answer.wav")
    async with stream:
        stream.send_text("Say one two three four five six.", trigger_response=True)
        with anyio.fail_after(TIMEOUT):
            while not stream.summary().played_audio:
                await asyncio.sleep(0.01)
        stream.interrupt()
    assert all(0 < ms <= 200 for ms in stream.metrics().barge_ins)


async def test_the_timeline_of_a_session_can_be_drawn(peer, make, question, tmp_path):
    """From the summary, and at any time from a file."""
    path, _ = question
    stream = make(peer.url, microphone=path, speaker=tmp_path / "answer.wav")
    async with stream:
        os.kill(stream.process_status()["recorder"].pid, signal.SIGKILL)
        await stream.wait_for_response(TIMEOUT)
        await stream.wait_until_played(TIMEOUT)
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


async def test_a_standby_player_takes_over_within_a_response(peer, make):
    """The dead player is restarted as the standby of the other one."""
    command = ["sh", "-c", "exec cat >/dev/null"]
    stream = make(peer.url, speaker=command, standby=True, prebuffer_ms=40)
    async with stream:
        await ask(stream, "Tell me a story.")
        with anyio.fail_after(TIMEOUT):
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
    """Return a WAV with a question at its beginning."""
    path = tmp_path_factory.mktemp("speech") / "sentence.wav"
    (spoken,) = render([(QUESTION, 0.5)], path)
    return path, spoken


async def sends(stream, seconds):
    """Wait until so many seconds of the microphone were sent."""
    with anyio.fail_after(TIMEOUT):
        while stream.summary().sent_audio < seconds:
            await asyncio.sleep(0.01)


async def test_only_audio_within_a_push_to_talk_block_is_sent_and_answered(
    peer, make, sentence
):
    path, spoken = sentence
    recorder = f"sleep 0.5; exec {sys.executable} {sound_file.__file__} {path}"
    silence = f"{sys.executable} -c 'import os,sys; os.write(1, bytes(48_000))'"
    command = ["sh", "-c", f"{silence}; {recorder}"]
    stream = make(peer.url, microphone=command, turn_detection=None)
    async with stream:
        assert stream.summary().sent_audio == 0
        async with stream.push_to_talk():
            await sends(stream, spoken.end + 0.3)
        outcome = await stream.wait_for_response(TIMEOUT)
        assert outcome.text == ANSWER
        sent = stream.summary().sent_audio
        with pytest.raises(ZeroDivisionError):
            async with stream.push_to_talk():
                await sends(stream, sent + 0.2)
                raise ZeroDivisionError
        stream.start_talking()
        assert not stream.stop_talking()  # too short
        assert not stream.stop_talking()  # there is no turn
        outcome = await stream.wait_for_response(TIMEOUT)
        assert outcome.status is Status.CANCELLED
        assert "shorter than 100 ms" in outcome.reason
    assert stream.eventlog.find("commit$", direction="sent")[0].type
    assert len(stream.eventlog.find("commit$", direction="sent")) == 1
    assert len(stream.summary().outcomes) == 2
    with pytest.raises(ClosedStream):
        stream.start_talking()


async def test_push_to_talk_is_refused_with_turn_detection_or_without_a_microphone(
    peer, make
):
    async with make(peer.url) as stream:
        with pytest.raises(InvalidConfiguration, match="turn_detection"):
            stream.start_talking()
        assert not stream.stop_talking()
    async with make(peer.url, turn_detection=None) as stream:
        with pytest.raises(InvalidConfiguration, match="microphone"):
            stream.start_talking()


async def test_a_muted_microphone_sends_silence_of_the_same_duration(
    peer, make, question
):
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


async def test_with_half_duplex_the_response_in_the_microphone_starts_no_turn(
    peer, make
):
    """The microphone receives noise from the response's first sound on."""

    async def microphone():
        while not stream.summary().played_audio:
            yield bytes(960)
            await asyncio.sleep(0.02)
        while True:
            yield os.urandom(960)
            await asyncio.sleep(0.02)

    stream = make(
        peer.url,
        microphone=microphone,
        speaker=["sh", "-c", "cat >/dev/null"],
        half_duplex=True,
    )
    seen = observe(stream)
    async with stream:
        assert (await ask(stream)).completed
        await stream.wait_until_played(TIMEOUT)
        # The same noise starts a turn as soon as no response is audible.
        with anyio.fail_after(TIMEOUT):
            while not any(isinstance(e, events.SpeechStarted) for e in seen):
                await asyncio.sleep(0.01)
    assert not [e for e in seen if isinstance(e, events.Interrupted)]
    assert stream._session.microphone.filter.withheld


async def test_a_connection_is_replaced_before_it_expires(peer, make):
    """Without an error; the audio of the microphone is kept meanwhile."""
    silence = "import os, time\nwhile 1: os.write(1, bytes(960)); time.sleep(.02)"
    command = [sys.executable, "-c", silence]
    stream = make(f"{peer.url}?lifetime=3", microphone=command)
    seen = observe(stream)
    async with stream:
        with anyio.fail_after(TIMEOUT):
            while not any(isinstance(e, events.ConnectionRestored) for e in seen):
                await asyncio.sleep(0.01)
        assert (await ask(stream)).completed
    assert stream.summary().dropped_audio == 0
    assert stream.summary().restarts["connection"] == 0
    assert not [e for e in seen if isinstance(e, events.ConnectionLost)]
    assert not await stream.logger.get_logs(level="ERROR")


async def test_view_log_prints_and_returns_filtered_events(peer, make):
    async with make(peer.url) as stream:
        await ask(stream)
    out = io.StringIO()
    found = stream.view_log("^response", direction="received", file=out)
    assert found[0].type == "response.created"
    assert found[-1].type == "response.done"
    assert len(out.getvalue().splitlines()) == len(found)
    assert stream.eventlog[0].type in ("session.update", "session.created")


# --- Errors of the start ----------------------------------------------------------


async def test_a_missing_key_is_an_error_before_anything_starts(make, monkeypatch):
    """It names the variable and the offline peer."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    stream = make(None)
    with pytest.raises(MissingApiKey, match="OPENAI_API_KEY"):
        await stream.start_streaming()
    assert stream.process_status() == {}
    with pytest.raises(MissingApiKey):
        async with stream:
            pass


async def test_a_refused_key_ends_the_start(peer, make):
    """The session does not dial again, and starts no audio."""
    stream = make(peer.url, api_key="sk-refused", speaker=["cat"])
    with pytest.raises(AuthenticationRefused, match="refused the key"):
        async with stream:
            pass
    assert stream.summary().restarts == {"connection": 0}
    with pytest.raises(ClosedStream):
        await stream.start_streaming()


async def test_an_unreachable_service_ends_the_start(make):
    """At once: a mistake is likelier than an outage."""
    async with Peer() as peer:
        url = peer.url
    with pytest.raises(ServiceUnreachable, match="is the peer running"):
        await make(url).start_streaming()


async def test_the_error_of_a_refused_configuration_has_the_reason_of_the_service(
    peer, make
):
    stream = make(f"{peer.url}?fault=error-insufficient_quota@session.updated")
    with pytest.raises(ServiceRefused, match="insufficient_quota"):
        await stream.start_streaming()


async def test_a_missing_recorder_is_an_error_with_advice_before_anything_starts(
    peer, make
):
    stream = make(peer.url, microphone=["no-such-recorder"])
    with pytest.raises(AudioUnavailable, match="no-such-recorder"):
        await stream.start_streaming()
    assert stream.process_status() == {}


async def test_the_error_of_a_failed_recorder_has_its_last_lines(peer, make):
    """It was restarted before, because a device may be busy for a moment."""
    script = "echo 'Device or resource busy' >&2; exit 1"
    stream = make(peer.url, microphone=["sh", "-c", script])
    with pytest.raises(AudioUnavailable, match="Device or resource busy"):
        await stream.start_streaming()
    assert stream.summary().restarts["recorder"] > 3
    assert "Device or resource busy" in str(stream.error_history("recorder"))


async def test_the_error_of_a_failed_player_has_its_last_lines(peer, make):
    script = "echo 'Connection failure' >&2; exit 1"
    stream = make(peer.url, speaker=["sh", "-c", script])
    with pytest.raises(AudioUnavailable, match="Connection failure"):
        await stream.start_streaming()


def program(folder, name, script):
    """Create a program of that *name*; return its folder."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(folder)


async def test_the_first_program_that_works_is_chosen(
    peer, make, tmp_path, monkeypatch
):
    """The best program is installed, but its sound server does not run."""
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


async def test_the_first_program_that_works_is_chosen_for_a_player_and_its_standby(
    peer, make, tmp_path, monkeypatch
):
    """Both fail with the best program; neither skips the next program."""
    program(tmp_path, "pw-play", "echo 'no server' >&2; exit 1")
    path = program(tmp_path, "pacat", "exec cat >/dev/null")
    monkeypatch.setenv("PATH", path, prepend=os.pathsep)
    async with make(peer.url, speaker="default", standby=True) as stream:
        with anyio.fail_after(TIMEOUT):
            while min(s.uptime for s in stream.process_status().values()) < 0.5:
                await asyncio.sleep(0.01)
        for name in ("player", "standby"):
            lives = stream.error_history(name).processes[name].incarnations
            assert [life.command.split()[0] for life in lives] == [
                f"{path}/pw-play",
                f"{path}/pacat",
            ]


async def test_a_program_that_has_worked_is_kept_when_its_sound_server_ends(
    peer, make, tmp_path, monkeypatch
):
    """It is restarted until it works again, however quickly it dies."""
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
        with anyio.fail_after(TIMEOUT):
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


async def test_the_error_without_devices_names_all_programs_and_their_last_lines(
    peer, make, tmp_path, monkeypatch
):
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
async def test_every_fault_gives_one_outcome_and_the_next_question_is_answered(
    fault, expected, peer, make
):
    stream = make(peer.url, speaker=["sh", "-c", "cat >/dev/null"], stall_after=1.0)
    seen = observe(stream)
    peer.fault(fault)
    async with stream:
        assert (await ask(stream)).status is expected
        if fault.startswith("stall"):
            return  # the peer sends nothing more on this connection
        outcome = await ask(stream, "What is ten minus four?")
        assert outcome.status is Status.COMPLETED
        assert outcome.text == "Ten minus four is six."
    finished = [e for e in seen if isinstance(e, events.ResponseFinished)]
    assert len(finished) == 2
    lost = [e for e in seen if isinstance(e, events.ConnectionLost)]
    assert len(lost) == (expected is Status.LOST)


async def test_a_lost_connection_is_restored_with_the_conversation(peer, make):
    """The conversation is replayed as text on a new connection."""
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
    """Waiting callers get the reason too."""
    stream = make(peer.url)
    peer.fault("error-insufficient_quota@response.created")

    async def talk():
        async with stream:
            outcome = await ask(stream)
            assert outcome.status is Status.LOST
            with pytest.raises(ClosedStream):
                await stream.wait_for_response(TIMEOUT)

    with pytest.raises(ServiceRefused, match="insufficient_quota") as caught:
        await talk()
    assert caught.value.code == "insufficient_quota"
    assert "insufficient_quota" in stream.summary().ended_by
    assert peer.connections == 1


# --- Children that are given up ---------------------------------------------------

ONCE = """
import os, sys, time
if os.path.exists(sys.argv[1]):
    sys.exit("the device is gone")
while not os.path.exists(sys.argv[1]):
    os.write(1, bytes(960))
    time.sleep(0.02)
"""


@pytest.mark.parametrize("shared", [False, True], ids=["own", "given"])
async def test_a_recorder_that_is_given_up_ends_the_session(
    peer, make, tmp_path, shared
):
    """A manager that the app passed goes on."""
    gone = tmp_path / "gone"
    argv = [sys.executable, "-c", ONCE, str(gone)]
    async with Logger(tmp_path / "m.log") as logger, ProcessManager(logger) as manager:
        options = {"process_manager": manager} if shared else {}
        stream = make(peer.url, microphone=argv, **options)

        async def talk():
            async with stream:
                gone.touch()
                with pytest.raises(ClosedStream):
                    await stream.wait_for_response(TIMEOUT)

        with pytest.raises(CriticalProcessFailed, match="recorder") as caught:
            await talk()
        assert caught.value.report is not None
        assert "the device is gone" in str(stream.error_history("recorder"))
        assert manager.status in ("running", "degraded")


async def test_a_silent_recorder_is_replaced(peer, make, question):
    """Recorders are silent when their device vanishes."""
    async with make(peer.url, microphone=question[0]) as stream:
        os.kill(stream.process_status()["recorder"].pid, signal.SIGSTOP)
        with anyio.fail_after(TIMEOUT):
            while not stream.process_status()["recorder"].restarts:
                await asyncio.sleep(0.01)
        assert (await stream.wait_for_response(TIMEOUT)).text == ANSWER
        assert "silent on stdout" in str(stream.error_history("recorder"))


async def test_a_recorder_with_a_wrong_rate_is_replaced_and_reported(peer, make):
    """Its audio would be garbled."""
    fast = "import os, time\nwhile 1: os.write(1, bytes(9600)); time.sleep(.02)"
    stream = make(peer.url, microphone=[sys.executable, "-c", fast])
    async with stream:
        await happens(
            stream,
            events.DeviceFailed,
            lambda event: event.problem is events.DeviceProblem.WRONG_RATE,
        )
    assert "bytes a second, not 48,000" in str(stream.error_history("recorder"))


async def test_restarts_for_a_busy_device_do_not_count_as_failures(
    peer, make, tmp_path
):
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
        with anyio.fail_after(TIMEOUT):
            while stream.summary().sent_audio < 1:
                await asyncio.sleep(0.01)
    troubles = [e.problem for e in seen if isinstance(e, events.DeviceFailed)]
    assert troubles == [events.DeviceProblem.DIED] + [events.DeviceProblem.BUSY] * 10


async def test_a_recorder_that_exits_with_0_has_failed(peer, make, tmp_path):
    """sox and ffmpeg exit with 0 when the sound server ends."""
    argv = ["sh", "-c", "head -c 96000 /dev/zero"]
    async with make(peer.url, microphone=argv) as stream:
        with anyio.fail_after(TIMEOUT):
            while not stream.process_status()["recorder"].restarts:
                await asyncio.sleep(0.01)
        errors = await stream.logger.get_logs(level="ERROR", component="recorder")
        assert errors


async def test_a_session_without_a_player_goes_on_degraded_as_text(
    peer, make, tmp_path
):
    gone = tmp_path / "gone"
    script = f"test -e {gone} && exit 1; exec cat >/dev/null"
    async with make(peer.url, speaker=["sh", "-c", script]) as stream:
        gone.touch()
        os.kill(stream.process_status()["player"].pid, signal.SIGKILL)
        with anyio.fail_after(TIMEOUT):
            while "player" not in stream.process_manager.degraded:
                await asyncio.sleep(0.01)
        assert (await ask(stream)).text == ANSWER
        await stream.wait_until_played(TIMEOUT)


async def test_a_player_that_reads_no_input_is_replaced(peer, make, tmp_path):
    """Players do this when their device vanishes."""
    deaf = tmp_path / "deaf"
    deaf.touch()
    script = f"test -e {deaf} && {{ rm {deaf}; exec 0<&-; sleep 600; }}; cat >/dev/null"
    async with make(peer.url, speaker=["sh", "-c", script]) as stream:
        await ask(stream)
        with anyio.fail_after(TIMEOUT):
            while stream.process_status()["player"].restarts < 1:
                await asyncio.sleep(0.01)
        await stream.wait_until_played(TIMEOUT)
        assert stream.is_ready()


# --- Start and stop ---------------------------------------------------------------


async def test_start_streaming_runs_until_stopped_and_returns_a_summary(peer, make):
    """A second stop changes nothing."""
    stream = make(peer.url)
    await stream.stop_streaming()  # nothing to stop yet
    async with anyio.create_task_group() as tasks:

        async def stop():
            await ask(stream)
            await stream.stop_streaming()
            await stream.stop_streaming()

        tasks.start_soon(stop)
        with anyio.fail_after(TIMEOUT):
            summary = await stream.start_streaming()
    assert summary.ended_by == "stop_streaming"
    assert [outcome.text for outcome in summary.outcomes] == [ANSWER]
    assert [entry.role for entry in summary.conversation] == ["user", "assistant"]
    assert summary.to_dict()["log_path"] == str(stream.logger.path)
    assert summary == stream.summary()
    await stream.stop_streaming()


async def test_arguments_of_start_streaming_override_those_of_the_constructor(
    peer, make
):
    stream = make(peer.url)
    async with anyio.create_task_group() as tasks:

        async def stop():
            while not stream.is_ready():
                await asyncio.sleep(0.01)
            await stream.stop_streaming()

        tasks.start_soon(stop)
        with anyio.fail_after(TIMEOUT):
            await stream.start_streaming("sk-1", "gpt-other", "cedar")
    session = peer.received[0].event["session"]
    assert session["audio"]["output"]["voice"] == "cedar"
    connected = stream.eventlog.find("session.created")[0]
    assert connected.data["session"]["model"] == "gpt-other"


async def test_a_second_start_waits_for_the_first_and_returns_the_same(peer, make):
    stream = make(peer.url)
    async with stream:
        joined = asyncio.create_task(stream.start_streaming())
        await asyncio.sleep(0)
        assert not joined.done()
    with anyio.fail_after(TIMEOUT):
        assert (await joined).ended_by == "stop_streaming"


async def test_a_session_can_be_started_in_a_task_group(peer, make):
    """`start` returns when the session is ready."""
    async with anyio.create_task_group() as tasks:
        with anyio.fail_after(TIMEOUT):
            stream = await tasks.start(make(peer.url).start_streaming)
            assert stream.is_ready()
            assert (await ask(stream)).text == ANSWER
        await stream.stop_streaming()


async def test_a_cancelled_task_group_ends_the_session_with_its_children(
    peer, make, question
):
    stream = make(peer.url, microphone=question[0])
    async with anyio.create_task_group() as tasks:
        await tasks.start(stream.start_streaming)
        tasks.cancel_scope.cancel()
    assert {s.status for s in stream.process_status().values()} == {"dead"}
    assert stream.summary().ended_by == "its task was cancelled"


async def test_the_block_may_be_left_in_another_task(peer, make, question):
    """As fixtures do."""
    stream = make(peer.url, microphone=question[0])
    with anyio.fail_after(TIMEOUT):
        await asyncio.create_task(stream.__aenter__())
        assert stream.is_ready()
        await asyncio.create_task(stream.__aexit__(None, None, None))
    assert not stream.is_ready()


async def test_an_ended_session_cannot_be_entered_again(peer, make):
    stream = make(peer.url)
    async with stream:
        pass
    with pytest.raises(ClosedStream, match="another Stream"):
        async with stream:
            pytest.fail("it was entered")


async def test_a_manager_that_closes_ends_the_session(peer, tmp_path, make):
    """A caller that waits for a response gets an error."""
    async with Logger(tmp_path / "app.log") as logger:
        manager = ProcessManager(logger)
        await manager.__aenter__()
        stream = make(peer.url, logger=logger, process_manager=manager)
        running = asyncio.create_task(stream.start_streaming())
        with anyio.fail_after(TIMEOUT):
            while not stream.is_ready():
                await asyncio.sleep(0.01)
            waiting = asyncio.create_task(stream.wait_for_response(None))
            await asyncio.sleep(0)
            await manager.aclose()
            with pytest.raises(ClosedStream, match="connection"):
                await waiting
            with pytest.raises(CriticalProcessFailed, match="connection"):
                await running


async def test_all_subscribers_get_the_events_in_order_although_one_acts_on_them(
    peer, make
):
    stream, kinds = make(peer.url), []

    def go_on(event):
        if event.kind == "response.finished" and kinds.count(event.kind) < 2:
            stream.send_text(QUESTION, trigger_response=True)

    stream.subscribe(go_on)
    stream.subscribe(lambda event: kinds.append(event.kind))
    async with stream:
        stream.send_text(QUESTION, trigger_response=True)
        with anyio.fail_after(20):
            while kinds.count("response.finished") < 3:
                await stream.wait_for_response(20)
    told = [
        kind
        for kind in kinds
        if kind in {"response.requested", "response.started", "response.finished"}
    ]
    turn = ["response.requested", "response.started", "response.finished"]
    assert told == turn * 3


async def test_a_subscriber_may_interrupt_at_an_interruption(peer, make):
    """The response has ended by then, so this is no endless loop."""
    stream = make(peer.url, speaker=["sh", "-c", "exec cat >/dev/null"])
    seen = observe(stream)
    stream.subscribe(
        lambda e: stream.interrupt() if isinstance(e, events.Interrupted) else None
    )
    async with stream:
        stream.send_text("Tell me a story.", trigger_response=True)
        with anyio.fail_after(TIMEOUT):
            while not stream.summary().played_audio:
                await asyncio.sleep(0.01)
        stream.interrupt()
        await stream.wait_for_response(TIMEOUT)
    assert len([e for e in seen if isinstance(e, events.Interrupted)]) == 1


async def test_a_stop_before_the_session_is_ready_is_an_error_of_entering_it(
    peer, make
):
    """Its recorder is silent, so it never becomes ready."""
    stream = make(peer.url, microphone=["sh", "-c", "exec sleep 600"])
    entering = asyncio.create_task(stream.__aenter__())
    with anyio.fail_after(TIMEOUT):
        while "recorder" not in stream.process_status():
            await asyncio.sleep(0.01)
        await stream.stop_streaming()
        with pytest.raises(ClosedStream, match="stop_streaming"):
            await entering


async def test_an_exception_in_the_block_is_raised_after_everything_has_ended(
    peer, make
):
    with pytest.raises(ZeroDivisionError):
        async with make(peer.url):
            1 / 0  # noqa: B018


STEPS = [0, 1, 2, 3, 5, 8, 12, 16, 20, 25, 30, 40, 55, 75, 100, 150]


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("functions", [False, True])
async def test_cancelling_at_any_step_leaves_nothing(
    steps, functions, peer, make, question
):
    """The leak check of the suite finds children, descriptors, tasks and threads."""
    stream = make(peer.url, microphone=question[0], speaker=["sh", "-c", "cat >&2"])
    if functions:
        stream = make(peer.url, microphone=lambda: bytes(960), speaker=print)
    before = asyncio.all_tasks()
    running = asyncio.create_task(stream.start_streaming())
    for _ in range(steps):
        await asyncio.sleep(0)
    running.cancel()
    with anyio.fail_after(TIMEOUT):
        await asyncio.wait([running])
    assert running.cancelled()
    for status in stream.process_status().values():
        assert status.status == "dead"
    left = asyncio.all_tasks() - before
    assert not [task for task in left if "peer" not in repr(task)] or not left


async def test_children_that_ignore_all_gentle_signals_are_killed(peer, make, tmp_path):
    both = tmp_path / "both are deaf"
    deaf, ever = "trap '' TERM INT HUP", "while :; do sleep 0.01; done"
    wait = f"while [ ! -e '{both}' ]; do sleep 0.01; done"
    recorder = ["sh", "-c", f"{deaf}; {wait}; head -c 9600 /dev/zero; {ever}"]
    player = ["sh", "-c", f"{deaf}; : > '{both}'; {ever}"]
    stream = make(peer.url, microphone=recorder, speaker=player)
    async with stream:
        with anyio.fail_after(TIMEOUT):
            await stream.stop_streaming()
    statuses = stream.process_status()
    assert {s.exit_status for n, s in statuses.items() if n != "connection"} == {-9}


async def test_the_manager_and_logger_of_the_app_outlive_the_session(peer, tmp_path):
    """The session stops only its own children."""
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
    """Return pid and incarnation of connection, recorder and player."""
    statuses = stream.process_status()
    return {name: (s.pid, s.incarnation) for name, s in statuses.items()}


QUIET = [
    *(sys.executable, "-c"),
    "import os, time\nwhile 1: os.write(1, bytes(960)); time.sleep(.02)",
]


async def test_connection_recorder_and_player_are_restarted_independently(make):
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
            with anyio.fail_after(TIMEOUT):
                while not stream.process_status()["recorder"].restarts:
                    await asyncio.sleep(0.01)
            after = pids(stream)
            assert after.pop("recorder") != before.pop("recorder")
            assert after == before


async def drops(peer, stream, times):
    """Break the connection repeatedly; return when and why it was dialled again."""
    reasons = []
    stream.process_manager.subscribe(
        lambda e: reasons.append(e.reason) if isinstance(e, RestartScheduled) else None
    )
    for _ in range(times):
        peer.fault("drop@now")
        await happens(stream, events.ConnectionRestored)
    return reasons


async def test_a_connection_that_has_worked_is_dialled_again_at_once(make, monkeypatch):
    """However often it breaks; the delays grow only if it never works."""
    async with Peer(pace=0) as peer, make(peer.url) as stream:
        first = "failure score 1.0 of"
        assert [first in why for why in await drops(peer, stream, 3)] == [1, 0, 0]
        monkeypatch.setattr(connection_module, "_PROVEN", 0.0)
        assert [first in why for why in await drops(peer, stream, 5)] == [1] * 5


async def test_the_strategy_of_a_manager_applies_to_a_session(tmp_path, make):
    """Such as one that restarts the children with the connection."""
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
            with anyio.fail_after(TIMEOUT):
                while list(stream.summary().restarts.values()) != [1, 1, 1]:
                    await asyncio.sleep(0.01)
            assert (await ask(stream)).text == ANSWER
            await stream.wait_until_played(TIMEOUT)
    assert list(stream.summary().restarts) == ["connection", "player", "recorder"]


async def test_two_sessions_run_in_one_app_but_only_one_in_each_manager(
    peer, make, tmp_path
):
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
    with anyio.fail_after(TIMEOUT):
        process = await asyncio.create_subprocess_exec(*argv, stdout=subprocess.PIPE)
        try:
            ready = await process.stdout.readline()
            recorder = int(ready.split()[1])
            process.send_signal(number)
            out, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
    assert out.decode().splitlines() == [f"ended by {number.name}", "done"]
    assert process.returncode == 0
    with pytest.raises(ProcessLookupError):
        os.kill(recorder, 0)


async def test_signal_handlers_of_the_app_are_kept_and_pythons_restored(peer, make):
    before = signal.getsignal(signal.SIGINT)
    mine = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        stream = make(peer.url)
        running = asyncio.create_task(stream.start_streaming())
        with anyio.fail_after(TIMEOUT):
            while not stream.is_ready():
                await asyncio.sleep(0.01)
            assert signal.getsignal(signal.SIGTERM).__name__ == "<lambda>"
            await stream.stop_streaming()
            await running
        assert signal.getsignal(signal.SIGINT) is before
    finally:
        signal.signal(signal.SIGTERM, mine)


# --- Details ----------------------------------------------------------------------


async def test_waiting_for_a_response_is_bounded(peer, make):
    """The wait raises if no response comes, or if none can come any more."""
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
    """A waiting caller gets that outcome."""
    async with make(f"{peer.url}?fault=stall@response.created") as stream:
        stream.send_text(QUESTION, trigger_response=True)
        waiting = asyncio.create_task(stream.wait_for_response(TIMEOUT))
        await asyncio.sleep(0)
    assert (await waiting).status is Status.LOST


async def test_a_subscriber_that_raises_is_logged_and_called_again(peer, make):
    """An unsubscribed one is not called."""
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


async def test_the_error_of_an_unknown_process_names_the_known_ones(peer, make):
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
def test_an_invalid_option_is_refused_before_a_log_is_created(option, said, tmp_path):
    with pytest.raises(InvalidConfiguration, match=said):
        Stream(**option)


async def test_a_session_uses_the_logger_of_its_manager_unless_it_has_its_own(
    peer, manager, logger
):
    options = {"url": peer.url, "microphone": None, "speaker": None}
    async with Stream(process_manager=manager, **options) as stream:
        assert stream.logger is logger
    entries = await logger.get_logs(component="session")
    assert entries[-1].message == "Session ended"


async def test_invalid_arguments_of_methods_are_refused(make):
    with pytest.raises(InvalidConfiguration, match="url must be"):
        make("http://example.org")
    stream = make("ws://127.0.0.1:1")
    with pytest.raises(InvalidConfiguration):
        stream.send_text(" ")
    with pytest.raises(InvalidConfiguration):
        stream.send_text("x", role="me")
