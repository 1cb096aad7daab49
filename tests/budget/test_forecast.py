"""Forecasts against what is then built and run."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from masklater.budget.forecast import Rows, find_hardware, forecast, rows_of, seconds_of
from masklater.budget.forecast_text import against_text, as_text, as_tree, ratios
from masklater.budget.memory import LOGITS_AT_ONCE
from masklater.budget.sizes import encoder_sizes
from masklater.corpus.shards import Shards
from masklater.errors import UserError
from masklater.machine.hardware import GPUS, find_gpu
from masklater.masking.schedule import rate_at
from masklater.model import head as heads
from masklater.model.check import settle
from masklater.model.masked_lm import MaskLaterForMaskedLM
from masklater.model.saved import longest_row
from masklater.pretrain.batches import make_batches
from masklater.pretrain.loop import pretrain
from masklater.pretrain.start import find_start
from masklater.recipe.families import COUNT_TOKENS, ROTARY, is_rotary
from masklater.recipe.load import load, shipped
from tests.conftest import tiny
from tests.reference.test_against_transformers import tiny_config

ROBERTA = Rows(128, 50_265, 126)
FROM_SCRATCH = [name for name in shipped() if name != "continue"]


@pytest.mark.parametrize(
    ("recipe", "baseline", "paper", "with_head"),
    [
        ("3ml-base-50", "roberta-base-15", 0.767, 0.92),
        ("3ml-large-50", "vanilla-large-15", 0.683, 0.74),
        ("3ml-base-50-all", "roberta-base-15", 0.667, 0.83),  # (12 x 0.5 + 2) / 12
        ("3ml-large-50-all", "vanilla-large-15", 0.583, 0.65),  # (24 x 0.5 + 2) / 24
    ],
)
def test_the_papers_figures_and_what_they_leave_out(recipe: str, baseline: str, paper: float, with_head: float) -> None:
    one, two = forecast(load(recipe), ROBERTA), forecast(load(baseline), ROBERTA)
    as_paper, executed = ratios(one.paper, two.paper), ratios(one.row, two.row)
    assert as_paper["linear layers of encoder and decoder"] == pytest.approx(paper, abs=0.0005)
    assert as_paper["with attention and LM head"] == pytest.approx(with_head, abs=0.006)
    assert executed["with attention and LM head"] < as_paper["with attention and LM head"]


@pytest.mark.parametrize(
    ("overrides", "ratio", "head"),
    [
        ([], 1.37, 0.38),
        (["decoder.states=4"], 2.11, 0.49),
        (["decoder.states=4", "masking.rate=0.25"], 1.70, 0.31),
        (["decoder.states=1"], 1, 0.26),
    ],
)
def test_what_states_cost(overrides: list[str], ratio: float, head: float) -> None:
    row, plain = (forecast(load(*each), ROBERTA).row for each in (("3ml-states-base", overrides), ("3ml-base-50-all",)))
    assert row.forward / plain.forward == pytest.approx(ratio, abs=0.005)
    assert row.head / row.forward == pytest.approx(head, abs=0.005)


@pytest.mark.parametrize("name", FROM_SCRATCH)
def test_parameters_are_those_of_the_model(name: str, continuous: Shards) -> None:
    here = continuous.train.row_length
    recipe = load(name, [f"phases.{number}.row_length={here}" for number in range(len(load(name).phases))])
    config = settle(find_start(recipe, continuous).config)  # by a real forward pass, which the meta device cannot make
    with torch.device("meta"):
        model = MaskLaterForMaskedLM(config)
    parameters = forecast(recipe, rows_of(continuous.folder)).parameters
    assert parameters is not None
    assert parameters.exported == sum(p.numel() for p in model.encoder.parameters() if p.requires_grad)
    assert parameters.trained == sum(p.numel() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize(
    "name", ["3ml-small", "3ml-cross-small", "late-entry-small", "vanilla-small", "3ml-modernbert-small"]
)
def test_activations_are_about_what_torch_keeps(name: str, continuous: Shards) -> None:
    """Distinct storages that a forward pass saves for the backward pass, weights apart."""
    recipe = load(name, ["batch.micro_rows=8", "batch.rows=8", "precision=float32"])
    torch.manual_seed(0)
    model = MaskLaterForMaskedLM(find_start(recipe, continuous).config).train()
    drop = recipe.decoder.drops
    batch = make_batches(continuous, continuous.train, recipe.masking, drop, "row", 0).of_step(0, 8)
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    alive = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: (alive.append(tensor), keep(tensor))[1], lambda t: t):
        model(batch=batch)
    memory = forecast(recipe, rows_of(continuous.folder)).memory
    assert memory is not None
    # Of the head, its gradients are kept; logits are made and dropped.
    head = 4 * model.word_embeddings.numel() + 4 * batch.target_ids_BT.numel() * model.word_embeddings.shape[1]
    assert sum(kept.values()) == pytest.approx(memory.activations + head, rel=0.3)


def test_logits_at_once_are_those_of_the_head() -> None:
    assert heads.LOGITS_AT_ONCE["cuda"] == LOGITS_AT_ONCE


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("3ml-small", ()),
        ("vanilla-dynamic-small", ()),
        ("3ml-stepwise-small", ()),
        ("3ml-small", ("masking.schedule={name: random, low: 0.3, high: 0.6}",)),
    ],
)
def test_a_run_spends_what_was_forecast(
    name: str, overrides: tuple[str, ...], continuous: Shards, tmp_path: Path
) -> None:
    recipe = tiny(name, "duration.steps=20", "evaluation.every_steps=20", "checkpoint.every_steps=20", *overrides)
    expected = forecast(recipe, rows_of(continuous.folder))
    result = pretrain(recipe, continuous.folder, tmp_path / "run")
    assert expected.total_rows == result.rows
    assert result.flops == pytest.approx(expected.total_flops, rel=1e-9)


def test_flops_of_a_random_rate_are_those_expected_of_it() -> None:
    """Of a run limited by FLOPs, whose steps are not known: what is forecast is the mean over the rates."""
    schedule = "masking.schedule={name: random, low: 0.3, high: 0.6}"
    by_steps = forecast(load("3ml-base-50", [schedule, "duration.steps=10003"]), ROBERTA)
    by_flops = forecast(load("3ml-base-50", [schedule, f"duration.flops={by_steps.total_flops}"]), ROBERTA)
    assert by_flops.total_rows == pytest.approx(10_003 * 4096, rel=1e-3)


def test_durations_in_other_units() -> None:
    by_steps = forecast(load("3ml-base-50"), ROBERTA)
    assert by_steps.total_flops is not None
    assert by_steps.total_rows == 23_000 * 4096
    by_flops = forecast(load("3ml-base-50", [f"duration.flops={by_steps.total_flops}"]), ROBERTA)
    assert by_flops.total_rows == pytest.approx(by_steps.total_rows)
    assert forecast(load("3ml-base-50", ["duration.hours=2"]), ROBERTA).total_flops is None


def test_time_energy_and_what_they_assume_are_printed() -> None:
    one, other = forecast(load("3ml-base-50"), ROBERTA), forecast(load("roberta-base-15"), ROBERTA)
    h100 = GPUS["h100"]
    assert one.total_flops is not None
    seconds = seconds_of(one.total_flops, h100, 0.5)
    assert seconds == pytest.approx(one.total_flops / 989e12 / 0.5)
    text = as_text(one, "3ml-base-50", h100, 0.5, 600)
    for expected in ("50% of the 989 TFLOP/s that", ", 600 W", f"{seconds / 3600:,.1f} hours", "138.7 M trained"):
        assert expected in text
    tree = json.loads(json.dumps(as_tree(one, "3ml-base-50", h100, 0.5, 600)))
    assert tree["energy_joules"] == pytest.approx(seconds * 600)
    assert "0.767" in against_text(one, other, ("3ml-base-50", "roberta-base-15"))


def test_of_several_phases_each_has_to_fit() -> None:
    """Rows of 512 in the second take 23.1 GB of an L4's 24, and the first one's of 128 a good 9."""
    one = forecast(load("3ml-base-two-phase", ["batch.micro_rows=128"]), ROBERTA)
    text = as_text(one, "two", GPUS["l4"], 0.4, None)
    assert "HARDLY FITS     NVIDIA L4" in text
    assert "(phase 2, which takes most: 23.1 GB)" in text
    assert "phases.1.batch.micro_rows=64 fits" in text
    fits = forecast(load("3ml-base-two-phase", ["batch.micro_rows=128", "phases.1.batch.micro_rows=64"]), ROBERTA)
    assert "  fits            NVIDIA L4" in as_text(fits, "two", GPUS["l4"], 0.4, None)


def test_of_several_phases_the_row_that_is_compared_is_said_to_be_the_first_ones() -> None:
    one, other = (forecast(load(name), Rows(128, 50_265, 125.5)) for name in ("3ml-causal-first-base", "3ml-base-50"))
    header = against_text(one, other, ("mine", "other")).splitlines()[0]
    assert header.startswith("mine, phase 1, causal / other, a row")


@pytest.mark.parametrize(
    ("overrides", "verdict", "fitting"),
    [
        ([], "fits            NVIDIA H100", 128),
        (["batch.micro_rows=128"], "fits            NVIDIA H100", 128),
        (["model.num_hidden_layers=300"], "fits            NVIDIA H100", 2),
        (["batch.micro_rows=1024"], "DOES NOT FIT    NVIDIA H100", 128),
        (["batch.micro_rows=256"], "DOES NOT FIT    NVIDIA H100", 128),  # 98.1 GB by the estimate
        (["batch.rows=2000", "batch.micro_rows=200"], "HARDLY FITS     NVIDIA H100", 125),  # 78.4 of 80 GB
        (["batch.rows=360", "batch.micro_rows=360"], "DOES NOT FIT    NVIDIA H100", 180),  # of what divides 360
        (["model.num_hidden_layers=300", "batch.micro_rows=128"], "DOES NOT FIT    NVIDIA H100", 2),
        (["model.num_hidden_layers=2000"], "DOES NOT FIT    NVIDIA H100", None),
    ],
)
def test_whether_it_fits_and_what_would(overrides: list[str], verdict: str, fitting: int | None) -> None:
    recipe, gpu = load("3ml-large-50", overrides), GPUS["h100"]
    one = forecast(recipe, Rows(512, 50_265, 510))
    text = as_text(one, "3ml-large-50", gpu, 0.4, 700)
    assert verdict in text
    tree = as_tree(one, "3ml-large-50", gpu, 0.4, 700)
    assert tree["micro_rows_that_fit"] == fitting
    if recipe.batch.micro_rows == "auto":  # the memory that is shown is that of what auto comes to there
        assert tree["micro_rows"] == (fitting or 1)
        assert (tree["memory_bytes"]["total"] <= 0.9 * 80e9) == (fitting is not None)
        assert fitting is None or f"with {fitting} rows a forward pass" in text
    if fitting is None:
        assert "no batch.micro_rows fits: one row needs 431.2 GB, 404.3 GB of it for weights" in text
        assert "distributed=fsdp" in text
    elif not verdict.startswith("fits"):
        assert f"batch.micro_rows={fitting} fits" in text
        memory = forecast(load("3ml-large-50", [*overrides, f"batch.micro_rows={fitting}"]), one.rows).memory
        assert memory is not None
        assert memory.total <= 0.9 * 80e9


def test_a_saved_models_sizes(continuous: Shards, tmp_path: Path) -> None:
    scratch = load("3ml-bert-small")
    encoder = MaskLaterForMaskedLM(find_start(scratch, continuous).config).encoder
    encoder.save_pretrained(tmp_path / "encoder")
    rows = rows_of(continuous.folder)
    saved = forecast(load("continue", [f"model.from={tmp_path / 'encoder'}"]), rows)
    assert saved.row == forecast(scratch, rows).row
    trimmed = forecast(load("continue", [f"model.from={tmp_path / 'encoder'}"]), replace(rows, vocabulary=100))
    assert trimmed.row == forecast(scratch, replace(rows, vocabulary=100)).row  # what is left of the embedding
    padded = forecast(
        load("continue", [f"model.from={tmp_path / 'encoder'}"]), replace(rows, vocabulary=rows.vocabulary - 2)
    )
    assert padded.row.head == saved.row.head  # as published ones are, with rows that no token has
    unknown = forecast(
        load("continue", [f"model.from={tmp_path / 'encoder'}"]), replace(rows, vocabulary=9, any_tokenizer=True)
    )
    assert unknown.row == saved.row  # nothing is known of the tokenizer but that the model has one
    with pytest.raises(UserError, match=r"encoder has positions for rows of 32 at most, and these have 33"):
        forecast(load("continue", [f"model.from={tmp_path / 'encoder'}"]), replace(rows, row_length=33))
    whole = (tmp_path / "encoder" / "config.json").read_text()
    no_heads = json.dumps({**json.loads(whole), "num_attention_heads": 0})
    for damaged in ('{"model_type": "bert"}', no_heads, "[" * 100_000, whole[:-9], "[]"):
        (tmp_path / "encoder" / "config.json").write_text(damaged)
        with pytest.raises(UserError, match=r"config\.json: no sizes to be read"):
            forecast(load("continue", [f"model.from={tmp_path / 'encoder'}"]), rows)
    with pytest.raises(UserError, match="there is no such folder"):
        forecast(load("continue", [f"model.from={tmp_path / 'nowhere'}"]), rows)


@pytest.mark.parametrize("family", sorted(COUNT_TOKENS - {"xmod"} | ROTARY | {"bert", "deberta-v2", "mobilebert"}))
@pytest.mark.parametrize("positions", ["absolute", "rotary"])
def test_rows_are_as_long_as_pretrain_takes_them(family: str, positions: str) -> None:
    """X-MOD, whose rows pretrain does not take, counts positions as XLM-R."""
    if positions == "rotary" and family != "esm":
        pytest.skip("has positions of one kind")
    config = tiny_config(family, pad_token_id=1)
    if family == "esm":
        config.position_embedding_type = positions
    assert encoder_sizes(config).longest_row == (None if is_rotary(config) else longest_row(config))


@pytest.mark.parametrize("kinds", [["c2p", "p2c"], "p2c|c2p"])
def test_deberta_as_its_config_has_it(kinds: object, tmp_path: Path) -> None:
    """Published ones have the kinds of distances as one text; transformers makes a list of it."""
    config = tiny_config("deberta-v2", position_buckets=16)
    config.save_pretrained(tmp_path)
    tree = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**tree, "pos_att_type": kinds}))
    rows = Rows(32, 320, 30)
    shape = forecast(load("continue", [f"model.from={tmp_path}"]), rows).row
    seen = 32 - round(0.5 * 30 * 0.8)
    assert shape.encoder_attention == 2 * 2 * (2 * 32 * seen**2 + 2 * 2 * 16 * 32 * seen)


@pytest.mark.parametrize(
    ("device_name", "key"),
    [
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA H100 PCIe", "h100-pcie"),
        ("NVIDIA H200", "h200"),
        ("NVIDIA GH200 480GB", None),
        ("NVIDIA GB200", None),
        ("NVIDIA A100-SXM4-40GB", "a100-40"),
        ("NVIDIA A100-SXM4-80GB", "a100"),
        ("NVIDIA A10", "a10"),
        ("NVIDIA A10G", None),
        ("NVIDIA L40S", "l40s"),
        ("NVIDIA L4", "l4"),
        ("NVIDIA GeForce RTX 4090", "rtx4090"),
        ("Tesla T4", "t4"),
        ("Tesla V100-SXM2-32GB", "v100-32"),
        ("Tesla V100-SXM2-16GB", "v100"),
        ("Tesla V100-PCIE-16GB", None),
        ("NVIDIA H100 80GB HBM3 MIG 3g.40gb", None),
        ("NVIDIA H100 NVL", None),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("NVIDIA GeForce RTX 4090 D", None),
        ("NVIDIA GeForce RTX 3090 Ti", None),
    ],
)
def test_gpus_are_known_by_what_drivers_call_them(device_name: str, key: str | None) -> None:
    assert find_gpu(device_name) == (None if key is None else GPUS[key])


def test_hardware_by_name() -> None:
    assert find_hardware("H100") == GPUS["h100"]
    here = find_hardware("this")
    assert here.peak_flops_per_second > 1e9
    assert "measured here" in here.source or here in GPUS.values()
    with pytest.raises(UserError, match="--gpu h101: not in the table"):
        find_hardware("h101")


def test_rates_are_looked_at_along_the_run() -> None:
    recipe = load("vanilla-dynamic-small")
    middle = forecast(recipe, ROBERTA)
    assert middle.total_head_flops is not None
    mean_rate = sum(rate_at(recipe.masking, (i + 0.5) / 80) for i in range(80)) / 80
    assert math.isclose(mean_rate, 0.225)
    at_start = 3 * middle.row.head * 2000 * 256
    assert middle.total_head_flops / at_start == pytest.approx(0.225 / 0.3, rel=0.01)
