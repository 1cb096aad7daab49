"""Pre-training: the step, and the loop around it."""

import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from masklater.budget.ledger import Ledger, Spending
from masklater.console import Meter, clock, say
from masklater.corpus.shards import Shards
from masklater.errors import Interrupted, UserError
from masklater.masking.batch import MaskedBatch
from masklater.masking.corrupt import Corruption
from masklater.model.config import MaskLaterConfig
from masklater.model.masked_lm import MaskLaterForMaskedLM, settle
from masklater.pretrain.accounts import Accounts
from masklater.pretrain.allocator import keep_large_buffers
from masklater.pretrain.checkpoint import ledger_of, load_newest, save_checkpoint
from masklater.pretrain.cost import encoder_sizes, row_flops, step_spending
from masklater.pretrain.evaluate import Score, evaluate
from masklater.pretrain.loader import EVALUATION_SEED, BatchMaker, Prefetcher, make_batches
from masklater.pretrain.metrics import MetricsLog
from masklater.pretrain.optim import Optimizers, Schedule
from masklater.pretrain.order import derive_seed
from masklater.pretrain.precision import Precision, choose_precision
from masklater.pretrain.run import RunFolder
from masklater.pretrain.signals import StopOnSignal
from masklater.pretrain.start import Start, find_start
from masklater.recipe.load import Recipe
from masklater.recipe.sections import COMMON_CORRUPTION


@dataclass(frozen=True)
class PretrainResult:
    """Where a run stands when it is left."""

    run: str
    finished: bool
    steps: int
    rows: int
    tokens: int
    flops: float
    seconds: float  # in training steps, over the whole run
    rows_per_second: float
    utilisation: float | None  # FLOPs executed in training steps over the device's peak
    utilisation_vanilla_equivalent: float | None  # the same with the FLOPs of vanilla MLM at 15% on these rows
    loss: float | None  # of the last step; None where this call made no step
    valid_loss: float | None  # under the recipe's own corruption; None where no rows are held out
    valid_accuracy: float | None
    valid_loss_15: float | None  # under 15% [MASK], the same for every run
    valid_accuracy_15: float | None


def train_step(
    model: nn.Module,
    optimizers: Optimizers,
    micro_batches: Sequence[MaskedBatch],
    lr_multiplier: float,
    clip: float | None,
    precision: Precision,
    dropout_seed: int,
) -> tuple[Tensor, Tensor]:
    """One optimizer step.

    The loss is the sum over all targets of the step divided by their number, however the step is cut into parts.

    Returns:
        loss and gradient norm (before clipping), float32 scalars still on the device.
    """
    num_targets = torch.stack([batch.num_targets for batch in micro_batches]).sum()
    loss = torch.zeros((), device=num_targets.device)
    for number, batch in enumerate(micro_batches):
        # Dropout is seeded by place, so that a resumed run draws what the straight one would have drawn.
        torch.manual_seed(derive_seed(dropout_seed, "micro-batch", number))
        with precision.autocast():
            part, _ = model(batch=batch)
        part = part / num_targets
        part.backward()
        loss += part.detach()
    norm = nn.utils.clip_grad_norm_(model.parameters(), float("inf") if clip is None else clip)
    optimizers.step(lr_multiplier)
    return loss, norm


def pretrain(recipe: Recipe, data: Path, out: Path, resume: bool = False) -> PretrainResult:
    """Train a run from its beginning, or on from its newest checkpoint, to the end of its duration.

    Raises:
        UserError: The data, the output folder or the recipe do not allow it.
        Interrupted: SIGINT or SIGTERM; a checkpoint was saved.
    """
    _refuse_many_processes()
    keep_large_buffers()
    shards = Shards(data)
    if resume:
        run = RunFolder(out)
        run.check_resumable(recipe, shards)
        return _Trainer(recipe, shards, run).train()
    # Everything that can be refused is refused before there is a RUN, so that a second try finds its name free.
    RunFolder.refuse_existing(out)
    start = find_start(recipe, shards)
    settle(start.config)
    Schedule(recipe.schedule, recipe.duration, _one_step(recipe, start.config, _make_train_batches(recipe, shards)))
    _verify(shards)
    run = RunFolder.create(out, recipe, shards, start.config)
    return _Trainer(recipe, shards, run, start).train()


class _Trainer:
    """The parts of a run in progress, and the loop over its steps."""

    def __init__(self, recipe: Recipe, shards: Shards, run: RunFolder, start: Start | None = None) -> None:
        self.recipe = recipe
        self.run = run
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.precision = choose_precision(recipe.precision, self.device)
        self.batches = _make_train_batches(recipe, shards)
        drop, attend = self.batches.corruption.drop, recipe.batch.attend
        self.held_out = {  # by the suffix their scores have in metrics.jsonl
            suffix: make_batches(shards, shards.valid, masking, drop, attend, EVALUATION_SEED)
            for suffix, masking in (("", recipe.masking), ("_15", COMMON_CORRUPTION))
        }

        torch.manual_seed(derive_seed(recipe.seed, "weights"))
        self.config = MaskLaterConfig.from_pretrained(run.path)
        self.model = MaskLaterForMaskedLM(self.config)
        state = load_newest(run.checkpoints)
        if state is None:
            (start or find_start(recipe, shards)).copy_weights(self.model)
        self.model.to(self.device).train()
        self.optimizers = Optimizers(self.model, recipe.optimizer)
        self.ledger = Ledger()
        if state is not None:
            self.model.load_state_dict(state["model"])
            self.optimizers.load_state_dict(state["optimizers"])
            self.ledger = ledger_of(state)

        self.accounts = Accounts(self.ledger, run.path, self.precision)
        self.schedule = Schedule(recipe.schedule, recipe.duration, _one_step(recipe, self.config, self.batches))
        self.loss: float | None = None
        self.scores: dict[str, Score] = {}
        self.evaluated_at = -1

    def train(self) -> PretrainResult:
        """Every step until the duration is reached."""
        recipe, ledger = self.recipe, self.ledger
        self._introduce()
        prefetcher = Prefetcher(self.batches, recipe.batch.rows, ledger.steps, self.device)
        meter = Meter("Pre-training", recipe.duration.amount)
        meter.set(recipe.duration.spent(ledger))
        try:
            with StopOnSignal() as stop, MetricsLog(self.run.path, ledger.steps) as log, meter:
                while not recipe.duration.reached(ledger) and stop.received is None:
                    self._step(prefetcher, log)
                    meter.set(recipe.duration.spent(ledger), self._note())
                    if ledger.steps % recipe.evaluation.every_steps == 0:
                        self._evaluate(log)
                    if ledger.steps % recipe.checkpoint.every_steps == 0:
                        self._save()
                if stop.received is None and self.evaluated_at != ledger.steps:
                    self._evaluate(log)
                self._save()
        finally:
            prefetcher.close()
        if stop.received is not None:
            message = f"stopped and saved at step {ledger.steps:,}; go on with --resume"
            raise Interrupted(stop.received, message, asdict(self._result()))
        return self._result()

    def _step(self, prefetcher: Prefetcher, log: MetricsLog) -> None:
        recipe, ledger = self.recipe, self.ledger
        began = time.perf_counter()
        batch, corruption = prefetcher.take(), self.batches.corruption_of_step(ledger.steps)
        data_seconds = time.perf_counter() - began
        multiplier = self.schedule.multiplier(ledger)
        loss, norm = train_step(
            self.model,
            self.optimizers,
            [batch.slice(i, i + recipe.batch.micro_rows) for i in range(0, recipe.batch.rows, recipe.batch.micro_rows)],
            multiplier,
            recipe.optimizer.clip,
            self.precision,
            derive_seed(recipe.seed, "dropout", ledger.steps),
        )
        self.loss = float(loss)
        seconds = time.perf_counter() - began
        ledger.add_step(_spending(recipe, self.config, corruption), seconds, data_seconds)
        log.write(
            {
                "step": ledger.steps,
                "loss": self.loss,
                "lr": recipe.optimizer.lr * multiplier,
                "masking_rate": corruption.rate,
                "grad_norm": float(norm),
                "rows": ledger.rows,
                "tokens": ledger.tokens,
                "tokens_seen": ledger.tokens_seen,
                "tokens_predicted": ledger.tokens_predicted,
                "flops": ledger.flops,
                "flops_head": ledger.flops_head,
                "step_seconds": seconds,
                "data_seconds": data_seconds,
            }
        )
        if not torch.isfinite(loss) or not torch.isfinite(norm):
            raise UserError(
                f"step {ledger.steps:,}: training has diverged (loss {self.loss}, gradient norm {float(norm)})",
                f"Start again from the newest checkpoint in {self.run.checkpoints} with a lower optimizer.lr or more "
                "warm-up: masklater pretrain ... --resume optimizer.lr=...",
            )

    def _evaluate(self, log: MetricsLog) -> None:
        rows, micro_rows = self.recipe.evaluation.rows, self.recipe.batch.micro_rows
        self.evaluated_at = self.ledger.steps
        if not self.held_out[""].rows.num_rows:
            return
        record: dict[str, Any] = {"step": self.ledger.steps}
        for suffix, batches in self.held_out.items():
            with self.accounts.time("evaluation"):
                score = evaluate(self.model, batches.fixed(rows, micro_rows), self.device, self.precision)
            self.scores[suffix] = score
            record |= {
                f"valid_loss{suffix}": score.loss,
                f"valid_accuracy{suffix}": score.accuracy,
                f"valid_targets{suffix}": score.targets,
            }
        log.write(record)

    def _save(self) -> None:
        self.accounts.update()
        with self.accounts.time("checkpoint"):
            save_checkpoint(self.run.checkpoints, self.model, self.optimizers, self.ledger, self.recipe.checkpoint.keep)
        self.accounts.write()

    def _introduce(self) -> None:
        """Say what is about to run, and which paths were chosen and why."""
        corruption = self.batches.corruption
        parameters = sum(parameter.numel() for parameter in self.model.parameters())
        exported = sum(parameter.numel() for parameter in self.model.encoder.parameters())
        counts = corruption.counts
        say(
            f"{_objective(self.config)}: of each row's {counts.row_length} positions the encoder sees {counts.seen}, "
            f"{counts.targets} are predicted"
        )
        say(f"{parameters / 1e6:.1f} M parameters, {exported / 1e6:.1f} M of them in the encoder that is exported")
        flops = row_flops(encoder_sizes(self.config.encoder), self.recipe.decoder, counts)
        say(f"{flops.training / 1e9:.2f} GFLOPs to train on a row, {flops.head / flops.forward:.0%} in the LM head")
        say(f"device {self.device.type}, {self.precision.name}: {self.precision.reason}")
        hardware = self.accounts.hardware
        say(f"peak rate {hardware.peak_flops_per_second / 1e12:.3g} TFLOP/s: {hardware.name}, {hardware.source}")
        if self.ledger.steps:
            say(f"resuming at step {self.ledger.steps:,}")
        if not self.held_out[""].rows.num_rows:
            say("no rows are held out (--valid-fraction 0): there will be no validation loss")

    def _note(self) -> str:
        ledger = self.ledger
        note = f"step {ledger.steps:,}  loss {self.loss:.3f}"
        if "" in self.scores:
            note += f"  valid {self.scores[''].loss:.3f}"
        rate = ledger.rows / ledger.seconds
        return f"{note}  {rate:,.0f} rows/s  {rate * self.batches.rows.row_length:,.0f} tokens/s"

    def _result(self) -> PretrainResult:
        own, common = self.scores.get(""), self.scores.get("_15")
        ledger = self.ledger
        return PretrainResult(
            run=str(self.run.path),
            finished=self.recipe.duration.reached(ledger),
            steps=ledger.steps,
            rows=ledger.rows,
            tokens=ledger.tokens,
            flops=ledger.flops,
            seconds=ledger.seconds,
            rows_per_second=ledger.rows / ledger.seconds if ledger.seconds else 0.0,
            utilisation=ledger.utilisation(ledger.flops),
            utilisation_vanilla_equivalent=ledger.utilisation(ledger.flops_vanilla),
            loss=self.loss,
            valid_loss=own.loss if own else None,
            valid_accuracy=own.accuracy if own else None,
            valid_loss_15=common.loss if common else None,
            valid_accuracy_15=common.accuracy if common else None,
        )


def _make_train_batches(recipe: Recipe, shards: Shards) -> BatchMaker:
    duration, rows = recipe.duration, recipe.batch.rows
    one_step = Ledger(steps=1, rows=rows, tokens=rows * shards.index.row_length)
    step_share = duration.spent(one_step) / duration.amount  # 0 in units under which the rate does not change
    masking, attend, seed = recipe.masking, recipe.batch.attend, recipe.seed
    return make_batches(shards, shards.train, masking, recipe.decoder.drops, attend, seed, step_share)


def _spending(recipe: Recipe, config: MaskLaterConfig, corruption: Corruption) -> Spending:
    rows, maskable = recipe.batch.rows, corruption.maskable_per_row
    return step_spending(rows, encoder_sizes(config.encoder), recipe.decoder, corruption.counts, maskable)


def _one_step(recipe: Recipe, config: MaskLaterConfig, batches: BatchMaker) -> Ledger:
    """A ledger after the first step, whose seconds are not known beforehand."""
    ledger = Ledger()
    ledger.add_step(_spending(recipe, config, batches.corruption), seconds=0.0, data_seconds=0.0)
    return ledger


def _objective(config: MaskLaterConfig) -> str:
    if config.decoder_kind == "late":
        return f"[MASK]s enter at layer {config.enter_layer} of {config.encoder.num_hidden_layers}"
    names = {"self": "3ML_self", "cross": "3ML_cross", "cross-only": "3ML_cross, cross-attention only"}
    return names.get(config.decoder_kind, "vanilla MLM")


def _verify(shards: Shards) -> None:
    with Meter("Verifying shards", shards.bytes) as meter:
        began = time.monotonic()
        shards.verify(meter.advance)
        meter.set(shards.bytes, clock(time.monotonic() - began))


def _refuse_many_processes() -> None:
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError(
            f"WORLD_SIZE is {os.environ['WORLD_SIZE']}: this version trains in one process",
            "Start `masklater pretrain` without torchrun; one process uses one GPU, or all cores.",
        )
