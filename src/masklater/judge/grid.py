"""The grid of a sweep: rates x batch sizes x seeds, for so many epochs (no torch)."""

from dataclasses import dataclass
from typing import Literal, get_args

from masklater.errors import UserError

GridName = Literal["paper", "single", "quick"]


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


@dataclass(frozen=True)
class SweepSettings:
    """Everything that is asked of a sweep but the tasks and the data."""

    grid: Grid
    seeds: int = 5  # 0, 1, ...
    max_train_rows: int | None = None


def make_grid(name: GridName, lr: str | None, batch: str | None, epochs: int | None) -> Grid:
    """A grid by name, parts of it replaced by what --lr, --batch and --epochs list.

    Raises:
        UserError: A list holds something else than positive numbers, or a number twice.
    """
    grid = GRIDS[name]
    return Grid(
        lr=grid.lr if lr is None else tuple(_numbers("--lr", lr, float)),
        batch=grid.batch if batch is None else tuple(int(size) for size in _numbers("--batch", batch, int)),
        epochs=grid.epochs if epochs is None else epochs,
    )


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
