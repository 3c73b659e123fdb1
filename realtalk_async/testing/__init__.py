"""Tools for tests of supervised apps: scripted programs, fixtures, leak checks."""
