"""The base of every recipe section: frozen once validated; unknown keys are faults."""

from collections.abc import Callable, Mapping
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator
from pydantic.fields import FieldInfo

MOST = 2**31 - 1
"""The largest count of anything in a recipe; code that reads counts computes in 64 bits."""

ON_RESUME = "a resumed run may change it"
"""Marks a field, or a section, that a resumed run may change; a change of any other would make it another run."""


class Section(BaseModel):
    """A validated, immutable part of a recipe, or of another file that masklater reads. Unknown keys are faults."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse true and false where a number is meant; pydantic takes them for 1 and 0."""
        kinds = _kinds(cls.model_fields[info.field_name or ""].annotation)
        if isinstance(value, bool) and bool not in kinds and kinds & {int, float}:
            raise ValueError("it must be a number")
        return value

    @classmethod
    def keys(cls) -> dict[str, FieldInfo]:
        """Return the fields by the names that a file uses (`from`, where the attribute is `from_`)."""
        return {field.alias or name: field for name, field in cls.model_fields.items()}

    @classmethod
    def may_change(cls, dotted_key: str) -> bool:
        """Tell whether a resumed run may change the setting of this key, or one that contains it."""
        name, _, rest = dotted_key.partition(".")
        field = cls.keys().get(name)
        if field is None:
            return False
        if ON_RESUME in field.metadata:
            return True
        section = cls.section_at(name)
        if section is not None and is_list(field):
            rest = rest.partition(".")[2]  # skip the place in the list
        return section is not None and bool(rest) and section.may_change(rest)

    @classmethod
    def section_at(cls, name: str) -> type["Section"] | None:
        """Return the section type of a key's value (for a list, of each member), or None for a plain value."""
        field = cls.keys().get(name)
        kinds = [field.annotation] if field else []
        while kinds and get_origin(kinds[0]) is not None:
            kinds = [*get_args(kinds[0]), *kinds[1:]]
        sections = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Section)]
        return sections[0] if sections else None


def _kinds(annotation: Any) -> set[Any]:
    """Return the types that an annotation allows."""
    if get_origin(annotation) in {Annotated, Union, UnionType}:
        return set().union(*map(_kinds, get_args(annotation)))
    return {annotation}


def is_list(field: FieldInfo) -> bool:
    """Tell whether a field holds a list."""
    return get_origin(field.annotation) is tuple


def one_of(known: Mapping[str, str]) -> Callable[[str], str]:
    """Return a validator that accepts these names only."""

    def check(name: str) -> str:
        if name not in known:
            raise ValueError(f"it must be one of {', '.join(known)}")
        return name

    return check


def listed(known: Mapping[str, str]) -> str:
    """Return names with their meanings, for the description of a setting."""
    return "; ".join(f"{name}: {meaning}" for name, meaning in known.items())
