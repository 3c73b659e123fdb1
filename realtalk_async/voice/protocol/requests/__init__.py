"""What the client asks of the service: messages, options of the session, images."""
