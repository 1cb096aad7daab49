"""Decoders, where [MASK]s join the row: light ones, thrown away after pre-training, and the encoder's own upper layers.

Each takes the encoder's output at the seen positions and returns hidden states at the target positions.
Letters: see masking/batch.py; d width of the decoder (the encoder's D unless narrower), Q queries, K keys.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from masklater.masking.batch import IGNORE, MaskedBatch
from masklater.model import encoder as encoders
from masklater.model.attention import (
    Pairs,
    Places,
    attend,
    attention_mask,
    make_pairs,
    rotate,
    row_places,
    seen_places,
    select,
)
from masklater.model.config import MaskLaterConfig
from masklater.model.encoder import LayerSizes
from masklater.model.states import lay_out


class MaskTokens(nn.Module):
    """The module that joins the row: the encoder's output at the seen positions, [MASK]s at all others.

    [MASK]s differ by the position embeddings added to them, unless attention turns by position (rotary).
    """

    def __init__(self, config: MaskLaterConfig, width: int) -> None:
        super().__init__()
        self.mask_id = config.mask_token_id
        self.at_all_positions = config.decoder.positions == "all"
        self.embedding = nn.Parameter(torch.zeros(width)) if config.decoder.mask_embedding == "own" else None
        self.positions = None if config.decoder.positions == "rotary" else nn.Embedding(config.row_length, width)

    def forward(self, seen_BSd: Tensor, batch: MaskedBatch, word_mask_d: Tensor | None) -> Tensor:
        """Return the row, row_BLd. `word_mask_d` is [MASK]'s word embedding; None where it has a separate one."""
        B, S, d = seen_BSd.shape
        embedding_d = self.embedding if word_mask_d is None else word_mask_d
        assert embedding_d is not None
        masks_Ld = embedding_d.to(seen_BSd.dtype).expand(batch.row_length, d)
        if self.positions is not None:
            positions_Ld = self.positions.weight[: batch.row_length].to(seen_BSd.dtype)
            masks_Ld = positions_Ld + masks_Ld
            if self.at_all_positions:
                seen_BSd = seen_BSd + positions_Ld[batch.seen_pos_BS]
        if batch.hidden_BS is not None:
            seen_BSd = torch.where(batch.hidden_BS[:, :, None], masks_Ld[batch.seen_pos_BS], seen_BSd)
        return masks_Ld.expand(B, -1, -1).scatter(1, batch.seen_pos_BS[:, :, None].expand(B, S, d), seen_BSd)

    def word_embedding(self, encoder: PreTrainedModel) -> Tensor | None:
        """Return [MASK]'s word embedding where the decoder shares it; None where [MASK] has a separate embedding."""
        return None if self.embedding is not None else encoders.embed_word(encoder, self.mask_id)


class AttentionBlock(nn.Module):
    """Attention with its norm and residual, within one sequence or from one sequence to another."""

    def __init__(self, sizes: LayerSizes, norm_context: bool) -> None:
        super().__init__()
        self.sizes = sizes
        self.norm_context = norm_context and sizes.pre_norm  # another sequence is normed already
        self.query_key_value = nn.Linear(sizes.width, 3 * sizes.width)
        self.output = nn.Linear(sizes.width, sizes.width)
        self.norm = nn.LayerNorm(sizes.width, eps=sizes.norm_eps)
        self.dropout = nn.Dropout(sizes.dropout)

    def forward(self, hidden_BQd: Tensor, context_BKd: Tensor | None, pairs: Pairs) -> Tensor:
        """Return hidden states of the queries. Without a context they attend to each other."""
        if not self.sizes.pre_norm:
            return self.norm(hidden_BQd + self._attention(hidden_BQd, context_BKd, pairs))
        if context_BKd is not None and self.norm_context:
            context_BKd = self.norm(context_BKd)
        return hidden_BQd + self._attention(self.norm(hidden_BQd), context_BKd, pairs)

    def _attention(self, queries_BQd: Tensor, context_BKd: Tensor | None, pairs: Pairs) -> Tensor:
        attend_BQK = pairs.attend_BQK
        weight, bias, d = self.query_key_value.weight, self.query_key_value.bias, self.sizes.width
        if context_BKd is None:
            query, key, value = self.query_key_value(queries_BQd).chunk(3, dim=2)
        else:
            query = F.linear(queries_BQd, weight[:d], bias[:d])
            key, value = F.linear(context_BKd, weight[d:], bias[d:]).chunk(2, dim=2)
        # A query that may attend to nothing gets zeros, because a softmax over nothing is not a number. Only with a
        # context can a query be left with nothing (padding, or a blocked flow); within one sequence each position
        # attends to itself.
        takes_BQ1 = None
        if context_BKd is not None and attend_BQK is not None:
            takes_BQ1 = attend_BQK.any(dim=2, keepdim=True)
            attend_BQK = attend_BQK | ~takes_BQ1
        query, key, value = (part.unflatten(2, (self.sizes.heads, -1)).transpose(1, 2) for part in (query, key, value))
        dropout = self.sizes.attention_dropout if self.training else 0.0
        mixed_BHQe = attend(rotate(query, pairs.query), rotate(key, pairs.key), value, attend_BQK, dropout)
        mixed_BQd = mixed_BHQe.transpose(1, 2).flatten(2)
        if takes_BQ1 is not None:
            mixed_BQd = mixed_BQd * takes_BQ1
        return self.dropout(self.output(mixed_BQd))


class FeedForwardBlock(nn.Module):
    """Two linear layers with GELU between, norm and residual."""

    def __init__(self, sizes: LayerSizes) -> None:
        super().__init__()
        self.pre_norm = sizes.pre_norm
        self.expand = nn.Linear(sizes.width, sizes.feed_forward)
        self.contract = nn.Linear(sizes.feed_forward, sizes.width)
        self.norm = nn.LayerNorm(sizes.width, eps=sizes.norm_eps)
        self.dropout = nn.Dropout(sizes.dropout)

    def forward(self, hidden_BQd: Tensor) -> Tensor:
        """Return hidden states; each position is computed by itself."""
        if self.pre_norm:
            return hidden_BQd + self._feed_forward(self.norm(hidden_BQd))
        return self.norm(hidden_BQd + self._feed_forward(hidden_BQd))

    def _feed_forward(self, hidden_BQd: Tensor) -> Tensor:
        return self.dropout(self.contract(F.gelu(self.expand(hidden_BQd))))


class SelfLayer(GradientCheckpointingLayer):
    """A layer of 3ML_self."""

    def __init__(self, sizes: LayerSizes) -> None:
        super().__init__()
        self.attention = AttentionBlock(sizes, norm_context=True)
        self.feed_forward = FeedForwardBlock(sizes)

    def forward(self, hidden_BQd: Tensor, context_BKd: Tensor | None, pairs: Pairs) -> Tensor:
        """Return the queries after attention, to each other or to a context, and feed-forward."""
        return self.feed_forward(self.attention(hidden_BQd, context_BKd, pairs))


class CrossLayer(GradientCheckpointingLayer):
    """A layer of 3ML_cross: targets attend to each other, unless that part is left out, and to the encoder's output."""

    def __init__(self, sizes: LayerSizes, to_each_other: bool) -> None:
        super().__init__()
        self.self_attention = AttentionBlock(sizes, norm_context=True) if to_each_other else None
        self.cross_attention = AttentionBlock(sizes, norm_context=False)
        self.feed_forward = FeedForwardBlock(sizes)

    def forward(self, targets_BTd: Tensor, seen_BSd: Tensor, to_each_other: Pairs, to_seen: Pairs) -> Tensor:
        """Return the targets after this layer."""
        if self.self_attention is not None:
            targets_BTd = self.self_attention(targets_BTd, None, to_each_other)
        return self.feed_forward(self.cross_attention(targets_BTd, seen_BSd, to_seen))


class EmbeddingSkip(nn.Module):
    """The word embeddings of the seen tokens, added to the encoder's output for them.

    In vanilla MLM a [MASK] reads its neighbours at every depth. A decoder reads them only after the encoder's last
    layer. There the hidden states would have to keep, for the decoder alone, which token each one is. The weight begins
    as 0: nothing is added.
    """

    def __init__(self, width: int, norm_eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width))
        self.norm_eps = norm_eps

    def forward(self, seen_BSD: Tensor, words_BSD: Tensor) -> Tensor:
        """Return the sum, seen_BSD."""
        return seen_BSD + F.layer_norm(words_BSD, self.weight.shape, self.weight, eps=self.norm_eps)


class LightDecoder(nn.Module):
    """The base of decoders that have layers of their own: their width, the joining of [MASK]s, and the way back."""

    def __init__(self, config: MaskLaterConfig) -> None:
        super().__init__()
        self.config = config
        D = config.encoder.hidden_size
        self.sizes = encoders.layer_sizes(config.encoder, config.decoder.hidden_size or D)
        narrow = self.sizes.width != D
        self.skip = EmbeddingSkip(D, self.sizes.norm_eps) if config.decoder.embedding_skip else None
        self.rotary_width = self.sizes.width // self.sizes.heads if config.decoder.positions == "rotary" else None
        self.narrow = nn.Linear(D, self.sizes.width) if narrow else nn.Identity()
        self.masks = MaskTokens(config, self.sizes.width)
        # Pre-norm layers leave their sum unnormalised, as the encoder does before its last norm.
        self.last_norm = (
            nn.LayerNorm(self.sizes.width, eps=self.sizes.norm_eps) if self.sizes.pre_norm else nn.Identity()
        )
        self.widen = nn.Linear(self.sizes.width, D) if narrow else nn.Identity()

    def append(self, seen_BSD: Tensor, batch: MaskedBatch, encoder: PreTrainedModel) -> tuple[Tensor, Tensor]:
        """Return the seen positions in the decoder's width, seen_BSd, and the whole row with the [MASK]s, row_BLd."""
        if self.skip is not None:
            seen_BSD = self.skip(seen_BSD, encoders.embed_words(encoder, batch.seen_ids_BS))
        seen_BSd = self.narrow(seen_BSD)
        word_D = self.masks.word_embedding(encoder)
        return seen_BSd, self.masks(seen_BSd, batch, None if word_D is None else self.narrow(word_D))


class SelfDecoder(LightDecoder):
    """3ML_self (figure 2 left): N_d self-attention layers over the whole row.

    The last layer's output is read at the targets only, so its queries and feed-forward are computed only there.
    """

    def __init__(self, config: MaskLaterConfig) -> None:
        super().__init__(config)
        self.layers = nn.ModuleList(SelfLayer(self.sizes) for _ in range(config.decoder.num_layers))

    def forward(self, seen_BSD: Tensor, batch: MaskedBatch, encoder: PreTrainedModel) -> Tensor:
        """Return hidden states of the targets, targets_BTD."""
        _, row_BLd = self.append(seen_BSD, batch, encoder)
        return self.run_layers(row_BLd, row_places(batch, self.config.decoder.blocked_flows), batch.target_pos_BT)

    def run_layers(self, row_BXd: Tensor, places: Places, targets_BY: Tensor) -> Tensor:
        """Return hidden states of some of the vectors of a row, targets_BYD, by their numbers in it."""
        blocked = self.config.decoder.blocked_flows
        *lower, last = self.layers
        among_row = make_pairs(places, places, blocked, self.rotary_width)
        for layer in lower:
            row_BXd = layer(row_BXd, None, among_row)
        targets_BYd = gather(row_BXd, targets_BY)
        to_row = make_pairs(select(places, targets_BY), places, blocked, self.rotary_width)
        targets_BYd = last(targets_BYd, row_BXd, to_row)
        return self.widen(self.last_norm(targets_BYd))


class StateDecoder(SelfDecoder):
    """3ML_self where each [MASK] has k states: k vectors that differ by an added state embedding (after ExLM)."""

    def __init__(self, config: MaskLaterConfig) -> None:
        super().__init__(config)
        self.states = nn.Embedding(config.decoder.states, self.sizes.width)  # not 0: equal states would stay equal

    def forward(self, seen_BSD: Tensor, batch: MaskedBatch, encoder: PreTrainedModel) -> Tensor:
        """Return hidden states of the targets' states, targets_BTkD."""
        k = self.states.num_embeddings
        _, row_BLd = self.append(seen_BSD, batch, encoder)
        layout = lay_out(batch, k, self.config.decoder.blocked_flows)
        states_BUkd = gather(row_BLd, layout.unseen_pos_BU)[:, :, None] + self.states.weight.to(row_BLd.dtype)
        row_BXd = torch.cat([gather(row_BLd, batch.seen_pos_BS), states_BUkd.flatten(1, 2)], dim=1)
        targets_BYD = self.run_layers(row_BXd, layout.places, layout.targets_BTk.flatten(1))
        return targets_BYD.unflatten(1, (-1, k))


class CrossDecoder(LightDecoder):
    """3ML_cross (figure 2 right): N_d layers of self- and cross-attention on the targets.

    Queries are the targets, [MASK]s where dropped and the encoder's output where seen; keys the encoder's output.
    """

    to_each_other = True

    def __init__(self, config: MaskLaterConfig) -> None:
        super().__init__(config)
        layers = range(config.decoder.num_layers)
        self.layers = nn.ModuleList(CrossLayer(self.sizes, self.to_each_other) for _ in layers)

    def forward(self, seen_BSD: Tensor, batch: MaskedBatch, encoder: PreTrainedModel) -> Tensor:
        """Return hidden states of the targets, targets_BTD."""
        blocked, target_pos_BT = self.config.decoder.blocked_flows, batch.target_pos_BT
        targets = select(row_places(batch, blocked), target_pos_BT)
        to_seen = make_pairs(targets, seen_places(batch, self.masks.mask_id, blocked), blocked, self.rotary_width)
        seen_BSd, row_BLd = self.append(seen_BSD, batch, encoder)
        if self.masks.at_all_positions:
            seen_BSd = gather(row_BLd, batch.seen_pos_BS)
        targets_BTd = gather(row_BLd, target_pos_BT)
        to_each_other = self._pairs_of_targets(targets, batch)
        for layer in self.layers:
            targets_BTd = layer(targets_BTd, seen_BSd, to_each_other, to_seen)
        return self.widen(self.last_norm(targets_BTd))

    def _pairs_of_targets(self, targets: Places, batch: MaskedBatch) -> Pairs:
        """Pair the targets. Slots not in use attend, but only they see themselves: their number must change nothing."""
        in_use_BT = batch.target_ids_BT != IGNORE
        itself_TT = torch.eye(in_use_BT.shape[1], dtype=torch.bool, device=in_use_BT.device)
        allowed_BTT = in_use_BT[:, None, :] | itself_TT
        pairs = make_pairs(targets, targets, self.config.decoder.blocked_flows, self.rotary_width)
        if pairs.attend_BQK is not None:
            allowed_BTT = allowed_BTT & pairs.attend_BQK
        return pairs._replace(attend_BQK=allowed_BTT)


class CrossOnlyDecoder(CrossDecoder):
    """3ML_cross without self-attention: no target knows of another."""

    to_each_other = False


class LateEntry(nn.Module):
    """Late entry (the paper's first finding): [MASK]s enter the encoder's own stack at layer k.

    Nothing is thrown away.
    """

    def __init__(self, config: MaskLaterConfig) -> None:
        super().__init__()
        self.config = config
        self.masks = MaskTokens(config, config.encoder.hidden_size)

    def forward(self, seen_BSD: Tensor, batch: MaskedBatch, encoder: PreTrainedModel) -> Tensor:
        """Return hidden states of the targets after the layers from k on, targets_BTD."""
        blocked = self.config.decoder.blocked_flows
        places = row_places(batch, blocked)
        attend_BLL = attention_mask(places, places, blocked)
        row_BLD = self.masks(seen_BSD, batch, self.masks.word_embedding(encoder))
        pos_BL = places.pos_BX + (self.config.position_offset or 0)
        row_BLD = encoders.run_upper_layers(encoder, row_BLD, pos_BL, self.config.decoder.enter_layer or 0, attend_BLL)
        return gather(row_BLD, batch.target_pos_BT)


class NoDecoder(nn.Module):
    """Vanilla MLM: the encoder has read the whole row."""

    def __init__(self, config: MaskLaterConfig) -> None:
        super().__init__()

    def forward(self, seen_BLD: Tensor, batch: MaskedBatch, encoder: PreTrainedModel) -> Tensor:
        """Return hidden states of the targets, targets_BTD."""
        return gather(seen_BLD, batch.target_pos_BT)


DECODERS: dict[str, Callable[[MaskLaterConfig], nn.Module]] = {
    "self": SelfDecoder,
    "cross": CrossDecoder,
    "cross-only": CrossOnlyDecoder,
    "late": LateEntry,
    "none": NoDecoder,
}
"""The decoders by the names that recipes use. Each name is also in recipe.sections.DECODERS, with its meaning.

A decoder is made from a config. It is called with seen_BSD (the encoder's output at the seen positions, in the
encoder's width), the MaskedBatch and the encoder. It returns the hidden states of the targets, targets_BTD. Kind self
with several states for each [MASK] is a StateDecoder, which returns targets_BTkD.
"""


def make_decoder(config: MaskLaterConfig) -> nn.Module:
    """Make the decoder of a config.

    Where [MASK]s are in the encoder's input from the first layer on, it has no layers.
    """
    if config.decoder.states > 1:
        return StateDecoder(config)
    return DECODERS[config.decoder.kind if config.decoder.drops else "none"](config)


def gather(row_BLD: Tensor, pos_BX: Tensor) -> Tensor:
    """Return the hidden states at some positions of each row."""
    return row_BLD.gather(1, pos_BX[:, :, None].expand(-1, -1, row_BLD.shape[2]))
