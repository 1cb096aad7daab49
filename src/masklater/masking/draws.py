"""Random numbers for a batch, of which a process may keep only those of its own rows."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Draws:
    """The source of all randomness of a batch: the same generator state gives the same batch.

    Numbers are drawn for every row of the batch, and those of the process's own rows are kept. So the result for a row
    does not depend on which process corrupts it. The rest of the corruption, which takes most of the time, is done only
    for the process's own rows.

    Args:
        generator: The source of the numbers.
        before: Number of rows in the batch before the process's own.
        after: Number of rows after them.
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
