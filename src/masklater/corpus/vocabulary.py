"""The vocabulary of a tokenizer, as all that handles its ids needs to know it."""

from pydantic import NonNegativeInt, PositiveInt

from masklater.recipe.section import Section


class SpecialIds(Section):
    """The special ids, as index.json holds them."""

    bos: NonNegativeInt  # begins a row: <s> or [CLS]
    eos: NonNegativeInt  # ends a row and each document: </s> or [SEP]
    pad: NonNegativeInt
    mask: NonNegativeInt
    all: tuple[NonNegativeInt, ...]  # sorted: never targets, never drawn as random tokens


class Vocabulary(SpecialIds):
    """The special ids and the number of ids of a tokenizer."""

    size: PositiveInt  # the largest id + 1; not every id below need have an entry

    @property
    def special(self) -> tuple[int, ...]:
        """All special ids, sorted."""
        return self.all
