"""Rows of several sources as one sequence, in fixed shares: a place alone decides which row it holds.

After any number of places, each source has had its share of the rows, to less than one row. Letters: N places asked
for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from math import lcm

import numpy as np
from numpy.typing import NDArray

from masklater.corpus.shards import RowBlock, SplitRows
from masklater.pretrain.order import rows_at


@dataclass(frozen=True)
class Source:
    """The rows of one source in a mixture."""

    name: str  # as the recipe names it
    key: str  # its folder, relative to --data
    rows: SplitRows
    share: float  # of the mixture's rows
    seed: int  # decides the order of its rows
    first: int = 0  # how many of its rows earlier phases have read
    chosen_K: NDArray[np.int64] | None = None  # the numbers of the rows to read; None: all

    @property
    def num_rows(self) -> int:
        """The number of rows in an epoch."""
        return self.rows.num_rows if self.chosen_K is None else len(self.chosen_K)

    def find(self, ranks_N: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the numbers of the rows at some places in this source's own order."""
        rows_N = rows_at(self.first + ranks_N, self.num_rows, self.seed)
        return rows_N if self.chosen_K is None else self.chosen_K[rows_N]


class Mixture:
    """The rows of one or more sources."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self.sources = tuple(sources)
        self.row_length = sources[0].rows.row_length
        self.num_rows = sum(source.num_rows for source in sources)
        self.mixed = any(source.rows.entry.mixed_rows > 0 for source in sources)
        self.padded = any(source.rows.entry.full_rows < source.rows.entry.rows for source in sources)
        self.marked = all(source.rows.marked for source in sources)
        self.turns = take_turns(tuple(source.share for source in sources))

    def find(self, places_N: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Find the rows at some places: for each source, (index among the places asked for, row number) pairs."""
        source_N, rank_N = self.turns.find(places_N)
        found = []
        for number, source in enumerate(self.sources):
            here_K = np.flatnonzero(source_N == number)
            found.append(np.stack([here_K, source.find(rank_N[here_K])]))
        return found

    def read(self, places_N: NDArray[np.int64]) -> RowBlock:
        """Read the rows at some places."""
        if len(self.sources) == 1:
            ((_, rows_N),) = self.find(places_N)
            return self.sources[0].rows.read(rows_N)
        shape = (len(places_N), self.row_length)
        continues_NL = np.empty(shape, dtype=bool) if self.marked else None
        block = RowBlock(np.empty(shape, dtype=np.int64), np.empty(shape, dtype=np.int64), continues_NL)
        for source, (here_K, rows_K) in zip(self.sources, self.find(places_N), strict=True):
            if len(here_K):
                read = source.rows.read(rows_K)
                block.ids_NL[here_K], block.documents_NL[here_K] = read.ids_NL, read.documents_NL
                if continues_NL is not None:
                    continues_NL[here_K] = read.continues_NL
        return block

    def counted(self, places: int) -> list[int]:
        """Count the rows of each source among the first `places` places."""
        rounds, left = divmod(places, len(self.turns.source_P))
        within = np.bincount(self.turns.source_P[:left], minlength=len(self.sources))
        return [int(rounds * each + part) for each, part in zip(self.turns.each, within, strict=True)]


@dataclass(frozen=True)
class Turns:
    """The sources of one period of places, which repeats. Letters: P places of the period."""

    source_P: NDArray[np.int64]
    rank_P: NDArray[np.int64]  # how many earlier places have the same source
    each: NDArray[np.int64]  # places of each source

    def find(self, places_N: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the source of each place, and how many earlier places have the same source."""
        rounds_N, within_N = np.divmod(places_N, len(self.source_P))
        source_N = self.source_P[within_N]
        return source_N, rounds_N * self.each[source_N] + self.rank_P[within_N]


@cache
def take_turns(shares: tuple[float, ...]) -> Turns:
    """Let sources take turns: after n places each source has had n times its share, rounded down or up.

    A source's j-th place may be given once its share of the places is more than j - 1, and must be given before its
    share reaches j. The source whose place is due first comes next. This always works by the theorem that earliest
    deadline first serves unit-length jobs wherever any order does; here a fluid order does.
    """
    exact = [Fraction(str(share)) for share in shares]
    period = lcm(*(share.denominator for share in exact))
    each = [int(share * period) for share in exact]
    counts, source_P, rank_P = [0] * len(shares), [], []
    for place in range(period):
        may = [i for i, count in enumerate(counts) if count * period < each[i] * (place + 1)]
        chosen = min(may, key=lambda i: (-(-(counts[i] + 1) * period // each[i]), -each[i], i))
        source_P.append(chosen)
        rank_P.append(counts[chosen])
        counts[chosen] += 1
    return Turns(np.array(source_P), np.array(rank_P), np.array(each))
