"""The messages of clients."""
