"""Requests of the app that need more than a message."""
