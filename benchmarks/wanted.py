"""The settings that both sides of a ratio get."""

from collections.abc import Callable
from dataclasses import dataclass

RECIPES = {
    "small": ("3ml-small", "vanilla-small"),
    "base": ("3ml-base-50", "roberta-base-15"),
    "large": ("3ml-large-50", "vanilla-large-15"),
}
"""By size: the recipe of 3ML at 50%, and that of vanilla MLM at 15%."""
STOCK = ("stock", "stock-bf16", "modernbert")
PEERS = ("vanilla", *STOCK)
Step = Callable[[int], None]


@dataclass(frozen=True)
class Wanted:
    """One training step, as both sides make it."""

    size: str  # of RECIPES
    rows: int  # B
    row_length: int
    vocabulary: int
    precision: str  # ours
    compile_stock: bool
