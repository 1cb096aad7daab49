"""The plan of a run: everything that recipe, SHARDS and the model's config decide before the first step, made once."""

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Literal

from masklater.budget.cost import step_spending
from masklater.budget.sizes import EncoderSizes, encoder_sizes
from masklater.corpus.shards import Shards
from masklater.errors import UserError
from masklater.ledger import Ledger, Spending
from masklater.machine.distributed import World
from masklater.masking.corruption import Corruption
from masklater.masking.schedule import rates_in
from masklater.model.config import MaskLaterConfig
from masklater.pretrain.batches import (
    EVALUATION_SEED,
    BatchMaker,
    StepShare,
    corruption_for,
    make_batches,
    make_share,
)
from masklater.pretrain.evaluate import Score, unigram_baseline
from masklater.pretrain.mixture import Mixture
from masklater.pretrain.optim import Schedule
from masklater.pretrain.sources import Sources, mix
from masklater.recipe.masking import COMMON_CORRUPTION, MaskingSettings
from masklater.recipe.recipe import Recipe
from masklater.recipe.timeline import (
    Span,
    begins_by_clock,
    begins_by_flops,
    by_phase,
    find_spans,
    rope_base,
    with_micro_rows,
)

Judge = Literal["own", "common", "causal"]
"""How held-out rows are scored.

`own`: under the recipe's own masking. `common`: under 15% uniform [MASK], as in every other run. `causal`: in a causal
phase by next tokens alone, because its decoder rests.
"""

NAMES: dict[Judge, tuple[str, str, str]] = {
    "own": ("own masking", "valid", ""),
    "common": ("15% [MASK]", "valid", "_15"),
    "causal": ("next tokens", "causal", ""),
}
"""The name of each way of scoring, and the prefix and suffix of its scores' names in metrics.jsonl."""


@dataclass(frozen=True)
class Phase:
    """The steps of a run that are made alike: their batches, the held-out rows, the learning rate."""

    span: Span
    batches: BatchMaker  # to train on
    held_out: dict[str, dict[Judge, BatchMaker]]  # by source, for the sources with held-out rows
    schedule: Schedule
    rope_base: float | None  # of the encoder's global layers; None: as its config says

    @property
    def recipe(self) -> Recipe:
        """The run's recipe as it is in this phase."""
        return self.span.recipe

    @property
    def causal(self) -> bool:
        """Whether next tokens are predicted."""
        return self.recipe.masking.causal

    def micro_rows(self, processes: int) -> int:
        """Return the rows of a forward pass."""
        return self.recipe.batch.pass_of(self.recipe.batch.rows // processes)

    def multiplier(self, ledger: Ledger) -> float:
        """Return the learning rate of the next step, as a multiple of its peak."""
        return self.span.lr_multiplier * self.schedule.multiplier(ledger)


@dataclass(frozen=True)
class Plan:
    """The course of a run: its phases, and the cost of a step in each. A run without phases has one."""

    recipe: Recipe
    config: MaskLaterConfig  # of the model, nothing in it left open
    encoder: EncoderSizes
    phases: tuple[Phase, ...]
    sources: Sources = field(repr=False)
    begun: tuple[int, ...] = (0,)  # first steps of the phases that have begun, if phases begin by the clock
    micro_rows_open: bool = False  # whether the recipe left batch.micro_rows open, so that it may be lowered
    spent_at: dict[tuple[int, float], Spending] = field(default_factory=dict, repr=False)  # by phase and masking rate

    def phase(self, step: int) -> Phase:
        """Return the phase of a step, counted from 0; after the last step, the last phase."""
        return self.phases[bisect_right([phase.span.first for phase in self.phases], step) - 1]

    def begin_by_clock(self, ledger: Ledger) -> "Plan | None":
        """Return the plan in which the next step begins the next phase, if this phase's time is over; else None."""
        if not begins_by_clock(self.recipe) or len(self.begun) == len(self.phases):
            return None
        span = self.phases[len(self.begun) - 1].span
        if ledger.steps == span.first or ledger.hours < span.begins + span.amount:
            return None
        return self.after((*self.begun, ledger.steps))

    def after(self, begun: tuple[int, ...]) -> "Plan":
        """Return the plan in which phases have begun at these steps."""
        if begun == self.begun:
            return self
        return replace(make_plan(self.recipe, self.sources, self.config, begun), micro_rows_open=self.micro_rows_open)

    def share(self, step: int, world: World) -> StepShare:
        """Return a process's own rows of a step, and what it has to know about the other processes' rows."""
        phase = self.phase(step)
        return make_share(phase.batches, step, phase.recipe.batch, world)

    def spending(self, step: int) -> Spending:
        """Return what a step spends, apart from time."""
        phase = self.phase(step)
        return self._spending_at(phase, phase.batches.rates.rate(step))

    def _spending_at(self, phase: Phase, rate: float) -> Spending:
        where = phase.span.number, rate
        if where not in self.spent_at:
            self.spent_at[where] = _spending(phase.recipe, self.encoder, phase.batches.corruption.at_rate(rate))
        return self.spent_at[where]

    def rows_of(self, step: int) -> dict[str, list[int]]:
        """Return the numbers of the training rows of a step, by source."""
        phase = self.phase(step)
        rows = phase.batches.rows
        found = rows.find(phase.batches.places_of_step(step, phase.recipe.batch.rows))
        return {source.key: numbers_K.tolist() for source, (_, numbers_K) in zip(rows.sources, found, strict=True)}

    def epochs(self) -> dict[str, float]:
        """Return how often each row of each source will be read over the run; empty where the duration is in hours."""
        last = self.phases[-1].span
        if (steps := last.steps) is None and last.recipe.duration.unit == "flops":
            # A random rate comes up as often as any other; the rate of the first step does not matter.
            by_rate = self.phases[-1].batches.rates.steps_by_rate(last.recipe.masking.schedule.number or 1)
            flops = sum(count * self._spending_at(self.phases[-1], rate).flops for rate, count in by_rate.items())
            steps = math.ceil(last.amount * by_rate.total() / flops)
        if steps is None:
            return {}
        return {
            source.key: (source.first + count) / source.num_rows
            for phase in self.phases
            for source, count in zip(
                phase.batches.rows.sources,
                phase.batches.rows.counted((phase.span.steps or steps) * phase.recipe.batch.rows),
                strict=True,
            )
        }

    def unigram_score(self) -> Score | None:
        """Score guesses by token frequency alone, on the rows held out from the last phase and under 15% [MASK].

        None where no rows are held out, or where they are scored in another way.
        """
        last, rows = self.phases[-1], self.recipe.evaluation.rows
        judged = [judges["common"].fixed(rows, rows) for judges in last.held_out.values() if "common" in judges]
        return unigram_baseline(last.batches, chain.from_iterable(judged)) if judged else None

    def with_micro_rows(self, numbers: Sequence[int]) -> "Plan":
        """Return the same plan with these rows per forward pass, one number for each phase."""
        phases = [
            replace(phase, span=replace(phase.span, recipe=with_micro_rows(phase.recipe, [number])))
            for phase, number in zip(self.phases, numbers, strict=True)
        ]
        return replace(self, recipe=with_micro_rows(self.recipe, numbers), phases=tuple(phases))


def make_plan(recipe: Recipe, sources: Sources, config: MaskLaterConfig, begun: tuple[int, ...] = (0,)) -> Plan:
    """Make the plan of a run.

    Args:
        recipe: The recipe of the run.
        sources: The sources that it trains on.
        config: The config of its model, settled.
        begun: First steps of the phases that have begun, where phases begin by the clock.

    Raises:
        UserError: A phase has no step, a masking rate leaves no target in its rows, warm-up takes the whole run, or a
            source would be read more often than max_epochs.
    """
    encoder = encoder_sizes(config.encoder)
    spans = find_spans(recipe, sources.row_lengths, _step_flops(recipe, sources, encoder), begun)
    phases: list[Phase] = []
    for span, mixture in zip(spans, mix(sources, spans, recipe.seed), strict=True):
        batches = _batches(span, sources, mixture)
        own, drops = span.recipe, recipe.decoder.drops
        after_one, first = Ledger(), _spending(own, encoder, batches.corruption_of_step(span.first))
        after_one.add_step(first, seconds=0.0, data_seconds=0.0)  # not known beforehand
        schedule = Schedule(recipe.schedule, recipe.duration, after_one, span, phases[0].schedule if phases else None)
        held_out: dict[str, dict[Judge, BatchMaker]] = {}
        for folder, (shards, _) in zip(sources.phases[span.number], sources.of_phase(span.number), strict=True):
            if shards.valid.num_rows:
                judges: dict[Judge, MaskingSettings] = {"own": own.masking, "common": COMMON_CORRUPTION}
                if own.masking.causal:
                    judges = {"causal": own.masking}
                held_out[folder.name or folder.key] = {
                    judge: _held_out(shards, judge, masking, own, drops, sources) for judge, masking in judges.items()
                }
        phases.append(Phase(span, batches, held_out, schedule, rope_base(recipe, span.number)))
    plan = Plan(recipe, config, encoder, tuple(phases), sources, begun)
    for source, epochs in plan.epochs().items():
        if recipe.max_epochs is not None and epochs > recipe.max_epochs:
            raise UserError(
                f"each row of {source or 'the SHARDS'} would be read {epochs:.2f} times, and max_epochs is "
                f"{recipe.max_epochs:g}",
                "Shorten the duration, lower its share, add rows, or raise max_epochs.",
            )
    return plan


def _held_out(
    shards: Shards, judge: Judge, masking: MaskingSettings, recipe: Recipe, drops: bool, sources: Sources
) -> BatchMaker:
    attend, targets = recipe.batch.attend, sources.targets
    try:
        return make_batches(shards, shards.valid, masking, drops, attend, EVALUATION_SEED, targets=targets)
    except UserError:
        if judge != "common":
            raise
        raise UserError(
            f"rows of {shards.index.row_length} positions are too short to be scored at {masking.rate:.0%} [MASK], "
            "which every run's held-out rows are",
            "Prepare longer rows, or hold nothing out (--valid-fraction 0).",
        ) from None


def _step_flops(recipe: Recipe, sources: Sources, encoder: EncoderSizes) -> list[float]:
    """Return the FLOPs of a step of each phase, where phases begin by FLOPs; else an empty list."""
    found = []
    for number, own in enumerate(by_phase(recipe) if begins_by_flops(recipe) else ()):
        corruption = corruption_for(sources.of_phase(number), own.masking, own.decoder.drops, sources.targets)
        found.append(_spending(own, encoder, corruption).flops)
    return found


def _spending(recipe: Recipe, encoder: EncoderSizes, corruption: Corruption) -> Spending:
    """Return what a step of a phase spends, apart from time, by the recipe of that phase."""
    counts, maskable = corruption.counts, corruption.maskable_per_row
    return step_spending(recipe.batch.rows, encoder, recipe.decoder, counts, maskable)


def _batches(span: Span, sources: Sources, mixture: Mixture) -> BatchMaker:
    recipe = span.recipe
    drops, targets = recipe.decoder.drops, sources.targets
    corruption = corruption_for(sources.of_phase(span.number), recipe.masking, drops, targets)
    return BatchMaker(mixture, corruption, recipe.batch.attend, recipe.seed, rates_in(span))
