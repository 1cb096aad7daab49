"""The encoder that is scored: found, identified by a hash, measured, given transformers' own classification head."""

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from transformers import (
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING,
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from masklater import hub
from masklater.corpus.tokenizer import read_saved
from masklater.errors import DamagedDataError, UserError, first_line
from masklater.model.saved import layers_without_place, remedy_for
from masklater.run.identity import is_run
from masklater.run.metrics import training_sha256

if TYPE_CHECKING:
    from masklater.model.masked_lm import MaskLaterForMaskedLM

OF_RUN = ("run", "step", "training_sha256")
"""The fields of a record about the run that an encoder is from."""

LONGEST_ROW = 512
"""Longer rows are truncated, as in fairseq's GLUE recipe; so are rows longer than the encoder has positions for."""

IDENTIFYING = ("config.json", "*.safetensors", "*.bin", "*.index.json", *hub.TOKENIZER_FILES)
"""The files that decide what an encoder computes."""


@dataclass(frozen=True)
class Encoder:
    """An encoder on disk."""

    path: str  # as the user wrote it
    folder: Path  # where transformers loads it from
    sha256: str
    run: str | None = None  # the RUN it was exported from
    step: int | None = None  # the step of that run's checkpoint
    training_sha256: str | None = None  # of the run's log of its steps so far

    def record(self) -> dict[str, str | int | None]:
        """Return the fields about the encoder in a record of scores."""
        return {"path": self.path, "sha256": self.sha256} | {name: getattr(self, name) for name in OF_RUN}

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Load the encoder's tokenizer.

        Raises:
            UserError: There is no tokenizer that loads, or it has no padding token.
        """
        try:
            tokenizer = read_saved(self.folder)
        except Exception as error:  # its many readers raise errors of many kinds
            raise UserError(
                f"the tokenizer of {self.path} does not load: {first_line(error)}",
                "Save it into the encoder's folder with save_pretrained.",
            ) from None
        if tokenizer.pad_token_id is None:
            raise UserError(
                f"the tokenizer of {self.path} has no padding token", "Add one with add_special_tokens and save it."
            )
        return tokenizer


def open_encoder(name: str, scores: Path) -> Encoder:
    """Find an encoder: a folder of transformers', a RUN, which is exported to SCORES/encoder, or a name on the hub.

    Args:
        name: As the user wrote it.
        scores: The SCORES folder. If it already holds an export of the run, that must be of the run's newest
            checkpoint.

    Raises:
        UserError: There is no encoder under that name, or the run has continued since it was exported.
    """
    path = Path(name)
    if is_run(path):
        return _export(path, scores)
    if path.is_dir() and not (path / "config.json").is_file():
        raise UserError(
            f"{path} holds no encoder: there is no config.json", "Name a folder that save_pretrained wrote, or a RUN."
        )
    folder = hub.find(name, IDENTIFYING, "the encoder").folder
    return Encoder(name, folder, hash_folder(folder))


def hash_folder(folder: Path) -> str:
    """Return the SHA-256 over the files that decide what an encoder computes.

    Raises:
        DamagedDataError: There are no weights among them.
    """
    files = sorted({file for pattern in IDENTIFYING for file in folder.glob(pattern) if file.is_file()})
    if not any(file.suffix in {".safetensors", ".bin"} for file in files):
        raise DamagedDataError(f"{folder} holds no weights (*.safetensors or *.bin)", "Save the encoder again.")
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as content:
            digest.update(f"{file.name}\x00{hashlib.file_digest(content, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()


def attention_of(device: torch.device) -> str:
    """Return the name of the transformers attention implementation to use on a device.

    On a CPU it is the plain one: the backward pass of torch's fused attention is slow in bfloat16 on short rows
    (docs/log.md).
    """
    return "eager" if device.type == "cpu" else "sdpa"


def load_classifier(encoder: Encoder, num_outputs: int, device: torch.device, tagging: bool = False) -> PreTrainedModel:
    """Load the encoder with transformers' own classification head, whose weights are drawn from torch's generator.

    Args:
        encoder: The encoder.
        num_outputs: Number of classes, or 1 for a regression.
        device: The device to load it onto.
        tagging: Whether the head is for tokens, not for rows.

    Raises:
        UserError: The family has no such head, or the folder does not hold the encoder's weights.
    """
    with _quiet():
        try:
            config: PretrainedConfig = AutoConfig.from_pretrained(
                encoder.folder, local_files_only=True, trust_remote_code=False
            )
        except Exception as error:
            raise _does_not_load(encoder, error) from None
        what = "token" if tagging else "sequence"
        known = MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING if tagging else MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING
        if type(config) not in known:
            raise UserError(
                f"transformers has no {what}-classification class for the type {config.model_type} of {encoder.path}",
                "Choose an encoder of another family.",
            )
        config.num_labels = num_outputs
        try:
            of_family = AutoModelForTokenClassification if tagging else AutoModelForSequenceClassification
            model, loading = of_family.from_pretrained(
                encoder.folder,
                config=config,
                local_files_only=True,
                trust_remote_code=False,
                dtype=torch.float32,
                attn_implementation=attention_of(device),
                output_loading_info=True,
            )
        except Exception as error:
            raise _does_not_load(encoder, error) from None
    prefix = f"{model.base_model_prefix}."
    missing = [key for key in loading["missing_keys"] if key.startswith(prefix) and ".pooler." not in key]
    if missing:
        raise DamagedDataError(
            f"{encoder.folder} lacks {len(missing)} weights of the encoder, {missing[0]} among them",
            remedy_for(encoder.folder, "Save the whole encoder; a part of it would be random."),
        )
    unexpected = loading["unexpected_keys"]
    if without_place := layers_without_place(str(encoder.path), encoder.folder, model, unexpected):
        raise DamagedDataError(*without_place)
    return model.to(device)


def longest_row(model: PreTrainedModel, at_most: int = LONGEST_ROW) -> int:
    """Return the most tokens that a model takes as input, found by trial: RoBERTa's kin reserve positions for padding.

    Args:
        model: The encoder, with a head or without.
        at_most: The limit that its tokenizer gives; an encoder may have more positions than were trained.

    Raises:
        UserError: The encoder takes no row at all.
    """
    config = model.config
    positions = getattr(config, "max_position_embeddings", None) or LONGEST_ROW
    reserved = (config.pad_token_id or 0) + 1
    filler = next(token for token in range(config.vocab_size) if token != config.pad_token_id)
    at_most = min(LONGEST_ROW, at_most)
    for length in (min(at_most, positions), min(at_most, positions - reserved)):
        if length >= at_most and positions >= at_most + reserved:
            return length
        ids_BL = torch.full((1, max(length, 1)), filler)
        try:
            with torch.no_grad():
                model.eval()(input_ids=ids_BL, attention_mask=torch.ones_like(ids_BL))
        except (IndexError, RuntimeError) as error:
            reason = first_line(error)
            continue
        return length
    raise UserError(f"the encoder takes no row of {positions - reserved} tokens: {reason}", "Is its config.json right?")


def _export(run_path: Path, scores: Path) -> Encoder:
    from masklater.model.export import export_encoder
    from masklater.run.folder import RunFolder

    run = RunFolder(run_path)
    checkpoint, folder = run.open_newest(), scores / "encoder"
    model, step, longest = run.model_of(checkpoint), checkpoint.ledger.steps, checkpoint.progress.row_length
    trained = training_sha256(run_path, step)
    if not folder.exists():
        export_encoder(model, run.tokenizer, folder, run.load_pooler(), longest)
        return Encoder(str(folder), folder, hash_folder(folder), str(run_path), step, trained)
    sha256 = hash_of_export(model, run.tokenizer, run.load_pooler(), longest)
    if sha256 != hash_folder(folder):
        raise UserError(
            f"the run {run_path} is at step {step:,} now, which is not the encoder in {folder}: it has gone on, or "
            "another version of masklater has exported that",
            f"Go on with that encoder: masklater glue {folder} ... --resume; or name another folder with --out.",
        )
    return Encoder(str(folder), folder, sha256, str(run_path), step, trained)


def hash_of_export(
    model: "MaskLaterForMaskedLM",
    tokenizer: Path,
    pooler: dict[str, torch.Tensor] | None,
    trained: int | None,
    within: Path | None = None,
) -> str:
    """Return the hash that a model's encoder will have after its export.

    Args:
        model: The model of the encoder.
        tokenizer: The folder of its tokenizer.
        pooler: The pooler to export with it.
        trained: The longest rows it was trained on, as in `export_encoder`.
        within: A folder for the temporary export; None: the system's folder for temporary files.
    """
    from masklater.model.export import export_encoder

    with tempfile.TemporaryDirectory(dir=within) as place:
        export_encoder(model, tokenizer, Path(place) / "encoder", pooler, trained)
        return hash_folder(Path(place) / "encoder")


def _does_not_load(encoder: Encoder, error: Exception) -> UserError:
    if isinstance(error, UserError):  # a masked LM of ours, whose error says what to name instead
        return error
    return UserError(
        f"the encoder {encoder.path} does not load: {first_line(error)}",
        remedy_for(encoder.folder, "Save it again with save_pretrained."),
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Stop transformers from reporting that the head is new, which here it always is."""
    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(before)
