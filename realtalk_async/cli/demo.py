"""
The demo: a supervised voice conversation in which the recorder is killed.

The offline peer hears and answers over a websocket, recorder and player are programs on
pipes, and the recorder gets SIGKILL in the middle of a sentence.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from realtalk_async import events
from realtalk_async.cli.demo_output import (
    DemoPrinter,
    error_table,
    process_table,
    transcript_table,
)
from realtalk_async.exceptions import RealtalkError
from realtalk_async.logs import Logger
from realtalk_async.offline import Spoken, render_async
from realtalk_async.supervision import Cause, Command, Probe, ProcessManager
from realtalk_async.voice import (
    Interrupted,
    ResponseFinished,
    SpeechStarted,
    Stream,
    UserTranscript,
    VoiceEvent,
)
from realtalk_async.voice.audio.devices import DEFAULT
from realtalk_async.voice.timeline import svg

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from pathlib import Path

SCRIPT = (
    ("What is seven plus five?", 4.0),
    ("Can you count from one to five?", 5.5),
    ("What is twenty minus eight?", 4.0),
)
"""The sentences of the user, each with the seconds of silence after it."""

KILL_IN_SENTENCE = 2
"""The sentence, counted from 1, in which the recorder is killed."""

CONVERSATION_TIMEOUT = 60.0
"""Seconds after which the conversation has failed."""

INTERRUPTED = 130
"""The exit code that shells give after Ctrl-C."""


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """The options of `realtalk-async demo`."""

    folder: Path
    """The folder of the log and the WAV files."""
    microphone: str | None = None
    """A WAV file, or ``default`` for the machine's; None for the spoken script."""
    speaker: str | None = None
    """
    A WAV file, or ``default`` for the machine's. None for ``speaker.wav``, or for the
    machine's if the microphone is the machine's, too.
    """


@dataclass(slots=True)
class Progress:
    """The progress of the conversation."""

    heard: int = 0
    """Sentences whose start the peer has detected."""
    answered: int = 0
    killed: bool = False
    changed: asyncio.Event = field(default_factory=asyncio.Event)


class Demo:
    """
    One run of the demo.

    Args:
        options: The options.
        printer: Prints the events.
    """

    def __init__(self, options: DemoOptions, printer: DemoPrinter) -> None:
        self._options = options
        self._printer = printer
        self._progress = Progress()
        self._spoken: list[Spoken] = []
        self._stream: Stream | None = None
        self._manager: ProcessManager | None = None
        self._log = options.folder / "demo.log"
        self._microphone = options.microphone or str(options.folder / "microphone.wav")
        is_live = options.microphone == DEFAULT
        unheard = DEFAULT if is_live else str(options.folder / "speaker.wav")
        self._speaker = options.speaker or unheard

    async def run(self) -> int:
        """Run the demo, print its results, and return the exit code."""
        loop = asyncio.get_running_loop()
        work = loop.create_task(self._converse())
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, work.cancel)
        code = 1
        try:
            code = await work
        except asyncio.CancelledError:
            self._printer.print_line(
                "demo", "interrupted: everything was stopped", "warn"
            )
            code = INTERRUPTED
        except RealtalkError as exc:
            self._printer.print_line("demo", str(exc), "bad")
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)
        self._print_results(code)
        return code

    async def _converse(self) -> int:
        """Hold the conversation; return 0 only if it completed."""
        async with (
            Logger(self._log) as logger,
            ProcessManager(logger) as self._manager,
        ):
            self._manager.subscribe(self._on_process_event)
            peer, _ = await asyncio.gather(self._start_peer(), self._prepare_script())
            self._stream = Stream(
                logger=logger,
                process_manager=self._manager,
                url=peer,
                microphone=self._microphone,
                speaker=self._speaker,
            )
            self._stream.subscribe(self._on_voice_event)
            async with self._stream:
                if self._options.microphone is not None:
                    return await self._listen_until_interrupted()
                return await self._follow_script()

    async def _start_peer(self) -> str:
        """Start the offline peer as a child, and return its URL."""
        assert self._manager is not None
        command = Command(sys.executable, "-m", "realtalk_async.offline", "--port", "0")
        peer = await self._manager.start(
            "peer",
            command,
            critical=True,
            probes=[Probe.line("peer ready on", timeout=30.0)],
        )
        line = await peer.wait_for_line("peer ready on")
        return line.text.rpartition(" ")[2]

    async def _prepare_script(self) -> None:
        """Render the script as the WAV file that serves as the microphone."""
        if self._options.microphone is None:
            self._spoken = await render_async(SCRIPT, self._microphone)
            words = sum(len(one.text.split()) for one in self._spoken)
            self._printer.print_line(
                "demo", f"the microphone: {words} words in {self._microphone}", "quiet"
            )

    async def _listen_until_interrupted(self) -> int:
        self._printer.print_line("demo", "speak; Ctrl-C ends the conversation")
        await asyncio.Event().wait()
        return 0

    async def _follow_script(self) -> int:
        """Wait until every sentence is answered; kill the recorder in one of them."""
        try:
            async with asyncio.timeout(CONVERSATION_TIMEOUT):
                while self._progress.answered < len(SCRIPT):
                    self._progress.changed.clear()
                    await self._progress.changed.wait()
                    if self._progress.heard == KILL_IN_SENTENCE:
                        await self._kill_recorder()
                assert self._stream is not None
                await self._stream.wait_until_played()
        except TimeoutError:
            self._printer.print_line(
                "demo",
                f"only {self._progress.answered} of {len(SCRIPT)} sentences were "
                f"answered in {CONVERSATION_TIMEOUT:g} s",
                "bad",
            )
            return 1
        return 0

    async def _kill_recorder(self) -> None:
        """Kill the recorder with SIGKILL in the middle of the sentence being spoken."""
        assert self._manager is not None
        if self._progress.killed:
            return
        self._progress.killed = True
        sentence = self._spoken[KILL_IN_SENTENCE - 1]
        # The peer has just detected its start.
        await asyncio.sleep((sentence.end - sentence.start) / 3)
        recorder = self._manager.processes["recorder"]
        text = f"kill -9 {recorder.pid}: the recorder, in mid-sentence"
        self._printer.print_line("demo", text, "bad")
        recorder.send_signal(signal.SIGKILL)

    # ---- output

    def _on_process_event(self, event: events.Event) -> None:
        match event:
            case events.ProcessStarted(incarnation=1):
                program = event.command.split(" ")[0].rpartition("/")[2]
                self._printer.print_line(
                    event.process, f"started, pid {event.pid}: {program}", "quiet"
                )
            case events.ProcessReady():
                self._printer.print_line(
                    event.process, f"ready after {event.after:.1f} s"
                )
            case events.ProcessExited(cause=Cause.STOPPED | Cause.ESCALATED):
                self._printer.print_line(event.process, "stopped", "quiet")
            case events.ProcessExited():
                last = event.last_lines[-1] if event.last_lines else ""
                words = f"its last line: {last}" if last else "it wrote no text"
                self._printer.print_line(
                    event.process, f"died: {event.summary}; {words}", "bad"
                )
            case events.ProcessRestarted():
                how = (
                    f"restarted: pid {event.pid}, {event.downtime * 1000:.0f} ms later"
                )
                self._printer.print_line(event.process, how, "good")
            case events.ProbeFailed():
                self._printer.print_line(
                    event.process, f"unhealthy: {event.reason}", "warn"
                )
            case events.RestartFailed():
                how = f"not restarted: {event.reason}"
                self._printer.print_line(event.process, how, "warn")
            case events.ProcessGivenUp():
                self._printer.print_line(
                    event.process, f"given up: {event.reason}", "bad"
                )
            case events.SpawnRefused():
                self._printer.print_line(event.process, event.error, "bad")
            case events.TaskFailed():
                self._printer.print_line(
                    event.process, f"failed: {event.reason}", "bad"
                )
            case _:
                pass

    def _on_voice_event(self, event: VoiceEvent) -> None:
        match event:
            case SpeechStarted():
                self._progress.heard += 1
            case UserTranscript():
                self._printer.print_line("you", event.text, "you")
            case ResponseFinished():
                self._progress.answered += event.outcome.completed
                self._printer.print_line("model", event.outcome.text, "model")
            case Interrupted():
                self._printer.print_line("model", str(event), "warn")
            case _:
                return
        self._progress.changed.set()

    def _print_results(self, code: int) -> None:
        """Print all results, also of an incomplete conversation."""
        console = self._printer.console
        if self._stream is not None:
            console.print()
            console.print(transcript_table(self._stream.conversation()))
        if self._manager is not None:
            console.print()
            console.print(process_table(self._manager.get_statuses()))
            console.print()
            console.print(error_table(self._manager.get_error_history()))
        console.print()
        console.print(f"log      {self._log}", soft_wrap=True, highlight=False)
        console.print(f"speaker  {self._speaker}", soft_wrap=True, highlight=False)
        if self._stream is not None:
            picture = self._options.folder / "timeline.svg"
            picture.write_text(svg.render(self._stream.summary()))
            console.print(f"picture  {picture}", soft_wrap=True, highlight=False)
        if code == 0:
            console.print("The conversation completed.", style="green")
        elif code != INTERRUPTED:
            console.print("The conversation did not complete.", style="bold red")


def run(options: DemoOptions, printer: DemoPrinter) -> Coroutine[None, None, int]:
    """Return a coroutine that runs the demo and returns the exit code."""
    return Demo(options, printer).run()
