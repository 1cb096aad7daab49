"""Pre-training: the step, and the loop around it."""

import math
import time
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from masklater.budget.ledger import Ledger
from masklater.console import Meter, clock, say
from masklater.corpus.shards import Shards
from masklater.errors import DamagedDataError, Interrupted
from masklater.model.masked_lm import MaskLaterForMaskedLM, settle
from masklater.pretrain.accounts import Accounts
from masklater.pretrain.allocator import keep_large_buffers
from masklater.pretrain.checkpoint import Checkpoint, keep_newest, load_checkpoint
from masklater.pretrain.distributed import ALONE, World, adding_up, join, whole
from masklater.pretrain.evaluate import Score, evaluate
from masklater.pretrain.health import Health
from masklater.pretrain.introduce import introduce
from masklater.pretrain.loader import EVALUATION_SEED, Prefetcher, StepShare, check_share, make_batches
from masklater.pretrain.lock import only_process
from masklater.pretrain.metrics import MetricsLog
from masklater.pretrain.optim import Optimizers, Schedule
from masklater.pretrain.order import derive_seed
from masklater.pretrain.plan import cost_of_step, first_step, train_batches
from masklater.pretrain.precision import Precision, choose_precision
from masklater.pretrain.result import PretrainResult, make_result
from masklater.pretrain.run import RunFolder
from masklater.pretrain.saver import Saver
from masklater.pretrain.signals import StopOnSignal
from masklater.pretrain.start import Start, find_start
from masklater.recipe.load import Recipe
from masklater.recipe.sections import COMMON_CORRUPTION


def train_step(
    model: nn.Module,
    optimizers: Optimizers,
    share: StepShare,
    lr_multiplier: float,
    clip: float | None,
    precision: Precision,
    dropout_seed: int,
    world: World = ALONE,
) -> tuple[Tensor, Tensor]:
    """One optimizer step.

    The loss is the sum over all targets of the step divided by their number, however the step is cut into micro-batches
    and over processes. Where loss or gradient is not finite, weights and optimizers stay as they were in all of them.

    Returns:
        loss (of all processes) and gradient norm (before clipping), float32 scalars still on the device.
    """
    loss = torch.zeros((), device=precision.device)
    for number, batch in enumerate(share.micro_batches):
        # Dropout is seeded by place in the step: a resumed run, and one on fewer processes, draws the same.
        torch.manual_seed(derive_seed(dropout_seed, "micro-batch", share.first + number))
        with adding_up(model, last=number + 1 == len(share.micro_batches)):
            with precision.autocast():
                part, _ = model(batch=batch)
            part = part / share.num_targets
            # Gradients are averaged over processes, and what is wanted is their sum.
            (part * world.size).backward()
        loss += part.detach()
    norm = nn.utils.clip_grad_norm_(model.parameters(), float("inf") if clip is None else clip)
    loss, norm = world.sum(loss), whole(norm)
    if torch.isfinite(loss) & torch.isfinite(norm):
        optimizers.step(lr_multiplier)
    else:
        model.zero_grad(set_to_none=True)
    return loss, norm


def pretrain(recipe: Recipe, data: Path, out: Path, resume: bool = False) -> PretrainResult:
    """Train a run from its beginning, or on from its newest checkpoint, to the end of its duration.

    Started by torchrun, processes share each step; a run that torchrun starts again after a process has died resumes.

    Raises:
        UserError: The data, the output folder or the recipe do not allow it.
        Interrupted: SIGINT or SIGTERM; a checkpoint was saved.
        SaidElsewhere: One of these, reported by another process.
    """
    keep_large_buffers()
    with join() as world, ExitStack() as held:
        resume = resume or (world.restarts > 0 and (out / "run.json").exists())
        with world.all_or_none():
            check_share(recipe.batch, world)
            shards = Shards(data)
            if not resume:
                # What can be refused is refused before there is a RUN, so that a second try finds its name free.
                RunFolder.refuse_existing(out)
            start = None if resume else find_start(recipe, shards)
        with world.all_or_none():
            if world.leads and start is None:
                run = RunFolder(out)
                held.enter_context(only_process(out))
                run.check_resumable(recipe, shards)
            elif world.leads and start is not None:
                settle(start.config)
                batches = train_batches(recipe, shards)
                Schedule(recipe.schedule, recipe.duration, first_step(recipe, start.config, batches.corruption))
                _verify(shards)
                RunFolder.create(out, recipe, shards, start.config)
                held.enter_context(only_process(out))
        with world.all_or_none():
            run = RunFolder(out)
        return _Trainer(recipe, shards, run, world, start).train()


class _Trainer:
    """The parts of a run in progress, and the loop over its steps."""

    def __init__(
        self, recipe: Recipe, shards: Shards, run: RunFolder, world: World = ALONE, start: Start | None = None
    ) -> None:
        self.recipe = recipe
        self.run = run
        self.world = world
        self.precision = choose_precision(recipe.precision, world.device)
        self.batches = train_batches(recipe, shards)
        drop, attend = self.batches.corruption.drop, recipe.batch.attend
        self.held_out = {  # by the suffix their scores have in metrics.jsonl
            suffix: make_batches(shards, shards.valid, masking, drop, attend, EVALUATION_SEED)
            for suffix, masking in (("", recipe.masking), ("_15", COMMON_CORRUPTION))
        }
        self.config = run.load_config()
        self.schedule = Schedule(
            recipe.schedule, recipe.duration, first_step(recipe, self.config, self.batches.corruption)
        )
        checkpoint = self._find_checkpoint()
        self.ledger = Ledger() if checkpoint is None else checkpoint.ledger
        self.decay = None if checkpoint is None else checkpoint.decay

        torch.manual_seed(derive_seed(recipe.seed, "weights"))
        self.model = MaskLaterForMaskedLM(self.config)
        if checkpoint is None:
            (start or find_start(recipe, shards)).copy_weights(self.model)
        self.num_parameters = self.model.num_parameters(), self.model.encoder.num_parameters()
        self.model.to(world.device).train()
        self.trained = world.spread(self.model, recipe.distributed, self.precision)  # what a step calls
        self.optimizers = Optimizers(self.model, recipe.optimizer)
        if checkpoint is not None:
            with world.all_or_none():
                checkpoint.load_into(self.model, self.optimizers)

        self.saver = Saver(world, recipe.checkpoint.writes_in_background(world.device.type))
        self.accounts = Accounts(self.ledger, run.path, self.precision, world)
        self.log: MetricsLog | None = None  # the first process has one
        self.loss: float | None = None
        self.scores: dict[str, Score] = {}
        self.evaluated_at = -1

    def _find_checkpoint(self) -> Checkpoint | None:
        """The same for all processes: the first one chooses."""
        chosen: Checkpoint | None = None
        with self.world.all_or_none():
            if self.world.leads:
                chosen = self.run.find_checkpoint(self.schedule.decay)
        path = self.world.of_the_first(str(chosen.path) if chosen else "")
        with self.world.all_or_none():
            return chosen or (load_checkpoint(Path(path)) if path else None)

    def train(self) -> PretrainResult:
        """Every step until the duration is reached."""
        recipe, ledger = self.recipe, self.ledger
        introduce(
            recipe,
            self.config,
            self.batches.corruption,
            self.num_parameters,
            self.accounts.hardware,
            self.precision,
            self.world,
        )
        if ledger.steps:
            say(f"resuming at step {ledger.steps:,}")
        if not self.held_out[""].rows.num_rows:
            say("no rows are held out (--valid-fraction 0): there will be no validation loss")
        meter = Meter("Pre-training", recipe.duration.amount)
        meter.set(recipe.duration.spent(ledger))
        with self.world.all_or_none():
            self.log = MetricsLog(self.run.path, ledger.steps) if self.world.leads else None
            self.health = Health(recipe, self.batches.rows.num_rows, self.run.path)
        prefetcher = Prefetcher(self.batches, recipe.batch, ledger.steps, self.world)
        try:
            with StopOnSignal() as stop, self.log or nullcontext(), meter:
                signal = self._agree(stop)
                while not recipe.duration.reached(ledger) and not signal:
                    signal = self._step(prefetcher, stop)
                    meter.set(recipe.duration.spent(ledger), self._note())
                    if ledger.steps % recipe.evaluation.every_steps == 0:
                        self._evaluate()
                    if ledger.steps % recipe.checkpoint.every_steps == 0:
                        self._save()
                if not signal and self.evaluated_at != ledger.steps:
                    self._evaluate()
                self._save()
                self._finish_saving()
        except DamagedDataError:  # the data has gone; what was trained so far is sound
            if self.world.size == 1:  # others may be waiting in the middle of a step, which cannot be saved
                self._save()
                self._finish_saving()
                say(f"saved at step {ledger.steps:,}; once the data is back, go on with --resume")
            raise
        finally:
            prefetcher.close()
            self.saver.close()
        if signal:
            message = f"stopped and saved at step {ledger.steps:,}; go on with --resume"
            raise Interrupted(signal, message, asdict(self._result()))
        return self._result()

    def _step(self, prefetcher: Prefetcher, stop: StopOnSignal) -> int:
        """One step and its record; returns the number of a signal that any process has received, or 0."""
        recipe, ledger = self.recipe, self.ledger
        self._mark_decay()
        began = time.perf_counter()
        share, corruption = prefetcher.take(), self.batches.corruption_of_step(ledger.steps)
        data_seconds = time.perf_counter() - began
        multiplier = self.schedule.multiplier(ledger)
        loss, norm = train_step(
            self.trained,
            self.optimizers,
            share,
            multiplier,
            recipe.optimizer.clip,
            self.precision,
            derive_seed(recipe.seed, "dropout", ledger.steps),
            self.world,
        )
        self.loss, self.norm = float(loss), float(norm)
        skipped = not (math.isfinite(self.loss) and math.isfinite(self.norm))
        # One clock for all: a duration in hours ends everywhere at the same step.
        seconds, data_seconds, signal, save_failed = self.world.largest(
            time.perf_counter() - began, data_seconds, stop.received or 0, self.saver.has_failed()
        )
        ledger.add_step(cost_of_step(recipe, self.config, corruption), seconds, data_seconds, skipped)
        self._write(
            {
                "step": ledger.steps,
                "loss": self.loss,
                "lr": recipe.optimizer.lr * multiplier,
                "masking_rate": corruption.rate,
                "grad_norm": self.norm,
                "skipped": skipped,
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
        if self.world.leads and (spike := self.health.spike(ledger, self.loss)):
            self._write(spike)
        if skipped:
            with self.world.all_or_none():
                if self.world.leads:
                    self.health.check(ledger, self.loss, self.norm)
        if save_failed:
            self.saver.finish()
        return int(signal)

    def _evaluate(self) -> None:
        rows, micro_rows = self.recipe.evaluation.rows, self.recipe.batch.micro_rows
        self.evaluated_at = self.ledger.steps
        if not self.held_out[""].rows.num_rows:
            return
        record: dict[str, Any] = {"step": self.ledger.steps}
        for suffix, batches in self.held_out.items():
            with self.accounts.time("evaluation"):
                fixed = batches.fixed(rows, micro_rows, self.world)
                score = evaluate(self.model, fixed, self.precision, self.world)
            if not score.targets and suffix not in self.scores and self.world.leads:
                say(f"held-out rows, {'15% [MASK]' if suffix else 'own masking'}: nothing to predict")
            self.scores[suffix] = score
            record |= score.record(suffix)
        self._write(record)

    def _save(self) -> None:
        def then(ledger: Ledger) -> None:
            keep_newest(self.run.checkpoints, self.recipe.checkpoint.keep)
            self.accounts.write(ledger)

        self._save_as(self.run.checkpoints / f"step-{self.ledger.steps:08d}", then)

    def _save_as(self, path: Path, then: Callable[[Ledger], None] | None = None) -> None:
        with self.accounts.time("checkpoint"):
            self.accounts.update()
            self.saver.save(path, self.model, self.optimizers, self.ledger, self.decay, then)

    def _finish_saving(self) -> None:
        with self.accounts.time("checkpoint"):
            self.saver.finish()
        if self.world.leads:
            self.accounts.write(self.ledger)

    def _mark_decay(self) -> None:
        """Before the first step that decays, keep what a longer run would go on from."""
        decay = self.schedule.decay_of(self.ledger)
        if decay is not None and self.decay is None:
            self._save_as(self.run.before_decay(self.ledger.steps))
            self.decay = decay

    def _agree(self, stop: StopOnSignal) -> int:
        (signal,) = self.world.largest(stop.received or 0)
        return int(signal)

    def _write(self, record: dict[str, Any]) -> None:
        if self.log is not None:
            self.log.write(record)

    def _note(self) -> str:
        ledger = self.ledger
        note = f"step {ledger.steps:,}  loss {self.loss:.3f}"
        if ledger.skipped_steps:
            note += f"  {ledger.skipped_steps:,} skipped"
        if "" in self.scores:
            score = self.scores[""]
            note += f"  valid {score.loss:.3f}" if score.targets else "  valid: nothing to predict"
        rate = ledger.rows / ledger.seconds
        return f"{note}  {rate:,.0f} rows/s  {rate * self.batches.rows.row_length:,.0f} tokens/s"

    def _result(self) -> PretrainResult:
        own, common = self.scores.get(""), self.scores.get("_15")
        finished = self.recipe.duration.reached(self.ledger)
        return make_result(self.run.path, finished, self.ledger, self.loss, own, common)


def _verify(shards: Shards) -> None:
    with Meter("Verifying shards", shards.bytes) as meter:
        began = time.monotonic()
        shards.verify(meter.advance)
        meter.set(shards.bytes, clock(time.monotonic() - began))
