"""One fine-tuning run: an encoder, a task, a setting and a seed give scores after each epoch.

The protocol is fairseq's GLUE recipe for RoBERTa, which the paper's authors name: Adam (0.9, 0.98) with decoupled
weight decay 0.1 on every trained parameter (see `tune.py`), eps 1e-6, 6% linear warm-up, linear decay to 0, no
clipping; a regression's labels scaled to 0..1. Dropout is the encoder's own. Where words have labels, the loss is the
mean over words, each at its first piece.

Letters: B rows of a batch, L their length, C outputs, N rows of a split, W words.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import AdamW

from masklater.judge.encoder import Encoder, load_classifier
from masklater.judge.grid import Tune
from masklater.judge.metrics import compute_metrics, compute_tag_metrics
from masklater.judge.tasks import Task, score_name
from masklater.judge.tokens import TokenRows, TokenTask, scoring_batches, training_batches
from masklater.judge.tune import Counts, select
from masklater.machine.kernels import repeatable
from masklater.machine.precision import Precision
from masklater.seeds import derive_seed

SCORING_ROWS = 128


@dataclass(frozen=True)
class Protocol:
    """The settings that all runs share, recorded with every score."""

    warmup: float = 0.06
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-6
    weight_decay: float = 0.1


PROTOCOL = Protocol()


@dataclass(frozen=True)
class Setting:
    """The settings of one run."""

    lr: float
    batch: int
    epochs: int
    seed: int
    tune: Tune = field(default_factory=Tune)


@dataclass(frozen=True)
class RunScores:
    """The result of one run."""

    epochs: list[dict[str, float]]  # metrics in percent and the mean training loss, after each epoch
    best_epoch: int | None  # by the main metric, from 1; None where the first epoch diverged
    diverged: bool  # the loss or a prediction was not finite: the run ended there
    seconds: float
    parameters: Counts
    answers: dict[str, NDArray[np.float64]] = field(default_factory=dict)  # of the best epoch, by dev split: `predict`


class StoppedEarly(Exception):  # noqa: N818 - not an error: the caller asked for it
    """The run was left before its end, because the caller asked for it."""


def finetune(
    encoder: Encoder,
    task: Task,
    tokens: TokenTask,
    setting: Setting,
    precision: Precision,
    stop: Callable[[], bool] = lambda: False,
    progress: Callable[[int], None] = lambda rows: None,
) -> RunScores:
    """Fine-tune once. The same arguments on the same machine give the same scores.

    Args:
        encoder: The encoder, loaded anew.
        task: The task, with its classes and metrics.
        tokens: The task's rows.
        setting: Learning rate, batch, epochs, seed, and which weights are trained.
        precision: Arithmetic, and the device.
        stop: Called at every step; True ends the run.
        progress: Called with the number of rows of each step.

    Raises:
        StoppedEarly: `stop` returned True.
        UserError: The encoder cannot be loaded, or has no such weights.
    """
    began = time.monotonic()
    train = tokens.splits["train"]
    with repeatable(precision.device):
        torch.manual_seed(derive_seed(setting.seed, "glue-head"))
        model = load_classifier(encoder, max(1, len(task.classes)), precision.device, task.tagging)
        tuned = select(model, setting.tune)
        optimizer = AdamW(
            tuned.parameters,
            lr=setting.lr,
            betas=PROTOCOL.betas,
            eps=PROTOCOL.eps,
            weight_decay=PROTOCOL.weight_decay,
            fused=True,
        )
        scaler = precision.scaler()
        total = setting.epochs * -(-len(train) // setting.batch)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: lr_multiplier(step, total))
        torch.manual_seed(derive_seed(setting.seed, "glue-dropout"))
        epochs: list[dict[str, float]] = []
        best = None
        kept: dict[str, NDArray[np.float64]] = {}
        diverged = False
        for epoch in range(setting.epochs):
            model.train()
            loss_sum = torch.zeros((), device=precision.device)
            for rows_B in training_batches(train.lengths_N, setting.batch, setting.seed, epoch):
                if stop():
                    raise StoppedEarly
                loss = task_loss(model, task, train, rows_B, tokens.pad, precision)
                scaler.scale(loss).backward()
                scaler.step(optimizer)
                scaler.update()
                schedule.step()
                optimizer.zero_grad(set_to_none=True)
                loss_sum += loss.detach() * len(rows_B)
                progress(len(rows_B))
            answers = predict_dev(model, task, tokens, precision) if torch.isfinite(loss_sum) else None
            if answers is None or not all(np.isfinite(predicted_N).all() for predicted_N in answers.values()):
                diverged = True
                break
            epochs.append({**score(task, tokens, answers), "loss": float(loss_sum) / len(train)})
            best = int(np.argmax([scores[task.main] for scores in epochs])) + 1
            kept = answers if best == len(epochs) else kept
    return RunScores(epochs, best, diverged, time.monotonic() - began, tuned.counts, kept)


def lr_multiplier(step: int, total: int) -> float:
    """Return the learning rate of a step (from 0) as a multiple of its peak: up over the warm-up, then down to 0."""
    warmup = PROTOCOL.warmup * total
    return min(1.0, (step + 1) / warmup, (total - step) / (total - warmup)) if total else 0.0


def task_loss(
    model: nn.Module, task: Task, rows: TokenRows, rows_B: NDArray[np.int64], pad: int, precision: Precision
) -> Tensor:
    """Compute the mean loss of a batch: cross entropy, of rows or words, or squared error of scores scaled to 0..1."""
    with precision.autocast():
        logits = model(**rows.batch(rows_B, pad, precision.device)).logits.float()
    if rows.words is not None:
        word_W, *where = rows.words.of(rows_B)
        labels_W = torch.from_numpy(rows.labels_N[word_W]).to(precision.device)
        row_W, place_W = (torch.from_numpy(each).to(precision.device) for each in where)
        logits_WC = logits[row_W, place_W]
        return F.cross_entropy(logits_WC, labels_W.long(), reduction="sum") / max(1, len(word_W))
    labels_B = torch.from_numpy(rows.labels_N[rows_B]).to(precision.device)
    if task.regression:
        # In float64 up to here: with labels far from 0, such as seconds since 1970, float32 loses the differences.
        scaled_B = (labels_B - task.lowest) / (task.highest - task.lowest)
        return F.mse_loss(logits[:, 0], scaled_B.float())
    return F.cross_entropy(logits, labels_B.long())


@torch.no_grad()
def predict(model: nn.Module, task: Task, rows: TokenRows, pad: int, precision: Precision) -> NDArray[np.float64]:
    """Return the class or score of each row, predicted_N; or of each word, -1 where the word was not read.

    The value is nan where logits are not finite, because then none is the largest.
    """
    model.eval()
    predicted_N = np.full(len(rows.labels_N), -1.0)
    for rows_B in scoring_batches(rows.lengths_N, SCORING_ROWS):
        with precision.autocast():
            logits = model(**rows.batch(rows_B, pad, precision.device)).logits.float()
        if rows.words is not None:
            word_W, row_W, place_W = rows.words.of(rows_B)
            predicted_N[word_W] = _largest(logits).cpu().numpy()[row_W, place_W]
        elif task.regression:
            predicted_N[rows_B] = (logits[:, 0].double() * (task.highest - task.lowest) + task.lowest).cpu().numpy()
        else:
            predicted_N[rows_B] = _largest(logits).cpu().numpy()
    return predicted_N


def _largest(logits: Tensor) -> Tensor:
    """Return the index of the largest value in the last dimension, as float64; nan where not all are finite."""
    return logits.argmax(dim=-1).double().masked_fill(~logits.isfinite().all(dim=-1), torch.nan)


def predict_dev(
    model: nn.Module, task: Task, tokens: TokenTask, precision: Precision
) -> dict[str, NDArray[np.float64]]:
    """Predict every dev split."""
    dev = {name: rows for name, rows in tokens.splits.items() if name != "train"}
    return {name: predict(model, task, rows, tokens.pad, precision) for name, rows in dev.items()}


def score(task: Task, tokens: TokenTask, answers: dict[str, NDArray[np.float64]]) -> dict[str, float]:
    """Return the task's metrics of predictions. A dev split's name is part of theirs (`accuracy_mismatched`)."""
    scores: dict[str, float] = {}
    for split, predicted_N in answers.items():
        rows = tokens.splits[split]
        if rows.words is None:
            metrics = compute_metrics(task.metrics, rows.labels_N, predicted_N)
        else:
            metrics = compute_tag_metrics(
                task.metrics,
                rows.labels_N.astype(np.int64),
                predicted_N.astype(np.int64),
                rows.words.starts_N1,
                task.classes,
            )
        scores |= {score_name(metric, split): value for metric, value in metrics.items()}
    return scores


def protocol_record() -> dict[str, object]:
    """Return the protocol as it is stored with every score."""
    return asdict(PROTOCOL)
