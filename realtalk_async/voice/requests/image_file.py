"""Reads an image of the app, in a thread: disks and network folders may be slow."""

from __future__ import annotations

import os
import stat
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from realtalk_async import arguments
from realtalk_async.concurrency.daemon_thread import call_in_thread
from realtalk_async.exceptions import InvalidConfiguration
from realtalk_async.voice.protocol.requests.images import (
    MAX_IMAGE_BYTES,
    Image,
    image_of,
    too_large,
)

if TYPE_CHECKING:
    from realtalk_async.voice.protocol.requests.images import Detail

ImageSource: TypeAlias = str | os.PathLike[str] | bytes | bytearray | memoryview


def check_image(argument: str, image: object) -> None:
    """Check that *image* is the content of a file, or a path."""
    if not isinstance(image, bytes | bytearray | memoryview):
        try:
            arguments.path(argument, image)
        except InvalidConfiguration:
            allowed = "the path of an image, or its bytes"
            raise arguments.refused(argument, allowed, image) from None


async def load_image(argument: str, image: ImageSource, detail: Detail) -> Image:
    """
    Return an image that is ready to be sent.

    Raises:
        InvalidConfiguration: If it cannot be read, or see `image_of`.

    Cancellation: Safe.
    """
    if isinstance(image, bytes | bytearray | memoryview):
        load = partial(image_of, argument, bytes(image), detail)
    else:
        load = partial(_read, argument, os.fspath(image), detail)
    return await call_in_thread(load, "realtalk-async loads an image")


def _open(path: str, flags: int) -> int:
    # A pipe without a writer would block for ever.
    return os.open(path, flags | os.O_NONBLOCK)


def _read(argument: str, path: str, detail: Detail) -> Image:
    named = f"{argument} {path!r}"
    try:
        with open(path, "rb", opener=_open) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise InvalidConfiguration(f"{named} is no regular file")
            if status.st_size > MAX_IMAGE_BYTES:
                raise too_large(named, status.st_size)
            data = file.read(MAX_IMAGE_BYTES + 1)
    except OSError as error:
        why = error.strerror or str(error)
        raise InvalidConfiguration(f"{named} cannot be read: {why}") from error
    return image_of(named, data, detail)
