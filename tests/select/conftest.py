"""Two runs that tell what there is to learn, and the rows that they score: made once, for selections and for tables."""

import json
import random
from pathlib import Path

import pytest

from masklater.corpus.shards import Shards
from masklater.model.masked_lm import MaskLaterForMaskedLM
from masklater.pretrain.batches import EVALUATION_SEED, BatchMaker, make_batches
from masklater.pretrain.loop import pretrain
from masklater.run.folder import RunFolder
from tests.conftest import make_shards, make_text, tiny

LETTERS = "abcdefghijklmnopqrstuvwxyz"
BOILERPLATE = "all rights reserved do not copy this page click here to accept cookies and go on reading our news today"


def noise(seed: int) -> str:
    rng = random.Random(f"noise {seed}")
    return " ".join("".join(rng.choices(LETTERS, k=2)) for _ in range(12))


def trained(data: Path, out: Path, steps: int) -> Path:
    settings = ["model.dropout=0", "batch.rows=16", "batch.micro_rows=16", f"duration.steps={steps}"]
    often = ["optimizer.lr=0.01", "evaluation.every_steps=1000", "checkpoint.every_steps=1000"]
    pretrain(tiny("3ml-small", *settings, *often), data, out)
    return out


def scorer(run: Path, shards: Shards) -> tuple[MaskLaterForMaskedLM, BatchMaker]:
    """The model of a run, and the training rows of SHARDS under its masks of an evaluation."""
    opened = RunFolder(run)
    model, _ = opened.load_model()
    return model, make_batches(shards, shards.train, opened.recipe.masking, True, "document", EVALUATION_SEED)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SHARDS of which a third is noise and boilerplate, a run that has begun on them, and one on good text alone."""
    folder = tmp_path_factory.mktemp("select")
    good = [make_text(seed, 14) for seed in range(160)]
    odd = [*(noise(seed) for seed in range(40)), *[BOILERPLATE] * 40]
    for name, texts in (("shards", good + odd), ("other", [make_text(seed, 14) for seed in range(1000, 1300)])):
        (folder / f"{name}.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in texts))
    make_shards(folder / "shards.jsonl", folder / "shards", vocab_size=330, valid_fraction=0.02)
    make_shards(folder / "other.jsonl", folder / "other", tokenizer=folder / "shards" / "tokenizer")
    trained(folder / "shards", folder / "early", 40)
    trained(folder / "other", folder / "reference", 120)
    return folder
