"""Batches for training and evaluation. Each is a pure function of (seed, step), so resume is instant and exact."""

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from masklater.console import say
from masklater.corpus.shards import Shards, SplitRows
from masklater.corpus.target_table import TargetTable
from masklater.errors import UserError
from masklater.machine.distributed import ALONE, World
from masklater.masking.batch import MaskedBatch
from masklater.masking.choose import CHOOSERS, continued, number_words
from masklater.masking.corrupt import corrupt
from masklater.masking.corruption import Corruption, make_corruption
from masklater.masking.draws import Draws
from masklater.masking.schedule import RatePath
from masklater.pretrain.mixture import Mixture, Source
from masklater.recipe.masking import MaskingSettings
from masklater.recipe.sections import BatchSettings
from masklater.seeds import derive_seed

EVALUATION_SEED = 0
"""The seed of held-out rows and their masks.

It ignores the recipe's seed, so that runs are compared on the same ones.
"""


ROWS_MASKED_AT_ONCE = 1024
"""Number of held-out rows masked at once. Scores compare only with the same number: another draws other masks."""


class BatchMaker:
    """Makes the batches of rows under one corruption.

    Args:
        rows: Rows of one source, or of several.
        corruption: The corruption at the rate that held-out rows are scored at.
        attend: The recipe's `batch.attend`.
        seed: Decides the masks.
        rates: The masking rate of each step; None: always the corruption's.
    """

    def __init__(
        self, rows: Mixture, corruption: Corruption, attend: str, seed: int, rates: RatePath | None = None
    ) -> None:
        self.rows = rows
        self.corruption = corruption
        self.seed = seed
        self.rates = rates or RatePath(corruption.settings, seed)
        self.by_document = attend == "document" and rows.mixed
        self.padded = rows.padded

    def of_step(self, step: int, rows_per_step: int, own: slice = slice(None)) -> MaskedBatch:
        """Return the rows of a training step, or a process's own part of them, masked as if among all rows."""
        return self._make(self.places_of_step(step, rows_per_step), step, self.corruption_of_step(step), own)

    def places_of_step(self, step: int, rows_per_step: int) -> NDArray[np.int64]:
        """Return the places among the rows that a step reads; the maker's first step begins at place 0."""
        begin = (step - self.rates.first) * rows_per_step
        return np.arange(begin, begin + rows_per_step, dtype=np.int64)

    def corruption_of_step(self, step: int) -> Corruption:
        """Return the corruption of a training step, whose rate follows from the step's number alone."""
        return self.corruption.at_rate(self.rates.rate(step))

    def fixed(self, num_rows: int, rows_per_batch: int, world: World = ALONE) -> Iterator[MaskedBatch]:
        """Yield the same rows under the same masks at every call, whatever the batch size; a last batch may be smaller.

        Processes take turns. All get the same number of batches, as they must where a model is spread over them: a
        process that runs out gets a batch without targets.
        """
        places_N = np.arange(min(num_rows, self.rows.num_rows))
        spare: MaskedBatch | None = None
        turn = 0
        for block, first in enumerate(range(0, len(places_N), ROWS_MASKED_AT_ONCE)):
            masked = self._make(places_N[first : first + ROWS_MASKED_AT_ONCE], block, self.corruption)
            for start in range(0, len(masked.seen_ids_BS), rows_per_batch):
                spare = masked.slice(start, start + rows_per_batch)
                if turn % world.size == world.rank:
                    yield spare
                turn += 1
        if spare is not None and 0 < turn % world.size <= world.rank:
            yield spare.without_targets()

    def word_lengths(self, num_rows: int) -> tuple[int, Tensor]:
        """Return how many rows were looked at, and the lengths in tokens of their words, int64; empty without words.

        Args:
            num_rows: Rows to look at, drawn at random, if there are as many.
        """
        places_N = np.arange(min(num_rows, self.rows.num_rows))
        if not CHOOSERS[self.corruption.settings.choose].by_words or not len(places_N):
            return len(places_N), torch.empty(0, dtype=torch.int64)
        block = self.rows.read(places_N)
        rows_BL = torch.from_numpy(block.ids_NL)
        is_maskable_BL = ~self.corruption.is_special_V[rows_BL]
        word_BL = number_words(rows_BL, is_maskable_BL, self.corruption.table, continued(block))
        row_B1 = torch.arange(len(rows_BL))[:, None]
        number_of_word_N = (row_B1 * rows_BL.shape[1] + word_BL)[word_BL >= 0]
        return len(places_N), number_of_word_N.unique(return_counts=True)[1]

    def _make(
        self, places_N: NDArray[np.int64], batch_number: int, corruption: Corruption, own: slice = slice(None)
    ) -> MaskedBatch:
        start, stop, _ = own.indices(len(places_N))
        block = self.rows.read(places_N[start:stop])
        documents_BL: Tensor | None = None
        if self.by_document or self.padded:
            documents_BL = torch.from_numpy(block.documents_NL)
            if not self.by_document:
                documents_BL = documents_BL.clamp(max=0)  # one document: only padding is separate
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "masks", batch_number))
        draws = Draws(generator, before=start, after=len(places_N) - stop)
        return corrupt(torch.from_numpy(block.ids_NL), documents_BL, corruption, draws, continued(block))


def make_batches(
    shards: Shards,
    rows: SplitRows,
    masking: MaskingSettings,
    drop: bool,
    attend: str,
    seed: int,
    step_share: float = 0.0,
    targets: TargetTable | None = None,
) -> BatchMaker:
    """Make the BatchMaker of a split of one SHARDS, with the counts that fit its training rows."""
    corruption = corruption_for([(shards, 1.0)], masking, drop, targets)
    rates = RatePath(masking, seed, step_share)
    return BatchMaker(Mixture([Source("", "", rows, 1.0, seed)]), corruption, attend, seed, rates)


def corruption_for(
    sources: Sequence[tuple[Shards, float]], masking: MaskingSettings, drop: bool, targets: TargetTable | None = None
) -> Corruption:
    """Return the corruption whose counts fit the training rows of one or more SHARDS, each with its share of the rows.

    Args:
        sources: The SHARDS, and their shares.
        masking: The settings.
        drop: Whether [MASK]s are left out of the encoder.
        targets: The opened table that masking.predict_by names, if it names one.

    Raises:
        UserError: A rate leaves no target, or words are chosen and the sources do not all mark words in the same way.
    """
    shards, chooser = sources[0][0], CHOOSERS[masking.choose]
    if chooser.by_words:
        _check_words([each for each, _ in sources], masking.choose)
    indices = [(each.index, share) for each, share in sources]
    corruption = make_corruption(
        masking,
        drop=drop,
        row_length=shards.index.row_length,
        maskable_per_row=math.fsum(share * index.maskable_per_row for index, share in indices),
        vocabulary=shards.vocabulary,
        table=chooser.table(shards) if chooser.table else None,
    )
    if masking.predict_by is None:
        return corruption
    if targets is None:
        raise ValueError(f"masking.predict_by names {masking.predict_by}, which has not been opened")
    return replace(corruption, weights_V=torch.from_numpy(targets.weights_V))


def _check_words(sources: Sequence[Shards], choose: str) -> None:
    marked, other = ([shards for shards in sources if shards.index.marked is is_marked] for is_marked in (True, False))
    if marked and other:
        raise UserError(
            f"masking.choose={choose} needs words: in {marked[0].name} rows say where they begin, in {other[0].name} "
            "the tokens do",
            f"Prepare {other[0].name} with --marked-words too: where nothing is marked, spaces tell words.",
        )


@dataclass(frozen=True)
class StepShare:
    """The share of one process in a training step."""

    micro_batches: list[MaskedBatch]
    first: int  # the index of its first micro-batch in the whole step, over all processes
    num_targets: int  # targets of the whole step, over all processes


def make_share(batches: BatchMaker, step: int, settings: BatchSettings, world: World) -> StepShare:
    """Return a process's own rows of a step in micro-batches, with only this process's targets counted.

    `settings` must come from `share_out`.
    """
    rows = settings.rows // world.size
    own = slice(world.rank * rows, (world.rank + 1) * rows)
    batch = batches.of_step(step, settings.rows, own)
    micro_rows = settings.pass_of(rows)
    micro_batches = [batch.slice(start, start + micro_rows) for start in range(0, rows, micro_rows)]
    return StepShare(micro_batches, own.start // micro_rows, int(batch.num_targets))


def share_out(settings: BatchSettings, world: World) -> BatchSettings:
    """Return the batch settings for this number of processes.

    `micro_rows`, unless auto, is lowered to a number that divides the rows of each process; a message says so.

    Raises:
        UserError: The processes do not divide the rows of a step.
    """
    rows, left = divmod(settings.rows, world.size)
    if left:
        raise UserError(
            f"batch.rows is {settings.rows}, which {world.size} processes cannot share evenly",
            f"Start as many processes as divide {settings.rows}, or change batch.rows.",
        )
    if settings.micro_rows == "auto":
        return settings
    micro_rows = settings.passes_of(rows)[0]
    if micro_rows < settings.micro_rows:
        each = f" that each of {world.size} processes has of a step" if world.size > 1 else " of a step"
        say(
            f"batch.micro_rows is {micro_rows} in place of {settings.micro_rows}, to divide the {rows:,} rows{each}; "
            "what is trained on stays the same"
        )
    return settings.model_copy(update={"micro_rows": micro_rows})


class Prefetcher:
    """Makes this process's share of the next step in a thread while the current one trains.

    Args:
        make: Makes the share of a step.
        first_step: The step to begin with.
        world: The processes.
    """

    def __init__(self, make: Callable[[int], StepShare], first_step: int, world: World) -> None:
        self.make = make
        self.world = world
        self.pool = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self.step = first_step
        self.next = self.pool.submit(self._make, first_step)

    def take(self) -> StepShare:
        """Return the share of the next step, on the device, with the targets of all processes counted."""
        share = self.next.result()
        self.step += 1
        self.next = self.pool.submit(self._make, self.step)
        (num_targets,) = self.world.all_sum(share.num_targets)
        micro_batches = [batch.to(self.world.device) for batch in share.micro_batches]
        return replace(share, micro_batches=micro_batches, num_targets=int(num_targets))

    def cut_again(self, make: Callable[[int], StepShare]) -> None:
        """Make the share of the last step taken again, in other micro-batches, and all later shares."""
        self.next.result()
        self.make, self.step = make, self.step - 1
        self.next = self.pool.submit(self._make, self.step)

    def make_again(self) -> None:
        """Make the share of the next step again, because its inputs have changed."""
        self.next.result()
        self.next = self.pool.submit(self._make, self.step)

    def close(self) -> None:
        """End the thread."""
        self.pool.shutdown(wait=True, cancel_futures=True)

    def _make(self, step: int) -> StepShare:
        share = self.make(step)
        if self.world.device.type != "cuda":
            return share
        return replace(share, micro_batches=[batch.pin_memory() for batch in share.micro_batches])
