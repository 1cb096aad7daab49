"""The encoder: a transformers model, called with the seen tokens and their true positions.

Pre-training builds and calls its encoders only here. Letters: see masking/batch.py.
"""

import inspect
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask
from transformers import (
    MODEL_MAPPING,
    AutoModel,
    PretrainedConfig,
    PreTrainedModel,
)

from masklater.errors import UserError
from masklater.model.attention import within_window
from masklater.model.implementations import FLOAT32_ON_CPU, attention_mask, check_attention
from masklater.recipe.families import DEBERTA, ONE_STACK, PRE_NORM, ROTARY, WINDOWED, is_rotary

GLOBAL, LOCAL = "full_attention", "sliding_attention"
"""transformers' names for the two kinds of layers."""

ESM_UNMASKED = 1 - 0.15 * 0.8
"""The share of tokens that were not [MASK] when ESM-2 was trained; at this share its `token_dropout` scales nothing."""
WIDENED_BY = ("embeddings_project", "encoder.embedding_hidden_mapping_in", "embeddings.embed_proj")
"""Where a model keeps the layer that makes word embeddings as wide as hidden states.

In this order: ELECTRA; ALBERT and RemBERT; DeBERTa.
"""


@dataclass(frozen=True)
class LayerSizes:
    """The sizes and settings that a decoder layer takes over from the encoder's layers."""

    width: int
    heads: int
    feed_forward: int
    norm_eps: float
    dropout: float
    attention_dropout: float
    pre_norm: bool


def layer_sizes(config: PretrainedConfig, width: int) -> LayerSizes:
    """Scale an encoder's layers to another width. The size of a head and the feed-forward's share stay the same.

    Raises:
        UserError: The width is not a whole number of heads.
    """
    D, heads = config.hidden_size, config.num_attention_heads
    head_size = D // heads
    if width % head_size or width > D:
        raise UserError(
            f"a decoder of width {width} does not fit the encoder, whose heads are {head_size} wide and whose width is "
            f"{D}",
            f"Choose a multiple of {head_size} up to {D}.",
        )
    return LayerSizes(
        width=width,
        heads=width // head_size,
        feed_forward=_first(config, ("intermediate_size", "hidden_dim"), 4 * D) * width // D,
        norm_eps=norm_eps(config),
        dropout=_first(config, ("hidden_dropout_prob", "mlp_dropout", "dropout"), 0.0),
        attention_dropout=_first(config, ("attention_probs_dropout_prob", "attention_dropout"), 0.0),
        pre_norm=config.model_type in PRE_NORM,
    )


def build_encoder(config: PretrainedConfig) -> PreTrainedModel:
    """Build a randomly initialised encoder of that config, without a pooler, which nothing here would train.

    Its weights have torch's default dtype, whatever dtype the config gives for a saved checkpoint.

    Raises:
        UserError: The config asks for an attention implementation that cannot be used here.
    """
    check_attention(config._attn_implementation)
    has_pooler = "add_pooling_layer" in inspect.signature(MODEL_MAPPING[type(config)].__init__).parameters
    pooler = {"add_pooling_layer": False} if has_pooler else {}
    encoder = AutoModel.from_config(config, dtype=torch.get_default_dtype(), **pooler)
    if encoder.config._attn_implementation == "sdpa":
        encoder.set_attn_implementation(FLOAT32_ON_CPU)
    if hasattr(encoder, "contact_head"):  # ESM's, for protein contacts: no masked LM trains this head
        encoder.contact_head.requires_grad_(False)
    return encoder


def calls_torchs_attention(config: PretrainedConfig) -> bool:
    """Return whether an encoder of that config calls `scaled_dot_product_attention`; DeBERTa, say, has its own code."""
    return config._attn_implementation != "eager" and getattr(MODEL_MAPPING[type(config)], "_supports_sdpa", False)


def window_reach(config: PretrainedConfig) -> int | None:
    """Return how many positions to either side the encoder's local layers see; None: every layer is global."""
    if config.model_type not in WINDOWED or LOCAL not in config.layer_types:
        return None
    return config.sliding_window  # transformers' name for half of ModernBERT's `local_attention`, the end included


def masks_by_layer(
    encoder: PreTrainedModel, pos_BX: Tensor, attend_BXX: Tensor | None
) -> dict[str, Tensor | BlockMask | None]:
    """Return a mask for each kind of layer, by transformers' names of kinds.

    Local layers see the positions within their window by number in the row, wherever they are in the tensor. So they
    see the same tokens whether others are dropped or hidden.

    Args:
        encoder: An encoder of a family in `WINDOWED`.
        pos_BX: The positions in the row, from any number on.
        attend_BXX: bool, True where the first may attend to the second; None: all to all.
    """
    reach, everywhere = window_reach(encoder.config), attention_mask(encoder, attend_BXX)
    if reach is None:
        return {GLOBAL: everywhere, LOCAL: everywhere}
    return {GLOBAL: everywhere, LOCAL: attention_mask(encoder, within_window(pos_BX, attend_BXX, reach))}


def distances(config: PretrainedConfig, pos_BS: Tensor) -> Tensor:
    """Return the distances between the tokens of each row as DeBERTa-v2 counts them, int64 distance_1NSS, N = B x H.

    DeBERTa-v2 counts distances off the index unless they are given. It takes them only in this shape, one for each row
    and head.

    Args:
        config: The config of a `deberta-v2`: its buckets and its farthest position are used.
        pos_BS: The positions in the row, from any number on.
    """
    from transformers.models.deberta_v2.modeling_deberta_v2 import make_log_bucket_position

    distance_BSS = pos_BS[:, :, None] - pos_BS[:, None, :]
    farthest, buckets = config.max_relative_positions, getattr(config, "position_buckets", -1)
    if farthest < 1:
        farthest = config.max_position_embeddings
    if buckets > 0:
        distance_BSS = make_log_bucket_position(distance_BSS, buckets, farthest).long()
    return distance_BSS.repeat_interleave(config.num_attention_heads, dim=0)[None]


def encode(
    encoder: PreTrainedModel,
    ids_BS: Tensor,
    pos_BS: Tensor,
    position_offset: int,
    attend_BSS: Tensor | None,
    token_types_BS: Tensor | None = None,
    stop_before: int | None = None,
    whole_rows: bool = True,
) -> Tensor:
    """Compute the hidden states of tokens at the given positions of their rows.

    Args:
        encoder: As `build_encoder` makes it.
        ids_BS: The tokens.
        pos_BS: Their positions in the row, from 0.
        position_offset: The encoder's number of position 0: 0, or padding index + 1 in families that count tokens.
        attend_BSS: bool, True where the first may attend to the second; None: all to all.
        token_types_BS: BERT's segment ids; None: all 0.
        stop_before: The layer to stop before, for [MASK]s to enter; None: run the last layer and norm too.
        whole_rows: Whether the tokens are their whole rows, in order, so that the index gives the right distances.

    Returns:
        hidden_BSD.
    """
    pos_BS = pos_BS + position_offset
    if position_offset:  # the family counts tokens, and gives all padding the number before the first
        pos_BS = torch.where(ids_BS == encoder.config.pad_token_id, position_offset - 1, pos_BS)
    if stop_before is not None:
        return _run_layers(
            encoder, slice(stop_before), _embed(encoder, ids_BS, pos_BS, token_types_BS), pos_BS, attend_BSS
        )
    inputs: dict[str, Any] = {"input_ids": ids_BS, "position_ids": pos_BS}
    if token_types_BS is not None:
        inputs["token_type_ids"] = token_types_BS
    if encoder.config.model_type in WINDOWED:
        return encoder(**inputs, attention_mask=masks_by_layer(encoder, pos_BS, attend_BSS)).last_hidden_state
    if encoder.config.model_type in DEBERTA and not (attend_BSS is None and whole_rows):
        # Its embeddings take only a mask per position, and its layers a bool one, whatever the implementation.
        if attend_BSS is None:
            attend_BSS = torch.ones(1, 1, 1, dtype=torch.bool, device=ids_BS.device).expand(
                *ids_BS.shape, ids_BS.shape[1]
            )
        counted = {} if whole_rows else {"relative_pos": distances(encoder.config, pos_BS)}
        return encoder.encoder(encoder.embeddings(**inputs), attend_BSS, **counted).last_hidden_state
    if encoder.config.model_type == "esm":  # or a recomputed layer warns of a cache, and cannot be compiled
        inputs["use_cache"] = False
    mask_B1SS = attention_mask(encoder, attend_BSS)
    if mask_B1SS is not None:
        inputs["attention_mask"] = mask_B1SS
        if encoder.config.model_type == "esm":  # its embeddings take no mask per pair, so they are computed beforehand
            assert attend_BSS is not None
            inputs["inputs_embeds"] = _embed_esm(encoder, inputs.pop("input_ids"), pos_BS, attend_BSS)
    return encoder(**inputs).last_hidden_state


def run_upper_layers(
    encoder: PreTrainedModel, hidden_BLD: Tensor, pos_BL: Tensor, from_layer: int, attend_BLL: Tensor | None
) -> Tensor:
    """Run the layers from `from_layer` to the last, and the norm that pre-norm families have after the last.

    Args:
        encoder: As `build_encoder` makes it.
        hidden_BLD: Input of the layer `from_layer`.
        pos_BL: The positions as the encoder counts them.
        from_layer: The first layer to run.
        attend_BLL: bool, True where the first may attend to the second; None: all to all.
    """
    hidden_BLD = _run_layers(encoder, slice(from_layer, None), hidden_BLD, pos_BL, attend_BLL)
    last_norm = getattr(encoder, "LayerNorm", None) or getattr(encoder, "final_norm", None)
    return hidden_BLD if last_norm is None else last_norm(hidden_BLD)


def _embed(encoder: PreTrainedModel, ids_BX: Tensor, pos_BX: Tensor, token_types_BX: Tensor | None) -> Tensor:
    if encoder.config.model_type == "modernbert":
        return encoder.embeddings(input_ids=ids_BX)
    types_BX = torch.zeros_like(ids_BX) if token_types_BX is None else token_types_BX
    return encoder.embeddings(input_ids=ids_BX, position_ids=pos_BX, token_type_ids=types_BX)


def _embed_esm(encoder: PreTrainedModel, ids_BS: Tensor, pos_BS: Tensor, attend_BSS: Tensor) -> Tensor:
    """Return an ESM's embeddings, embedded_BSD: each token as if only the tokens that it attends to were in its row.

    With `token_dropout` a [MASK] is 0, and all other tokens are scaled by the share of tokens that are not [MASK]. The
    family's own code counts over a whole row of the tensor, including padding, other documents and hidden tokens.
    """
    words_BSD = encoder.get_input_embeddings()(ids_BS)
    if encoder.config.token_dropout:
        is_mask_BS = ids_BS == encoder.config.mask_token_id
        unmasked_BS = (attend_BSS & ~is_mask_BS[:, None]).sum(dim=2)
        scale_BS = ESM_UNMASKED * attend_BSS.sum(dim=2) / unmasked_BS.clamp(min=1)
        words_BSD = words_BSD * scale_BS.masked_fill(is_mask_BS, 0)[:, :, None].to(words_BSD.dtype)
    return encoder.embeddings(inputs_embeds=words_BSD, position_ids=pos_BS)


def _run_layers(
    encoder: PreTrainedModel, which: slice, hidden_BXD: Tensor, pos_BX: Tensor, attend_BXX: Tensor | None
) -> Tensor:
    if encoder.config.model_type == "modernbert":
        masks = masks_by_layer(encoder, pos_BX, attend_BXX)
        for layer in encoder.layers[which]:
            angles = encoder.rotary_emb(hidden_BXD, pos_BX, layer.attention_type)
            hidden_BXD = layer(hidden_BXD, attention_mask=masks[layer.attention_type], position_embeddings=angles)
        return hidden_BXD
    mask_B1XX = attention_mask(encoder, attend_BXX)
    for layer in encoder.encoder.layer[which]:
        hidden_BXD = layer(hidden_BXD, attention_mask=mask_B1XX)
    return hidden_BXD


def embed_word(encoder: PreTrainedModel, token_id: int) -> Tensor:
    """Return the word embedding of one token in the encoder's width, hidden_D."""
    return _widened(encoder, encoder.get_input_embeddings().weight[token_id])


def embed_words(encoder: PreTrainedModel, ids_BX: Tensor) -> Tensor:
    """Return the word embeddings of tokens in the encoder's width, without their positions, words_BXD."""
    return _widened(encoder, encoder.get_input_embeddings()(ids_BX))


def _widened(encoder: PreTrainedModel, words: Tensor) -> Tensor:
    for place in WIDENED_BY:
        widen = reduce(lambda module, name: getattr(module, name, None), place.split("."), encoder)
        if isinstance(widen, nn.Linear):
            return widen(words)
    return words


def check_embeds_word(config: PretrainedConfig, setting: str, remedy: str) -> None:
    """Raise UserError unless it is known how this encoder widens a word embedding to its hidden size.

    A setting needs the widened embedding. `setting` and `remedy` are the two parts of the message.
    """
    with torch.device("meta"):  # shapes alone
        word_D = embed_word(build_encoder(config), 0)
    if len(word_D) != config.hidden_size:
        raise UserError(
            f"{setting}, and how an encoder of type {config.model_type} makes its word embedding, "
            f"{len(word_D)} wide, as wide as its hidden states, {config.hidden_size}, is not known",
            remedy,
        )


def check_one_stack(config: PretrainedConfig) -> None:
    """Raise UserError unless [MASK]s can enter between two layers of such an encoder."""
    if config.model_type not in ONE_STACK:
        raise UserError(
            f"decoder.kind late calls the encoder's layers one by one, which is not known how to do for an encoder of "
            f"type {config.model_type}",
            f"Choose among {', '.join(sorted(ONE_STACK))}, or decoder.kind self or cross.",
        )


def head_width(config: PretrainedConfig) -> int:
    """Return the width of an encoder's heads."""
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def check_heads(config: PretrainedConfig) -> None:
    """Raise UserError where an encoder turns pairs of numbers by position, and its heads have an odd width."""
    if is_rotary(config) and head_width(config) % 2:
        raise UserError(
            f"an encoder of type {config.model_type} turns pairs of numbers by position, and its heads are "
            f"{head_width(config)} wide",
            "Choose a width and a number of heads that make heads an even width.",
        )


def check_rotary(config: PretrainedConfig, in_the_encoder: bool) -> None:
    """Raise UserError unless attention can turn queries and keys by position, in the decoder or in the encoder."""
    head_size = config.hidden_size // config.num_attention_heads
    if head_size % 2:
        raise UserError(
            f"rotary positions turn pairs of numbers, and the encoder's heads are {head_size} wide",
            "Choose other positions for the decoder.",
        )
    if in_the_encoder and config.model_type not in ROTARY:
        raise UserError(
            f"with decoder.kind late the [MASK]s enter the encoder's own layers, and those of {config.model_type} turn "
            "nothing",
            "Choose decoder.positions auto, dropped or all.",
        )


def norm_eps(config: PretrainedConfig) -> float:
    """Return the epsilon of an encoder's norms."""
    return _first(config, ("layer_norm_eps", "norm_eps", "rms_norm_eps"), 1e-12)


def _first(config: PretrainedConfig, names: tuple[str, ...], default: Any) -> Any:
    """Return the first of these attributes that a config has: families name the same thing differently."""
    return next((getattr(config, name) for name in names if hasattr(config, name)), default)
