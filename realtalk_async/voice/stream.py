"""
A voice conversation, supervised: recorder, player and connection under one manager.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Self, cast

import anyio.to_thread

from realtalk_async.concurrency.waiting import to_the_end
from realtalk_async.exceptions import ClosedStream, InvalidConfiguration, WaitExpired
from realtalk_async.logs import Logger
from realtalk_async.supervision import ProcessManager
from realtalk_async.voice.audio.devices import DEFAULT, Machine, is_program
from realtalk_async.voice.audio.player import Player
from realtalk_async.voice.audio.recorder import Recorder
from realtalk_async.voice.connection import Link
from realtalk_async.voice.endpoint import find_target
from realtalk_async.voice.engine import Engine
from realtalk_async.voice.event_bus import SessionEventBus
from realtalk_async.voice.eventlog import print_table
from realtalk_async.voice.metrics import Metrics
from realtalk_async.voice.protocol.messages import (
    DEFAULT_MODEL,
    DEFAULT_TRANSCRIPTION,
    DEFAULT_VOICE,
    SemanticVad,
    ServerVad,
    SessionConfig,
)
from realtalk_async.voice.protocol.microphone import InputFilter
from realtalk_async.voice.protocol.pcm import BYTES_PER_MS
from realtalk_async.voice.protocol.session import Session
from realtalk_async.voice.signals import Signals
from realtalk_async.voice.summary import Summary
from realtalk_async.voice.supervisor import Run
from realtalk_async.voice.tools import Toolbox

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable
    from datetime import datetime
    from types import TracebackType
    from typing import TextIO

    from anyio.abc import TaskStatus

    from realtalk_async.event_bus import EventFeed
    from realtalk_async.supervision import ErrorHistory, ProcessStatus
    from realtalk_async.voice.audio.callbacks import Sink, Source
    from realtalk_async.voice.audio.devices import Device
    from realtalk_async.voice.eventlog import Direction, EventLog, LoggedEvent
    from realtalk_async.voice.events import Entry, Outcome, Role, VoiceEvent
    from realtalk_async.voice.supervisor import Microphone, Speaker
    from realtalk_async.voice.tools import Tool, ToolFunction

SERVER_VAD = ServerVad()


class Stream:
    """
    One voice conversation with a realtime service.

    A whole script is ``asyncio.run(Stream().start_streaming())``. Inside an app::

        async with Stream(url=url, microphone="question.wav") as stream:
            outcome = await stream.wait_for_response()
            print(outcome.text)

    Recorder, player and connection are supervised together, and each is revived alone.
    A recorder that dies, or goes silent, is revived; a connection that breaks is dialled
    again and told the conversation as text; without a player the conversation goes on in
    writing. A recorder or a connection that cannot be revived ends the session.

    The block may be entered in one task and left in another, as fixtures do.

    Args:
        logger: Where everything is logged; if omitted the manager's, or one of its own.
        process_manager: Who supervises; one of its own if omitted. One that is given
            must be running, and is left running at the end. Its strategy holds for
            these three too; it has room for one session at a time.
        url: The address of the service; by default OpenAI's. That of an offline peer
            is such as ``ws://127.0.0.1:8765/v1/realtime``.
        api_key: The key; by default the environment's ``OPENAI_API_KEY``, which is
            sent to OpenAI only.
        model: The model.
        voice: The voice of the responses.
        instructions: What the model is to be; the service's own if omitted.
        microphone: ``"default"``; the path of an audio file, which is played in real
            time and followed by silence; a command of your own, as a list, that writes
            samples to its stdout; or ``None`` for a session without. Samples are signed
            16-bit little-endian mono at 24 kHz, 48 bytes a millisecond. It may also be
            a function: a generator function that yields samples, or a function that
            returns the next ones; one that is not async is called in a thread. It is
            asked for no more than real time. One that raises, ends or gives nothing for
            2 s has failed like a program, and is called again by the same policy.
        speaker: Likewise: the path of a WAV file to write, a command that reads
            samples from its stdin, or a function that is given them when they are due,
            at most 60 ms ahead of what has been played (200 ms once it was too late).
            When the user breaks in, nothing more comes; what holds sound back itself
            drops it at an `Interrupted`. One that raises or takes more than 2 s is
            called again, with what comes next. Without a speaker the responses are text.
        turn_detection: How the service finds the turns; ``None`` for push-to-talk:
            the service then hears nothing outside `push_to_talk`.
        half_duplex: Whether the service hears silence while a response is played. For a
            loudspeaker in the room without echo cancellation; the user's voice cannot
            break into a response then.
        transcription: The model that writes down what the user says, or ``None``.
        standby: Whether a second player stands by to take over when the first one dies,
            within milliseconds; the device must allow two. Not for files and functions.
        prebuffer_ms: How much of a response must have come before it is played, for a
            service or a network that is hardly faster than the voice; no response waits
            longer than that.
        record: The path of a stereo WAV for both sides: the user left, as the recorder
            gave it, and right the responses, as far as they were heard. It is valid at
            any time but for the last second, also if the app is killed. A disk that
            takes nothing for 20 s leaves a gap, which is silence, counted and logged.
        tools: Async functions that the model may call, or `Tool`s made of them, with a
            name, a description or a timeout of their own.
        stall_after: Seconds without a word about a response after which it is given up;
            and of a service, after which it is asked whether it is still there. One
            that does not say so within 5 s is dialled again.
        handle_signals: Whether Ctrl-C and SIGTERM end the session like
            `stop_streaming`. By default they do where `start_streaming` is awaited
            directly, in the main thread, and the app has no handlers of its own.

    Raises:
        LogUnavailable: If no log can be written.
        InvalidConfiguration: If an argument makes no sense.
    """

    def __init__(
        self,
        *,
        logger: Logger | None = None,
        process_manager: ProcessManager | None = None,
        url: str | None = None,
        api_key: str | None = None,
        model: str = DEFAULT_MODEL,
        voice: str = DEFAULT_VOICE,
        instructions: str | None = None,
        microphone: Device | Source = DEFAULT,
        speaker: Device | Sink = DEFAULT,
        turn_detection: ServerVad | SemanticVad | None = SERVER_VAD,
        transcription: str | None = DEFAULT_TRANSCRIPTION,
        half_duplex: bool = False,
        standby: bool = False,
        prebuffer_ms: float = 0,
        record: str | os.PathLike[str] | None = None,
        tools: Iterable[Tool | ToolFunction] = (),
        stall_after: float = 30.0,
        handle_signals: bool | None = None,
    ) -> None:
        _must_make_sense(turn_detection, stall_after, prebuffer_ms)
        owns_logger = logger is None and process_manager is None
        if logger is None:
            logger = Logger() if process_manager is None else process_manager.logger
        self.logger = logger
        """Where everything is logged."""
        self.process_manager = process_manager or ProcessManager(self.logger)
        """Who supervises recorder, player and connection."""
        self._url = url
        self._api_key = api_key
        self._microphone = microphone
        self._speaker = speaker
        self._record_to = record
        self._keeps_standby = standby
        self._handle_signals = handle_signals
        toolbox = Toolbox(tools)
        config = SessionConfig(
            model=model,
            voice=voice,
            instructions=instructions,
            modality="text" if speaker is None else "audio",
            transcription=transcription,
            turn_detection=turn_detection,
            tools=toolbox.to_message(),
        )
        self._session = Session(config, stall_after=stall_after)
        self._bus = SessionEventBus(self.logger)
        self._engine = Engine(
            *(self._session, self._bus.publish),
            plays=speaker is not None,
            toolbox=toolbox,
            input_filter=InputFilter(
                push_to_talk=turn_detection is None, half_duplex=half_duplex
            ),
            prebuffer_ms=prebuffer_ms,
        )
        self._run = Run(
            *(self._engine, self._bus, self.logger, self.process_manager),
            owns_logger=owns_logger,
            owns_manager=process_manager is None,
        )
        self._runner: asyncio.Task[Summary] | None = None

    def __repr__(self) -> str:
        ready = "ready" if self.is_ready() else "not ready"
        return f"<Stream {self._run.state}, {ready}, {len(self.eventlog)} events>"

    # --- Its life -----------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """
        Start the session, and wait until it is ready.

        Raises:
            StreamError: What `start_streaming` raises; `ClosedStream` if the session
                is stopped meanwhile.
        """
        runner = asyncio.create_task(self._start(), name="realtalk-async stream")
        runner.add_done_callback(lambda _: self._bus.notify())
        self._runner, run = runner, self._run
        try:
            await self._bus.wait_until(lambda: run.is_ready or runner.done())
        except asyncio.CancelledError:
            await to_the_end(self._end_runner())
            raise
        if runner.done():
            runner.result()
            raise run.closed()  # it was stopped before it was ready
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """
        Stop the session.

        Raises:
            StreamError, CriticalProcessFailed: What ended the session meanwhile, unless
                the block itself raised.
        """
        await to_the_end(self._end_runner())
        runner = self._runner
        if exc is None and runner is not None and not runner.cancelled():
            runner.result()

    async def _end_runner(self) -> None:
        self._run.ask_to_stop("stop_streaming")
        if self._runner is not None:
            await asyncio.wait([self._runner])
            if not self._runner.cancelled():
                self._runner.exception()  # seen, and raised where it belongs

    async def start_streaming(
        self,
        api_key: str | None = None,
        model: str | None = None,
        voice: str | None = None,
        *,
        task_status: TaskStatus[Stream] | None = None,
    ) -> Summary:
        """
        Run the session until it is stopped.

        If it runs already, wait for its end with the one who started it.

        Args:
            api_key: Instead of that of the constructor.
            model: Likewise.
            voice: Likewise.
            task_status: For ``task_group.start(stream.start_streaming)``, which
                returns when the session is ready.

        Returns:
            What was said and done.

        Raises:
            MissingApiKey: If the service needs a key and there is none; nothing was
                started.
            AudioUnavailable: If there is no microphone or speaker that works.
            AuthenticationRefused: If the service refuses the key.
            ServiceUnreachable: If the service cannot be reached at the start.
            ServiceRefused: If the service ended the session for good.
            CriticalProcessFailed: If the recorder or the connection could not be
                revived.
            ClosedStream: If the session has ended before: a stream is one session.

        Cancellation: All children are ended first, within 3 s.
        """
        is_script = task_status is None
        signals = is_script if self._handle_signals is None else self._handle_signals
        enabled = signals and self._run.state == "new"
        with Signals(self._run.ask_to_stop, enabled=enabled):
            return await self._start(api_key, model, voice, task_status)

    async def _start(
        self,
        api_key: str | None = None,
        model: str | None = None,
        voice: str | None = None,
        task_status: TaskStatus[Stream] | None = None,
    ) -> Summary:
        run = self._run
        if run.state == "running":
            await run.join()
            return self.summary()
        if run.state == "over":
            raise ClosedStream("the session has ended; make another Stream")
        link = self._find_link(api_key, model, voice)
        machine = Machine.this()
        recorder = self._find_microphone(machine)
        player = self._find_speaker(machine)
        if self._record_to is not None:
            from realtalk_async.voice.audio.recording import (
                Tape,  # few sessions are recorded
            )

            self._engine.tape = Tape(self._record_to, self.logger)

        def tell_who_waits() -> None:
            if task_status is not None:
                task_status.started(self)

        await run.hold(link, recorder, player, tell_who_waits)
        return self.summary()

    def _find_link(
        self, api_key: str | None, model: str | None, voice: str | None
    ) -> Link:
        config = self._session.config
        config = dataclasses.replace(
            config, model=model or config.model, voice=voice or config.voice
        )
        key = api_key or self._api_key
        target = find_target(self._url, key, config.model, os.environ)
        self._session.config = config
        return Link(target, self._engine)

    def _find_microphone(self, machine: Machine) -> Microphone | None:
        microphone = self._microphone
        if microphone is None:
            return None
        if is_program(microphone):
            return Recorder(microphone, machine, self._engine)
        from realtalk_async.voice.audio.callbacks import (
            FunctionRecorder,  # few have one
        )

        return FunctionRecorder(cast("Source", microphone), self._engine)

    def _find_speaker(self, machine: Machine) -> Speaker | None:
        speaker = self._speaker
        if speaker is None:
            return None
        if is_program(speaker):
            return Player(speaker, machine, self._engine, standby=self._keeps_standby)
        from realtalk_async.voice.audio.callbacks import FunctionPlayer  # likewise

        return FunctionPlayer(cast("Sink", speaker), self._engine)

    async def stop_streaming(self) -> None:
        """
        End the session and all its children, within 3 s. Idempotent, from any task.

        Before the start there is nothing to stop. How the session went is told where
        it was started.

        Cancellation: Only the waiting is given up; the end goes on.
        """
        if self._run.state == "running":
            self._run.ask_to_stop("stop_streaming")
            await self._run.wait_until_over()

    # --- Looking at it ------------------------------------------------------------

    def is_ready(self) -> bool:
        """Return whether the session runs, is connected, and hears."""
        return self._run.is_ready and self._session.ready

    def process_status(self) -> dict[str, ProcessStatus]:
        """
        Return what is known of recorder, player and connection, at any time.

        And of all else that the manager supervises, if it was given.
        """
        return self.process_manager.get_statuses()

    def error_history(self, process_name: str | None = None) -> ErrorHistory:
        """
        Return all that happened to one process, or to all, at any time.

        Raises:
            UnknownProcess: If there is no process of that name.
        """
        return self.process_manager.get_error_history(process_name)

    def summary(self) -> Summary:
        """Return what was said and done so far."""
        engine, run = self._engine, self._run
        per_second = 1000 * BYTES_PER_MS
        return Summary(
            started_at=run.started_at,
            duration=run.duration,
            ended_by=run.ended_by,
            conversation=tuple(self.conversation()),
            outcomes=tuple(self._session.responses.outcomes),
            restarts=self._restarts(),
            sent_audio=engine.sent_audio / per_second,
            dropped_audio=engine.microphone.dropped / per_second,
            played_audio=engine.playback.written / per_second,
            underruns=engine.playback.underruns,
            log_path=Path(self.logger.path),
            timeline=engine.chronicle.marks,
        )

    def _restarts(self) -> dict[str, int]:
        statuses = self.process_manager.get_statuses()
        return {n: s.restarts for n, s in statuses.items() if n in self._run.names}

    def metrics(self) -> Metrics:
        """
        Return the session in numbers, at any time: latencies, sound, what failed.

        It costs the same however long the session is.
        """
        engine, run = self._engine, self._run
        microphone, playback = engine.microphone, engine.playback
        recorder = run.recorder
        per_second = 1000 * BYTES_PER_MS
        return Metrics(
            duration=run.duration,
            connected=self._session.ready,
            turns=tuple(engine.meter.turns),
            barge_ins=tuple(engine.meter.barge_ins),
            switches=tuple(engine.meter.switches),
            responses=dict(self._session.responses.counts),
            restarts=self._restarts(),
            sent_audio=engine.sent_audio / per_second,
            waiting_audio=len(microphone) / per_second,
            dropped_audio=microphone.dropped / per_second,
            withheld_audio=engine.input_filter.withheld / per_second,
            played_audio=playback.written / per_second,
            queued_audio=playback.queued / per_second,
            underruns=playback.underruns,
            recorder_rate=0.0 if recorder is None else recorder.watch.rate,
            missed_events=self._bus.missed,
            unrecorded_audio=0.0 if engine.tape is None else engine.tape.missing,
        )

    async def save_timeline(self, path: str | os.PathLike[str]) -> None:
        """
        Save what happened when, as JSON lines, for ``realtalk-async timeline``.

        `voice.timeline.render` draws it, or draws the summary at once.

        Raises:
            OSError: If *path* cannot be written.
        """
        from realtalk_async.voice.timeline import svg  # few sessions are ever drawn

        marks = self._engine.chronicle.marks
        await anyio.to_thread.run_sync(svg.save, marks, path)

    @property
    def eventlog(self) -> EventLog:
        """All protocol events, both ways."""
        return self._engine.eventlog

    def view_log(
        self,
        pattern: str | None = None,
        *,
        direction: Direction | None = None,
        since: datetime | None = None,
        n: int | None = None,
        file: TextIO | None = None,
    ) -> list[LoggedEvent]:
        """
        Print the protocol events that match, one line each, and return them.

        Args:
            pattern: A regular expression, looked for in the type: ``"^response"``.
            direction: Only those ``"sent"``, or only those ``"received"``.
            since: Only those from this time on.
            n: Only the newest *n*.
            file: Where to print; standard output if omitted.
        """
        found = self.eventlog.find(pattern, direction=direction, since=since, n=n)
        print_table(found, file)
        return found

    def conversation(self) -> list[Entry]:
        """Return what was said, in order; interrupted responses as they were heard."""
        return self._session.conversation.entries()

    def transcript(self) -> str:
        """Return the conversation as text for people, one line for each message."""
        return "\n".join(str(entry) for entry in self.conversation())

    # --- Taking part --------------------------------------------------------------

    def send_text(
        self,
        text: str,
        role: Role = "user",
        trigger_response: bool = False,  # noqa: FBT001, FBT002 - the contract's order
    ) -> None:
        """
        Say something in writing.

        While a response is under way, or there is no connection, it waits; also before
        the start.

        Args:
            text: What to say; space around it is removed.
            role: Who says it: ``user``, ``system`` or ``assistant``.
            trigger_response: Whether to ask for a response; see `wait_for_response`.

        Raises:
            InvalidConfiguration: If the text is blank or the role unknown.
            ClosedStream: If the session has ended.
        """
        self._raise_if_over()
        self._engine.send_text(text, role, trigger_response=trigger_response)

    def set_status_message(self, text: str) -> None:
        """
        Set what the model is told after each finished response, as a system message.

        It is told again and again until it is changed; an empty *text* ends that.
        """
        self._session.set_status(text)

    def interrupt(self) -> None:
        """
        Silence the response that is under way, as the user's voice does.

        Raises:
            ClosedStream: If the session has ended.
        """
        self._raise_if_over()
        self._engine.interrupt()

    def mute(self) -> None:
        """Have the service hear silence instead of the microphone, until `unmute`."""
        self._engine.input_filter.muted = True

    def unmute(self) -> None:
        """Have the service hear the microphone again. Idempotent, as `mute` is."""
        self._engine.input_filter.muted = False

    @property
    def is_muted(self) -> bool:
        """Whether the service hears silence."""
        return self._engine.input_filter.muted

    def start_talking(self) -> None:
        """
        Begin a turn of push-to-talk: silence the response under way, and listen.

        Raises:
            InvalidConfiguration: If the service finds the turns, or there is no
                microphone.
            ClosedStream: If the session has ended.
        """
        self._raise_if_over()
        if not self._engine.input_filter.push_to_talk or self._microphone is None:
            raise InvalidConfiguration(
                "push-to-talk needs a microphone and turn_detection=None"
            )
        if not self._engine.input_filter.is_open:
            self._engine.start_talking()

    def stop_talking(self, *, discard: bool = False) -> bool:
        """
        End the turn of push-to-talk, and ask for a response to it.

        If the connection is gone, what is left of the turn is sent when it is back.

        Args:
            discard: Whether to forget the turn instead.

        Returns:
            Whether a response will come. If the turn was shorter than 100 ms, which the
            service takes for a mistake, `wait_for_response` returns at once that it was
            cancelled.
        """
        input_filter = self._engine.input_filter
        if self._run.is_closed or not (
            input_filter.push_to_talk and input_filter.is_open
        ):
            return False
        return self._engine.stop_talking(discard=discard)

    @asynccontextmanager
    async def push_to_talk(self) -> AsyncGenerator[None, None]:
        """
        Let the service hear the microphone inside the block, then ask for a response::

            async with stream.push_to_talk():
                await key_released.wait()
            outcome = await stream.wait_for_response()

        If the block raises or is cancelled, the turn is forgotten.

        Raises:
            InvalidConfiguration, ClosedStream: See `start_talking`.
        """
        self.start_talking()
        try:
            yield
        except BaseException:
            self.stop_talking(discard=True)
            raise
        self.stop_talking()

    async def wait_for_response(self, timeout: float | None = 60.0) -> Outcome:
        """
        Wait for the end of a response: the one last asked for, or else the one under way,
        or else the next.

        A response ends when the service has sent it all; it may still play then, see
        `wait_until_played`. One that only calls tools is not waited for, but the one
        that follows their answers.

        Args:
            timeout: Seconds, or ``None``.

        Returns:
            How it ended: completed, cancelled, failed, incomplete, lost or stalled.

        Raises:
            WaitExpired: If none ended in time.
            ClosedStream: If the session has ended, or ends before one does.
        """
        responses = self._session.responses
        index = responses.awaited
        try:
            async with asyncio.timeout(timeout):
                while (index := responses.answer_from(index)) >= len(
                    responses.outcomes
                ):
                    if self._run.is_closed:
                        raise self._run.closed()
                    await self._bus.wait_for_change()
                    index = max(index, responses.asked_for)
        except TimeoutError:
            raise WaitExpired(
                f"no response ended within {timeout:g} s; view_log() shows what came"
            ) from None
        responses.handed_out(index)
        return responses.outcomes[index]

    async def wait_until_played(self, timeout: float | None = 60.0) -> None:
        """
        Wait until all that came so far has been heard; at once without a speaker.

        Raises:
            WaitExpired: If that takes longer than *timeout* seconds.
        """
        try:
            async with asyncio.timeout(timeout):
                playback = self._engine.playback
                # No event tells when it was heard, only the clock does.
                while left := playback.remaining(time.monotonic()):  # noqa: ASYNC110
                    await asyncio.sleep(min(left, 0.1))
        except TimeoutError:
            raise WaitExpired(f"still playing after {timeout:g} s") from None

    def subscribe(self, callback: Callable[[VoiceEvent], object]) -> Callable[[], None]:
        """
        Have *callback* called with each event of the session, at once, in the loop.

        It must be quick and must not block. One that raises is logged and called again.
        What happens to the children is told by ``process_manager.subscribe``.

        Returns:
            A function that ends the subscription. Idempotent.
        """
        return self._bus.subscribe(callback)

    def events(
        self, *kinds: type[VoiceEvent], size: int = 1000
    ) -> EventFeed[VoiceEvent]:
        """
        Return the events of the session from here on, as an async iterator::

            async for event in stream.events(ResponseFinished, Interrupted):
                print(event)

        Each iterator has its own queue. A reader that is too slow slows nobody: the
        oldest events are dropped, and an `EventsMissed` says how many. It ends with the
        session.

        Args:
            kinds: Only events of these classes; all if none is given.
            size: How many may wait to be read.

        Raises:
            InvalidConfiguration: If *size* is less than 1.
        """
        if size < 1:
            raise InvalidConfiguration(f"size must be at least 1, not {size}")
        return self._bus.feed(kinds, size)

    def _raise_if_over(self) -> None:
        if self._run.is_stopping:
            raise self._run.closed()


def _must_make_sense(
    turn_detection: object, stall_after: float, prebuffer_ms: float
) -> None:
    if not isinstance(turn_detection, ServerVad | SemanticVad | None):
        raise InvalidConfiguration(
            f"turn_detection is ServerVad(…), SemanticVad(…) or None for push-to-talk, "
            f"not {turn_detection!r}"
        )
    if not stall_after > 0:
        raise InvalidConfiguration(
            f"stall_after is more than 0 seconds, not {stall_after}"
        )
    if not prebuffer_ms >= 0:
        raise InvalidConfiguration(
            f"prebuffer_ms is at least 0 milliseconds, not {prebuffer_ms}"
        )
