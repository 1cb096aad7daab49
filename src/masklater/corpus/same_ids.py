"""Whether two saved tokenizers are the same for rows of ids: decided by their entries and by their behaviour.

The files of equal tokenizers may differ. transformers rewrites a tokenizer that it has read, and what one version
writes as a normalizer, another writes as a pre-tokenizer. So texts are encoded instead of comparing the written steps:
texts in many scripts, and the entries themselves, since some steps may matter only to entries of this vocabulary.
"""

import json
import math
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from tokenizers import Tokenizer

from masklater.corpus.special import continuing_prefix
from masklater.corpus.tokenizer import fingerprint, load_backend

TEXTS = (
    "The tree, isn't it? IT'S Her 3rd (well-known) e-mail: a_b@C.org/x?y=1&z=2; $1,234.50 #99 12345678",
    "two  spaces\n\nand\ttabs \r\n   if (x != 1) {\n    return;\n}\n ▁ Ġ ## _ \\n",
    "déjà vu NAÏVE Ångström Straße ẞ İstanbul ıI ﬁ ½ ² ™ … — “quoted” ‘so’ ``and'' so",
    "ΣΑΣ σοφός Ёжик йод в 2024 году її שָׁלוֹם עולם مَرْحَبًا بالعالم ۱۲۳ می‌روم হ্যালো",
    "नमस्ते दुनिया வணக்கம் తెలుగు สวัสดีชาวโลก မင်္ဂလာပါ ខ្មែរ አማርኛ",
    "我们在这里。ＡＢＣ１２３ 東京タワー、ﾃｽﾄ が 안녕하세요 한국어 𠀀",
    "👩‍👩‍👧 🏽 a\u200bb a\u00a0b a\u00adb a\u3000b a\u0007b a\ufeffb \ue000 \U000e0001 \U0001f9ff",
    "Pneumonoultramicroscopicsilicovolcanoconiosis " * 2 + "aB" * 120,
)
FORMS: tuple[Literal["NFC", "NFD", "NFKC", "NFKD"], ...] = ("NFC", "NFD", "NFKC", "NFKD")
MOST_ENTRIES = 2048
"""The number of a vocabulary's entries that are encoded as texts; of a larger one, every n-th."""
ENTRIES_IN_A_WORD = 4


def have_same_ids(one: Path, other: Path) -> bool:
    """Tell whether two saved tokenizers give the same ids to the same tokens, and make the same tokens of a text.

    Special tokens put around a text are not compared: rows have their own first and last token.

    Raises:
        DamagedDataError: The tokenizer.json of one does not load.
    """
    if fingerprint(one) == fingerprint(other):
        return True
    here, there = _load(one), _load(other)
    return _same_entries(here, there) and all(_ids(here, text) == _ids(there, text) for text in _texts(here))


def differs_from_file(tokenizer: Tokenizer, folder: Path) -> str | None:
    """Find a text that a tokenizer, read from a folder, cuts into other tokens than the folder's tokenizer.json.

    The tokenizer's padding and truncation are switched off, as for preparing.

    Returns:
        A word, or a whole text where single words are cut alike; None where all texts tried are.
    """
    there, before = _load(folder), tokenizer.encode_special_tokens
    _as_rows_are_made(tokenizer)  # not of a copy: copying a large vocabulary takes seconds
    words = (word for text in TEXTS for word in text.split())
    found = next((text for text in (*words, *_texts(there)) if _ids(tokenizer, text) != _ids(there, text)), None)
    tokenizer.encode_special_tokens = before
    return found


def _load(folder: Path) -> Tokenizer:
    tokenizer = load_backend(folder)
    _as_rows_are_made(tokenizer)
    return tokenizer


def _as_rows_are_made(tokenizer: Tokenizer) -> None:
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True


def _same_entries(one: Tokenizer, other: Tokenizer) -> bool:
    """Compare entries and merges as the installed library writes both."""
    (*here, vocab_here), (*there, vocab_there) = map(_entries, (one, other))
    return here == there and _same_vocab(vocab_here, vocab_there)


def _entries(tokenizer: Tokenizer) -> tuple[Any, ...]:
    tree = json.loads(tokenizer.to_str())
    added, model = {token["content"]: token["id"] for token in tree["added_tokens"]}, tree["model"]
    return added, model["type"], model.get("merges"), model["vocab"]


def _same_vocab(one: Any, other: Any) -> bool:
    """Compare entries and ids; for Unigram, entries and scores in order (saving may change a score's last digit)."""
    if not isinstance(one, list):
        return bool(one == other)
    return len(one) == len(other) and all(
        token == token_there and math.isclose(score, score_there)
        for (token, score), (token_there, score_there) in zip(one, other, strict=True)
    )


def _ids(tokenizer: Tokenizer, text: str) -> list[int] | None:
    """Return the ids of a text; None where the tokenizer has no ids for it and no unknown token."""
    try:
        ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    except Exception:  # tokenizers raises plain Exception
        return None
    return ids


def _texts(tokenizer: Tokenizer) -> Iterator[str]:
    """Yield texts like those of documents, without white space at the ends, and entries, alone and joined to words.

    Special tokens are left out: a tokenizer may find them in a text that spells them, and its prepared copy does not,
    but both count as the same.
    """
    special = {number for number, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    ids = sorted(set(tokenizer.get_vocab().values()) - special)
    decoded = (tokenizer.decode([one], skip_special_tokens=False) for one in ids[:: len(ids) // MOST_ENTRIES + 1])
    prefix = continuing_prefix(tokenizer)
    entries = [entry.removeprefix(prefix).strip() for entry in decoded]
    words = ["".join(entries[start : start + ENTRIES_IN_A_WORD]) for start in range(0, len(entries), ENTRIES_IN_A_WORD)]
    for text in (*TEXTS, " ".join(entries), " ".join(words)):
        forms = (unicodedata.normalize(form, text) for form in FORMS)
        yield from {one.strip() for one in (text, text.upper(), text.lower(), *forms)}
