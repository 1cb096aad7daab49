"""A vocabulary that has grown or was trimmed since its model was trained: the rows that tokens take over."""

import json
from typing import TYPE_CHECKING, NamedTuple

from tokenizers import Tokenizer

from masklater.corpus.special import continuing_prefix
from masklater.corpus.tokenizer import unknown_id
from masklater.corpus.trim import ids_before
from masklater.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


class Rows(NamedTuple):
    """The rows of a model's word embedding whose mean each token begins as."""

    of_token: dict[int, list[int]]  # by the token's id; at least one row each
    trimmed: bool = False  # True: all tokens are listed, under new ids; False: only tokens that are new


def find_rows(
    before: "PreTrainedTokenizerFast", now: "PreTrainedTokenizerFast", num_embeddings: int, source: str
) -> Rows:
    """Find the rows that tokens begin as: their own row, or the rows of the tokens that their text was cut into before.

    Args:
        before: The tokenizer saved with a model.
        now: The tokenizer of the data: `before`, or `before` with tokens added, trimmed, or both.
        num_embeddings: The number of the model's word embeddings. A token with an id beyond them is new even if
            `before` has it: it was added before the model learned it.
        source: Where `before` comes from, for messages.

    Raises:
        UserError: A token of `before` has another id, or none, and `now` is not `before` trimmed: the model's
            embeddings would be assigned to other words.
    """
    new_ids = now.get_vocab()
    old_ids = {token: token_id for token, token_id in before.get_vocab().items() if token_id < num_embeddings}
    moved = [token for token, token_id in old_ids.items() if new_ids.get(token) != token_id]
    ids_in_whole = ids_before(before, now) if moved else None
    if moved and ids_in_whole is None:
        example = min(moved, key=lambda token: old_ids[token])
        now_at = new_ids.get(example)
        raise UserError(
            f"the data was prepared with another tokenizer than {source} was trained with: {example!r} was token "
            f"{old_ids[example]} and is {'unknown' if now_at is None else now_at} now ({len(moved):,} of "
            f"{len(old_ids):,} tokens differ)",
            f"Prepare it with --tokenizer {source}, perhaps with --trim, or with that tokenizer after add_tokens.",
        )
    known = set(old_ids.values())
    rows = {token_id: [old] for token_id, old in (ids_in_whole or {}).items() if old in known}
    stays = known if ids_in_whole is None else {*rows}
    unknown = unknown_id(before)
    cutter = _without_added_beyond(before, num_embeddings)
    for token, token_id in new_ids.items():
        if token_id not in stays:
            parts = cutter.encode(_text_of(token, token_id, now), add_special_tokens=False).ids
            rows[token_id] = [part for part in parts if part in known and part != unknown] or [unknown or 0]
    return Rows(rows, trimmed=ids_in_whole is not None)


def _without_added_beyond(tokenizer: "PreTrainedTokenizerFast", num_ids: int) -> Tokenizer:
    """Return the tokenizer without the tokens that were added to it at ids from `num_ids` on."""
    pipeline = json.loads(tokenizer.backend_tokenizer.to_str())
    pipeline["added_tokens"] = [token for token in pipeline["added_tokens"] if token["id"] < num_ids]
    return Tokenizer.from_str(json.dumps(pipeline))


def _text_of(token: str, token_id: int, tokenizer: "PreTrainedTokenizerFast") -> str:
    text = tokenizer.backend_tokenizer.decode([token_id], skip_special_tokens=False)
    return str(text or token).removeprefix(continuing_prefix(tokenizer.backend_tokenizer))
