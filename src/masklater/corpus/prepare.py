"""From text to SHARDS: find the sources, cut them into parts, inspect the whole, make the parts, put them together.

The inputs and the settings alone decide the content of SHARDS, on any number of processes or machines.
"""

import shutil
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from masklater.console import say
from masklater.corpus import tokenizer as tokenizers_
from masklater.corpus.counts import ReadCounts, SourceTally, tally_of, total
from masklater.corpus.index import SPLITS, SourceEntry, SplitEntry, joined, make_index
from masklater.corpus.inputs import check_unchanged, file_states, find_sources, say_what_is_read
from masklater.corpus.join import link_shards
from masklater.corpus.keep.kept import Samples
from masklater.corpus.lines import check_encoding
from masklater.corpus.parts.cut import cut
from masklater.corpus.parts.engines import Made, make_parts
from masklater.corpus.parts.folder import parts_folder
from masklater.corpus.parts.make import Common, PartResult, PartRows
from masklater.corpus.parts.work import Task, tasks_of
from masklater.corpus.read import Source
from masklater.corpus.settings import PrepareSettings
from masklater.corpus.train import check
from masklater.corpus.unknown import check_unknown
from masklater.corpus.whole import Corpus, LookedAt, look_at, no_text
from masklater.folders import complete_folder, refuse_existing


@dataclass(frozen=True)
class PreparedRows:
    """Counts of the rows of one length."""

    row_length: int
    out: str  # the SHARDS folder they are in
    train_rows: int
    valid_rows: int
    tokens: int
    left_out_tokens: int  # at the end of a part's splits, less than one row each (continuous)
    real_share: float  # share of all positions that hold a token of a document


@dataclass(frozen=True)
class PrepareResult:
    """Counts of what was read and written, and the time it took."""

    out: str
    vocabulary: int
    train_rows: int  # counts of rows are those of the first row length
    valid_rows: int
    tokens: int
    unknown_tokens: int  # of all tokens read: those that stand for text the tokenizer does not know
    unknown_share: float
    word_marks: int  # removed from the text, where words are marked
    left_out_tokens: int
    real_share: float
    row_lengths: list[PreparedRows]  # one entry per row length
    parts: int  # that the inputs were cut into
    parts_taken_over: int  # those of them that an earlier try finished
    seconds: float
    tokenizer_seconds: float  # part of it: all work before the parts, mostly training the tokenizer
    tokens_per_second: float  # of the parts made now
    peak_memory_bytes: int  # of the largest process
    read: ReadCounts
    dropped: dict[str, int]  # documents left out, by reason
    removed_lines: int  # from documents that are kept
    sources: list[dict[str, Any]]  # for each input as it was given: documents, characters, tokens
    passed_over: dict[str, int]  # files in the input folders that are not read, by ending or kind
    repeated: dict[str, int]  # files that were read more than once, with how often


def prepare(
    inputs: Sequence[str | Path], out: Path, settings: PrepareSettings, resume: bool = False, ray: str | None = None
) -> PrepareResult:
    """Read text and write SHARDS.

    Args:
        inputs: Files, folders, patterns, `-`, addresses for fsspec, `hf:` data sets.
        out: The folder to make. Until it is complete, finished parts are kept next to it, in `OUT.parts`.
        settings: The settings of the SHARDS.
        resume: Whether to reuse what an earlier try finished.
        ray: The address of a Ray cluster to make the parts on, or `auto`; None: processes of this machine.

    Raises:
        UserError: An input, the tokenizer or the output folder is unusable. A corpus of one part leaves nothing behind;
            a larger one leaves its finished parts.
    """
    began = time.monotonic()
    refuse_existing(out)
    settings.keep.check(out)
    if settings.encoding is not None:
        check_encoding(settings.encoding)
    if settings.tokenizer is None:
        check(settings.train_tokenizer, settings.vocab_size, settings.normalise)
    passed_over: Counter[str] = Counter()
    sources = find_sources(inputs, settings, passed_over)
    twice, states = say_what_is_read(sources, passed_over), file_states(sources)
    parts = cut(sources, settings.part_bytes)
    with parts_folder(out, resume, keep=len(parts) > 1) as place:
        looked_at = look_at(Corpus(sources, parts, settings), place, out, len(parts) > 1, ray)
        common = _common(looked_at, sources, settings, place, out)
        tasks = tasks_of(parts, common, [looked_at.reasons_of(part.number) for part in parts])
        began_parts = time.monotonic()
        made = make_parts(tasks, common, ray)
        ended_parts = time.monotonic()
        check_unchanged(sources, states)
        together = _Together(sources, looked_at, made)
        _write(out, together, tasks, common, looked_at)
    rows = together.prepared_rows(out)
    first = rows[0]
    return PrepareResult(
        out=str(out),
        vocabulary=common.vocabulary.size,
        train_rows=first.train_rows,
        valid_rows=first.valid_rows,
        tokens=first.tokens,
        unknown_tokens=together.unknown,
        unknown_share=together.unknown / together.read_tokens,
        word_marks=together.word_marks,
        left_out_tokens=first.left_out_tokens,
        real_share=first.real_share,
        row_lengths=rows,
        parts=len(parts),
        parts_taken_over=made.taken_over,
        seconds=time.monotonic() - began,
        tokenizer_seconds=began_parts - began,
        tokens_per_second=made.new_tokens / (ended_parts - began_parts),
        peak_memory_bytes=max(looked_at.peak_memory_bytes, made.peak_memory_bytes),
        read=together.counts,
        dropped=together.dropped,
        removed_lines=together.samples.lines,
        sources=[entry.model_dump() for entry in together.entries],
        passed_over=dict(passed_over),
        repeated=twice,
    )


def _common(looked_at: LookedAt, sources: list[Source], settings: PrepareSettings, place: Path, out: Path) -> Common:
    tokenizer = looked_at.tokenizer
    vocabulary = tokenizers_.vocabulary(tokenizer)
    if gaps := vocabulary.size - len(tokenizer):
        say(f"{gaps:,} of the {vocabulary.size:,} ids have no entry, as where an entry stands in a vocabulary twice")
    return Common(
        tokenizer=looked_at.written,
        vocabulary=vocabulary,
        unknown_id=tokenizers_.unknown_id(tokenizer),
        held_out_below=looked_at.held_out_below,
        lines_N=looked_at.lines_N,
        source_names=tuple(source.name for source in sources),
        settings=settings,
        place=place,
        out=out,
    )


class _Joined:
    """The rows of one length of all parts."""

    def __init__(self, parts: list[PartRows]) -> None:
        self.row_length, self.parts = parts[0].row_length, parts
        self.train, self.valid = (joined([getattr(one, split) for one in parts], split) for split in SPLITS)


class _Together:
    """The counts of all parts together.

    Raises:
        UserError: There is nothing to train on, or more is unknown to the tokenizer than is allowed.
    """

    def __init__(self, sources: list[Source], looked_at: LookedAt, made: Made[PartResult]) -> None:
        all_tallies = [tally for one in made.results for tally in one.sources]
        tallies = [tally_of(source.number, all_tallies) for source in sources]
        self.entries = [_entry(source, tally) for source, tally in zip(sources, tallies, strict=True)]
        self.counts = total([tally.read for tally in tallies])
        self.unknown, self.read_tokens, self.word_marks = (
            sum(getattr(one, what) for one in tallies) for what in ("unknown", "tokens", "word_marks")
        )
        self.dropped = {} if looked_at.kept is None else looked_at.kept.dropped
        self.samples = Samples([source.name for source in sources])
        for one in made.results:
            self.samples.take_over(one.samples, one.removed_lines)
        self.parts = made.results
        self.of_length = [_Joined([one.rows[i] for one in made.results]) for i in range(len(made.results[0].rows))]

    def prepared_rows(self, out: Path) -> list[PreparedRows]:
        """Count the rows of each length."""
        return [
            PreparedRows(
                row_length=rows.row_length,
                out=str(out if len(self.of_length) == 1 else out / f"rows-{rows.row_length}"),
                train_rows=rows.train.rows,
                valid_rows=rows.valid.rows,
                tokens=rows.train.tokens + rows.valid.tokens,
                left_out_tokens=sum(one.left_out_tokens for one in rows.parts),
                real_share=(rows.train.tokens + rows.valid.tokens)
                / ((rows.train.rows + rows.valid.rows) * rows.row_length),
            )
            for rows in self.of_length
        ]

    def check(self, settings: PrepareSettings, unknown_token: str | None) -> None:
        """Raise UserError where there is nothing to train on, or the tokenizer does not know too much of the text."""
        if not self.of_length[0].train.rows:
            raise no_text(self.counts, self.dropped)
        trained_as = None if settings.tokenizer else settings.train_tokenizer
        check_unknown(self.unknown, self.read_tokens, unknown_token, settings.max_unknown, trained_as)

    def record(self, settings: PrepareSettings) -> dict[str, Any]:
        """Return what index.json says of the input."""
        record: dict[str, Any] = {
            **asdict(self.counts),
            "encoding": settings.encoding or "utf-8",
            "unit": settings.documents,
            "valid_fraction": settings.valid_fraction,
            "unknown_tokens": self.unknown,
            "text_field": settings.text_field,
            "filters": " and ".join(settings.filters),
            "sources": self.entries,
        }
        if settings.marked_words:
            record["word_marks"] = self.word_marks
        if len(self.parts) > 1:
            record["parts"] = len(self.parts)
        if settings.keep.asks_for_anything:
            record["keep"] = settings.keep.describe()
            record |= {f"left_out_{reason.replace(' ', '_')}": number for reason, number in self.dropped.items()}
            record["removed_lines"] = self.samples.lines
        return record


def _entry(source: Source, tally: SourceTally) -> SourceEntry:
    return SourceEntry(
        name=source.name,
        revision=source.rows.commit if source.rows else None,
        files=tally.read.files,
        documents=tally.documents,
        characters=tally.characters,
        tokens=tally.tokens,
        tokens_per_document=round(tally.tokens / max(tally.documents, 1), 3),
        unknown_share=round(tally.unknown / max(tally.tokens, 1), 6),
    )


def _write(out: Path, together: _Together, tasks: list[Task], common: Common, looked_at: LookedAt) -> None:
    """Write SHARDS from the folders of the parts."""
    settings = common.settings
    together.check(settings, looked_at.tokenizer.unk_token)
    folders = [common.place / task.name for task in tasks]
    with complete_folder(out) as whole:
        for rows in together.of_length:
            folder = whole if len(together.of_length) == 1 else whole / f"rows-{rows.row_length}"
            folder.mkdir(exist_ok=True)
            for split in SPLITS:
                shards: list[SplitEntry] = [getattr(one, split) for one in rows.parts]
                places = [of_part / str(rows.row_length) for of_part in folders]
                link_shards(zip(places, shards, strict=True), folder, split, shutil.move)
            tokenizers_.copy(common.place / "tokenizer", folder / "tokenizer", rows.row_length)
            index = make_index(
                common.vocabulary, rows.row_length, looked_at.tokenizer_sha256, settings.pack, rows.train, rows.valid,
                together.record(settings), settings.marked_words,
            )  # fmt: skip
            (folder / "index.json").write_text(index.model_dump_json(indent=1), encoding="utf-8")
        if settings.keep.dropped is not None:
            together.samples.write(settings.keep.dropped)
