"""A corpus inspected as a whole, before its parts are made: what is kept, what is held out, and its tokenizer."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from masklater import __version__, hub
from masklater.console import Meter, say
from masklater.corpus import tokenizer as tokenizers_
from masklater.corpus.bare import load_bare
from masklater.corpus.counts import ReadCounts, total
from masklater.corpus.interruptible import interruptible
from masklater.corpus.keep.kept import Kept
from masklater.corpus.marked import WORD_MARK
from masklater.corpus.parts.cut import Part, digest, text_bytes
from masklater.corpus.parts.decide import decide
from masklater.corpus.parts.folder import LOOKED_AT, LOOKS
from masklater.corpus.read import Document, Source, is_plain_text, read_documents
from masklater.corpus.same_ids import differs_from_file
from masklater.corpus.settings import PrepareSettings
from masklater.corpus.train import train
from masklater.corpus.trim import count_uses, trim
from masklater.errors import UserError
from masklater.folders import gone_on_failure, remove

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

TOKENIZER_SAMPLE_BYTES = 256 * 2**20
"""A tokenizer is trained on about this much text, chosen by the documents' hashes: more text changes little and costs
memory."""
PARTS_APART = 0x9E3779B1
"""The number added to a document's hash for each further part. It is odd and near 2^32 over the golden ratio, so that
its multiples, modulo 2^32, are spread evenly."""
FEW_DOCUMENTS = 1000
"""A corpus of at most this many different documents holds out at least one of them, whatever the fraction says."""


@dataclass(frozen=True)
class LookedAt:
    """What was found out about a corpus as a whole."""

    kept: Kept | None  # None: all documents are kept
    first_of_part: list[int]  # the place of each part's first document, where any document is left out
    held_out_below: int  # documents whose 64-bit hash is below this are held out for validation
    tokenizer: "PreTrainedTokenizerFast"
    tokenizer_sha256: str  # of the copy that was saved
    written: str  # the tokenizer as JSON of its library, with which parts are made
    peak_memory_bytes: int = 0  # of the largest process that has inspected a part

    def reasons_of(self, part: int) -> bytes | None:
        """Return why each document of a part is left out; None where none is."""
        if self.kept is None:
            return None
        ends = [*self.first_of_part[1:], len(self.kept.reasons)]
        return bytes(self.kept.reasons[self.first_of_part[part] : ends[part]])

    @property
    def lines_N(self) -> NDArray[np.uint64]:
        """Hashes of the lines to remove, in order."""
        return np.empty(0, np.uint64) if self.kept is None else self.kept.lines_N


class Corpus:
    """The kept documents of all parts, to be read as often as needed."""

    def __init__(self, sources: list[Source], parts: Sequence[Part], settings: PrepareSettings) -> None:
        self.sources, self.parts, self.settings = sources, parts, settings
        self.bytes = sum(part.bytes for part in parts)
        self.kept: Kept | None = None
        self.first_of_part: list[int] = []

    def documents(
        self, counts: list[ReadCounts], on_bytes: Callable[[int], None] = lambda _: None
    ) -> Iterator[Document]:
        """Read the documents; `counts` counts everything read of each source, kept or not."""
        documents = (
            document
            for part in self.parts
            for source in part.sources
            for document in read_documents(source, counts[source.number], on_bytes)
        )
        return documents if self.kept is None else self.kept.apply(documents)

    def uncounted(self) -> list[ReadCounts]:
        """Return counts, one for each source, that nothing will read."""
        return [ReadCounts() for _ in self.sources]


def look_at(corpus: Corpus, place: Path, out: Path, keep: bool, ray: str | None) -> LookedAt:
    """Inspect a corpus as a whole; save its tokenizer in `place / "tokenizer"`.

    Args:
        corpus: The corpus.
        place: A folder. Results in it of an earlier inspection of the same corpus are reused.
        out: The folder that messages about the disk name.
        keep: Whether to leave results there that took readings of the whole corpus.
        ray: The address of a Ray cluster that inspects the parts, or `auto`; None: processes of this machine.

    Raises:
        UserError: There is no text, not enough of it, or none that goes with the tokenizer.
    """
    settings = corpus.settings
    saved = None if settings.tokenizer is None else _load(settings.tokenizer)
    found = _Found(place / LOOKED_AT, _identity(corpus, saved)) if keep else None
    before = found.read() if found else {}
    peak = 0
    if "reasons" in before:
        corpus.kept = Kept(before["reasons"].tobytes(), before["first_of_source"].tolist(), before["lines"])
        corpus.first_of_part = before["first_of_part"].tolist()
    elif not before and settings.keep.asks_for_anything:
        (place / LOOKS).mkdir(exist_ok=True)
        decision = decide(corpus.parts, settings, place / LOOKS, out, ray)
        corpus.kept, corpus.first_of_part, peak = decision.kept, decision.first_of_part, decision.peak_memory_bytes
    below = int(before["held_out_below"]) if before else held_out_below(corpus, settings)
    folder = place / "tokenizer"
    if "tokenizer" in before:
        tokenizer, written = tokenizers_.load(folder), before["tokenizer"].tobytes().decode()
        return LookedAt(corpus.kept, corpus.first_of_part, below, tokenizer, tokenizers_.fingerprint(folder), written)
    remove(folder)
    tokenizer = _get_tokenizer(saved, corpus, below, settings)
    for note in tokenizers_.complete(tokenizer):
        say(note)
    sha256 = tokenizers_.save(tokenizer, folder, settings.row_length)
    written = tokenizer.backend_tokenizer.to_str()
    looked_at = LookedAt(corpus.kept, corpus.first_of_part, below, tokenizer, sha256, written, peak)
    if found:
        found.write(looked_at, settings.tokenizer is None or settings.trim)
    remove(place / LOOKS)
    return looked_at


class _Found:
    """The file of results, for the next try."""

    def __init__(self, path: Path, identity: str) -> None:
        self.path, self.identity = path, identity

    def read(self) -> dict[str, NDArray[Any]]:
        """Return the results; empty where the file is missing or is of another corpus."""
        try:
            with np.load(self.path, allow_pickle=False) as file:
                found = dict(file)
        except Exception:  # numpy raises many kinds of errors for a damaged file
            return {}
        return found if found["identity"].tobytes().decode() == self.identity else {}

    def write(self, looked_at: LookedAt, is_new: bool) -> None:
        """Write the results; a tokenizer that was neither trained nor trimmed is read from its own place again."""
        arrays: dict[str, Any] = {
            "identity": _bytes(self.identity),
            "held_out_below": np.array(looked_at.held_out_below, np.uint64),
        }
        if looked_at.kept is not None:
            kept = looked_at.kept
            arrays |= {"reasons": np.frombuffer(kept.reasons, np.uint8), "lines": kept.lines_N}
            arrays |= {"first_of_source": np.array(kept.first_of_source, np.int64)}
            arrays |= {"first_of_part": np.array(looked_at.first_of_part, np.int64)}
        if is_new:
            arrays["tokenizer"] = _bytes(looked_at.written)
        partial = self.path.with_name(f"{self.path.name}.partial-0")
        with gone_on_failure(partial):
            with partial.open("wb") as file:
                np.savez(file, **arrays)
            partial.replace(self.path)


def _bytes(text: str) -> NDArray[np.uint8]:
    return np.frombuffer(text.encode(), np.uint8)


def _identity(corpus: Corpus, saved: "PreTrainedTokenizerFast | None") -> str:
    """Return a hash of everything that decides the results; a saved tokenizer counts by its content, not its name."""
    one = corpus.settings
    without = sorted(
        (str(file), file.stat().st_size, file.stat().st_mtime_ns)
        for path in one.keep.without
        for file in (path, *path.rglob("*"))
        if file.is_file()
    )
    as_saved = saved and [saved.backend_tokenizer.to_str(), saved.special_tokens_map]
    tokenizer = [as_saved, one.train_tokenizer, one.vocab_size, one.normalise, one.row_length]
    parts = [part.identity() for part in corpus.parts]
    return digest(__version__, parts, one.keep.describe(), without, tokenizer, one.valid_fraction, one.marked_words,
        one.trim, one.trim_to,
    )  # fmt: skip


def no_text(counts: ReadCounts, dropped: dict[str, int]) -> UserError:
    """Return the error for an input without any text."""
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


def held_out_below(corpus: Corpus, settings: PrepareSettings) -> int:
    """Return the number below which hashes of held-out documents are: a fraction of the slice that is kept.

    Raises:
        UserError: There is no document, or only one.
    """
    fraction, (begin, end) = settings.valid_fraction, settings.keep.of_documents
    below = int((begin + fraction * (end - begin)) * 2**64)
    if not fraction:
        return 0
    counts = corpus.uncounted()
    keys: set[int] = set()
    number = 0
    with Meter("Choosing what is held out", corpus.bytes or None, quiet_if_short=True) as meter:
        for document in corpus.documents(counts, meter.advance):
            number += document.begins
            keys.add(document.key)
            if len(keys) > FEW_DOCUMENTS:
                meter.set(corpus.bytes)
                return below
    if not keys:
        raise no_text(total(counts), {} if corpus.kept is None else corpus.kept.dropped)
    if len(keys) == 1:
        raise UserError(
            "the input is one single document, which cannot be held out"
            if number == 1
            else f"the {number:,} documents of the input have one and the same text, which cannot be held out",
            f"{_more_documents(corpus.sources, number)}, or hold nothing out with --valid-fraction 0.",
        )
    return min(max(below, min(keys) + 1), max(keys))  # at least one held out, at least one to train on


def _more_documents(sources: list[Source], number: int) -> str:
    """Return the advice how to get several documents from an input that has one text, by the kind of input."""
    if any(is_plain_text(file) for source in sources for file in source.files):
        return "Cut plain text with --documents line or blank-line"
    if number > 1:
        return "Name with --text-field a field that differs from record to record"
    return "Give each document a record of its own"


def _get_tokenizer(
    saved: "PreTrainedTokenizerFast | None", corpus: Corpus, held_out_below: int, settings: PrepareSettings
) -> "PreTrainedTokenizerFast":
    if saved is not None:
        return _trim(saved, corpus, held_out_below, settings) if settings.trim else saved
    with Meter("Training the tokenizer: reading", corpus.bytes or None) as meter:

        def texts() -> Iterator[str]:
            for document in _sample(corpus, held_out_below, meter):
                yield document.text
            meter.set(corpus.bytes, "merging")

        learn = partial(train, texts(), settings.train_tokenizer, settings.vocab_size, settings.normalise)
        return tokenizers_.wrap(interruptible(learn))


def _load(tokenizer: Path) -> "PreTrainedTokenizerFast":
    from transformers import PreTrainedTokenizerFast

    if tokenizer.is_file():
        return load_bare(tokenizer)
    found = hub.find(str(tokenizer), hub.TOKENIZER_FILES, "--tokenizer")
    if found.commit is not None:
        say(f"tokenizer: {found}")
    loaded, file = tokenizers_.load(found.folder), found.folder / "tokenizer.json"
    is_its_file = type(loaded) is PreTrainedTokenizerFast or not file.is_file()
    if not is_its_file and (text := differs_from_file(loaded.backend_tokenizer, found.folder)):
        say(
            f"{found.name} is read as transformers reads it, as a {type(loaded).__name__}, which makes other tokens of "
            f"{text[:40]!r}, for example, than its tokenizer.json. If the encoder was trained with those of the file, "
            f"take --tokenizer {file}"
        )
    return loaded


def _trim(
    saved: "PreTrainedTokenizerFast", corpus: Corpus, held_out_below: int, settings: PrepareSettings
) -> "PreTrainedTokenizerFast":
    with Meter("Counting what is used of the tokenizer", corpus.bytes or None) as meter:
        documents = _sample(corpus, held_out_below, meter)
        uses_V = count_uses(documents, saved.backend_tokenizer, settings.workers)
        meter.set(corpus.bytes)
    trimmed = trim(saved, uses_V, settings.trim_to)
    kept = [uses_V[old] for old in saved.convert_tokens_to_ids(list(trimmed.get_vocab()))]
    say(
        f"trimmed: {len(trimmed):,} of the tokenizer's {len(saved):,} entries stay, which are "
        f"{sum(kept) / max(uses_V.sum(), 1):.2%} of the tokens looked at"
    )
    return trimmed


def _sample(corpus: Corpus, held_out_below: int, meter: Meter) -> Iterator[Document]:
    """Yield what a tokenizer is made from: a share of the kept training documents, without marks of words.

    The share is estimated from the sizes of files. Where far less text comes, because filters or a slice leave little,
    or much of a file is not text, the corpus is read once more for the rest.
    """
    share, before, left = _share(sum(map(_text_bytes, corpus.sources))), 0.0, TOKENIZER_SAMPLE_BYTES
    is_unsized = [source.rows is not None and not source.rows.size for source in corpus.sources]
    marked = corpus.settings.marked_words
    while True:
        kept = 0
        for document, hashed in _hashed(corpus.documents(corpus.uncounted(), meter.advance)):
            if document.key < held_out_below:
                continue
            size = len(document.text.encode())
            kept += size
            if not before <= hashed < share:
                continue
            left -= size if is_unsized[document.source] else 0
            if left < 0:
                say("the tokenizer is made for the beginning of a data set that does not tell its size")
                return
            yield document._replace(text=document.text.replace(WORD_MARK, "")) if marked else document
        before, share = share, _share(kept)
        if share < 2 * before:
            return
        say(
            "much of the input is no text that is kept: it is read again for the tokenizer, which takes more of what is"
        )
        meter.set(0)


def _share(size: int) -> float:
    return min(1.0, TOKENIZER_SAMPLE_BYTES / max(size, 1))


def _hashed(documents: Iterator[Document]) -> Iterator[tuple[Document, float]]:
    """Yield each document, or part of one, with a number from 0 to 1. A long document may be half the corpus."""
    part = 0
    for document in documents:
        part = 0 if document.begins else part + 1
        yield document, (document.key + part * PARTS_APART) % 2**32 / 2**32


def _text_bytes(source: Source) -> int:
    """Return about how much text a source holds, in bytes, by its size."""
    known = (source.rows.size or 0) if source.rows else 0
    return known + sum(map(text_bytes, source.files))
