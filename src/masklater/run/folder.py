"""RUN: the folder of one pre-training run.

RUN/recipe.yaml     the resolved recipe
RUN/run.json        what may not change: data, tokenizer, versions it began with
RUN/config.json     the model's config
RUN/tokenizer/      the data's tokenizer, a Hugging Face folder
RUN/metrics.jsonl   one object a step, one an evaluation
RUN/ledger.json     what the run has spent up to its newest checkpoint
RUN/checkpoints/    the newest few, complete ones only, and with schedule wsd the one before decay
RUN/lock            held by the process that trains it
RUN/diverged.json   the rows of the steps at which it last stopped by itself
"""

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from masklater.console import say
from masklater.corpus.shards import Shards
from masklater.errors import DamagedDataError, UserError, first_line
from masklater.folders import complete_folder, disk_errors_for_people, refuse_existing, write_file
from masklater.machine.versions import versions
from masklater.model.config import MaskLaterConfig
from masklater.model.masked_lm import MaskLaterForMaskedLM
from masklater.recipe.load import Recipe, dump, load, settings_of
from masklater.run.checkpoint import (
    Checkpoint,
    is_sound,
    list_checkpoints,
    load_checkpoint,
    load_newest,
    set_aside,
)


@dataclass(frozen=True)
class Identity:
    """run.json."""

    data_sha256: str
    tokenizer_sha256: str
    row_length: int
    masklater: str
    torch: str
    transformers: str
    python: str


class RunFolder:
    """An existing RUN."""

    def __init__(self, path: Path) -> None:
        """Open a RUN.

        Raises:
            UserError: There is none under that name.
        """
        if not path.is_dir():
            raise UserError(f"there is no run {path}", "Make one with `masklater pretrain ... --out`.")
        if not (path / "run.json").is_file():
            raise UserError(f"{path} is no RUN folder: it has no run.json", "Name a folder `masklater pretrain` made.")
        self.path = path
        self.checkpoints = path / "checkpoints"
        self.tokenizer = path / "tokenizer"
        try:
            self.identity = Identity(**json.loads((path / "run.json").read_text(encoding="utf-8")))
        except (ValueError, TypeError, RecursionError):
            raise DamagedDataError(f"{path / 'run.json'} is damaged", "Restore it from a copy.") from None
        except OSError as error:
            raise UserError(f"{path / 'run.json'} cannot be read: {error.strerror}", "Check its permissions.") from None
        self.recipe = load(path / "recipe.yaml")

    @staticmethod
    def refuse_existing(path: Path) -> None:
        """Raise UserError where something stands under that name already."""
        with disk_errors_for_people(path):
            is_run = (path / "run.json").exists()
        if is_run:
            raise UserError(
                f"the run {path} exists already", "Continue it with --resume, or name another folder with --out."
            )
        refuse_existing(path)

    @classmethod
    def create(cls, path: Path, recipe: Recipe, shards: Shards, config: MaskLaterConfig) -> "RunFolder":
        """Make a new RUN.

        Raises:
            UserError: Something stands under that name already.
        """
        with complete_folder(path) as partial:
            identity = Identity(
                data_sha256=shards.fingerprint,
                tokenizer_sha256=shards.index.tokenizer_sha256,
                row_length=shards.index.row_length,
                **versions(),
            )
            (partial / "run.json").write_text(json.dumps(asdict(identity), indent=1), encoding="utf-8")
            (partial / "recipe.yaml").write_text(dump(recipe), encoding="utf-8")
            config.save_pretrained(partial)
            shutil.copytree(shards.folder / "tokenizer", partial / "tokenizer")
            shards.check_tokenizer(partial / "tokenizer")
            (partial / "checkpoints").mkdir()
        return cls(path)

    def check_resumable(self, recipe: Recipe, shards: Shards) -> None:
        """Raise UserError where resuming under this recipe and data would not be the same run."""
        if shards.index.tokenizer_sha256 != self.identity.tokenizer_sha256:
            raise UserError(
                f"{shards.folder} was made with another tokenizer than the run {self.path}",
                "Resume on the data the run began with, or start a new run.",
            )
        if shards.fingerprint != self.identity.data_sha256:
            raise UserError(
                f"{shards.folder} is other data than the run {self.path} began with",
                "Resume on the same shards, or start a new run.",
            )
        before, now = settings_of(self.recipe), settings_of(recipe)
        changed = [key for key in {**before, **now} if before.get(key) != now.get(key)]
        forbidden = [key for key in changed if not Recipe.may_change(key)]
        if forbidden:
            listed = "; ".join(f"{key} was {before.get(key)}, is {now.get(key)}" for key in forbidden)
            raise UserError(
                f"a resumed run cannot change {listed}",
                f"Take the run's own recipe, {self.path / 'recipe.yaml'}, or start a new run.",
            )
        for key in changed:
            say(f"changed on resume: {key} was {before.get(key)}, is {now.get(key)}")
        if changed:
            write_file(self.path / "recipe.yaml", dump(recipe), replace=True)

    def find_checkpoint(self, decay: str | None) -> Checkpoint | None:
        """What to go on from: the newest sound checkpoint, unless it has decayed towards another end than it now has.

        Then it is the one before that decay. Later ones, damaged or decayed, are set aside under other names.

        Args:
            decay: The decay that the run is to end with now, as in Schedule; None where it has no stable rate.

        Raises:
            UserError: The checkpoint before the decay is not there.
        """
        newest = load_newest(self.checkpoints)
        if newest is None:
            return None
        self._set_aside_after(newest.ledger.steps, "damaged")
        if newest.decay in {None, decay}:
            return newest
        before = [path for path in self._before_decay() if is_sound(path)]
        if not before:
            raise UserError(
                f"step {newest.ledger.steps:,} of {self.path} has decayed over {newest.decay}, which is no longer the "
                f"end of the run, and there is no sound checkpoint before that decay in {self.checkpoints}",
                "Resume with the duration and schedule it had, or start a new run with model.from naming this one.",
            )
        stable = load_checkpoint(before[-1])
        say(
            f"step {newest.ledger.steps:,} had decayed over {newest.decay}: going on from step "
            f"{stable.ledger.steps:,}, before that decay; what came after it is kept as checkpoints/decayed-* and "
            "metrics-decayed-*.jsonl"
        )
        if (self.path / "metrics.jsonl").exists():
            shutil.copy(self.path / "metrics.jsonl", self.path / f"metrics-decayed-{newest.ledger.steps:08d}.jsonl")
        self._set_aside_after(stable.ledger.steps, "decayed")
        return stable

    def _set_aside_after(self, step: int, why: str) -> None:
        for path in list_checkpoints(self.checkpoints):
            if path.name > f"step-{step:08d}":
                set_aside(path, why)

    def load_config(self) -> MaskLaterConfig:
        """The model's config.

        Raises:
            DamagedDataError: config.json is not what was written.
        """
        try:
            return MaskLaterConfig.from_pretrained(self.path)
        except Exception as error:  # transformers raises whatever its validators raise
            raise DamagedDataError(
                f"{self.path / 'config.json'} is missing or damaged: {first_line(error)}", "Restore it from a copy."
            ) from None

    def load_model(self) -> tuple[MaskLaterForMaskedLM, int]:
        """The model of the newest sound checkpoint, in evaluation mode, and the step it was saved at.

        Raises:
            UserError: The run has no checkpoint yet.
        """
        checkpoint = load_newest(self.checkpoints)
        if checkpoint is None:
            raise UserError(f"the run {self.path} has no checkpoint yet", "Let it run until its first checkpoint.")
        model = MaskLaterForMaskedLM(self.load_config())
        checkpoint.load_into(model)
        return model.eval(), checkpoint.ledger.steps

    def before_decay(self, step: int) -> Path:
        """Where the last checkpoint at the stable rate stands; it is never removed."""
        return self.checkpoints / f"before-decay-{step:08d}"

    def _before_decay(self) -> list[Path]:
        names = [path for path in self.checkpoints.glob("before-decay-*") if path.name.rpartition("-")[2].isdigit()]
        return sorted(names)
