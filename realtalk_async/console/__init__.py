"""What the command line shows: the demo, tables, a live account of what happens."""
