"""What a session costs, and the bounds that an app sets."""
