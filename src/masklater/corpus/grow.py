"""A vocabulary that has grown: what its new tokens were before they were words of their own."""

import json
from typing import TYPE_CHECKING

from tokenizers import Tokenizer

from masklater.corpus.tokenizer import unknown_id
from masklater.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


def pieces_of_new_tokens(
    before: "PreTrainedTokenizerFast", now: "PreTrainedTokenizerFast", num_embeddings: int, source: str
) -> dict[int, list[int]]:
    """For each token that is new, the tokens its text had been cut into.

    Args:
        before: The tokenizer beside a model.
        now: The tokenizer of the data; the same, or the same with tokens added.
        num_embeddings: Word embeddings of the model. A token whose id lies beyond them is new, and if `before` has it:
            it was saved there before the model has learned it.
        source: Where `before` is from, for the message.

    Returns:
        ids below `num_embeddings` by ids of `now`; at least one each. Empty where nothing was added.

    Raises:
        UserError: A token of `before` has another id, or none: what the model knows would be assigned to other words.
    """
    new_ids = now.get_vocab()
    old_ids = {token: token_id for token, token_id in before.get_vocab().items() if token_id < num_embeddings}
    moved = [token for token, token_id in old_ids.items() if new_ids.get(token) != token_id]
    if moved:
        example = min(moved, key=lambda token: old_ids[token])
        now_at = new_ids.get(example)
        raise UserError(
            f"the data was prepared with another tokenizer than {source} was trained with: {example!r} was token "
            f"{old_ids[example]} and is {'unknown' if now_at is None else now_at} now ({len(moved):,} of "
            f"{len(old_ids):,} tokens differ)",
            f"Prepare it with --tokenizer {source}, or with that tokenizer after add_tokens.",
        )
    known = set(old_ids.values())
    unknown = unknown_id(before)
    cutter = _without_added_beyond(before, num_embeddings)
    pieces = {}
    for token, token_id in new_ids.items():
        if token_id not in known:
            parts = cutter.encode(_text_of(token, token_id, now), add_special_tokens=False).ids
            pieces[token_id] = [part for part in parts if part in known and part != unknown] or [unknown or 0]
    return pieces


def _without_added_beyond(tokenizer: "PreTrainedTokenizerFast", num_ids: int) -> Tokenizer:
    """The tokenizer without the tokens that were added to it at ids from `num_ids` on."""
    pipeline = json.loads(tokenizer.backend_tokenizer.to_str())
    pipeline["added_tokens"] = [token for token in pipeline["added_tokens"] if token["id"] < num_ids]
    return Tokenizer.from_str(json.dumps(pipeline))


def _text_of(token: str, token_id: int, tokenizer: "PreTrainedTokenizerFast") -> str:
    text = tokenizer.backend_tokenizer.decode([token_id], skip_special_tokens=False)
    return str(text or token).removeprefix("##")
