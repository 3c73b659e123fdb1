"""A supervised voice conversation: construct, start and stop it, ask, wait."""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING, Literal, Self

from realtalk_async import arguments
from realtalk_async.concurrency.waiting import to_the_end
from realtalk_async.exceptions import ClosedStream
from realtalk_async.logs import Logger
from realtalk_async.supervision import ProcessManager
from realtalk_async.voice.audio.default_devices import check_command, make_follower
from realtalk_async.voice.audio.devices import (
    DEFAULT,
    Machine,
    check_device,
    kind_of,
)
from realtalk_async.voice.audio.hearing import Hearing
from realtalk_async.voice.connection import Connection
from realtalk_async.voice.credentials.api_key import as_key
from realtalk_async.voice.dialing.endpoint_list import (
    EndpointList,
    check_urls,
    find_endpoints,
)
from realtalk_async.voice.dialing.summarizer import Summarizer
from realtalk_async.voice.endpoint import check_key
from realtalk_async.voice.event_bus import SessionEventBus
from realtalk_async.voice.events import (
    LimitReached,
    ToolCalled,
    ToolFinished,
    ToolsInterrupted,
)
from realtalk_async.voice.interaction import Interaction
from realtalk_async.voice.interruptions import InterruptionDecider
from realtalk_async.voice.protocol.cost.limits import NO_LIMITS, SessionLimits
from realtalk_async.voice.protocol.hearing.barge_in import as_interrupt_when
from realtalk_async.voice.protocol.history.limits import (
    DEFAULT_LIMITS,
    HistoryLimits,
)
from realtalk_async.voice.protocol.microphone import InputFilter
from realtalk_async.voice.protocol.outbox import DEFAULT_TOOL_STEPS
from realtalk_async.voice.protocol.requests.session_config import (
    DEFAULT_MODEL,
    DEFAULT_TRANSCRIPTION,
    DEFAULT_VOICE,
    SemanticVad,
    ServerVad,
    SessionConfig,
)
from realtalk_async.voice.protocol.session import Session
from realtalk_async.voice.requests.outage_sound import OutageSound, load_outage_sound
from realtalk_async.voice.requests.session_arguments import (
    check_bounds,
    check_speech,
)
from realtalk_async.voice.requests.session_devices import (
    make_microphone,
    make_speaker,
)
from realtalk_async.voice.requests.session_end import LIMIT, LIMIT_REACHED, end_session
from realtalk_async.voice.supervisor import SessionSupervisor, Signals
from realtalk_async.voice.timeline.recorder import TimelineRecorder
from realtalk_async.voice.tools import Toolbox

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from types import TracebackType

    from anyio.abc import TaskStatus

    from realtalk_async.g711 import AudioFormat
    from realtalk_async.voice.audio.callbacks import Sink, Source
    from realtalk_async.voice.audio.devices import Device
    from realtalk_async.voice.events import VoiceEvent
    from realtalk_async.voice.inspection import Summary
    from realtalk_async.voice.protocol.hearing.barge_in import Decide, InterruptWhen
    from realtalk_async.voice.tools import Tool, ToolFunction

SERVER_VAD = ServerVad()


class Stream(Interaction):
    """
    One voice conversation with a realtime service.

    ``asyncio.run(Stream().start_streaming())`` is a whole script. Inside an app::

        async with Stream(url=url, microphone="question.wav") as stream:
            outcome = await stream.wait_for_response()
            print(outcome.text)

    Recorder, player and connection are supervised together, and each is restarted
    alone. A recorder that dies or goes silent is restarted; a broken connection is
    replaced, and the conversation is replayed as text; without a player the conversation
    continues as text. A recorder or a connection that cannot be restarted ends the
    session.

    The block may be entered in one task and left in another, as fixtures do.

    Args:
        logger: The log; by default the manager's, or a new one.
        process_manager: The manager; by default a new one. A given manager must be
            running, and is left running at the end; its restart strategy applies to the
            session, and it has room for one session at a time.
        url: The address of the service; by default OpenAI's. That of an offline peer
            is such as ``ws://127.0.0.1:8765/v1/realtime``. A list has the preferred address
            first; each may name its model (``…?model=…``). If one refuses the client, it is
            left for good; if it cannot be reached, does not configure the session, or falls
            silent, for a minute: the next one is dialled at once, and the conversation
            replayed there. Each new connection, as after `reconnect`, takes the first that
            is not left. The key goes to the host of the first one; others have their own
            in the environment.
        api_key: The key; by default the environment's ``OPENAI_API_KEY``, which is
            sent to OpenAI only.
        model: The model.
        voice: The voice of the responses.
        instructions: The system prompt; by default the service's own.
        microphone: ``"default"``; the path of a sound file (WAV, FLAC, OGG, MP3; with
            ffmpeg many more), which is played in real time and followed by silence; a command as a list, which writes samples to
            its stdout; or ``None`` for a session without. Samples are signed 16-bit
            little-endian mono at 24 kHz, 48 bytes a millisecond. It may also be a
            function: a generator function that yields samples, or a function that
            returns the next ones; a function that is not async is called in a thread.
            It is called no faster than real time. A function that raises, ends or gives
            nothing for 2 s has failed like a program, and is restarted by the same
            policy.
        speaker: Likewise: the path of a WAV file to write, a command that reads
            samples from its stdin, or a function that gets them when they are due, at
            most 60 ms ahead of the played audio (200 ms after an underrun). After an
            interruption it gets no more of the response; a function with a buffer of
            its own clears it at an `Interrupted`. A function that raises or takes more
            than 2 s is called again, with the next piece. Without a speaker the
            responses are text.
        turn_detection: How the service detects turns; ``None`` for push-to-talk: the
            service then gets audio only during `push_to_talk`.
        half_duplex: Whether the service gets silence while a response is audible. For a
            loudspeaker in the room without echo cancellation; the user cannot interrupt
            a response then. ``"auto"``: from when the responses keep interrupting
            themselves by their echo.
        interrupt_when: Which speech interrupts a response, by its length and level; or
            the function that decides, see `InterruptWhen`. By default the service
            decides, for every speech that it notices.
        transcription: The model that transcribes the user's speech, or ``None``.
        audio_format: ``"audio/pcm"``, or telephone sound: ``"audio/pcmu"`` (G.711 µ-law) or
            ``"audio/pcma"`` (A-law), 8 bytes a millisecond. The service sends and gets
            this format; so do functions as microphone and speaker, and a speaker's file
            is a WAV of it. A microphone's file may have any format, and programs always
            use samples at 24 kHz.
        standby: Whether a second player stands by to take over within milliseconds when
            the first one dies; the device must allow two. Not for files and functions.
        prebuffer_ms: How much of a response must have arrived before it is played, for a
            service or a network that is hardly faster than the voice; no response waits
            longer than that.
        record: The path of a stereo WAV for both sides: the recorder left, the responses
            right, as far as they were played. It is valid at any time but for the last
            second, also if the app is killed. A disk that takes nothing for 20 s leaves
            a gap of silence, which is counted and logged.
        tools: Functions that the model may call, or `Tool`s made of them, with a name, a
            description or a timeout of their own. Several work at a time. When the user
            breaks in, they are cancelled, unless made with
            ``Tool.of(f, cancel_on_interruption=False)``, and when the session ends. A
            tool that raises `EndSession` ends the session after the next response.
        max_tool_steps: How many responses in a row may call tools without an answer. The
            next calls fail, an `events.ToolLimitReached` tells it, and the model must
            answer without tools; if it does not, the response ends as failed.
        session: More of the service's ``session`` object, which is merged into what the
            other parameters give: ``{"max_output_tokens": 500, "audio": {"input":
            {"noise_reduction": {"type": "far_field"}}, "output": {"speed": 1.2}}}``, also
            tool choice, truncation, prompt, reasoning, tracing, include and tools of the
            service, which stand behind the functions of *tools*. What another parameter
            gives too, may be repeated but not contradicted. See `update_session`.
        history: How much of a long session a new connection gets, and how much is kept
            in memory: the newest part, see `HistoryLimits`.
        limits: When the session ends by itself: after tokens, minutes or idle minutes,
            see `SessionLimits`.
        outage_sound: What the speaker plays once in each outage: a sound file, or an
            `OutageSound` with the seconds (5) after which it is played.
        stall_after: Seconds without an event of a response after which it is given up;
            and seconds without any message after which the service is asked for a sign
            of life. If it gives none within 5 s, the connection is replaced.
        handle_signals: Whether Ctrl-C and SIGTERM end the session like
            `stop_streaming`. By default they do where `start_streaming` is awaited
            directly, in the main thread, and the app has no handlers of its own.

    Raises:
        LogUnavailable: If no log can be written.
        InvalidConfiguration: If an argument is invalid.
    """

    def __init__(
        self,
        *,
        logger: Logger | None = None,
        process_manager: ProcessManager | None = None,
        url: str | Sequence[str] | None = None,
        api_key: str | None = None,
        model: str = DEFAULT_MODEL,
        voice: str = DEFAULT_VOICE,
        instructions: str | None = None,
        microphone: Device | Source = DEFAULT,
        speaker: Device | Sink = DEFAULT,
        turn_detection: ServerVad | SemanticVad | None = SERVER_VAD,
        transcription: str | None = DEFAULT_TRANSCRIPTION,
        audio_format: AudioFormat = "audio/pcm",
        half_duplex: bool | Literal["auto"] = False,
        interrupt_when: InterruptWhen | Decide | None = None,
        standby: bool = False,
        prebuffer_ms: float = 0,
        record: str | os.PathLike[str] | None = None,
        tools: Iterable[Tool | ToolFunction] = (),
        max_tool_steps: int = DEFAULT_TOOL_STEPS,
        session: Mapping[str, object] | None = None,
        history: HistoryLimits = DEFAULT_LIMITS,
        limits: SessionLimits = NO_LIMITS,
        outage_sound: OutageSound | str | os.PathLike[str] | None = None,
        stall_after: float = 30.0,
        handle_signals: bool | None = None,
    ) -> None:
        api_key = as_key(api_key)  # a traceback may show local variables
        arguments.a_logger("logger", logger, optional=True)
        arguments.a_manager("process_manager", process_manager, optional=True)
        check_urls(url)
        check_key(api_key)
        arguments.one_line("model", model)
        arguments.one_line("voice", voice)
        arguments.text("instructions", instructions, optional=True)
        check_device("microphone", microphone)
        check_device("speaker", speaker)
        check_speech(turn_detection, transcription, audio_format, half_duplex)
        when = as_interrupt_when(interrupt_when)
        check_bounds(history, limits, outage_sound)
        arguments.flag("standby", standby)
        arguments.number("prebuffer_ms", prebuffer_ms, of="milliseconds", minimum=0)
        arguments.path("record", record, optional=True)
        arguments.number("stall_after", stall_after, of="seconds", more_than=0)
        arguments.flag("handle_signals", handle_signals, optional=True)
        arguments.integer("max_tool_steps", max_tool_steps, minimum=1)
        self._toolbox = Toolbox(tools)
        owns_logger = logger is None and process_manager is None
        if logger is None:
            logger = Logger() if process_manager is None else process_manager.logger
        config = SessionConfig(
            model=model,
            voice=voice,
            instructions=instructions,
            modality="text" if speaker is None else "audio",
            transcription=transcription,
            turn_detection=turn_detection,
            tools=self._toolbox.to_message(),
            audio_format=audio_format,
        ).with_options("session", {} if session is None else session)
        protocol = Session(
            config,
            input_filter=InputFilter(
                push_to_talk=config.detection is None, half_duplex=half_duplex is True
            ),
            has_speaker=speaker is not None,
            prebuffer_ms=prebuffer_ms,
            stall_after=stall_after,
            max_tool_steps=max_tool_steps,
            interrupt_when=when,
            history=history,
            limits=limits,
        )
        bus = SessionEventBus(logger)
        self._summarizer = Summarizer(history, logger)
        connection = Connection(protocol, bus, self._summarizer)
        hearing = Hearing(
            kind_of(microphone),
            protocol.microphone.filter,
            bus.publish,
            may_gate=half_duplex == "auto",
        )
        manager = process_manager or ProcessManager(logger)
        supervisor = SessionSupervisor(
            connection,
            TimelineRecorder(),
            self._toolbox,
            hearing,
            logger,
            manager,
            owns_logger=owns_logger,
            owns_manager=process_manager is None,
        )
        super().__init__(connection, logger, manager, supervisor, history.kept_events)
        own = ToolCalled, ToolsInterrupted, ToolFinished, LimitReached
        self._bus.subscribe(self._on_own_event, *own)
        self._bus.subscribe(hearing.on_event)
        self._decider = InterruptionDecider(when, connection, logger)
        self._bus.subscribe(self._decider.on_event)
        self._url = url
        self._outage_sound = outage_sound
        self._api_key = api_key
        self._microphone = self._source = microphone
        self._speaker = speaker
        self._record = record
        self._keeps_standby = standby
        self._handle_signals = handle_signals
        self._runner: asyncio.Task[Summary] | None = None
        self._ending: list[asyncio.Task[None]] = []

    def __repr__(self) -> str:
        if not hasattr(self, "_supervisor"):
            return "<Stream with invalid arguments>"
        ready = "ready" if self.is_ready() else "not ready"
        return (
            f"<Stream {self._supervisor.state}, {ready}, {len(self.eventlog)} events>"
        )

    # --- Start and stop -----------------------------------------------------------

    async def __aenter__(self) -> Self:
        """
        Start the session, and wait until it is ready.

        Raises:
            StreamError: See `start_streaming`; `ClosedStream` if the session is stopped
                meanwhile.
        """
        runner = asyncio.create_task(self._start(), name="realtalk-async stream")
        runner.add_done_callback(lambda _: self._bus.notify())
        self._runner, supervisor = runner, self._supervisor
        try:
            await self._bus.wait_until(lambda: supervisor.is_ready or runner.done())
        except asyncio.CancelledError:
            await to_the_end(self._end_runner())
            raise
        if runner.done():
            runner.result()
            raise supervisor.closed()  # stopped before it was ready
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
            StreamError, CriticalProcessFailed: If the session failed meanwhile, unless
                the block itself raised.
        """
        await to_the_end(self._end_runner())
        runner = self._runner
        if exc is None and runner is not None and not runner.cancelled():
            runner.result()

    async def _end_runner(self) -> None:
        self._supervisor.request_stop("stop_streaming")
        if self._runner is not None:
            await asyncio.wait([self._runner])
            if not self._runner.cancelled():
                self._runner.exception()  # retrieved: __aexit__ raises it

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

        If it runs already, wait for its end.

        Args:
            api_key: Replaces the constructor's.
            model: Likewise.
            voice: Likewise.
            task_status: For ``task_group.start(stream.start_streaming)``, which
                returns when the session is ready.

        Returns:
            What happened.

        Raises:
            MissingApiKey: If the service needs a key and there is none.
            AudioUnavailable: If there is no microphone or speaker that works.
            AuthenticationRefused: If the service refuses the key.
            ServiceUnreachable: If the service cannot be reached at the start.
            ServiceRefused: If the service ended the session with a fatal error.
            CriticalProcessFailed: If the recorder or the connection could not be
                restarted.
            ClosedStream: If the session has ended before: a stream is one session.
            InvalidConfiguration: If an argument is invalid.

        Cancellation: All children are ended first, within 3 s.
        """
        api_key = as_key(api_key)
        check_key(api_key)
        arguments.one_line("model", model, optional=True)
        arguments.one_line("voice", voice, optional=True)
        status, allowed = task_status, "the status of a task group"
        arguments.like("task_status", status, allowed, "started", optional=True)
        is_script = task_status is None
        signals = is_script if self._handle_signals is None else self._handle_signals
        enabled = signals and self._supervisor.state == "new"
        with Signals(self._supervisor.request_stop, enabled=enabled):
            return await self._start(api_key, model, voice, task_status)

    async def _start(
        self,
        api_key: str | None = None,
        model: str | None = None,
        voice: str | None = None,
        task_status: TaskStatus[Stream] | None = None,
    ) -> Summary:
        supervisor = self._supervisor
        self._check_loop()
        if supervisor.state == "running":
            await supervisor.join()
            return self.summary()
        if supervisor.state == "over":
            raise ClosedStream("the session has ended; make another Stream")
        self._loop = asyncio.get_running_loop()
        with supervisor.telling_failed_start():
            endpoints = self._find_endpoints(api_key, model, voice)
            if self._speaker is not None:
                await load_outage_sound(self._outage_sound, self._session)
            machine = Machine.this()
            recorder = await make_microphone(
                self._source, machine, self._connection, supervisor.hearing
            )
            player = make_speaker(
                self._speaker, machine, self._connection, standby=self._keeps_standby
            )
        hearing = supervisor.hearing
        if kind_of(self._microphone) == "command":
            check_command(self._microphone, hearing)
        pactl = machine.which("pactl")
        supervisor.follower = make_follower(pactl, recorder, player, hearing)
        if self._record is not None:
            from realtalk_async.voice.audio.recording import Recording  # rarely needed

            self._record_to(Recording(self._record, self.logger))

        def when_ready() -> None:
            if task_status is not None:
                task_status.started(self)

        try:
            await supervisor.run(endpoints, recorder, player, when_ready)
        finally:
            await self._decider.aclose()
            await self._summarizer.aclose()
        return self.summary()

    def _find_endpoints(
        self, api_key: str | None, model: str | None, voice: str | None
    ) -> EndpointList:
        config = self._session.config.started_with(model, voice)
        key = api_key or self._api_key
        endpoints = find_endpoints(self._url, key, config.model, os.environ)
        self._session.updates.configure(config, time.monotonic())
        return endpoints

    async def stop_streaming(self) -> None:
        """
        End the session and all its children, within 3 s. Idempotent, from any task.

        Before the start it does nothing. An error of the session is raised where the
        session was started.

        Cancellation: Only the waiting ends; the session still stops.
        """
        if self._supervisor.state == "running":
            self._check_loop()
            self._supervisor.request_stop("stop_streaming")
            await self._supervisor.wait_until_over()

    def _on_own_event(self, event: VoiceEvent) -> None:
        match event:
            case ToolCalled():
                self._toolbox.start(event, self._connection.tool_finished)
            case ToolsInterrupted():
                self._toolbox.interrupt()
            case ToolFinished(ends_session=True, name=name):
                self._end_soon(f"the tool {name}", LIMIT)
            case LimitReached():
                self._end_soon(str(event), LIMIT_REACHED)
            case _:
                pass

    def _end_soon(self, why: str, limit: float) -> None:
        end = end_session(
            self._session, self._supervisor, self.wait_until_played, why, limit=limit
        )
        self._ending.append(asyncio.create_task(end, name="realtalk-async ends"))
