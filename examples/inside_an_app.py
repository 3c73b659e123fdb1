"""Run a voice session inside an app: ready in the block, ended after the block."""

import asyncio

from realtalk_async import Stream
from realtalk_async.offline import Peer


async def main() -> None:
    """Ask two questions in writing; with a microphone the session just listens."""
    async with (
        Peer() as peer,  # for the real service, drop peer and url and set OPENAI_API_KEY
        Stream(url=peer.url, microphone=None, speaker=None) as stream,
    ):
        stream.subscribe(lambda event: print(f"  ({event})"))
        for question in ("What is seven plus five?", "And who are you?"):
            response = await stream.send_text(question, trigger_response=True)
            print(f"{question} {response.text} [{response.status}]")
    for status in stream.process_status().values():
        print(status)


if __name__ == "__main__":
    asyncio.run(main())
