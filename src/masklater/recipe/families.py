"""Facts about transformers' model types that neither their configs nor a trial tells (no torch)."""

PRE_NORM = {"roberta-prelayernorm", "esm", "modernbert", "eurobert"}
"""Families whose layers normalise their input rather than their output; the decoder's layers follow them."""

GATED = {"modernbert", "eurobert", "nomic_bert"}
"""Families whose feed-forward has a gate: three matrices instead of two."""

ROTARY = {"esm", "modernbert", "eurobert"}
"""Families whose attention turns queries and keys by position; the decoder's then does too, unless told otherwise."""

ONE_STACK = {"roberta", "roberta-prelayernorm", "bert", "camembert", "xlm-roberta", "modernbert"}
"""Families whose layers can be called one by one, for [MASK]s to enter between two of them."""
