"""Facts about transformers' model types that cannot be read from their configs, nor found by trying (no torch)."""

PRE_NORM = {"roberta-prelayernorm", "esm", "modernbert", "eurobert"}
"""Families whose layers normalise their input rather than their output; the decoder's layers follow them."""

GATED = {"modernbert", "eurobert", "nomic_bert", "gte", "esmc"}
"""Families whose feed-forward has a gate: three matrices instead of two."""

SPELT_OUT_GELU = {"esm"}
"""Families that compute GELU in several operators, each of which keeps its input for the backward pass."""

ROTARY = {"esm", "modernbert", "eurobert", "nomic_bert", "gte", "esmc", "jina_embeddings_v3"}
"""Families whose attention rotates queries and keys by position; the decoder then does so too, unless told otherwise.
ESM's may have learned positions instead."""


def is_rotary(config: object) -> bool:
    """Tell whether an encoder rotates queries and keys by position; all such configs but RoFormer's say so."""
    usual = "rotary" if getattr(config, "model_type", None) in ROTARY else None
    is_named = getattr(config, "position_embedding_type", usual) == "rotary"
    return is_named or getattr(config, "rope_parameters", None) is not None


COUNT_TOKENS = {
    "roberta", "roberta-prelayernorm", "camembert", "xlm-roberta", "xlm-roberta-xl", "xmod", "data2vec-text", "ibert",
    "luke", "mpnet", "nystromformer", "esm",
}  # fmt: skip
"""Families whose learned positions count only tokens that are not padding, from the padding token's id + 1 on. Other
families count all tokens, from 0."""


def position_embeddings(family: str, row_length: int, pad: int) -> int:
    """Return the number of position embeddings a family needs for rows of this length; 0 for rotary ones."""
    if family in ROTARY:
        return 0
    return row_length + (pad + 1 if family in COUNT_TOKENS else 0)


ONE_STACK = {"roberta", "roberta-prelayernorm", "bert", "camembert", "xlm-roberta", "modernbert"}
"""Families whose layers can be called one by one, so that [MASK]s can enter between two of them."""

WINDOWED = {"modernbert"}
"""Families that take one mask for each kind of layer: global ones, and ones that see only a window of positions."""

WINDOWS = (3, 128)
"""ModernBERT's published values (arXiv 2412.13663): every third layer is global, the others see a window of 128."""

DEBERTA = {"deberta", "deberta-v2"}
"""Families whose embeddings use the mask too, so that a mask of who attends to whom is passed to their layers alone."""
