"""The recipe's `masking` section."""

import math
from typing import Literal, Self

from pydantic import Field, model_validator

from masklater.settings import Settings


class MaskingSettings(Settings):
    """How a row is corrupted (method, step 1)."""

    rate: float = Field(0.5, gt=0, lt=1, description="share of the maskable positions that are targets")
    mask: float = Field(0.8, ge=0, le=1, description="share of the targets that become [MASK]")
    random: float = Field(0.1, ge=0, le=1, description="share of the targets that become a random token")
    keep: float = Field(0.1, ge=0, le=1, description="share of the targets that stay as they are")
    choose: Literal["uniform"] = Field("uniform", description="how target positions are chosen")

    @model_validator(mode="after")
    def _shares_sum_to_one(self) -> Self:
        total = self.mask + self.random + self.keep
        if not math.isclose(total, 1, abs_tol=1e-6):
            raise ValueError(f"mask + random + keep must be 1; they are {total:g}")
        return self


COMMON_CORRUPTION = MaskingSettings(rate=0.15, mask=1.0, random=0.0, keep=0.0)
"""What every run is also evaluated at, whatever it trains with: losses at different rates do not compare."""
