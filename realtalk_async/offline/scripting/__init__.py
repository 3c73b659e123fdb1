"""What a test says about the offline peer: its answers, its script, its latency."""
