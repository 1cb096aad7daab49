"""Pre-training: the step, and the loop around it."""

import math
import time
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from masklater.console import Meter, clock, say
from masklater.corpus.shards import Shards
from masklater.errors import DamagedDataError, Interrupted
from masklater.ledger import Ledger
from masklater.machine.allocator import keep_large_buffers
from masklater.machine.compilation import Compilation, choose_compilation
from masklater.machine.distributed import ALONE, World, full_value, gradient_sync, join, stacked_layers
from masklater.machine.precision import Precision, choose_precision
from masklater.machine.signals import StopOnSignal
from masklater.model.masked_lm import MaskLaterForMaskedLM, settle
from masklater.pretrain.announce import announce
from masklater.pretrain.batches import Prefetcher, StepShare, share_out
from masklater.pretrain.evaluate import Score, evaluate
from masklater.pretrain.health import Health
from masklater.pretrain.optim import Optimizers
from masklater.pretrain.plan import SUFFIXES, Judge, Plan, make_plan
from masklater.pretrain.result import PretrainResult, make_result
from masklater.pretrain.start import Start, find_start
from masklater.recipe.load import Recipe
from masklater.run.accounts import Accounts
from masklater.run.checkpoint import Checkpoint, keep_newest, load_checkpoint
from masklater.run.folder import RunFolder
from masklater.run.lock import only_process
from masklater.run.metrics import MetricsLog
from masklater.run.saver import Saver
from masklater.seeds import derive_seed


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
        with gradient_sync(model, last=number + 1 == len(share.micro_batches)):
            with precision.autocast():
                part, _ = model(batch=batch)
            part = part / share.num_targets
            # Gradients are averaged over processes, and what is wanted is their sum.
            (part * world.size).backward()
        loss += part.detach()
    norm = nn.utils.clip_grad_norm_(model.parameters(), float("inf") if clip is None else clip)
    loss, norm = world.all_sum(loss), full_value(norm)
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
        plan, run, shards, start = _open(recipe, data, out, resume, world, held)
        checkpoint = _find_checkpoint(run, plan.schedule.decay, world)
        precision = choose_precision(recipe.precision, world.device)
        torch.manual_seed(derive_seed(recipe.seed, "weights"))
        model = MaskLaterForMaskedLM(plan.config)
        if checkpoint is None:
            (start or find_start(recipe, shards)).copy_weights(model)
        num_parameters = model.num_parameters(), model.encoder.num_parameters()
        model.to(world.device).train()
        compilation = choose_compilation(recipe.compile, world)
        compilation.apply(stacked_layers(model))
        model.head.compiled = compilation.on and world.device.type == "cuda"  # on a CPU it is faster as it is
        trained = world.parallelize(model, recipe.distributed, precision)
        optimizers = Optimizers(model, recipe.optimizer)
        if checkpoint is not None:
            with world.all_or_none():
                checkpoint.load_into(model, optimizers)
        ledger = Ledger() if checkpoint is None else checkpoint.ledger
        accounts = Accounts(ledger, run.path, precision, world)
        saver = Saver(world, recipe.checkpoint.writes_in_background(world.device.type))
        with world.all_or_none():
            announce(plan, num_parameters, accounts.hardware, precision, compilation, world, ledger)
            log = MetricsLog(run.path, ledger.steps) if world.is_main else None
            health = Health(recipe, plan.batches.rows.num_rows, run.path)
        return _Training(
            plan, run, world, precision, compilation, model, trained, optimizers, ledger,
            checkpoint.decay if checkpoint else None, accounts, saver, log, health,
        ).finish()  # fmt: skip


def _open(
    recipe: Recipe, data: Path, out: Path, resume: bool, world: World, held: ExitStack
) -> tuple[Plan, RunFolder, Shards, Start | None]:
    """Open the data and the RUN, made or gone on with, and plan; `held` keeps the RUN's lock. A new RUN has a start."""
    resume = resume or (world.restarts > 0 and (out / "run.json").exists())
    with world.all_or_none():
        recipe = recipe.model_copy(update={"batch": share_out(recipe.batch, world)})
        shards = Shards(data)
        run: RunFolder | None = None
        start: Start | None = None
        if resume:
            run = RunFolder(out)
            if world.is_main:
                held.enter_context(only_process(out))
                run.check_resumable(recipe, shards)
            config = run.load_config()
        else:
            # What can be refused is refused before there is a RUN, so that a second try finds its name free.
            RunFolder.refuse_existing(out)
            start = find_start(recipe, shards)
            config = settle(start.config)
        plan = make_plan(recipe, shards, config)
    with world.all_or_none():
        if run is None and world.is_main:
            _verify(shards)
            run = RunFolder.create(out, recipe, shards, plan.config)
            held.enter_context(only_process(out))
    with world.all_or_none():
        run = run or RunFolder(out)
    return plan, run, shards, start


@dataclass
class _Training:
    """A run in progress: its parts, where it stands, and the loop over its steps."""

    plan: Plan
    run: RunFolder
    world: World
    precision: Precision
    compilation: Compilation
    model: MaskLaterForMaskedLM
    trained: nn.Module  # what a step calls: the model, or what spreads it over processes
    optimizers: Optimizers
    ledger: Ledger
    decay: str | None  # the decay that the last step was part of
    accounts: Accounts
    saver: Saver
    log: MetricsLog | None  # the first process has one
    health: Health
    loss: float | None = None  # of the last step
    scores: dict[Judge, Score] = field(default_factory=dict)  # of the last evaluation
    evaluated_at: int = -1

    def finish(self) -> PretrainResult:
        """Make every step until the duration is reached."""
        recipe, ledger = self.plan.recipe, self.ledger
        meter = Meter("Pre-training", recipe.duration.amount)
        meter.set(recipe.duration.spent(ledger))
        prefetcher = Prefetcher(self.plan.batches, recipe.batch, ledger.steps, self.world)
        try:
            with StopOnSignal() as stop, self.log or nullcontext(), meter, self.compilation.errors_for_people():
                signal = int(self.world.all_max(stop.received or 0)[0])
                if self._lacks_an_evaluation():
                    self._evaluate()
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
        recipe, ledger = self.plan.recipe, self.ledger
        self._mark_decay()
        began = time.perf_counter()
        share, corruption = prefetcher.take(), self.plan.batches.corruption_of_step(ledger.steps)
        data_seconds = time.perf_counter() - began
        multiplier = self.plan.schedule.multiplier(ledger)
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
        self.loss, grad_norm = float(loss), float(norm)
        skipped = not (math.isfinite(self.loss) and math.isfinite(grad_norm))
        # One clock for all: a duration in hours ends everywhere at the same step.
        seconds, data_seconds, signal, save_failed = self.world.all_max(
            time.perf_counter() - began, data_seconds, stop.received or 0, self.saver.has_failed()
        )
        spending = replace(self.plan.spending(corruption), flops_optimizer=self.optimizers.flops)
        ledger.add_step(spending, seconds, data_seconds, skipped)
        ledger.compiled_steps += self.compilation.on
        self._write(
            {
                "step": ledger.steps,
                "loss": self.loss,
                "lr": recipe.optimizer.lr * multiplier,
                "masking_rate": corruption.rate,
                "grad_norm": grad_norm,
                "skipped": skipped,
                "rows": ledger.rows,
                "tokens": ledger.tokens,
                "tokens_seen": ledger.tokens_seen,
                "tokens_predicted": ledger.tokens_predicted,
                "flops": ledger.flops,
                "flops_head": ledger.flops_head,
                "flops_optimizer": ledger.flops_optimizer,
                "step_seconds": seconds,
                "data_seconds": data_seconds,
            }
        )
        if self.world.is_main and (spike := self.health.spike(ledger, self.loss)):
            self._write(spike)
        if skipped:
            with self.world.all_or_none():
                if self.world.is_main:
                    self.health.check(ledger, self.loss, grad_norm)
        if save_failed:
            self.saver.finish()
        return int(signal)

    def _lacks_an_evaluation(self) -> bool:
        """Whether the step that is resumed from could be saved, but not evaluated, as the held-out rows had gone."""
        due = self.ledger.steps > 0 and self.ledger.steps % self.plan.recipe.evaluation.every_steps == 0
        return bool(self.world.all_max(due and self.log is not None and not self.log.evaluated)[0])

    def _evaluate(self) -> None:
        rows, micro_rows = self.plan.recipe.evaluation.rows, self.plan.recipe.batch.micro_rows
        self.evaluated_at = self.ledger.steps
        if not self.plan.held_out["own"].rows.num_rows:
            return
        record: dict[str, Any] = {"step": self.ledger.steps}
        for judge, batches in self.plan.held_out.items():
            with self.accounts.time("evaluation"):
                fixed = batches.fixed(rows, micro_rows, self.world)
                score = evaluate(self.model, fixed, self.precision, self.world)
            if not score.targets and judge not in self.scores and self.world.is_main:
                say(f"held-out rows, {'own masking' if judge == 'own' else '15% [MASK]'}: nothing to predict")
            self.scores[judge] = score
            record |= score.record(SUFFIXES[judge])
        self._write(record)

    def _save(self) -> None:
        def then(ledger: Ledger) -> None:
            keep_newest(self.run.checkpoints, self.plan.recipe.checkpoint.keep)
            self.accounts.write(ledger)

        self._save_as(self.run.checkpoints / f"step-{self.ledger.steps:08d}", then)

    def _save_as(self, path: Path, then: Callable[[Ledger], None] | None = None) -> None:
        with self.accounts.time("checkpoint"):
            self.accounts.update()
            self.saver.save(path, self.model, self.optimizers, self.ledger, self.decay, then)

    def _finish_saving(self) -> None:
        with self.accounts.time("checkpoint"):
            self.saver.finish()
        if self.world.is_main:
            self.accounts.write(self.ledger)

    def _mark_decay(self) -> None:
        """Before the first step that decays, keep what a longer run would go on from."""
        decay = self.plan.schedule.decay_of(self.ledger)
        if decay is not None and self.decay is None:
            self._save_as(self.run.before_decay(self.ledger.steps))
            self.decay = decay

    def _write(self, record: dict[str, Any]) -> None:
        if self.log is not None:
            self.log.write(record)

    def _note(self) -> str:
        ledger = self.ledger
        note = f"step {ledger.steps:,}  loss {self.loss:.3f}"
        if ledger.skipped_steps:
            note += f"  {ledger.skipped_steps:,} skipped"
        if "own" in self.scores:
            score = self.scores["own"]
            note += f"  valid {score.loss:.3f}" if score.targets else "  valid: nothing to predict"
        rate = ledger.rows / ledger.seconds
        return f"{note}  {rate:,.0f} rows/s  {rate * self.plan.batches.rows.row_length:,.0f} tokens/s"

    def _result(self) -> PretrainResult:
        own, common = self.scores.get("own"), self.scores.get("common")
        finished = self.plan.recipe.duration.reached(self.ledger)
        return make_result(self.run.path, finished, self.ledger, self.loss, own, common)


def _find_checkpoint(run: RunFolder, decay: str | None, world: World) -> Checkpoint | None:
    """Find what to go on from, the same for all processes: the first one chooses."""
    chosen: Checkpoint | None = None
    with world.all_or_none():
        if world.is_main:
            chosen = run.find_checkpoint(decay)
    path = world.broadcast(str(chosen.path) if chosen else "")
    with world.all_or_none():
        return chosen or (load_checkpoint(Path(path)) if path else None)


def _verify(shards: Shards) -> None:
    with Meter("Verifying shards", shards.bytes) as meter:
        began = time.monotonic()
        shards.verify(meter.advance)
        meter.set(shards.bytes, clock(time.monotonic() - began))
