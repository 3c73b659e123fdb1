"""What the offline peer says in response to a question."""
