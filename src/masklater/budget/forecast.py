"""The cost of a recipe, before anything is run: FLOPs per part, parameters, memory, time and energy (no torch)."""

import json
import math
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

from masklater import hub
from masklater.budget.cost import EncoderSizes, count_local_layers, encoder_sizes, row_shape
from masklater.budget.flops import RowFlops, count_row_flops
from masklater.budget.memory import Memory, estimate_memory
from masklater.budget.parameters import Parameters, count_parameters
from masklater.budget.shape import RowShape
from masklater.corpus.index import read_index
from masklater.corpus.tokenizer import token_types
from masklater.errors import UserError
from masklater.ledger import Ledger, Spending
from masklater.machine.hardware import GPUS, Hardware
from masklater.machine.peak import measure_this
from masklater.masking.counts import Counts, count
from masklater.masking.schedule import RatePath
from masklater.recipe.families import position_embeddings
from masklater.recipe.load import Recipe

FAMILIES_COUNTED = {
    "roberta",
    "roberta-prelayernorm",
    "bert",
    "electra",
    "camembert",
    "xlm-roberta",
    "esm",
    "modernbert",
}


@dataclass(frozen=True)
class Rows:
    """The facts about the data that decide what a row costs."""

    row_length: int  # L
    vocabulary: int  # V
    maskable_per_row: float  # without special tokens; L - 2 unless SHARDS say otherwise
    pad: int = 1  # the padding token, from whose id on RoBERTa's kin count positions
    token_types: int = 1  # kinds of segment that the tokenizer tells apart in a pair of texts


@dataclass(frozen=True)
class Forecast:
    """The cost of one recipe."""

    recipe: Recipe
    rows: Rows
    counts: Counts  # at the rate the run begins with
    shape: RowShape
    row: RowFlops  # executed for one row at that rate
    paper: RowFlops  # of one row as the paper counts: shares of the whole row, every decoder layer on all of it
    parameters: Parameters | None  # None: a family whose parameters are not counted here
    memory: Memory | None  # with the recipe's micro_rows, as far as they divide its rows
    total_flops: float | None  # of the whole run, LM head included; None where the duration is in hours
    total_rows: float | None
    total_head_flops: float | None


def forecast(recipe: Recipe, rows: Rows) -> Forecast:
    """Count what a recipe costs on rows of this kind.

    Raises:
        UserError: `model.from` names nothing whose sizes can be read.
    """
    sizes = _sizes(recipe, rows)
    masking, drops = recipe.masking, recipe.decoder.drops

    def counts_at(rate: float) -> Counts:
        return count(masking, rate, drops, rows.row_length, rows.maskable_per_row)

    shape = row_shape(sizes, recipe.decoder, counts_at(masking.rate))
    parameters = memory = None
    if sizes.family in FAMILIES_COUNTED:
        parameters = count_parameters(shape, sizes.family, sizes.positions, sizes.token_types)
        memory = estimate_memory(recipe, shape, parameters, recipe.batch.pass_of(recipe.batch.rows))
    by_rate = _steps_by_rate(recipe, rows)
    along = {rate: count_row_flops(row_shape(sizes, recipe.decoder, counts_at(rate))) for rate in by_rate}
    mean_training = sum(steps * along[rate].training for rate, steps in by_rate.items()) / by_rate.total()
    mean_head = sum(steps * along[rate].training_head for rate, steps in by_rate.items()) / by_rate.total()
    total_rows = _rows_of(recipe, rows, mean_training)
    return Forecast(
        recipe=recipe,
        rows=rows,
        counts=counts_at(masking.rate),
        shape=shape,
        row=count_row_flops(shape),
        paper=count_row_flops(_as_the_paper_counts(shape, recipe, rows)),
        parameters=parameters,
        memory=memory,
        total_flops=None if total_rows is None else total_rows * mean_training,
        total_rows=total_rows,
        total_head_flops=None if total_rows is None else total_rows * mean_head,
    )


def rows_of(data: Path) -> Rows:
    """Read the facts about their rows off SHARDS.

    Raises:
        UserError: They cannot be read.
    """
    index = read_index(data)
    maskable = index.train.maskable_per_row
    return Rows(
        row_length=index.row_length,
        vocabulary=index.vocabulary.size,
        maskable_per_row=index.row_length - 2 if math.isnan(maskable) else maskable,
        pad=index.vocabulary.pad,
        token_types=token_types(data / "tokenizer"),
    )


def find_hardware(name: str) -> Hardware:
    """Find the hardware that a name on the command line stands for: an entry of the table, or this machine, measured.

    Raises:
        UserError: It stands for nothing.
    """
    if name == "this":
        return measure_this()
    if name.lower() in GPUS:
        return GPUS[name.lower()]
    raise UserError(f"--gpu {name}: not in the table", f"Known: {', '.join(GPUS)}; or this, which is measured.")


def seconds_of(flops: float, hardware: Hardware, utilisation: float) -> float:
    """Time that so many FLOPs take at a share of the peak rate."""
    return flops / (hardware.peak_flops_per_second * utilisation)


def _as_the_paper_counts(shape: RowShape, recipe: Recipe, rows: Rows) -> RowShape:
    """The paper's arithmetic: the encoder sees a share of 1 - rate x mask of the row, special tokens not set apart."""
    L, masking = rows.row_length, recipe.masking
    dropped = masking.rate * masking.mask * L if recipe.decoder.drops else 0
    targets = masking.rate * masking.predict * L
    return replace(shape, seen=L - dropped, targets=targets, last_layer_everywhere=True)


def _steps_by_rate(recipe: Recipe, rows: Rows) -> Counter[float]:
    """Count the steps at each masking rate: of the run where their number is known, else in what each comes up once."""
    duration, per_step = recipe.duration, recipe.batch.rows
    spent = duration.spent(Ledger(steps=1, rows=per_step, tokens=per_step * rows.row_length))
    rates = RatePath(recipe.masking, recipe.seed, spent / duration.amount)
    known = math.ceil(duration.amount / spent) if spent else recipe.masking.schedule.number or 1
    return rates.steps_by_rate(known)


def _rows_of(recipe: Recipe, rows: Rows, training_flops: float) -> float | None:
    duration, per_step = recipe.duration, recipe.batch.rows
    if duration.unit == "hours":
        return None
    ledger = Ledger()
    ledger.add_step(Spending(per_step, per_step * rows.row_length, 0, 0, per_step * training_flops, 0, 0), 0, 0)
    return duration.amount / duration.spent(ledger) * per_step


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
            local_layers=count_local_layers(model.family, model.num_hidden_layers, model.windows(rows.row_length)[0]),
        )
    path = hub.find(model.from_, ("config.json",), "model.from").folder / "config.json"
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        sizes = encoder_sizes(SimpleNamespace(**tree.get("encoder", tree)))  # a RUN holds its encoder's inside its own
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}", "Name a saved model or a RUN in model.from.") from None
    except (ValueError, AttributeError, TypeError) as error:
        raise UserError(
            f"{path}: no sizes to be read ({error})", "Name a saved model or a RUN in model.from."
        ) from None
    return replace(sizes, vocabulary=max(sizes.vocabulary, rows.vocabulary))
