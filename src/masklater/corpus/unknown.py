"""The share of a text that a tokenizer does not know: reported, and refused where it is too large."""

import math

from masklater.console import say
from masklater.errors import UserError

SOME_UNKNOWN = 0.01
"""Share of unknown tokens that is worth a warning."""


def check_unknown(unknown: int, tokens: int, token: str | None, allowed: float, trained_as: str | None) -> None:
    """Warn where much of a text is unknown to its tokenizer.

    Args:
        unknown: How many tokens are.
        tokens: Of how many.
        token: What stands there instead.
        allowed: The share up to which it is only said.
        trained_as: The kind of tokenizer, where it was trained on this text.

    Raises:
        UserError: More is unknown than is allowed.
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
