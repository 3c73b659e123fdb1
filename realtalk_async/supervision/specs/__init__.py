"""The children that an app wants as data, and the way from the old list to a new one."""
