"""Facts about transformers' model types that neither their configs nor a trial tells (no torch)."""

PRE_NORM = {"roberta-prelayernorm", "esm", "modernbert", "eurobert"}
"""Families whose layers normalise their input rather than their output; the decoder's layers follow them."""

GATED = {"modernbert", "eurobert", "nomic_bert", "gte", "esmc"}
"""Families whose feed-forward has a gate: three matrices instead of two."""

SPELT_OUT_GELU = {"esm"}
"""Families that compute GELU in several operators, each of which keeps its input for the backward pass."""

ROTARY = {"esm", "modernbert", "eurobert", "nomic_bert", "gte", "esmc", "jina_embeddings_v3"}
"""Families whose attention turns queries and keys by position; the decoder's then does too, unless told otherwise.
ESM's may have learned positions in place of it."""


def is_rotary(config: object) -> bool:
    """Whether an encoder turns queries and keys by position, as the configs of all that do say but RoFormer's."""
    usual = "rotary" if getattr(config, "model_type", None) in ROTARY else None
    is_named = getattr(config, "position_embedding_type", usual) == "rotary"
    return is_named or getattr(config, "rope_parameters", None) is not None


COUNT_TOKENS = {
    "roberta", "roberta-prelayernorm", "camembert", "xlm-roberta", "xlm-roberta-xl", "xmod", "data2vec-text", "ibert",
    "luke", "mpnet", "nystromformer", "esm",
}  # fmt: skip
"""Families that count learned positions over the tokens that are not padding, from the padding token's id + 1 on;
others count all, from 0."""


def position_embeddings(family: str, row_length: int, pad: int) -> int:
    """Return the number of position embeddings a family needs for rows of this length; 0 for rotary ones."""
    if family in ROTARY:
        return 0
    return row_length + (pad + 1 if family in COUNT_TOKENS else 0)


ONE_STACK = {"roberta", "roberta-prelayernorm", "bert", "camembert", "xlm-roberta", "modernbert"}
"""Families whose layers can be called one by one, for [MASK]s to enter between two of them."""

WINDOWED = {"modernbert"}
"""Families that take one mask for each kind of layer, global ones and such as see a window of positions alone."""

WINDOWS = (3, 128)
"""ModernBERT's as published (arXiv 2412.13663): every third layer is global, the others see a window of 128."""

DEBERTA = {"deberta", "deberta-v2"}
"""Families whose embeddings are masked too, so that a mask of who attends to whom goes to their layers alone."""
