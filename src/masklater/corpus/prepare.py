"""The pipe from text files to SHARDS: read -> tokenise -> pack -> write, each stage streaming into the next.

Reading, packing and writing run here; tokenising runs in threads. The `tokenizers` library leaves Python's lock while
it works, and one batch to a thread is faster than its own parallelism (docs/log.md, 2026-11-21).
"""

import os
import resource
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from masklater import hub
from masklater.console import Meter, say
from masklater.corpus import tokenizer as tokenizers_
from masklater.corpus.files import ENDINGS, describe, find_files, is_gzipped, repeated
from masklater.corpus.index import SPLITS, Split, make_index, row_dtype
from masklater.corpus.interruptible import interruptible
from masklater.corpus.lines import check_encoding
from masklater.corpus.pack import make_packer
from masklater.corpus.read import Document, ReadCounts, Source, read_documents
from masklater.corpus.settings import PrepareSettings
from masklater.corpus.shards import SplitWriter
from masklater.corpus.unknown import check_unknown
from masklater.corpus.vocabulary import Vocabulary
from masklater.errors import UserError
from masklater.folders import complete_folder, refuse_existing

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

TOKENIZER_SAMPLE_BYTES = 256 * 2**20
"""A tokenizer is trained on about this much text, chosen by the documents' hashes: more changes
little and costs memory."""
GZIP_RATIO = 3
"""The factor by which a gzipped file is taken to grow when unpacked, for that choice."""
FEW_DOCUMENTS = 1000
"""A corpus of at most this many documents holds out at least one of them, whatever the fraction says."""
CHUNK_DOCUMENTS, CHUNK_CHARS = 256, 2**18


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
    passed_over: dict[str, int]  # what the input folders hold beside, by ending or kind
    repeated: dict[str, int]  # files that were read more than once, with how often


def prepare(inputs: list[Path], out: Path, settings: PrepareSettings) -> PrepareResult:
    """Read text files and write SHARDS.

    Raises:
        UserError: An input, the tokenizer or the output place is not as it must be; nothing is left behind.
    """
    began = time.monotonic()
    refuse_existing(out)
    if settings.encoding is not None:
        check_encoding(settings.encoding)
    passed_over: Counter[str] = Counter()
    files = find_files(inputs, passed_over)
    twice = repeated(files)
    _say_what_is_read(passed_over, twice)
    source = Source(files, settings.documents, settings.text_field, settings.encoding)
    total_bytes = sum(file.stat().st_size for file in files)
    held_out_below = _held_out_below(source, settings.valid_fraction)
    tokenizer = _get_tokenizer(source, total_bytes, held_out_below, settings)
    tokenizer_seconds = time.monotonic() - began
    vocabulary = tokenizers_.vocabulary(tokenizer)
    for note in tokenizers_.complete(tokenizer):
        say(note)
    if gaps := vocabulary.size - len(tokenizer):
        say(f"{gaps:,} of the {vocabulary.size:,} ids have no entry, as where an entry stands in a vocabulary twice")
    counts = ReadCounts()
    with complete_folder(out) as folder:
        tokenizer_hash = tokenizers_.save(tokenizer, folder / "tokenizer", settings.row_length)
        unknown_id = tokenizers_.unknown_id(tokenizer)
        sides = [_Side(folder, split, settings, vocabulary, unknown_id) for split in SPLITS]
        pass_began = time.monotonic()
        _pack_and_write(source, total_bytes, tokenizer, held_out_below, settings, counts, sides)
        train, valid = (side.writer.close() for side in sides)
        pass_seconds = time.monotonic() - pass_began
        if not train.rows:
            raise UserError("there is no text in the input: every document is empty", "Name files that hold text.")
        unknown, read_tokens = (sum(side.unknown for side in sides), sum(side.tokens for side in sides))
        trained_as = None if settings.tokenizer else settings.train_tokenizer
        check_unknown(unknown, read_tokens, tokenizer.unk_token, settings.max_unknown, trained_as)
        record = {
            **asdict(counts),
            "encoding": settings.encoding or "utf-8",
            "unit": settings.documents,
            "valid_fraction": settings.valid_fraction,
            "unknown_tokens": unknown,
        }
        index = make_index(vocabulary, settings.row_length, tokenizer_hash, settings.pack, train, valid, record)
        (folder / "index.json").write_text(index.model_dump_json(indent=1), encoding="utf-8")
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
        passed_over=dict(passed_over),
        repeated=twice,
    )


def _say_what_is_read(passed_over: Counter[str], twice: dict[str, int]) -> None:
    """Report, before the work begins, files that are left out and files that are read several times."""
    if passed_over:
        say(f"not read: {describe(passed_over)} (text ends in {', '.join(ENDINGS)})")
    for names, number in twice.items():
        say(f"named {number} times, and read as often: {names}")


def _held_out_below(source: Source, fraction: float) -> int:
    """Documents whose 64-bit hash is below this are held out for validation."""
    below = int(fraction * 2**64)
    if not fraction:
        return 0
    documents = read_documents(source, ReadCounts())
    keys = {document.key for document in islice(documents, FEW_DOCUMENTS + 1)}
    if next(documents, None) is not None or len(keys) > FEW_DOCUMENTS:
        return below
    if not keys:
        raise UserError("there is no text in the input: every document is empty", "Name files that hold text.")
    if len(keys) == 1:
        raise UserError(
            f"the input is one single document (--documents {source.unit}), of which none can be held out",
            "Cut it into documents with --documents line or blank-line, or hold nothing out with --valid-fraction 0.",
        )
    return min(max(below, min(keys) + 1), max(keys))  # at least one held out, at least one to train on


def _get_tokenizer(
    source: Source, total_bytes: int, held_out_below: int, settings: PrepareSettings
) -> "PreTrainedTokenizerFast":
    if settings.tokenizer is not None:
        found = hub.find(str(settings.tokenizer), hub.TOKENIZER_FILES, "--tokenizer")
        if found.commit is not None:
            say(f"tokenizer: {found}")
        return tokenizers_.load(found.folder)
    unpacked = sum(file.stat().st_size * (GZIP_RATIO if is_gzipped(file) else 1) for file in source.files)
    share = min(1.0, TOKENIZER_SAMPLE_BYTES / max(unpacked, 1))
    with Meter("Training the tokenizer: reading", total_bytes) as meter:

        def texts() -> Iterator[str]:
            for document in read_documents(source, ReadCounts(), meter.advance):
                if document.key >= held_out_below and document.key % 2**32 < share * 2**32:
                    yield document.text
            meter.set(total_bytes, "merging")

        train = partial(tokenizers_.train, texts(), settings.train_tokenizer, settings.vocab_size)
        return tokenizers_.wrap(interruptible(train))


def _pack_and_write(
    source: Source,
    total_bytes: int,
    tokenizer: "PreTrainedTokenizerFast",
    held_out_below: int,
    settings: PrepareSettings,
    counts: ReadCounts,
    sides: list["_Side"],
) -> None:
    with Meter("Tokenising", total_bytes) as meter:
        began, tokens = time.monotonic(), 0
        documents = read_documents(source, counts, meter.advance)
        for document, ids in tokenise(documents, tokenizer, settings.workers):
            sides[document.key < held_out_below].add(ids)
            tokens += len(ids)
            meter.advance(0, f"{tokens / 1e6:,.1f} M tokens, {tokens / (time.monotonic() - began) / 1e6:.2f} M/s")
        for side in sides:
            side.flush()


class _Side:
    """One split being made: its packer, and the writer of the rows it completes."""

    def __init__(
        self, folder: Path, split: Split, settings: PrepareSettings, vocabulary: Vocabulary, unknown_id: int | None
    ) -> None:
        dtype = row_dtype(vocabulary.size)
        self.packer = make_packer(settings.pack, settings.row_length, vocabulary, dtype)
        self.writer = SplitWriter(folder, split, settings.row_length, vocabulary)
        self.unknown_id = unknown_id
        self.tokens = self.unknown = 0

    def add(self, ids: NDArray[np.integer]) -> None:
        """Take one document."""
        self.tokens += len(ids)
        if self.unknown_id is not None:
            self.unknown += int(np.count_nonzero(ids == self.unknown_id))
        for row in self.packer.add(ids):
            self.writer.write(row)

    def flush(self) -> None:
        """End the split: write the rows that are still open."""
        for row in self.packer.flush():
            self.writer.write(row)


def tokenise(
    documents: Iterator[Document], tokenizer: "PreTrainedTokenizerFast", workers: int
) -> Iterator[tuple[Document, NDArray[np.integer]]]:
    """Yield each document, in order, with its ids (no special tokens).

    A text that spells a special token ("</s>") is text like any other: it never becomes the token.

    Raises:
        UserError: A text holds what the tokenizer does not know, and it has no unknown token.
    """
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = True
    dtype = row_dtype(tokenizers_.num_ids(tokenizer))

    def encode(chunk: list[Document]) -> list[NDArray[np.integer]]:
        try:
            encodings = backend.encode_batch_fast([document.text for document in chunk], add_special_tokens=False)
        except Exception as error:  # tokenizers raises plain Exception
            raise UserError(
                f"the tokenizer cannot encode the text: {error}",
                "Has it an unknown token, and is that in its vocabulary? Mend it, or train one with --train-tokenizer.",
            ) from None
        return [np.array(encoding.ids, dtype=dtype) for encoding in encodings]

    waiting: deque[tuple[list[Document], Future[list[NDArray[np.integer]]]]] = deque()
    with _one_thread_a_batch(), ThreadPoolExecutor(workers) as pool:
        try:
            for chunk in _chunks(documents):
                waiting.append((chunk, pool.submit(encode, chunk)))
                if len(waiting) > workers + 1:
                    done, future = waiting.popleft()
                    yield from zip(done, future.result(), strict=True)
            while waiting:
                done, future = waiting.popleft()
                yield from zip(done, future.result(), strict=True)
        finally:
            for _, future in waiting:
                future.cancel()
            backend.encode_special_tokens = False


def _chunks(documents: Iterator[Document]) -> Iterator[list[Document]]:
    chunk: list[Document] = []
    size = 0
    for document in documents:
        chunk.append(document)
        size += len(document.text)
        if len(chunk) >= CHUNK_DOCUMENTS or size >= CHUNK_CHARS:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


@contextmanager
def _one_thread_a_batch() -> Iterator[None]:
    """Switch the tokenizers library's own parallelism off, which it reads from the environment at each call."""
    before = os.environ.get("TOKENIZERS_PARALLELISM")
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    try:
        yield
    finally:
        if before is None:
            del os.environ["TOKENIZERS_PARALLELISM"]
        else:
            os.environ["TOKENIZERS_PARALLELISM"] = before
