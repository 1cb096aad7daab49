"""Sweeps: what is run, what is kept, what is refused on resume, and the table that comes of it."""

import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, XmodConfig, XmodModel

from masklater.cli import main
from masklater.errors import DamagedDataError, Interrupted, UserError
from masklater.judge import finetune, table
from masklater.judge import scorer as scorers
from masklater.judge import sweep as sweep_module
from masklater.judge.data import TaskData
from masklater.judge.encoder import Encoder
from masklater.judge.finetune import Setting
from masklater.judge.grid import GRIDS, Grid, SweepSettings, make_grid
from masklater.judge.sweep import sweep
from masklater.judge.tasks import TASKS, choose_tasks
from masklater.judge.workers import Job
from masklater.lock import only_process
from masklater.machine.precision import Precision
from tests.judge.folders import make_glue
from tests.judge.test_own_data import csv_of, own

ONE = SweepSettings(Grid((1e-3,), (8,), 1), seeds=2)
TWO_TASKS = [TASKS["cola"], TASKS["rte"]]


def lines_of(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "runs.jsonl").read_text().splitlines()]


def without_time(records: list[dict]) -> list[dict]:
    return [{name: value for name, value in record.items() if name != "seconds"} for record in records]


def test_the_grids_are_the_papers() -> None:
    assert GRIDS["paper"] == Grid((1e-5, 2e-5, 3e-5), (16, 32), 10)
    assert make_grid("quick", "1e-4, 3e-4", "8", None) == Grid((1e-4, 3e-4), (8,), 3)
    assert make_grid("single", None, None, 2) == Grid((2e-5,), (32,), 2)
    for wrong in ("", "1e-4,", "fast", "-1", "inf", "nan"):
        with pytest.raises(UserError, match="--lr"):
            make_grid("quick", wrong, None, None)
    with pytest.raises(UserError, match=r"--batch 16,8\.5: '8\.5' is not a positive whole number"):
        make_grid("quick", None, "16,8.5", None)
    for lr, batch, what in (("1e-4,3e-4,0.0001", None, r"--lr .*: 0\.0001 "), (None, "16,8, 16", "--batch .*: 16 ")):
        with pytest.raises(UserError, match=f"{what}stands there twice"):  # never silently reduced to one
            make_grid("quick", lr, batch, None)


def test_all_nine_tasks_make_the_table(encoder_folder: Path, glue_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores"
    result = sweep(
        str(encoder_folder), str(glue_folder), out, choose_tasks("all"), SweepSettings(Grid((1e-3,), (8,), 1), seeds=1)
    )
    assert result.faults == {}
    scores = json.loads((out / "scores.json").read_text())
    assert scores == json.loads(json.dumps(result.scores))
    assert list(scores["tasks"]) == list(TASKS)
    assert scores["encoder"]["path"] == str(encoder_folder) and scores["encoder"]["run"] is None
    assert list(scores["tasks"]["mnli"]["metric"]) == ["accuracy", "accuracy_mismatched"]
    eight = [entry["metric"][entry["main"]]["median"] for key, entry in scores["tasks"].items() if key != "wnli"]
    assert scores["average"] == {"value": pytest.approx(statistics.mean(eight)), "tasks": 8, "missing": []}
    for record in lines_of(out):
        assert record["encoder_sha256"] == scores["encoder"]["sha256"] and len(record["data_sha256"]) == 64
        assert record["versions"]["torch"] == torch.__version__ and record["seconds"] > 0
        assert record["max_length"] == 32 and record["protocol"]["weight_decay"] == 0.1
    markdown = (out / "scores.md").read_text()
    assert "| average of 8 |" in markdown and "officially 392,702" in markdown and "rows cut to 32 tokens" in markdown
    assert scores["encoder"]["sha256"] in markdown and "WNLI (not averaged)" in markdown


def test_a_missing_and_a_damaged_task_do_not_stop_the_others(
    encoder_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    glue = make_glue(tmp_path / "glue")
    shutil.rmtree(glue / "QNLI")
    path = glue / "RTE/dev.tsv"
    path.write_text(path.read_text() + "cut sho")
    tasks = [TASKS[key] for key in ("cola", "qnli", "rte")]
    result = sweep(str(encoder_folder), str(glue), tmp_path / "scores", tasks, ONE)
    assert list(result.scores["tasks"]) == ["cola"]
    assert "there is no folder" in result.faults["qnli"] and "RTE/dev.tsv, line 14: 1 fields" in result.faults["rte"]
    text = table.as_text(result.scores)
    assert "average of 1, not GLUE's" in text and "Not scored:" in text
    with pytest.raises(UserError, match=r"there is no folder .*QNLI"):  # nothing at all to score
        sweep(str(encoder_folder), str(glue), tmp_path / "other", [TASKS["qnli"]], ONE)
    assert not (tmp_path / "other").exists()


def test_a_run_is_exported_and_scored(run_folder: Path, glue_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores"
    result = sweep(str(run_folder), str(glue_folder), out, [TASKS["rte"]], ONE)
    assert result.scores["encoder"]["run"] == str(run_folder) and result.scores["encoder"]["step"] == 4
    assert result.scores["encoder"]["path"] == str(out / "encoder")
    more = SweepSettings(ONE.grid, seeds=3)
    again = sweep(str(run_folder), str(glue_folder), out, [TASKS["rte"]], more, resume=True)
    assert again.scores["tasks"]["rte"]["metric"]["accuracy"]["count"] == 3
    by_encoder = sweep(str(out / "encoder"), str(glue_folder), out, [TASKS["rte"]], more, resume=True)
    assert by_encoder.scores["encoder"]["run"] == str(run_folder)  # sweep.json remembers
    assert len(lines_of(out)) == 3


def test_a_run_that_has_gone_on_is_refused_by_name(
    run_folder: Path, shards_folder: Path, glue_folder: Path, tmp_path: Path
) -> None:
    from masklater.pretrain.loop import pretrain
    from tests.conftest import tiny

    run, out = tmp_path / "run", tmp_path / "scores"
    shutil.copytree(run_folder, run)
    sweep(str(run), str(glue_folder), out, [TASKS["rte"]], ONE)
    pretrain(tiny("3ml-small", "duration.steps=6"), shards_folder, run, resume=True)
    with pytest.raises(UserError, match="is at step 6 now, which is not the encoder in"):
        sweep(str(run), str(glue_folder), out, [TASKS["rte"]], ONE, resume=True)


def stop_after(monkeypatch: pytest.MonkeyPatch, runs: int, error: BaseException | None = None) -> None:
    """The sweep meets the error, or a Ctrl-C, in the run after so many."""
    original = scorers.Scorer.score
    done = 0

    def score(self: scorers.Scorer, data: TaskData, setting: Setting, *rest: object) -> object:
        nonlocal done
        done += 1
        if done > runs:
            if error is not None:
                raise error
            os.kill(os.getpid(), signal.SIGINT)
        return original(self, data, setting, *rest)

    monkeypatch.setattr(scorers.Scorer, "score", score)


def test_a_killed_sweep_resumes_at_the_first_missing_run(
    encoder_folder: Path, glue_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    expected = sweep(str(encoder_folder), str(glue_folder), whole, TWO_TASKS, ONE)
    with monkeypatch.context() as patch:
        stop_after(patch, 2, RuntimeError("the machine went away"))
        with pytest.raises(RuntimeError, match="went away"):
            sweep(str(encoder_folder), str(glue_folder), killed, TWO_TASKS, ONE)
    assert len(lines_of(killed)) == 2 and not (killed / "scores.json").exists()
    with (killed / "runs.jsonl").open("a") as file:
        file.write('{"task": "rte", "lr": 0.0')  # killed inside a write
    runs = []
    original = scorers.Scorer.score

    def score(self: scorers.Scorer, data: TaskData, setting: Setting, *rest: object) -> object:
        runs.append((data.task.key, setting.seed))
        return original(self, data, setting, *rest)

    monkeypatch.setattr(scorers.Scorer, "score", score)
    with pytest.raises(UserError, match="holds a sweep already"):
        sweep(str(encoder_folder), str(glue_folder), killed, TWO_TASKS, ONE)
    result = sweep(str(encoder_folder), str(glue_folder), killed, TWO_TASKS, ONE, resume=True)
    assert runs == [("rte", 0), ("rte", 1)]
    assert without_time(lines_of(killed)) == without_time(lines_of(whole))
    assert result.scores["tasks"] == expected.scores["tasks"]


def test_ctrl_c_keeps_finished_runs(
    encoder_folder: Path, glue_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "scores"
    with monkeypatch.context() as patch:
        stop_after(patch, 1)
        with pytest.raises(Interrupted, match="stopped; 1 of 4 runs are kept, go on with --resume") as raised:
            sweep(str(encoder_folder), str(glue_folder), out, TWO_TASKS, ONE)
    assert raised.value.signal_number == signal.SIGINT and raised.value.result["runs"] == 1
    assert len(lines_of(out)) == 1
    assert len(sweep(str(encoder_folder), str(glue_folder), out, TWO_TASKS, ONE, resume=True).scores["tasks"]) == 2


def test_what_may_not_change_on_resume(encoder_folder: Path, tmp_path: Path) -> None:
    glue, out = make_glue(tmp_path / "glue"), tmp_path / "scores"
    tasks = [TASKS["rte"]]
    with pytest.raises(UserError, match="there is no sweep in"):
        sweep(str(encoder_folder), str(glue), out, tasks, ONE, resume=True)
    sweep(str(encoder_folder), str(glue), out, tasks, ONE)

    other = tmp_path / "other"
    shutil.copytree(encoder_folder, other)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "hidden_dropout_prob": 0.2}))
    with pytest.raises(UserError, match=f"another encoder: it began with {encoder_folder}.*{other} has"):
        sweep(str(other), str(glue), out, tasks, ONE, resume=True)
    longer = SweepSettings(Grid((1e-3,), (8,), 2), seeds=2, max_train_rows=5)
    with pytest.raises(UserError, match="epochs was 1, is 2; max_train_rows was None, is 5"):
        sweep(str(encoder_folder), str(glue), out, tasks, longer, resume=True)

    path = glue / "RTE/train.tsv"
    path.write_text(path.read_text() + "99\tkan\tlot\tentailment\n")
    with pytest.raises(UserError, match=r"the data of rte is not what .*runs\.jsonl was scored on"):
        sweep(str(encoder_folder), str(glue), out, tasks, ONE, resume=True)
    sweep(str(encoder_folder), str(glue), out, [TASKS["wnli"]], ONE, resume=True)  # other tasks may be added
    (out / "runs.jsonl").write_text("{}\n" + (out / "runs.jsonl").read_text())
    with pytest.raises(DamagedDataError, match="line 1 is no record of a run"):
        sweep(str(encoder_folder), str(glue), out, [TASKS["wnli"]], ONE, resume=True)


def test_runs_of_two_arithmetics_do_not_mix(
    encoder_folder: Path, glue_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that computes in bfloat16, and one that does not; or another version's weight decay."""
    out = tmp_path / "scores"
    more, arguments = SweepSettings(ONE.grid, seeds=3), (str(encoder_folder), str(glue_folder), out, [TASKS["rte"]])

    def computes_in(name: str) -> None:
        monkeypatch.setattr(scorers, "choose_precision", lambda _, device: Precision(name, "the test says so", device))

    computes_in("bfloat16")
    sweep(*arguments, ONE)
    kept = (out / "runs.jsonl").read_text()
    computes_in("float32")
    with pytest.raises(
        UserError, match=r"in .*runs\.jsonl were computed with precision bfloat16, which here is float32"
    ):
        sweep(*arguments, more, resume=True)
    with monkeypatch.context() as patch:
        patch.setattr(finetune, "PROTOCOL", replace(finetune.PROTOCOL, weight_decay=0.5))
        with pytest.raises(UserError, match=r"computed with weight_decay 0\.1, which here is 0\.5; precision bf"):
            sweep(*arguments, more, resume=True)
    assert (out / "runs.jsonl").read_text() == kept
    computes_in("bfloat16")
    assert sweep(*arguments, more, resume=True).scores["runs"] == 3
    computes_in("float32")  # records of before, which do not say in what they were computed
    fields = [
        {name: value for name, value in record.items() if name not in {"precision", "protocol"}}
        for record in lines_of(out)
    ]
    (out / "runs.jsonl").write_text("".join(f"{json.dumps(each)}\n" for each in fields))
    assert sweep(*arguments, more, resume=True).scores["runs"] == 3


def test_all_devices_compute_in_what_the_first_one_does(
    encoder_folder: Path, glue_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker is handed it: by themselves two kinds of GPU may choose differently."""
    monkeypatch.setattr(scorers, "choose_precision", lambda wanted, device: Precision({"auto": "float16"}.get(wanted, wanted), "", device))  # fmt: skip
    handed: list[str] = []

    class OnePlace:
        def __init__(
            self, encoder: Encoder, rows: dict[str, TaskData], jobs: list[Job], devices: object, precision: str
        ) -> None:
            self.encoder, self.rows, self.jobs = encoder, rows, jobs
            handed.append(precision)

        def run(self, stop: object) -> Iterator[dict]:
            made = scorers.Scorer(self.encoder, torch.device("cpu"), precision=handed[0])
            yield from (made.score(self.rows[job.task], job.setting) for job in self.jobs)

    monkeypatch.setattr(sweep_module, "Workers", OnePlace)
    two = [torch.device("cpu"), torch.device("cpu")]
    sweep(str(encoder_folder), str(glue_folder), tmp_path / "scores", [TASKS["rte"]], ONE, devices=two)
    assert handed == ["float16"] == list({record["precision"] for record in lines_of(tmp_path / "scores")})


def test_an_encoder_whose_own_code_mixes_types_is_scored_in_float32(
    encoder_folder: Path,
    glue_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """X-MOD, which no option could have judged on a machine that computes in bfloat16."""
    monkeypatch.setattr(
        scorers,
        "choose_precision",
        lambda wanted, device: Precision({"auto": "bfloat16"}.get(wanted, wanted), "", device),
    )
    small = json.loads((encoder_folder / "config.json").read_text())
    config = XmodConfig(**{**small, "languages": ["en_XX"], "default_language": "en_XX"})
    encoder = tmp_path / "xmod"
    XmodModel(config, add_pooling_layer=False).save_pretrained(encoder)
    AutoTokenizer.from_pretrained(encoder_folder).save_pretrained(encoder)
    sweep(str(encoder), str(glue_folder), tmp_path / "scores", [TASKS["rte"]], ONE)
    assert {record["precision"] for record in lines_of(tmp_path / "scores")} == {"float32"}
    assert f"computing in float32: {encoder} does not in bfloat16 (Index put" in capsys.readouterr().err
    sweep(str(encoder_folder), str(glue_folder), tmp_path / "others", [TASKS["rte"]], ONE)
    assert {record["precision"] for record in lines_of(tmp_path / "others")} == {"bfloat16"}


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, torch.AcceleratorError])
def test_memory_that_is_short_is_told_with_the_batch_that_it_was_short_for(
    error: Callable[[str], Exception],
    encoder_folder: Path,
    glue_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def finetune(*_: object) -> None:
        raise error("CUDA error: out of memory")

    monkeypatch.setattr(scorers, "finetune", finetune)
    with pytest.raises(UserError, match=r"RTE does not fit into the memory of .* at batch 8\n.*smaller --batch"):
        sweep(str(encoder_folder), str(glue_folder), tmp_path / "scores", [TASKS["rte"]], ONE)


def test_nothing_is_overwritten_and_nothing_left_behind(
    glue_folder: Path, encoder_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("keep")
    with pytest.raises(UserError, match="exists already"):
        sweep(str(encoder_folder), str(glue_folder), tmp_path / "mine", TWO_TASKS, ONE)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]
    broken = tmp_path / "broken"
    shutil.copytree(encoder_folder, broken)
    (broken / "tokenizer.json").write_text("{")
    with pytest.raises(UserError, match=r"the tokenizer of .*broken does not load"):
        sweep(str(broken), str(glue_folder), tmp_path / "scores", TWO_TASKS, ONE)
    assert not (tmp_path / "scores").exists()


def test_a_diverged_run_counts_as_0_and_is_named(encoder_folder: Path, glue_folder: Path, tmp_path: Path) -> None:
    settings = SweepSettings(Grid((1e30, 1e-3), (8,), 1), seeds=1)
    scores = sweep(str(encoder_folder), str(glue_folder), tmp_path / "scores", [TASKS["rte"]], settings).scores
    entry = scores["tasks"]["rte"]
    assert entry["setting"]["lr"] == 1e-3 and entry["grid"][1]["median"] == 0  # in the order of rates
    hot = SweepSettings(Grid((1e30,), (8,), 1), seeds=1)
    entry = sweep(str(encoder_folder), str(glue_folder), tmp_path / "hot", [TASKS["rte"]], hot).scores["tasks"]["rte"]
    assert entry["metric"]["accuracy"]["values"] == [0.0] and "seed 0 diverged" in entry["note"]


def test_a_run_that_diverged_is_never_the_best() -> None:
    """Shown as 0, it would be above a correlation of less."""
    encoder = {"path": "e", "sha256": "s", "run": None, "step": None}
    records = [fake_record(0, 1e-5, []), fake_record(0, 2e-5, [-4.0])]
    entry = table.summarise(records, {}, encoder, {"lr": [1e-5, 2e-5], "batch": [16], "epochs": 1})["tasks"]["mrpc"]
    assert entry["setting"]["lr"] == 2e-5 and entry["metric"]["accuracy"]["median"] == -4


def test_a_task_with_named_dev_files_that_diverged_has_its_rows(encoder_folder: Path, tmp_path: Path) -> None:
    lines = ["text,label", *(f"kan lot {i % 5},{'ab'[i % 2]}" for i in range(12))]
    file = csv_of(tmp_path / "a.csv", lines)
    task = own(file, dev={"dev_hi": file, "dev_th": file})
    hot = SweepSettings(Grid((1e30,), (8,), 1), seeds=1)
    scores = sweep(str(encoder_folder), None, tmp_path / "scores", [task], hot).scores
    assert [row[1] for row in table.table_rows(scores)] == ["accuracy_hi", "accuracy_th"]
    text = (tmp_path / "scores" / "scores.md").read_text()
    assert "seed 0 diverged" in text and text.count("| diverged |") == 2


def test_one_process_works_on_a_sweep_and_a_run_counts_once(
    encoder_folder: Path,
    glue_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "scores"
    first = sweep(str(encoder_folder), str(glue_folder), out, [TASKS["rte"]], ONE).scores
    with (
        only_process(out, "{}"),
        pytest.raises(UserError, match=r"the sweep in .*scores is being worked on by process"),
    ):
        sweep(str(encoder_folder), str(glue_folder), out, [TASKS["rte"]], ONE, resume=True)
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    with monkeypatch.context() as late:  # it was empty when the slower of two looked
        late.setattr("masklater.folders.refuse_existing", lambda path: None)
        late.setattr(sweep_module, "refuse_existing", lambda path: None)
        with only_process(fresh, "{}"), pytest.raises(UserError, match="is being worked on by"):
            (fresh / "sweep-of-the-faster").write_text("kept")
            sweep(str(encoder_folder), str(glue_folder), fresh, [TASKS["rte"]], ONE)
    assert (fresh / "sweep-of-the-faster").read_text() == "kept"
    lines = (out / "runs.jsonl").read_text()
    (out / "runs.jsonl").write_text(lines + lines.splitlines(keepends=True)[0])
    again = sweep(str(encoder_folder), str(glue_folder), out, [TASKS["rte"]], ONE, resume=True).scores
    assert again["tasks"] == first["tasks"] and again["runs"] == 2
    assert "1 runs stand there a second time" in capsys.readouterr().err


def test_scores_that_are_not_finite_in_a_record_of_before_count_as_diverged(
    encoder_folder: Path, glue_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "scores"
    settings = SweepSettings(Grid((1e-3, 2e-3), (8,), 1), seeds=1)
    sweep(str(encoder_folder), str(glue_folder), out, [TASKS["stsb"]], settings)
    first, second = lines_of(out)
    first["scores"][0]["pearson"] = float("nan")
    (out / "runs.jsonl").write_text(f"{json.dumps(first)}\n{json.dumps(second)}\n")
    scores = sweep(str(encoder_folder), str(glue_folder), out, [TASKS["stsb"]], settings, resume=True).scores
    assert scores["tasks"]["stsb"]["setting"]["lr"] == 2e-3 and scores["tasks"]["stsb"]["grid"][0]["values"] == [0]
    assert "1 runs stand there with scores that are not finite" in capsys.readouterr().err


def test_fewer_training_rows_stand_in_the_table(encoder_folder: Path, glue_folder: Path, tmp_path: Path) -> None:
    settings = SweepSettings(ONE.grid, seeds=1, max_train_rows=9)
    result = sweep(str(encoder_folder), str(glue_folder), tmp_path / "scores", [TASKS["rte"]], settings)
    entry = result.scores["tasks"]["rte"]
    assert entry["rows"] == {"train": 9, "dev": 12} and "trained on 9 of 24 rows" in entry["note"]
    assert lines_of(tmp_path / "scores")[0]["max_train_rows"] == 9


def fake_record(seed: int, lr: float, epochs: list[float], **more: object) -> dict:
    scores = [{"accuracy": value, "f1": 100 - value, "loss": 0.5} for value in epochs]
    best = epochs.index(max(epochs)) + 1 if epochs else None
    record = {"task": "mrpc", "lr": lr, "batch": 16, "epochs": 2, "seed": seed, "scores": scores, "best_epoch": best}
    rest = {"diverged": not epochs, "seconds": 60.0, "rows": {"train": 3668, "dev": 408}, "truncated_rows": {}}
    return (
        record
        | rest
        | {"max_length": 128, "data_sha256": "d", "notes": [], "versions": {"torch": "1"}, "hardware": "GPU"}
        | more
    )


def test_the_table_is_the_median_over_seeds_at_the_best_grid_point() -> None:
    counts = {"trained": 1000, "stored": 1000, "head": 50, "encoder": 9000}
    records = [
        fake_record(2, 1e-5, [70, 75]), fake_record(0, 1e-5, [60, 50]), fake_record(1, 1e-5, [65, 66]),  # median 66
        fake_record(0, 2e-5, [80, 70], parameters=counts), fake_record(1, 2e-5, [71, 72]), fake_record(2, 2e-5, [], seconds=90.0),  # median 72
        fake_record(0, 3e-5, [99, 99]), fake_record(1, 3e-5, [10, 11]), fake_record(2, 3e-5, [12, 11]),  # median 12
    ]  # fmt: skip
    settings = {"lr": [1e-5, 2e-5, 3e-5], "batch": [16], "epochs": 2}
    encoder = {"path": "e", "sha256": "s", "run": None, "step": None}
    scores = table.summarise(records, {}, encoder, settings)
    entry = scores["tasks"]["mrpc"]
    assert entry["setting"] == {"lr": 2e-5, "batch": 16, "epochs": 2}
    assert entry["metric"]["accuracy"] == {"median": 72, "min": 0, "max": 80, "count": 3, "values": [80, 72, 0]}
    assert entry["metric"]["f1"]["values"] == [20, 28, 0]  # of the epoch that accuracy chose
    assert [point["median"] for point in entry["grid"]] == [66, 72, 12]
    assert entry["main"] == "accuracy" and entry["note"].startswith("seed 2 diverged")
    assert scores["average"]["value"] == 72 and scores["average"]["tasks"] == 1 and scores["seconds"] == 570
    lines = table.as_text(scores).splitlines()
    assert lines[0].split() == [
        "task",
        "metric",
        "median",
        "min",
        "max",
        "seeds",
        "lr",
        "batch",
        "epochs",
        "train",
        "rows",
        "dev",
        "rows",
        "trained",
        "seconds",
    ]
    setting = ["3", "2e-05", "16", "2", "3,668", "408"]
    assert lines[1].split() == ["MRPC*", "accuracy", "72.00", "0.00", "80.00", *setting, "1,050", "60.0"]
    assert len({len(line) for line in lines[:3]}) == 1  # columns line up


def test_a_grid_point_that_lacks_runs_is_passed_over_and_said() -> None:
    records = [fake_record(0, 1e-5, [60]), fake_record(1, 1e-5, [62]), fake_record(0, 2e-5, [99])]
    settings = {"lr": [1e-5, 2e-5], "batch": [16], "epochs": 2}
    encoder = {"path": "e", "sha256": "s", "run": None, "step": None}
    entry = table.summarise(records, {}, encoder, settings)["tasks"]["mrpc"]
    assert entry["setting"]["lr"] == 1e-5 and entry["metric"]["accuracy"]["median"] == 61
    assert "some grid points lack runs" in entry["note"]
    whole = table.summarise([*records, fake_record(1, 2e-5, [98])], {}, encoder, settings)["tasks"]["mrpc"]
    assert whole["setting"]["lr"] == 2e-5 and whole["note"] is None


def test_of_grid_points_that_tie_the_order_of_runs_does_not_choose() -> None:
    records = [fake_record(seed, lr, [80]) for seed in (0, 1) for lr in (1e-5, 2e-5)]
    settings = {"lr": [1e-5, 2e-5], "batch": [16], "epochs": 2}
    encoder = {"path": "e", "sha256": "s", "run": None, "step": None}
    for order in (records, records[::-1]):
        assert table.summarise(order, {}, encoder, settings)["tasks"]["mrpc"]["setting"]["lr"] == 1e-5


@pytest.mark.slow  # each process imports torch and transformers anew
def test_two_devices_give_what_one_gives(encoder_folder: Path, glue_folder: Path, tmp_path: Path) -> None:
    """The path that several GPUs take, on two processes of the CPU."""
    two = [torch.device("cpu"), torch.device("cpu")]
    one = sweep(str(encoder_folder), str(glue_folder), tmp_path / "one", TWO_TASKS, ONE)
    side_by_side = sweep(str(encoder_folder), str(glue_folder), tmp_path / "two", TWO_TASKS, ONE, devices=two)
    assert side_by_side.scores["tasks"] == one.scores["tasks"]
    order = ("task", "seed")
    first, second = (
        sorted(without_time(lines_of(tmp_path / name)), key=lambda record: [record[part] for part in order])
        for name in ("one", "two")
    )
    assert first == second


def test_the_command_reports_faults_and_says_so_in_its_status(
    encoder_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    glue, out = make_glue(tmp_path / "glue"), tmp_path / "scores"
    shutil.rmtree(glue / "WNLI")
    options = ["--tasks", "wnli,rte", "--seeds", "1", "--grid", "quick", "--epochs", "1", "--json"]
    monkeypatch.setattr(
        sys, "argv", ["masklater", "glue", str(encoder_folder), "--data", str(glue), "--out", str(out), *options]
    )
    with pytest.raises(SystemExit) as left:
        main()
    said = capsys.readouterr()
    assert left.value.code == 2
    assert "1 of 2 tasks could not be scored" in said.err and "WNLI" in said.err and "Traceback" not in said.err
    assert re.search(r"WNLI.*\n    \S.*\.\n", said.err), "what to do about it"
    scores = json.loads(said.out.splitlines()[-1])
    assert list(scores["tasks"]) == ["rte"] and scores["settings"]["epochs"] == 1


@pytest.mark.slow
def test_a_killed_process_resumes(encoder_folder: Path, tmp_path: Path) -> None:
    """SIGKILL, at whatever moment: what is on disk is enough to go on."""
    glue, out = make_glue(tmp_path / "glue", train=400), tmp_path / "scores"
    options = ["--tasks", "cola,rte,stsb", "--seeds", "3", "--epochs", "2", "--grid", "quick"]
    paths = [str(encoder_folder), "--data", str(glue), "--out", str(out)]
    command = [sys.executable, "-m", "masklater", "glue", *paths, *options]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 600
    while not (out / "runs.jsonl").exists() or len((out / "runs.jsonl").read_bytes().splitlines()) < 2:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.wait()
    kept = [line for line in (out / "runs.jsonl").read_text().splitlines(keepends=True) if line.endswith("\n")]
    assert 2 <= len(kept) < 9
    subprocess.run([*command, "--resume"], check=True, capture_output=True, timeout=300)
    assert (out / "runs.jsonl").read_text().startswith("".join(kept)) and len(lines_of(out)) == 9
