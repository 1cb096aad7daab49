"""The encoder: transformers' own, called with the seen tokens and their true positions.

The only file that touches transformers' model classes. Letters: see masking/batch.py.
"""

import copy
import json
from functools import cache

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel

from masklater.errors import UserError
from masklater.recipe.sections import ModelSettings

TOLERANCE = 1e-4
"""Largest difference between two ways of computing the same hidden states in float32; equal ones differ by 1e-6."""


def make_encoder_config(
    settings: ModelSettings, *, vocabulary_size: int, row_length: int, pad: int, bos: int, eos: int
) -> PretrainedConfig:
    """The transformers config of an encoder from scratch, with positions for rows of `row_length`."""
    return AutoConfig.for_model(
        settings.family,
        vocab_size=vocabulary_size,
        hidden_size=settings.hidden_size,
        num_hidden_layers=settings.num_hidden_layers,
        num_attention_heads=settings.num_attention_heads,
        intermediate_size=settings.intermediate_size,
        hidden_dropout_prob=settings.dropout,
        attention_probs_dropout_prob=settings.dropout,
        max_position_embeddings=pad + 1 + row_length,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
        pad_token_id=pad,
        bos_token_id=bos,
        eos_token_id=eos,
    )


def build_encoder(config: PretrainedConfig) -> PreTrainedModel:
    """A randomly initialised encoder of that config, without a pooler: nothing here would train it."""
    try:
        return AutoModel.from_config(config, add_pooling_layer=False)
    except TypeError:  # some families have none to leave out
        return AutoModel.from_config(config)


def encode(
    encoder: nn.Module, ids_BS: Tensor, pos_BS: Tensor, position_offset: int, attend_BSS: Tensor | None
) -> Tensor:
    """Hidden states of tokens that stand at the given positions of their rows.

    Args:
        encoder: As `build_encoder` makes it.
        ids_BS: The tokens.
        pos_BS: Their positions in the row, from 0.
        position_offset: What the encoder counts position 0 as.
        attend_BSS: bool, True where the first may attend to the second; None: all to all.

    Returns:
        hidden_BSD.
    """
    attention_mask = None if attend_BSS is None else attend_BSS[:, None]
    output = encoder(input_ids=ids_BS, position_ids=pos_BS + position_offset, attention_mask=attention_mask)
    return output.last_hidden_state


def check_encoder(config: PretrainedConfig) -> int:
    """Find the position offset of an encoder, by testing on a small random copy that it can carry the method.

    The test is the method's first invariant: encoding the seen tokens with explicit positions equals encoding the whole
    row with an attention mask that hides the dropped ones.

    Returns:
        The offset: what the encoder counts a row's first position as.

    Raises:
        UserError: The encoder does not satisfy the invariant, so that dropping tokens would change what it computes.
    """
    return _find_offset(config.to_json_string(use_diff=False))


@cache
def _find_offset(config_json: str) -> int:
    config = _small_copy(AutoConfig.for_model(**json.loads(config_json)))
    row_length, vocabulary_size, pad = 12, config.vocab_size, config.pad_token_id or 0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder = build_encoder(config).eval()
        ids_BL = torch.randint(pad + 5, vocabulary_size, (2, row_length))
    seen_L = torch.tensor([position % 3 != 1 for position in range(row_length)])
    pos_BS = seen_L.nonzero().squeeze(1).expand(2, -1)
    with torch.no_grad():
        hide_BLL = seen_L.expand(2, row_length, row_length)
        try:
            whole_BLD = encoder(input_ids=ids_BL, attention_mask=hide_BLL[:, None]).last_hidden_state
        except (TypeError, ValueError, RuntimeError) as error:
            raise _refusal(config, f"it takes no mask of who attends to whom ({error})") from None
        smallest = float("inf")
        for offset in (0, pad + 1):
            try:
                seen_BSD = encode(encoder, ids_BL[:, seen_L], pos_BS, offset, None)
            except (TypeError, IndexError, RuntimeError):  # no explicit positions, or none that high
                continue
            difference = float((seen_BSD - whole_BLD[:, seen_L]).abs().max())
            smallest = min(smallest, difference)
            if difference < TOLERANCE:
                return offset
    if smallest == float("inf"):
        raise _refusal(config, "it takes no explicit positions")
    raise _refusal(
        config,
        f"its hidden states change by {smallest:.1e} when unseen tokens are left out rather than hidden, as it reads "
        "distances off the index and not off the positions",
    )


def _refusal(config: PretrainedConfig, reason: str) -> UserError:
    return UserError(
        f"an encoder of type {config.model_type} cannot leave tokens out: {reason}", "Choose another family."
    )


def _small_copy(config: PretrainedConfig) -> PretrainedConfig:
    small = copy.deepcopy(config)
    sizes = {
        "vocab_size": 97,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "max_position_embeddings": 64,
    }
    for name, value in sizes.items():
        if hasattr(small, name):
            setattr(small, name, value)
    if (small.pad_token_id or 0) >= sizes["vocab_size"]:
        small.pad_token_id = 0
    return small
