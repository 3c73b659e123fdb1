"""Ask the log: by level, component and pattern, the newest n, all fields parsed."""

import asyncio

from realtalk_async import Logger


async def main() -> None:
    """Write a few entries and ask for some of them."""
    async with Logger() as logger:
        logger.info("app", "Started", {"version": "1.0"})
        logger.warning("mic", "The level is low", {"dbfs": -48.5})
        await logger.error("net", "Connection lost", {"code": 1006})  # on disk now

        for entry in await logger.get_logs(level="ERROR"):
            print(entry)
        [entry] = await logger.get_logs(component="mic", pattern="level", n=1)
        print(entry.timestamp.isoformat(), entry.context["dbfs"])

        with logger.install():  # from here on the standard library logs here, too
            import logging

            logging.getLogger("some.library").warning("disk is %d %% full", 93)
        print(*await logger.get_logs(component="some.library"))


if __name__ == "__main__":
    asyncio.run(main())
