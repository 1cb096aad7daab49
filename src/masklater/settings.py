"""The base of every recipe section: frozen once validated, and no key passes unknown."""

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """A validated, immutable section of a recipe. Unknown keys are faults."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
