"""Trials before a model is built: whether the encoder can carry the method, and how it takes positions.

An encoder is tested on a small random copy, not listed by family. The reference is always what the family computes when
it is given the row and a mask of its tokens.

Pre-training calls the encoder with explicit positions and a mask of which tokens attend to which; called so, it must
compute the same. Where tokens are left out, it must also compute the same when it is given the seen tokens alone. This
is the method's first invariant. It holds for learned absolute positions, for rotary ones and for windows that are built
from positions. It fails for any encoder that reads distances off the index. Vanilla MLM leaves nothing out.
"""

import copy
import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel

from masklater.errors import UserError, first_line, is_out_of_memory
from masklater.model.config import MaskLaterConfig
from masklater.model.encoder import (
    build_encoder,
    check_embeds_word,
    check_heads,
    check_one_stack,
    check_rotary,
    encode,
    head_width,
)

TOLERANCE = 1e-4
"""Largest difference between two ways of computing the same hidden states in float32; equal ones differ by 1e-6."""

KNOWN_REASONS = {
    "deberta": "its attention knows distances no farther than the number of tokens it reads, and leaving some out "
    "changes that",
    "mpnet": "its attention adds a bias by relative bucket, read off the index",
    "longformer": "its attention is a window over the index, and what is left out would move tokens into it",
    "big_bird": "its attention is sparse by blocks of the index",
    "convbert": "its convolutions read neighbours off the index",
    "fnet": "it mixes positions by a Fourier transform over the index",
    "funnel": "it pools neighbours by the index",
    "xlnet": "its attention reads distances off the index",
}
"""Families known not to carry the method, with the reason, so that nobody waits for a trial to fail."""


class Positions(NamedTuple):
    """Two facts about how an encoder takes positions."""

    offset: int  # the number it gives a row's first position: 0, or padding index + 1
    relative: bool  # whether it knows distances only: moving a whole row changes nothing

    @property
    def count_tokens(self) -> bool:
        """True where only tokens other than padding are counted, wherever padding is; False where all positions are."""
        return self.offset > 0


def settle(config: MaskLaterConfig) -> MaskLaterConfig:
    """Find out by trial what a config leaves open, and refuse a config that cannot be built.

    Raises:
        UserError: The encoder cannot carry the method, or the decoder does not fit the encoder.
    """
    decoder, depth = config.decoder, config.encoder.num_hidden_layers
    if (decoder.enter_layer or 0) >= depth:
        raise UserError(
            f"decoder.enter_layer is {decoder.enter_layer}, and the encoder's {depth} layers count from 0",
            f"Choose a number from 0, which is vanilla MLM, to {depth - 1}.",
        )
    check_heads(config.encoder)
    if config.position_offset is None or decoder.positions == "auto":
        positions = (check_encoder if decoder.drops else find_positions)(config.encoder, config.row_length)
        config.position_offset = positions.offset
        if decoder.positions == "auto":
            decoder = decoder.model_copy(update={"positions": "rotary" if positions.relative else "dropped"})
            config.decoder = decoder
    if decoder.drops and decoder.kind == "late":
        check_one_stack(config.encoder)
    if decoder.drops and decoder.positions == "rotary":
        check_rotary(config.encoder, decoder.kind == "late")
    if decoder.drops and decoder.mask_embedding == "word":
        check_embeds_word(config.encoder, "decoder.mask_embedding is word", "Set decoder.mask_embedding=own.")
    if decoder.embedding_skip:
        check_embeds_word(config.encoder, "decoder.embedding_skip is true", "Set decoder.embedding_skip=false.")
    return config


def check_encoder(config: PretrainedConfig, row_length: int) -> Positions:
    """Test that an encoder can carry the method on rows of this length, and find how it takes positions.

    Raises:
        UserError: The encoder cannot: leaving tokens out would change what it computes.
    """
    if config.model_type in KNOWN_REASONS:
        raise _cannot_leave_out(config, KNOWN_REASONS[config.model_type])
    if config.model_type == "deberta-v2" and (getattr(config, "conv_kernel_size", 0) or 0) > 0:  # the two largest
        raise _cannot_be_called(config, KNOWN_REASONS["convbert"])
    return _find(config, row_length, drops=True)


def find_positions(config: PretrainedConfig, row_length: int) -> Positions:
    """Find how an encoder takes positions when it reads whole rows of this length, with nothing left out.

    Raises:
        UserError: The encoder cannot be told its positions, or which tokens attend to which.
    """
    return _find(config, row_length, drops=False)


def check_causal(config: MaskLaterConfig) -> None:
    """Test that no hidden state depends on later positions when each position may see only those before it.

    Args:
        config: Settled.

    Raises:
        UserError: A hidden state changes with tokens that come later.
    """
    small, L = _small_copy(config.encoder, config.row_length), config.row_length
    pad, ordinary_K = small.pad_token_id or 0, _ordinary_ids(small)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        encoder = _build(small)
        which_BL = torch.randint(len(ordinary_K) - 1, (1, L))
        ids_BL, other_BL = ordinary_K[which_BL], ordinary_K[which_BL + 1]
        changed_BL = torch.where(torch.arange(L) < L // 2, ids_BL, other_BL)
        before_BLL = torch.ones(1, L, L, dtype=torch.bool).tril()
        offset, pos_BL = (pad + 1 if config.position_offset else 0), torch.arange(L)[None]
        first_BLD, second_BLD = (
            encode(encoder, each_BL, pos_BL, offset, before_BLL)[:, : L // 2] for each_BL in (ids_BL, changed_BL)
        )
    if (change := float((first_BLD - second_BLD).abs().max())) >= TOLERANCE:
        raise UserError(
            f"an encoder of type {small.model_type} cannot be trained in a causal phase: told that positions see those "
            f"before them alone, its hidden states change by {change:.1e} with tokens that come later",
            "Choose another family, or leave the phase with objective causal out.",
        )


def check_dtype(
    config: MaskLaterConfig, device: torch.device, dtype: torch.dtype, otherwise: str = "precision=float32"
) -> None:
    """Test that an encoder computes under autocast. Some families' own code does not, because it mixes types.

    Args:
        config: Settled.
        device: The device to compute on.
        dtype: The dtype of its products.
        otherwise: How a user asks for float32.

    Raises:
        UserError: The encoder does not compute under autocast.
    """
    if dtype == torch.float32:
        return
    small, L = _small_copy(config.encoder, config.row_length), config.row_length
    offset = (small.pad_token_id or 0) + 1 if config.position_offset else 0
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        encoder = _build(small).to(device)
        ids_BL = _ordinary_ids(small)[:1].expand(1, L).to(device)
        pos_BL = torch.arange(L, device=device)[None]
        why_not = refusal(lambda: encode(encoder, ids_BL, pos_BL, offset, None), torch.autocast(device.type, dtype))
    if why_not is not None:
        raise UserError(
            f"an encoder of type {small.model_type} does not compute in {str(dtype).removeprefix('torch.')}: {why_not}",
            f"Compute in float32: {otherwise}.",
        )


def refusal(compute: Callable[[], object], autocast: AbstractContextManager[None]) -> str | None:
    """Return torch's error message where a computation fails under autocast, as with mixed types; else None."""
    try:
        with torch.no_grad(), autocast:
            compute()
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        return first_line(error)
    return None


def _find(config: PretrainedConfig, row_length: int, drops: bool) -> Positions:
    if getattr(config, "is_encoder_decoder", False):
        raise _cannot_be_called(config, "it is an encoder with a decoder, which reads from left to right")
    found = _find_by_trial(config.to_json_string(use_diff=False), row_length, drops)
    # The small copy has few words, so its padding token may be another one.
    return found._replace(offset=(config.pad_token_id or 0) + 1) if found.count_tokens else found


@cache
def _find_by_trial(config_json: str, row_length: int, drops: bool) -> Positions:
    config = AutoConfig.for_model(**json.loads(config_json))
    try:
        config = _small_copy(config, row_length)
    except (AttributeError, NotImplementedError, TypeError, ValueError) as error:  # one of several models, or no sizes
        raise _cannot_be_called(config, f"its config is not that of an encoder of text ({first_line(error)})") from None
    pad, ordinary_K = config.pad_token_id or 0, _ordinary_ids(config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder = _build(config)
        ids_BL = ordinary_K[torch.randint(len(ordinary_K), (1, row_length))]
    if not drops and (mask_id := getattr(config, "mask_token_id", None)) is not None:
        ids_BL[:, ::6] = mask_id  # vanilla MLM reads [MASK]s, and some families scale their input by how many there are
    seen_L = torch.tensor([position % 3 != 1 for position in range(row_length)])
    differences, theirs_BXD = [], None
    with torch.no_grad():
        for offset in (0, pad + 1):
            try:
                if theirs_BXD is None:
                    theirs_BXD = _by_itself(encoder, ids_BL, seen_L, drops)
                ours_BXD = _as_called(encoder, ids_BL, seen_L, drops, offset)
            except UserError:
                raise
            except Exception as error:  # each family raises errors of its own at inputs that it does not take
                reason = first_line(error)
                continue
            differences.append(float((ours_BXD - theirs_BXD).abs().max()))
            if differences[-1] < TOLERANCE:
                moved_BXD = _as_called(encoder, ids_BL, seen_L, drops, offset + 1)
                return Positions(offset, bool((moved_BXD - ours_BXD).abs().max() < TOLERANCE))
    if not differences:
        reason = f"it does not take explicit positions and a mask of who attends to whom ({reason})"
        raise (_cannot_leave_out if drops else _cannot_be_called)(config, reason)
    change = f"on rows of {row_length} its hidden states change by {min(differences):.1e} when "
    if drops:
        raise _cannot_leave_out(
            config,
            change + "unseen tokens are left out rather than hidden, as it reads distances off the index and not off "
            "the positions",
        )
    raise _cannot_be_called(config, change + "it is told positions and who attends to whom")


def _build(config: PretrainedConfig) -> PreTrainedModel:
    try:
        encoder = build_encoder(config).eval()
    except Exception as error:  # a config of any family may be impossible in its own way
        raise UserError(
            f"transformers cannot build an encoder of type {config.model_type} from this config: {first_line(error)}",
            "Mend the config.",
        ) from None
    with torch.no_grad():
        for parameter in encoder.parameters():  # fresh weights are so small that attention hardly differs
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return encoder


def _by_itself(encoder: PreTrainedModel, ids_BL: Tensor, seen_L: Tensor, drops: bool) -> Tensor:
    """Return the family's hidden states of the seen tokens with the others hidden, then of the whole row.

    Where tokens are dropped, the first part is repeated in place of the second.

    Raises:
        UserError: The hidden states are the same whether the other tokens are hidden or not.
    """
    hidden_BSD = encoder(input_ids=ids_BL, attention_mask=seen_L[None].long()).last_hidden_state[:, seen_L]
    whole_BLD = encoder(input_ids=ids_BL).last_hidden_state
    if (hidden_BSD - whole_BLD[:, seen_L]).abs().max() < TOLERANCE:
        raise _cannot_be_called(encoder.config, "it ignores masks, so that padding would be read as text")
    return torch.cat([hidden_BSD, hidden_BSD if drops else whole_BLD], dim=1)


def _as_called(encoder: PreTrainedModel, ids_BL: Tensor, seen_L: Tensor, drops: bool, offset: int) -> Tensor:
    """Return the same hidden states, computed as pre-training does, with `offset` as the first position's number."""
    L = len(seen_L)
    pos_BL = torch.arange(L)[None]
    hidden_BLD = encode(encoder, ids_BL, pos_BL, offset, seen_L.expand(1, L, L))
    read_L = seen_L if drops else torch.ones_like(seen_L)
    whole_BXD = encode(encoder, ids_BL[:, read_L], pos_BL[:, read_L], offset, None, whole_rows=not drops)
    return torch.cat([hidden_BLD[:, seen_L], whole_BXD], dim=1)


def _cannot_leave_out(config: PretrainedConfig, reason: str) -> UserError:
    return UserError(
        f"an encoder of type {config.model_type} cannot leave tokens out: {reason}",
        "Choose another family, or decoder.kind none, vanilla MLM, which leaves nothing out.",
    )


def _cannot_be_called(config: PretrainedConfig, reason: str) -> UserError:
    return UserError(
        f"an encoder of type {config.model_type} cannot be trained here: {reason}", "Choose another family."
    )


def _ordinary_ids(config: PretrainedConfig) -> Tensor:
    """Return the ids of a small copy that are not special tokens, ids_K.

    Some encoders treat special tokens differently. The first few ids are left out too, because special tokens that a
    config does not name have ids there.
    """
    named = [value for name, value in config.to_dict().items() if name.endswith("_token_id")]
    special = {each for value in named for each in (value if isinstance(value, (list, tuple)) else [value])}
    first = (config.pad_token_id or 0) + 5
    return torch.tensor([token_id for token_id in range(first, config.vocab_size) if token_id not in special])


def _small_copy(config: PretrainedConfig, row_length: int) -> PretrainedConfig:
    small = copy.deepcopy(config)
    # One layer of each kind, for families that mix kinds.
    kinds = list(dict.fromkeys(getattr(small, "layer_types", None) or []))
    num_layers = max(2, len(kinds))
    # Heads of an odd width stay odd, because rotary positions turn pairs of numbers. A few families have no heads.
    width = 7 if getattr(config, "num_attention_heads", None) and head_width(config) % 2 else 8
    sizes = {
        "vocab_size": 97,
        "hidden_size": 4 * width,
        "embedding_size": 4 * width,
        "num_hidden_layers": num_layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "head_dim": width,
        "intermediate_size": 48,
        "max_position_embeddings": row_length + 64,
    }
    for name, value in sizes.items():
        if getattr(small, name, None) is not None or name == "vocab_size":
            setattr(small, name, value)
    if kinds:
        small.layer_types = (kinds * num_layers)[:num_layers]
    if small.pad_token_id is None or small.pad_token_id >= sizes["vocab_size"] // 2:
        small.pad_token_id = 0
    if (getattr(small, "mask_token_id", None) or 0) >= sizes["vocab_size"]:
        small.mask_token_id = sizes["vocab_size"] - 1
    return small
