"""Export of a run as folders that Hugging Face's libraries load: the encoder alone, or a masked LM."""

from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor
from transformers import PreTrainedModel

from masklater.corpus.tokenizer import load, save
from masklater.folders import complete_folder
from masklater.model.masked_lm import MaskLaterForMaskedLM
from masklater.model.plain import plain_masked_lm
from masklater.model.saved import ENCODER, base_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


def export_encoder(
    model: MaskLaterForMaskedLM,
    tokenizer_folder: Path,
    out: Path,
    pooler: dict[str, Tensor] | None = None,
    trained: int | None = None,
) -> int:
    """Write the encoder and its tokenizer; return the number of parameters written.

    `AutoModel.from_pretrained(out)` and `AutoTokenizer.from_pretrained(out)` load them.

    Args:
        model: The run's model.
        tokenizer_folder: The run's tokenizer.
        out: The folder to make.
        pooler: The pooler of the model that the run started from, unchanged. None: the folder has no pooler, because
            pre-training trains none; transformers makes a fresh one unless told `add_pooling_layer=False`.
        trained: The longest rows that the model was trained on. The tokenizer cuts at this length unless the run's
            tokenizer cuts sooner. None: the run's tokenizer decides.

    Raises:
        UserError: `out` exists already, or the tokenizer does not load.
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

    Where [MASK]s are in the encoder's own stack (vanilla MLM, late entry), the model is of transformers' own class for
    the family, which holds nothing of how it was trained. Where a decoder appends [MASK]s, the model is a
    MaskLaterForMaskedLM. `AutoModelForMaskedLM` loads it once masklater is imported, and the plain encoder is in
    `out/encoder`.

    Args:
        model: The run's model.
        tokenizer_folder: The run's tokenizer.
        out: The folder to make.
        pooler: The pooler of the model that the run started from; it is saved with the encoder, unchanged.
        trained: As in `export_encoder`.

    Raises:
        UserError: `out` exists already, the tokenizer does not load, or the family's masked LM cannot hold the run.
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
    """Save a model and its tokenizer, which cuts at the trained length, into a folder; return the parameter count."""
    parameters = sum(parameter.numel() for parameter in model.parameters())
    if pooler is None:
        model.save_pretrained(folder)
    else:  # under its name in any checkpoint of the family; only classes that have a pooler read it
        inside = "" if base_of(model) is model else f"{model.base_model_prefix}."
        of_pooler = {f"{inside}{name}": tensor for name, tensor in pooler.items()}
        model.save_pretrained(folder, state_dict={**model.state_dict(), **of_pooler})
        parameters += sum(tensor.numel() for tensor in pooler.values())
    save(tokenizer, folder, min(tokenizer.model_max_length, trained or tokenizer.model_max_length))
    return parameters
