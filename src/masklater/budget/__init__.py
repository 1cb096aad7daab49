"""Compute as a quantity: counted before a run, metered during it."""
