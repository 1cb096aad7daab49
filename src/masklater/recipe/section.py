"""The base of every recipe section: frozen once validated, and no key passes unknown."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A validated, immutable part of a recipe, or of another file this software reads. Unknown keys are faults."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
