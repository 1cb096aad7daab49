"""The loop: accumulation, resume to the bit, stopping, refusing, and what RUN holds."""

import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from masklater.corpus.shards import Shards
from masklater.errors import DamagedDataError, Interrupted, UserError
from masklater.machine.precision import choose_precision
from masklater.masking.batch import IGNORE
from masklater.model.export import export_encoder
from masklater.model.masked_lm import MaskLaterForMaskedLM
from masklater.pretrain import loop
from masklater.pretrain.batches import StepShare, make_batches
from masklater.pretrain.evaluate import unigram_baseline
from masklater.pretrain.loop import pretrain, train_step
from masklater.pretrain.optim import Optimizers
from masklater.pretrain.start import find_start
from masklater.recipe.load import load
from masklater.run.checkpoint import list_checkpoints, load_newest
from masklater.run.folder import RunFolder
from masklater.run.metrics import read_metrics
from tests.conftest import REPOSITORY, TINY, fill_the_disk, make_shards, tiny
from tests.runs import losses, stop_at, weights

ADAMW_AND_MUON = [(), ("optimizer.name=muon", "optimizer.adamw_lr=1e-3", "optimizer.lr=0.02")]


def newest_step(run: Path) -> int:
    checkpoint = load_newest(run / "checkpoints")
    assert checkpoint is not None
    return checkpoint.ledger.steps


def test_a_run_holds_what_it_should(shards_folder: Path, tmp_path: Path) -> None:
    result = pretrain(tiny(), shards_folder, tmp_path / "run")
    assert (result.finished, result.steps, result.rows, result.tokens) == (True, 6, 48, 48 * 32)
    records = read_metrics(tmp_path / "run" / "metrics.jsonl")
    steps = [record for record in records if "loss" in record]
    assert [record["step"] for record in steps] == [1, 2, 3, 4, 5, 6]
    assert {"step", "loss", "lr", "grad_norm", "rows", "tokens", "step_seconds"} <= steps[0].keys()
    assert [record["step"] for record in records if "valid_loss" in record] == [3, 6]
    assert [path.name for path in list_checkpoints(tmp_path / "run" / "checkpoints")] == [
        "step-00000004",
        "step-00000006",
    ]
    assert load(tmp_path / "run" / "recipe.yaml") == tiny()
    assert (tmp_path / "run" / "tokenizer" / "tokenizer.json").exists()
    assert result.flops == pytest.approx(steps[-1]["flops"])


@pytest.mark.parametrize("name", ["3ml-small", "vanilla-small"])
def test_it_learns_what_only_context_tells(name: str, tmp_path: Path) -> None:
    """Each document repeats two words of its own: token frequency tells nothing, the unmasked tokens tell all."""
    words = [f"{a}{b}" for a in "bdfgklmn" for b in "aeiou"]
    pairs = np.random.default_rng(0).choice(len(words), (300, 2))
    lines = [json.dumps({"text": f"{words[a]} {words[b]} " * 20}) for a, b in pairs]
    (tmp_path / "pairs.jsonl").write_text("\n".join(lines))
    data = make_shards(tmp_path / "pairs.jsonl", tmp_path / "data")
    overrides = ["duration.steps=250", "batch.rows=16", "batch.micro_rows=16", "evaluation.every_steps=250",
                 "evaluation.rows=64", "checkpoint.every_steps=250", "optimizer.lr=5e-3",
                 "model.dropout=0"]  # fmt: skip
    recipe = tiny(name, *overrides)
    result = pretrain(recipe, data, tmp_path / "run")
    shards = Shards(data)
    training, held_out = (
        make_batches(shards, rows, recipe.masking, True, "document", 0) for rows in (shards.train, shards.valid)
    )
    unigram = unigram_baseline(training, held_out.fixed(64, 16))
    assert result.valid_loss is not None
    assert result.valid_accuracy is not None
    assert result.valid_loss < unigram.loss - 1
    assert result.valid_accuracy > 2 * unigram.accuracy
    assert None not in (result.valid_loss_15, result.unigram_loss_15, result.valid_accuracy_15)
    assert (result.valid_loss_15 or 9) < (result.unigram_loss_15 or 0) - 1
    assert (result.valid_accuracy_15 or 0) > 2 * (result.unigram_accuracy_15 or 1)
    assert not result.hardly_beats_frequencies


@pytest.mark.parametrize("folder", ["shards_folder", "continuous_folder"])
@pytest.mark.parametrize("optimizer", ADAMW_AND_MUON)
def test_accumulation_changes_nothing(
    folder: str, optimizer: tuple[str, ...], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """1 x 8 rows and 8 x 1 row are the same run: the loss divides by the targets of the whole step."""
    data = request.getfixturevalue(folder)
    for name, micro_rows in (("whole", 8), ("parts", 1)):
        recipe = tiny("3ml-small", "model.dropout=0", f"batch.micro_rows={micro_rows}", *optimizer)
        pretrain(recipe, data, tmp_path / name)
    assert losses(tmp_path / "whole") == pytest.approx(losses(tmp_path / "parts"), rel=2e-5)


def test_micro_rows_that_were_lowered_are_what_the_run_records(shards_folder: Path, tmp_path: Path) -> None:
    for name, micro_rows in (("asked", 32), ("lowered", 8)):
        pretrain(
            tiny("3ml-small", f"batch.micro_rows={micro_rows}", "duration.steps=2"), shards_folder, tmp_path / name
        )
    assert RunFolder(tmp_path / "asked").recipe.batch.micro_rows == 8
    assert losses(tmp_path / "asked") == losses(tmp_path / "lowered")


@pytest.mark.parametrize("optimizer", ADAMW_AND_MUON)
def test_interrupted_and_resumed_equals_straight_to_the_bit(
    optimizer: tuple[str, ...], shards_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny("3ml-small", *optimizer)
    assert recipe.model.dropout > 0
    pretrain(recipe, shards_folder, tmp_path / "straight")

    monkeypatch.setattr(loop, "train_step", stop_at(3))
    with pytest.raises(Interrupted, match="stopped and saved at step 3"):
        pretrain(recipe, shards_folder, tmp_path / "resumed")
    monkeypatch.undo()
    pretrain(recipe, shards_folder, tmp_path / "resumed", resume=True)
    assert losses(tmp_path / "resumed") == losses(tmp_path / "straight")
    straight, resumed = weights(tmp_path / "straight"), weights(tmp_path / "resumed")
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)


def test_steps_after_the_newest_checkpoint_are_done_again_not_twice(
    shards_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretrain(tiny(), shards_folder, tmp_path / "straight")

    def crash_at_the_sixth(*arguments: object, calls: list[int] = []) -> object:  # noqa: B006
        calls.append(1)
        if len(calls) == 6:
            raise RuntimeError("the power went")
        return train_step(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "train_step", crash_at_the_sixth)
    with pytest.raises(RuntimeError, match="the power went"):
        pretrain(tiny(), shards_folder, tmp_path / "run")
    monkeypatch.undo()
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "lo')  # cut short by the crash
    pretrain(tiny(), shards_folder, tmp_path / "run", resume=True)
    records = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert [record["step"] for record in records if "loss" in record] == [1, 2, 3, 4, 5, 6]
    assert losses(tmp_path / "run") == losses(tmp_path / "straight")


def test_a_damaged_newest_checkpoint_is_passed_over(
    shards_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pretrain(tiny(), shards_folder, tmp_path / "run")
    before = losses(tmp_path / "run")
    older, newest = list_checkpoints(tmp_path / "run" / "checkpoints")
    (weights_file,) = newest.glob("*.safetensors")
    weights_file.write_bytes(weights_file.read_bytes()[:-100])
    assert newest_step(tmp_path / "run") == 4
    assert "passing over a checkpoint" in capsys.readouterr().err
    pretrain(tiny(), shards_folder, tmp_path / "run", resume=True)
    assert losses(tmp_path / "run") == before
    assert newest_step(tmp_path / "run") == 6

    for path in list_checkpoints(tmp_path / "run" / "checkpoints"):
        (path / "checkpoint.json").write_text("{}")
    with pytest.raises(DamagedDataError, match=r"no checkpoint in .* is sound"):
        load_newest(tmp_path / "run" / "checkpoints")
    assert older.exists()


def test_a_full_disk_keeps_the_last_checkpoint(
    shards_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretrain(tiny("3ml-small", "duration.steps=3", "schedule.warmup=0"), shards_folder, tmp_path / "run")
    kept = list_checkpoints(tmp_path / "run" / "checkpoints")
    with monkeypatch.context() as full:
        fill_the_disk(full, "shard-00001-model-00001-of-00001.safetensors")
        with pytest.raises(UserError, match="the disk is full"):
            pretrain(tiny("3ml-small", "schedule.warmup=0"), shards_folder, tmp_path / "run", resume=True)
    assert sorted((tmp_path / "run" / "checkpoints").iterdir()) == kept
    result = pretrain(tiny("3ml-small", "schedule.warmup=0"), shards_folder, tmp_path / "run", resume=True)
    assert (result.finished, len(losses(tmp_path / "run"))) == (True, 6)


def test_export_on_a_full_disk(shards: Shards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = MaskLaterForMaskedLM(find_start(tiny(), shards).config)

    def on_a_full_disk(*_: object, **__: object) -> None:
        raise RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(model.encoder, "save_pretrained", on_a_full_disk)
    with pytest.raises(UserError, match="the disk is full"):
        export_encoder(model, shards.folder / "tokenizer", tmp_path / "encoder")
    assert list(tmp_path.iterdir()) == []


def test_a_run_goes_on_for_longer(shards_folder: Path, tmp_path: Path) -> None:
    wsd = ("schedule.name=wsd", "schedule.warmup.steps=2", "schedule.decay=0.01")
    pretrain(tiny("3ml-small", *wsd), shards_folder, tmp_path / "run")
    longer = tiny("3ml-small", *wsd, "duration.steps=9")
    result = pretrain(longer, shards_folder, tmp_path / "run", resume=True)
    assert (result.steps, result.finished) == (9, True)
    assert RunFolder(tmp_path / "run").recipe.duration.steps == 9


def test_a_finished_run_is_left_as_it_is(
    shards_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pretrain(tiny(), shards_folder, tmp_path / "run")
    before = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    result = pretrain(tiny(), shards_folder, tmp_path / "run", resume=True)
    assert (result.finished, result.steps, result.loss) == (True, 6, None) and result.valid_loss is not None
    assert f"{tmp_path / 'run'} is at step 6: 6 steps are over, nothing is left to train" in capsys.readouterr().err
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == before
    pretrain(tiny("3ml-small", "checkpoint.keep=1"), shards_folder, tmp_path / "run", resume=True)
    assert [path.name for path in list_checkpoints(tmp_path / "run" / "checkpoints")] == ["step-00000006"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed=1", "cannot change seed was 0, is 1"),
        ("model.hidden_size=64", "model.hidden_size was 32, is 64"),
        ("masking.rate=0.4", "masking.rate was 0.5, is 0.4"),
        ("batch.rows=16", "batch.rows was 8, is 16"),
        ("optimizer.betas=[0.9, 0.95]", "optimizer.betas"),
    ],
)
def test_what_may_not_change_on_resume(override: str, message: str, shards_folder: Path, tmp_path: Path) -> None:
    pretrain(tiny("3ml-small", "duration.steps=1"), shards_folder, tmp_path / "run")
    with pytest.raises(UserError, match=message.replace("[", r"\[")):
        pretrain(tiny("3ml-small", override), shards_folder, tmp_path / "run", resume=True)


FALLING = "masking.schedule={name: linear, end: 0.2}"


@pytest.mark.parametrize(
    ("began", "longer", "message"),
    [
        (("max_epochs=9",), ("duration.steps=5000", "max_epochs=1"), "would be read"),
        ((FALLING,), (FALLING, "duration.steps=60"), "masking rates of the run .* follow its duration of 6 steps"),
        (("phases=[{share: 0.5}, {masking: {rate: 0.3}}]",), ("phases=[{share: 0.5}, {masking: {rate: 0.3}}]",
          "duration.steps=12"), "phase 2 of the run .* began at step 4"),
    ],
)  # fmt: skip
def test_a_resume_that_is_refused_leaves_the_run_as_it_was(
    began: tuple[str, ...], longer: tuple[str, ...], message: str, shards_folder: Path, tmp_path: Path
) -> None:
    """Twice in a row: what was refused once is not the run's own recipe from then on."""
    pretrain(tiny("3ml-small", *began), shards_folder, tmp_path / "run")
    before = (tmp_path / "run" / "recipe.yaml").read_text()
    for _ in range(2):
        with pytest.raises(UserError, match=message):
            pretrain(tiny("3ml-small", *longer), shards_folder, tmp_path / "run", resume=True)
        assert (tmp_path / "run" / "recipe.yaml").read_text() == before


def test_random_masking_rates_may_go_on_for_longer(shards_folder: Path, tmp_path: Path) -> None:
    rates = "masking.schedule={name: random, low: 0.4, high: 0.6}"
    pretrain(tiny("3ml-small", rates), shards_folder, tmp_path / "run")
    assert pretrain(tiny("3ml-small", rates, "duration.steps=8"), shards_folder, tmp_path / "run", resume=True).finished


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("phases=[{share: 0.5}, {rope_base: 50000}]",), "have no rotary base to set"),
        (("decoder.hidden_size=10",), "a decoder of width 10 does not fit the encoder"),
        (("compile=true",), "cannot compile: no compiler"),
    ],
)
def test_what_cannot_be_built_is_refused_before_there_is_a_run(
    overrides: tuple[str, ...], message: str, shards_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a model that is gone on with, whose sizes no recipe has."""
    pretrain(tiny("3ml-roberta-small"), shards_folder, tmp_path / "source")
    monkeypatch.setattr("masklater.machine.compilation.find_failure", lambda device: "no compiler")
    recipe = tiny("3ml-small", f"model={{from: {tmp_path / 'source'}}}", *overrides)
    with pytest.raises(UserError, match=message):
        pretrain(recipe, shards_folder, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_source_that_has_changed_is_not_begun_with_again(shards_folder: Path, tmp_path: Path) -> None:
    """A run that was stopped before its first checkpoint begins again, with the weights that it began with."""
    pretrain(tiny(), shards_folder, tmp_path / "source")
    recipe = tiny("3ml-small", f"model={{from: {tmp_path / 'source'}}}")
    straight = pretrain(recipe, shards_folder, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    (tmp_path / "run" / "checkpoints").mkdir()
    assert pretrain(recipe, shards_folder, tmp_path / "run", resume=True).loss == straight.loss
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    (tmp_path / "run" / "checkpoints").mkdir()
    pretrain(tiny("3ml-small", "duration.steps=8"), shards_folder, tmp_path / "source", resume=True)
    with pytest.raises(
        UserError, match=r"source has changed since the run .*run began with it, which has no checkpoint"
    ):
        pretrain(recipe, shards_folder, tmp_path / "run", resume=True)


def test_shards_of_another_tokenizer_and_other_data_are_refused(
    corpus: Path, shards_folder: Path, continuous_folder: Path, tmp_path: Path
) -> None:
    pretrain(tiny("3ml-small", "duration.steps=1"), shards_folder, tmp_path / "run")
    other = make_shards(corpus, tmp_path / "other", vocab_size=310)
    with pytest.raises(UserError, match="made with another tokenizer than the run"):
        pretrain(tiny(), other, tmp_path / "run", resume=True)
    with pytest.raises(UserError, match="is other data than the run"):
        pretrain(tiny(), continuous_folder, tmp_path / "run", resume=True)


def test_a_run_that_exists_is_not_overwritten(shards_folder: Path, tmp_path: Path) -> None:
    pretrain(tiny("3ml-small", "duration.steps=1"), shards_folder, tmp_path / "run")
    with pytest.raises(UserError, match=r"the run .*run exists already\n.*--resume"):
        pretrain(tiny(), shards_folder, tmp_path / "run")
    with pytest.raises(UserError, match="there is no run"):
        pretrain(tiny(), shards_folder, tmp_path / "nowhere", resume=True)


def test_a_flipped_byte_is_found_before_training(shards_folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(shards_folder, tmp_path / "copy"))
    content = bytearray((copy / "train-00000.rows").read_bytes())
    content[100] ^= 4
    (copy / "train-00000.rows").write_bytes(content)
    with pytest.raises(DamagedDataError, match=r"train-00000\.rows: the content has changed"):
        pretrain(tiny(), copy, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_no_held_out_rows(corpus: Path, tmp_path: Path) -> None:
    data = make_shards(corpus, tmp_path / "data", valid_fraction=0)
    result = pretrain(tiny(), data, tmp_path / "run")
    assert result.finished
    assert result.valid_loss is None


def test_batches_are_a_function_of_seed_and_step(shards: Shards) -> None:
    def batch(seed: int, step: int) -> torch.Tensor:
        return make_batches(shards, shards.train, tiny().masking, True, "document", seed).of_step(step, 8).seen_ids_BS

    assert torch.equal(batch(0, 5), batch(0, 5))
    assert not torch.equal(batch(0, 5), batch(0, 6))
    assert not torch.equal(batch(0, 5), batch(1, 5))


def test_evaluation_rows_and_masks_are_fixed_whatever_the_batch_of_training(shards: Shards) -> None:
    batches = make_batches(shards, shards.valid, tiny().masking, True, "document", 0)
    first, again = (list(batches.fixed(7, 4)) for _ in range(2))
    assert [len(batch.seen_ids_BS) for batch in first] == [4, 3]
    assert all(torch.equal(a.target_pos_BT, b.target_pos_BT) for a, b in zip(first, again, strict=True))


def test_unigram_baseline_is_what_it_says(continuous: Shards) -> None:
    batches = list(make_batches(continuous, continuous.valid, tiny().masking, True, "row", 0).fixed(8, 8))
    score = unigram_baseline(make_batches(continuous, continuous.train, tiny().masking, True, "row", 3), batches)
    ids = continuous.train.read(np.arange(continuous.train.num_rows)).ids_NL.ravel()
    counts = np.bincount(ids, minlength=continuous.vocabulary.size) + 1.0
    counts[list(continuous.vocabulary.special)] = 0
    targets = batches[0].target_ids_BT[batches[0].target_ids_BT != IGNORE].numpy()
    assert score.loss == pytest.approx(-np.log(counts[targets] / counts.sum()).mean())
    assert score.accuracy == pytest.approx((targets == counts.argmax()).mean())


def test_bfloat16_stays_close_to_float32(continuous: Shards) -> None:
    results = []
    for precision in ("float32", "bfloat16"):
        recipe = tiny("3ml-small", "model.dropout=0", f"precision={precision}")
        torch.manual_seed(0)
        model = MaskLaterForMaskedLM(find_start(recipe, continuous).config)
        batch = make_batches(continuous, continuous.train, recipe.masking, True, "document", 0).of_step(0, 8)
        chosen = choose_precision(precision, torch.device("cpu"))
        optimizers = Optimizers(model, recipe.optimizer)
        results.append(
            train_step(model, optimizers, StepShare([batch], 0, int(batch.num_targets)), 1.0, None, chosen, 0)
        )
        assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    assert results[1][0] == pytest.approx(float(results[0][0]), rel=0.01)
    assert results[1][1] == pytest.approx(float(results[0][1]), rel=0.05)


def test_ctrl_c_in_a_real_process_saves_and_resumes(shards_folder: Path, tmp_path: Path) -> None:
    arguments = [sys.executable, "-m", "masklater", "pretrain", "3ml-small", *TINY, "duration.steps=100000",
                 "--data", str(shards_folder), "--out", str(tmp_path / "run"), "--json"]  # fmt: skip
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY)
    watchdog = threading.Timer(300, process.kill)
    watchdog.start()
    metrics = tmp_path / "run" / "metrics.jsonl"
    while process.poll() is None and not (metrics.exists() and metrics.stat().st_size > 2000):
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    watchdog.cancel()
    assert process.returncode == 128 + signal.SIGINT, err
    result = json.loads(out.splitlines()[-1])
    assert result["finished"] is False
    assert list_checkpoints(tmp_path / "run" / "checkpoints")[-1].name == f"step-{result['steps']:08d}"
