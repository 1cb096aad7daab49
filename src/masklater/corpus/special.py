"""Special tokens: RoBERTa's and BERT's names for them, and their places around a text."""

import re
from collections.abc import Iterable

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors

ROBERTA_TOKENS = {"bos": "<s>", "pad": "<pad>", "eos": "</s>", "unk": "<unk>", "mask": "<mask>"}
ESM_TOKENS = {"bos": "<cls>", "pad": "<pad>", "eos": "<eos>", "unk": "<unk>", "mask": "<mask>"}
BERT_TOKENS = {"pad": "[PAD]", "unk": "[UNK]", "bos": "[CLS]", "eos": "[SEP]", "mask": "[MASK]"}


def wrap_texts(tokenizer: Tokenizer, bos: str, eos: str) -> None:
    """Put special tokens around a text, and around a pair of texts (for fine-tuning), as RoBERTa or BERT does."""
    between = [eos, eos] if eos == ROBERTA_TOKENS["eos"] else [eos]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=[bos, "$A", eos],
        pair=[bos, "$A", *between, "$B", eos],
        special_tokens=[(name, tokenizer.token_to_id(name)) for name in (bos, eos)],
    )


def cut_inside(names: Iterable[str]) -> pre_tokenizers.PreTokenizer:
    """Cut a text that spells one of these names after its first character, so that no special token is found.

    Such names are also entries of the model, which finds them in a text even where added tokens are not looked for.
    """
    pattern = "|".join(f"{re.escape(name[0])}(?={re.escape(name[1:])})" for name in names if len(name) > 1)
    return pre_tokenizers.Split(Regex(pattern), "isolated")


def continuing_prefix(tokenizer: Tokenizer) -> str:
    """Return the prefix with which a WordPiece tokenizer marks a token that continues a word."""
    return getattr(tokenizer.decoder, "prefix", None) or "##"


def by_character(entries: dict[str, int], unknown: str) -> Tokenizer:
    """Make a tokenizer with an entry for each character it knows; `unknown` replaces other characters."""
    tokenizer = Tokenizer(models.WordLevel(entries, unk_token=unknown))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return tokenizer


def esm(entries: dict[str, int]) -> Tokenizer:
    """Make ESM's tokenizer, one token per letter, from its entries; transformers has it only in Python.

    White space separates tokens and is dropped; a run of unknown characters is one unknown token.
    """
    known = sorted((entry for entry in entries if entry not in ESM_TOKENS.values()), key=len, reverse=True)
    letters = "".join(re.escape(entry) for entry in known if len(entry) == 1)
    longer = "".join(f"{re.escape(entry)}|" for entry in known if len(entry) > 1)
    tokenizer = Tokenizer(models.WordLevel(entries, unk_token=ESM_TOKENS["unk"]))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Split(Regex(f"{longer}[{letters}]|[^{letters}]+?(?={longer}[{letters}]|$)"), "isolated"),
            cut_inside(name for role, name in ESM_TOKENS.items() if role != "unk"),
        ]
    )
    tokenizer.decoder = decoders.Fuse()
    wrap_texts(tokenizer, ESM_TOKENS["bos"], ESM_TOKENS["eos"])
    return tokenizer


def mask_takes_space(tokenizer: Tokenizer, mask: str) -> bool:
    """Return whether a mask includes the space before it, as RoBERTa's does: "The <mask> is" asks for one word.

    With single characters as tokens, the space is a token itself, and is not included.
    """
    return mask == ROBERTA_TOKENS["mask"] and type(tokenizer.model).__name__ != "WordLevel"


def finish(tokenizer: Tokenizer, names: dict[str, str]) -> None:
    """Add the special tokens, and put them around a text."""
    tokenizer.add_special_tokens(
        [
            AddedToken(name, special=True, lstrip=mask_takes_space(tokenizer, name), normalized=False)
            for name in names.values()
        ]
    )
    wrap_texts(tokenizer, names["bos"], names["eos"])
