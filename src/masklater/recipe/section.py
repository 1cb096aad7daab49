"""The base of every recipe section: frozen once validated, and no key passes unknown."""

from pydantic import BaseModel, ConfigDict
from pydantic.fields import FieldInfo


class Section(BaseModel):
    """A validated, immutable part of a recipe, or of another file this software reads. Unknown keys are faults."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @classmethod
    def keys(cls) -> dict[str, FieldInfo]:
        """The fields by the names a file uses (`from`, where the attribute is `from_`)."""
        return {field.alias or name: field for name, field in cls.model_fields.items()}
