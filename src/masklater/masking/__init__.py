"""Masking: which positions are predicted, and what stands there."""
