"""The timeline of a session: its marks, their recorder, and the picture as SVG."""
