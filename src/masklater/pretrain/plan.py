"""What a recipe makes of SHARDS before the first step: its batches, and what a step of them will spend."""

import time

from masklater.budget.ledger import Ledger, Spending
from masklater.console import Meter, clock
from masklater.corpus.shards import Shards
from masklater.masking.corrupt import Corruption
from masklater.model.config import MaskLaterConfig
from masklater.pretrain.cost import encoder_sizes, step_spending
from masklater.pretrain.loader import BatchMaker, make_batches
from masklater.recipe.load import Recipe


def train_batches(recipe: Recipe, shards: Shards) -> BatchMaker:
    """The batches to train on."""
    duration, rows = recipe.duration, recipe.batch.rows
    one_step = Ledger(steps=1, rows=rows, tokens=rows * shards.index.row_length)
    step_share = duration.spent(one_step) / duration.amount  # 0 in units under which the rate does not change
    masking, attend, seed = recipe.masking, recipe.batch.attend, recipe.seed
    return make_batches(shards, shards.train, masking, recipe.decoder.drops, attend, seed, step_share)


def cost_of_step(recipe: Recipe, config: MaskLaterConfig, corruption: Corruption) -> Spending:
    """What a step under this corruption spends."""
    rows, maskable = recipe.batch.rows, corruption.maskable_per_row
    return step_spending(rows, encoder_sizes(config.encoder), recipe.decoder, corruption.counts, maskable)


def first_step(recipe: Recipe, config: MaskLaterConfig, corruption: Corruption) -> Ledger:
    """A ledger after the first step, whose seconds are not known beforehand."""
    ledger = Ledger()
    ledger.add_step(cost_of_step(recipe, config, corruption), seconds=0.0, data_seconds=0.0)
    return ledger


def verify(shards: Shards) -> None:
    """Read all SHARDS and compare checksums, with a meter; raises DamagedDataError as `Shards.verify` does."""
    with Meter("Verifying shards", shards.bytes) as meter:
        began = time.monotonic()
        shards.verify(meter.advance)
        meter.set(shards.bytes, clock(time.monotonic() - began))
