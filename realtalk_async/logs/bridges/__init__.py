"""Bridges from logging, warnings, structlog and uncaught exceptions to the log."""
