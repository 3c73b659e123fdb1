"""
Waiting for several things, and waiting to the end in spite of a cancellation.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import Coroutine


async def first_of(*works: Coroutine[object, object, object]) -> None:
    """
    Run all *works* until the first one ends, then end the others.

    Raises:
        BaseException: What the first one to end raised.

    Cancellation: All are cancelled and waited for.
    """
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        ended = [task for task in tasks if task.done()]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in ended:
        task.result()


async def to_the_end(work: Coroutine[object, object, object]) -> None:
    """
    Await *work*, which must be bounded, however often we are cancelled meanwhile.

    Raises:
        BaseException: What *work* raised.

    Cancellation: Held back until *work* has ended, then raised. The scope holds back
    those of anyio, the loop those of asyncio, which know no shield.
    """
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    with anyio.CancelScope(shield=True):
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError as error:
                cancelled = error
    task.result()
    if cancelled is not None:
        raise cancelled


async def settled(task: asyncio.Task[None]) -> None:
    """Wait until *task* has ended, whatever it raised."""
    await asyncio.wait([task])
