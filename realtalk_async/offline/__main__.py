"""
The offline peer as a program: ``python -m realtalk_async.offline --port 8765``.

It prints one line when it is ready, logs to stderr, and ends on SIGINT or SIGTERM.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from typing import get_args

from realtalk_async.exceptions import InvalidConfiguration
from realtalk_async.offline.faults.kinds import describe_faults
from realtalk_async.offline.server import Peer
from realtalk_async.offline.speech.engine import RecogniserName


def main(
    arguments: list[str] | None = None,
    *,
    prog: str = "python -m realtalk_async.offline",
) -> int:
    """
    Run the peer until SIGINT or SIGTERM.

    Args:
        arguments: The options; those of this process if omitted.
        prog: The name of the program in the help.

    Returns:
        The exit code: 0, or 1 if it could not start.
    """
    options = _parser(prog).parse_args(arguments)
    if options.list_faults:
        sys.stdout.write(f"{describe_faults()}\n")
        return 0
    logging.basicConfig(
        level=logging.INFO if options.verbose else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    try:
        asyncio.run(_serve(options))
    except (OSError, ImportError, InvalidConfiguration) as error:
        sys.stderr.write(f"the offline peer cannot start: {error}\n")
        return 1
    return 0


_CAPABILITIES = """\
what it supports:
  speech     server_vad; semantic_vad as a silence that depends on the eagerness;
             push-to-talk (turn_detection: null); interruption; idle_timeout_ms
  answers    as audio or text (output_modalities): sums, counting, time, date,
             "say …", "tell me a story"; it repeats any other question.
             Instructions of a response that begin with "Say:" give the words
  tools      it calls a tool that the question names, or as tool_choice demands, and
             speaks the output
  items      create, retrieve, delete, truncate; it recognises audio inside them
  responses  cancel, conversation: "none", metadata, input
  keys       Authorization or api-key; any key is accepted, "refused" in it gets 401
  mistakes   error events with the codes of the service and the event_id, such as
             unknown_parameter, input_audio_buffer_commit_empty,
             response_cancel_not_active; a client of the beta API is refused

The path of the URL may be any that ends in /realtime. Its query sets options for one
connection: ws://HOST:PORT/v1/realtime?pace=1&lifetime=60&fault=drop:5&model=NAME

Differences from the service: pydoc realtalk_async.offline.server
"""


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Run the offline peer: a local server that speaks the OpenAI Realtime"
        " protocol,\nrecognises speech, answers, speaks, and injects faults.",
        epilog=_CAPABILITIES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--port", type=int, default=8765, help="TCP port; 0 takes a free one (8765)"
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (127.0.0.1)"
    )
    parser.add_argument(
        "--pace",
        type=float,
        default=20.0,
        help="seconds of audio sent per second, 0 for no limit (20)",
    )
    parser.add_argument(
        "--lifetime",
        type=float,
        default=3600.0,
        help="seconds until a session expires (3600)",
    )
    parser.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="FAULT",
        help="inject it on each connection; repeatable: drop:5, late-0.5@response.done",
    )
    parser.add_argument(
        "--list-faults", action="store_true", help="describe all faults and exit"
    )
    parser.add_argument(
        "--recogniser",
        choices=get_args(RecogniserName),
        default="sphinx",
        help="whisper understands human voices and needs the extra 'human' (sphinx)",
    )
    parser.add_argument(
        "--verbose", action="store_true", help="log connections to stderr"
    )
    return parser


async def _serve(options: argparse.Namespace) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    peer = Peer(
        options.port,
        host=options.host,
        pace=options.pace,
        lifetime=options.lifetime,
        record=False,
        faults=options.fault,
        recogniser=options.recogniser,
    )
    async with peer:
        sys.stdout.write(f"peer ready on {peer.url}\n")
        sys.stdout.flush()
        await stop.wait()


if __name__ == "__main__":
    sys.exit(main())
