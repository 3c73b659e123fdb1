"""A session of any length: its tables are bounded, and the replay is."""

import gc
import os
import types
from collections import Counter, deque

import pytest

from realtalk_async.voice.protocol import messages
from realtalk_async.voice.protocol.history.limits import HistoryLimits
from realtalk_async.voice.protocol.requests.session_config import SessionConfig
from realtalk_async.voice.protocol.session import Session

TURNS = int(os.environ.get("LONG_SESSION_TURNS", "1400"))
"""``nox -s soak`` holds 100,000."""

LIMITS = HistoryLimits(
    replay_items=20, kept_items=200, kept_outcomes=100, kept_events=100
)


class Service:
    """Answers each message of a session like a service that confirms its own ids."""

    def __init__(self, *, own_ids=False, confirms=True, limits=LIMITS):
        self.session = Session(SessionConfig(), history=limits)
        self.session.set_status("All is well.")
        self.now, self.number, self.own_ids = 0.0, 0, own_ids
        self.confirms = confirms
        self.previous = None
        self.created = []

    def event(self, kind, **fields):
        self.number += 1
        raw = messages.encode({"type": kind, "event_id": f"e{self.number}", **fields})
        self.session.receive_data(raw, self.now)
        self.exchange()

    def exchange(self):
        """Take what the session sends and publishes; confirm each item."""
        while True:
            for event in self.session.events_received():
                if event.kind == "tool.called":
                    self.finish_tool(event)
            message = self.session.next_message(self.now)
            if message is None and not self.session.has_event:
                return
            if message and message["type"] == "conversation.item.create":
                self.created.append(message["item"])
                self.confirm(self.created[-1])

    def finish_tool(self, event):
        from realtalk_async.voice.events import ToolFinished

        result = ToolFinished(event.call_id, event.name, "fine", 0.1)
        self.session.tool_finished(result, self.now)

    def confirm(self, item):
        if not self.confirms:
            return
        if self.own_ids:
            self.number += 1
            item = {**item, "id": f"svc_{self.number}"}
        self.add(item)

    def add(self, item):
        kind = "conversation.item.added"
        self.event(kind, previous_item_id=self.previous, item=item)
        self.previous = item["id"]

    def connect(self):
        self.created = []
        self.previous = None
        self.session.connected(self.now, self.now)
        self.exchange()
        self.event("session.updated", session={"id": "sess_1"})

    def lose(self):
        self.session.connection_lost("broken", self.now)
        self.exchange()

    def turn(self, number):
        """Hold one turn: spoken, written, or with a tool; lose one in a thousand."""
        self.now += 1.0
        if number % 3 == 0:
            self.session.send_text("Hi", "user", self.now, trigger_response=True)
            self.exchange()
        else:
            self.speak(f"u{number}")
        if number % 5 == 0:
            self.respond(f"c{number}", call=True)
        self.respond(f"r{number}")
        if number % 200 == 0:
            self.lose()
            self.connect()

    def speak(self, item_id):
        self.event("input_audio_buffer.speech_started", item_id=item_id)
        self.event("input_audio_buffer.speech_stopped", item_id=item_id)
        ids = {"item_id": item_id, "previous_item_id": self.previous}
        self.event("input_audio_buffer.committed", **ids)
        self.previous = item_id
        kind = "conversation.item.input_audio_transcription.completed"
        self.event(kind, item_id=item_id, transcript="How are you?")

    def respond(self, name, *, call=False):
        ids = {"response_id": name, "item_id": f"i{name}"}
        self.event("response.created", response={"id": name})
        if call:
            item = {"id": f"i{name}", "type": "function_call", "call_id": f"k{name}"}
            item |= {"name": "look", "arguments": "{}", "status": "completed"}
        else:
            item = {"id": f"i{name}", "type": "message", "role": "assistant"}
        self.add({**item, "content": []})
        self.event("response.output_item.added", response_id=name, item=item)
        if not call:
            kind = "response.output_audio_transcript.delta"
            self.event(kind, **ids, content_index=0, delta="Fine.")
            self.event("response.output_audio.delta", **ids, delta="AAAAAAAA")
            self.session.audio_due(self.now)
        response = {"id": name, "status": "completed", "output": []}
        self.event("response.done", response=response)


CONTAINERS = dict, list, set, tuple, deque


def sizes(root):
    """Return the number of entries of all containers that *root* refers to, by type."""
    seen, todo, found = set(), [root], Counter()
    skipped = type, types.ModuleType, types.FunctionType, types.MethodType
    while todo:
        thing = todo.pop()
        if id(thing) in seen or isinstance(thing, skipped):
            if isinstance(thing, types.MethodType):
                todo.append(thing.__self__)
            continue
        seen.add(id(thing))
        if isinstance(thing, CONTAINERS):
            found[type(thing).__name__] += len(thing)
        todo += gc.get_referents(thing)
    return found


def check_growth(service, turns):
    """Hold *turns* turns; the second half must not add entries to any container."""
    service.connect()
    for number in range(1, turns // 2 + 1):
        service.turn(number)
    before = sizes(service.session)
    for number in range(turns // 2 + 1, turns + 1):
        service.turn(number)
    after = sizes(service.session)
    grown = {
        kind: (before[kind], after[kind])
        for kind in after
        if after[kind] > before[kind] + 100
    }
    assert grown == {}
    assert sum(after.values()) < 20_000


@pytest.mark.parametrize("options", [{}, {"own_ids": True}, {"confirms": False}])
def test_no_table_of_a_session_grows_for_ever(options):
    check_growth(Service(**options), TURNS)
