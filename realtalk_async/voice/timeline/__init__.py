"""The timeline of a session: recorded as marks, drawn as SVG."""
