"""
The offline peer: a local realtime server that recognises speech, answers and speaks.

`Peer` runs it inside a test or an app, `PeerThread` for synchronous code, and
``python -m realtalk_async.offline`` as a program; `render` speaks a script into a WAV.
They need the extra ``offline``; its models are loaded at first use.
"""

from __future__ import annotations

from realtalk_async.offline.answers.tools import ToolCall
from realtalk_async.offline.effects import Message, Question
from realtalk_async.offline.faults.kinds import Fault
from realtalk_async.offline.scripting.received import Received, ReceivedEvents
from realtalk_async.offline.scripting.replies import Failure

try:
    from realtalk_async.offline.server import Peer
except ModuleNotFoundError as error:
    if not (error.name or "").startswith("websockets"):
        raise
    message = "the offline peer needs websockets: pip install 'realtalk-async[offline]'"
    raise ImportError(message, name=error.name) from error
from realtalk_async.offline.server_thread import PeerThread
from realtalk_async.offline.speech.script import Spoken, render, render_async

__all__ = [
    "Failure",
    "Fault",
    "Message",
    "Peer",
    "PeerThread",
    "Question",
    "Received",
    "ReceivedEvents",
    "Spoken",
    "ToolCall",
    "render",
    "render_async",
]
