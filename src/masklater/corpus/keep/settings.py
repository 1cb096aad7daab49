"""The settings of what is kept of a corpus; by default everything is (no heavy imports)."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, get_args

from masklater.errors import UserError
from masklater.folders import refuse_existing

Duplicates = Literal["exact", "near", "lines"]
DUPLICATES: tuple[Duplicates, ...] = get_args(Duplicates)


def parse_duplicates(texts: list[str]) -> tuple[Duplicates, ...]:
    """Read the values of `--dedup`, given once or several times, with commas between.

    Raises:
        UserError: One of them is unknown.
    """
    names = [name.strip() for text in texts for name in text.split(",")]
    if unknown := [name for name in names if name not in DUPLICATES]:
        raise UserError(f"--dedup {', '.join(unknown)}: not known", f"Known: {', '.join(DUPLICATES)}.")
    return tuple(name for name in DUPLICATES if name in names)


def parse_slice(text: str) -> tuple[float, float]:
    """Read the value of `--slice`, such as 0.2:1.

    Raises:
        UserError: It is not a part of 0 to 1.
    """
    begin, _, end = text.partition(":")
    try:
        if not 0 <= float(begin) < float(end) <= 1:
            raise ValueError
    except ValueError:
        raise UserError(
            f"--slice {text}: it is a part of all documents, from 0 to 1", "For example 0:0.2, and 0.2:1 for the rest."
        ) from None
    return float(begin), float(end)


@dataclass(frozen=True)
class KeepSettings:
    """The settings that decide which documents are kept, and which lines are removed from them."""

    dedup: tuple[Duplicates, ...] = ()
    near_threshold: float = 0.8  # Jaccard similarity of runs of five words from which documents are near duplicates
    line_documents: int = 10  # documents that may contain a line, where lines are looked at
    min_characters: int = 0
    max_characters: int | None = None
    min_letters: float = 0.0  # share of the characters that are not white space
    drop_repetitive: bool = False  # by Gopher's rules
    languages: tuple[str, ...] = ()  # ISO 639-1; empty: all
    without: tuple[Path, ...] = ()  # evaluation files whose text must not be trained on
    of_documents: tuple[float, float] = (0.0, 1.0)  # keep those whose hash, as a share of all hashes, is in this range
    dropped: Path | None = None  # a file for samples of what is left out

    @property
    def asks_for_anything(self) -> bool:
        """Whether any document or line may be left out."""
        return self != KeepSettings(dropped=self.dropped, near_threshold=self.near_threshold,
                                    line_documents=self.line_documents)  # fmt: skip

    def describe(self) -> str:
        """Return the settings that leave something out, in one line."""
        everything = KeepSettings()
        return ", ".join(
            f"{one.name}={getattr(self, one.name)}"
            for one in fields(self)
            if one.name != "dropped" and getattr(self, one.name) != getattr(everything, one.name)
        )

    def check(self, out: Path) -> None:
        """Raise UserError where settings contradict each other, or the file for samples cannot be written.

        Args:
            out: The folder that is made; the samples may not be written into it.
        """
        if self.dropped is not None and not self.asks_for_anything:
            raise UserError(
                "--dropped names a file for what is left out, and nothing is asked to be left out",
                "Add --dedup, --without or a filter, or leave --dropped away.",
            )
        if self.max_characters is not None and self.max_characters < self.min_characters:
            raise UserError(
                f"--max-characters {self.max_characters} is below --min-characters {self.min_characters}",
                "No document is both that long and that short.",
            )
        if self.dropped is None:
            return
        if self.dropped.is_dir():
            raise UserError(f"--dropped {self.dropped} is a folder", "Name a file in it.")
        refuse_existing(self.dropped)
        if self.dropped.absolute().is_relative_to(out.absolute()):
            raise UserError(
                f"--dropped {self.dropped} is inside {out}, which is made as a whole and holds rows alone",
                "Name a file beside it.",
            )
