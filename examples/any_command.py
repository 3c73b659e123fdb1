"""Supervise any command, without audio or network."""

import asyncio
import signal

from realtalk_async import PERMANENT, Command, Logger, ProcessManager


async def main() -> None:
    """Run a clock, kill it and wait for its replacement."""
    clock = Command("sh", "-c", "while date +%T; do sleep 0.2; done")
    async with Logger() as logger, ProcessManager(logger) as manager:
        process = await manager.start("clock", clock, restart=PERMANENT)
        await process.wait_for_line(":")

        process.send_signal(signal.SIGKILL)
        async for line in process.follow("stdout"):
            if line.incarnation == 2:
                print(f"restarted: {line}")
                break

        print(process.get_status())
        print(manager.get_error_history("clock")["clock"].failures[0])
    print(f"The log is {logger.path}")


if __name__ == "__main__":
    asyncio.run(main())
