"""The check of a client event that the app makes itself."""

from __future__ import annotations

from realtalk_async import arguments
from realtalk_async.exceptions import InvalidConfiguration
from realtalk_async.voice.protocol.requests.json_value import json_object


def check_event(argument: str, event: object) -> dict[str, object]:
    """
    Check a client event, and return a copy.

    Raises:
        InvalidConfiguration: If it is no JSON object with a ``type``, its ``event_id`` is
            no text, or it is a ``session.update``, whose confirmation must be awaited.
    """
    message = json_object(argument, event)
    arguments.one_line(f"{argument}['type']", message.get("type"))
    if "event_id" in message:
        arguments.one_line(f"{argument}['event_id']", message["event_id"])
    if message["type"] == "session.update":
        raise InvalidConfiguration(
            f"{argument} is a session.update: use update_session(…), which keeps the "
            f"change over reconnects"
        )
    return message
