"""Counts of what was read from the inputs."""

from dataclasses import dataclass, field, fields

from masklater.corpus.lines import Oddities


@dataclass
class ReadCounts:
    """Counts of what was read, and of what was changed or left out."""

    files: int = 0
    bytes: int = 0  # on disk: compressed where the file is
    documents: int = 0
    characters: int = 0
    empty: int = 0  # documents without text, left out
    null: int = 0  # records whose text is null, left out where the user asks for it
    filtered: int = 0  # records that a filter leaves out
    redirects: int = 0  # pages of a MediaWiki dump that only point to another one, left out
    other_namespaces: int = 0  # pages of a MediaWiki dump that are not articles, left out
    invalid_lines: int = 0  # lines with bytes that are not valid in the encoding, each byte replaced by U+FFFD
    half_pairs: int = 0  # JSON strings with half of a surrogate pair, replaced by U+FFFD
    nul: int = 0  # NUL characters removed
    bom: int = 0  # byte-order marks removed
    cut: int = 0  # documents longer than MAX_DOCUMENT_CHARS, passed on in parts

    def add(self, odd: Oddities) -> None:
        """Add the oddities of a file that has been read."""
        self.invalid_lines += odd.invalid_lines
        self.nul += odd.nul
        self.bom += odd.bom


def total(counts: list[ReadCounts]) -> ReadCounts:
    """Return the sum of several counts."""
    names = [one.name for one in fields(ReadCounts)]
    return ReadCounts(**{name: sum(getattr(one, name) for one in counts) for name in names})


@dataclass
class SourceTally:
    """What was read from one source, and what it became."""

    source: int  # its number
    read: ReadCounts = field(default_factory=ReadCounts)
    documents: int = 0  # this and what follows: of documents that are kept
    characters: int = 0
    word_marks: int = 0  # in the text, where words are marked
    tokens: int = 0
    unknown: int = 0  # tokens that stand for text the tokenizer does not know


def tally_of(source: int, tallies: list[SourceTally]) -> SourceTally:
    """Return the sum of the tallies of one source."""
    of_it = [tally for tally in tallies if tally.source == source]
    names = ("documents", "characters", "word_marks", "tokens", "unknown")
    sums = {name: sum(getattr(tally, name) for tally in of_it) for name in names}
    return SourceTally(source, total([tally.read for tally in of_it]), **sums)
