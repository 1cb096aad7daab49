"""The plan of a run: what follows from recipe, SHARDS and the model's config before the first step, made once."""

from dataclasses import dataclass, field
from typing import Literal

from masklater.budget.cost import EncoderSizes, encoder_sizes, step_spending
from masklater.corpus.shards import Shards
from masklater.ledger import Ledger, Spending
from masklater.masking.corrupt import Corruption
from masklater.masking.counts import Counts
from masklater.model.config import MaskLaterConfig
from masklater.pretrain.batches import EVALUATION_SEED, BatchMaker, make_batches
from masklater.pretrain.optim import Schedule
from masklater.recipe.load import Recipe
from masklater.recipe.sections import COMMON_CORRUPTION

Judge = Literal["own", "common"]
"""The corruption of held-out rows: the recipe's own masking, or 15% uniform [MASK] as in every other run."""

SUFFIXES: dict[Judge, str] = {"own": "", "common": "_15"}
"""The endings of their scores' names in metrics.jsonl."""


@dataclass(frozen=True)
class Plan:
    """The course of a run: its batches, what is held out, the learning rate, and what a step costs."""

    recipe: Recipe
    config: MaskLaterConfig  # of the model, nothing in it left open
    encoder: EncoderSizes
    batches: BatchMaker  # to train on
    held_out: dict[Judge, BatchMaker]
    schedule: Schedule
    micro_rows_open: bool = False  # whether the recipe left batch.micro_rows open, so that it may be lowered
    spent_at: dict[Counts, Spending] = field(default_factory=dict, repr=False)  # few: one for each masking rate

    def micro_rows(self, processes: int) -> int:
        """Return the rows of a forward pass."""
        return self.recipe.batch.pass_of(self.recipe.batch.rows // processes)

    def spending(self, corruption: Corruption) -> Spending:
        """Return what a step under this corruption spends, apart from time."""
        counts = corruption.counts
        if counts not in self.spent_at:
            recipe, maskable = self.recipe, corruption.maskable_per_row
            self.spent_at[counts] = step_spending(recipe.batch.rows, self.encoder, recipe.decoder, counts, maskable)
        return self.spent_at[counts]


def make_plan(recipe: Recipe, shards: Shards, config: MaskLaterConfig) -> Plan:
    """Make the plan of a run.

    Args:
        recipe: Of the run.
        shards: What it trains on.
        config: Of its model, settled.

    Raises:
        UserError: A masking rate leaves no target in such rows, or warm-up takes the whole run.
    """
    drops, attend = recipe.decoder.drops, recipe.batch.attend
    batches = make_batches(
        shards, shards.train, recipe.masking, drops, attend, recipe.seed, _step_share(recipe, shards)
    )
    own = BatchMaker(shards.valid, batches.corruption, attend, EVALUATION_SEED)
    common = make_batches(shards, shards.valid, COMMON_CORRUPTION, drops, attend, EVALUATION_SEED)
    encoder = encoder_sizes(config.encoder)
    counts, maskable = batches.corruption.counts, batches.corruption.maskable_per_row
    first = step_spending(recipe.batch.rows, encoder, recipe.decoder, counts, maskable)
    after_one = Ledger()
    after_one.add_step(first, seconds=0.0, data_seconds=0.0)  # not known beforehand
    schedule = Schedule(recipe.schedule, recipe.duration, after_one)
    held_out: dict[Judge, BatchMaker] = {"own": own, "common": common}
    return Plan(recipe, config, encoder, batches, held_out, schedule, spent_at={counts: first})


def _step_share(recipe: Recipe, shards: Shards) -> float:
    """The share of the run that a step is; 0 in units under which the masking rate does not change."""
    duration, rows = recipe.duration, recipe.batch.rows
    return duration.spent(Ledger(steps=1, rows=rows, tokens=rows * shards.index.row_length)) / duration.amount
