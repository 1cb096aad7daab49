"""The SHARDS that a run reads, in each phase and together, opened and checked against each other."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from masklater.corpus.same_ids import have_same_ids
from masklater.corpus.scored import ScoredRecord
from masklater.corpus.selection import SelectedShards, open_data
from masklater.corpus.shards import Shards
from masklater.corpus.target_table import TargetTable
from masklater.errors import UserError
from masklater.ledger import Ledger
from masklater.pretrain.mixture import Mixture, Source
from masklater.recipe.recipe import Recipe
from masklater.recipe.timeline import SourceFolder, Span, find_sources
from masklater.run.identity import longest_of
from masklater.seeds import derive_seed


@dataclass(frozen=True)
class Sources:
    """The SHARDS of a run, and which of them each phase reads, with what share."""

    phases: tuple[tuple[SourceFolder, ...], ...]
    shards: dict[str, Shards]  # by key, in the order of their first use
    targets: TargetTable | None = None  # the table that masking.predict_by names

    @property
    def row_lengths(self) -> list[int]:
        """The row length of each phase."""
        return [self.shards[phase[0].key].index.row_length for phase in self.phases]

    @property
    def longest(self) -> Shards:
        """The SHARDS with the longest rows; the tokenizer is the same in all."""
        return longest_of(self.shards)

    def of_phase(self, number: int) -> list[tuple[Shards, float]]:
        """Return the SHARDS of a phase, each with its share of the rows."""
        return [(self.shards[folder.key], folder.share) for folder in self.phases[number]]


def open_sources(recipe: Recipe, data: Path) -> Sources:
    """Open the data that a recipe reads.

    Args:
        recipe: The recipe of the run.
        data: A SHARDS folder or, where the recipe has a mixture or several row lengths, the folder that holds them.

    Raises:
        UserError: A folder is missing or of the wrong kind, or has another tokenizer or row length than it must have.
        DamagedDataError: A part of a folder differs from what was written.
    """
    found = find_sources(recipe, data)
    shards: dict[str, Shards] = {}
    for number, phase in enumerate(found):
        for folder in phase:
            if folder.key not in shards:
                shards[folder.key] = _open(folder, next(iter(shards.values()), None))
        asked = recipe.phases[number].row_length if recipe.phases else None
        _check_row_lengths(number, [shards[folder.key] for folder in phase], asked)
    return Sources(tuple(map(tuple, found)), shards, _open_targets(recipe, next(iter(shards.values()))))


def mix(sources: Sources, spans: Sequence[Span], seed: int) -> list[Mixture]:
    """Return the rows that each phase trains on. A source that comes again in a later phase continues where it was."""
    keys, read = list(sources.shards), dict.fromkeys(sources.shards, 0)
    mixtures = []
    for span, folders in zip(spans, sources.phases, strict=True):
        parts = [
            Source(
                folder.name or folder.key,
                folder.key,
                sources.shards[folder.key].train,
                folder.share,
                seed if (number := keys.index(folder.key)) == 0 else derive_seed(seed, "source", number),
                read[folder.key],
                sources.shards[folder.key].rows_K,
            )
            for folder in folders
        ]
        mixtures.append(Mixture(parts))
        counts = mixtures[-1].counted((span.steps or 0) * span.recipe.batch.rows)
        for folder, count in zip(folders, counts, strict=True):
            read[folder.key] += count
    return mixtures


def begin_ledger(sources: Sources) -> Ledger:
    """Return the ledger of a run that begins, with the cost of scoring rows and targets booked.

    A run that has scored rows of several sources is booked once, because it was trained once.
    """
    ledger = Ledger()
    runs: dict[str, float] = {}
    records: list[ScoredRecord] = [
        shards.selection for shards in sources.shards.values() if isinstance(shards, SelectedShards)
    ]
    if sources.targets is not None:
        records.append(sources.targets.record)
    for record in records:
        ledger.flops_selection += record.flops
        runs |= {each.sha256: each.flops for each in (record.early, record.reference)}
    ledger.flops_selection_runs = float(sum(runs.values()))
    return ledger


def _open(folder: SourceFolder, first: Shards | None) -> Shards:
    shards = open_data(folder.path)
    if first is not None and not (
        have_same_ids(shards.folder / "tokenizer", first.folder / "tokenizer")
        and shards.index.special == first.index.special
    ):
        raise UserError(
            f"{shards.name} was made with another tokenizer than {first.name}",
            f"Prepare it again with --tokenizer {first.folder / 'tokenizer'}.",
        )
    return shards


def _open_targets(recipe: Recipe, shards: Shards) -> TargetTable | None:
    if recipe.masking.predict_by is None:
        return None
    table = TargetTable(Path(recipe.masking.predict_by))
    table.check_tokenizer(shards)
    return table


def _check_row_lengths(number: int, shards: Sequence[Shards], asked: int | None) -> None:
    """Raise UserError unless SHARDS of one phase have rows of one length, the one that the recipe asks for."""
    wanted = shards[0].index.row_length if asked is None else asked
    for each in shards:
        if (length := each.index.row_length) != wanted:
            by = f"those of {shards[0].name}" if asked is None else f"phase {number + 1} of the recipe asks for rows"
            raise UserError(
                f"{each.name} has rows of {length}, and {by} {'have' if asked is None else 'of'} {wanted}",
                f"Prepare it with --row-length {wanted}, or name other SHARDS.",
            )
