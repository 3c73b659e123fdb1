"""A conversation in which all goes wrong, and goes on; its time line can be drawn."""

import asyncio
import signal

from realtalk_async import Stream
from realtalk_async.offline import Peer, render_async
from realtalk_async.voice import ConnectionRestored, SpeechStarted

SCRIPT = (
    ("Tell me a story.", 4.0),  # a long one: the next question breaks into it
    ("What is seven plus five?", 3.0),
    ("Can you count from one to five?", 3.5),  # the recorder is killed meanwhile
    ("What is twenty minus eight?", 3.0),  # the connection breaks in the answer
    ("What is ten times two?", 2.0),
)


async def main() -> None:
    await render_async(SCRIPT, "in.wav")
    async with (
        Peer() as peer,
        Stream(url=peer.url, microphone="in.wav", speaker="out.wav") as stream,
    ):
        told = stream.events(SpeechStarted, ConnectionRestored)
        for _ in range(3):
            await anext(told)
        stream.process_manager.processes["recorder"].send_signal(signal.SIGKILL)
        peer.fault("drop@response.output_audio.delta:36")
        while not isinstance(await anext(told), ConnectionRestored):
            pass
        print(await stream.wait_for_response())
        await stream.wait_until_played()
    print(stream.transcript(), stream.error_history().filter(failed=True), sep="\n\n")
    await stream.save_timeline("ride.jsonl")  # realtalk-async timeline ride.jsonl


asyncio.run(main())
