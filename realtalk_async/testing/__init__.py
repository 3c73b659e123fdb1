"""What users need to test their own apps: programs that misbehave, fixtures, guards."""
