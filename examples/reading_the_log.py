"""Query the log by level, component and pattern; entries have parsed fields."""

import asyncio

from realtalk_async import Logger


async def main() -> None:
    """Write a few entries and query some of them."""
    async with Logger() as logger:
        logger.info("app", "Started", {"version": "1.0"})
        logger.warning("mic", "The level is low", {"dbfs": -48.5})
        await logger.error("net", "Connection lost", {"code": 1006})  # is on disk

        for entry in await logger.get_logs(level="ERROR"):
            print(entry)
        [entry] = await logger.get_logs(component="mic", pattern="level", n=1)
        print(entry.timestamp.isoformat(), entry.context["dbfs"])

        with logger.install():  # includes the standard library's logging
            import logging

            logging.getLogger("some.library").warning("disk is %d %% full", 93)
        print(*await logger.get_logs(component="some.library"))


if __name__ == "__main__":
    asyncio.run(main())
