"""What scripts of version 0.1 import from here is in judge/encoder.py."""

from masklater.judge.encoder import load_classifier, longest_row, open_encoder

__all__ = ["load_classifier", "longest_row", "open_encoder"]
