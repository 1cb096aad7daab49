"""Masking: the positions that are corrupted and predicted, and the ids that the encoder reads there."""
