"""The command line: ``realtalk-async demo``, ``realtalk-async peer``."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

try:
    import click
    from rich.console import Console
except ImportError as exc:  # pragma: no cover - only without the extra
    sys.exit(f"{exc}; install what it needs: pip install 'realtalk-async[cli]'")

from realtalk_async import __version__


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="realtalk-async")
def main() -> None:
    """Supervise the child processes of live audio apps."""


@main.command()
@click.option(
    "--mic",
    metavar="WAV|default",
    help="A WAV file, or the machine's microphone, instead of the spoken script.",
)
@click.option(
    "--speaker",
    metavar="WAV|default",
    help="A WAV file, or the machine's speaker, instead of speaker.wav.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where log and WAV files go; a new folder among the temporary files if omitted.",
)
def demo(mic: str | None, speaker: str | None, out: Path | None) -> None:
    """
    Hold a supervised voice conversation against the embedded offline peer.

    No key, no sound card, no network. Recorder, player and peer are real child
    processes; the recorder is killed in mid-sentence, and the conversation completes.
    """
    from realtalk_async.console import show
    from realtalk_async.console.demo import Setting, run

    folder = out or Path(tempfile.mkdtemp(prefix="realtalk-demo-"))
    folder.mkdir(parents=True, exist_ok=True)
    account = show.Account(Console(highlight=False))
    account.console.print(
        "[bold]realtalk-async demo[/bold]: a supervised voice conversation, offline\n"
    )
    setting = Setting(folder, microphone=mic, speaker=speaker)
    sys.exit(asyncio.run(run(setting, account)))


@main.command()
@click.option("--port", default=8765, show_default=True, help="0 takes a free one.")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--verbose", is_flag=True, help="Log connections to stderr.")
def peer(port: int, host: str, *, verbose: bool) -> None:
    """Run the offline peer alone, at ws://HOST:PORT/v1/realtime."""
    from realtalk_async.offline.__main__ import main as serve

    arguments = ["--port", str(port), "--host", host]
    sys.exit(serve([*arguments, "--verbose"] if verbose else arguments))


if __name__ == "__main__":
    main()
