"""Recorder, player, their programs or callbacks, and the recording of a session."""
