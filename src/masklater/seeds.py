"""Derived seeds: every draw of a run follows from its recipe's one seed."""

from hashlib import blake2b


def derive_seed(seed: int, purpose: str, *numbers: int) -> int:
    """Return a 63-bit seed for one purpose at one place, unrelated to all others."""
    text = ":".join(map(str, (seed, purpose, *numbers)))
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") >> 1
