"""RUN: the folder of one pre-training run.

RUN/recipe.yaml     the resolved recipe
RUN/run.json        what may not change: data by source, tokenizer, table; also versions and a model's commit
RUN/data.json       the data it trains on, by source, with counts and hashes
RUN/config.json     the model's config
RUN/tokenizer/      the data's tokenizer, a Hugging Face folder
RUN/pooler.safetensors  the pooler of the model it started from, if there was one: unchanged, for the export
RUN/metrics.jsonl   one object for each step, one for each evaluation
RUN/tracking.json   the id by which trackers know the run, where there are any
RUN/ledger.json     what the run has spent up to its newest checkpoint
RUN/checkpoints/    the newest few, complete ones only, and with schedule wsd the one before decay
RUN/lock            held by the process that trains it
RUN/diverged.json   the rows of the steps at which it last stopped by itself
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from masklater.console import say
from masklater.corpus.shards import Shards
from masklater.corpus.target_table import TargetTable
from masklater.corpus.tokenizer import copy as copy_tokenizer
from masklater.errors import DamagedDataError, UserError, first_line
from masklater.folders import complete_folder, disk_errors_for_people, refuse_existing, write_file
from masklater.hub import Source
from masklater.model.config import MaskLaterConfig
from masklater.model.masked_lm import MaskLaterForMaskedLM
from masklater.model.positions import decoder_tables, encoder_tables, repeat_trained, set_rope_base
from masklater.recipe.load import dump
from masklater.recipe.recipe import Recipe
from masklater.recipe.timeline import in_phase, rope_base
from masklater.run.checkpoint import (
    Checkpoint,
    Progress,
    is_sound,
    list_checkpoints,
    load_checkpoint,
    load_newest,
    set_aside,
    step_of,
)
from masklater.run.data import write_data
from masklater.run.identity import changes, check_same_run, identity_of, is_run, longest_of, read_identity

POOLER = "pooler.safetensors"


@dataclass(frozen=True)
class SavedModel:
    """The parts that a RUN keeps of the model it starts from."""

    source: Source
    sha256: str | None  # of its weights; None: it has no weights
    pooler: dict[str, Tensor] | None  # None: it has no pooler
    longest_row: int | None  # longest row that tokenizers of the run and its exports take; None: the data's


class RunFolder:
    """An existing RUN."""

    def __init__(self, path: Path) -> None:
        """Open a RUN.

        Raises:
            UserError: There is no RUN under that name.
        """
        self.path = path
        self.checkpoints = path / "checkpoints"
        self.tokenizer = path / "tokenizer"
        self.identity, self.recipe = read_identity(path)

    @staticmethod
    def refuse_existing(path: Path) -> None:
        """Raise UserError where the path exists already."""
        with disk_errors_for_people(path):
            exists = is_run(path)
        if exists:
            raise UserError(
                f"the run {path} exists already", "Continue it with --resume, or name another folder with --out."
            )
        refuse_existing(path)

    @classmethod
    def create(
        cls,
        path: Path,
        recipe: Recipe,
        shards: Mapping[str, Shards],
        config: MaskLaterConfig,
        targets: TargetTable | None = None,
        model: SavedModel | None = None,
    ) -> "RunFolder":
        """Make a new RUN.

        Args:
            path: Its name.
            recipe: Its recipe.
            shards: The data that it trains on, by folder.
            config: The config of its model.
            targets: The table by which it chooses what is predicted; None: none.
            model: The model it starts from; None: from scratch.

        Raises:
            UserError: The path exists already.
        """
        identity = identity_of(shards, model.source if model else None, targets, model.sha256 if model else None)
        longest = longest_of(shards)
        row_length = (model.longest_row if model else None) or longest.index.row_length
        with complete_folder(path) as partial:
            (partial / "run.json").write_text(json.dumps(asdict(identity), indent=1), encoding="utf-8")
            (partial / "recipe.yaml").write_text(dump(recipe), encoding="utf-8")
            write_data(partial, shards)
            config.save_pretrained(partial)
            copy_tokenizer(longest.folder / "tokenizer", partial / "tokenizer", row_length)
            longest.check_tokenizer(partial / "tokenizer")
            if model is not None and model.pooler is not None:
                save_file(model.pooler, partial / POOLER)
            (partial / "checkpoints").mkdir()
        return cls(path)

    def check_resumable(self, recipe: Recipe, shards: Mapping[str, Shards], targets: TargetTable | None) -> None:
        """Raise UserError where resuming under this recipe and data would not be the same run."""
        check_same_run(self.path, self.identity, self.recipe, recipe, shards, targets)

    def go_on_as(self, recipe: Recipe) -> None:
        """Print what has changed in the recipe of a resumed run, and record the recipe.

        Call this after everything that may refuse the recipe.
        """
        changed = changes(self.recipe, recipe)
        for change in changed.values():
            say(f"changed on resume: {change}")
        if changed:
            self.record(recipe)

    def record(self, recipe: Recipe) -> None:
        """Write recipe.yaml again, with the changes that a resumed run may make."""
        write_file(self.path / "recipe.yaml", dump(recipe), replace=True)

    def find_checkpoint(self, decays: set[str | None]) -> Checkpoint | None:
        """Find the checkpoint to continue from: the newest sound one, unless it has decayed towards another end.

        In that case it is the one before that decay. Later checkpoints, damaged or decayed, are renamed and kept.

        Args:
            decays: The decays that the run is to make now, as in Schedule; None where it has no stable rate.

        Raises:
            UserError: The checkpoint before the decay is not there.
        """
        newest = load_newest(self.checkpoints)
        if newest is None:
            self._set_aside_after(0, "damaged")
            return None
        self._set_aside_after(newest.ledger.steps, "damaged")
        if newest.progress.decay is None or newest.progress.decay in decays:
            return newest
        before = [path for path in list_checkpoints(self.checkpoints, "before-decay") if is_sound(path)]
        decay = newest.progress.decay
        if not before:
            raise UserError(
                f"step {newest.ledger.steps:,} of {self.path} has decayed over {decay}, which is no longer the "
                f"end of the run, and there is no sound checkpoint before that decay in {self.checkpoints}",
                "Resume with the duration and schedule it had, or start a new run with model.from naming this one.",
            )
        stable = load_checkpoint(before[-1])
        say(
            f"step {newest.ledger.steps:,} had decayed over {decay}: going on from step "
            f"{stable.ledger.steps:,}, before that decay; what came after it is kept as checkpoints/decayed-* and "
            "metrics-decayed-*.jsonl"
        )
        if (self.path / "metrics.jsonl").exists():
            shutil.copy(self.path / "metrics.jsonl", self.path / f"metrics-decayed-{newest.ledger.steps:08d}.jsonl")
        self._set_aside_after(stable.ledger.steps, "decayed")
        return stable

    def _set_aside_after(self, step: int, why: str) -> None:
        """Rename the checkpoints after this step, which belong to an abandoned course of the run."""
        for path in list_checkpoints(self.checkpoints):
            if step_of(path) > step:
                set_aside(path, why)
        for path in list_checkpoints(self.checkpoints, "before-decay"):
            if step_of(path) > step:  # the new course writes its own
                set_aside(path, "abandoned")

    def load_config(self) -> MaskLaterConfig:
        """Read the model's config.

        Raises:
            DamagedDataError: config.json differs from what was written.
        """
        try:
            return MaskLaterConfig.from_pretrained(self.path)
        except Exception as error:  # its validators raise errors of many kinds
            raise DamagedDataError(
                f"{self.path / 'config.json'} is missing or damaged: {first_line(error)}", "Restore it from a copy."
            ) from None

    def open_newest(self) -> Checkpoint:
        """Return the newest sound checkpoint.

        Raises:
            UserError: The run has none yet.
        """
        checkpoint = load_newest(self.checkpoints)
        if checkpoint is None:
            raise UserError(f"the run {self.path} has no checkpoint yet", "Let it run until its first checkpoint.")
        return checkpoint

    def model_of(self, checkpoint: Checkpoint) -> MaskLaterForMaskedLM:
        """Return the model of a checkpoint, in evaluation mode; print a message where a causal phase was not over.

        Learned positions that no row has trained so far are copies of the trained ones.
        """
        if in_phase(self.recipe, checkpoint.progress.phase).masking.causal:
            say(
                f"{self.path} stands at step {checkpoint.ledger.steps:,}, in a phase of next tokens: its encoder looks "
                "back alone, and fills masks badly, until a masked phase has ended it (pretrain --resume)"
            )
        config = self.load_config()
        if (base := rope_base(self.recipe, checkpoint.progress.phase)) is not None:
            set_rope_base(config.encoder, base)
        model = MaskLaterForMaskedLM(config)
        checkpoint.load_into(model)
        progress = checkpoint.progress
        if progress.row_length:  # older checkpoints do not say what a saved model had been trained on
            repeat_trained(encoder_tables(model), progress.row_length)
        if progress.decoder_row_length:
            repeat_trained(decoder_tables(model), progress.decoder_row_length)
        return model.eval()

    def load_model(self) -> tuple[MaskLaterForMaskedLM, int]:
        """Return the model of the newest sound checkpoint, in evaluation mode, and the step it was saved at.

        Raises:
            UserError: The run has no checkpoint yet.
        """
        checkpoint = self.open_newest()
        return self.model_of(checkpoint), checkpoint.ledger.steps

    def longest_trained(self) -> tuple[int, int]:
        """Return the length of the longest rows that encoder and decoder of the newest checkpoint are trained on."""
        checkpoint = load_newest(self.checkpoints)
        progress = checkpoint.progress if checkpoint else Progress()
        encoder, decoder = (
            self.identity.row_length if found is None else found
            for found in (progress.row_length, progress.decoder_row_length)
        )
        return encoder, decoder

    def load_pooler(self) -> dict[str, Tensor] | None:
        """Return the pooler of the model that the run started from, by its names in the encoder; None without one.

        Raises:
            DamagedDataError: Its file differs from what was written.
        """
        file = self.path / POOLER
        if not file.exists():
            return None
        try:
            return load_file(file)
        except (OSError, SafetensorError) as error:
            raise DamagedDataError(f"{file} cannot be read: {error}", "Restore it from a copy.") from None

    def before_decay(self, step: int) -> Path:
        """Return the path of the last checkpoint at the stable rate, which is never removed."""
        return self.checkpoints / f"before-decay-{step:08d}"
