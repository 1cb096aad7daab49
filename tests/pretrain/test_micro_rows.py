"""batch.micro_rows auto: what it comes to, what happens where that does not fit, and that it changes no loss."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from masklater.budget.forecast import Rows, forecast
from masklater.budget.memory import TO_SPARE, estimate_memory
from masklater.corpus.shards import Shards
from masklater.machine.distributed import ALONE, World
from masklater.model.check import settle
from masklater.pretrain import loop
from masklater.pretrain.loop import pretrain
from masklater.pretrain.micro_rows import _on_a_gpu, lower, settle_micro_rows
from masklater.pretrain.plan import Plan, make_plan
from masklater.pretrain.sources import open_sources
from masklater.pretrain.start import find_start
from masklater.recipe.load import load
from masklater.run.checkpoint import list_checkpoints
from masklater.run.folder import RunFolder
from tests.conftest import tiny
from tests.runs import losses


def plan_of(shards: Shards, *overrides: str) -> Plan:
    recipe = tiny("3ml-small", "batch.micro_rows=auto", "batch.rows=24", *overrides)
    return make_plan(recipe, open_sources(recipe, shards.folder), settle(find_start(recipe, shards).config))


def test_a_recipe_that_does_not_say_leaves_it_open() -> None:
    assert load("continue", ["model.from=nowhere"]).batch.micro_rows == "auto"
    assert load("3ml-base-50").batch.micro_rows == load("3ml-small").batch.micro_rows == "auto"
    assert load("3ml-small", ["batch.micro_rows=32"]).batch.micro_rows == 32


def test_on_a_cpu_it_is_a_small_fixed_number(continuous: Shards, capsys: pytest.CaptureFixture[str]) -> None:
    assert settle_micro_rows(plan_of(continuous), ALONE).recipe.batch.micro_rows == 24
    assert settle_micro_rows(plan_of(continuous, "batch.rows=256"), ALONE).recipe.batch.micro_rows == 32
    said = capsys.readouterr().err
    assert "batch.micro_rows auto: 32 rows a forward pass, what is fast on a CPU; rows and masks do not depend" in said
    settle_micro_rows(plan_of(continuous, "model.dropout=0"), ALONE)
    assert "what is trained on does not depend on it" in capsys.readouterr().err


@pytest.mark.parametrize(
    "overrides", [(), ("masking.schedule={name: linear, end: 0.1}",), ("model.max_positions=4096", "model.family=bert")]
)
def test_on_a_gpu_it_is_the_most_that_the_estimate_says_fit(continuous: Shards, overrides: tuple[str, ...]) -> None:
    plan = plan_of(continuous, *overrides)
    totals = {}
    for number in (1, 2, 3, 4, 6, 8, 12, 24):
        recipe = tiny("3ml-small", "batch.rows=24", f"batch.micro_rows={number}", *overrides)
        index = continuous.index
        rows = Rows(index.row_length, plan.encoder.vocabulary, plan.phases[0].batches.corruption.maskable_per_row)
        memory = forecast(recipe, rows).memory
        assert memory is not None
        totals[number] = memory.total / (1 - TO_SPARE)
    assert _on_a_gpu(plan, plan.phases[0], ALONE, 1e12)[0] == 24
    assert _on_a_gpu(plan, plan.phases[0], ALONE, totals[6] + 1000)[0] == 6
    assert _on_a_gpu(plan, plan.phases[0], World(size=2), totals[8] + 1000)[0] == 6, (
        "what divides the 12 rows of each of 2 processes"
    )
    number, reason = _on_a_gpu(plan, plan.phases[0], ALONE, 1000)
    assert number == 1
    assert "not even one fits" in reason


def test_a_rate_that_falls_is_held_against_the_memory_of_its_fullest_step() -> None:
    """As the rate falls the encoder reads more: what fits the first step does not fit the last."""

    def held(*overrides: str) -> int:
        memory = forecast(
            load("3ml-base-50", ["batch.rows=1024", "batch.micro_rows=1024", *overrides]), Rows(128, 50_265, 126)
        ).memory
        assert memory is not None
        return memory.total

    falling = held("masking.schedule={name: linear, end: 0.15}")
    assert falling == held("masking.rate=0.15") > 1.1 * held()


def test_fsdp_holds_a_share_of_the_states() -> None:
    recipe = load("3ml-large-50", ["distributed=fsdp"])
    parameters, shape = (found := forecast(recipe, Rows(128, 50_265, 126))).parameters, found.shape
    assert parameters is not None
    whole = estimate_memory(load("3ml-large-50"), shape, parameters, 8, processes=4)
    cut = estimate_memory(recipe, shape, parameters, 8, processes=4)
    assert cut.optimizer == pytest.approx(whole.optimizer / 4)
    assert 0.25 * whole.weights < cut.weights < 0.6 * whole.weights  # and what is gathered at a time
    assert (cut.activations, cut.logits) == (whole.activations, whole.logits)
    assert estimate_memory(recipe, shape, parameters, 8) == estimate_memory(load("3ml-large-50"), shape, parameters, 8)


def too_small(
    monkeypatch: pytest.MonkeyPatch, most: int, error: Callable[[str], Exception] = torch.OutOfMemoryError
) -> list[int]:
    """From now on a forward pass of more rows than these fails for memory, half-way through the step; what was tried."""
    tried, real = [], loop.train_step

    def train_step(model: Any, optimizers: Any, share: Any, *others: Any) -> Any:
        tried.append(len(share.micro_batches[0].seen_ids_BS))
        if tried[-1] > most:
            model(batch=share.micro_batches[0]).loss_sum.backward()
            raise error("CUDA error: out of memory. Tried to allocate 20 MiB")
        return real(model, optimizers, share, *others)

    monkeypatch.setattr(loop, "train_step", train_step)
    return tried


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, torch.AcceleratorError])
def test_a_first_step_that_does_not_fit_is_made_in_smaller_passes(
    error: Callable[[str], Exception],
    continuous_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The run is the one that was given the number; it stands in RUN, and a resumed run keeps it."""
    short = ("duration.steps=2", "checkpoint.every_steps=2")
    pretrain(tiny("3ml-small", "batch.micro_rows=2", *short), continuous_folder, tmp_path / "given")
    with monkeypatch.context() as patch:
        tried = too_small(patch, 2, error)
        pretrain(tiny("3ml-small", "batch.micro_rows=auto", *short), continuous_folder, tmp_path / "lowered")
    assert tried == [8, 4, 2, 2]
    said = capsys.readouterr().err
    assert "out of memory with 8 rows a forward pass: batch.micro_rows is 4 from here on, and no step was lost" in said
    assert losses(tmp_path / "lowered") == losses(tmp_path / "given")
    assert RunFolder(tmp_path / "lowered").recipe.batch.micro_rows == 2
    tried = too_small(monkeypatch, 8)
    longer = tiny("3ml-small", "batch.micro_rows=auto", "duration.steps=3")
    pretrain(longer, continuous_folder, tmp_path / "lowered", resume=True)
    assert tried == [2]
    assert "batch.micro_rows was" not in capsys.readouterr().err


def test_a_first_step_that_fails_once_its_gradients_are_unscaled_is_made_again(
    continuous_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In float16, where a step unscales once, of a run from its beginning and of one that is resumed."""
    half = ("precision=float16", "checkpoint.every_steps=2")
    pretrain(tiny("3ml-small", "batch.micro_rows=4", *half), continuous_folder, tmp_path / "given")
    real, failures = nn.utils.clip_grad_norm_, [True]

    def clip(*arguments: Any) -> Any:
        norm = real(*arguments)
        if failures and failures.pop():
            raise torch.OutOfMemoryError("CUDA error: out of memory")
        return norm

    monkeypatch.setattr(nn.utils, "clip_grad_norm_", clip)
    run = tmp_path / "lowered"
    pretrain(tiny("3ml-small", "batch.micro_rows=auto", *half), continuous_folder, run)
    assert RunFolder(run).recipe.batch.micro_rows == 4 and losses(run) == losses(tmp_path / "given")
    for path in list_checkpoints(run / "checkpoints")[1:]:
        shutil.rmtree(path)
    failures.append(True)
    pretrain(tiny("3ml-small", "batch.micro_rows=auto", *half), continuous_folder, run, resume=True)
    assert not failures and len(losses(run)) == len(losses(tmp_path / "given"))


@pytest.mark.parametrize("given", ["4", "auto"])
def test_what_cannot_be_lowered_is_told(
    given: str, continuous_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A number that the recipe gives is the user's; below one row there is nothing."""
    tried = too_small(monkeypatch, 0)
    with pytest.raises(torch.OutOfMemoryError):
        pretrain(tiny("3ml-small", f"batch.micro_rows={given}"), continuous_folder, tmp_path / "run")
    assert tried == ([4] if given == "4" else [8, 4, 2, 1])


def test_a_step_after_the_first_is_not_made_again(
    continuous_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = too_small(monkeypatch, 8)
    real = loop.train_step

    def second_fails(*arguments: Any) -> Any:
        if len(tried) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(*arguments)

    monkeypatch.setattr(loop, "train_step", second_fails)
    with pytest.raises(torch.OutOfMemoryError):
        pretrain(tiny("3ml-small", "batch.micro_rows=auto"), continuous_folder, tmp_path / "run")
    assert tried == [8]


def test_several_processes_do_not_lower_it_alone(continuous: Shards) -> None:
    assert lower(plan_of(continuous), World(size=2)) is None
