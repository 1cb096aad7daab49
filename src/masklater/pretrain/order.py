"""The order of rows, computed and not stored, so that a batch is a function of (seed, step) alone."""

import math

import numpy as np
from numpy.typing import NDArray

from masklater.seeds import derive_seed

ROUNDS = 6


def permute(indices_N: NDArray[np.int64], size: int, key: int) -> NDArray[np.int64]:
    """Send each index through a keyed pseudo-random permutation of range(size); memory is O(N), not O(size).

    A Feistel network permutes the next power of four. An index that lands outside range(size) is sent on until it lands
    inside (cycle walking; Black and Rogaway, CT-RSA 2002), which takes fewer than four rounds on average.
    """
    half_bits = max(1, math.ceil(math.log2(max(size, 2)) / 2))
    keys = [np.uint64(derive_seed(key, "feistel", number)) for number in range(ROUNDS)]
    result_N = _feistel(indices_N.astype(np.uint64), half_bits, keys)
    while (outside_N := result_N >= size).any():
        result_N[outside_N] = _feistel(result_N[outside_N], half_bits, keys)
    return result_N.astype(np.int64)


def rows_of_step(step: int, rows_per_step: int, num_rows: int, seed: int) -> NDArray[np.int64]:
    """Return the row numbers of one step's batch, for a single source."""
    return rows_at(np.arange(step * rows_per_step, (step + 1) * rows_per_step, dtype=np.int64), num_rows, seed)


def rows_at(places_N: NDArray[np.int64], num_rows: int, seed: int) -> NDArray[np.int64]:
    """Return the row numbers at places of a source's order: each epoch visits every row once, in another order."""
    epochs_N, within_N = np.divmod(places_N, num_rows)
    rows_N = np.empty_like(within_N)
    for epoch in np.unique(epochs_N):
        here_N = epochs_N == epoch
        rows_N[here_N] = permute(within_N[here_N], num_rows, derive_seed(seed, "order", int(epoch)))
    return rows_N


def _feistel(values_N: NDArray[np.uint64], half_bits: int, keys: list[np.uint64]) -> NDArray[np.uint64]:
    bits, mask = np.uint64(half_bits), np.uint64(2**half_bits - 1)
    left_N, right_N = values_N >> bits, values_N & mask
    for key in keys:
        left_N, right_N = right_N, left_N ^ (_mix(right_N ^ key) & mask)
    return (left_N << bits) | right_N


def _mix(values_N: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Apply the finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014), modulo 2^64."""
    values_N = (values_N ^ (values_N >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values_N = (values_N ^ (values_N >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values_N ^ (values_N >> np.uint64(31))
