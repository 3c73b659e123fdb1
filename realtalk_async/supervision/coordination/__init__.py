"""What the children of one manager have in common: devices, common restarts, the end."""
