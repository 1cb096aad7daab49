"""Twenty losses of a few tiny runs, written down once. A change that should not move the maths must not move these.

To record them anew after a change that should: `python -m tests.golden.test_trajectory`, and say why in docs/log.md.
"""

import json
import math
import tempfile
from pathlib import Path

import pytest
import torch
from transformers import initialization as init

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
    "vanilla-dynamic": ("vanilla-dynamic-small", ("masking.schedule.levels=null",)),  # as it was before levels
}


def trajectory(folder: Path, name: str, *more: str) -> list[float]:
    recipe_name, overrides = RUNS[name]
    lines = [json.dumps({"text": make_text(i, [5, 30, 80][i % 3])}) for i in range(60)]
    (folder / "corpus.jsonl").write_text("\n".join(lines))
    data = make_shards(folder / "corpus.jsonl", folder / "data")
    recipe = tiny(recipe_name, "model.dropout=0", "duration.steps=20", "evaluation.every_steps=20", *overrides, *more)
    pretrain(recipe, data, folder / "run")
    return [record["loss"] for record in read_metrics(folder / "run" / "metrics.jsonl") if "loss" in record]


def truncates_by_rejection() -> bool:
    """Whether `trunc_normal_` draws normal numbers and those outside again, as torch 2.13 does; 2.11 inverts the CDF."""
    plain, truncated = torch.empty(64), torch.empty(64)
    for draw in (plain.normal_, lambda: torch.nn.init.trunc_normal_(truncated, a=-9.0, b=9.0)):
        torch.manual_seed(0)
        draw()
    return torch.equal(plain, truncated)


def golden_name(name: str) -> str:
    """ModernBERT's initial weights depend on how torch draws them, and with them all losses."""
    return name if name != "3ml-modernbert" or truncates_by_rejection() else "3ml-modernbert, CDF inverted"


def test_both_ways_to_draw_are_written_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The way that is not this torch's, of the two, imitated."""
    monkeypatch.setitem(init.TORCH_INIT_FUNCTIONS, "trunc_normal_", invert_cdf)
    expected = json.loads(GOLDEN.read_text())["3ml-modernbert, CDF inverted"]
    assert trajectory(tmp_path, "3ml-modernbert") == pytest.approx(expected, rel=5e-5)


def invert_cdf(
    tensor: torch.Tensor, mean: float, std: float, a: float, b: float, generator: torch.Generator | None = None
) -> torch.Tensor:
    """`trunc_normal_` as torch 2.11 has it: uniform numbers through the inverse of the normal distribution."""
    low, high = ((1 + math.erf((bound - mean) / std / math.sqrt(2))) / 2 for bound in (a, b))
    with torch.no_grad():
        tensor.uniform_(2 * low - 1, 2 * high - 1, generator=generator).erfinv_()
        return tensor.mul_(std * math.sqrt(2)).add_(mean).clamp_(min=a, max=b)


@pytest.mark.parametrize("name", RUNS)
def test_golden(name: str, tmp_path: Path) -> None:
    # Muon orthogonalises in bfloat16 or float32, as the CPU has it.
    tolerance = 2e-3 if "muon" in name else 5e-5
    assert trajectory(tmp_path, name) == pytest.approx(json.loads(GOLDEN.read_text())[golden_name(name)], rel=tolerance)


def record() -> None:
    """Write the losses down; those of another version's way to draw stay as they are."""
    losses = json.loads(GOLDEN.read_text())
    for name in RUNS:
        with tempfile.TemporaryDirectory() as folder:
            losses[golden_name(name)] = trajectory(Path(folder), name)
    GOLDEN.write_text(json.dumps(losses, indent=1) + "\n")


if __name__ == "__main__":
    record()
