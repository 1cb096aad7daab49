"""Evaluation: what has nothing to predict has no loss, and no run is ranked by one."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from masklater.corpus.prepare import prepare
from masklater.corpus.read import ReadCounts, Source, read_documents
from masklater.corpus.settings import PrepareSettings
from masklater.corpus.shards import Shards
from masklater.machine.precision import choose_precision
from masklater.masking.batch import IGNORE, MaskedBatch
from masklater.model.masked_lm import MaskLaterForMaskedLM
from masklater.pretrain.batches import make_batches
from masklater.pretrain.evaluate import evaluate, unigram_baseline
from masklater.pretrain.loop import pretrain
from masklater.pretrain.start import find_start
from masklater.recipe.masking import COMMON_CORRUPTION
from masklater.report.compare import compare
from masklater.run.metrics import read_metrics
from tests.conftest import tiny
from tests.corpus.kinds import save_kind


def without_targets(batch: MaskedBatch) -> MaskedBatch:
    return replace(batch, target_ids_BT=torch.full_like(batch.target_ids_BT, IGNORE))


def test_no_target_is_no_loss(continuous: Shards) -> None:
    model = MaskLaterForMaskedLM(find_start(tiny(), continuous).config)
    maker = make_batches(continuous, continuous.valid, COMMON_CORRUPTION, True, "document", 0)
    training = make_batches(continuous, continuous.train, COMMON_CORRUPTION, True, "document", 0)
    batches = list(maker.fixed(8, 4))
    emptied = [without_targets(batch) for batch in batches]
    precision = choose_precision("float32", torch.device("cpu"))
    for score in (
        evaluate(model, emptied, precision),
        unigram_baseline(training, emptied),
    ):
        assert math.isnan(score.loss) and math.isnan(score.accuracy)
        assert score.record("_15") == {"valid_targets_15": 0}
    # With targets in one batch alone, these decide.
    some = evaluate(model, [*emptied, batches[0]], precision)
    assert some == evaluate(model, batches[:1], precision)
    assert some.record("") == {
        "valid_targets": some.targets,
        "valid_loss": some.loss,
        "valid_accuracy": some.accuracy,
    }


@pytest.fixture
def nothing_held_out_is_known(tmp_path: Path) -> Path:
    """SHARDS whose held-out documents are unknown to the tokenizer from end to end."""
    lines = []
    for number in range(60):
        for text in (chr(0x4E00 + number) * 20, "The tree " * 3 + str(number)):
            (tmp_path / "one.txt").write_text(text)
            (document,) = read_documents(Source([tmp_path / "one.txt"]), ReadCounts())
            if (document.key < 2**63) == (ord(text[0]) >= 0x4E00):  # the half that --valid-fraction 0.5 holds out
                lines.append(text)
    (tmp_path / "text.txt").write_text("\n".join(lines))
    tokenizer = save_kind("characters", tmp_path / "characters")
    settings = PrepareSettings(
        tokenizer=tokenizer, row_length=32, documents="line", valid_fraction=0.5, max_unknown=0.9
    )
    prepare([tmp_path / "text.txt"], tmp_path / "shards", settings)
    return tmp_path / "shards"


def test_held_out_rows_without_a_target(
    nothing_held_out_is_known: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = pretrain(tiny("3ml-small", "duration.steps=2"), nothing_held_out_is_known, tmp_path / "run")
    assert (result.valid_loss, result.valid_accuracy, result.valid_targets) == (None, None, 0)
    assert (result.valid_loss_15, result.valid_accuracy_15, result.valid_targets_15) == (None, None, 0)
    assert (result.unigram_loss_15, result.hardly_beats_frequencies) == (None, False)
    assert "nothing to predict" in capsys.readouterr().err
    records = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert {"step": 2, "valid_targets": 0, "valid_targets_15": 0} in records
    assert "NaN" not in (tmp_path / "run" / "metrics.jsonl").read_text()
    pretrain(tiny("vanilla-small", "duration.steps=2"), nothing_held_out_is_known, tmp_path / "other")
    compare([tmp_path / "run", tmp_path / "other"], tmp_path / "report")
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    points = [point for run in report["runs"] for point in run["evaluations"]]
    assert [(point["loss"], point["own_loss"], point["targets"]) for point in points] == [(None, None, 0)] * 2
    assert "had nothing to predict" in (tmp_path / "report" / "report.md").read_text()
