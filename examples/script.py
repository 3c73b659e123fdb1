"""Run a whole voice session as a script, ended by Ctrl-C."""

import asyncio
import os

from realtalk_async import Stream


def main() -> None:
    """Talk to the service, or to the server at REALTALK_URL."""
    stream = Stream(
        url=os.environ.get("REALTALK_URL"),
        microphone=os.environ.get("MICROPHONE", "default"),
        speaker=os.environ.get("SPEAKER", "default"),
    )
    summary = asyncio.run(stream.start_streaming())
    print(stream.transcript())
    print(summary)


if __name__ == "__main__":
    main()
