"""Speech recognition and synthesis for the offline peer."""
