"""Conversion of a masklater model into transformers' own masked LM of the family; saved.py converts the other way.

Letters: see masking/batch.py; E width of the word embedding.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from transformers import MODEL_FOR_MASKED_LM_MAPPING, AutoModelForMaskedLM, PreTrainedModel

from masklater.errors import UserError
from masklater.model.head import LMHead
from masklater.model.masked_lm import MaskLaterForMaskedLM
from masklater.model.saved import base_of, head_parts

SETTINGS_OF_HEADS: dict[str, dict[str, Any]] = {
    "modernbert": {"classifier_bias": True, "classifier_activation": "gelu", "decoder_bias": True},
}
"""For each family, the settings that concern its head alone and make it equal to ours."""

LARGEST_DIFFERENCE = 1e-4
"""Largest difference between logits, as a share of the largest logit.

The same weights in the same order differ by 1e-6 in float32.
"""


def plain_masked_lm(model: MaskLaterForMaskedLM) -> PreTrainedModel:
    """Make transformers' own masked LM of the encoder's family, with the weights of a model of ours.

    The head's parts are found by their shapes. The result is then tried on a row without [MASK]: its logits must equal
    the model's.

    Args:
        model: A model trained by vanilla MLM, or by late entry; with late entry [MASK]s then pass through all layers.

    Raises:
        UserError: The family's masked LM cannot hold the encoder and head.
    """
    config = copy.deepcopy(model.config.encoder)
    if model.config.decoder.has_layers:
        raise _cannot_hold(config.model_type, "its encoder has never seen a [MASK], which the decoder appends")
    if model.config.decoder.blocked_flows:
        raise _cannot_hold(config.model_type, "decoder.blocked_flows switches attention off, which it does not know")
    if type(config) not in MODEL_FOR_MASKED_LM_MAPPING:
        raise _cannot_hold(config.model_type, "transformers has none for this family")
    for name, value in SETTINGS_OF_HEADS.get(config.model_type, {}).items():
        setattr(config, name, value)
    dtype = model.word_embeddings.dtype
    masked_lm = AutoModelForMaskedLM.from_config(config, dtype=dtype).to(model.device).eval()
    base = base_of(masked_lm)
    missing, unexpected = base.load_state_dict(model.encoder.state_dict(), strict=False)
    if missing or unexpected:
        raise _cannot_hold(
            config.model_type, f"its encoder has other weights: {', '.join([*missing, *unexpected][:3])}"
        )
    _copy_head(model.head, masked_lm, base, model.word_embeddings)
    difference = _difference(model, masked_lm)
    if not difference <= LARGEST_DIFFERENCE:
        raise _cannot_hold(
            config.model_type,
            f"its head computes something else than dense, GELU, LayerNorm and word embedding (logits differ by "
            f"{difference:.0e} of the largest; hidden_act is {getattr(config, 'hidden_act', 'not set')})",
        )
    return masked_lm


def _copy_head(head: LMHead, masked_lm: PreTrainedModel, base: PreTrainedModel, words_VE: Tensor) -> None:
    """Copy our head into the family's head, whatever the names of its parts."""
    family = base.config.model_type
    parts = head_parts(masked_lm, base)
    if parts is None:
        raise _cannot_hold(family, "its head is not one dense layer, one LayerNorm and the word embedding")
    if _bias(parts.dense) is None and head.dense.bias.any():
        raise _cannot_hold(family, "the dense layer of its head has no bias, and that of the run has")
    if not parts.biases:
        raise _cannot_hold(family, "its head has no bias for each token, and that of the run has")
    with torch.no_grad():
        bias_V = head.bias.clone()
        for theirs, ours in ((parts.dense, head.dense), (parts.norm, head.norm)):
            theirs.weight.copy_(ours.weight)
            their_bias = _bias(theirs)
            if their_bias is not None:
                their_bias.copy_(ours.bias)
        if _bias(parts.norm) is None:  # the norm's bias adds the same to a token's logit at every position
            bias_V += words_VE @ head.norm.bias
        for bias in parts.biases:  # two may be the same parameter under two names
            bias.copy_(bias_V)
        decoder = masked_lm.get_output_embeddings()
        if decoder is not None and decoder.weight.shape == words_VE.shape:
            decoder.weight.copy_(words_VE)


def _bias(module: nn.Module) -> nn.Parameter | None:
    return dict(module.named_parameters()).get("bias")


def _difference(model: MaskLaterForMaskedLM, masked_lm: PreTrainedModel) -> float:
    """Return the largest difference between two models' logits on a row without [MASK], as a share of the largest."""
    special = {model.config.mask_token_id, model.config.encoder.pad_token_id}
    vocabulary, length = len(model.word_embeddings), min(16, model.config.row_length)
    ids = [token_id for token_id in range(max(0, vocabulary - length - 2), vocabulary) if token_id not in special]
    ids_BL = torch.tensor([ids[:length]], device=model.device)
    was_training = model.training
    with torch.no_grad():
        ours, theirs = model.eval()(input_ids=ids_BL).logits, masked_lm(input_ids=ids_BL).logits
    model.train(was_training)
    return float((ours - theirs).abs().max() / ours.abs().max())


def _cannot_hold(family: str, reason: str) -> UserError:
    return UserError(
        f"transformers' masked LM of type {family} cannot hold this run: {reason}",
        "In Python, MaskLaterForMaskedLM.from_pretrained(RUN).save_pretrained(OUT) writes a masked LM that loads "
        "wherever masklater is imported; without --with-head, the encoder alone is exported.",
    )
