"""Images that the app shows to the model: their formats and their content part."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from realtalk_async.exceptions import InvalidConfiguration

MAX_IMAGE_BYTES = 10 * 1024 * 1024
"""The size of the largest image; as base64 it is a message of 14 MB."""

Detail: TypeAlias = Literal["auto", "low", "high"]
DETAILS: tuple[Detail, ...] = get_args(Detail)

_FORMATS = {b"\x89PNG\r\n\x1a\n": "png", b"\xff\xd8\xff": "jpeg"}
_OTHER_FORMATS = {
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"%PDF": "PDF",
    b"<svg": "SVG",
    b"<?xml": "SVG or XML",
}


@dataclass(frozen=True, slots=True)
class Image:
    """An image, ready to be sent."""

    format: Literal["png", "jpeg"]
    size: int
    """Bytes of the file."""
    url: str
    """The image as a data URL."""
    detail: Detail = "auto"

    def to_content(self) -> dict[str, object]:
        """Return the content part of a message."""
        return {"type": "input_image", "image_url": self.url, "detail": self.detail}

    def __repr__(self) -> str:
        return f"<Image {self}>"

    def __str__(self) -> str:
        return f"{self.format.upper()} image, {self.size:,} bytes"


def image_of(argument: str, data: bytes, detail: Detail = "auto") -> Image:
    """
    Make an image of the content of a file.

    Raises:
        InvalidConfiguration: If it is empty, larger than `MAX_IMAGE_BYTES`, or neither
            PNG nor JPEG, which its first bytes tell.
    """
    if not data:
        raise InvalidConfiguration(f"{argument} is empty")
    if len(data) > MAX_IMAGE_BYTES:
        raise too_large(argument, len(data))
    for start, name in _FORMATS.items():
        if data.startswith(start):
            text = base64.b64encode(data).decode("ascii")
            url = f"data:image/{name};base64,{text}"
            return Image("png" if name == "png" else "jpeg", len(data), url, detail)
    raise InvalidConfiguration(
        f"{argument} is {_what(data)}; the service takes PNG and JPEG"
    )


def too_large(argument: str, size: int) -> InvalidConfiguration:
    """Return the error for an image of that many bytes."""
    return InvalidConfiguration(
        f"{argument} has {size:,} bytes, {MAX_IMAGE_BYTES:,} at most: make it smaller"
    )


def _what(data: bytes) -> str:
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "a WEBP image"
    if data[4:8] == b"ftyp":
        return f"a file of type {data[8:12].decode('ascii', 'replace')!r}, such as HEIC"
    for start, name in _OTHER_FORMATS.items():
        if data.startswith(start):
            return f"a {name} file"
    return f"no image: it begins with {data[:8]!r}"
