"""The facts about a tokenizer's vocabulary that code which handles its ids needs."""

from collections.abc import Mapping
from typing import Protocol

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

    size: PositiveInt  # the largest id + 1; not every smaller id need have an entry

    @property
    def special(self) -> tuple[int, ...]:
        """All special ids, sorted."""
        return self.all


ROLES = {
    "bos": "first token",
    "eos": "last token",
    "pad": "padding token",
    "mask": "mask token",
    "unk": "unknown token",
}


def find_shared(ids: Mapping[str, int | None]) -> tuple[str, str] | None:
    """Return which of padding and mask shares its id with another of ROLES, and with which; None: neither does.

    At the id of padding nothing is attended to, and at the id of the mask a token was masked, so neither may have
    another role. The first and last token may be the same, as in XLM and relatives of GPT-2, and the unknown token may
    be either.
    """
    pairs = ((one, other) for one in ("pad", "mask") for other in ids if other != one)
    return next(((one, other) for one, other in pairs if ids[one] is not None and ids[one] == ids[other]), None)


class HasEntries(Protocol):
    """A tokenizer of tokenizers or of transformers."""

    def get_vocab(self) -> dict[str, int]:
        """Return ids by entry."""


def num_ids(tokenizer: HasEntries) -> int:
    """Return the largest id + 1, more than the number of entries where a vocabulary has gaps or an entry twice."""
    return max(tokenizer.get_vocab().values()) + 1
