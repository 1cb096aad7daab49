"""A vocabulary that is not the model's any more, as it has grown or was trimmed: what its tokens were before."""

import json
from typing import TYPE_CHECKING, NamedTuple

from tokenizers import Tokenizer

from masklater.corpus.tokenizer import unknown_id
from masklater.corpus.trim import ids_before
from masklater.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


class Rows(NamedTuple):
    """The rows of a model's word embedding that tokens begin as the mean of."""

    of_token: dict[int, list[int]]  # by the token's id; at least one each
    trimmed: bool = False  # True: all tokens are there, under new ids; False: those alone that are new


def find_rows(
    before: "PreTrainedTokenizerFast", now: "PreTrainedTokenizerFast", num_embeddings: int, source: str
) -> Rows:
    """Find what each token begins as; arguments and errors are those of `pieces_of_new_tokens`."""
    old_ids = ids_before(before, now) if _moved(before, now, num_embeddings) else None
    if old_ids is None:
        return Rows(pieces_of_new_tokens(before, now, num_embeddings, source))
    same = {token_id: [old] for token_id, old in old_ids.items() if old < num_embeddings}
    known = {token_id for token_id in before.get_vocab().values() if token_id < num_embeddings}
    new = {token: token_id for token, token_id in now.get_vocab().items() if token_id not in same}
    return Rows(same | _cut(new, known, before, now, num_embeddings), trimmed=True)


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
    if moved := _moved(before, now, num_embeddings):
        example = min(moved, key=lambda token: old_ids[token])
        now_at = new_ids.get(example)
        raise UserError(
            f"the data was prepared with another tokenizer than {source} was trained with: {example!r} was token "
            f"{old_ids[example]} and is {'unknown' if now_at is None else now_at} now ({len(moved):,} of "
            f"{len(old_ids):,} tokens differ)",
            f"Prepare it with --tokenizer {source}, perhaps with --trim, or with that tokenizer after add_tokens.",
        )
    known = set(old_ids.values())
    new = {token: token_id for token, token_id in new_ids.items() if token_id not in known}
    return _cut(new, known, before, now, num_embeddings)


def _moved(before: "PreTrainedTokenizerFast", now: "PreTrainedTokenizerFast", num_embeddings: int) -> list[str]:
    """The tokens that have another id now, or none."""
    new_ids = now.get_vocab()
    old = before.get_vocab().items()
    return [token for token, token_id in old if token_id < num_embeddings and new_ids.get(token) != token_id]


def _cut(
    new: dict[str, int],
    known: set[int],
    before: "PreTrainedTokenizerFast",
    now: "PreTrainedTokenizerFast",
    num_embeddings: int,
) -> dict[int, list[int]]:
    """The known pieces that the texts of new tokens had been cut into."""
    unknown = unknown_id(before)
    cutter = _without_added_beyond(before, num_embeddings)
    pieces = {}
    for token, token_id in new.items():
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
