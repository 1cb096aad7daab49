"""Scores of tiny fine-tuning runs on GLUE's nine tasks, written down once. A task read or trained otherwise moves them.

To record them anew after a change that should move them: `python -m tests.golden.test_glue_scores`, and say why in
docs/log.md. The encoder's random weights are of torch's normal distribution, the tokenizer is trained on the text.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, RobertaConfig, RobertaModel

from masklater.judge import scorer
from masklater.judge.grid import Grid, SweepSettings
from masklater.judge.sweep import sweep
from masklater.judge.tasks import TASKS, choose_tasks
from masklater.machine.precision import choose_precision
from tests.conftest import make_shards, make_text
from tests.judge.folders import make_glue

GOLDEN = Path(__file__).with_name("glue_scores.json")
ONE = SweepSettings(Grid((1e-3,), (8,), 2), seeds=1)


def make_encoder(folder: Path) -> Path:
    """A random encoder of one small layer, with a tokenizer of the made-up text."""
    lines = [json.dumps({"text": make_text(i, [5, 30, 80][i % 3])}) for i in range(60)]
    (folder / "corpus.jsonl").write_text("\n".join(lines))
    tokenizer = AutoTokenizer.from_pretrained(make_shards(folder / "corpus.jsonl", folder / "shards") / "tokenizer")
    torch.manual_seed(0)
    pad, ends = tokenizer.pad_token_id, (tokenizer.bos_token_id, tokenizer.eos_token_id)
    config = RobertaConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=pad + 1 + 32, type_vocab_size=1, pad_token_id=pad, bos_token_id=ends[0],
        eos_token_id=ends[1], initializer_range=0.3,  # with 0.02 predictions hardly differ, and rounding ranks them
    )  # fmt: skip
    RobertaModel(config, add_pooling_layer=False).save_pretrained(folder / "encoder")
    tokenizer.save_pretrained(folder / "encoder")
    return folder / "encoder"


def scores(folder: Path) -> dict[str, Any]:
    """By task: the hash of its rows, and every metric and the loss after each epoch, in float32 on any machine."""
    encoder, glue = make_encoder(folder), make_glue(folder / "glue")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scorer, "choose_precision", lambda _, device: choose_precision("float32", device))
        sweep(str(encoder), str(glue), folder / "scores", choose_tasks("all"), ONE)
    records = map(json.loads, (folder / "scores/runs.jsonl").read_text().splitlines())
    return {
        record["task"]: {"data_sha256": record["data_sha256"], "epochs": record["scores"], "best": record["best_epoch"]}
        for record in records
    }


def test_golden(tmp_path: Path) -> None:
    found, golden = scores(tmp_path), json.loads(GOLDEN.read_text())
    assert list(found) == list(golden) == list(TASKS)
    for key, expected in golden.items():
        assert (found[key]["data_sha256"], found[key]["best"]) == (expected["data_sha256"], expected["best"]), key
        for epoch, wanted in zip(found[key]["epochs"], expected["epochs"], strict=True):
            assert epoch == pytest.approx(wanted, rel=5e-5), key


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        GOLDEN.write_text(json.dumps(scores(Path(temporary)), indent=1) + "\n")
