"""Pre-training: a run from beginning to end, and the loop over its steps."""

import math
import time
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from masklater.console import Meter, say
from masklater.errors import DamagedDataError, Interrupted, is_out_of_memory
from masklater.ledger import Ledger
from masklater.machine.compilation import Compilation, choose_compilation, has_flex
from masklater.machine.device import HostCopy
from masklater.machine.distributed import World, join
from masklater.machine.kernels import repeatable, set_up_process
from masklater.machine.parallel import parallelize, stacked_layers
from masklater.machine.precision import Precision, choose_precision
from masklater.machine.signals import StopOnSignal
from masklater.model.masked_lm import MaskLaterForMaskedLM
from masklater.pretrain.announce import announce, announce_unigram, progress_note
from masklater.pretrain.batches import Prefetcher, StepShare
from masklater.pretrain.evaluate import Score, evaluate, pool
from masklater.pretrain.health import Health
from masklater.pretrain.micro_rows import lower
from masklater.pretrain.opening import find_checkpoint, open_run, start_again
from masklater.pretrain.optim import Optimizers
from masklater.pretrain.phase import extend_positions, set_up
from masklater.pretrain.plan import NAMES, Judge, Plan
from masklater.pretrain.result import PretrainResult, make_result
from masklater.pretrain.sources import begin_ledger
from masklater.pretrain.step import train_step
from masklater.recipe.recipe import Recipe
from masklater.run.accounts import Accounts
from masklater.run.checkpoint import Progress, keep_newest
from masklater.run.folder import RunFolder
from masklater.run.metrics import MetricsLog, step_record
from masklater.run.saver import Saver
from masklater.seeds import derive_seed


def pretrain(recipe: Recipe, data: Path, out: Path, resume: bool = False) -> PretrainResult:
    """Train a run to the end of its duration, from its beginning or from its newest checkpoint.

    Under torchrun, processes share each step. When torchrun restarts a run after a process has died, the run resumes.

    Raises:
        UserError: The data, the output folder or the recipe do not allow the run.
        Interrupted: SIGINT or SIGTERM; a checkpoint was saved.
        SaidElsewhere: One of these, reported by another process.
    """
    set_up_process()
    with join() as world, ExitStack() as held:
        if recipe.deterministic:
            held.enter_context(repeatable(world.device))
        compilation = choose_compilation(recipe.compile, world)
        plan, run, sources, start = open_run(recipe, data, out, resume, world, held)
        checkpoint = find_checkpoint(run, plan, world)
        precision = world.common_precision(choose_precision(recipe.precision, world.device))
        torch.manual_seed(derive_seed(recipe.seed, "weights"))
        model = MaskLaterForMaskedLM(plan.config)
        if checkpoint is None:
            start = start or start_again(run, recipe, sources)
            decoder_trained = start.copy_weights(model)
            progress = Progress(row_length=start.trained, decoder_row_length=decoder_trained)
            ledger = begin_ledger(sources)
        else:
            progress, ledger = checkpoint.progress, checkpoint.ledger
            plan = plan.after(progress.begun)
        num_parameters = model.num_parameters(), model.encoder.num_parameters()
        if recipe.checkpoint_every:
            model.checkpoint_activations(recipe.checkpoint_every)
        model.to(world.device).train()
        compilation.apply(stacked_layers(model))
        by_blocks = has_flex(compilation, world.device, recipe.deterministic) and model.attend_by_blocks()
        model.head.compiled = compilation.on and world.device.type == "cuda"  # on a CPU it is faster uncompiled
        rests = any(phase.causal for phase in plan.phases)
        trained = parallelize(model, recipe.distributed, precision, world, some_unused=rests)
        optimizers = Optimizers(model, recipe.optimizer, world, precision.scaler())
        if checkpoint is not None:
            with world.all_or_none():
                checkpoint.load_into(model, optimizers)
        accounts = Accounts(ledger, run.path, precision, world)
        saver = Saver(world, recipe.checkpoint.writes_in_background(world.device.type))
        with world.all_or_none():
            if world.is_main:
                run.go_on_as(plan.recipe)
            announce(plan, num_parameters, accounts.hardware, precision, compilation, by_blocks, world, ledger)
            unigram = plan.unigram_score() if world.is_main else None
            announce_unigram(unigram)
            log = MetricsLog(run.path, ledger.steps, plan.recipe) if world.is_main else None
            health = Health(recipe, plan.rows_of, run.path, plan.phase(max(0, ledger.steps - 1)).span.first)
        return _Training(
            plan=plan, run=run, world=world, precision=precision, compilation=compilation, model=model,
            trained=trained, optimizers=optimizers, ledger=ledger, progress=progress, accounts=accounts,
            saver=saver, log=log, health=health, unigram=unigram,
        ).finish()  # fmt: skip


class _Unsettled(NamedTuple):
    """A step that may still be under way on the device."""

    record: dict[str, Any]  # for metrics.jsonl, without the following:
    numbers: HostCopy  # loss and gradient norm, and the loss scale where the loss is scaled
    empty: bool  # whether its rows had nothing to predict


@dataclass
class _Training:
    """A run in progress: its parts, its state, and the loop over its steps."""

    plan: Plan
    run: RunFolder
    world: World
    precision: Precision
    compilation: Compilation
    model: MaskLaterForMaskedLM
    trained: nn.Module  # the module that a step calls: the model, or its wrapper over several processes
    optimizers: Optimizers
    ledger: Ledger
    progress: Progress  # as of the last step
    accounts: Accounts
    saver: Saver
    log: MetricsLog | None  # the first process has one
    health: Health
    unigram: Score | None  # of guesses by token frequency alone; the first process has one
    unsettled: "_Unsettled | None" = None  # the last step, where its loss has not been read yet
    loss: float | None = None  # of the last step whose loss has been read
    scores: dict[Judge, Score] = field(default_factory=dict)  # of the last evaluation, over all sources
    evaluated_at: int = -1

    def __post_init__(self) -> None:
        self.settles_late = self.world.device.type == "cuda"  # on a CPU a step has ended when it returns
        self.phase = self.plan.phase(max(0, self.ledger.steps - 1))  # a first evaluation is of this phase
        set_up(self.phase, self.model)

    def finish(self) -> PretrainResult:
        """Make steps until the duration is reached, or until a signal stops the run."""
        recipe, ledger = self.plan.recipe, self.ledger
        if ledger.steps and recipe.duration.reached(ledger):
            say(f"{self.run.path} is at step {ledger.steps:,}: {recipe.duration} are over, nothing is left to train")
        meter = Meter("Pre-training", recipe.duration.amount, before=recipe.duration.spent(ledger))
        prefetcher = Prefetcher(self._share, ledger.steps, self.world)
        try:
            with StopOnSignal() as stop, self.log or nullcontext(), meter, self.compilation.errors_for_people():
                signal = int(self.world.all_max(stop.received or 0)[0])
                if self._lacks_an_evaluation():
                    self._evaluate()
                while not recipe.duration.reached(ledger) and not signal:
                    signal = self._step(prefetcher, stop)
                    meter.set(recipe.duration.spent(ledger), progress_note(ledger, self.loss, self.scores))
                    if ledger.steps % recipe.evaluation.every_steps == 0:
                        self._evaluate()
                    if ledger.steps % recipe.checkpoint.every_steps == 0:
                        self._save()
                if not signal and self.evaluated_at != ledger.steps:
                    self._evaluate()
                if not signal and (phase := self.phase.span.number + 1) < len(self.plan.phases):
                    say(f"{recipe.duration} were over before phase {phase + 1} began; a longer --resume goes on to it")
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
        """Make one step; return the number of a signal that any process has received, or 0.

        On a GPU, the loss of the step before is read while this step computes, so that the device never waits.
        """
        recipe, ledger = self.plan.recipe, self.ledger
        self._enter_phase(prefetcher)
        self._mark_decay()
        began = time.perf_counter()
        share, spending = prefetcher.take(), self.plan.spending(ledger.steps)
        rate = self.phase.batches.corruption_of_step(ledger.steps).rate
        data_seconds = time.perf_counter() - began
        multiplier = self.phase.multiplier(ledger)
        loss_scale = self.optimizers.loss_scale()
        loss, norm = self._train(share, prefetcher, multiplier)
        numbers = HostCopy(loss, norm, *([] if loss_scale is None else [loss_scale]))
        self._settle()
        # One clock for all: a duration in hours ends everywhere at the same step.
        seconds, data_seconds, signal, save_failed = self.world.all_max(
            time.perf_counter() - began, data_seconds, stop.received or 0, self.saver.has_failed()
        )
        ledger.add_step(replace(spending, flops_optimizer=self.optimizers.flops), seconds, data_seconds)
        ledger.compiled_steps += self.compilation.on
        record = step_record(ledger, recipe.optimizer.lr * multiplier, rate, seconds, data_seconds)
        self.unsettled = _Unsettled(record, numbers, empty=share.num_targets == 0)
        if not self.settles_late:
            self._settle()
        if save_failed:
            self.saver.finish()
        return int(signal)

    def _train(self, share: StepShare, prefetcher: Prefetcher, multiplier: float) -> tuple[Tensor, Tensor]:
        """Make the step. If a first step does not fit the device, retry in smaller forward passes where allowed."""
        clip, seed = self.plan.recipe.optimizer.clip, derive_seed(self.plan.recipe.seed, "dropout", self.ledger.steps)
        while True:
            try:
                return train_step(
                    self.trained, self.optimizers, share, multiplier, clip, self.precision, seed, self.world
                )
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                lowered = None if self.optimizers.begun else lower(self.plan, self.world, self.ledger.steps)
                if lowered is None:
                    raise
            # Here and not above: while an error is handled, the tensors of the failed pass are still held.
            self.plan = lowered
            self.run.record(lowered.recipe)
            self.model.zero_grad(set_to_none=True)
            # A scaler unscales once a step, and this one may have done so already.
            state, self.optimizers.scaler = self.optimizers.scaler_state(), self.precision.scaler()
            self.optimizers.load_scaler(state)
            if self.world.device.type == "cuda":
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()  # the peak must be that of completed steps
            prefetcher.cut_again(self._share)
            share = prefetcher.take()

    def _share(self, step: int) -> StepShare:
        return self.plan.share(step, self.world)

    def _enter_phase(self, prefetcher: Prefetcher) -> None:
        """Make the model ready for a new phase, where the next step begins one."""
        if (plan := self.plan.begin_by_clock(self.ledger)) is not None:
            self.plan, self.health.rows_of = plan, plan.rows_of
            prefetcher.make_again()
            say(f"phase {len(plan.begun)} begins with step {self.ledger.steps + 1:,}")
        before, self.phase = self.phase, self.plan.phase(self.ledger.steps)
        if self.phase.span.first == self.ledger.steps:
            self._catch_up()
            self.health.recent.clear()  # losses on other rows, or at another rate, are no measure of spikes
            if before.causal != self.phase.causal:
                self.scores.clear()
            set_up(self.phase, self.model)
            extend_positions(self.phase, self.progress, self.model)
        here, so_far = self.phase.span.row_length, self.progress
        of_decoder = so_far.decoder_row_length or 0
        self.progress = replace(
            so_far,
            phase=self.phase.span.number,
            row_length=max(here, so_far.row_length or 0),
            decoder_row_length=of_decoder if self.phase.causal else max(here, of_decoder),  # which rests there
            begun=self.plan.begun,
        )

    def _settle(self) -> None:
        """Read the loss of the last step, which waits for the device, then record it and check the run's health."""
        if self.unsettled is None:
            return
        record, numbers, empty = self.unsettled
        self.unsettled, ledger = None, self.ledger
        loss, grad_norm, *loss_scale = numbers.values()
        self.loss = math.nan if empty else loss
        skipped = not (math.isfinite(self.loss) and math.isfinite(grad_norm))
        overflowed = False
        if loss_scale:
            (record["loss_scale"],) = loss_scale
            # With a scale below 1, the scale did not make the gradient too large.
            overflowed = skipped and math.isfinite(self.loss) and record["loss_scale"] > 1
            record["overflowed"] = overflowed
        ledger.count_skipped(skipped, overflowed, empty)
        self._write({**record, "loss": self.loss, "grad_norm": grad_norm, "skipped": skipped})
        if self.world.is_main and (spike := self.health.spike(ledger, self.loss)):
            self._write(spike)
        if skipped:
            with self.world.all_or_none():
                if self.world.is_main:
                    if empty:
                        self.health.note_empty(ledger)
                    elif overflowed:
                        self.health.note_overflow(ledger, record["loss_scale"])
                    else:
                        self.health.check(ledger, self.loss, grad_norm)

    def _catch_up(self) -> None:
        """Wait for the last step to end before any other work: the wait is part of the step's time."""
        if self.unsettled is not None:
            began = time.perf_counter()
            self._settle()
            self.ledger.seconds += self.world.all_max(time.perf_counter() - began)[0]

    def _lacks_an_evaluation(self) -> bool:
        """Return whether the step resumed from was saved but not evaluated, because the held-out rows were gone."""
        due = self.ledger.steps > 0 and self.ledger.steps % self.plan.recipe.evaluation.every_steps == 0
        return bool(self.world.all_max(due and self.log is not None and not self.log.evaluated)[0])

    def _evaluate(self) -> None:
        """Score the held-out rows of each source of the phase that the last step was in."""
        rows, micro_rows = self.plan.recipe.evaluation.rows, self.phase.micro_rows(self.world.size)
        self._catch_up()
        self.evaluated_at = self.ledger.steps
        if not self.phase.held_out:
            return
        record: dict[str, Any] = {"step": self.ledger.steps}
        for judge in next(iter(self.phase.held_out.values())):
            said, what, suffix = NAMES[judge]
            by_source: dict[str, Score] = {}
            with self.accounts.time("evaluation"):
                for source, batches in self.phase.held_out.items():
                    fixed = batches[judge].fixed(rows, micro_rows, self.world)
                    by_source[source] = evaluate(self.model, fixed, self.precision, self.world)
            score = pool(list(by_source.values()))
            if not score.targets and judge not in self.scores and self.world.is_main:
                say(f"held-out rows, {said}: nothing to predict")
            self.scores[judge] = score
            record |= score.record(suffix, what)
            if len(self.phase.batches.rows.sources) > 1:
                for source, scored in by_source.items():
                    record |= scored.record(f"{suffix}/{source}", what)
        if self.log is None or not self.log.has_evaluation_of(self.ledger.steps):
            self._write(record)

    def _save(self) -> None:
        def then(ledger: Ledger) -> None:
            keep_newest(self.run.checkpoints, self.plan.recipe.checkpoint.keep)
            self.accounts.write(ledger)

        self._save_as(self.run.checkpoints / f"step-{self.ledger.steps:08d}", then)

    def _save_as(self, path: Path, then: Callable[[Ledger], None] | None = None) -> None:
        self._catch_up()
        with self.accounts.time("checkpoint"):
            self.accounts.update()
            with self.world.all_or_none():
                if self.log is not None:
                    self.log.sync()
            self.saver.save(path, self.model, self.optimizers, self.ledger, self.progress, then)

    def _finish_saving(self) -> None:
        with self.accounts.time("checkpoint"):
            self.saver.finish()
        if self.world.is_main:
            self.accounts.write(self.ledger)

    def _mark_decay(self) -> None:
        """Before the first step that decays, keep the checkpoint from which a longer run would continue."""
        decay = self.phase.schedule.decay_of(self.ledger)
        if decay is not None and self.progress.decay is None:
            self._save_as(self.run.before_decay(self.ledger.steps))
        self.progress = replace(self.progress, decay=decay)

    def _write(self, record: dict[str, Any]) -> None:
        if self.log is not None:
            self.log.write(record)

    def _result(self) -> PretrainResult:
        own, common = self.scores.get("own"), self.scores.get("common")
        finished = self.plan.recipe.duration.reached(self.ledger)
        return make_result(self.run.path, finished, self.ledger, self.loss, own, common, self.unigram)
