"""Which positions are predicted. Each chooser ranks a row's positions; the first ranks become targets.

Letters: see masking/batch.py.
"""

import torch
from torch import Tensor


def rank_uniform(maskable_BL: Tensor, generator: torch.Generator) -> Tensor:
    """Rank the positions of each row in random order, maskable ones before all others.

    Args:
        maskable_BL: bool, True where a position may become a target.
        generator: The source of all randomness.

    Returns:
        int64 order_BL: positions by rank; every maskable position is equally likely at every rank.
    """
    draws_BL = torch.rand(maskable_BL.shape, generator=generator)
    return torch.argsort(draws_BL.masked_fill_(~maskable_BL, 2.0), dim=1, stable=True)
