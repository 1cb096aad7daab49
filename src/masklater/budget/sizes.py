"""The sizes of an encoder that decide its cost, read from its config (no torch). Letters: see flops.py."""

import math
from dataclasses import dataclass

from masklater.recipe.families import COUNT_TOKENS, GATED, PRE_NORM, WINDOWED, WINDOWS, is_rotary


@dataclass(frozen=True)
class EncoderSizes:
    """The sizes of an encoder that decide its cost."""

    family: str  # transformers' model type
    vocabulary: int
    width: int
    feed_forward: int
    layers: int
    embedding_width: int | None  # None: the width
    positions: int  # rows of its position embedding; 0 where positions are rotary
    token_types: int
    reserved: int = 0  # position embeddings that no row uses: RoBERTa and relatives start after the padding token's id
    heads: int = 1
    local_layers: int = 0  # layers that see only a window of the row
    distance_products: int = 0  # DeBERTa-v2: distance embeddings that each position is multiplied with, per layer
    attention_width: int | None = None  # of all heads together; None: the width
    projections: int | None = None  # multiply-adds per position in the projections of a layer's attention; None: 4 D^2
    feed_forwards: int | None = None  # per position in its feed-forward; None: 2 D F, or 3 D F with a gate

    @property
    def longest_row(self) -> int | None:
        """The longest row that the encoder has positions for; None: any length."""
        return self.positions - self.reserved if self.positions else None

    @property
    def gated(self) -> bool:
        """Whether a gate makes the feed-forward three matrices instead of two."""
        return self.family in GATED

    @property
    def pre_norm(self) -> bool:
        """Whether layers normalise their input, which adds a norm at the end of encoder and decoder."""
        return self.family in PRE_NORM


def encoder_sizes(config: object) -> EncoderSizes:
    """Read the sizes from a transformers config, or from any object with the same attributes.

    Raises:
        AttributeError: The object lacks one of them.
    """

    def first(*names: str) -> int:  # families use different names for the same size
        return next((getattr(config, name) for name in names[:-1] if hasattr(config, name)), None) or getattr(
            config, names[-1]
        )

    layers, width, inner = (
        first("n_layers", "num_hidden_layers"), first("dim", "hidden_size"), first("hidden_dim", "intermediate_size")
    )  # fmt: skip
    heads = getattr(config, "n_heads", getattr(config, "num_attention_heads", 1))
    head_width = getattr(config, "head_dim", None) or width // heads
    family: str = config.model_type  # type: ignore[attr-defined]
    pad = getattr(config, "pad_token_id", None)
    return EncoderSizes(
        family=family,
        vocabulary=first("vocab_size"),
        width=width,
        feed_forward=inner,
        layers=layers,
        # The LM head shares RemBERT's word embedding, the input one; the wider one of RemBERT's own head is not used.
        embedding_width=getattr(config, "input_embedding_size", getattr(config, "embedding_size", None)),
        positions=0 if is_rotary(config) else getattr(config, "max_position_embeddings", 0),
        token_types=getattr(config, "type_vocab_size", 0),
        reserved=(1 if pad is None else pad) + 1 if family in COUNT_TOKENS else 0,
        heads=heads,
        local_layers=_local_layers(config, layers),
        distance_products=_distance_products(config),
        attention_width=heads * head_width,
        projections=_projections(config, width, heads, head_width),
        feed_forwards=_feed_forwards(config, width, inner),
    )


def _projections(config: object, width: int, heads: int, head_width: int) -> int:
    """Count the multiply-adds per position in a layer's queries, keys, values and output projection."""
    keys_heads = getattr(config, "num_key_value_heads", None) or heads  # EuroBERT may have fewer than query heads
    widths = {"q": heads, "k": keys_heads, "v": keys_heads, "post_attention": heads}
    return sum(width * many * head_width // _groups(config, name) for name, many in widths.items())


def _feed_forwards(config: object, width: int, inner: int) -> int | None:
    """Count the multiply-adds per position in a feed-forward that is cut into groups; None: it is not."""
    if config.model_type != "squeezebert":  # type: ignore[attr-defined]
        return None
    return sum(width * inner // _groups(config, name) for name in ("intermediate", "output"))


def _groups(config: object, matrix: str) -> int:
    """Return the number of groups that SqueezeBERT cuts a matrix into (each reads a share of the input); else 1."""
    return getattr(config, f"{matrix}_groups", 1)


def _distance_products(config: object) -> int:
    """Count DeBERTa-v2's distance embeddings, in both directions, once for each of its two kinds of products."""
    if config.model_type != "deberta-v2" or not getattr(config, "relative_attention", False):  # type: ignore[attr-defined]
        return 0
    kinds = getattr(config, "pos_att_type", None) or ()
    farthest = [getattr(config, name, -1) for name in ("position_buckets", "max_relative_positions")]
    span = next((number for number in farthest if number > 0), config.max_position_embeddings)  # type: ignore[attr-defined]
    return 2 * span * len({"c2p", "p2c"} & {*(kinds.split("|") if isinstance(kinds, str) else kinds)})


def _local_layers(config: object, layers: int) -> int:
    """Count the layers that see only a window; a config lists the kinds of layers or, if older, one kind's distance."""
    family, kinds = config.model_type, getattr(config, "layer_types", None)  # type: ignore[attr-defined]
    if family in WINDOWED and kinds:
        return kinds.count("sliding_attention")
    return count_local_layers(family, layers, getattr(config, "global_attn_every_n_layers", WINDOWS[0]))


def count_local_layers(family: str, layers: int, global_every: int) -> int:
    """Count the layers that see only a window: all but the first of every `global_every`; 0 in most families."""
    return layers - math.ceil(layers / global_every) if family in WINDOWED else 0
