"""The realtime protocol without I/O and without a clock."""
