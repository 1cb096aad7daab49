"""An encoder's random twin: the same config and tokenizer, with weights as before any training."""

import shutil
from pathlib import Path

import torch
from transformers import AutoConfig

from masklater import hub
from masklater.errors import UserError, first_line
from masklater.folders import complete_folder
from masklater.model.encoder import build_encoder
from masklater.seeds import derive_seed


def write_twin(encoder: Path, out: Path) -> None:
    """Write the twin of an encoder's folder. A fixed seed draws its weights, so they are always the same.

    Raises:
        UserError: The config does not load, or the path exists already.
    """
    try:
        config = AutoConfig.from_pretrained(encoder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # transformers raises whatever its many readers raise
        raise UserError(
            f"the config of {encoder} does not load: {first_line(error)}", "Save it again with save_pretrained."
        ) from None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(0, "random-twin"))
        twin = build_encoder(config)
    with complete_folder(out) as partial:
        twin.save_pretrained(partial)
        for file in sorted({file for pattern in hub.TOKENIZER_FILES for file in encoder.glob(pattern)}):
            shutil.copyfile(file, partial / file.name)
