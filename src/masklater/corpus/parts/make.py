"""One part to rows on disk: read -> tokenise -> pack -> write, each stage streaming into the next.

What comes out follows from the part and from what all parts share, whatever process or machine makes it, and when.
"""

import hashlib
import os
import platform
import resource
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tokenizers
from numpy.typing import NDArray
from pydantic import NonNegativeInt, PositiveInt
from tokenizers import Tokenizer

from masklater import __version__
from masklater.corpus.counts import SourceTally
from masklater.corpus.index import SPLITS, Split, SplitEntry, row_dtype
from masklater.corpus.keep.kept import Kept, Samples
from masklater.corpus.pack import make_packer
from masklater.corpus.parts.cut import Part, digest
from masklater.corpus.read import Document, read_documents
from masklater.corpus.settings import PrepareSettings
from masklater.corpus.shards import SplitWriter
from masklater.corpus.tokenise import tokenise
from masklater.corpus.vocabulary import Vocabulary
from masklater.errors import UserError
from masklater.folders import disk_errors_for_people, gone_on_failure, remove, sync_files
from masklater.recipe.section import Section

RESULT = "part.json"

OnProgress = Callable[[int, int], None]
"""Called with the bytes read and the tokens made since its last call."""


@dataclass(frozen=True)
class Common:
    """All that the parts of a corpus share, once it has been looked at as a whole."""

    tokenizer: str  # as the tokenizers library writes it
    vocabulary: Vocabulary
    unknown_id: int | None
    held_out_below: int  # documents whose 64-bit hash is below this are held out for validation
    lines_N: NDArray[np.uint64]  # hashes of the lines that are taken out, in order
    source_names: tuple[str, ...]
    settings: PrepareSettings
    place: Path  # where finished parts stand
    out: Path  # what messages about the disk name

    def digest(self) -> str:
        """A hash of all of it that decides what parts are."""
        return digest(
            __version__, tokenizers.__version__, self.tokenizer, self.vocabulary.model_dump(), self.held_out_below,
            hashlib.sha256(self.lines_N.tobytes()).hexdigest(), self.settings.row_lengths, self.settings.pack,
        )  # fmt: skip


@dataclass(frozen=True)
class Task:
    """A part, and what is known of its documents."""

    part: Part
    name: str  # of its folder: a hash of all that decides what is in it
    reasons: bytes | None  # for each of its documents, why it is left out; None: all are kept


def tasks_of(parts: Sequence[Part], reasons: Sequence[bytes | None], common: Common) -> list[Task]:
    """Name parts by all that decides what they are: what a finished one of that name holds is what would be made."""
    shared = common.digest()
    names = [
        digest(shared, part.identity(), why and hashlib.sha256(why).hexdigest())
        for part, why in zip(parts, reasons, strict=True)
    ]
    return [Task(part, name, why) for part, name, why in zip(parts, names, reasons, strict=True)]


class PartRows(Section):
    """The rows of one length that a finished part holds, in a folder of that name."""

    row_length: PositiveInt
    train: SplitEntry
    valid: SplitEntry
    left_out_tokens: NonNegativeInt  # at the end of a split, less than one row each (continuous)


class PartResult(Section):
    """What a finished part holds."""

    rows: list[PartRows]  # of each row length
    sources: list[SourceTally]
    removed_lines: NonNegativeInt
    samples: list[dict[str, str]]  # of what is left out

    @property
    def tokens(self) -> int:
        """Tokens in its rows of the first length."""
        return self.rows[0].train.tokens + self.rows[0].valid.tokens


def make_part(task: Task, common: Common, threads: int, on_progress: OnProgress) -> None:
    """Make a part under its name in `common.place`: whole, or not there.

    Raises:
        UserError: What is read is damaged or missing, or the disk is full.
    """
    final = common.place / task.name
    partial = final.with_name(f"{task.name}.partial-{platform.node()}-{os.getpid()}")
    with disk_errors_for_people(common.out), gone_on_failure(partial):
        partial.mkdir()
        result = prepare_part(task, common, partial, threads, on_progress)
        (partial / RESULT).write_text(result.model_dump_json(), encoding="utf-8")
        sync_files(partial)
        if read_result(final) is not None:  # by a process that was taken for dead; its bytes are the same
            remove(partial)
        else:
            remove(final)
            partial.rename(final)


class Outcome(NamedTuple):
    """What has become of a part: made, unless there is an error."""

    number: int
    error: UserError | None
    peak_memory_bytes: int  # of the process that has made it


def try_part(task: Task, common: Common, threads: int, on_progress: OnProgress) -> Outcome:
    """Make a part, and tell what has become of it, in whatever process."""
    error: UserError | None = None
    try:
        make_part(task, common, threads, on_progress)
    except UserError as failure:
        error = failure
    return Outcome(task.part.number, error, peak_memory())


def peak_memory() -> int:
    """The most memory that this process has held, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def read_result(folder: Path) -> PartResult | None:
    """Read what a finished part holds; None where it is not there, or not whole."""
    try:
        result = PartResult.model_validate_json((folder / RESULT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    names = [
        f"{rows.row_length}/{shard.name}"
        for rows in result.rows
        for split in (rows.train, rows.valid)
        for shard in split.shards
    ]
    is_whole = all((folder / f"{name}.{kind}").is_file() for name in names for kind in ("rows", "starts"))
    return result if is_whole else None


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
    for document, ids in tokenise(documents, _tokenizer(common.tokenizer), threads):
        for side in sides[document.key < common.held_out_below]:
            side.add(ids)
        tally = tallies[document.source]
        tally.documents += document.begins
        tally.characters += len(document.text)
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
        vocabulary = common.vocabulary
        self.packer = make_packer(common.settings.pack, row_length, vocabulary, row_dtype(vocabulary.size))
        self.writer = SplitWriter(folder, split, row_length, vocabulary)

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
