"""3ML_self and 3ML_cross written out plainly, one row at a time and in torch alone: the twin of the real model.

After figure 2 of the paper (arXiv 2211.04898), for an encoder of RoBERTa's kind with norms after each block and no
dropout. Weights come as a dict by the names they have in the real model, so that gradients can be compared by name.
Letters: S seen positions of the row, L all of them, T targets, D width, V vocabulary.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, gelu, layer_norm, linear

Weights = dict[str, Tensor]


def loss_of_row(
    w: Weights, ids_L: Tensor, dropped_L: Tensor, targets_T: Tensor, true_ids_T: Tensor, kind: str, shape: "Shape"
) -> Tensor:
    """Cross entropy of one row, summed over its targets.

    Args:
        w: All weights by name.
        ids_L: The row as it reads after corruption; what stands at dropped positions is not looked at.
        dropped_L: True where a [MASK] is left out of the encoder.
        targets_T: Positions to predict.
        true_ids_T: What stood there.
        kind: self or cross.
        shape: Sizes that weights do not tell.
    """
    seen_S = (~dropped_L).nonzero()[:, 0]

    # Encode the seen tokens, each with its true position.
    h_SD = w["encoder.embeddings.word_embeddings.weight"][ids_L[seen_S]]
    h_SD = h_SD + w["encoder.embeddings.position_embeddings.weight"][seen_S + shape.position_offset]
    h_SD = h_SD + w["encoder.embeddings.token_type_embeddings.weight"][0]
    h_SD = norm(w, "encoder.embeddings.LayerNorm", h_SD, shape)
    for n in range(shape.encoder_layers):
        name = f"encoder.encoder.layer.{n}"
        q, k, v = (dense(w, f"{name}.attention.self.{part}", h_SD) for part in ("query", "key", "value"))
        mixed_SD = dense(w, f"{name}.attention.output.dense", attention(q, k, v, shape))
        h_SD = norm(w, f"{name}.attention.output.LayerNorm", h_SD + mixed_SD, shape)
        inner_SD = dense(w, f"{name}.output.dense", gelu(dense(w, f"{name}.intermediate.dense", h_SD)))
        h_SD = norm(w, f"{name}.output.LayerNorm", h_SD + inner_SD, shape)

    # What the decoder reads of the seen tokens beside.
    if "decoder.skip.weight" in w:
        words_SD = w["encoder.embeddings.word_embeddings.weight"][ids_L[seen_S]]
        h_SD = h_SD + w["decoder.skip.weight"] * layer_norm(words_SD, words_SD.shape[-1:], eps=shape.eps)

    # Append: at each dropped position stands the mask embedding plus the position's own.
    row_LD = w["decoder.masks.embedding"] + w["decoder.masks.positions.weight"][: len(ids_L)]
    row_LD = torch.where(dropped_L[:, None], row_LD, torch.zeros_like(row_LD).index_copy(0, seen_S, h_SD))

    # Decode.
    if kind == "self":
        for n in range(shape.decoder_layers):
            row_LD = block(w, f"decoder.layers.{n}.attention", row_LD, row_LD, shape)
            row_LD = feed_forward(w, f"decoder.layers.{n}.feed_forward", row_LD, shape)
        t_TD = row_LD[targets_T]
    else:
        t_TD = row_LD[targets_T]
        for n in range(shape.decoder_layers):
            t_TD = block(w, f"decoder.layers.{n}.self_attention", t_TD, t_TD, shape)
            t_TD = block(w, f"decoder.layers.{n}.cross_attention", t_TD, h_SD, shape)
            t_TD = feed_forward(w, f"decoder.layers.{n}.feed_forward", t_TD, shape)

    # Predict the targets.
    t_TD = norm(w, "head.norm", gelu(dense(w, "head.dense", t_TD)), shape)
    logits_TV = t_TD @ w["encoder.embeddings.word_embeddings.weight"].T + w["head.bias"]
    return cross_entropy(logits_TV, true_ids_T, reduction="sum")


class Shape:
    """Sizes that weights do not tell."""

    def __init__(self, encoder_layers: int, decoder_layers: int, heads: int, eps: float, position_offset: int) -> None:
        self.encoder_layers = encoder_layers
        self.decoder_layers = decoder_layers
        self.heads = heads
        self.eps = eps
        self.position_offset = position_offset


def dense(w: Weights, name: str, x: Tensor) -> Tensor:
    return linear(x, w[f"{name}.weight"], w[f"{name}.bias"])


def norm(w: Weights, name: str, x: Tensor, shape: Shape) -> Tensor:
    return layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"], shape.eps)


def attention(q_QD: Tensor, k_KD: Tensor, v_KD: Tensor, shape: Shape) -> Tensor:
    """Every query to every key, head by head."""
    mixed = []
    for q, k, v in zip(*(part.chunk(shape.heads, dim=1) for part in (q_QD, k_KD, v_KD)), strict=True):
        mixed.append((q @ k.T / math.sqrt(q.shape[1])).softmax(dim=1) @ v)
    return torch.cat(mixed, dim=1)


def block(w: Weights, name: str, x_QD: Tensor, context_KD: Tensor, shape: Shape) -> Tensor:
    """Attention of the decoder, with its residual and norm."""
    weights, biases = (w[f"{name}.query_key_value.{part}"].chunk(3) for part in ("weight", "bias"))
    q, k, v = (linear(x, *wb) for x, *wb in zip((x_QD, context_KD, context_KD), weights, biases, strict=True))
    return norm(w, f"{name}.norm", x_QD + dense(w, f"{name}.output", attention(q, k, v, shape)), shape)


def feed_forward(w: Weights, name: str, x: Tensor, shape: Shape) -> Tensor:
    inner = dense(w, f"{name}.contract", gelu(dense(w, f"{name}.expand", x)))
    return norm(w, f"{name}.norm", x + inner, shape)
