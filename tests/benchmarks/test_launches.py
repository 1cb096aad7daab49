"""Launches of a step, counted on fake tensors: one for many matrices of a shape, whatever the number of layers."""

import importlib
from collections import Counter
from typing import Any

import pytest
import torch
from torch import nn

from masklater.pretrain.optim import Optimizers
from masklater.recipe.load import load
from tests.conftest import REPOSITORY

MUON = ("optimizer.name=muon", "optimizer.adamw_lr=1e-3")
SMALL = ("model.hidden_size=64", "model.intermediate_size=128", "model.num_attention_heads=2")


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(REPOSITORY / "benchmarks")
    return importlib.import_module("launches")


class Layers(nn.Module):
    """Stacked layers, and nothing else."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Sequential(nn.Linear(8, 16), nn.Linear(16, 8)) for _ in range(number))


def of_the_optimizer(launches: Any, layers: int, overrides: tuple[str, ...]) -> Counter[str]:
    with launches.as_on_a_gpu():
        model = Layers(layers)
        optimizers = Optimizers(model, load("3ml-small", overrides).optimizer)
        for _ in range(2):
            for parameter in model.parameters():
                parameter.grad = torch.zeros_like(parameter)
            with launches.Launches() as counted:
                optimizers.step(1.0, skip=torch.zeros((), dtype=torch.bool))
    return counted.by_operator


@pytest.mark.parametrize("overrides", [(), MUON], ids=["adamw", "muon"])
def test_the_optimizer_launches_as_much_for_many_layers_as_for_few(launches: Any, overrides: tuple[str, ...]) -> None:
    few, many = (of_the_optimizer(launches, layers, overrides) for layers in (2, 12))
    assert few == many
    assert few["_fused_adamw_"] == (1 if overrides else 2)  # what decays, and what does not
    assert few["baddbmm"] == (2 * 2 * 5 if overrides else 0)  # two products, two shapes, five iterations


def test_a_step_grows_by_what_a_layer_computes(launches: Any) -> None:
    """Not by what is done to its parameters: neither clipping nor the optimizer."""
    counts = [
        launches.FakeStep(
            load("vanilla-small", [*SMALL, *MUON, f"model.num_hidden_layers={layers}"]), 2, 16, 60
        ).launches()
        for layers in (2, 3, 4)
    ]
    of_a_layer = counts[1] - counts[0]
    assert of_a_layer == counts[2] - counts[1]
    assert of_a_layer["_scaled_dot_product_efficient_attention"] == 1
    assert of_a_layer["addmm"] == 6  # query, key, value, output, and two of the feed-forward
    assert of_a_layer["mm"] == 12  # the gradients of each by input and weight
    assert not any("foreach" in operator or "adamw" in operator or "baddbmm" in operator for operator in of_a_layer)
    assert of_a_layer.total() < 80
