"""Run probes against a running process; probes for ports, pages and programs."""
