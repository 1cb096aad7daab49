"""The files that are read, and a count of the files next to them that are not: nothing is skipped silently."""

import glob
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from operator import contains
from pathlib import Path

from masklater.console import say
from masklater.corpus.data_set_folder import (
    CARD,
    INFO,
    NO_ROWS,
    SPLITS,
    has_card,
    has_no_rows,
    refuse_several_splits,
    refuse_splits_by_name,
)
from masklater.corpus.elsewhere import ElsewhereFile, named_parts, read_file_as
from masklater.corpus.made_of_text import MADE_OF_TEXT, is_made_of_text
from masklater.corpus.parts.file_range import FileRange
from masklater.corpus.readers import ENDINGS_SAID, ending_of, ending_shown, remedy_for
from masklater.errors import UserError

ENDINGS_SHOWN = 8

HIDDEN, LINKED_FOLDERS, BROKEN_LINKS, NO_FILES = (
    "hidden", "linked folders (named as inputs they are read)", "broken links", "pipes and devices"
)  # fmt: skip

READ_AS = "Say what other endings are: --read-as txt for plain text, source code too, --read-as jsonl for JSON lines."


def find_files(inputs: list[Path], passed_over: Counter[str] | None = None, otherwise: str | None = None) -> list[Path]:
    """Find all text files among the inputs and, sorted, inside their folders. A file named twice is listed twice.

    Endings are matched without regard to case. Links to files are followed, links to folders are not.

    Args:
        inputs: Files and folders.
        passed_over: Counts, by ending or kind, the files in the folders that are not read; updated.
        otherwise: The advice about files of other endings; None: the advice for inputs of `prepare`.

    Raises:
        UserError: An input is missing, is not a file, has an ending that is not read, or is a folder that holds no text
            or was itself made of text.
    """
    passed_over = Counter() if passed_over is None else passed_over
    files: list[Path] = []
    for path in inputs:
        if path.is_dir():
            if _is_made_of_text(path):
                raise UserError(f"{path} is no corpus: it is one of the {MADE_OF_TEXT}", "Name a folder of text.")
            others: Counter[str] = Counter()
            found = _inside(path, others)
            if not found:
                beside = f"; it holds: {describe(others)}" if others else ""
                remedy = otherwise or f"Name another, or files by a pattern, '{path}/**/*'. {READ_AS}"
                raise UserError(
                    f"the folder {path} holds no text: no file in it ends in {ENDINGS_SAID}{beside}",
                    remedy_for(most_frequent(others), remedy),
                )
            files += found
            passed_over.update(others)
        else:
            files.append(_checked(path, otherwise or READ_AS))
    return files


def find_matching(
    pattern: str, passed_over: Counter[str] | None = None, read_as: str | None = None
) -> list[Path | ElsewhereFile]:
    """Find what a pattern with `*`, `?`, `[...]` or `**` matches, sorted, and search the folders among the matches.

    Links to folders are followed as a shell does: not from the first wildcard on, if one of the wildcards is `**`.

    Args:
        pattern: The pattern, as a shell would expand it.
        passed_over: Counts, by ending or kind, the matches that are not read; updated.
        read_as: The ending by which matches of unknown endings are read; None: they are passed over.

    Raises:
        UserError: Nothing that is read matches.
    """
    passed_over = Counter() if passed_over is None else passed_over
    others: Counter[str] = Counter()
    files: list[Path | ElsewhereFile] = []
    parts = Path(pattern).parts
    named = Path(*named_parts(parts))
    is_deep, links = "**" in parts, set[Path]()
    matching = sorted(_matching(parts, links), key=str)
    reasons = dict.fromkeys(links, LINKED_FOLDERS)  # by folder: why its files are not read; empty: they are
    for path in matching:
        above = [parent for parent in path.parents if parent != named and parent.is_relative_to(named)]
        reasons.update((parent, _not_entered(parent, is_deep)) for parent in above if parent not in reasons)
        if any(reasons[parent] for parent in above):
            continue
        if path.is_dir():
            if not is_deep:  # a double star has matched inside already
                files += _inside(path, others)
            elif path.is_symlink():
                reasons[path] = LINKED_FOLDERS
        elif not path.is_file():
            others[BROKEN_LINKS if not path.exists() else NO_FILES] += 1
        elif has_no_rows(path.name, path.with_name(INFO).is_file):
            others[NO_ROWS] += 1
        elif ending_of(path.name):
            files.append(path)
        elif read_as:
            files.append(read_file_as(path, read_as))
        else:
            others[ending_shown(path.name)] += 1
    inner = {one for one in reasons if any(reasons.get(above) for above in one.parents)}
    others.update(reason for one, reason in reasons.items() if reason and one not in inner)
    if not files:
        beside = f"; it matches: {describe(others)}" if others else ""
        otherwise = f"Check the pattern. {READ_AS}" if others else "Check the pattern."
        if set(others) == {LINKED_FOLDERS}:
            otherwise = "Name the linked folders themselves, or write their names out in the pattern."
        raise UserError(
            f"{pattern} matches no text: no file that ends in {ENDINGS_SAID}{beside}",
            remedy_for(most_frequent(others), otherwise),
        )
    passed_over.update(others)
    return files


def _matching(parts: Sequence[str], links: set[Path]) -> set[Path]:
    """Return what a pattern matches, as `glob` does, except that `**` matches no linked folder and nothing inside one.

    Where links lead back to a folder above them, `glob` finds the same files again and again; with two such links it
    never ends.

    Args:
        parts: The parts of the pattern.
        links: The linked folders that were not searched; updated.
    """
    if "**" not in parts:
        return {Path(path) for path in glob.glob(str(Path(*parts)))}  # noqa: PTH207 - Path.glob refuses absolute ones
    place = parts.index("**")
    behind = parts[place + 1 :] or ("*",)
    found: set[Path] = set()
    for top in _matching(parts[:place], links):
        for folder, folders, _ in os.walk(top):
            folders[:] = [name for name in folders if not name.startswith(".")]
            links.update(Path(folder, name) for name in folders if Path(folder, name).is_symlink())
            found |= _matching((glob.escape(folder), *behind), links)
    return found


def most_frequent(numbers: Counter[str]) -> str:
    """Return the most frequent ending or kind; empty where there is none."""
    return numbers.most_common(1)[0][0] if numbers else ""


def describe(numbers: Counter[str]) -> str:
    """Return endings and kinds with their numbers, the most frequent first: `3 .csv, 1 .txt.bz2, 1 hidden`."""
    ranked = sorted(numbers.items(), key=lambda item: (-item[1], item[0]))
    shown = [f"{number:,} {what}" for what, number in ranked[:ENDINGS_SHOWN]]
    rest = sum(number for _, number in ranked[ENDINGS_SHOWN:])
    return ", ".join([*shown, f"{rest:,} with other endings"] if rest else shown)


def say_kinds(names: Iterable[str], passed_over: Counter[str], of: str = "") -> None:
    """Say what kinds of files there are, if several, and which files next to them are not read.

    Args:
        names: The files' names.
        passed_over: The numbers of files that are not read, by ending or kind.
        of: The beginning of each line.
    """
    kinds = Counter("".join(ending_of(name) or "") for name in names)
    if len(kinds) > 1:
        say(f"{of}reading: {describe(kinds)}")
    if passed_over:
        say(f"{of}not read: {describe(passed_over)} (text ends in {ENDINGS_SAID})")


def repeated(files: Sequence[Path | ElsewhereFile | FileRange]) -> dict[str, int]:
    """Return the files that are read more than once, under one name or several, with how often."""
    names: dict[object, list[str]] = {}
    for file in files:
        path = file.path if isinstance(file, ElsewhereFile) else file
        status = path.stat() if isinstance(path, Path) else None
        names.setdefault((status.st_dev, status.st_ino) if status else str(file), []).append(str(file))
    return {" = ".join(dict.fromkeys(same)): len(same) for same in names.values() if len(same) > 1}


def _inside(folder: Path, others: Counter[str]) -> list[Path]:
    """Return the text files inside a folder; count what else it holds.

    Folders that were made of text are not read: when `.` is prepared a second time, it holds SHARDS, runs and encoders.
    """

    def fail(error: OSError) -> None:
        raise UserError(
            f"the folder {error.filename} cannot be read: {error.strerror}", "Check its permissions."
        ) from None

    found: list[Path] = []
    copies: list[Path] = []  # of repositories of the hub
    for top, folders, names in os.walk(folder, onerror=fail):
        if _is_made_of_text(Path(top)):
            others[MADE_OF_TEXT] += 1
            folders.clear()
            continue
        others[HIDDEN] += sum(name.startswith(".") for name in (*folders, *names))
        folders[:] = [name for name in folders if not name.startswith(".")]
        if SPLITS in names:
            refuse_several_splits(top, [name for name in folders if Path(top, name, INFO).is_file()])
        if CARD in names and has_card(Path(top)):
            copies.append(Path(top))
        others[LINKED_FOLDERS] += sum(Path(top, name).is_symlink() for name in folders)
        for path in (Path(top, name) for name in names if not name.startswith(".")):
            if not path.is_file():
                others[BROKEN_LINKS if not path.exists() else NO_FILES] += 1
            elif has_no_rows(path.name, partial(contains, names, INFO)) or (
                path.name == CARD and path.parent in copies
            ):
                others[NO_ROWS] += 1
            elif ending_of(path.name):
                found.append(path)
            else:
                others[ending_shown(path.name)] += 1
    for what in [what for what, number in others.items() if not number]:
        del others[what]
    for copy in copies:
        refuse_splits_by_name(copy, [path for path in found if path.is_relative_to(copy)])
    return sorted(found)


def _not_entered(folder: Path, is_deep: bool) -> str:
    """Return why the files in a folder that a pattern matches (perhaps by `**`) are not read; empty where they are."""
    if is_deep and folder.is_symlink():
        return LINKED_FOLDERS
    return MADE_OF_TEXT if _is_made_of_text(folder) else ""


def _is_made_of_text(folder: Path) -> bool:
    return is_made_of_text(folder.name, lambda name: (folder / name).is_file())


def _checked(path: Path, otherwise: str) -> Path:
    """Return a file that the user named, after a check that it can be read."""
    is_handle = str(path) == "-" or str(path).startswith(("/dev/stdin", "/dev/fd/", "/proc/"))
    if is_handle or (path.exists() and not path.is_file()):
        if path.is_fifo():  # a writer of a pipe waits until somebody opens it
            os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
        raise UserError(
            f"{path} is no file on disk: text is read several times (to choose what is held out, to train the "
            "tokenizer, to write rows), and a pipe can be read once",
            "Write it to a file first (zstdcat text.jsonl.zst > text.jsonl), name the file itself, or pipe into "
            "`prepare -`, which keeps a copy while it works.",
        )
    if not path.exists():
        raise UserError(f"there is no file or folder {path}", "Check the path.")
    if not ending_of(path.name):
        raise UserError(f"{path} does not end in {ENDINGS_SAID}", remedy_for(path.name, otherwise))
    return path
