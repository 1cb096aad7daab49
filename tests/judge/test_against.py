"""Comparisons: the bootstrap against arithmetic and a slow twin, and two encoders on the same tasks, resumed."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel

from masklater.cli import main
from masklater.errors import DamagedDataError, UserError
from masklater.judge import bootstrap
from masklater.judge.against import as_markdown, judge
from masklater.judge.bootstrap import compare_answers
from masklater.judge.data import Split, WordSplit
from masklater.judge.grid import Grid, SweepSettings
from masklater.judge.metrics import compute_metrics, compute_tag_metrics
from masklater.judge.tasks import TASKS
from masklater.judge.twin import write_twin
from tests.judge.test_own_data import own
from tests.judge.test_tagging import tagged

rng = np.random.default_rng(0)
TRUTH_N = rng.integers(0, 2, 200).astype(float)
SPLIT = Split(([""] * 200,), TRUTH_N)


def right_in(share: float, seed: int) -> np.ndarray:
    """Predictions of which about this share is right."""
    wrong_N = np.random.default_rng(seed).random(200) > share
    return np.where(wrong_N, 1 - TRUTH_N, TRUTH_N)


def test_the_same_answers_do_not_differ() -> None:
    answers = [right_in(0.8, seed) for seed in range(3)]
    found = compare_answers("accuracy", (), SPLIT, answers, answers)
    assert found.difference == found.low == found.high == 0 and not found.exceeds and found.seeds == 3


def test_differences_beyond_rows_and_seeds_are_told_from_others() -> None:
    good, bad = ([right_in(share, 10 * at + seed) for seed in range(3)] for at, share in enumerate((0.9, 0.6), 1))
    found = compare_answers("accuracy", (), SPLIT, good, bad)
    assert (
        found.exceeds
        and found.low > 15
        and found.difference
        == pytest.approx(
            np.mean([100 * (each == TRUTH_N).mean() for each in good])
            - np.mean([100 * (each == TRUTH_N).mean() for each in bad])
        )
    )
    assert compare_answers("accuracy", (), SPLIT, bad, good).high < -15
    like = compare_answers("accuracy", (), SPLIT, good, [right_in(0.9, 30 + seed) for seed in range(3)])
    assert not like.exceeds and like.low < 0 < like.high
    seeds_differ = [right_in(0.99, 1), right_in(0.5, 2), right_in(0.8, 3)]  # one encoder hangs on its seed: no verdict
    assert not compare_answers(
        "accuracy", (), SPLIT, seeds_differ, [right_in(0.65, 40 + seed) for seed in range(3)]
    ).exceeds


def test_the_interval_is_as_wide_as_statistics_say() -> None:
    """One seed, independent errors: the standard error of a difference of two shares of the same 200 rows."""
    one, other = right_in(0.9, 51), right_in(0.7, 52)
    found = compare_answers("accuracy", (), SPLIT, [one], [other])
    each_N = (one == TRUTH_N).astype(float) - (other == TRUTH_N)
    error = 100 * each_N.std() / np.sqrt(200)
    assert found.low == pytest.approx(found.difference - 1.96 * error, abs=1.2)
    assert found.high == pytest.approx(found.difference + 1.96 * error, abs=1.2)


@pytest.mark.parametrize("metric", ["accuracy", "f1", "macro_f1", "matthews", "pearson", "spearman"])
def test_every_metric_of_rows_is_that_of_the_table(metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "RESAMPLES", 5)
    answers = right_in(0.8, 3)
    found = compare_answers(metric, (), SPLIT, [answers], [right_in(0.6, 4)])
    assert found.one == pytest.approx(compute_metrics((metric,), TRUTH_N, answers)[metric])


@pytest.mark.parametrize("metric", ["accuracy", "entity_f1"])
def test_sentences_are_drawn_whole(metric: str) -> None:
    """A slow twin: the words of the sentences that were drawn, one after the other, scored as the table scores them."""
    classes = ("B-X", "I-X", "O")
    words = [["w"] * length for length in (3, 1, 5, 2)]
    truth_W, answers_W = rng.integers(0, 3, 11), rng.integers(-1, 3, 11)
    split = WordSplit(words, truth_W)
    score: Callable[[np.ndarray], float] = bootstrap._scorer(metric, classes, split, answers_W.astype(float))
    for drawn in (np.array([0, 1, 2, 3]), np.array([2, 2, 0, 3])):
        places = np.concatenate([np.arange(split.starts_N1[row], split.starts_N1[row + 1]) for row in drawn])
        starts = np.cumsum([0, *(len(words[row]) for row in drawn)])
        expected = compute_tag_metrics((metric,), truth_W[places], answers_W[places], starts, classes)[metric]
        assert score(drawn) == pytest.approx(expected)


def test_the_twin_has_the_config_and_nothing_learned(encoder_folder: Path, tmp_path: Path) -> None:
    write_twin(encoder_folder, tmp_path / "twin")
    torch.rand(3)
    write_twin(encoder_folder, tmp_path / "again")
    mine, twin, again = (
        AutoModel.from_pretrained(folder) for folder in (encoder_folder, tmp_path / "twin", tmp_path / "again")
    )
    sizes = ("hidden_size", "num_hidden_layers", "vocab_size", "max_position_embeddings")
    assert [getattr(twin.config, size) for size in sizes] == [getattr(mine.config, size) for size in sizes]
    words = [model.get_input_embeddings().weight for model in (mine, twin, again)]
    assert not torch.equal(words[0], words[1]) and torch.equal(words[1], words[2])
    assert (tmp_path / "twin/tokenizer.json").read_bytes() == (encoder_folder / "tokenizer.json").read_bytes()


def test_against_another_and_the_twin(
    encoder_folder: Path,
    glue_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_twin(encoder_folder, tmp_path / "other")
    out = tmp_path / "scores"
    ner = own(tagged(tmp_path / "a.conll", 8, 1), "token", metrics=("entity_f1",))
    settings = SweepSettings(Grid((1e-3,), (8,), 1), seeds=1)
    arguments = (str(encoder_folder), str(glue_folder), out, [TASKS["mnli"], ner], settings)
    result, comparison = judge(*arguments, False, str(tmp_path / "other"), True)
    assert list(comparison["against"]["tasks"]["mnli"]) == ["accuracy", "accuracy_mismatched"]
    found = comparison["against"]["tasks"]["mnli"]["accuracy"]
    assert found["one"] == result.scores["tasks"]["mnli"]["metric"]["accuracy"]["median"]
    assert (
        found["other"]
        == json.loads((out / "against/scores.json").read_text())["tasks"]["mnli"]["metric"]["accuracy"]["median"]
    )
    assert found["difference"] == found["one"] - found["other"] and found["verdict"] in {
        "higher",
        "lower",
        "within the spread",
    }
    assert comparison["twin"]["encoder"]["path"] == str(out / "twin-encoder")
    assert list(comparison["twin"]["tasks"]["own"]) == ["entity_f1"]
    assert any("one seed says nothing of the spread of seeds" in note for note in comparison["against"]["notes"])
    assert comparison == json.loads((out / "comparison.json").read_text())
    text = (out / "comparison.md").read_text()
    assert text == as_markdown(comparison) and "## Against its random twin" in text and "| mnli | accuracy |" in text
    lines = {name: (out / name / "runs.jsonl").read_text() for name in (".", "against", "twin")}
    shutil.rmtree(out / "twin")  # as if it had been stopped before the twin's turn
    again, same = judge(*arguments, True, str(tmp_path / "other"), True)
    assert same["against"] == comparison["against"] and same["twin"] == comparison["twin"]
    assert [(out / name / "runs.jsonl").read_text() for name in (".", "against")] == [lines["."], lines["against"]]
    (out / again.log.records[0]["predictions"]).unlink()
    with pytest.raises(DamagedDataError, match=r"mnli-0\.001-8-1-0\.npz cannot be read as predictions"):
        judge(*arguments, True, str(tmp_path / "other"), False)
    words = ["judge", str(encoder_folder), "--tasks", "rte", "--data", str(glue_folder), "--out", str(tmp_path / "late"), "--against", "./nowhere"]  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["masklater", *words])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 2 and "there is no such folder" in capsys.readouterr().err
    assert not (tmp_path / "late").exists()  # said before anything was scored


def test_records_of_before_predictions_were_kept(encoder_folder: Path, glue_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores"
    settings = SweepSettings(Grid((1e-3,), (8,), 1), seeds=1)
    arguments = (str(encoder_folder), str(glue_folder), out, [TASKS["rte"]], settings)
    judge(*arguments, False, None, False)
    record = json.loads((out / "runs.jsonl").read_text())
    del record["predictions"]
    (out / "runs.jsonl").write_text(json.dumps(record) + "\n")
    with pytest.raises(UserError, match="recorded without them"):
        judge(*arguments, True, str(encoder_folder), False)
