"""The base of every recipe section: frozen once validated, and no key passes unknown."""

from pydantic import BaseModel, ConfigDict
from pydantic.fields import FieldInfo

ON_RESUME = "a resumed run may change it"
"""Marks a field, or a whole section, with which a resumed run may differ; anything else would make it another run."""


class Section(BaseModel):
    """A validated, immutable part of a recipe, or of another file this software reads. Unknown keys are faults."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @classmethod
    def keys(cls) -> dict[str, FieldInfo]:
        """The fields by the names a file uses (`from`, where the attribute is `from_`)."""
        return {field.alias or name: field for name, field in cls.model_fields.items()}

    @classmethod
    def may_change(cls, dotted_key: str) -> bool:
        """Tell whether a resumed run may change the setting of this key, or one that it is part of."""
        name, _, rest = dotted_key.partition(".")
        field = cls.keys().get(name)
        if field is None:
            return False
        if ON_RESUME in field.metadata:
            return True
        section = field.annotation
        return isinstance(section, type) and issubclass(section, Section) and section.may_change(rest)
