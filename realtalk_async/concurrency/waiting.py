"""Wait for the first of several coroutines, or to the end in spite of a cancellation."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import Coroutine


async def first_of(*works: Coroutine[object, object, object]) -> None:
    """
    Run all coroutines until the first one ends, then cancel the others.

    Raises:
        BaseException: The exception of the first one.

    Cancellation: All are cancelled and awaited.
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
    Await *work*, which must be bounded, in spite of any number of cancellations.

    Raises:
        BaseException: The exception of *work*.

    Cancellation: Raised after *work* has ended. The scope defers cancellations by anyio,
    the loop those by asyncio, which ignores anyio's shield.
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
    """Wait until *task* has ended; its exception is not raised."""
    await asyncio.wait([task])


def error_of(task: asyncio.Task[None]) -> BaseException | None:
    """
    Return the error that has ended a task.

    A CancelledError of a task without a request to cancel it is an error too.
    """
    try:
        return task.exception()
    except asyncio.CancelledError as error:
        return None if task.cancelling() else error
