"""Asyncio-native supervision for the child processes of live audio apps."""
