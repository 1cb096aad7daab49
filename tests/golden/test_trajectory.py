"""Twenty losses of a few tiny runs, written down once. A change that should not move the maths must not move these.

To record them anew after a change that should: `python -m tests.golden.test_trajectory`, and say why in docs/log.md.
"""

import json
import tempfile
from pathlib import Path

import pytest

from masklater.pretrain.loop import pretrain
from masklater.run.metrics import read_metrics
from tests.conftest import make_shards, make_text, tiny

GOLDEN = Path(__file__).with_name("losses.json")
RUNS = {
    "3ml": ("3ml-small", ()),
    "3ml-post-norm-muon": (
        "3ml-small",
        ("model.family=roberta", "optimizer.name=muon", "optimizer.adamw_lr=1e-3", "optimizer.lr=0.02"),
    ),
    "3ml-cross-spans": ("3ml-cross-small", ("masking.choose=span",)),
    "late-entry": ("late-entry-small", ("decoder.enter_layer=1",)),
    "3ml-modernbert": ("3ml-modernbert-small", ()),
    "vanilla": ("vanilla-small", ("schedule.name=cosine",)),
    "vanilla-dynamic": ("vanilla-dynamic-small", ()),
}


def trajectory(folder: Path, name: str, *more: str) -> list[float]:
    recipe_name, overrides = RUNS[name]
    lines = [json.dumps({"text": make_text(i, [5, 30, 80][i % 3])}) for i in range(60)]
    (folder / "corpus.jsonl").write_text("\n".join(lines))
    data = make_shards(folder / "corpus.jsonl", folder / "data")
    recipe = tiny(recipe_name, "model.dropout=0", "duration.steps=20", "evaluation.every_steps=20", *overrides, *more)
    pretrain(recipe, data, folder / "run")
    return [record["loss"] for record in read_metrics(folder / "run" / "metrics.jsonl") if "loss" in record]


@pytest.mark.parametrize("name", RUNS)
def test_golden(name: str, tmp_path: Path) -> None:
    # Muon orthogonalises in bfloat16 or float32, as the CPU has it.
    tolerance = 2e-3 if "muon" in name else 5e-5
    assert trajectory(tmp_path, name) == pytest.approx(json.loads(GOLDEN.read_text())[name], rel=tolerance)


def record() -> None:
    """Write the losses down."""
    losses = {}
    for name in RUNS:
        with tempfile.TemporaryDirectory() as folder:
            losses[name] = trajectory(Path(folder), name)
    GOLDEN.write_text(json.dumps(losses, indent=1) + "\n")


if __name__ == "__main__":
    record()
