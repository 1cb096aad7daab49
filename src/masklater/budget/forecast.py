"""The cost of a recipe, estimated before the run: FLOPs per part, parameters, memory, time and energy (no torch)."""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

from masklater import hub
from masklater.budget.flops import RowFlops, count_row_flops
from masklater.budget.memory import Memory, most_memory
from masklater.budget.parameters import Parameters, count_parameters
from masklater.budget.shape import RowShape, row_shape
from masklater.budget.sizes import EncoderSizes, count_local_layers, encoder_sizes
from masklater.corpus.index import read_index
from masklater.corpus.selection import shards_of
from masklater.corpus.tokenizer import token_types
from masklater.errors import UserError
from masklater.machine.hardware import GPUS, Hardware
from masklater.machine.peak import measure_this
from masklater.masking.counts import Counts, count
from masklater.masking.schedule import rates_in, rates_of
from masklater.recipe.families import position_embeddings
from masklater.recipe.recipe import Recipe
from masklater.recipe.timeline import Span, begins_by_flops, by_phase, find_sources, find_spans

WHOLE_VOCABULARY = 0.95
"""The smallest share of a word embedding's rows that an untrimmed tokenizer fills; the other rows are padding."""


@dataclass(frozen=True)
class Rows:
    """The facts about the data that decide the cost of a row."""

    row_length: int  # L
    vocabulary: int  # V
    maskable_per_row: float  # without special tokens; L - 2 unless SHARDS say otherwise
    pad: int = 1  # the padding token's id; RoBERTa and its relatives number positions from it
    token_types: int = 1  # number of segment ids that the tokenizer uses in a pair of texts
    any_tokenizer: bool = False  # the tokenizer is not known; a saved model is assumed to come with its own


@dataclass(frozen=True)
class PhaseForecast:
    """The cost of one phase of a recipe."""

    span: Span
    rows: Rows
    counts: Counts  # at the masking rate that held-out rows are scored at
    shapes: tuple[RowShape, ...]  # at that rate, then at the other rates of the masking schedule
    row: RowFlops  # executed for one row at that rate
    paper: RowFlops  # for one row as the paper counts: shares of the whole row, all decoder layers on all positions
    memory: Memory | None  # with the recipe's micro_rows, capped by its rows; None: not counted
    total_flops: float | None  # LM head included; None where the duration is in hours
    total_rows: float | None
    total_head_flops: float | None

    @property
    def recipe(self) -> Recipe:
        """The recipe as this phase changes it."""
        return self.span.recipe

    @property
    def num_steps(self) -> int | None:
        """The number of steps, approximate in the last phase of a duration in FLOPs; None: the machine decides it."""
        if self.span.steps is not None or self.total_rows is None:
            return self.span.steps
        return math.ceil(self.total_rows / self.recipe.batch.rows)


@dataclass(frozen=True)
class Forecast:
    """The cost of one recipe. A run without phases counts as one phase.

    Properties of a single row, and the memory, are those of the first phase.
    """

    recipe: Recipe
    phases: tuple[PhaseForecast, ...]
    parameters: Parameters | None  # None: a family whose parameters are not counted here

    @property
    def rows(self) -> Rows:
        """The rows of the first phase."""
        return self.phases[0].rows

    @property
    def counts(self) -> Counts:
        """The position counts of those rows."""
        return self.phases[0].counts

    @property
    def shape(self) -> RowShape:
        """The sizes that those rows pass through."""
        return self.phases[0].shapes[0]

    @property
    def row(self) -> RowFlops:
        """The FLOPs of one of those rows."""
        return self.phases[0].row

    @property
    def paper(self) -> RowFlops:
        """The FLOPs of one of those rows, as the paper counts."""
        return self.phases[0].paper

    @property
    def memory(self) -> Memory | None:
        """The memory that the first phase takes; None: not counted."""
        return self.phases[0].memory

    @property
    def total_flops(self) -> float | None:
        """FLOPs of the whole run, LM head included; None where the duration is in hours."""
        return _sum(phase.total_flops for phase in self.phases)

    @property
    def total_rows(self) -> float | None:
        """Rows of the whole run; None where they depend on the machine."""
        return _sum(phase.total_rows for phase in self.phases)

    @property
    def total_head_flops(self) -> float | None:
        """FLOPs of the LM head in the whole run; None where the duration is in hours."""
        return _sum(phase.total_head_flops for phase in self.phases)


def _sum(amounts: Iterable[float | None]) -> float | None:
    each = list(amounts)
    known = [amount for amount in each if amount is not None]
    return math.fsum(known) if len(known) == len(each) else None


def forecast(recipe: Recipe, rows: Rows | Sequence[Rows]) -> Forecast:
    """Count what a recipe costs on rows of this kind.

    Args:
        recipe: The recipe.
        rows: The facts about the rows of all phases, except for the row lengths that phases set; or one entry per
            phase.

    Raises:
        UserError: No sizes can be read from what `model.from` names, or a phase has no step.
    """
    each = rows_by_phase(recipe, rows) if isinstance(rows, Rows) else rows
    longest = max(each, key=lambda rows: rows.row_length)
    room = max(longest.row_length, recipe.model.max_positions or 0)
    sizes = _sizes(recipe, replace(longest, row_length=room))
    parameters = count_parameters(_shape(sizes, recipe, longest, recipe.masking.rate, room))
    phases = []
    step_flops = _step_flops(recipe, each, sizes) if begins_by_flops(recipe) else []
    for span, own in zip(find_spans(recipe, [rows.row_length for rows in each], step_flops), each, strict=True):
        phases.append(_forecast_phase(span, own, sizes, parameters, room))
    return Forecast(recipe, tuple(phases), parameters)


def rows_by_phase(recipe: Recipe, rows: Rows) -> list[Rows]:
    """Return the facts about the rows of each phase; a phase may set its own row length."""
    special = rows.row_length - rows.maskable_per_row
    lengths = [phase.row_length or rows.row_length for phase in recipe.phases] or [rows.row_length]
    return [replace(rows, row_length=length, maskable_per_row=length - special) for length in lengths]


def _forecast_phase(
    span: Span, rows: Rows, sizes: EncoderSizes, parameters: Parameters | None, room: int
) -> PhaseForecast:
    recipe, duration = span.recipe, span.recipe.duration
    shapes = tuple(_shape(sizes, recipe, rows, rate, room) for rate in rates_of(recipe.masking))
    shape = shapes[0]
    # Where the number of steps is unknown, all rates of a random schedule are taken as equally frequent.
    by_rate = rates_in(span).steps_by_rate(span.steps or recipe.masking.schedule.number or 1)
    along = {rate: count_row_flops(_shape(sizes, recipe, rows, rate)) for rate in by_rate}
    training = math.fsum(steps * along[rate].training for rate, steps in by_rate.items())
    head = math.fsum(steps * along[rate].training_head for rate, steps in by_rate.items())
    num_rows: float | None = None
    if span.steps is not None:
        num_rows = float(span.steps * recipe.batch.rows)
    elif duration.unit == "flops":
        num_rows = span.amount / training * by_rate.total()
    mean = None if num_rows is None else num_rows / by_rate.total()
    memory = None
    if parameters is not None:
        memory = most_memory(recipe, shapes, parameters, recipe.batch.pass_of(recipe.batch.rows))
    return PhaseForecast(
        span=span,
        rows=rows,
        counts=_counts(recipe, rows, recipe.masking.rate),
        shapes=shapes,
        row=count_row_flops(shape),
        paper=count_row_flops(_as_the_paper_counts(shape, recipe, rows)),
        memory=memory,
        total_flops=None if mean is None else mean * training,
        total_rows=num_rows,
        total_head_flops=None if mean is None else mean * head,
    )


def _step_flops(recipe: Recipe, each: Sequence[Rows], sizes: EncoderSizes) -> list[float]:
    """Return the FLOPs of a step, for each phase."""
    found = []
    for own, rows in zip(by_phase(recipe), each, strict=True):
        found.append(float(own.batch.rows * count_row_flops(_shape(sizes, own, rows, own.masking.rate)).training))
    return found


def _counts(recipe: Recipe, rows: Rows, rate: float) -> Counts:
    return count(recipe.masking, rate, recipe.decoder.drops, rows.row_length, rows.maskable_per_row)


def _shape(sizes: EncoderSizes, recipe: Recipe, rows: Rows, rate: float, room: int | None = None) -> RowShape:
    return row_shape(sizes, recipe.decoder, _counts(recipe, rows, rate), room)


def rows_of(data: Path) -> Rows:
    """Read the facts about the rows from SHARDS.

    Raises:
        UserError: The SHARDS cannot be read.
    """
    data = shards_of(data)
    index = read_index(data)
    return Rows(
        row_length=index.row_length,
        vocabulary=index.vocabulary.size,
        maskable_per_row=index.maskable_per_row,
        pad=index.vocabulary.pad,
        token_types=token_types(data / "tokenizer"),
    )


def rows_in(recipe: Recipe, data: Path) -> list[Rows]:
    """Read the facts about the rows of each phase, from the SHARDS that a recipe mixes or from its one SHARDS folder.

    Raises:
        UserError: The SHARDS cannot be read.
    """
    each = []
    for folders in find_sources(recipe, data):
        found = [rows_of(folder.path) for folder in folders]
        maskable = math.fsum(folder.share * rows.maskable_per_row for folder, rows in zip(folders, found, strict=True))
        each.append(replace(found[0], maskable_per_row=maskable))
    return each


def find_hardware(name: str) -> Hardware:
    """Return the hardware that a name on the command line stands for: an entry of the table, or this machine, measured.

    Raises:
        UserError: The name is not known.
    """
    if name == "this":
        return measure_this()
    if name.lower() in GPUS:
        return GPUS[name.lower()]
    raise UserError(f"--gpu {name}: not in the table", f"Known: {', '.join(GPUS)}; or this, which is measured.")


def seconds_of(flops: float, hardware: Hardware, utilisation: float) -> float:
    """Return the seconds that a number of FLOPs takes at a share of the peak rate."""
    return flops / (hardware.peak_flops_per_second * utilisation)


def _as_the_paper_counts(shape: RowShape, recipe: Recipe, rows: Rows) -> RowShape:
    """Return the shape as the paper counts: the encoder sees 1 - rate x mask of the row, special tokens included."""
    L, masking = rows.row_length, recipe.masking
    dropped = masking.rate * masking.mask * L if recipe.decoder.drops else 0
    targets = shape.targets if masking.causal else masking.rate * masking.predict * L
    return replace(shape, seen=L - dropped, targets=targets, last_layer_everywhere=True)


def _sizes(recipe: Recipe, rows: Rows) -> EncoderSizes:
    model = recipe.model
    if model.from_ is None:
        assert model.family
        assert model.hidden_size
        assert model.intermediate_size
        assert model.num_hidden_layers
        return EncoderSizes(
            family=model.family,
            vocabulary=rows.vocabulary,
            width=model.hidden_size,
            feed_forward=model.intermediate_size,
            layers=model.num_hidden_layers,
            embedding_width=None,
            positions=position_embeddings(model.family, rows.row_length, rows.pad),
            token_types=rows.token_types,
            heads=model.num_attention_heads or 1,
            local_layers=count_local_layers(model.family, model.num_hidden_layers, model.windows(rows.row_length)[0]),
        )
    path = hub.find(model.from_, ("config.json",), "model.from").folder / "config.json"
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        sizes = encoder_sizes(SimpleNamespace(**tree.get("encoder", tree)))  # a RUN's config holds that of its encoder
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}", "Name a saved model or a RUN in model.from.") from None
    except (ValueError, AttributeError, TypeError, ArithmeticError, RecursionError) as error:
        raise UserError(
            f"{path}: no sizes to be read ({error})", "Name a saved model or a RUN in model.from."
        ) from None
    if sizes.longest_row is not None and sizes.longest_row < rows.row_length:
        raise UserError(
            f"{model.from_} has positions for rows of {sizes.longest_row} at most, and these have {rows.row_length}",
            "Prepare the data with a smaller --row-length, or name it here.",
        )
    if rows.any_tokenizer:
        return sizes
    if rows.vocabulary < WHOLE_VOCABULARY * sizes.vocabulary:  # trimmed; no other tokenizer may be smaller
        return replace(sizes, vocabulary=rows.vocabulary)
    return replace(sizes, vocabulary=max(sizes.vocabulary, rows.vocabulary))
