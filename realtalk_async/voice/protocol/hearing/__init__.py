"""What the samples of microphone and speaker tell: levels, faults, echo, speech."""
