"""Rows that are chosen: what scores high, what a run reads of them, and what is refused by name."""

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, XmodConfig, XmodForMaskedLM

from masklater.budget.forecast import forecast, rows_of
from masklater.corpus.selection import SelectedShards, read_record, read_scores
from masklater.corpus.shards import Shards
from masklater.corpus.show import show_rows
from masklater.doctor.examine import examine
from masklater.errors import DamagedDataError, Interrupted, UserError
from masklater.machine.precision import choose_precision
from masklater.masking.batch import IGNORE
from masklater.pretrain import loop
from masklater.pretrain.batches import EVALUATION_SEED, make_batches
from masklater.pretrain.evaluate import evaluate
from masklater.pretrain.loop import pretrain
from masklater.pretrain.mixture import Mixture, Source
from masklater.pretrain.sources import mix, open_sources
from masklater.recipe.load import load
from masklater.recipe.timeline import find_spans
from masklater.report.runs import read_run
from masklater.run.folder import RunFolder
from masklater.run.identity import read_identity
from masklater.run.metrics import read_metrics
from masklater.select.score import best, mean_losses, score
from masklater.select.select import SelectResult, select
from tests.conftest import make_shards, tiny
from tests.runs import losses, stop_at, weights
from tests.select.conftest import scorer


@pytest.fixture(scope="session")
def half(folder: Path) -> Path:
    """A SELECTION of half of the rows, beside what it was made of; once, however often a worker comes back here."""
    select_from(folder, folder / "half", 0.5)
    return folder / "half"


def select_from(folder: Path, out: Path, keep: float, micro_rows: int = 32) -> SelectResult:
    runs = folder / "early", folder / "reference"
    return select(folder / "shards", *runs, keep, out, micro_rows=micro_rows, precision="float32")


def kinds(shards: Shards) -> list[str]:
    """Which kind of text each training row holds."""
    found = []
    for row in show_rows(shards, "train", list(range(shards.train.num_rows))):
        words = " ".join(row.documents).split()
        good = sum(len(word) in {3, 4} and word[:2] in {"ka", "lo", "mi", "nu", "re", "so"} for word in words)
        found.append("boilerplate" if "cookies" in words else "good" if good > len(words) / 2 else "noise")
    return found


def test_rows_are_scored_without_cudnn_attention(folder: Path, tmp_path: Path) -> None:
    torch.backends.cuda.enable_cudnn_sdp(True)
    select_from(folder, tmp_path / "selection", 0.5)
    assert not torch.backends.cuda.cudnn_sdp_enabled()


def test_noise_and_boilerplate_are_dropped(folder: Path, half: Path) -> None:
    shards, scores_N = SelectedShards(half), read_scores(half)
    kind_N = np.array(kinds(shards))
    count = Counter(kind_N.tolist())
    assert min(count.values()) > 20, count
    assert shards.rows_K is not None
    kept = Counter(kind_N[shards.rows_K].tolist())
    assert kept["noise"] + kept["boilerplate"] <= 0.05 * len(shards.rows_K), (kept, count)
    for kind in ("noise", "boilerplate"):
        assert scores_N[kind_N == kind].mean() < 0 < scores_N[kind_N == "good"].mean()


def test_a_score_is_the_difference_of_losses_under_the_masks_of_an_evaluation(folder: Path, half: Path) -> None:
    """Row by row what `evaluate` finds over all of them; each row's is what it is in a pass of its own."""
    shards = Shards(folder / "shards")
    precision = choose_precision("float32", torch.device("cpu"))
    by_run = []
    for name in ("early", "reference"):
        model, batches = scorer(folder / name, shards)
        by_run.append(mean_losses(model, batches, 5, precision, "Scoring"))
        (source,) = batches.rows.sources
        number_N = source.find(np.arange(shards.train.num_rows))
        alone = [(evaluate(model, [row], precision), row) for row in batches.fixed(shards.train.num_rows, 1)]
        assert len(alone) == len(number_N)
        for number, (expected, row) in zip(number_N, alone, strict=True):
            assert expected.targets == (row.target_ids_BT != IGNORE).sum()
            assert by_run[-1][number] == pytest.approx(expected.loss, abs=1e-4, nan_ok=True)
    assert np.abs(score(*by_run) - read_scores(half)).max() <= 0.0011  # a digit of rounding


def test_rows_of_the_highest_scores_are_kept_and_of_equal_ones_the_first() -> None:
    early_N = np.array([3.0, 2.0, np.nan, 5.0, 2.0004, 1.0])
    score_N = score(early_N, np.ones(6))
    assert score_N.tolist() == [2.0, 1.0, -np.inf, 4.0, 1.0, 0.0]
    assert best(score_N, 0.5).tolist() == [0, 1, 3]
    assert best(score_N, 4 / 6).tolist() == [0, 1, 3, 4]
    assert best(score_N, 1.0).tolist() == [0, 1, 2, 3, 4, 5]
    assert best(score_N, 0.001).tolist() == [3]


def test_masks_are_the_same_whether_a_model_leaves_tokens_out_or_not(folder: Path) -> None:
    shards, masking = Shards(folder / "shards"), RunFolder(folder / "early").recipe.masking
    drops, sees = (
        next(make_batches(shards, shards.train, masking, drop, "document", EVALUATION_SEED).fixed(20, 20))
        for drop in (True, False)
    )
    for row in range(20):
        pairs: list[set[tuple[int, int]]] = [
            {
                (int(pos), int(target))
                for pos, target in zip(batch.target_pos_BT[row], batch.target_ids_BT[row], strict=True)
                if target != IGNORE
            }
            for batch in (drops, sees)
        ]
        assert pairs[0] == pairs[1] != set()


def test_the_same_rows_whatever_the_size_of_a_pass(folder: Path, half: Path, tmp_path: Path) -> None:
    for micro_rows in (3, 1000):
        select_from(folder, tmp_path / str(micro_rows), 0.5, micro_rows)
        assert (tmp_path / str(micro_rows) / "rows.npy").read_bytes() == (half / "rows.npy").read_bytes()
        assert SelectedShards(tmp_path / str(micro_rows)).fingerprint == SelectedShards(half).fingerprint


def test_keeping_all_gives_the_batches_of_the_shards(folder: Path, tmp_path: Path) -> None:
    select_from(folder, tmp_path / "all", 1.0)
    recipe = tiny("3ml-small", "duration.steps=4")
    pretrain(recipe, folder / "shards", tmp_path / "plain")
    pretrain(recipe, tmp_path / "all", tmp_path / "selected")
    assert losses(tmp_path / "plain") == losses(tmp_path / "selected")
    plain, selected = weights(tmp_path / "plain"), weights(tmp_path / "selected")
    assert all((plain[name] == selected[name]).all() for name in plain)


def source_of(data: Path, recipe_line: str = "") -> tuple[Source, Mixture]:
    recipe = tiny("3ml-small", *([recipe_line] if recipe_line else []))
    sources = open_sources(recipe, data)
    (mixture,) = mix(sources, find_spans(recipe, sources.row_lengths), recipe.seed)
    return mixture.sources[0], mixture


def test_every_kept_row_is_read_once_an_epoch(folder: Path, half: Path) -> None:
    kept = SelectedShards(half).rows_K
    assert kept is not None
    source, mixture = source_of(half)
    assert mixture.num_rows == source.num_rows == len(kept) < source.rows.num_rows
    for epoch in range(3):
        ((_, rows_K),) = mixture.find(np.arange(epoch * len(kept), (epoch + 1) * len(kept)))
        assert sorted(rows_K.tolist()) == kept.tolist()
        assert (mixture.read(np.arange(4)).ids_NL == source.rows.read(mixture.find(np.arange(4))[0][1]).ids_NL).all()
    in_mixture, both = source_of(folder, "data={half: 0.5, other: 0.5}")
    assert in_mixture.num_rows == len(kept)
    (_, of_half_K), _ = both.find(np.arange(2 * len(kept)))
    assert sorted(of_half_K.tolist()) == kept.tolist()


def test_a_run_on_a_selection_is_resumed_and_books_its_cost(
    folder: Path, half: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tiny("3ml-small", "duration.steps=4")
    pretrain(recipe, half, tmp_path / "straight")
    record = read_record(half)
    assert f"{record.kept:,} of {record.rows:,} rows, as selected" in capsys.readouterr().err
    with monkeypatch.context() as stopped, pytest.raises(Interrupted):
        stopped.setattr(loop, "train_step", stop_at(3))
        pretrain(recipe, half, tmp_path / "run")
    with pytest.raises(UserError, match=r"shards is other data than the run .*run began with"):
        pretrain(recipe, folder / "shards", tmp_path / "run", resume=True)
    select_from(folder, tmp_path / "fewer", 0.25)
    with pytest.raises(UserError, match=r"fewer is other data than the run .*run began with"):
        pretrain(recipe, tmp_path / "fewer", tmp_path / "run", resume=True)
    pretrain(recipe, half, tmp_path / "run", resume=True)
    assert losses(tmp_path / "run") == losses(tmp_path / "straight")

    ledger = json.loads((tmp_path / "run" / "ledger.json").read_text())
    early, reference = (json.loads((folder / name / "ledger.json").read_text()) for name in ("early", "reference"))
    shards = folder / "shards"
    assert ledger["flops_selection"] == record.flops
    # Both models are of the recipe's size and read each row once, forward only.
    row = forecast(RunFolder(folder / "early").recipe, rows_of(half)).row
    assert record.flops == pytest.approx(2 * Shards(shards).train.num_rows * row.forward)
    assert ledger["flops_selection_runs"] == pytest.approx(early["flops"] + reference["flops"])
    assert ledger["flops"] == pytest.approx(forecast(recipe, rows_of(half)).total_flops)
    last = [one for one in read_metrics(tmp_path / "run" / "metrics.jsonl") if "loss" in one][-1]
    compared = read_run(tmp_path / "run", "run")
    beside = ledger["flops_selection"] + ledger["flops_selection_runs"]
    assert compared.spent.flops == pytest.approx(last["flops"] + beside)
    assert compared.finished
    assert compared.data_sha256 == Shards(shards).fingerprint  # held-out rows are the same: it compares with others


def test_what_does_not_go_together_is_refused_by_name(folder: Path, half: Path, tmp_path: Path) -> None:
    early, reference, shards = folder / "early", folder / "reference", folder / "shards"
    refused = [
        (shards, early, early, 0.5, "--early and --reference both name .*early"),
        (shards, reference, early, 0.5, "the reference .*early was trained on rows of .*shards"),
        (half, early, reference, 0.5, "half is a SELECTION"),
        (shards, early, reference, 0.0, "--keep 0: it is a share of the rows"),
        (shards, early, tmp_path / "nowhere", 0.5, "there is no run .*nowhere"),
    ]
    make_shards(folder / "shards.jsonl", tmp_path / "larger", vocab_size=335)
    refused.append((tmp_path / "larger", early, reference, 0.5, "early was trained with another tokenizer"))
    make_shards(folder / "shards.jsonl", tmp_path / "longer", row_length=64, tokenizer=shards / "tokenizer")
    refused.append((tmp_path / "longer", early, reference, 0.5, "has rows of 64, and the run .*early positions for 32"))
    for data, one, other, keep, message in refused:
        with pytest.raises(UserError, match=message):
            select(data, one, other, keep, tmp_path / "selection")
        assert not (tmp_path / "selection").exists()
    pretrain(tiny("3ml-small", "duration.steps=1"), half, tmp_path / "on-selected")
    assert read_identity(tmp_path / "on-selected")[0].trained_on(Shards(shards).fingerprint)
    with pytest.raises(UserError, match="on-selected was trained on rows of"):
        select(shards, early, tmp_path / "on-selected", 0.5, tmp_path / "selection")


@pytest.mark.fault
def test_what_has_changed_since_it_was_selected_is_refused_by_name(folder: Path, half: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "shards", tmp_path / "shards")
    shutil.copytree(half, tmp_path / "selection")
    record = json.loads((half / "selection.json").read_text())
    assert record["shards"] == "../shards"
    assert SelectedShards(tmp_path / "selection").fingerprint == SelectedShards(half).fingerprint  # they may be moved
    found = examine(tmp_path / "selection")
    assert not found.problems
    assert f"{record['kept']:,} of {record['rows']:,} rows" in found.facts["SELECTION"]

    for name in ("rows.npy", "scores.npy"):
        path, content = tmp_path / "selection" / name, (half / name).read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        assert any(
            f"{name} has changed since it was written" in str(problem) for problem in examine(path.parent).problems
        )
        path.write_bytes(content)
    (tmp_path / "selection" / "selection.json").write_text('{"format": 1}')
    with pytest.raises(DamagedDataError, match=r"selection.json is damaged at shards"):
        open_sources(tiny("3ml-small"), tmp_path / "selection")
    shutil.copy(half / "selection.json", tmp_path / "selection")

    shutil.rmtree(tmp_path / "shards")
    with pytest.raises(UserError, match=r"selection is of rows of .*shards, where there are no SHARDS"):
        open_sources(tiny("3ml-small"), tmp_path / "selection")
    make_shards(folder / "other.jsonl", tmp_path / "shards", tokenizer=folder / "shards" / "tokenizer")
    with pytest.raises(UserError, match=r"selection was made of other SHARDS than .*shards holds now"):
        open_sources(tiny("3ml-small"), tmp_path / "selection")


def test_a_run_whose_encoder_mixes_types_is_refused_in_bfloat16(folder: Path, tmp_path: Path) -> None:
    vocabulary = Shards(folder / "shards").vocabulary
    config = XmodConfig(
        vocab_size=vocabulary.size, hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=64,
        max_position_embeddings=vocabulary.pad + 1 + 64, type_vocab_size=1, pad_token_id=vocabulary.pad,
        bos_token_id=vocabulary.bos, eos_token_id=vocabulary.eos, languages=["en_XX"], default_language="en_XX",
    )  # fmt: skip
    XmodForMaskedLM(config).save_pretrained(tmp_path / "xmod")
    AutoTokenizer.from_pretrained(folder / "shards" / "tokenizer").save_pretrained(tmp_path / "xmod")
    few = ["batch.rows=8", "duration.steps=1", "evaluation.every_steps=1", "evaluation.rows=2", "precision=float32"]
    pretrain(load("continue", [f"model.from={tmp_path / 'xmod'}", *few]), folder / "shards", tmp_path / "early")
    runs = tmp_path / "early", folder / "reference"
    with pytest.raises(UserError, match=r"type xmod does not compute in bfloat16: .*\n.*--precision float32"):
        select(folder / "shards", *runs, 0.5, tmp_path / "out", precision="bfloat16")
    assert not (tmp_path / "out").exists()
