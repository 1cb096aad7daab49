"""Steps that go wrong: skipped, counted, shown, and the stop; spikes; all of it the same after a resume."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from masklater.corpus.prepare import prepare
from masklater.corpus.settings import PrepareSettings
from masklater.corpus.shards import Shards
from masklater.errors import Interrupted, UserError
from masklater.ledger import Ledger
from masklater.machine.distributed import ALONE
from masklater.machine.precision import choose_precision
from masklater.model.masked_lm import MaskLaterForMaskedLM
from masklater.pretrain import health, loop
from masklater.pretrain.batches import make_batches, make_share
from masklater.pretrain.health import WINDOW, Health
from masklater.pretrain.loop import pretrain, train_step
from masklater.pretrain.optim import Optimizers
from masklater.pretrain.order import rows_of_step
from masklater.pretrain.start import find_start
from masklater.run.checkpoint import load_newest
from masklater.run.folder import RunFolder
from masklater.run.metrics import read_metrics, recent_losses
from tests.conftest import tiny
from tests.runs import stop_at

WHOLE = ("batch.micro_rows=8",)
NOT_FINITE = [float("nan"), float("inf")]


def poison(monkeypatch: pytest.MonkeyPatch, shards: Shards, steps: set[int], factor: float) -> None:
    """From now on the loss of these steps (from 0) is multiplied by a factor that is not finite."""
    batches = make_batches(shards, shards.train, tiny().masking, True, "document", 0)
    poisoned = [batches.of_step(step, 8).seen_ids_BS for step in steps]
    forward = MaskLaterForMaskedLM.forward

    def poisoned_forward(self: MaskLaterForMaskedLM, *args: Any, **kwargs: Any) -> Any:
        out = forward(self, *args, **kwargs)
        batch = kwargs.get("batch")
        if self.training and any(torch.equal(batch.seen_ids_BS, ids) for ids in poisoned):
            return out[0] * factor, out[1]
        return out

    monkeypatch.setattr(MaskLaterForMaskedLM, "forward", poisoned_forward)


@pytest.mark.fault
@pytest.mark.parametrize("factor", NOT_FINITE)
@pytest.mark.parametrize("clip", [1.0, None])
@pytest.mark.parametrize("optimizer", ["{name: adamw, lr: 1e-3}", "{name: muon, lr: 0.02, adamw_lr: 1e-3}"])
def test_a_step_that_is_not_finite_changes_nothing(
    factor: float, clip: float | None, optimizer: str, shards: Shards, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny("3ml-small", *WHOLE, f"optimizer={optimizer}")
    torch.manual_seed(0)
    model = MaskLaterForMaskedLM(find_start(recipe, shards).config).train()
    optimizers = Optimizers(model, recipe.optimizer)
    batches = make_batches(shards, shards.train, recipe.masking, True, "document", 0)
    share = make_share(batches, 0, recipe.batch, ALONE)
    precision = choose_precision("float32", torch.device("cpu"))
    train_step(model, optimizers, share, 1.0, clip, precision, 0)
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    moments = {name: tensor.clone() for name, tensor in optimizers.states().items()}

    poison(monkeypatch, shards, {0}, factor)
    loss, norm = train_step(model, optimizers, share, 1.0, clip, precision, 1)
    assert not torch.isfinite(loss) or not torch.isfinite(norm)
    assert all(torch.equal(weights[name], tensor) for name, tensor in model.state_dict().items())
    after = optimizers.states()
    assert moments.keys() == after.keys()
    assert all(torch.equal(moments[name], tensor) for name, tensor in after.items())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.fault
@pytest.mark.parametrize("poisoned", [set(), {0, 2, 3, 5}])
def test_a_loss_that_is_read_a_step_later_changes_no_record(
    poisoned: set[int], shards: Shards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU a step's loss is read while the next one computes; evaluations and checkpoints fall in between.

    It is copied before that one is launched, as reading what is on the device would wait for both.
    """
    poison(monkeypatch, shards, poisoned, float("nan"))
    recipe = tiny("3ml-small", *WHOLE, "duration.steps=7", "evaluation.every_steps=3", "checkpoint.every_steps=2")
    at_once = pretrain(recipe, shards.folder, tmp_path / "at-once")
    finish, make = loop._Training.finish, loop.train_step
    before: list[Tensor] = []

    def make_and_forget(*given: Any) -> tuple[Tensor, Tensor]:
        for tensor in before:
            tensor.fill_(-1)
        before[:] = made = make(*given)
        return made

    def late(training: loop._Training) -> Any:
        training.settles_late = True
        return finish(training)

    monkeypatch.setattr(loop._Training, "finish", late)
    monkeypatch.setattr(loop, "train_step", make_and_forget)
    a_step_later = pretrain(recipe, shards.folder, tmp_path / "later")

    def records(run: str) -> list[dict[str, Any]]:
        found = read_metrics(tmp_path / run / "metrics.jsonl")
        return [{key: value for key, value in record.items() if "seconds" not in key} for record in found]

    assert str(records("later")) == str(records("at-once"))  # as text: nan is not nan
    assert (a_step_later.steps, a_step_later.skipped_steps) == (7, len(poisoned)) == (7, at_once.skipped_steps)
    models = [RunFolder(tmp_path / run).load_model()[0].state_dict() for run in ("later", "at-once")]
    assert all(torch.equal(models[0][name], models[1][name]) for name in models[0])


@pytest.mark.fault
def test_skipped_steps_are_counted_shown_and_logged(
    shards: Shards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    poison(monkeypatch, shards, {1, 2, 4}, float("nan"))
    result = pretrain(tiny("3ml-small", *WHOLE), shards.folder, tmp_path / "run")
    assert (result.finished, result.steps, result.skipped_steps) == (True, 6, 3)
    records = [record for record in read_metrics(tmp_path / "run" / "metrics.jsonl") if "loss" in record]
    assert [record["skipped"] for record in records] == [False, True, True, False, True, False]
    err = capsys.readouterr().err
    assert "step 2 was skipped: loss nan" in err and "(2 in a row, the run stops at 10)" in err
    assert json.loads((tmp_path / "run" / "ledger.json").read_text())["skipped_steps"] == 3
    assert not (tmp_path / "run" / "diverged.json").exists()


@pytest.mark.fault
def test_too_many_in_a_row_stop_the_run_and_name_the_rows(
    shards: Shards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch, shards, {1, 3, 4, 5}, float("nan"))
    recipe = tiny("3ml-small", *WHOLE, "duration.steps=20", "health.max_skipped=3")
    with pytest.raises(UserError, match=r"step 6: training has diverged: 3 steps in a row .*diverged\.json") as raised:
        pretrain(recipe, shards.folder, tmp_path / "run")
    found = json.loads((tmp_path / "run" / "diverged.json").read_text())
    assert [step["step"] for step in found["steps"]] == [4, 5, 6]
    for step in found["steps"]:
        expected = rows_of_step(step["step"] - 1, 8, shards.train.num_rows, recipe.seed)
        assert step["row_numbers"] == expected.tolist()
    assert f"masklater rows SHARDS {found['steps'][-1]['row_numbers'][0]} " in raised.value.remedy
    newest = load_newest(tmp_path / "run" / "checkpoints")
    assert newest is not None
    assert not newest.not_finite()


@pytest.mark.fault
def test_a_run_with_skipped_steps_resumes_to_the_bit(
    shards: Shards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted between two skipped steps: the count in a row goes on, and so does everything else."""
    poison(monkeypatch, shards, {1, 2, 3}, float("nan"))
    recipe = tiny("3ml-small", *WHOLE, "health.max_skipped=4")
    pretrain(recipe, shards.folder, tmp_path / "straight")

    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_step", stop_at(3))
        with pytest.raises(Interrupted):
            pretrain(recipe, shards.folder, tmp_path / "resumed")
    newest = load_newest(tmp_path / "resumed" / "checkpoints")
    assert newest is not None
    assert newest.ledger.skipped_in_a_row == 2
    pretrain(recipe, shards.folder, tmp_path / "resumed", resume=True)
    models = [RunFolder(tmp_path / name).load_model()[0] for name in ("straight", "resumed")]
    assert all(torch.equal(a, b) for a, b in zip(*(model.state_dict().values() for model in models), strict=True))
    ends = [load_newest(tmp_path / name / "checkpoints") for name in ("straight", "resumed")]
    assert [end.ledger.skipped_steps for end in ends if end is not None] == [3, 3]

    shorter = tiny("3ml-small", *WHOLE, "health.max_skipped=3")
    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_step", stop_at(3))
        with pytest.raises(Interrupted):
            pretrain(shorter, shards.folder, tmp_path / "stopped")
    with pytest.raises(UserError, match="step 4: training has diverged: 3 steps in a row"):
        pretrain(shorter, shards.folder, tmp_path / "stopped", resume=True)


def rows_of(step: int) -> dict[str, list[int]]:
    return {"": rows_of_step(step, 8, 100, 0).tolist()}


def follow(watch: Health, losses: list[float]) -> list[int]:
    """Numbers of the losses, from 1, that are called spikes."""
    return [step for step, loss in enumerate(losses, 1) if watch.spike(Ledger(steps=step), loss) is not None]


def test_spikes_are_what_the_rule_says(tmp_path: Path) -> None:
    watch = Health(tiny(), rows_of, tmp_path)
    noise = [2.0 + 0.1 * (step % 5 - 2) for step in range(50)]  # median 2, median absolute deviation 0.1
    limit = 2.0 + 6 * 1.4826 * 0.1
    assert follow(watch, [9.0, *noise]) == []  # too few to compare with
    assert watch.spike(Ledger(steps=60), limit - 0.01) is None
    record = watch.spike(Ledger(steps=61), limit + 0.01)
    assert record is not None
    assert record["limit"] == pytest.approx(limit, rel=1e-3)
    assert record["row_numbers"] == rows_of_step(60, 8, 100, 0).tolist()
    assert watch.spike(Ledger(steps=62), float("nan")) is None  # a skipped step, and no part of the median
    assert all(math.isfinite(loss) for loss in watch.recent)

    still = Health(tiny(), rows_of, tmp_path)
    assert follow(still, [2.0] * 30 + [2.09, 2.11]) == [32]  # 5% above, where losses do not vary at all
    assert follow(Health(tiny("3ml-small", "health.spike=null"), rows_of, tmp_path), [2.0] * 30 + [99.0]) == []


def test_spikes_are_logged_with_their_rows_and_after_a_resume_alike(
    shards: Shards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "FEWEST", 3)
    poison(monkeypatch, shards, {5}, 4.0)
    settings = (*WHOLE, "checkpoint.every_steps=4", "optimizer.clip=1.0")
    pretrain(tiny("3ml-small", *settings, "duration.steps=8"), shards.folder, tmp_path / "straight")
    pretrain(
        tiny("3ml-small", *settings, "duration.steps=4", "schedule.warmup.steps=1"), shards.folder, tmp_path / "two"
    )
    pretrain(tiny("3ml-small", *settings, "duration.steps=8"), shards.folder, tmp_path / "two", resume=True)
    for name in ("straight", "two"):
        spikes = [record for record in read_metrics(tmp_path / name / "metrics.jsonl") if "spike" in record]
        assert [record["step"] for record in spikes] == [6]
        assert spikes[0]["row_numbers"] == rows_of_step(5, 8, shards.train.num_rows, 0).tolist()
    RunFolder(tmp_path / "straight")  # a spike is no step: readers of the log pass over it


def test_losses_are_read_from_the_end_of_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "metrics.jsonl"
    assert recent_losses(path, WINDOW) == []
    records = [{"step": step, "loss": step / 7, "note": "x" * 3000} for step in range(1, 300)]
    records[290]["loss"] = float("nan")
    path.write_text("".join(json.dumps(record) + "\n" for record in records) + '{"step": 300, "lo')
    expected = [record["loss"] for record in records if math.isfinite(record["loss"])][-health.WINDOW :]
    assert recent_losses(path, WINDOW) == expected


def test_steps_with_nothing_to_predict_are_no_divergence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Rows of one token, of which 15% is none: weights stay, and the run ends at its end."""
    path = tmp_path / "words.jsonl"
    path.write_text("\n".join(json.dumps({"text": "abcdefgh"[number % 8]}) for number in range(60)))
    settings = PrepareSettings(vocab_size=300, row_length=8, valid_fraction=0.0, workers=1)
    prepare([path], tmp_path / "shards", settings)
    recipe = tiny("vanilla-small", "masking.rate=0.15", "batch.rows=1", "batch.micro_rows=1", "duration.steps=25")
    run = tmp_path / "run"
    result = pretrain(recipe, tmp_path / "shards", run)
    assert result.finished and result.steps == 25
    steps = [record for record in read_metrics(run / "metrics.jsonl") if "loss" in record]
    empty = [record["skipped"] for record in steps]
    assert sum(empty) > 10 and [math.isnan(record["loss"]) for record in steps] == empty
    assert "too short to have anything to predict" in capsys.readouterr().err
    assert not (run / "diverged.json").exists()


def test_rows_too_short_to_be_scored_are_said_to_be(tmp_path: Path) -> None:
    path = tmp_path / "words.jsonl"
    path.write_text("\n".join(json.dumps({"text": "abcdefgh"[number % 8]}) for number in range(60)))
    settings = PrepareSettings(vocab_size=300, row_length=8, valid_fraction=0.2, workers=1, pack="continuous")
    prepare([path], tmp_path / "shards", settings)
    with pytest.raises(UserError, match=r"rows of 8 positions are too short to be scored at 15% \[MASK\]"):
        pretrain(tiny("3ml-small", "masking.rate=0.9"), tmp_path / "shards", tmp_path / "run")
