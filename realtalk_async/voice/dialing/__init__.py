"""What a connection needs before it is opened: a summary of the history, an address."""
