"""The API key and other secrets of an endpoint: kept out of all that is shown."""
