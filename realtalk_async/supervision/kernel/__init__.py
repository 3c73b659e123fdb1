"""The operating system: spawning, pipes, exits, process groups, the guard process."""
