"""docs/adding.md, a way to choose positions: one that prefers rare tokens, added from outside and trained with."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from masklater.corpus.shards import Shards
from masklater.errors import RecipeError
from masklater.masking import choose
from masklater.masking.choose import Chooser
from masklater.masking.corruption import Corruption
from masklater.masking.draws import Draws
from masklater.pretrain.batches import make_batches
from masklater.pretrain.loop import pretrain
from masklater.pretrain.order import rows_of_step
from masklater.recipe import masking as masking_section
from tests.conftest import tiny


def count_tokens(shards: Any) -> Tensor:
    """How often each token stands in the training rows, counts_V."""
    rows_NL = shards.train.read(np.arange(shards.train.num_rows)).ids_NL
    return torch.from_numpy(np.bincount(rows_NL.reshape(-1), minlength=shards.vocabulary.size))


def choose_rare(rows_BL: Tensor, maskable_BL: Tensor, wanted_B: Tensor, corruption: Corruption, draws: Draws) -> Tensor:
    """Rarer tokens come first, ties in random order."""
    key_BL = corruption.table[rows_BL] + draws.rand(*rows_BL.shape)
    return torch.argsort(key_BL.masked_fill(~maskable_BL, torch.inf), dim=1)


def test_a_chooser_is_added_by_two_lines(continuous: Shards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RecipeError, match=r"masking\.choose is 'rare'"):
        tiny("3ml-small", "masking.choose=rare")
    monkeypatch.setitem(choose.CHOOSERS, "rare", Chooser(choose_rare, count_tokens))
    monkeypatch.setitem(masking_section.CHOOSERS, "rare", "tokens that are rare in the data")
    recipe = tiny("3ml-small", "masking.choose=rare", "duration.steps=2")
    batches = make_batches(continuous, continuous.train, recipe.masking, True, "row", 0)
    batch = batches.of_step(0, 16)
    rows_BL = torch.from_numpy(continuous.train.read(rows_of_step(0, 16, continuous.train.num_rows, 0)).ids_NL)
    counts_V, is_special_V = count_tokens(continuous), batches.corruption.is_special_V
    counts_BL = counts_V[rows_BL].masked_fill(is_special_V[rows_BL], 2**62).sort(dim=1).values
    chosen_BT = counts_V[batch.target_ids_BT].sort(dim=1).values
    assert chosen_BT.equal(counts_BL[:, : chosen_BT.shape[1]])  # the rarest of each row
    assert pretrain(recipe, continuous.folder, tmp_path / "run").steps == 2


def test_both_tables_have_the_same_names() -> None:
    assert choose.CHOOSERS.keys() == masking_section.CHOOSERS.keys()
