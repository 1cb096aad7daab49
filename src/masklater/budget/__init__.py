"""The cost of a run, counted before it is run (no torch)."""
