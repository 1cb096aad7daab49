"""One part to rows on disk: read, tokenise, pack, write. Each stage streams into the next."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path

import numpy as np
import tokenizers
from numpy.typing import NDArray
from pydantic import NonNegativeInt, PositiveInt
from tokenizers import Tokenizer

from masklater import __version__
from masklater.corpus.counts import SourceTally
from masklater.corpus.index import SPLITS, Split, SplitEntry
from masklater.corpus.keep.kept import Kept, Samples
from masklater.corpus.marked import WORD_MARK, join_bit, row_dtype
from masklater.corpus.pack import make_packer
from masklater.corpus.parts.cut import digest
from masklater.corpus.parts.work import OnProgress, Result, Task, Work
from masklater.corpus.read import Document, read_documents
from masklater.corpus.shards import SplitWriter
from masklater.corpus.tokenise import tokenise
from masklater.corpus.vocabulary import Vocabulary
from masklater.recipe.section import Section


class PartRows(Section):
    """The rows of one length in a finished part; they are in a folder named after the length."""

    row_length: PositiveInt
    train: SplitEntry
    valid: SplitEntry
    left_out_tokens: NonNegativeInt  # at the end of a split, less than one row each (continuous)


class PartResult(Result):
    """What a finished part holds."""

    rows: list[PartRows]  # one entry per row length
    sources: list[SourceTally]
    removed_lines: NonNegativeInt
    samples: list[dict[str, str]]  # of documents and lines left out

    @property
    def tokens(self) -> int:
        """The number of tokens in its rows of the first length."""
        return self.rows[0].train.tokens + self.rows[0].valid.tokens

    def is_whole(self, folder: Path) -> bool:
        """Tell whether the files of all rows are there."""
        names = [
            f"{rows.row_length}/{shard.name}"
            for rows in self.rows
            for split in (rows.train, rows.valid)
            for shard in split.shards
        ]
        return all((folder / f"{name}.{kind}").is_file() for name in names for kind in ("rows", "starts"))


@dataclass(frozen=True, kw_only=True)
class Common(Work[PartResult]):
    """What the parts of a corpus share, once it has been inspected as a whole, and the making of their rows."""

    title = "Tokenising"
    done = "finished"
    result = PartResult
    tokenizer: str  # as JSON of the tokenizers library
    vocabulary: Vocabulary
    unknown_id: int | None
    held_out_below: int  # documents whose 64-bit hash is below this are held out for validation
    lines_N: NDArray[np.uint64]  # hashes of the lines to remove, in order
    source_names: tuple[str, ...]

    def digest(self) -> str:
        """Return a hash of everything here that decides the content of parts."""
        return digest(
            __version__, tokenizers.__version__, self.tokenizer, self.vocabulary.model_dump(), self.held_out_below,
            hashlib.sha256(self.lines_N.tobytes()).hexdigest(), self.settings.row_lengths, self.settings.pack,
            self.settings.marked_words,
        )  # fmt: skip

    def make(self, task: Task, folder: Path, threads: int, on_progress: OnProgress) -> PartResult:
        """Write the rows of a part into a folder."""
        return prepare_part(task, self, folder, threads, on_progress)


def prepare_part(task: Task, common: Common, folder: Path, threads: int, on_progress: OnProgress) -> PartResult:
    """Write the rows of a part into a folder, and return the counts.

    Args:
        task: The part.
        common: What all parts share.
        folder: The folder for the shards.
        threads: The number of threads that tokenise.
        on_progress: Called as the work goes on.

    Raises:
        DamagedDataError: A file is truncated or damaged, or in another encoding, or a record has no text.
        UserError: A field is missing from a record, a library is missing, or a file cannot be read.
    """
    lengths = common.settings.row_lengths
    sides = [[_Side(folder / str(length), split, length, common) for length in lengths] for split in SPLITS]
    samples = Samples([*common.source_names])
    tallies = {source.number: SourceTally(source.number) for source in task.part.sources}
    documents: Iterator[Document] = chain.from_iterable(
        read_documents(source, tallies[source.number].read, lambda read: on_progress(read, 0))
        for source in task.part.sources
    )
    if task.reasons is not None:
        documents = Kept(task.reasons, [0], common.lines_N).apply(documents, samples)
    marked = common.settings.marked_words
    for document, (ids, continues_T) in tokenise(documents, _tokenizer(common.tokenizer), threads, marked):
        for side in sides[document.key < common.held_out_below]:
            side.add(ids if continues_T is None else join_bit(ids, continues_T))
        tally = tallies[document.source]
        tally.documents += document.begins
        tally.characters += len(document.text)
        tally.word_marks += document.text.count(WORD_MARK) if marked else 0
        tally.tokens += len(ids)
        if common.unknown_id is not None:
            tally.unknown += int(np.count_nonzero(ids == common.unknown_id))
        on_progress(0, len(ids))
    rows = [
        PartRows(
            row_length=length,
            train=train.close(),
            valid=valid.close(),
            left_out_tokens=train.packer.left_out + valid.packer.left_out,
        )
        for length, train, valid in zip(lengths, *sides, strict=True)
    ]
    return PartResult(
        rows=rows,
        sources=[*tallies.values()],
        removed_lines=samples.lines,
        samples=samples.records,
    )


class _Side:
    """One split of one row length: its packer, and the writer of the finished rows."""

    def __init__(self, folder: Path, split: Split, row_length: int, common: Common) -> None:
        folder.mkdir(exist_ok=True)
        vocabulary, marked = common.vocabulary, common.settings.marked_words
        self.packer = make_packer(common.settings.pack, row_length, vocabulary, row_dtype(vocabulary.size, marked))
        self.writer = SplitWriter(folder, split, row_length, vocabulary, marked)

    def add(self, ids: NDArray[np.integer]) -> None:
        """Add one document."""
        for row in self.packer.add(ids):
            self.writer.write(row)

    def close(self) -> SplitEntry:
        """End the split: write the rows that are still open."""
        for row in self.packer.flush():
            self.writer.write(row)
        return self.writer.close()


@lru_cache(maxsize=1)
def _tokenizer(written: str) -> Tokenizer:
    """Return the tokenizer of a corpus, loaded once per process, as a large one takes seconds."""
    return Tokenizer.from_str(written)
