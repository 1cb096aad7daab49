"""Masking: which positions are corrupted, which are predicted, and the ids that the encoder reads."""
