from __future__ import annotations

import json
import threading

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from realtalk_async.exceptions import InvalidConfiguration, NotStarted
from realtalk_async.offline import Peer, PeerThread


def ask(peer, text):
    """Ask with a synchronous client; return the text of the answer."""
    content = [{"type": "input_text", "text": text}]
    item = {"type": "message", "role": "user", "content": content}
    answer = ""
    with connect(peer.url) as socket:
        for event in (
            {"type": "conversation.item.create", "item": item},
            {"type": "response.create", "response": {"output_modalities": ["text"]}},
        ):
            socket.send(json.dumps(event))
        while True:
            event = json.loads(socket.recv(timeout=120))
            answer += event.get("delta", "")
            if event["type"] == "response.done":
                return answer


def test_the_peer_serves_in_a_thread_that_ends_with_the_block():
    threads = threading.active_count()
    with PeerThread() as peer:
        assert ask(peer, "What is two plus two?") == "Two plus two is four."
        assert peer.wait_received("response.create", timeout=120).connection == 1
        assert peer.types(1) == ["conversation.item.create", "response.create"]
        assert [event.type for event in peer.received] == peer.types()
        assert "ws://127.0.0.1" in repr(peer)
        with pytest.raises(TimeoutError):
            peer.wait_received("response.cancel", timeout=0)
    assert threading.active_count() == threads


def test_a_fault_is_injected_once():
    with PeerThread(Peer(pace=0)) as peer:
        peer.fault("close-1011@response.created")
        with pytest.raises(ConnectionClosed):
            ask(peer, "hello")
        assert ask(peer, "hello") == "Hello. How can I help you?"
        with pytest.raises(InvalidConfiguration):
            peer.fault("fire")


def test_use_outside_the_block_raises_not_started():
    peer = PeerThread()
    for use in (lambda: peer.url, lambda: peer.fault("drop")):
        with pytest.raises(NotStarted, match="with PeerThread"):
            use()


def test_a_taken_port_raises_oserror_and_leaves_no_thread():
    with PeerThread() as peer:
        threads = threading.active_count()
        port = int(peer.url.split(":")[2].split("/")[0])
        with (
            pytest.raises(OSError, match="address already in use"),
            PeerThread(Peer(port)),
        ):
            pytest.fail("started")
        assert threading.active_count() == threads
        assert ask(peer, "bye") == "Goodbye."
