"""The memory of a step against what torch keeps, counted without a GPU."""

import importlib
from typing import Any

import pytest

from masklater.budget.memory import Kept, estimate_memory
from masklater.budget.parameters import Parameters
from masklater.budget.shape import row_shape
from masklater.budget.sizes import encoder_sizes
from masklater.recipe.load import load
from masklater.recipe.recipe import Recipe
from tests.conftest import REPOSITORY

L, V = 32, 400
SMALL = ["model.hidden_size=128", "model.intermediate_size=512", "model.num_attention_heads=2"]


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(REPOSITORY / "benchmarks")
    return importlib.import_module("launches")


def forecast_row(launches: Any, recipe: Recipe) -> float:
    """Bytes that one row keeps, by the estimate."""
    config, corruption = launches.describe(recipe, L, V)
    shape = row_shape(encoder_sizes(config.encoder), recipe.decoder, corruption.counts)
    return estimate_memory(recipe, shape, Parameters(0, 0, 0, 0), 1).activations


def layer_more(count: Any, name: str, setting: str, *overrides: str) -> float:
    """What a third layer adds to two."""
    two, three = (count(load(name, [*SMALL, f"{setting}={layers}", *overrides])) for layers in (2, 3))
    return three - two


@pytest.mark.parametrize(
    ("name", "setting", "overrides"),
    [
        ("vanilla-small", "model.num_hidden_layers", []),
        ("vanilla-small", "model.num_hidden_layers", ["precision=float32"]),
        ("vanilla-small", "model.num_hidden_layers", ["model.family=roberta", "model.dropout=0"]),
        ("vanilla-small", "model.num_hidden_layers", ["model.family=modernbert"]),
        ("vanilla-small", "model.num_hidden_layers", ["model.family=modernbert", "precision=float32"]),
        ("vanilla-small", "model.num_hidden_layers", ["model.family=esm"]),
        ("vanilla-small", "model.num_hidden_layers", ["model.family=esm", "precision=float32"]),
        ("3ml-small", "decoder.num_layers", []),
        ("3ml-small", "decoder.num_layers", ["decoder.kind=cross"]),
        ("3ml-states-small", "decoder.num_layers", []),
        ("3ml-small", "decoder.num_layers", ["decoder.kind=cross-only", "precision=float32"]),
    ],
)
def test_a_layer_keeps_what_is_forecast(name: str, setting: str, overrides: list[str], launches: Any) -> None:
    def torch_keeps(recipe: Recipe) -> float:
        return float(launches.kept_a_position(recipe, L, V) * L * recipe.model.hidden_size)

    found = layer_more(torch_keeps, name, setting, *overrides)
    expected = layer_more(lambda recipe: forecast_row(launches, recipe), name, setting, *overrides)
    assert found == pytest.approx(expected, rel=0.02)  # beside it stand sums of softmax and norm, a number a head


def test_a_whole_model_keeps_what_is_forecast(launches: Any) -> None:
    """Embeddings, last norms and the joining of [MASK]s come on top."""
    recipe = load("3ml-small", [*SMALL, "model.num_hidden_layers=6"])
    found = launches.kept_a_position(recipe, L, V) * L * 128
    assert found == pytest.approx(forecast_row(launches, recipe), rel=0.08)


def test_bytes_a_position_and_width_by_hand() -> None:
    """RoBERTa's layer, F = 4 D: 24 D around attention and norms in bfloat16, 4 F, and two masks of dropout."""
    half, full = Kept(2, dropout=True), Kept(4, dropout=False)
    assert half.by_attention(1, copies=3) + half.by_feed_forward(1, 4) == 24 + 16 + 2
    assert full.by_attention(1) + full.by_feed_forward(1, 4) == 32 + 32
