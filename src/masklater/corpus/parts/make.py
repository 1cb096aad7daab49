"""One part to rows on disk: read -> tokenise -> pack -> write, each stage streaming into the next."""

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
    """The rows of one length that a finished part holds, in a folder of that name."""

    row_length: PositiveInt
    train: SplitEntry
    valid: SplitEntry
    left_out_tokens: NonNegativeInt  # at the end of a split, less than one row each (continuous)


class PartResult(Result):
    """What a finished part holds."""

    rows: list[PartRows]  # of each row length
    sources: list[SourceTally]
    removed_lines: NonNegativeInt
    samples: list[dict[str, str]]  # of what is left out

    @property
    def tokens(self) -> int:
        """Tokens in its rows of the first length."""
        return self.rows[0].train.tokens + self.rows[0].valid.tokens

    def is_whole(self, folder: Path) -> bool:
        """Whether the files of all rows are there."""
        names = [
            f"{rows.row_length}/{shard.name}"
            for rows in self.rows
            for split in (rows.train, rows.valid)
            for shard in split.shards
        ]
        return all((folder / f"{name}.{kind}").is_file() for name in names for kind in ("rows", "starts"))


@dataclass(frozen=True, kw_only=True)
class Common(Work[PartResult]):
    """All that the parts of a corpus share, once it has been looked at as a whole, and the making of their rows."""

    title = "Tokenising"
    done = "finished"
    result = PartResult
    tokenizer: str  # as the tokenizers library writes it
    vocabulary: Vocabulary
    unknown_id: int | None
    held_out_below: int  # documents whose 64-bit hash is below this are held out for validation
    lines_N: NDArray[np.uint64]  # hashes of the lines that are taken out, in order
    source_names: tuple[str, ...]

    def digest(self) -> str:
        """A hash of all of it that decides what parts are."""
        return digest(
            __version__, tokenizers.__version__, self.tokenizer, self.vocabulary.model_dump(), self.held_out_below,
            hashlib.sha256(self.lines_N.tobytes()).hexdigest(), self.settings.row_lengths, self.settings.pack,
            self.settings.marked_words,
        )  # fmt: skip

    def make(self, task: Task, folder: Path, threads: int, on_progress: OnProgress) -> PartResult:
        """Write the rows of a part into a folder."""
        return prepare_part(task, self, folder, threads, on_progress)


def prepare_part(task: Task, common: Common, folder: Path, threads: int, on_progress: OnProgress) -> PartResult:
    """Write the rows of a part into a folder, and tell what they are.

    Args:
        task: The part.
        common: What all parts share.
        folder: Where its shards go.
        threads: That tokenise.
        on_progress: Called as the work goes on.

    Raises:
        DamagedDataError: A file is truncated or damaged, or in another encoding, or a record is no record with text.
        UserError: A field is not in a record, a library is missing, or a file cannot be read.
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
    """One split being made in rows of one length: its packer, and the writer of the rows it completes."""

    def __init__(self, folder: Path, split: Split, row_length: int, common: Common) -> None:
        folder.mkdir(exist_ok=True)
        vocabulary, marked = common.vocabulary, common.settings.marked_words
        self.packer = make_packer(common.settings.pack, row_length, vocabulary, row_dtype(vocabulary.size, marked))
        self.writer = SplitWriter(folder, split, row_length, vocabulary, marked)

    def add(self, ids: NDArray[np.integer]) -> None:
        """Take one document."""
        for row in self.packer.add(ids):
            self.writer.write(row)

    def close(self) -> SplitEntry:
        """End the split: write the rows that are still open."""
        for row in self.packer.flush():
            self.writer.write(row)
        return self.writer.close()


@lru_cache(maxsize=1)
def _tokenizer(written: str) -> Tokenizer:
    """The tokenizer of a corpus, made once in each process: a large one takes seconds."""
    return Tokenizer.from_str(written)
