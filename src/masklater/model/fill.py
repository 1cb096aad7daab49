"""The likeliest tokens in the place of `<mask>`."""

from typing import TYPE_CHECKING, NamedTuple

import torch

from masklater.corpus.half_pairs import without_half_pairs
from masklater.errors import UserError
from masklater.model.masked_lm import MaskLaterForMaskedLM

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


class Guess(NamedTuple):
    """One candidate for one mask."""

    token: str  # as text, including the space before it
    probability: float


def fill_masks(
    model: MaskLaterForMaskedLM, tokenizer: "PreTrainedTokenizerFast", text: str, top: int
) -> list[list[Guess]]:
    """Find the `top` likeliest tokens for each mask of a text, in order.

    Raises:
        UserError: The text is not UTF-8, has no mask, or is longer than the model's longest row.
    """
    if without_half_pairs(text) != text:  # what Python passes on from a terminal with another encoding
        raise UserError(f"the text {text!r} is not UTF-8", "Write it in UTF-8, or set the terminal to it.")
    ids_BL = torch.tensor([tokenizer(text)["input_ids"]])
    is_mask_L = ids_BL[0] == tokenizer.mask_token_id
    if not is_mask_L.any():
        raise UserError(
            f"there is no {tokenizer.mask_token} in {text!r}",
            f"Write {tokenizer.mask_token} where a word is to be guessed.",
        )
    if ids_BL.shape[1] > model.config.row_length:
        raise UserError(
            f"the text has {ids_BL.shape[1]} tokens; the model takes rows of {model.config.row_length}",
            "Shorten the text.",
        )
    with torch.no_grad():
        logits_LV = model(input_ids=ids_BL).logits[0]
    best = logits_LV[is_mask_L].softmax(dim=1).topk(min(top, logits_LV.shape[1]), dim=1)
    first = ids_BL[0, :1].tolist()  # after nothing, SentencePiece's decoder drops a token's space
    start = len(tokenizer.decode(first))
    return [
        [
            Guess(tokenizer.decode([*first, token_id])[start:], probability)
            for token_id, probability in zip(ids, shares, strict=True)
        ]
        for ids, shares in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]
