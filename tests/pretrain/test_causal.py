"""A phase of next tokens: what is trained in it and what is not, what it costs, what is scored, and exact resume."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from masklater.budget.forecast import forecast, rows_of
from masklater.cli import main
from masklater.corpus.shards import Shards
from masklater.errors import Interrupted, UserError
from masklater.ledger import Ledger
from masklater.pretrain import health, loop
from masklater.pretrain.health import Health
from masklater.pretrain.loop import pretrain
from masklater.pretrain.muon import muon_flops
from masklater.recipe.duration import Duration
from masklater.recipe.load import load
from masklater.report.compare import compare
from masklater.run.checkpoint import load_checkpoint
from masklater.run.folder import RunFolder
from masklater.run.metrics import MetricsLog, read_metrics, recent_losses
from tests.conftest import TINY, tiny
from tests.invariance.ranks import Job, run_jobs
from tests.pretrain.test_phases import check_same, resumed_at
from tests.reference.test_against_transformers import masked_lm
from tests.runs import losses, stop_at, weights

FEW = (
    "duration.steps=4",
    "evaluation.every_steps=1",
    "checkpoint.every_steps=1",
    "checkpoint.keep=9",
    "schedule.warmup=0",
)
FIRST = (*FEW, "phases=[{share: 0.5, objective: causal}, {}]")
"""Steps 1 and 2 are causal, 3 and 4 are masked."""
BETWEEN = (*FEW, "phases=[{share: 0.25}, {share: 0.5, objective: causal, masking: {predict: 0.5}}, {}]")
"""Steps 2 and 3 are causal."""
MUON = ("optimizer.name=muon", "optimizer.adamw_lr=1e-3", "optimizer.lr=0.02")


def at_step(run: Path, step: int) -> dict[str, Tensor]:
    """Weights after a step, and which parameters have a state of an optimizer."""
    folder = RunFolder(run)
    return folder.model_of(load_checkpoint(folder.checkpoints / f"step-{step:08d}")).state_dict()


def of_decoder(state: dict[str, Tensor]) -> dict[str, Tensor]:
    found = {name: tensor for name, tensor in state.items() if name.startswith("decoder.")}
    assert found
    return found


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(tensor, other[name]) for name, tensor in one.items())


@pytest.mark.parametrize("optimizer", [(), MUON], ids=["adamw", "muon"])
def test_the_decoder_rests_and_goes_on_from_where_it_was(
    optimizer: tuple[str, ...], continuous: Shards, tmp_path: Path
) -> None:
    """Neither weight decay nor momentum moves it, though it has a state of the optimizer by then."""
    pretrain(tiny("3ml-small", *BETWEEN, *optimizer), continuous.folder, tmp_path / "run")
    states = [at_step(tmp_path / "run", step) for step in (1, 2, 3, 4)]
    assert same(of_decoder(states[0]), states[1]) and same(of_decoder(states[1]), states[2])
    assert not any(torch.equal(tensor, states[3][name]) for name, tensor in of_decoder(states[2]).items())
    moved = {name for name in states[0] if not torch.equal(states[0][name], states[1][name])}
    assert moved == {
        name for name in states[0] if not name.startswith("decoder.") and states[0][name].is_floating_point()
    }
    if optimizer:
        model = RunFolder(tmp_path / "run").load_model()[0]
        linear = {
            f"{name}.weight": module.weight
            for name, module in model.named_modules()
            if isinstance(module, torch.nn.Linear)
        }
        own = sum(muon_flops(weight) for name, weight in linear.items() if not name.startswith("decoder."))
        totals = [
            record["flops_optimizer"] for record in read_metrics(tmp_path / "run" / "metrics.jsonl") if "loss" in record
        ]
        every = sum(map(muon_flops, linear.values()))
        assert totals == pytest.approx([every, every + own, every + 2 * own, 2 * every + 2 * own])


def test_what_is_recorded_and_what_it_costs(
    continuous: Shards, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tiny("3ml-causal-first-small", *FIRST)
    result = pretrain(recipe, continuous.folder, tmp_path / "run")
    said = " ".join(capsys.readouterr().err.split())
    assert "phase 1, from step 1: 8 rows a step causal: nothing is masked, positions see those before them" in said
    assert "of each row's 32 positions the encoder sees 32, 30 are predicted" in said
    records = read_metrics(tmp_path / "run" / "metrics.jsonl")
    steps = [record for record in records if "loss" in record]
    assert [step.get("objective") for step in steps] == ["causal", "causal", None, None]
    assert [step["masking_rate"] for step in steps] == [0.0, 0.0, 0.5, 0.5]
    assert [step["tokens_seen"] for step in steps][:2] == [256, 512]
    scores = [record.keys() - {"step"} for record in records if "loss" not in record]
    masked = {f"valid_{what}{suffix}" for what in ("loss", "accuracy", "targets") for suffix in ("", "_15")}
    assert scores == [{f"causal_{what}" for what in ("loss", "accuracy", "targets")}] * 2 + [masked] * 2
    assert result.valid_loss is not None and result.valid_loss_15 is not None

    expected = forecast(recipe, rows_of(continuous.folder))
    assert result.flops == pytest.approx(expected.total_flops, rel=1e-12)
    assert steps[1]["flops"] == pytest.approx(expected.phases[0].total_flops, rel=1e-12)
    assert (expected.phases[0].row.decoder_linear, expected.phases[0].row.decoder_attention) == (0, 0)
    assert expected.phases[0].counts == (32, 0, 0, 30)
    assert expected.parameters is not None
    assert expected.parameters.trained == sum(tensor.numel() for tensor in trained(tmp_path / "run").values())

    compare([tmp_path / "run"], tmp_path / "report")  # losses are those of its masked phase
    assert str(result.valid_loss_15) in (tmp_path / "report" / "report.json").read_text()


def trained(run: Path) -> dict[str, Tensor]:
    return dict(RunFolder(run).load_model()[0].named_parameters())


def test_a_share_of_0_is_no_phase(continuous: Shards, tmp_path: Path) -> None:
    """To the bit, and the recipe that is recorded has none."""
    nothing = "phases=[{share: 0, objective: causal}]"
    assert tiny("3ml-cross-small", *FEW, nothing) == tiny("3ml-cross-small", *FEW)
    for name, recipe in (
        ("today", tiny("3ml-cross-small", *FEW)),
        ("zero", tiny("3ml-causal-first-small", *FEW, "phases.0.share=0")),
    ):
        pretrain(recipe, continuous.folder, tmp_path / name)
    check_same(tmp_path / "zero", tmp_path / "today")


@pytest.mark.parametrize("overrides", [FIRST, BETWEEN], ids=["first", "between"])
def test_a_run_resumes_to_the_bit(
    overrides: tuple[str, ...], shards_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped inside the causal phase and on both of its ends, one after another."""
    recipe = tiny("3ml-small", *overrides)
    pretrain(recipe, shards_folder, tmp_path / "straight")
    resumed_at([1, 2, 3], recipe, shards_folder, tmp_path / "resumed", monkeypatch)
    check_same(tmp_path / "resumed", tmp_path / "straight")
    straight, resumed = (
        [record for record in read_metrics(tmp_path / name / "metrics.jsonl") if "causal_loss" in record]
        for name in ("straight", "resumed")
    )
    assert straight == resumed and len(straight) == 2


def test_phases_in_flops_begin_where_the_forecast_says(
    continuous: Shards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A quarter of the FLOPs on next tokens, which are more steps than a quarter here; resumed to the bit, not moved."""
    few = ("evaluation.every_steps=3", "checkpoint.every_steps=3", "checkpoint.keep=9", "phases.0.share=0.25")
    one_step = forecast(tiny("3ml-cross-small", "duration.steps=1"), rows_of(continuous.folder)).total_flops
    assert one_step is not None
    recipe = tiny("3ml-causal-first-small", "duration.steps=12", *few).model_copy(
        update={"duration": Duration(flops=12 * one_step)}
    )
    straight = pretrain(recipe, continuous.folder, tmp_path / "straight")
    resumed_at([1, 2, 3, 7], recipe, continuous.folder, tmp_path / "resumed", monkeypatch)
    check_same(tmp_path / "resumed", tmp_path / "straight")

    steps = [record for record in read_metrics(tmp_path / "straight" / "metrics.jsonl") if "loss" in record]
    causal = [step for step in steps if "objective" in step]
    expected = forecast(recipe, rows_of(continuous.folder))
    assert [phase.num_steps for phase in expected.phases] == [len(causal), len(steps) - len(causal)] == [4, 9]
    assert causal[-1]["flops"] == pytest.approx(expected.phases[0].total_flops, rel=1e-12)
    assert causal[-1]["flops"] >= 3 * one_step > steps[len(causal) - 2]["flops"]
    assert straight.flops >= 12 * one_step > steps[-2]["flops"]
    assert expected.total_flops == pytest.approx(12 * one_step, rel=1e-12)

    longer = recipe.model_copy(update={"duration": Duration(flops=40 * one_step)})
    with pytest.raises(UserError, match=r"phase 2 of the run .* began at step 5, and with .* FLOPs it would begin at"):
        pretrain(longer, continuous.folder, tmp_path / "straight", resume=True)


@pytest.mark.parametrize("step", [1, 2, 3])
def test_what_is_taken_out_of_a_causal_phase_is_said_to_be(
    step: int, continuous: Shards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An encoder that has only looked back is not to be published as one that has not."""
    with monkeypatch.context() as stopped, pytest.raises(Interrupted):
        stopped.setattr(loop, "train_step", stop_at(step))
        pretrain(tiny("3ml-small", *FIRST), continuous.folder, tmp_path / "run")
    for arguments in (["export", "--out", str(tmp_path / "encoder")], ["fill", "kan <mask> lot"]):
        monkeypatch.setattr(sys, "argv", ["masklater", arguments[0], str(tmp_path / "run"), *arguments[1:]])
        with pytest.raises(SystemExit) as leave:
            main()
        said = capsys.readouterr().err
        assert not leave.value.code
        assert (f"stands at step {step}, in a phase of next tokens" in said) == (step < 3)
    card = (tmp_path / "encoder" / "README.md").read_text()
    assert ("stopped in a phase of next tokens" in card) == (step < 3)


def test_a_step_is_the_same_in_any_micro_batches(shards_folder: Path, tmp_path: Path) -> None:
    for rows in (1, 2, 8):
        settings = (*FIRST, "model.dropout=0", f"batch.micro_rows={rows}", "masking.predict=0.5")
        pretrain(tiny("3ml-small", *settings), shards_folder, tmp_path / str(rows))
    for rows in (1, 2):
        assert losses(tmp_path / str(rows)) == pytest.approx(losses(tmp_path / "8"), rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["3ml-small", "3ml-cross-small", "vanilla-small", "3ml-states-small"])
def test_two_processes_agree(recipe: str, shards_folder: Path, tmp_path: Path) -> None:
    """Parameters that rest keep no process waiting, under DDP and FSDP2, nor after a resume among them."""
    common = (*BETWEEN, "model.dropout=0", "batch.micro_rows=2")
    run_jobs(
        [
            Job(1, common, shards_folder, tmp_path / "one", recipe=recipe),
            Job(2, common, shards_folder, tmp_path / "ddp", recipe=recipe),
            Job(2, (*common, "distributed=fsdp"), shards_folder, tmp_path / "fsdp", recipe=recipe),
        ],
        tmp_path / "log",
    )
    for other in ("ddp", "fsdp"):
        assert losses(tmp_path / other) == pytest.approx(losses(tmp_path / "one"), rel=1e-4)
        mine, theirs = weights(tmp_path / other), weights(tmp_path / "one")
        assert all(torch.allclose(mine[name], theirs[name], rtol=1e-3, atol=1e-4) for name in mine)
        if recipe != "vanilla-small":
            assert same(of_decoder(at_step(tmp_path / other, 1)), at_step(tmp_path / other, 3))


def test_from_a_published_encoder_and_back(
    shards_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Masked, causal, masked with decay, from a saved masked LM."""
    source = tmp_path / "published"
    masked_lm("roberta").save_pretrained(source)
    shutil.copytree(shards_folder / "tokenizer", source, dirs_exist_ok=True)
    few = [override for override in TINY if not override.startswith("model.")]
    recipe = load("continue", [*few, f"model.from={source}", *BETWEEN, "schedule.name=wsd", "schedule.decay=0.25"])
    result = pretrain(recipe, shards_folder, tmp_path / "run")
    assert "encoder, LM head; new: decoder" in capsys.readouterr().err
    assert result.finished and result.valid_loss_15 is not None
    rates = [record["lr"] for record in read_metrics(tmp_path / "run" / "metrics.jsonl") if "lr" in record]
    assert rates[0] == rates[1] == rates[2]
    assert (tmp_path / "run" / "checkpoints").exists()


def test_another_phase_is_no_spike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses are measured against those of the same phase, after a resume too."""
    monkeypatch.setattr(health, "FEWEST", 3)
    path = tmp_path / "metrics.jsonl"
    records = [{"step": step, "loss": 2.0, "objective": "causal"} for step in range(1, 6)]
    records += [{"step": step, "loss": 7.0} for step in range(6, 10)]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    assert recent_losses(path, 100, since=5) == [7.0] * 4
    watch = Health(tiny(), lambda step: {"": [step]}, tmp_path, since=5)
    assert watch.spike(replace(Ledger(), steps=10), 7.1) is None
    assert watch.spike(replace(Ledger(), steps=11), 9.0) is not None


def test_an_evaluation_of_next_tokens_is_one(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 2, "loss": 1.0}\n{"step": 2, "causal_loss": 3.0}\n')
    assert MetricsLog(tmp_path, 2).evaluated
    assert not MetricsLog(tmp_path, 1).evaluated
