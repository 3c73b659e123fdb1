"""Run probes against a running process."""
