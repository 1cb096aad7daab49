"""Every shipped recipe builds its model, at its own sizes, on torch's meta device (no memory, no time)."""

import pytest
import torch

from masklater.corpus.shards import Shards
from masklater.model.masked_lm import MaskLaterForMaskedLM
from masklater.pretrain.loader import make_batches
from masklater.pretrain.loop import make_model_config
from masklater.recipe.load import load, shipped
from tests.conftest import REPOSITORY

MILLIONS = {"3ml-base-50": 100, "roberta-base-15": 86, "3ml-large-50": 329, "efficient-mlm-large-40": 304}
"""Parameters beside those that grow with the vocabulary: encoder, decoder, head (RoBERTa's published 125 M and 355 M
include 39 M and 52 M of embeddings)."""


def test_the_recipes_folder_shows_the_shipped_ones() -> None:
    assert {path.stem for path in (REPOSITORY / "recipes").glob("*.yaml")} == set(shipped())


@pytest.mark.parametrize("name", shipped())
def test_it_builds(name: str, continuous: Shards) -> None:
    recipe = load(name)
    config = make_model_config(recipe, continuous)
    config.position_offset = 2  # found by a real forward pass, which the meta device cannot make
    with torch.device("meta"):
        model = MaskLaterForMaskedLM(config)
    batches = make_batches(continuous, continuous.train, recipe.masking, recipe.decoder.kind != "none", "row", 0)
    assert batches.of_step(0, 4).target_ids_BT.shape[1] == round(recipe.masking.rate * 30)
    if name in MILLIONS:
        parameters = sum(p.numel() for p in model.parameters()) - model.get_input_embeddings().weight.numel()
        assert parameters / 1e6 == pytest.approx(MILLIONS[name], rel=0.02)
