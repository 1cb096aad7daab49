"""Batches for training and evaluation, each a pure function of (seed, step): resume is instant and exact."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from masklater.corpus.shards import Shards, SplitRows
from masklater.masking.batch import MaskedBatch
from masklater.masking.choose import WordTable
from masklater.masking.corrupt import Corruption, corrupt, make_corruption
from masklater.masking.schedule import rate_at
from masklater.pretrain.order import derive_seed, rows_of_step
from masklater.recipe.sections import MaskingSettings

EVALUATION_SEED = 0
"""Held-out rows and their masks do not follow the recipe's seed: runs are compared on the same ones."""


class BatchMaker:
    """Makes the batches of one split under one corruption.

    Args:
        rows: The split.
        corruption: At the rate a run begins with.
        attend: The recipe's `batch.attend`.
        seed: Decides row order and masks.
        step_share: Share of the run that one step is, along which the masking rate may change.
    """

    def __init__(
        self, rows: SplitRows, corruption: Corruption, attend: str, seed: int, step_share: float = 0.0
    ) -> None:
        self.rows = rows
        self.corruption = corruption
        self.seed = seed
        self.step_share = step_share
        self.by_document = attend == "document" and rows.entry.mixed_rows > 0
        self.padded = rows.entry.full_rows < rows.entry.rows

    def of_step(self, step: int, rows_per_step: int) -> MaskedBatch:
        """The global batch of a training step; masks are drawn for all of it at once."""
        numbers_N = rows_of_step(step, rows_per_step, self.rows.num_rows, self.seed)
        return self._make(numbers_N, step, self.corruption_of_step(step))

    def corruption_of_step(self, step: int) -> Corruption:
        """The corruption of a training step, whose rate follows from the step's number alone."""
        return self.corruption.at_rate(rate_at(self.corruption.settings, step * self.step_share))

    def fixed(self, num_rows: int, rows_per_batch: int) -> Iterator[MaskedBatch]:
        """The same rows under the same masks at every call, in batches; the last may be smaller."""
        numbers_N = rows_of_step(0, min(num_rows, self.rows.num_rows), self.rows.num_rows, self.seed)
        for batch_number, start in enumerate(range(0, len(numbers_N), rows_per_batch)):
            yield self._make(numbers_N[start : start + rows_per_batch], batch_number, self.corruption)

    def _make(self, numbers_N: np.ndarray, batch_number: int, corruption: Corruption) -> MaskedBatch:
        block = self.rows.read(numbers_N)
        documents_BL: Tensor | None = None
        if self.by_document or self.padded:
            documents_BL = torch.from_numpy(block.documents_NL)
            if not self.by_document:
                documents_BL = documents_BL.clamp(max=0)  # one document: only padding stands apart
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "masks", batch_number))
        return corrupt(torch.from_numpy(block.ids_NL), documents_BL, corruption, generator)


def make_batches(
    shards: Shards,
    rows: SplitRows,
    masking: MaskingSettings,
    drop: bool,
    attend: str,
    seed: int,
    step_share: float = 0.0,
) -> BatchMaker:
    """The BatchMaker of a split, with the counts that fit the training rows."""
    maskable = shards.index.train.maskable_per_row
    vocabulary = shards.vocabulary
    corruption = make_corruption(
        masking,
        drop=drop,
        row_length=shards.index.row_length,
        maskable_per_row=shards.index.row_length - 2 if np.isnan(maskable) else maskable,
        vocabulary_size=vocabulary.size,
        special_ids=vocabulary.special,
        mask_id=vocabulary.mask,
        pad_id=vocabulary.pad,
        words=None if masking.choose == "uniform" else WordTable(*map(torch.from_numpy, shards.words)),
    )
    return BatchMaker(rows, corruption, attend, seed, step_share)


class Prefetcher:
    """Makes the next step's batch in a thread while the current one trains."""

    def __init__(self, batches: BatchMaker, rows_per_step: int, first_step: int, device: torch.device) -> None:
        self.batches = batches
        self.rows_per_step = rows_per_step
        self.device = device
        self.pool = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self.step = first_step
        self.next = self.pool.submit(self._make, first_step)

    def take(self) -> MaskedBatch:
        """The batch of the next step, on the device."""
        batch = self.next.result()
        self.step += 1
        self.next = self.pool.submit(self._make, self.step)
        return batch.to(self.device)

    def close(self) -> None:
        """End the thread."""
        self.pool.shutdown(wait=True, cancel_futures=True)

    def _make(self, step: int) -> MaskedBatch:
        batch = self.batches.of_step(step, self.rows_per_step)
        return batch.pin_memory() if self.device.type == "cuda" else batch
