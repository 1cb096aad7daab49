"""Export of a model's encoder as a plain Hugging Face folder, which knows nothing of how it was trained."""

from pathlib import Path

from masklater.corpus.tokenizer import load, save
from masklater.folders import complete_folder
from masklater.model.masked_lm import MaskLaterForMaskedLM


def export_encoder(model: MaskLaterForMaskedLM, tokenizer_folder: Path, out: Path) -> int:
    """Write the encoder and its tokenizer; return the number of parameters written.

    `AutoModel.from_pretrained(out)` and `AutoTokenizer.from_pretrained(out)` load it. There is no pooler in it, as
    pre-training trains none; transformers makes a fresh one unless told `add_pooling_layer=False`.

    Raises:
        UserError: Something stands under that name already, or the tokenizer does not load.
    """
    tokenizer = load(tokenizer_folder)
    with complete_folder(out) as partial:
        model.encoder.save_pretrained(partial)
        save(tokenizer, partial, model.config.row_length)
    return sum(parameter.numel() for parameter in model.encoder.parameters())
