"""Run until SIGTERM or Ctrl-C, then read the history: it answers after the block too."""

import asyncio
import signal

from realtalk_async import Command, Logger, ProcessManager


async def main() -> None:
    """Stop the processes in order at the first signal, and tell what failed."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)

    async with Logger("app.log") as logger:
        async with ProcessManager(logger) as manager:
            manager.print_events()
            flaky = Command("sh", "-c", "echo working; sleep 1; echo oh >&2; exit 3")
            await manager.start("flaky", flaky, restart="permanent")
            print("stop me with Ctrl-C or kill", flush=True)
            await stop.wait()  # a critical loss ends it too: CriticalProcessFailed

        history = manager.get_error_history()
        print(history.filter(failed=True))
        print("\n".join(line.text for line in manager.processes["flaky"].get_stdout()))


if __name__ == "__main__":
    asyncio.run(main())
