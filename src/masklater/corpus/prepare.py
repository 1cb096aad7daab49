"""The pipe from text to SHARDS: read -> tokenise -> pack -> write, each stage streaming into the next.

Reading, packing and writing run here; tokenising runs in threads.
"""

import resource
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from masklater import hub
from masklater.console import Meter, say
from masklater.corpus import tokenizer as tokenizers_
from masklater.corpus.bare import load_bare
from masklater.corpus.counts import ReadCounts, total
from masklater.corpus.index import SPLITS, SourceEntry, Split, make_index, row_dtype
from masklater.corpus.inputs import find_sources, say_what_is_read, size_of
from masklater.corpus.interruptible import interruptible
from masklater.corpus.keep.kept import Kept, Samples, choose
from masklater.corpus.lines import check_encoding
from masklater.corpus.pack import make_packer
from masklater.corpus.read import Document, Source, read_documents
from masklater.corpus.readers import ending_of
from masklater.corpus.settings import PrepareSettings
from masklater.corpus.shards import SplitWriter
from masklater.corpus.tokenise import tokenise
from masklater.corpus.train import check
from masklater.corpus.unknown import check_unknown
from masklater.corpus.vocabulary import Vocabulary
from masklater.errors import UserError
from masklater.folders import complete_folder, refuse_existing

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

TOKENIZER_SAMPLE_BYTES = 256 * 2**20
"""A tokenizer is trained on about this much text, chosen by the documents' hashes: more changes
little and costs memory."""
PACKED_RATIO = 3
"""The factor by which a compressed file is taken to grow when unpacked, for that choice."""
FEW_DOCUMENTS = 1000
"""A corpus of at most this many documents holds out at least one of them, whatever the fraction says."""


@dataclass(frozen=True)
class PrepareResult:
    """Counts of what was read and written, and the time it took."""

    out: str
    vocabulary: int
    train_rows: int
    valid_rows: int
    tokens: int
    unknown_tokens: int  # of all that were read: the sign for what the tokenizer does not know
    unknown_share: float
    left_out_tokens: int  # at the end of a split, less than one row each (continuous)
    real_share: float  # of all positions, those that hold a token of a document
    seconds: float
    tokenizer_seconds: float  # of which: training the tokenizer
    tokens_per_second: float  # over the tokenise-pack-write pass alone
    peak_memory_bytes: int  # of the whole process
    read: ReadCounts
    dropped: dict[str, int]  # documents left out, by reason
    removed_lines: int  # out of documents that are kept
    sources: list[dict[str, Any]]  # of each input as it was given: documents, characters, tokens
    passed_over: dict[str, int]  # what the input folders hold beside, by ending or kind
    repeated: dict[str, int]  # files that were read more than once, with how often


def prepare(inputs: Sequence[str | Path], out: Path, settings: PrepareSettings) -> PrepareResult:
    """Read text and write SHARDS.

    Raises:
        UserError: An input, the tokenizer or the output place is not as it must be; nothing is left behind.
    """
    began = time.monotonic()
    refuse_existing(out)
    settings.keep.check()
    if settings.encoding is not None:
        check_encoding(settings.encoding)
    if settings.tokenizer is None:
        check(settings.train_tokenizer, settings.vocab_size, settings.normalise)
    passed_over: Counter[str] = Counter()
    sources = find_sources(inputs, settings, passed_over)
    twice = say_what_is_read(sources, passed_over)
    total_bytes = sum(size_of(file) for source in sources for file in source.files)
    corpus = _Corpus(sources, total_bytes, settings)
    held_out_below = _held_out_below(corpus, settings.valid_fraction, settings.keep.of_documents)
    tokenizer = _get_tokenizer(corpus, held_out_below, settings)
    tokenizer_seconds = time.monotonic() - began
    vocabulary = tokenizers_.vocabulary(tokenizer)
    for note in tokenizers_.complete(tokenizer):
        say(note)
    if gaps := vocabulary.size - len(tokenizer):
        say(f"{gaps:,} of the {vocabulary.size:,} ids have no entry, as where an entry stands in a vocabulary twice")
    tallies = [_Tally(source) for source in sources]
    samples = Samples([source.name for source in sources])
    with complete_folder(out) as folder:
        tokenizer_hash = tokenizers_.save(tokenizer, folder / "tokenizer", settings.row_length)
        unknown_id = tokenizers_.unknown_id(tokenizer)
        sides = [_Side(folder, split, settings, vocabulary) for split in SPLITS]
        pass_began = time.monotonic()
        _pack_and_write(tallies, corpus, samples, tokenizer, held_out_below, settings, unknown_id, sides)
        train, valid = (side.writer.close() for side in sides)
        pass_seconds = time.monotonic() - pass_began
        counts = total([tally.counts for tally in tallies])
        if not train.rows:
            raise _no_text(counts, corpus.dropped)
        unknown, read_tokens = (sum(tally.unknown for tally in tallies), sum(tally.tokens for tally in tallies))
        trained_as = None if settings.tokenizer else settings.train_tokenizer
        check_unknown(unknown, read_tokens, tokenizer.unk_token, settings.max_unknown, trained_as)
        record = {
            **asdict(counts),
            "encoding": settings.encoding or "utf-8",
            "unit": settings.documents,
            "valid_fraction": settings.valid_fraction,
            "unknown_tokens": unknown,
            "text_field": settings.text_field,
            "filters": " and ".join(settings.filters),
            "sources": [tally.entry() for tally in tallies],
        }
        if settings.keep.asks_for_anything:
            record["keep"] = settings.keep.describe()
            record |= {f"left_out_{reason.replace(' ', '_')}": number for reason, number in corpus.dropped.items()}
            record["removed_lines"] = samples.lines
        index = make_index(vocabulary, settings.row_length, tokenizer_hash, settings.pack, train, valid, record)
        (folder / "index.json").write_text(index.model_dump_json(indent=1), encoding="utf-8")
        if settings.keep.dropped is not None:
            samples.write(settings.keep.dropped)
    tokens = train.tokens + valid.tokens
    return PrepareResult(
        out=str(out),
        vocabulary=vocabulary.size,
        train_rows=train.rows,
        valid_rows=valid.rows,
        tokens=tokens,
        unknown_tokens=unknown,
        unknown_share=unknown / read_tokens,
        left_out_tokens=sum(side.packer.left_out for side in sides),
        real_share=tokens / ((train.rows + valid.rows) * settings.row_length),
        seconds=time.monotonic() - began,
        tokenizer_seconds=tokenizer_seconds,
        tokens_per_second=tokens / pass_seconds,
        peak_memory_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        * (1 if sys.platform == "darwin" else 1024),
        read=counts,
        dropped=corpus.dropped,
        removed_lines=samples.lines,
        sources=[tally.entry().model_dump() for tally in tallies],
        passed_over=dict(passed_over),
        repeated=twice,
    )


def _no_text(counts: ReadCounts, dropped: dict[str, int]) -> UserError:
    """The error of an input without any text."""
    left_out = {
        **{f"documents left out as {reason}": number for reason, number in dropped.items()},
        "records whose text is null": counts.null,
        "records that --filter leaves out": counts.filtered,
        "redirects": counts.redirects,
        "pages of other namespaces": counts.other_namespaces,
        "empty documents": counts.empty,
    }
    if not any(number for what, number in left_out.items() if what != "empty documents"):
        return UserError("there is no text in the input: every document is empty", "Name files that hold text.")
    said = ", ".join(f"{number:,} {what}" for what, number in left_out.items() if number)
    return UserError(f"there is no text in what is left of the input: {said}", "Name files that hold text.")


class _Tally:
    """One source: what was read of it, and what it became."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.counts = ReadCounts()
        self.documents = self.characters = self.tokens = self.unknown = 0  # of what is kept

    def entry(self) -> SourceEntry:
        """The record of it."""
        return SourceEntry(
            name=self.source.name,
            revision=self.source.rows.commit if self.source.rows else None,
            files=self.counts.files,
            documents=self.documents,
            characters=self.characters,
            tokens=self.tokens,
            tokens_per_document=round(self.tokens / max(self.documents, 1), 3),
            unknown_share=round(self.unknown / max(self.tokens, 1), 6),
        )


class _Corpus:
    """The documents of all sources that are kept, to be read as often as needed."""

    def __init__(self, sources: list[Source], total_bytes: int, settings: PrepareSettings) -> None:
        self.sources, self.total_bytes = sources, total_bytes
        asked = settings.keep.asks_for_anything
        self.kept: Kept | None = choose(self._all_of_them, len(sources), settings.keep) if asked else None

    @property
    def dropped(self) -> dict[str, int]:
        """Documents left out, by reason."""
        return {} if self.kept is None else self.kept.dropped

    def documents(
        self,
        counts: list[ReadCounts],
        on_bytes: Callable[[int], None] = lambda _: None,
        samples: Samples | None = None,
    ) -> Iterator[Document]:
        """Read them; what is read of each source, whether it is kept or not, is counted."""
        parts = (read_documents(source, count, on_bytes) for source, count in zip(self.sources, counts, strict=True))
        documents = chain.from_iterable(parts)
        return documents if self.kept is None else self.kept.apply(documents, samples)

    def uncounted(self) -> list[ReadCounts]:
        """Counts that nobody asks for, one for each source."""
        return [ReadCounts() for _ in self.sources]

    def _all_of_them(self, what: str) -> Iterator[Document]:
        with Meter(what, self.total_bytes or None) as meter:
            for source in self.sources:
                yield from read_documents(source, ReadCounts(), meter.advance)


def _held_out_below(corpus: _Corpus, fraction: float, part: tuple[float, float]) -> int:
    """Documents whose 64-bit hash is below this are held out for validation, a fraction of the part that is kept."""
    begin, end = part
    below = int((begin + fraction * (end - begin)) * 2**64)
    if not fraction:
        return 0
    counts = corpus.uncounted()
    documents = corpus.documents(counts)
    keys = {document.key for document in islice(documents, FEW_DOCUMENTS + 1)}
    if next(documents, None) is not None or len(keys) > FEW_DOCUMENTS:
        return below
    if not keys:
        raise _no_text(total(counts), corpus.dropped)
    if len(keys) == 1:
        raise UserError(
            f"the input is one single document (--documents {corpus.sources[0].unit}), of which none can be held out",
            "Cut it into documents with --documents line or blank-line, or hold nothing out with --valid-fraction 0.",
        )
    return min(max(below, min(keys) + 1), max(keys))  # at least one held out, at least one to train on


def _get_tokenizer(corpus: _Corpus, held_out_below: int, settings: PrepareSettings) -> "PreTrainedTokenizerFast":
    if settings.tokenizer is not None:
        if settings.tokenizer.is_file():
            return load_bare(settings.tokenizer)
        found = hub.find(str(settings.tokenizer), hub.TOKENIZER_FILES, "--tokenizer")
        if found.commit is not None:
            say(f"tokenizer: {found}")
        return tokenizers_.load(found.folder)
    share = min(1.0, TOKENIZER_SAMPLE_BYTES / max(sum(map(_unpacked_bytes, corpus.sources)), 1))
    is_unsized = [source.rows is not None and not source.rows.size for source in corpus.sources]
    with Meter("Training the tokenizer: reading", corpus.total_bytes or None) as meter:

        def texts() -> Iterator[str]:
            left = TOKENIZER_SAMPLE_BYTES
            for document in corpus.documents(corpus.uncounted(), meter.advance):
                if document.key >= held_out_below and document.key % 2**32 < share * 2**32:
                    left -= len(document.text) if is_unsized[document.source] else 0
                    if left < 0:
                        say("the tokenizer is trained on the beginning of a data set that does not tell its size")
                        break
                    yield document.text
            meter.set(corpus.total_bytes, "merging")

        train = partial(tokenizers_.train, texts(), settings.train_tokenizer, settings.vocab_size, settings.normalise)
        return tokenizers_.wrap(interruptible(train))


def _unpacked_bytes(source: Source) -> int:
    """About how much text a source holds, by its size."""
    known = (source.rows.size or 0) if source.rows else 0
    for file in source.files:
        ending = ending_of(file.name)
        is_packed = ending is not None and (ending.packing or ending.kind == ".parquet")
        known += size_of(file) * (PACKED_RATIO if is_packed else 1)
    return known


def _pack_and_write(
    tallies: list["_Tally"],
    corpus: _Corpus,
    samples: Samples,
    tokenizer: "PreTrainedTokenizerFast",
    held_out_below: int,
    settings: PrepareSettings,
    unknown_id: int | None,
    sides: list["_Side"],
) -> None:
    with Meter("Tokenising", corpus.total_bytes or None) as meter:
        began, tokens = time.monotonic(), 0
        documents = corpus.documents([tally.counts for tally in tallies], meter.advance, samples)
        for document, ids in tokenise(documents, tokenizer, settings.workers):
            sides[document.key < held_out_below].add(ids)
            tokens += len(ids)
            tally = tallies[document.source]
            tally.documents += document.begins
            tally.characters += len(document.text)
            tally.tokens += len(ids)
            if unknown_id is not None:
                tally.unknown += int(np.count_nonzero(ids == unknown_id))
            meter.advance(0, f"{tokens / 1e6:,.1f} M tokens, {tokens / (time.monotonic() - began) / 1e6:.2f} M/s")
        for side in sides:
            side.flush()


class _Side:
    """One split being made: its packer, and the writer of the rows it completes."""

    def __init__(self, folder: Path, split: Split, settings: PrepareSettings, vocabulary: Vocabulary) -> None:
        dtype = row_dtype(vocabulary.size)
        self.packer = make_packer(settings.pack, settings.row_length, vocabulary, dtype)
        self.writer = SplitWriter(folder, split, settings.row_length, vocabulary)

    def add(self, ids: NDArray[np.integer]) -> None:
        """Take one document."""
        for row in self.packer.add(ids):
            self.writer.write(row)

    def flush(self) -> None:
        """End the split: write the rows that are still open."""
        for row in self.packer.flush():
            self.writer.write(row)
