"""Captured output: read from pipes, stored, spilled to disk, followed, searched."""
