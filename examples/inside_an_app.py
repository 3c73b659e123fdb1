"""A voice session inside an app: ready inside the block, everything ended after it."""

import asyncio

from realtalk_async import Stream
from realtalk_async.offline import Peer


async def main() -> None:
    """Ask twice, in writing; an app with a microphone would just listen."""
    async with (
        Peer() as peer,  # the offline peer; leave out both and set OPENAI_API_KEY
        Stream(url=peer.url, microphone=None, speaker=None) as stream,
    ):
        stream.subscribe(lambda event: print(f"  ({event})"))
        for question in ("What is seven plus five?", "And who are you?"):
            stream.send_text(question, trigger_response=True)
            outcome = await stream.wait_for_response()
            print(f"{question} {outcome.text} [{outcome.status}]")
    for status in stream.process_status().values():
        print(status)


if __name__ == "__main__":
    asyncio.run(main())
