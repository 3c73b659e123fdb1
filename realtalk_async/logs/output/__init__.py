"""Where the lines of a log go: its path, what the path names, and the lines dropped."""
