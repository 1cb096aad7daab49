"""Random numbers for a batch, of which a process may keep those of its own rows."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Draws:
    """The source of all randomness of a batch: the same generator state gives the same batch.

    Numbers are drawn for every row, and those of the rows asked for are kept: what becomes of a row does not depend on
    which process corrupts it, and the rest of a row's corruption, which takes most of the time, is for its own process.

    Args:
        generator: Where the numbers come from.
        before: Rows of the batch that stand before those asked for.
        after: Rows that stand after them.
    """

    generator: torch.Generator
    before: int = 0
    after: int = 0

    def rand(self, rows: int, columns: int, *, dtype: torch.dtype = torch.float32) -> Tensor:
        """Draw from [0, 1), [rows, columns]."""
        shape = (self.before + rows + self.after, columns)
        return torch.rand(shape, generator=self.generator, dtype=dtype)[self.before : self.before + rows]

    def randint(self, limit: int, rows: int, columns: int) -> Tensor:
        """Draw from 0 to limit - 1, int64 [rows, columns]."""
        shape = (self.before + rows + self.after, columns)
        return torch.randint(limit, shape, generator=self.generator)[self.before : self.before + rows]
