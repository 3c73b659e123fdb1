"""The operating system: spawning, signals, process groups, the guard process."""
