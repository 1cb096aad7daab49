"""The settings of a sweep: rates x batch sizes x seeds, the epochs, and which weights are trained (no torch)."""

from dataclasses import dataclass, field
from typing import Literal, get_args

from masklater.errors import UserError

GridName = Literal["paper", "single", "quick"]
TuneName = Literal["full", "head", "bitfit", "lora", "pafi", "hiwi", "hiwi-weights"]


@dataclass(frozen=True)
class Tune:
    """Which weights are trained; `judge/tune.py` selects them."""

    name: TuneName = "full"
    size: float | None = None  # pafi: a fraction of the weights; lora, hiwi: the width of the bottleneck

    def __str__(self) -> str:
        """Return the text that --tune takes."""
        return self.name if self.size is None else f"{self.name}:{self.size}"

    @property
    def record(self) -> dict[str, str | float]:
        """The fields for a run's record."""
        if self.size is None:
            return {"name": self.name}
        return {"name": self.name, "fraction" if self.name == "pafi" else "bottleneck": self.size}


DEFAULT_SIZES: dict[TuneName, float] = {"lora": 8, "pafi": 0.005, "hiwi": 16, "hiwi-weights": 16}
"""The sizes of the ways of tuning that have one."""


@dataclass(frozen=True)
class Grid:
    """The settings of a sweep; every rate goes with every batch size."""

    lr: tuple[float, ...]
    batch: tuple[int, ...]
    epochs: int


GRIDS: dict[GridName, Grid] = {
    "paper": Grid((1e-5, 2e-5, 3e-5), (16, 32), 10),
    "single": Grid((2e-5,), (32,), 10),
    "quick": Grid((2e-5,), (32,), 3),
}
assert set(GRIDS) == set(get_args(GridName))


TUNE_RATES: dict[TuneName, tuple[float, float, float]] = {
    "head": (3e-4, 1e-3, 3e-3),
    "bitfit": (1e-4, 4e-4, 1e-3),
    "lora": (2e-4, 4e-4, 8e-4),
    "pafi": (1e-4, 3e-4, 1e-3),
    "hiwi": (3e-4, 1e-3, 3e-3),
    "hiwi-weights": (1e-4, 3e-4, 1e-3),
}
"""The rates of a grid where few weights are trained, which take larger steps.

A grid with one rate uses the middle one.
"""


@dataclass(frozen=True)
class SweepSettings:
    """All settings of a sweep except the tasks and the data."""

    grid: Grid
    seeds: int = 5  # 0, 1, ...
    max_train_rows: int | None = None
    tune: Tune = field(default_factory=Tune)


def make_tune(text: str) -> Tune:
    """Return the way of tuning that --tune names, with its size where given: `full`, `pafi`, `pafi:0.01`.

    Raises:
        UserError: There is no such way, or it has no such size.
    """
    names: dict[str, TuneName] = {name: name for name in get_args(TuneName)}
    word, colon, number = text.partition(":")
    if word not in names:
        raise UserError(f"--tune {text}: there is no {word!r}", f"Choose among {', '.join(names)}.")
    name = names[word]
    if not colon:
        return Tune(name, DEFAULT_SIZES.get(name))
    if name not in DEFAULT_SIZES:
        raise UserError(f"--tune {text}: {name} has no size", f"Write --tune {name}.")
    try:
        size = float(number) if name == "pafi" else int(number)
    except ValueError:
        size = 0
    if name == "pafi" and not 0 < size <= 1:
        raise UserError(f"--tune {text}: {number!r} is no fraction", "Write one above 0, and 1 at most: pafi:0.005.")
    if name != "pafi" and size < 1:
        raise UserError(f"--tune {text}: {number!r} is not a positive whole number", f"Write one: {name}:8.")
    return Tune(name, size)


def make_grid(name: GridName, lr: str | None, batch: str | None, epochs: int | None, tune: TuneName = "full") -> Grid:
    """Return a grid by name, with the rates for the way of tuning; --lr, --batch and --epochs replace parts of it.

    Raises:
        UserError: A list holds something other than positive numbers, or a number twice.
    """
    grid = GRIDS[name]
    rates = grid.lr
    if tune != "full":
        rates = TUNE_RATES[tune] if len(rates) > 1 else TUNE_RATES[tune][1:2]
    return Grid(
        lr=rates if lr is None else tuple(_numbers("--lr", lr, float)),
        batch=grid.batch if batch is None else tuple(int(size) for size in _numbers("--batch", batch, int)),
        epochs=grid.epochs if epochs is None else epochs,
    )


def make_settings(
    grid: GridName,
    lr: str | None,
    batch: str | None,
    epochs: int | None,
    seeds: int,
    max_train_rows: int | None,
    tune: str,
) -> SweepSettings:
    """Return the settings that the options of a sweep name; errors as in `make_tune` and `make_grid`."""
    way = make_tune(tune)
    return SweepSettings(make_grid(grid, lr, batch, epochs, way.name), seeds, max_train_rows, way)


def _numbers(option: str, text: str, kind: type[float] | type[int]) -> list[float]:
    numbers: list[float] = []
    for part in text.split(","):
        try:
            number = kind(part)
        except ValueError:
            number = 0
        if not 0 < number < float("inf"):
            what = "a positive number" if kind is float else "a positive whole number"
            raise UserError(f"{option} {text}: {part.strip()!r} is not {what}", "Write numbers with commas between.")
        if number in numbers:
            raise UserError(f"{option} {text}: {number:g} stands there twice", "Name each number once.")
        numbers.append(number)
    return numbers
