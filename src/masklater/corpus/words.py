"""Word beginnings, read from a tokenizer, for whole-word and span masking."""

import unicodedata
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from masklater.corpus.special import continuing_prefix
from masklater.corpus.split import belongs_to_what_is_before, is_mark
from masklater.corpus.vocabulary import num_ids
from masklater.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Array = TypeVar("Array")
LETTER, SPACE = 1, 4


class WordTable(NamedTuple, Generic[Array]):
    """The table by which words are found.

    A word begins at a token of `begins_V`, and between two tokens whose adjacent characters differ in class. The fields
    are arrays of numpy, or of torch where positions are chosen.
    """

    begins_V: Array  # bool: the token begins a word, whatever precedes it
    first_V: Array  # int8: class of its first character; 0: one that never begins a word
    last_V: Array  # int8: class of its last character; 0: one after which no word begins


def word_table_of(tokenizer: "PreTrainedTokenizerFast") -> WordTable[NDArray[Any]]:
    """Read from a tokenizer where words begin.

    - WordPiece: a token without `##` begins a word.
    - Byte-level BPE: a token with a space before it begins a word. Within a stretch without spaces, so does a change
      between letters, digits and other characters. Combining marks and joiners belong to the characters before them,
      whether the tokenizer was trained so or splits them off as GPT-2's does.
    - SentencePiece: a token with `▁` before it begins a word.

    Raises:
        UserError: The tokenizer is of another kind.
    """
    decoder = tokenizer.backend_tokenizer.decoder
    # An id may have no entry; it is in no row.
    tokens = [token or "" for token in tokenizer.convert_ids_to_tokens(list(range(num_ids(tokenizer))))]
    none_V = np.zeros(len(tokens), np.int8)
    if type(decoder).__name__ == "ByteLevel":
        texts = [tokenizer.backend_tokenizer.decode([i], skip_special_tokens=False) for i in range(len(tokens))]
        return WordTable(
            begins_V=np.array([text[:1].isspace() for text in texts]),
            first_V=np.array([_class_of(text[:1]) for text in texts], np.int8),
            last_V=np.array([_class_at_the_end(text) for text in texts], np.int8),
        )
    if type(decoder).__name__ == "WordPiece":
        prefix = continuing_prefix(tokenizer.backend_tokenizer)
        return WordTable(np.array([not token.startswith(prefix) for token in tokens]), none_V, none_V)
    if "▁" in str(decoder):
        return WordTable(np.array([token.startswith("▁") for token in tokens]), none_V, none_V)
    raise UserError(
        "masking.choose needs words, and the tokens of this tokenizer do not show where they begin: it is neither a "
        f"byte-level BPE nor a WordPiece or SentencePiece one (tokenizers decodes it by {type(decoder).__name__})",
        "Set masking.choose=uniform, use a tokenizer of these kinds, or prepare text whose words are marked "
        "(--marked-words).",
    )


def _class_of(character: str) -> int:
    if not character or character == "\ufffd" or belongs_to_what_is_before(character):
        return 0  # a part of a character's bytes, or a mark or joiner, which belongs to the character before
    if character.isspace():
        return SPACE
    return {"L": LETTER, "N": 2}.get(unicodedata.category(character)[0], 3)


def _class_at_the_end(text: str) -> int:
    """Return the class of the last character that is neither mark nor joiner; marks alone count as a letter's.

    A single space is the beginning of the next word.
    """
    if text == " ":
        return 0
    for character in reversed(text):
        if not belongs_to_what_is_before(character):
            return _class_of(character)
    return LETTER if any(map(is_mark, text)) else 0
