"""
A realtime peer that hears, answers and speaks without a network.

`Peer` runs it inside a test or an app, ``python -m realtalk_async.offline`` as a
program of its own; `render` speaks a script into a WAV. What needs the extra
``offline`` is imported at first use.
"""

from __future__ import annotations

from realtalk_async.offline.faults import Fault
from realtalk_async.offline.peer import Peer, Received
from realtalk_async.offline.script import Spoken, render, render_async

__all__ = ["Fault", "Peer", "Received", "Spoken", "render", "render_async"]
