"""Ways to start a program with an empty signal mask and default dispositions."""
