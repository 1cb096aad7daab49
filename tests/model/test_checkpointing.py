"""Activation checkpointing: layers computed a second time are the same layers, and what they kept is not kept."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from transformers import Trainer, TrainingArguments
from transformers.modeling_layers import GradientCheckpointingLayer

from masklater.budget.kept import Kept
from masklater.budget.memory import Memory, estimate_memory
from masklater.budget.parameters import count_parameters
from masklater.budget.shape import row_shape
from masklater.budget.sizes import encoder_sizes
from masklater.corpus.shards import Shards
from masklater.corpus.tokenizer import load as load_tokenizer
from masklater.errors import RecipeError
from masklater.masking.counts import count
from masklater.model.masked_lm import MaskLaterForMaskedLM
from masklater.pretrain.loop import pretrain
from masklater.recipe.load import load
from masklater.recipe.masking import MaskingSettings
from masklater.run.metrics import read_metrics
from tests.conftest import make_text, tiny
from tests.reference.cases import CASES, gradients, make_batch, make_model
from tests.reference.test_against_transformers import SameMasks, tiny_config


def with_dropout(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.1
    return model.train()


@pytest.mark.parametrize(("objective", "family"), CASES)
def test_loss_and_gradients_are_the_same_to_the_bit(objective: str, family: str, shards: Shards) -> None:
    """Dropout included, whose draws are repeated."""
    model, batch = with_dropout(make_model(shards, objective, family)), make_batch(shards, objective, rows=4)
    found = []
    for every in (0, 1, 2):
        model.checkpoint_activations(every)
        torch.manual_seed(0)
        loss, _ = model(batch=batch)
        loss.backward()
        found.append((loss.detach(), gradients(model)))
    for loss, of_loss in found[1:]:
        assert torch.equal(loss, found[0][0])
        for name, gradient in found[0][1].items():
            assert torch.equal(of_loss[name], gradient), name


def kept_bytes(model: nn.Module, batch: object) -> int:
    """Return how many bytes a forward pass keeps for the backward pass, weights left out."""
    storages: dict[int, int] = {}
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        model(batch=batch)
    return sum(storages.values())


def test_every_n_th_layer_keeps_its_input_only(shards: Shards) -> None:
    model, batch = make_model(shards, "3ml-self", "roberta", "model.num_hidden_layers=6").train(), None
    batch = make_batch(shards, "3ml-self", rows=8)
    kept = []
    for every in (0, 4, 2, 1):
        model.checkpoint_activations(every)
        layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
        chosen = [number for number, layer in enumerate(layers) if layer.gradient_checkpointing]
        assert chosen == ([] if not every else list(range(0, 8, every)))
        kept.append(kept_bytes(model, batch))
    assert sorted(kept, reverse=True) == kept
    assert kept[-1] < 0.5 * kept[0]


@pytest.mark.parametrize("every", [True, 2])
def test_a_run_is_the_same_run(every: object, continuous: Shards, tmp_path: Path) -> None:
    for name, value in (("kept", False), ("again", every)):
        recipe = tiny("3ml-small", "duration.steps=2", f"activation_checkpointing={str(value).lower()}")
        pretrain(recipe, continuous.folder, tmp_path / name)
    kept, again = (
        [record.get("loss") for record in read_metrics(tmp_path / n / "metrics.jsonl")] for n in ("kept", "again")
    )
    assert kept == again


def test_in_the_stock_trainer(shards: Shards, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(shards.folder / "tokenizer")
    texts = [{"input_ids": tokenizer(make_text(i, 4 + i % 12))["input_ids"][:30]} for i in range(8)]
    losses = []
    for again in (False, True):
        model: MaskLaterForMaskedLM = make_model(shards, "3ml-cross", "roberta").train()
        arguments = TrainingArguments(
            output_dir=str(tmp_path / str(again)), max_steps=2, per_device_train_batch_size=4, logging_steps=1,
            save_strategy="no", report_to=[], use_cpu=True, disable_tqdm=True, seed=0, gradient_checkpointing=again,
        )  # fmt: skip
        trainer = Trainer(model, arguments, train_dataset=texts, data_collator=SameMasks(tokenizer))
        trainer.train()
        losses.append([record["loss"] for record in trainer.state.log_history if "loss" in record])
        assert all(
            layer.gradient_checkpointing == again for layer in [*model.decoder.layers, *model.encoder.encoder.layer]
        )
    assert losses[0] == losses[1]


@pytest.mark.parametrize("value", ["-1", "often", "1.5"])
def test_settings_that_are_none(value: str) -> None:
    with pytest.raises(RecipeError, match="activation_checkpointing is"):
        load("3ml-small", [f"activation_checkpointing={value}"])


def test_the_estimate_knows_it() -> None:
    """Of n layers alike each keeps its input, and one at a time the rest: exact for layers of one kind."""
    counts = count(MaskingSettings(), 0.5, False, 32, 30)
    # Logits are gone when layers are computed again, and stand in for them.
    sizes = replace(encoder_sizes(tiny_config("bert")), vocabulary=1)
    shape = row_shape(sizes, tiny("vanilla-small").decoder, counts)
    parameters = count_parameters(shape)
    assert parameters is not None

    recipe = load("vanilla-small", ["precision=float32"])

    def estimate(value: str) -> Memory:
        checkpointed = load("vanilla-small", [f"activation_checkpointing={value}", "precision=float32"])
        return estimate_memory(checkpointed, shape, parameters, 4)

    rows, L, D, F = 4, 32, 32, 64
    kept = Kept(4, dropout=recipe.model.dropout != 0)
    whole, kept_input = rows * L * (kept.by_attention(D) + kept.by_feed_forward(D, F)), 4 * rows * L * D
    assert (estimate("false").activations, estimate("false").recomputed) == (2 * whole, 0)
    every, logits = estimate("true"), 4 * rows * counts.targets
    assert every.activations == 2 * kept_input
    assert every.recomputed == whole - kept_input - logits  # what a layer keeps has its input among it
    second = estimate("2")  # the second layer is kept whole, the first computed again when that has gone
    assert (second.activations, second.recomputed) == (whole + kept_input, 0)
