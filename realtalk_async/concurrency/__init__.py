"""Small asyncio and thread helpers that every package may use."""
