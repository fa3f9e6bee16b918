"""Faults for real, at random moments: `make stress`. Every table is then as undisturbed."""
