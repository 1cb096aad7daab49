"""The result of a preparation, as text for a person."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from masklater.console import aligned
from masklater.corpus.files import describe
from masklater.corpus.prepare import PreparedRows, PrepareResult
from masklater.corpus.settings import PrepareSettings, TokenizerKind


def as_text(result: PrepareResult, settings: PrepareSettings) -> str:
    """Return the table for a terminal; counts of 0 have no line."""
    read = result.read
    odd = {
        "empty documents left out": read.empty,
        "records left out whose text is null": read.null,
        "records that --filter leaves out": read.filtered,
        "redirects left out": read.redirects,
        "pages of other namespaces left out": read.other_namespaces,
        "lines with invalid bytes, now \ufffd": read.invalid_lines,
        "half surrogate pairs, now \ufffd": read.half_pairs,
        "NUL characters removed": read.nul,
        "byte-order marks removed": read.bom,
        "long documents passed on in parts": read.cut,
        "tokens left over at the end": result.left_out_tokens if len(result.row_lengths) == 1 else 0,
        **{f"documents left out, {reason}": number for reason, number in result.dropped.items()},
        "lines taken out": result.removed_lines,
    }
    lines = {
        "read": f"{read.documents:,} documents, {read.characters / 1e6:,.1f} M characters in {read.files:,} files",
        **{name: f"{count:,}" for name, count in odd.items() if count},
        **({"not read": describe(Counter(result.passed_over))} if result.passed_over else {}),
        **({"read more than once": f"{len(result.repeated):,} files"} if result.repeated else {}),
        "tokenizer": f"{result.vocabulary:,} entries",
        **({"marks of words": _marks(result.word_marks)} if settings.marked_words else {}),
        **_rows(result.row_lengths),
        "unknown tokens": f"{result.unknown_tokens:,}, {result.unknown_share:.2%} of all that were read",
        **(_sources(result.sources) if len(result.sources) > 1 else {}),
        "speed": f"{result.tokens_per_second:,.0f} tokens/s",
        "peak memory": f"{result.peak_memory_bytes / 2**20:,.0f} MiB",
        **({"parts": f"{result.parts:,}, {result.parts_taken_over:,} of them from before"} if result.parts > 1 else {}),
        "written to": result.out,
    }
    if settings.tokenizer is None:
        lines["tokenizer"] += _why_of_this_size(settings.train_tokenizer, result.vocabulary, settings.vocab_size)
    return aligned([*lines.items()])


def _marks(number: int) -> str:
    return f"{number:,} taken out" if number else "none, no U+200B in the text: spaces alone tell its words apart"


def _rows(row_lengths: Sequence[PreparedRows]) -> dict[str, str]:
    """Return a line for each row length."""
    lines = {}
    for one in row_lengths:
        of = f", {one.row_length} positions" if len(row_lengths) > 1 else ""
        lines[f"rows{of}"] = (
            f"{one.train_rows:,} to train on, {one.valid_rows:,} held out, {one.row_length} positions each"
        )
        lines[f"tokens{of}"] = f"{one.tokens:,}, which fill {one.real_share:.1%} of all positions" + (
            f"; {one.left_out_tokens:,} left over" if of and one.left_out_tokens else ""
        )
    return lines


def _sources(sources: list[dict[str, Any]]) -> dict[str, str]:
    """Return a line for each input as it was given."""
    return {
        f"of {source['name']}": f"{source['documents']:,} documents, {source['characters'] / 1e6:,.1f} M characters, "
        f"{source['tokens']:,} tokens ({source['tokens_per_document']:,.0f} a document, {source['unknown_share']:.2%} "
        "unknown)"
        for source in sources
    }


def _why_of_this_size(kind: TokenizerKind, entries: int, asked: int) -> str:
    """Return why a trained vocabulary has another size than was asked for."""
    if entries < asked and kind == "characters":
        return f" of {asked:,} asked for: the text has no more characters"
    if entries < asked:
        return (
            f" of {asked:,} asked for: each word of the text, number and run of other signs has become one entry, and "
            "nothing is left to merge; more text would give more"
        )
    if entries > asked:
        return f", more than the {asked:,} asked for: each character of the text is one"
    return ""
