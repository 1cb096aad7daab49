"""Row order: a permutation, keyed, computed and not stored."""

import numpy as np
import pytest

from masklater.pretrain.order import permute, rows_of_step
from masklater.seeds import derive_seed


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 65, 1000, 4097])
def test_it_is_a_permutation(size: int) -> None:
    assert sorted(permute(np.arange(size), size, key=5)) == list(range(size))


def test_keys_give_different_orders_and_neighbours_part() -> None:
    first, second = permute(np.arange(1000), 1000, 1), permute(np.arange(1000), 1000, 2)
    assert (first == second).mean() < 0.01
    assert abs(np.corrcoef(first[:-1], first[1:])[0, 1]) < 0.1
    assert abs(np.corrcoef(np.arange(1000), first)[0, 1]) < 0.1


def test_it_is_spread_evenly() -> None:
    """Chi-squared of where the first tenth of the indices lands, over 20 keys."""
    counts = np.zeros(10)
    for key in range(20):
        counts += np.bincount(permute(np.arange(100), 1000, key) // 100, minlength=10)
    assert ((counts - 200) ** 2 / 200).sum() < 27.9  # the 0.1% quantile at 9 degrees of freedom


def test_a_billion_rows_cost_nothing() -> None:
    rows = rows_of_step(10_000_000, 256, 10**9, seed=0)
    assert len(set(rows.tolist())) == 256
    assert rows.max() < 10**9


def test_each_epoch_visits_every_row_once_and_in_another_order() -> None:
    epochs = [np.concatenate([rows_of_step(step, 6, 12, seed=3) for step in pair]) for pair in ((0, 1), (2, 3))]
    assert all(sorted(epoch) == list(range(12)) for epoch in epochs)
    assert epochs[0].tolist() != epochs[1].tolist()


def test_a_batch_may_span_epochs() -> None:
    assert len(rows_of_step(1, 8, 5, seed=0)) == 8


def test_seeds_of_different_purposes_and_places_differ() -> None:
    seeds = {derive_seed(0, purpose, number) for purpose in ("masks", "order", "dropout") for number in range(100)}
    assert len(seeds) == 300
    assert all(0 <= seed < 2**63 for seed in seeds)
