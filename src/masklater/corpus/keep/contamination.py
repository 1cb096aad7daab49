"""Documents that share runs of words with evaluation sets; after training on them, scores would measure memory."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from masklater.corpus.counts import ReadCounts
from masklater.corpus.fields import AllFields
from masklater.corpus.files import find_files, say_kinds
from masklater.corpus.keep.tokens import hashes_of, run_hashes, words_of
from masklater.corpus.lines import EncodingError
from masklater.corpus.read import open_file
from masklater.errors import UserError

RUN, SHORTEST_RUN = 13, 8
"""RUN: words in a row that a document may not share with an evaluation set. SHORTEST_RUN: a shorter text is compared
whole, if it has at least this many words."""
OTHERWISE = "Name a copy of it by what it holds: .txt for lines, .tsv for cells between tabs, .jsonl for JSON lines."
"""The advice about a file of another ending."""
IN_UTF_8 = "Make it UTF-8 first, with iconv; --encoding is that of the text that is prepared."


class EvaluationRuns:
    """The runs of words in evaluation files, by their hashes.

    Args:
        paths: Files that one of the text readers takes, or folders of such files. Every string in a record, every cell
            of a table and every line is a text.

    Raises:
        UserError: A path is not there, cannot be read whole, or holds no text long enough to be found again.
    """

    def __init__(self, paths: tuple[Path, ...]) -> None:
        found: dict[int, list[NDArray[np.uint64]]] = {}
        for path in paths:
            before = sum(map(len, found.values()))
            try:
                for file in _files_of(path):
                    for text in _texts_of(file):
                        hashes_W = hashes_of(words_of(text))
                        length = min(RUN, len(hashes_W))
                        if length >= SHORTEST_RUN:
                            found.setdefault(length, []).append(run_hashes(hashes_W, length))
            except UserError as error:
                remedy = IN_UTF_8 if isinstance(error, EncodingError) else error.remedy
                raise UserError(f"--without: {error.problem}", remedy) from None
            if sum(map(len, found.values())) == before:
                raise UserError(
                    f"--without {path} holds no text of {SHORTEST_RUN} words or more",
                    "Name files of an evaluation set: .jsonl, .tsv, .csv or .txt.",
                )
        self.by_length = {length: np.unique(np.concatenate(runs)) for length, runs in found.items()}

    def share_with(self, text: str) -> bool:
        """Tell whether a text contains one of the runs."""
        return self.are_in(words_of(text))

    def are_in(self, words: list[str]) -> bool:
        """Tell whether one of the runs occurs in a sequence of words."""
        hashes_W = hashes_of(words)
        for length, known_N in self.by_length.items():
            runs_P = run_hashes(hashes_W, length)
            place = np.searchsorted(known_N, runs_P).clip(max=len(known_N) - 1)
            if (known_N[place] == runs_P).any():
                return True
        return False


class EvaluationSearch:
    """The search for these runs in documents that come in parts, also across the borders of parts."""

    def __init__(self, runs: EvaluationRuns) -> None:
        self.runs = runs
        self.last_words: list[str] = []  # of the document so far, RUN of them at most

    def finds_in(self, text: str, begins: bool) -> bool:
        """Tell whether a run ends in the next part of a document.

        Args:
            text: The part.
            begins: Whether it is the first part of the document.
        """
        words = words_of(text)
        before = [] if begins else self.last_words
        in_a_row = [*before, *words]
        self.last_words = in_a_row[-RUN:]
        if self.runs.are_in(in_a_row):
            return True
        if not before or not words:
            return False
        cut_word = before[-1] + words[0]  # in a long text without white space, the border may be inside a word
        return self.runs.are_in([*before[:-1], cut_word, *words[1:RUN]])


def _files_of(path: Path) -> list[Path]:
    """Return the evaluation files of a path; report their kinds, if several, and which files are not read."""
    beside: Counter[str] = Counter()
    files = find_files([path], beside, OTHERWISE)
    say_kinds((file.name for file in files), beside, f"--without {path}, ")
    return files


def _texts_of(file: Path) -> Iterator[str]:
    """Yield every string of a record, nested ones too; of plain text, every line, split at tabs."""
    with open_file(file, None, AllFields(), ReadCounts()) as (reader, opened):
        if reader.records is None:
            for line in opened.lines(cut=True):
                yield from line.split("\t")
        else:
            for _, record in reader.records(opened):
                yield from _strings_in(record)
        if opened.text and opened.text.odd.invalid_lines:  # a word with such a byte would not be found in a document
            place = f"{file}, line {opened.text.odd.first_invalid}"
            raise EncodingError(f"{place}: bytes that are not {opened.text.encoding}")


def _strings_in(tree: Any) -> Iterator[str]:
    if isinstance(tree, str):
        yield tree
    elif isinstance(tree, bytes):  # text in a binary column; images do not decode
        with suppress(UnicodeDecodeError):
            yield tree.decode("utf-8")
    elif isinstance(tree, Mapping):
        for value in tree.values():
            yield from _strings_in(value)
    elif isinstance(tree, list | tuple):
        for value in tree:
            yield from _strings_in(value)
