"""The model card says what is recorded, and what huggingface_hub reads of it is right."""

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from masklater.errors import UserError
from masklater.ledger import Ledger
from masklater.report.card import model_card
from masklater.report.origin import Exported, Origin, read_origin, scores_of
from tests.report.made_up import make_run, make_scores

LEDGER = Ledger(
    steps=10, rows=100, tokens=12_800, tokens_seen=7_680, tokens_predicted=6_400, flops=1e13, flops_head=2e12,
    seconds=360.0, energy_joules=7.2e6, energy_source="made-up meter", skipped_steps=1,
)  # fmt: skip
ENCODER = Exported("tiny-hindi", "BertModel", 1_234_567, has_head=False, has_pooler=False, license="cc-by-sa-4.0")


def source(name: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "documents": 7, "characters": 5000, "tokens": 1300, **fields}


def shards(key: str, *sources: dict[str, Any]) -> dict[str, Any]:
    return {
        "key": key, "sha256": f"{key or 'all'}-hash", "row_length": 128, "train_rows": 50, "train_tokens": 6400,
        "held_out_rows": 5, "sources": list(sources),
    }  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> Path:
    path = make_run(tmp_path / "run", [(5, 4.0), (10, 3.5)])
    data = {"shards": [shards("", source("hf:a/b:hi@main", revision="c" * 40), source("my `texts`|x.txt"))]}
    (path / "data.json").write_text(json.dumps(data))
    return path


def read(run: Path, ledger: Ledger = LEDGER) -> Origin:
    origin, notes = read_origin(run, ledger)
    assert not notes
    return origin


def test_the_front_matter_is_what_the_hub_reads(run: Path) -> None:
    card = ModelCard(model_card(ENCODER, read(run)))
    assert card.data.to_dict() == {
        "library_name": "transformers",
        "license": "cc-by-sa-4.0",
        "pipeline_tag": "feature-extraction",
        "datasets": ["a/b"],
        "tags": ["masklater", "masked-lm", "arxiv:2211.04898"],
    }


def test_what_is_recorded_stands_in_it(run: Path) -> None:
    text = model_card(ENCODER, read(run))
    for part in (
        "# tiny-hindi\n",
        "1,234,567 parameters (`BertModel`)",
        "| `hf:a/b:hi@main, commit cccc",
        "| `my 'texts'\\|x.txt` ",
        "`all-hash`",
        "trained on 12,800 tokens in rows of up to 128: 2.00 times the 6,400",
        "10, 1 of them skipped",
        "1.00·10¹³",
        "6.00 minutes",
        "2.00 kWh (made-up meter)",
        "family: roberta-prelayernorm",
        "3.500 |",
        "4.000 |",
        "At step 10, over 1,000 tokens",
        "url       = {https://arxiv.org/abs/2211.04898}",
    ):
        assert part in text, part
    assert "## Scores" not in text


def test_an_earlier_checkpoint_has_the_evaluation_up_to_it(run: Path) -> None:
    text = model_card(ENCODER, read(run, Ledger(steps=7)))
    assert "At step 5, over 1,000 tokens" in text
    assert "3.500 |" not in text
    assert "There is no evaluation" in model_card(ENCODER, read(run, Ledger(steps=3)))


MASKED = {
    "3ml-small": ([], 0, "50% of a row's tokens are corrupted."),
    "vanilla-dynamic-small": (
        [], 0, "30% of a row's tokens are corrupted, falling to 15% over the run."
    ),
    "3ml-stepwise-small": (
        [], 0, "50% of a row's tokens are corrupted, 40% from 50% of the run on, 30% from 80% of the run on."
    ),
    "3ml-whole-word-small": (
        ["masking.schedule={name: random, low: 0.2, high: 0.6}", "masking.predict=0.5"], 0,
        "20% to 60% of a row's tokens are corrupted, chosen as whole words, drawn at each step; 50% of those are "
        "predicted.",
    ),
    "3ml-muon-causal-first-small": (
        [], 1,
        "In phase 1, 25% of the duration, nothing is masked, positions see those before them, and each next token is "
        "predicted; in phase 2, 75% of the duration, 50% of a row's tokens are corrupted.",
    ),
    "3ml-causal-first-small": (
        [], 0,
        "nothing is masked, positions see those before them, and each next token is predicted. Of its 2 phases 1 had "
        "not begun.",
    ),
    "3ml-base-two-phase": (
        ["phases.1.masking={rate: 0.3, schedule: {name: linear, end: 0.4}}", "phases.0.duration={steps: 9}",
         "phases.0.share=null"], 1,
        "50% of a row's tokens are corrupted; in phase 2, 10% of the duration, 30% of a row's tokens are corrupted, "
        "rising to 40% over the phase.",
    ),
}  # fmt: skip
"""By recipe: what is changed in it, the phase of the last step, and how the card says that it masked."""


@pytest.mark.parametrize("recipe", MASKED)
def test_how_it_was_masked_follows_the_timeline_of_the_recipe(recipe: str, tmp_path: Path) -> None:
    overrides, phase, said = MASKED[recipe]
    run = make_run(tmp_path / "run", [(10, 3.5)], recipe=recipe, overrides=overrides)
    origin, _ = read_origin(run, LEDGER, phase)
    what_it_is = model_card(ENCODER, origin).partition("## How to load")[0]
    assert f" {said} Made with" in what_it_is
    assert what_it_is.count("corrupted") == said.count("corrupted")


def test_a_run_that_is_not_done_and_held_out_rows_at_one_rate(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", [(5, 3.5)], recipe="vanilla-dynamic-small")
    text = model_card(ENCODER, read(run, Ledger(steps=7)))
    assert "over the run. Of its duration, 10 steps, 70.0% is done. Made with" in text
    assert "is done" not in model_card(ENCODER, read(run))
    assert "| masked as in training, but at 30% throughout |" in text


def test_shares_of_a_mixture(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", [(10, 3.5)], overrides=["data={general: 0.7, medical: 0.3}"])
    data = [shards("general", source("g.txt")), shards("medical/rows-128", source("m.txt"))]
    (run / "data.json").write_text(json.dumps({"shards": data}))
    lines = model_card(ENCODER, read(run)).splitlines()
    assert any(line.startswith("| `g.txt` |        70.00% |") for line in lines)
    assert any(line.startswith("| `m.txt` |        30.00% |") for line in lines)


def test_what_is_not_known_is_said(tmp_path: Path) -> None:
    """A run that began before its data was recorded, whose metrics are damaged; no licence, no energy, no loss."""
    run = make_run(tmp_path / "run", [(10, math.nan)])
    plain = Exported("x", "RobertaForMaskedLM", 5, has_head=True, has_pooler=True, license=None)
    text = model_card(plain, read(run, Ledger(steps=10, tokens=5)))
    assert "Sources were not recorded. SHA-256 of the data: `dddd" in text
    assert "not read: there was no counter" in text
    assert "None was told" in text
    assert re.search(r"masked \| +– \| +– \|", text)
    assert "license" not in ModelCard(text).data.to_dict()
    assert ModelCard(text).data.to_dict()["pipeline_tag"] == "fill-mask"
    (run / "metrics.jsonl").write_text("nothing\n")
    (run / "data.json").write_text("{}")
    origin, notes = read_origin(run, LEDGER)
    assert origin.evaluation is None
    assert origin.data is None
    assert len(notes) == 2
    assert "data.json is damaged at shards" in notes[0]
    assert "metrics.jsonl, line 1: not a record" in notes[1]


def test_scores_are_of_this_export_and_no_other(run: Path, tmp_path: Path) -> None:
    make_scores(run / "scores", {"rte": [60.0, 65.0, 62.0]}, run=run, step=10)
    by_hash = make_scores(tmp_path / "own", {"mood|x": [80.0]}, encoder="elsewhere", seeds=1, note="cut to 9 rows")
    (run / "blimp.json").write_text(json.dumps({"accuracy": 71.25, "pairs": 400, "step": 10}))
    found, pairs, notes = scores_of(run, 10, {"e" * 64}, [by_hash])
    assert (len(found), notes) == (2, [])
    assert len(scores_of(run, 10, {"e" * 64}, [by_hash, by_hash, run / ".." / run.name / "scores"])[0]) == 2
    text = " ".join(model_card(ENCODER, read(run), found, pairs).split())
    assert "| mood\\|x | accuracy | 80.0 | 80.0 to 80.0 | 1 | cut to 9 rows |" in text
    assert "| rte | accuracy | 62.0 | 60.0 to 65.0 | 3 | – |" in text
    assert "Minimal pairs told apart, without fine-tuning: 71.2% of 400." in text

    found, pairs, notes = scores_of(run, 8, {"f" * 64}, [])
    assert (found, pairs) == ([], None)
    assert len(notes) == 2
    with pytest.raises(
        UserError, match=r"own scored elsewhere at step 10, which is not what is exported here, .* step 8"
    ):
        scores_of(run, 8, {"f" * 64}, [by_hash])


def test_damaged_scores_of_the_run_are_no_reason_not_to_export(run: Path) -> None:
    make_scores(run / "scores", {"rte": [60.0]}, run=run)
    for file in (run / "scores" / "scores.json", run / "blimp.json"):
        file.write_text("{")
    found, pairs, notes = scores_of(run, 10, set(), [])
    assert (found, pairs) == ([], None)
    assert ["scores.json is damaged" in notes[0], "blimp.json is damaged" in notes[1]] == [True, True]
    with pytest.raises(UserError, match=r"scores\.json is damaged"):
        scores_of(run, 10, set(), [run / "scores"])
