"""Look into a running app, from another process of the same user."""
