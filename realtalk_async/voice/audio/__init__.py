"""Recorder, player, audio buffers, devices, recording."""
