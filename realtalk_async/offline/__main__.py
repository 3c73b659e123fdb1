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
from realtalk_async.offline import faults
from realtalk_async.offline.server import Peer
from realtalk_async.offline.speech.recogniser import Recogniser


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
        sys.stdout.write(f"{(faults.__doc__ or '').strip()}\n")
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


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        description=(
            "Run the offline peer at ws://HOST:PORT/v1/realtime. It speaks the OpenAI "
            "Realtime protocol: it hears, answers and speaks without a network, and "
            "commits faults on demand. A client chooses them, a pace and a lifetime by "
            "its URL, too: ws://HOST:PORT/v1/realtime?fault=drop:5&pace=1&lifetime=60"
        ),
    )
    parser.add_argument("--port", type=int, default=8765, help="0 takes a free one")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument(
        "--pace", type=float, default=20.0, help="seconds of audio sent per second"
    )
    parser.add_argument(
        "--lifetime", type=float, default=3600.0, help="seconds until a session expires"
    )
    parser.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="FAULT",
        help="fault of each connection, repeatable: drop:5, late-0.5@response.done, …",
    )
    parser.add_argument(
        "--recogniser",
        choices=get_args(Recogniser),
        default="sphinx",
        help="whisper understands human voices and needs the extra 'human'",
    )
    parser.add_argument(
        "--list-faults", action="store_true", help="describe all faults and exit"
    )
    parser.add_argument("--verbose", action="store_true", help="log connections")
    return parser


async def _serve(options: argparse.Namespace) -> None:
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, told.set)
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
        await told.wait()


if __name__ == "__main__":
    sys.exit(main())
