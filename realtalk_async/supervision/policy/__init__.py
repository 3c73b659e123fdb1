"""Decisions without I/O: restart, intensity, strategies, stop ladder, probes, devices."""
