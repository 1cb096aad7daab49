"""A saved tokenizer reduced to the entries that a text uses, which leaves less to embed and to predict.

Vocabularies of many languages have 120,000 to 250,000 entries, of which one language uses a part (Abdaoui et al. 2020,
arXiv 2010.05609; Ushio et al. 2023, arXiv 2305.15020). While only unused entries are removed, the text is cut as
before: the best pieces (Unigram), the longest (WordPiece) and the merges made (BPE) are still there. If more are
removed, words are cut into smaller pieces, down to single characters. Letters: V entries before.
"""

import copy
import json
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from masklater.corpus.read import Document
from masklater.corpus.tokenise import tokenise
from masklater.corpus.vocabulary import num_ids
from masklater.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

ASCII = frozenset(map(chr, range(0x21, 0x7F)))
"""Characters whose entries are kept, whether the text has them or not."""


def count_uses(documents: Iterator[Document], tokenizer: Tokenizer, threads: int) -> NDArray[np.int64]:
    """Return how often each entry occurs in some documents, uses_V (int64)."""
    uses_V = np.zeros(num_ids(tokenizer), np.int64)
    for _, tokens in tokenise(documents, tokenizer, threads):
        np.add.at(
            uses_V, tokens.ids_T, 1
        )  # counting all entries anew for each document would take longer than cutting it
    return uses_V


def trim(
    tokenizer: "PreTrainedTokenizerFast", uses_V: NDArray[np.int64], most: int | None = None
) -> "PreTrainedTokenizerFast":
    """Return a copy of a tokenizer with fewer entries, in the same order under new ids.

    Args:
        tokenizer: The tokenizer; its model is Unigram, WordPiece, BPE or WordLevel.
        uses_V: How often each entry is used.
        most: The most entries to keep, the most frequent ones; None: all that are used. Special tokens, bytes, and the
            single characters of the text and of ASCII are always kept.

    Raises:
        UserError: More than `most` entries must be kept.
    """
    tree = json.loads(tokenizer.backend_tokenizer.to_str())
    kept = _choose(tree, uses_V, most)
    new_ids = {old: new for new, old in enumerate(sorted(kept))}
    model = tree["model"]
    if isinstance(model["vocab"], list):  # of Unigram: pieces with scores, by their ids
        model["vocab"] = [entry for token_id, entry in enumerate(model["vocab"]) if token_id in new_ids]
        model["unk_id"] = new_ids.get(model["unk_id"])
    else:
        model["vocab"] = {token: new_ids[old] for token, old in model["vocab"].items() if old in new_ids}
    if "merges" in model:
        left = model["vocab"].keys()
        model["merges"] = [pair for pair in model["merges"] if {*_parts(pair), "".join(_parts(pair))} <= left]
    for token in tree["added_tokens"]:
        token["id"] = new_ids[token["id"]]
    _renumber(tree["post_processor"], new_ids)
    trimmed = copy.deepcopy(tokenizer)
    trimmed._tokenizer = Tokenizer.from_str(json.dumps(tree))
    return trimmed


def _choose(tree: dict[str, Any], uses_V: NDArray[np.int64], most: int | None) -> set[int]:
    model = tree["model"]
    vocab: dict[str, int] = (
        {token: token_id for token_id, (token, _) in enumerate(model["vocab"])}
        if isinstance(model["vocab"], list)
        else model["vocab"]
    )
    prefix = model.get("continuing_subword_prefix") or ""
    used = {token: int(uses_V[token_id]) for token, token_id in vocab.items() if uses_V[token_id]}
    characters = ASCII.union(*(token.removeprefix(prefix) for token in used))
    is_bytes = "ByteLevel" in str(tree["decoder"])
    kept = {token["id"] for token in tree["added_tokens"]}
    unknown = (vocab.get(model.get("unk_token")), model.get("unk_id"))
    kept |= {token_id for token_id in unknown if token_id is not None}
    for token, token_id in vocab.items():
        bare = token.removeprefix(prefix)
        if (len(bare) == 1 and (is_bytes or bare in characters)) or (len(token) == 6 and token.startswith("<0x")):
            kept.add(token_id)
    made_of: dict[str, list[str]] = {}
    for pair in model.get("merges", ()):
        made_of.setdefault("".join(_parts(pair)), []).extend(_parts(pair))
    if most is not None and len(kept) > most:
        raise UserError(
            f"--vocab-size {most:,} is less than the {len(kept):,} entries that stay in any case: special tokens, "
            "bytes, and the single characters of the text",
            "Raise it, or leave it out to keep all that the text uses.",
        )
    for token in sorted(used, key=lambda token: (-used[token], vocab[token])):
        more = {vocab[part] for part in _with_parts(token, made_of)} - kept
        if most is None or len(kept) + len(more) <= most:
            kept |= more
    return kept


def _with_parts(token: str, made_of: dict[str, list[str]]) -> set[str]:
    """Return a token with all the pieces that are merged to make it."""
    found, open_ = {token}, [token]
    while open_:
        new = {*made_of.get(open_.pop(), ())} - found
        found |= new
        open_ += new
    return found


def _parts(pair: str | list[str]) -> list[str]:
    return pair.split(" ") if isinstance(pair, str) else pair  # older files hold a string


def _renumber(processor: Any, new_ids: dict[int, int]) -> None:
    """Give new ids, in place, to the special tokens that a post-processor puts around a text."""
    if isinstance(processor, dict):
        for key, value in processor.items():
            if key == "ids":
                processor[key] = [new_ids[old] for old in value]
            elif key in ("sep", "cls") and isinstance(value, list):
                processor[key] = [value[0], new_ids[value[1]]]
            else:
                _renumber(value, new_ids)
    elif isinstance(processor, list):
        for value in processor:
            _renumber(value, new_ids)


def ids_before(before: "PreTrainedTokenizerFast", now: "PreTrainedTokenizerFast") -> dict[int, int] | None:
    """Return the old id of each entry of a trimmed tokenizer, by its new id; None: `now` is not `before` trimmed.

    Entries that were added after trimming are left out.
    """
    old, new = (json.loads(each.backend_tokenizer.to_str())["model"] for each in (before, now))
    if old["type"] != new["type"]:
        return None
    if isinstance(old["vocab"], list):
        scores = dict(old["vocab"])  # a score may differ in its last digit after saving
        if not all(token in scores and math.isclose(scores[token], score) for token, score in new["vocab"]):
            return None
    elif not {*new["vocab"]} <= {*old["vocab"]}:
        return None
    merges = [{" ".join(_parts(pair)) for pair in model.get("merges", ())} for model in (old, new)]
    if not merges[1] <= merges[0]:
        return None
    old_ids = before.get_vocab()
    return {token_id: old_ids[token] for token, token_id in now.get_vocab().items() if token in old_ids}
