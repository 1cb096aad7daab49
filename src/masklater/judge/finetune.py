"""One fine-tuning run: an encoder, a task, a setting and a seed give scores after each epoch.

The protocol is fairseq's GLUE recipe for RoBERTa, which the paper's authors name: Adam (0.9, 0.98) with decoupled
weight decay 0.1 on every parameter, eps 1e-6, 6% linear warm-up, linear decay to 0, no clipping; a regression's labels
scaled to 0..1. Dropout is the encoder's own. Letters: B rows of a batch, C outputs, N rows of a split.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import AdamW

from masklater.judge.encoder import Encoder, load_classifier
from masklater.judge.metrics import compute_metrics
from masklater.judge.tasks import MISMATCHED, Task
from masklater.judge.tokens import TokenRows, TokenTask, scoring_batches, training_batches
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

    @property
    def grid_point(self) -> tuple[float, int, int]:
        """The setting without the seed."""
        return self.lr, self.batch, self.epochs


@dataclass(frozen=True)
class RunScores:
    """The result of one run."""

    epochs: list[dict[str, float]]  # metrics in percent and the mean training loss, after each epoch
    best_epoch: int | None  # by the main metric, from 1; None where the first epoch diverged
    diverged: bool  # the loss was not finite: the run ended there
    seconds: float


class StoppedEarly(Exception):  # noqa: N818 - not an error: the caller asked for it
    """The run was left before its end, because it was asked to."""


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
        encoder: Loaded afresh.
        task: Its classes and metrics.
        tokens: Its rows.
        setting: Rate, batch, epochs, seed.
        precision: Arithmetic, and the device.
        stop: Asked at every step.
        progress: Told the rows of each step.

    Raises:
        StoppedEarly: `stop` said so.
        UserError: The encoder cannot be loaded.
    """
    began = time.monotonic()
    train = tokens.splits["train"]
    with repeatable(precision.device):
        torch.manual_seed(derive_seed(setting.seed, "glue-head"))
        model = load_classifier(encoder, max(1, len(task.classes)), precision.device)
        optimizer = AdamW(
            model.parameters(),
            lr=setting.lr,
            betas=PROTOCOL.betas,
            eps=PROTOCOL.eps,
            weight_decay=PROTOCOL.weight_decay,
            fused=True,
        )
        total = setting.epochs * -(-len(train) // setting.batch)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: lr_multiplier(step, total))
        torch.manual_seed(derive_seed(setting.seed, "glue-dropout"))
        epochs: list[dict[str, float]] = []
        diverged = False
        for epoch in range(setting.epochs):
            model.train()
            loss_sum = torch.zeros((), device=precision.device)
            for rows_B in training_batches(train.lengths_N, setting.batch, setting.seed, epoch):
                if stop():
                    raise StoppedEarly
                loss = task_loss(model, task, train, rows_B, tokens.pad, precision)
                loss.backward()
                optimizer.step()
                schedule.step()
                optimizer.zero_grad(set_to_none=True)
                loss_sum += loss.detach() * len(rows_B)
                progress(len(rows_B))
            if not torch.isfinite(loss_sum):
                diverged = True
                break
            epochs.append({**evaluate(model, task, tokens, precision), "loss": float(loss_sum) / len(train)})
    main = [scores[task.main] for scores in epochs]
    best = int(np.argmax(main)) + 1 if main else None
    return RunScores(epochs, best, diverged, time.monotonic() - began)


def lr_multiplier(step: int, total: int) -> float:
    """The learning rate of a step (from 0) as a multiple of its peak: up over the warm-up, then down to 0."""
    warmup = PROTOCOL.warmup * total
    return min(1.0, (step + 1) / warmup, (total - step) / (total - warmup)) if total else 0.0


def task_loss(
    model: nn.Module, task: Task, rows: TokenRows, rows_B: NDArray[np.int64], pad: int, precision: Precision
) -> Tensor:
    """Mean loss of a batch: cross entropy, or squared error of scores scaled to 0..1."""
    with precision.autocast():
        logits_BC = model(**rows.batch(rows_B, pad, precision.device)).logits.float()
    labels_B = torch.from_numpy(rows.labels_N[rows_B]).to(precision.device)
    if task.regression:
        return F.mse_loss(logits_BC[:, 0], labels_B.float() / task.highest)
    return F.cross_entropy(logits_BC, labels_B.long())


@torch.no_grad()
def predict(model: nn.Module, task: Task, rows: TokenRows, pad: int, precision: Precision) -> NDArray[np.float64]:
    """The class, or the score, that a model gives each row, predicted_N."""
    model.eval()
    predicted_N = np.empty(len(rows))
    for rows_B in scoring_batches(rows.lengths_N, SCORING_ROWS):
        with precision.autocast():
            logits_BC = model(**rows.batch(rows_B, pad, precision.device)).logits.float()
        answer_B = logits_BC[:, 0] * task.highest if task.regression else logits_BC.argmax(dim=1)
        predicted_N[rows_B] = answer_B.cpu().numpy()
    return predicted_N


def evaluate(model: nn.Module, task: Task, tokens: TokenTask, precision: Precision) -> dict[str, float]:
    """The task's metrics on its dev split; MNLI's mismatched one gives metrics of that name."""
    scores: dict[str, float] = {}
    for name, rows in tokens.splits.items():
        if name == "train":
            continue
        predicted_N = predict(model, task, rows, tokens.pad, precision)
        suffix = "_mismatched" if name == MISMATCHED else ""
        metrics = compute_metrics(task.metrics, rows.labels_N, predicted_N)
        scores |= {f"{metric}{suffix}": value for metric, value in metrics.items()}
    return scores


def protocol_record() -> dict[str, object]:
    """The protocol as it is stored with every score."""
    return asdict(PROTOCOL)
