"""The terminal of `realtalk-async run`: job control, keys, modes."""
