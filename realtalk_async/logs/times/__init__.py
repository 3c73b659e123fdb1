"""The times in the lines of a log: across steps of the clock and the repeated hour."""
