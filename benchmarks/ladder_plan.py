"""The work of the ladder: ladder.yaml, read; its cells in order; and each cell as a recipe."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

import yaml

from masklater.budget.forecast import forecast, rows_of
from masklater.corpus.shards import Shards
from masklater.errors import UserError
from masklater.model.masked_lm import MaskLaterForMaskedLM
from masklater.pretrain.optim import Optimizers
from masklater.pretrain.start import find_start
from masklater.recipe.families import GATED
from masklater.recipe.load import load
from masklater.recipe.recipe import Recipe

EVALUATIONS, CHECKPOINTS = 5, 20
"""Number of evaluations and of checkpoints in each run."""
FLOPS = "phases.0.flops="
"""The setting in ladder.yaml that replaces a phase's share of the steps."""


@dataclass(frozen=True)
class Cell:
    """One pre-training run."""

    budget: str  # FLOPs, as ladder.yaml writes them
    rung: str
    seed: int
    lr: float | None = None  # one of the rates that are tried; None: the rung's own rate, or the best tried

    def __str__(self) -> str:
        return f"{self.budget}/{self.rung}/" + (f"seed-{self.seed}" if self.lr is None else f"lr-{self.lr:g}")


@dataclass(frozen=True)
class Job:
    """A piece of work: train a cell and score it on minimal pairs; fine-tune it; or fine-tune its random twin."""

    kind: Literal["train", "glue", "twin"]
    cell: Cell


Losses = Callable[[Cell], float | None]
"""A function that returns the final loss of a cell at 15%; None: it is not finished."""


class Plan:
    """ladder.yaml, at one of its sizes."""

    def __init__(self, path: Path, size: str) -> None:
        """Read the file.

        Raises:
            UserError: It is not readable, or names something that it does not hold.
        """
        try:
            tree: dict[str, Any] = yaml.safe_load(path.read_text())
            self.tree, self.size = tree, tree["sizes"][size]
            self.rungs: dict[str, list[str]] = tree["rungs"]
            self.choices: dict[str, list[str]] = tree.get("choices") or {}
            self.tuned: dict[str, Any] = tree["tuned"]
            self.budgets: dict[str, dict[str, Any]] = self.size["budgets"]
            self.decides = str(self.size.get("decides") or min(self.budgets, key=float))
            named = [rung for stage in self.size["order"] for rung in stage["rungs"]]
            named += [rung for choice in self.choices.values() for rung in choice]
            unknown = {*named, self.tuned["rung"]} - {*self.rungs, *self.choices}
            unknown |= {self.decides, *(stage["budget"] for stage in self.size["order"])} - {*self.budgets}
        except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
            raise UserError(f"{path} is not readable as a ladder: {error!r}", "Compare it with ladder.yaml.") from None
        if unknown:
            raise UserError(f"{path} names {', '.join(sorted(unknown))}, which it does not hold", "Mend the names.")

    def candidates(self) -> list[Cell]:
        """Return the cells among which the learning rate is found; none where one is named or no rung asks for it."""
        if len(self.tuned["lr"]) == 1 or not any(map(self.takes_tuned_lr, self._rungs_in_order())):
            return []
        return [Cell(self.decides, self.tuned["rung"], self.tuned["seed"], lr) for lr in self.tuned["lr"]]

    def tuned_lr(self, losses: Losses) -> float:
        """Return the rate with the lowest final loss so far."""
        found = {cell.lr: loss for cell in self.candidates() if (loss := losses(cell)) is not None}
        return float(min(found, key=lambda lr: found[lr]) if found else self.tuned["lr"][0])

    def takes_tuned_lr(self, rung: str) -> bool:
        """Return whether a rung uses the learning rate that is found."""
        return any("lr: tuned" in text for text in self._changes(rung))

    def _rungs_in_order(self) -> Iterator[str]:
        """Yield all rungs that the order asks for, whatever is chosen among them."""
        for stage in self.size["order"]:
            for name in (*stage["rungs"], *(self.tree["glue"]["twins"] if stage.get("glue") else ())):
                yield from self.choices.get(name, [name])

    def _changes(self, rung: str) -> list[str]:
        """Return the settings that a rung adds to its recipe, with its parts written out."""
        _, *changes = self.rungs[rung]
        return [text for change in changes for text in ([change] if "=" in change else self.tree["parts"][change])]

    def jobs(self, losses: Losses) -> list[Job]:
        """Return all work in order, each piece once.

        The meaning of a choice may change until its cells are finished.
        """
        jobs = [Job("train", cell) for cell in self.candidates()]
        for stage in self.size["order"]:
            budget, glue = stage["budget"], stage.get("glue", False)
            rungs = [rung for name in stage["rungs"] for rung in self._meant(name, budget, losses)]
            for rung in self.tree["glue"]["twins"] if glue else ():
                twin = Cell(budget, rung, stage["seeds"][0])
                jobs += [Job("train", twin), Job("twin", twin)]
            cells = [Cell(budget, rung, seed) for seed in stage["seeds"] for rung in rungs]
            jobs += [Job("train", cell) for cell in cells] + [Job("glue", cell) for cell in cells if glue]
        return list(dict.fromkeys(jobs))

    def undecided(self, losses: Losses) -> set[Cell]:
        """Return the unfinished cells that decide what other cells are."""
        cells = [*self.candidates(), *(cell for name in self.choices for cell in self._contest(name))]
        return {cell for cell in cells if losses(cell) is None}

    def _contest(self, name: str) -> list[Cell]:
        order = [stage for stage in self.size["order"] if stage["budget"] == self.decides]
        seeds = next((stage["seeds"] for stage in order if name in stage["rungs"]), [])
        return [Cell(self.decides, rung, seed) for rung in self.choices[name] for seed in seeds]

    def _meant(self, name: str, budget: str, losses: Losses) -> list[str]:
        """Return the rungs that a name means at a budget."""
        if name not in self.choices or float(budget) <= float(self.decides):
            return self.choices.get(name, [name])
        known: dict[str, list[float]] = {}
        for cell in self._contest(name):
            if (loss := losses(cell)) is not None:
                known.setdefault(cell.rung, []).append(loss)
        return [min(known, key=lambda rung: fmean(known[rung])) if known else self.choices[name][0]]

    def recipe(self, cell: Cell, shards: Shards, lr: float) -> Recipe:
        """Return the recipe of a cell: as many steps as its budget pays for."""
        sizes = self.budgets[cell.budget]
        recipe = self.rungs[cell.rung][0]
        settings = [*self.tree["common"], *self.size["overrides"], f"batch.rows={sizes['rows']}"]
        settings += [f"batch.micro_rows={sizes.get('micro_rows', sizes['rows'])}", f"seed={cell.seed}"]
        settings += self._changes(cell.rung)
        settings = [text.replace("lr: tuned", f"lr: {cell.lr or lr:.6f}") for text in settings]
        settings += ["checkpoint.keep=1", f"model.hidden_size={sizes['width']}"]
        settings += [f"model.num_hidden_layers={sizes['layers']}", f"model.num_attention_heads={sizes['heads']}"]
        settings, flops = [s for s in settings if FLOPS not in s], [s for s in settings if FLOPS in s]
        settings += [f"model.intermediate_size={feed_forward(load(recipe, settings), sizes['width'])}"]
        for share in (float(text.removeprefix(FLOPS)) for text in flops):
            by_steps = share_of_steps(load(recipe, [*settings, "duration.steps=1000"]), share, shards)
            settings += [f"phases.0.share={by_steps:.4f}"]
        steps = round(float(cell.budget) / step_flops(load(recipe, [*settings, "duration.steps=1000"]), shards))
        settings += [f"duration.steps={steps}", f"evaluation.every_steps={-(-steps // EVALUATIONS)}"]
        return load(recipe, [*settings, f"checkpoint.every_steps={-(-steps // CHECKPOINTS)}"])


def feed_forward(recipe: Recipe, width: int) -> int:
    """Return the feed-forward width with equal weights in all families.

    4 D in two matrices, 8/3 D in three, rounded up to a multiple of 8.
    """
    return -(-8 * width // 3 // 8) * 8 if recipe.model.family in GATED else 4 * width


def share_of_steps(recipe: Recipe, share: float, shards: Shards) -> float:
    """Return the share of steps in the first of two phases that gives it this share of the model's FLOPs."""
    first, rest = (phase.row.training for phase in forecast(recipe, rows_of(shards.folder)).phases)
    return share * rest / (share * rest + (1 - share) * first)


def step_flops(recipe: Recipe, shards: Shards) -> float:
    """Return the mean FLOPs of a step: the model's, including the LM head, and the optimizer's own."""
    cost = forecast(recipe, rows_of(shards.folder))
    assert cost.total_flops is not None
    assert cost.total_rows is not None
    model = MaskLaterForMaskedLM(find_start(recipe, shards).config)
    return recipe.batch.rows * cost.total_flops / cost.total_rows + Optimizers(model, recipe.optimizer).flops
