"""The JSON form of the events: one table of all fields, unique ids, actors."""

import json
import os
import re
import textwrap
import timeit
from dataclasses import fields

from realtalk_async import events
from realtalk_async.events.base import (
    APP,
    POLICY,
    SCHEMA_VERSION,
    BaseEvent,
    acting_as,
    get_actor,
    next_id,
    user,
)
from realtalk_async.voice import events as voice_events

COMMON = ["version", "id", "kind", "at", "actor"]

JSON_TYPES = {
    "str": "text",
    "int": "integer",
    "float": "number",
    "bool": "boolean",
    "int | None": "integer or null",
    "int | str": "integer or text",
    "tuple[str, ...]": "list of texts",
    "dict[str, str]": "object",
    "Mapping[str, object]": "object",
    "Outcome": "object",
    "Usage | None": "object or null",
    "DeviceProblem": "text",
    "LimitKind": "text",
    "SoundProblem": "text",
    'Literal["recorder", "player"]': "text",
    "Literal['recorder', 'player']": "text",
}


def all_events():
    """Return all kinds of events that are delivered, in the order of their definition."""
    found = [
        one
        for module in (events, voice_events)
        for one in vars(module).values()
        if isinstance(one, type) and issubclass(one, BaseEvent)
    ]
    bases = (BaseEvent, events.Event, voice_events.VoiceEvent)
    return [one for one in dict.fromkeys(found) if one not in bases]


def own_fields(event):
    return {
        one.name: JSON_TYPES[str(one.type)]
        for one in fields(event)
        if one.name not in COMMON
    }


def documented_fields():
    """Return the fields of each kind in the table of `realtalk_async.events`."""
    table = events.__doc__.split("::\n\n")[-1]
    rows = re.sub(r"\n {8,}", " ", table).strip("\n").splitlines()
    found = {}
    for row in rows:
        kind, _, listed = row.strip().partition(" ")
        pairs = (one.split(": ") for one in listed.strip().split(", ") if one)
        found[kind] = dict(pairs)
    return found


def expected_table():
    rows = []
    for one in sorted(all_events(), key=lambda event: event.kind):
        listed = ", ".join(
            f"{name}: {type_}" for name, type_ in own_fields(one).items()
        )
        rows += textwrap.wrap(
            f"{one.kind} {listed}".replace(": ", ":\xa0"),
            88,
            initial_indent=" " * 4,
            subsequent_indent=" " * 8,
            break_on_hyphens=False,
        )
    return "\n".join(rows).replace("\xa0", " ")


def test_one_table_documents_all_events_with_their_fields_and_types():
    expected = {one.kind: own_fields(one) for one in all_events()}
    assert documented_fields() == expected, f"the table should be\n{expected_table()}"


def test_every_event_has_the_common_fields_first():
    form = events.ProcessReady(process="mic", incarnation=1, after=0.5).to_dict()
    assert list(form)[:3] == COMMON[:3]
    assert set(form) == {*COMMON, "process", "incarnation", "after"}
    assert form["version"] == SCHEMA_VERSION == 1
    assert form["actor"] == "policy"
    json.dumps(form)


def test_a_voice_event_has_the_same_common_fields():
    form = voice_events.ConnectionLost("1006").to_dict()
    assert set(form) == {*COMMON, "reason"}
    json.dumps(form)


def test_every_event_has_an_id_of_its_own_and_keeps_it():
    first, second = (voice_events.ConnectionLost("1006") for _ in range(2))
    assert first.id != second.id
    assert first == second, "two events with the same facts are equal"
    assert first.to_dict()["id"] == first.to_dict()["id"] == first.id


def test_a_forked_process_draws_ids_of_its_own():
    before = next_id()
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        os.write(writing, next_id().encode())
        os._exit(0)
    os.waitpid(pid, 0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        forked = pipe.read().decode()
    own = before.partition("-")[0]
    assert len(own) == 16
    assert forked.partition("-")[0] != own
    assert next_id().partition("-")[0] == own


def test_an_id_takes_less_than_a_microsecond():
    assert min(timeit.repeat(next_id, number=1000, repeat=20)) / 1000 < 1e-6


def test_the_actor_of_a_block_ends_with_it():
    assert get_actor() == APP
    with acting_as(user(1000)):
        assert get_actor() == "uid:1000"
        with acting_as(POLICY):
            assert get_actor() == POLICY
        assert get_actor() == "uid:1000"
    assert get_actor() == APP
