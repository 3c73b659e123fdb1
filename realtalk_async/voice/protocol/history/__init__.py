"""How much of a session is kept in memory, and replayed to a new connection."""
