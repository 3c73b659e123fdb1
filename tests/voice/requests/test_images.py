"""Images of the app: what is read and refused, sent, kept, and sent again."""

from __future__ import annotations

import base64
import os

import anyio
import pytest
from openai.types.realtime import RealtimeClientEvent
from pydantic import TypeAdapter

from realtalk_async.exceptions import ClosedStream, InvalidConfiguration
from realtalk_async.logs import Logger
from realtalk_async.offline import Peer
from realtalk_async.voice import Status, Stream
from realtalk_async.voice.protocol import conversation, messages
from realtalk_async.voice.protocol.conversation import Conversation
from realtalk_async.voice.protocol.requests.images import MAX_IMAGE_BYTES, image_of
from realtalk_async.voice.requests.image_file import load_image

TIMEOUT = 240  # seconds: the machine may be busy
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGNgYGBgAAAABQABpfZFQAAA"
    "AABJRU5ErkJggg=="
)
JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00" + bytes(20) + b"\xff\xd9"
QUESTION = "What is two plus three?"


@pytest.fixture
async def peer():
    async with Peer(pace=0) as peer:
        yield peer


@pytest.fixture
def stream(peer, tmp_path):
    logger = Logger(tmp_path / "app.log")
    return Stream(logger=logger, url=peer.url, microphone=None, speaker=None)


def contents(peer, connection):
    """Return the content of each message that a connection created."""
    return [
        one.event["item"]["content"]
        for one in peer.received
        if one.connection == connection and one.type == "conversation.item.create"
    ]


@pytest.mark.parametrize(
    ("data", "kind", "url"),
    [(PNG, "png", "data:image/png;base64,"), (JPEG, "jpeg", "data:image/jpeg;base64,")],
)
def test_an_image_is_a_data_url_of_its_format(data, kind, url):
    image = image_of("image", data, "low")
    assert (image.format, image.size) == (kind, len(data))
    assert image.url == url + base64.b64encode(data).decode()
    assert str(image) == f"{kind.upper()} image, {len(data)} bytes"
    assert image.url not in repr(image)
    message = messages.create_item("item_1", "user", "Look.", image)
    TypeAdapter[object](RealtimeClientEvent).validate_python(message)
    item = message["item"]
    assert isinstance(item, dict)
    assert [part["type"] for part in item["content"]] == ["input_image", "input_text"]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "image is empty"),
        (b"GIF89a\x01\0", "image is a GIF file; the service takes PNG and JPEG"),
        (b"RIFF\x1a\0\0\0WEBPVP8L", "is a WEBP image"),
        (b"BM\x1e\0", "is a BMP file"),
        (b"\0\0\0\x18ftypheic\0", "a file of type 'heic'"),
        (b"<svg xmlns=''/>", "is a SVG file"),
        (b"%PDF-1.7", "is a PDF file"),
        (b"\x89PN", "is no image: it begins with b'\\x89PN'"),
        (PNG + bytes(MAX_IMAGE_BYTES), "10,485,760 at most: make it smaller"),
    ],
    ids=["empty", "gif", "webp", "bmp", "heic", "svg", "pdf", "cut", "large"],
)
def test_what_the_service_cannot_take_is_refused_by_name(data, words):
    with pytest.raises(InvalidConfiguration) as caught:
        image_of("image", data)
    assert words in str(caught.value)


async def test_a_file_that_cannot_be_read_is_refused_at_once(tmp_path):
    pipe, large, empty = tmp_path / "pipe", tmp_path / "large.png", tmp_path / "empty"
    os.mkfifo(pipe)
    empty.touch()
    with large.open("wb") as file:
        file.truncate(MAX_IMAGE_BYTES + 1)
    refusals = {
        pipe: "is no regular file",
        large: "make it smaller",
        empty: "is empty",
        tmp_path: "cannot be read: Is a directory",
        tmp_path / "none.png": "cannot be read: No such file or directory",
    }
    for path, words in refusals.items():
        with pytest.raises(InvalidConfiguration) as caught:
            await load_image("image", path, "auto")
        assert str(caught.value).startswith(f"image '{path}' ")
        assert words in str(caught.value)


async def test_an_image_is_shown_with_its_question(peer, stream, tmp_path):
    path = tmp_path / "photo.png"
    path.write_bytes(PNG)
    async with stream:
        with anyio.fail_after(TIMEOUT):
            request = await stream.send_image(
                path, QUESTION, detail="high", trigger_response=True
            )
            assert (await request).text == "Two plus three is five."
            assert await stream.send_image(bytearray(JPEG)) is None
            assert (await stream.send_text(QUESTION, trigger_response=True)).completed
        entries = stream.conversation()
    first, second, _ = contents(peer, 1)
    url = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    assert first == [
        {"type": "input_image", "image_url": url, "detail": "high"},
        {"type": "input_text", "text": QUESTION},
    ]
    assert [part["type"] for part in second] == ["input_image"]
    assert [(e.medium, e.content) for e in entries if e.role == "user"] == [
        ("image", QUESTION),
        ("image", f"(JPEG image, {len(JPEG)} bytes)"),
        ("text", QUESTION),
    ]
    logged = str([event.data for event in stream.eventlog])
    assert url not in logged
    assert f"<{len(PNG)} bytes of image>" in logged


async def test_images_are_sent_again_on_another_connection(peer, stream):
    async with stream:
        with anyio.fail_after(TIMEOUT):
            await stream.send_image(PNG)
            await stream.send_image(JPEG, "And this?")
            peer.fault("drop@response.created")
            lost = await stream.send_text(QUESTION, trigger_response=True)
            assert lost.status is Status.LOST
            assert (await stream.send_text(QUESTION, trigger_response=True)).completed
    assert contents(peer, 2)[:2] == contents(peer, 1)[:2]
    assert len(contents(peer, 2)) == 4


def test_only_the_newest_images_are_kept(monkeypatch):
    image = image_of("image", PNG)
    monkeypatch.setattr(conversation, "KEPT_IMAGES", 2 * len(image.url))
    kept = Conversation()
    for number in range(3):
        kept.add(f"i{number}", "user", f"i{number - 1}")
        kept.attach(f"i{number}", image)
    words = f"(PNG image, {len(PNG)} bytes)"
    assert [kept.to_replay(f"i{n}") for n in range(3)] == [
        *((words, None), ("", image), ("", image)),
    ]
    assert [entry.content for entry in kept.entries()] == [words] * 3


async def test_no_image_is_sent_after_the_end(stream):
    async with stream:
        pass
    with pytest.raises(ClosedStream):
        await stream.send_image(PNG)
