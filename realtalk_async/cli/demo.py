"""
The demo: a supervised voice conversation, a child that dies in it, and what is told.

Everything is real: the peer hears and answers over a websocket, recorder and player are
programs on pipes, and the recorder is killed with SIGKILL in the middle of a sentence.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from realtalk_async import events
from realtalk_async.cli import tables
from realtalk_async.exceptions import RealtalkError
from realtalk_async.logs import Logger
from realtalk_async.offline import Spoken, render_async
from realtalk_async.supervision import SWIFT, Cause, Command, Probe, ProcessManager
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
"""What the user says, each with the seconds of silence that follow it."""

FATAL_SENTENCE = 2
"""In the middle of this one, counted from 1, the recorder is killed."""

PATIENCE = 60.0
"""Seconds after which the conversation counts as failed."""

INTERRUPTED = 130
"""The exit code after Ctrl-C, as shells have it."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What the demo is asked to do."""

    folder: Path
    """Where log and WAV files go."""
    microphone: str | None = None
    """A WAV file, ``default`` for the machine's; None speaks the script."""
    speaker: str | None = None
    """
    A WAV file, ``default`` for the machine's; None writes ``speaker.wav``, unless the
    microphone is the machine's: then who speaks also wants to hear.
    """


@dataclass(slots=True)
class Progress:
    """How far the conversation has come."""

    heard: int = 0
    """Sentences whose beginning the peer has heard."""
    answered: int = 0
    killed: bool = False
    changed: asyncio.Event = field(default_factory=asyncio.Event)


class Demo:
    """
    One run of the demo.

    Args:
        setting: What it is asked to do.
        account: Where it tells what happens.
    """

    def __init__(self, setting: Setting, account: tables.Account) -> None:
        self._setting = setting
        self._account = account
        self._progress = Progress()
        self._spoken: list[Spoken] = []
        self._stream: Stream | None = None
        self._manager: ProcessManager | None = None
        self._log = setting.folder / "demo.log"
        self._microphone = setting.microphone or str(setting.folder / "microphone.wav")
        is_live = setting.microphone == DEFAULT
        unheard = DEFAULT if is_live else str(setting.folder / "speaker.wav")
        self._speaker = setting.speaker or unheard

    async def run(self) -> int:
        """Run it, print what came of it, and return the exit code."""
        loop = asyncio.get_running_loop()
        work = loop.create_task(self._converse())
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, work.cancel)
        code = 1
        try:
            code = await work
        except asyncio.CancelledError:
            self._account.tell("demo", "interrupted: everything was stopped", "warn")
            code = INTERRUPTED
        except RealtalkError as exc:
            self._account.tell("demo", str(exc), "bad")
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)
        self._conclude(code)
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
                if self._setting.microphone is not None:
                    return await self._listen_until_interrupted()
                return await self._follow_script()

    async def _start_peer(self) -> str:
        """Start the offline peer as a child, and return where it listens."""
        assert self._manager is not None
        command = Command(sys.executable, "-m", "realtalk_async.offline", "--port", "0")
        peer = await self._manager.start(
            "peer",
            command,
            critical=True,
            probes=[Probe.line("peer ready on", timeout=30.0)],
            ladder=SWIFT,
        )
        line = await peer.wait_for_line("peer ready on")
        return line.text.rpartition(" ")[2]

    async def _prepare_script(self) -> None:
        """Speak the script into the WAV that serves as the microphone."""
        if self._setting.microphone is None:
            self._spoken = await render_async(SCRIPT, self._microphone)
            words = sum(len(one.text.split()) for one in self._spoken)
            self._account.tell(
                "demo", f"the microphone: {words} words in {self._microphone}", "quiet"
            )

    async def _listen_until_interrupted(self) -> int:
        self._account.tell("demo", "speak; Ctrl-C ends the conversation")
        await asyncio.Event().wait()
        return 0

    async def _follow_script(self) -> int:
        """Wait until every sentence is answered; kill the recorder on the way."""
        try:
            async with asyncio.timeout(PATIENCE):
                while self._progress.answered < len(SCRIPT):
                    self._progress.changed.clear()
                    await self._progress.changed.wait()
                    if self._progress.heard == FATAL_SENTENCE:
                        await self._kill_recorder()
                await self._let_it_be_heard()
        except TimeoutError:
            self._account.tell(
                "demo",
                f"only {self._progress.answered} of {len(SCRIPT)} sentences were "
                f"answered in {PATIENCE:g} s",
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
        sentence = self._spoken[FATAL_SENTENCE - 1]
        # The peer hears its beginning; this much later the user is in the middle of it.
        await asyncio.sleep((sentence.end - sentence.start) / 3)
        recorder = self._manager.processes["recorder"]
        told = f"kill -9 {recorder.pid}: the recorder, in mid-sentence"
        self._account.tell("demo", told, "bad")
        recorder.send_signal(signal.SIGKILL)

    async def _let_it_be_heard(self) -> None:
        """Give the player the time to speak the last answer to its end."""
        assert self._stream is not None
        await self._stream.wait_until_played()

    # ---- telling

    def _on_process_event(self, event: events.Event) -> None:
        match event:
            case events.ProcessStarted(incarnation=1):
                program = event.command.split(" ")[0].rpartition("/")[2]
                self._account.tell(
                    event.process, f"started, pid {event.pid}: {program}", "quiet"
                )
            case events.ProcessReady():
                self._account.tell(event.process, f"ready after {event.after:.1f} s")
            case events.ProcessExited(cause=Cause.STOPPED | Cause.ESCALATED):
                self._account.tell(event.process, "stopped", "quiet")
            case events.ProcessExited():
                last = event.last_lines[-1] if event.last_lines else ""
                words = f"its last line: {last}" if last else "without output"
                self._account.tell(
                    event.process, f"died: {event.summary}, {words}", "bad"
                )
            case events.ProcessRestarted():
                how = (
                    f"restarted: pid {event.pid}, {event.downtime * 1000:.0f} ms later"
                )
                self._account.tell(event.process, how, "good")
            case events.ProbeFailed():
                self._account.tell(event.process, f"not well: {event.reason}", "warn")
            case events.RestartFailed():
                how = f"not restarted: {event.reason}"
                self._account.tell(event.process, how, "warn")
            case events.ProcessGivenUp():
                self._account.tell(event.process, f"given up: {event.reason}", "bad")
            case events.SpawnRefused():
                self._account.tell(event.process, event.error, "bad")
            case events.TaskFailed():
                self._account.tell(event.process, f"failed: {event.reason}", "bad")
            case _:
                pass

    def _on_voice_event(self, event: VoiceEvent) -> None:
        match event:
            case SpeechStarted():
                self._progress.heard += 1
            case UserTranscript():
                self._account.tell("you", event.text, "you")
            case ResponseFinished():
                self._progress.answered += event.outcome.completed
                self._account.tell("model", event.outcome.text, "model")
            case Interrupted():
                self._account.tell("model", str(event), "warn")
            case _:
                return
        self._progress.changed.set()

    def _conclude(self, code: int) -> None:
        """Print what there is, however far it came."""
        console = self._account.console
        if self._stream is not None:
            console.print()
            console.print(tables.conversation(self._stream.conversation()))
        if self._manager is not None:
            console.print()
            console.print(tables.processes(self._manager.get_statuses()))
            console.print()
            console.print(tables.errors(self._manager.get_error_history()))
        console.print()
        console.print(f"log      {self._log}", soft_wrap=True, highlight=False)
        console.print(f"speaker  {self._speaker}", soft_wrap=True, highlight=False)
        if self._stream is not None:
            picture = self._setting.folder / "timeline.svg"
            picture.write_text(svg.render(self._stream.summary()))
            console.print(f"picture  {picture}", soft_wrap=True, highlight=False)
        if code == 0:
            console.print("The conversation completed.", style="green")
        elif code != INTERRUPTED:
            console.print("The conversation did not complete.", style="bold red")


def run(setting: Setting, account: tables.Account) -> Coroutine[None, None, int]:
    """Return the coroutine that runs the demo and returns its exit code."""
    return Demo(setting, account).run()
