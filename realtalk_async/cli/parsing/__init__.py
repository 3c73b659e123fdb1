"""How the command line is parsed."""
