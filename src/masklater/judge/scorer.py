"""One process's part of a sweep: it keeps the encoder's limits and the current task's tokens, and makes records."""

from collections.abc import Callable, Mapping
from dataclasses import asdict

import torch
from transformers import PreTrainedModel

from masklater.console import say
from masklater.corpus.vocabulary import num_ids
from masklater.errors import UserError, is_out_of_memory
from masklater.judge.data import TaskData
from masklater.judge.encoder import Encoder, attention_of, load_classifier, longest_row
from masklater.judge.finetune import Setting, finetune, protocol_record
from masklater.judge.grid import Tune
from masklater.judge.records import Record
from masklater.judge.tokens import TokenRows, TokenTask, tokenise
from masklater.judge.tune import select
from masklater.machine.device import device_name
from masklater.machine.kernels import set_up_process
from masklater.machine.precision import choose_precision
from masklater.machine.versions import versions
from masklater.model.check import refusal


class Scorer:
    """Fine-tunes one encoder on one device, task after task."""

    def __init__(
        self, encoder: Encoder, device: torch.device, tune: Tune | None = None, precision: str = "auto"
    ) -> None:
        """Load the encoder once, to find its limits, and whether it has the weights to be trained.

        Raises:
            UserError: The encoder does not load, or has none of these weights.
        """
        set_up_process()
        self.encoder = encoder
        self.precision = choose_precision(precision, device)
        self.tokenizer = encoder.tokenizer()
        model = load_classifier(encoder, 2, torch.device("cpu"))
        self.max_length = longest_row(model, self.tokenizer.model_max_length)
        self.num_types = getattr(model.config, "type_vocab_size", 0) or 0
        self._check_vocabulary(model.get_input_embeddings().weight.shape[0])
        if tune is not None:
            select(model, tune)
        self._fall_back_to_float32(model)
        self.data: TaskData | None = None
        self.tokens: TokenTask | None = None

    def score(
        self,
        data: TaskData,
        setting: Setting,
        stop: Callable[[], bool] = lambda: False,
        progress: Callable[[int], None] = lambda rows: None,
    ) -> Record:
        """Fine-tune once; the record holds everything needed to repeat the run, and its `answers` are the predictions.

        Raises:
            StoppedEarly: `stop` returned True.
            UserError: The device's memory is too small.
        """
        if self.tokens is None or self.data is not data:
            self.tokens = tokenise(data, self.tokenizer, self.max_length, self.num_types)
            self.data = data
        try:
            result = finetune(self.encoder, data.task, self.tokens, setting, self.precision, stop, progress)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise UserError(
                f"{data.task.title} does not fit into the memory of {device_name(self.precision.device)} at batch "
                f"{setting.batch}",
                "Give a smaller --batch; finished runs are kept, in a folder of its own.",
            ) from None
        splits = self.tokens.splits
        return {
            "task": data.task.key,
            "lr": setting.lr,
            "batch": setting.batch,
            "epochs": setting.epochs,
            "seed": setting.seed,
            "scores": result.epochs,
            "best_epoch": result.best_epoch,
            "diverged": result.diverged,
            "seconds": round(result.seconds, 3),
            "tune": setting.tune.record,
            "parameters": asdict(result.parameters),
            "answers": result.answers,
            "encoder": self.encoder.path,
            "encoder_sha256": self.encoder.sha256,
            "data_sha256": data.sha256,
            "max_train_rows": data.max_train_rows,
            "rows": {name: len(rows) for name, rows in splits.items()},
            "truncated_rows": {name: rows.truncated for name, rows in splits.items() if rows.truncated},
            "max_length": self.max_length,
            "notes": [*data.notes, *_unread(splits)],
            **({"definition": data.task.definition} if data.task.definition else {}),
            "protocol": protocol_record(),
            "precision": self.precision.name,
            "attention": attention_of(self.precision.device),
            "hardware": device_name(self.precision.device),
            "threads": torch.get_num_threads(),
            "versions": versions(),
        }

    def _fall_back_to_float32(self, model: PreTrainedModel) -> None:
        """Compute in float32 where the encoder's own code mixes dtypes, which fails only under autocast."""
        if self.precision.name == "float32":
            return
        device = self.precision.device
        ids_BL = torch.full((1, self.max_length), self.tokenizer.pad_token_id, device=device)
        model.to(device).eval()
        why_not = refusal(
            lambda: model(input_ids=ids_BL, attention_mask=torch.ones_like(ids_BL)), self.precision.autocast()
        )
        if why_not is not None:
            say(f"computing in float32: {self.encoder.path} does not in {self.precision.name} ({why_not})")
            self.precision = choose_precision("float32", device)

    def _check_vocabulary(self, embeddings: int) -> None:
        ids = num_ids(self.tokenizer)
        if ids > embeddings:
            raise UserError(
                f"the tokenizer of {self.encoder.path} has ids up to {ids - 1:,}, its encoder {embeddings:,} word "
                "embeddings",
                "Put the encoder's own tokenizer into its folder.",
            )


def _unread(splits: Mapping[str, TokenRows]) -> list[str]:
    """Return remarks on words that have no token, or that were cut off: they count as wrong."""
    return [
        f"{rows.unread:,} words of {name} not read, as their row was cut or the tokenizer has nothing for them"
        for name, rows in splits.items()
        if rows.unread
    ]
