"""Status, crash reports and explanations."""
