"""Export of a run as folders that Hugging Face's libraries load: the encoder alone, or a masked LM."""

from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor
from transformers import PreTrainedModel

from masklater.corpus.tokenizer import load, save
from masklater.folders import complete_folder
from masklater.model.masked_lm import MaskLaterForMaskedLM
from masklater.model.plain import plain_masked_lm
from masklater.model.saved import base_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

ENCODER = "encoder"
"""Folder of the plain encoder inside of that of a MaskLaterForMaskedLM."""


def export_encoder(
    model: MaskLaterForMaskedLM,
    tokenizer_folder: Path,
    out: Path,
    pooler: dict[str, Tensor] | None = None,
    trained: int | None = None,
) -> int:
    """Write the encoder and its tokenizer; return the number of parameters written.

    `AutoModel.from_pretrained(out)` and `AutoTokenizer.from_pretrained(out)` load it.

    Args:
        model: Of the run.
        tokenizer_folder: Of the run.
        out: The folder to make.
        pooler: Of the model the run started from, as it was there. None: there is no pooler in it, as pre-training
            trains none; transformers makes a fresh one unless told `add_pooling_layer=False`.
        trained: The longest rows it was trained on, at which its tokenizer cuts if the run's does not sooner; None: the
            run's decides.

    Raises:
        UserError: Something stands under that name already, or the tokenizer does not load.
    """
    tokenizer = load(tokenizer_folder)
    with complete_folder(out) as partial:
        return _write(model.encoder, tokenizer, partial, trained, pooler)


def export_masked_lm(
    model: MaskLaterForMaskedLM,
    tokenizer_folder: Path,
    out: Path,
    pooler: dict[str, Tensor] | None = None,
    trained: int | None = None,
) -> tuple[str, int]:
    """Write a masked LM, LM head included, and its tokenizer; return its class and the number of parameters written.

    Where [MASK]s are in the encoder's own stack (vanilla MLM, late entry), it is transformers' own class of the family,
    which knows nothing of how it was trained. Where a decoder appends them, it is a MaskLaterForMaskedLM, which
    `AutoModelForMaskedLM` loads once masklater is imported, with the plain encoder in `out/encoder`.

    Args:
        model: Of the run.
        tokenizer_folder: Of the run.
        out: The folder to make.
        pooler: Of the model the run started from; it is saved with the encoder, as it was there.
        trained: As in `export_encoder`.

    Raises:
        UserError: Something stands under that name already, the tokenizer does not load, or the family's masked LM
            cannot hold the run.
    """
    tokenizer = load(tokenizer_folder)
    ours = model.config.decoder.has_layers
    masked_lm: PreTrainedModel = model if ours else plain_masked_lm(model)
    with complete_folder(out) as partial:
        if ours:
            _write(model.encoder, tokenizer, partial / ENCODER, trained, pooler)
            tokenizer.model_max_length = min(tokenizer.model_max_length, model.config.row_length)  # the decoder's room
        parameters = _write(masked_lm, tokenizer, partial, trained, None if ours else pooler)
    return type(masked_lm).__name__, parameters


def _write(
    model: PreTrainedModel,
    tokenizer: "PreTrainedTokenizerFast",
    folder: Path,
    trained: int | None,
    pooler: dict[str, Tensor] | None,
) -> int:
    """Save a model and a tokenizer, which cuts at what was trained, into a folder; return the number of parameters."""
    parameters = sum(parameter.numel() for parameter in model.parameters())
    if pooler is None:
        model.save_pretrained(folder)
    else:  # under the name it has in any checkpoint of the family; only classes with a place for it read it
        inside = "" if base_of(model) is model else f"{model.base_model_prefix}."
        of_pooler = {f"{inside}{name}": tensor for name, tensor in pooler.items()}
        model.save_pretrained(folder, state_dict={**model.state_dict(), **of_pooler})
        parameters += sum(tensor.numel() for tensor in pooler.values())
    save(tokenizer, folder, min(tokenizer.model_max_length, trained or tokenizer.model_max_length))
    return parameters
