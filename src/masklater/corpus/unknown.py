"""The share of a text that a tokenizer does not know: reported, and refused where it is too large."""

import math

from masklater.console import say
from masklater.errors import UserError

SOME_UNKNOWN = 0.01
"""The share of unknown tokens from which a warning is given."""


def check_unknown(unknown: int, tokens: int, token: str | None, allowed: float, trained_as: str | None) -> None:
    """Warn where much of a text is unknown to its tokenizer.

    Args:
        unknown: The number of unknown tokens.
        tokens: The number of all tokens.
        token: The unknown token.
        allowed: The share up to which there is only a warning.
        trained_as: The kind of tokenizer, where it was trained on this text.

    Raises:
        UserError: The share is larger than allowed.
    """
    share = unknown / tokens
    if share <= min(SOME_UNKNOWN, allowed):
        return
    found = f"{share:.1%} of the tokens ({unknown:,} of {tokens:,}) are {token}: text the tokenizer does not know"
    if trained_as == "wordpiece":
        found += " (WordPiece knows no word of more than 100 characters)"
    if share > allowed:
        raise UserError(
            found,
            "Take a tokenizer that was made for this text, or train one that knows every text with --train-tokenizer "
            f"bpe. Or allow it with --max-unknown {math.ceil(share * 100) / 100:g}.",
        )
    say(f"{found}, and of which nothing is learned")
