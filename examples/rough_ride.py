"""Hold a conversation with an interruption, a killed recorder and a lost connection."""

import asyncio
import signal

from realtalk_async import Stream
from realtalk_async.offline import Peer, render_async
from realtalk_async.voice import ConnectionRestored, SpeechStarted

SCRIPT = (
    ("Tell me a story.", 4.0),  # long: the next question interrupts it
    ("What is seven plus five?", 3.0),
    ("Can you count from one to five?", 3.5),  # the recorder is killed here
    ("What is twenty minus eight?", 3.0),  # the connection breaks during the response
    ("What is ten times two?", 2.0),
)


async def main() -> None:
    await render_async(SCRIPT, "in.wav")
    async with (
        Peer() as peer,
        Stream(url=peer.url, microphone="in.wav", speaker="out.wav") as stream,
    ):
        events = stream.events(SpeechStarted, ConnectionRestored)
        for _ in range(3):
            await anext(events)
        stream.process_manager.processes["recorder"].send_signal(signal.SIGKILL)
        peer.fault("drop@response.output_audio.delta:36")
        while not isinstance(await anext(events), ConnectionRestored):
            pass
        print(await stream.wait_for_response())
        await stream.wait_until_played()
    print(stream.transcript(), stream.error_history().filter(failed=True), sep="\n\n")
    await stream.save_timeline("ride.jsonl")  # realtalk-async timeline ride.jsonl


asyncio.run(main())
