"""The answers of the offline peer."""
