"""A vocabulary that has grown: what its new tokens were before they were words of their own."""

from typing import TYPE_CHECKING

from masklater.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


def pieces_of_new_tokens(
    before: "PreTrainedTokenizerFast", now: "PreTrainedTokenizerFast", source: str
) -> dict[int, list[int]]:
    """For each token that is new, the tokens its text had been cut into.

    Args:
        before: The tokenizer that a model was trained with.
        now: The tokenizer of the data; the same, or the same with tokens added.
        source: Where `before` is from, for the message.

    Returns:
        ids of `before` by ids of `now`; at least one each. Empty where nothing was added.

    Raises:
        UserError: A token of `before` has another id, or none: what the model knows would be assigned to other words.
    """
    old_ids, new_ids = before.get_vocab(), now.get_vocab()
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
    unknown = before.unk_token_id
    pieces = {}
    for token, token_id in new_ids.items():
        if token_id not in known:
            parts = before.encode(_text_of(token, token_id, now), add_special_tokens=False)
            pieces[token_id] = [part for part in parts if part != unknown] or [unknown or 0]
    return pieces


def _text_of(token: str, token_id: int, tokenizer: "PreTrainedTokenizerFast") -> str:
    text = tokenizer.backend_tokenizer.decode([token_id], skip_special_tokens=False)
    return str(text or token).removeprefix("##")
