"""Every shipped recipe builds its model, at its own sizes, on torch's meta device (no memory, no time)."""

import shutil
from pathlib import Path

import pytest
import torch

from masklater.corpus.shards import Shards
from masklater.model.check import settle
from masklater.model.masked_lm import MaskLaterForMaskedLM
from masklater.pretrain.batches import make_batches
from masklater.pretrain.loop import pretrain
from masklater.pretrain.start import find_start
from masklater.recipe.load import load, settings_of, shipped
from tests.conftest import REPOSITORY, TINY, tiny

MILLIONS = {"3ml-base-50": 100, "3ml-base-50-all": 100, "3ml-base-50-cross-all": 105, "roberta-base-15": 86,
            "3ml-large-50": 329, "3ml-large-50-all": 329, "3ml-large-50-cross-all": 338, "efficient-mlm-large-40": 304,
            "vanilla-large-15": 304}  # fmt: skip
"""Parameters beside those that grow with the vocabulary: encoder, decoder, head (RoBERTa's published 125 M and 355 M
include 39 M and 52 M of embeddings)."""


def test_the_recipes_folder_shows_the_shipped_ones() -> None:
    assert {path.stem for path in (REPOSITORY / "recipes").glob("*.yaml")} == set(shipped())


@pytest.mark.parametrize("name", shipped())
def test_it_builds(name: str, continuous: Shards, tmp_path: Path) -> None:
    recipe = load(name, [f"model.from={a_checkpoint(continuous, tmp_path)}"] if name == "continue" else [])
    config = settle(find_start(recipe, continuous).config)  # by a real forward pass, which the meta device cannot make
    with torch.device("meta"):
        model = MaskLaterForMaskedLM(config)
    if recipe.phases:
        assert config.row_length == continuous.index.row_length  # that of the longest rows, which are these
    batches = make_batches(continuous, continuous.train, recipe.masking, recipe.decoder.drops, "row", 0)
    T = round(recipe.masking.predict * round(recipe.masking.rate * 30))
    assert batches.of_step(0, 4).target_ids_BT.shape[1] == T
    if name in MILLIONS:
        parameters = sum(p.numel() for p in model.parameters()) - model.get_input_embeddings().weight.numel()
        assert parameters / 1e6 == pytest.approx(MILLIONS[name], rel=0.02)


def a_checkpoint(shards: Shards, folder: Path) -> Path:
    """A saved encoder with the tokenizer of these shards."""
    encoder = MaskLaterForMaskedLM(find_start(tiny(), shards).config).encoder
    encoder.save_pretrained(folder / "encoder")
    shutil.copytree(shards.folder / "tokenizer", folder / "encoder", dirs_exist_ok=True)
    return folder / "encoder"


@pytest.mark.parametrize("name", shipped())
def test_it_trains(name: str, continuous: Shards, tmp_path: Path) -> None:
    """Two steps at a tiny size, through the ordinary loop."""
    tiny_sizes = [override for override in TINY if not override.startswith("model.")]
    overrides = [f"model.from={a_checkpoint(continuous, tmp_path)}"] if name == "continue" else []
    overrides += tiny_sizes if name == "continue" else TINY
    shipped_recipe = load(name, overrides if name == "continue" else [])
    if shipped_recipe.decoder.kind == "late":
        overrides.append("decoder.enter_layer=1")
    if shipped_recipe.decoder.hidden_size:
        overrides.append("decoder.hidden_size=16")
    overrides += ["duration.steps=2", "schedule.warmup=0.5"]
    for number, phase in enumerate(shipped_recipe.phases):  # a step of each, on the same rows
        overrides += [f"phases.{number}.row_length=32", f"phases.{number}.batch={{rows: 8}}"]
        overrides += [f"phases.{number}.share=0.5"] if phase.share is not None else []
    if shipped_recipe.data:
        (tmp_path / "data").mkdir()
        for source in shipped_recipe.data:
            (tmp_path / "data" / source).symlink_to(continuous.folder)
    data = tmp_path / "data" if shipped_recipe.data else continuous.folder
    result = pretrain(load(name, overrides), data, tmp_path / "run")
    assert (result.steps, result.finished) == (2, True)
    assert result.valid_loss is not None
    assert result.valid_loss < 7


@pytest.mark.parametrize("size", ["base", "large"])
def test_recipes_with_nothing_but_masks_change_nothing_else(size: str) -> None:
    papers = settings_of(load(f"3ml-{size}-50"))
    for name, kind in ((f"3ml-{size}-50-all", "self"), (f"3ml-{size}-50-cross-all", "cross")):
        all_mask = {"masking.mask": 1.0, "masking.random": 0.0, "masking.keep": 0.0, "decoder.kind": kind}
        assert settings_of(load(name)) == papers | all_mask
