"""Spans of a voice session for OpenTelemetry."""
