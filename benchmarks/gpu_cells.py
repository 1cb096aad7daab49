"""The parts of benchmarks/gpu.py, in order, and the training steps that are measured.

Letters: L row length.
"""

from dataclasses import dataclass
from typing import Any

Done = dict[str, Any]
"""The result of a part, as written to OUT/NAME.json."""


@dataclass(frozen=True)
class Cell:
    """A training step that is measured."""

    recipe: str
    rows: int  # of a step, in one forward pass
    row_length: int
    compiled: bool
    attend: str = "document"  # or row: without a mask

    def __str__(self) -> str:
        ways = ["compiled" if self.compiled else "eager", *(["no-mask"] if self.attend == "row" else [])]
        return "-".join([self.recipe, f"{self.rows}x{self.row_length}", *ways])

    def overrides(self, known: dict[str, object]) -> list[str]:
        """Return settings of the recipe. `known` are the settings that recipes have."""
        settings = [
            f"batch.rows={self.rows}", f"batch.micro_rows={self.rows}", f"batch.attend={self.attend}",
            "evaluation.rows=8", "evaluation.every_steps=1000000", "checkpoint.every_steps=1000000",
        ]  # fmt: skip
        return settings + ([f"compile={str(self.compiled).lower()}"] if "compile" in known else [])


@dataclass(frozen=True)
class Part:
    """A piece of work, done in a separate process."""

    name: str
    minutes: float  # after these it is ended; what it had written stays
    cells: tuple[Cell, ...] = ()


@dataclass(frozen=True)
class Size:
    """The size of everything."""

    parts: tuple[Part, ...]
    vocabulary: int
    words: int  # of made-up text
    steps: int  # of a cell; the first third warms up, the last two are profiled
    shrink: tuple[str, ...]  # overrides that make every recipe small
    stock: tuple[tuple[str, int, int], ...]  # (size in wanted.py, rows, L)
    head: tuple[int, int, tuple[int, ...]]  # targets, width, vocabularies
    growth: tuple[str, ...]  # arguments of growth.py
    tests: tuple[str, ...]  # arguments of pytest
    quickstart: tuple[str, ...]  # overrides
    medium: tuple[str, ...]  # overrides of 3ml-small


def _cells(ours: str, usual: str, shapes: tuple[tuple[int, int, bool], ...]) -> tuple[Cell, ...]:
    """Return both recipes at each (rows, L, compiled); and at the first shape also 3ML without a mask."""
    cells = [Cell(recipe, *shape) for shape in shapes for recipe in (ours, usual)]
    rows, length, compiled = shapes[0]
    return (*cells[:2], Cell(ours, rows, length, compiled, "row"), *cells[2:])


BASE = _cells(
    "3ml-base-50",
    "roberta-base-15",
    ((256, 128, True), (1024, 128, True), (256, 128, False), (512, 128, True), (128, 512, True), (256, 512, True)),
)
LARGE = _cells(
    "3ml-large-50",
    "vanilla-large-15",
    ((256, 128, True), (512, 128, True), (256, 128, False), (128, 512, True), (1024, 128, True)),
)
TINY = _cells("3ml-small", "vanilla-small", ((4, 32, False),))
"""The most telling cells first: those that the time does not reach are listed as not measured."""

FULL_SIZE = Size(
    parts=(
        Part("machine", 1),
        Part("step-base", 4.5, BASE),
        Part("head", 1),
        Part("stock", 2),
        Part("tests", 6),
        Part("step-large", 4.5, LARGE),
        Part("growth", 2),
        Part("quickstart", 2),
        Part("pretrain", 9),
    ),
    vocabulary=50_265,
    words=600_000,
    steps=18,
    shrink=(),
    stock=(("base", 256, 128), ("large", 256, 128)),
    head=(16_128, 768, (50_265, 50_304)),
    growth=("--size", "base", "--lengths", "128", "512", "2048", "8192", "--positions", "65536", "--steps", "3"),
    tests=("tests/gpu",),
    quickstart=("duration.hours=0.015",),
    medium=(
        "model.hidden_size=512", "model.intermediate_size=2048", "model.num_attention_heads=8",
        "model.num_hidden_layers=8", "batch.rows=1024", "batch.micro_rows=1024", "optimizer.name=muon",
        "optimizer.lr=0.02", "optimizer.adamw_lr=0.01", "schedule.name=wsd", "schedule.decay=0.4",
        "duration.hours=0.125", "evaluation.every_steps=500", "checkpoint.every_steps=1000",
    ),
)  # fmt: skip
SMALL = ("model.hidden_size=32", "model.intermediate_size=64", "model.num_attention_heads=2")
TINY_SIZE = Size(
    parts=(
        Part("machine", 9),
        Part("step-tiny", 9, TINY),
        *(Part(name, 9) for name in ("stock", "tests", "head", "growth", "quickstart", "pretrain")),
    ),
    vocabulary=400,
    words=4_000,
    steps=6,
    shrink=(*SMALL, "model.num_hidden_layers=1"),
    stock=(("small", 4, 32),),
    head=(64, 32, (401, 448)),
    growth=("--lengths", "16", "32", "--positions", "64", "--vocabulary", "400", "--steps", "1"),
    tests=("tests/gpu/test_attention.py", "-k", "64 and not 1024"),
    quickstart=(*SMALL, "model.num_hidden_layers=1", "duration.hours=null", "duration.steps=3", "evaluation.rows=8"),
    medium=(*SMALL, "model.num_hidden_layers=1", "batch.rows=8", "batch.micro_rows=8", "duration.steps=3",
            "evaluation.rows=8"),
)  # fmt: skip
SIZES = {"full": FULL_SIZE, "tiny": TINY_SIZE}
