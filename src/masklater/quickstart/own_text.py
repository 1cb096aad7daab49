"""The user's own text: how it is cut into documents, and prompts from its held-out part."""

from pathlib import Path

import numpy as np

from masklater.corpus.files import find_files
from masklater.corpus.readers import READERS, ending_of
from masklater.corpus.settings import DocumentUnit
from masklater.corpus.shards import Shards
from masklater.corpus.tokenizer import load
from masklater.corpus.unpack import DAMAGES, unpack
from masklater.errors import UserError

MANY_FILES = 200
"""From this number of files on, each file is a document: 2% of them are enough to be held out."""
LOOKED_AT = 2**20
BEFORE, AFTER = 6, 6
"""Number of tokens before and after the mask of a prompt."""


def choose_documents(text: Path) -> DocumentUnit:
    """Choose what one document is, so that there are many and some can be held out.

    Raises:
        UserError: There is no text.
    """
    plain = [path for path in find_files([text]) if _is_plain(path)]
    if not plain or len(plain) >= MANY_FILES:
        return "file"
    try:
        with plain[0].open("rb") as file:
            ending = ending_of(plain[0].name)
            packing = ending.packing if ending else ""
            head = (unpack(file, packing, str(plain[0])) if packing else file).read(LOOKED_AT)
    except (OSError, *DAMAGES):
        return "file"  # reading it later will say what is wrong
    return "blank-line" if b"\n\n" in head.replace(b"\r", b"") else "line"


def _is_plain(path: Path) -> bool:
    ending = ending_of(path.name)
    return ending is not None and READERS[ending.kind].records is None


def prompts_of(shards: Shards, number: int = 3) -> dict[str, str]:
    """Take prompts from held-out rows: each has one mask, and the masked word as its value.

    Raises:
        UserError: No text was held out.
    """
    rows = shards.valid.num_rows
    if not rows:
        raise UserError(
            "the text has too few documents for any to be held out: 2% of them are",
            "Give more text. In .txt files a document is what stands between blank lines, or a line.",
        )
    tokenizer = load(shards.folder / "tokenizer")
    numbers = np.unique(np.linspace(0, rows - 1, 8 * number).astype(np.int64))
    prompts: dict[str, str] = {}
    for ids_L in shards.valid.read(numbers).ids_NL:
        ids = [token for token in ids_L.tolist() if token not in set(tokenizer.all_special_ids)]
        words = [tokenizer.decode([token]) for token in ids]
        for place in range(BEFORE, len(ids) - AFTER):
            if words[place].strip().isalpha() and len(words[place].strip()) > 1 and words[place + 1][:1] == " ":
                space = " " if words[place].startswith(" ") else ""
                before = tokenizer.decode(ids[place - BEFORE : place])
                after = tokenizer.decode(ids[place + 1 : place + 1 + AFTER])
                prompts[" ".join(f"{before}{space}{tokenizer.mask_token}{after}".split())] = words[place].strip()
                break
        if len(prompts) == number:
            break
    return prompts
