"""The files that are read, and a count of those beside them that are not: nothing is passed over in silence."""

import os
from collections import Counter
from pathlib import Path

from masklater.errors import UserError

TEXT_ENDINGS = (".txt", ".txt.gz")
JSONL_ENDINGS = (".jsonl", ".jsonl.gz")
ENDINGS = TEXT_ENDINGS + JSONL_ENDINGS
COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst", ".lz4", ".zip", ".7z")
"""Endings that follow the one that tells what a file holds."""
ENDINGS_SHOWN = 8

HIDDEN, LINKED_FOLDERS, BROKEN_LINKS, NO_FILES, NO_ENDING = (
    "hidden", "linked folders (named as inputs they are read)", "broken links", "pipes and devices", "without an ending"
)  # fmt: skip


def find_files(inputs: list[Path], passed_over: Counter[str] | None = None) -> list[Path]:
    """Find all text files among the inputs and, sorted, inside their folders; one that is named twice is there twice.

    Endings are matched without regard to case. Links to files are followed, links to folders are not.

    Args:
        inputs: Files and folders.
        passed_over: Counts, by ending or kind, of what the folders hold beside; updated.

    Raises:
        UserError: An input is missing, is no file, has an ending that is not read, or is a folder without text.
    """
    passed_over = Counter() if passed_over is None else passed_over
    files: list[Path] = []
    for path in inputs:
        if path.is_dir():
            others: Counter[str] = Counter()
            found = _inside(path, others)
            if not found:
                beside = f"; it holds: {describe(others)}" if others else ""
                raise UserError(
                    f"the folder {path} holds no text: no file in it ends in {', '.join(ENDINGS)}{beside}",
                    "Name another folder, or rename the files to one of these endings.",
                )
            files += found
            passed_over.update(others)
        else:
            files.append(_checked(path))
    return files


def is_jsonl(path: Path) -> bool:
    """Tell by its name whether a file is read as JSON lines."""
    return path.name.lower().endswith(JSONL_ENDINGS)


def is_gzipped(path: Path) -> bool:
    """Tell by its name whether a file is unpacked."""
    return path.name.lower().endswith(".gz")


def describe(numbers: Counter[str]) -> str:
    """Endings and kinds with their numbers, the most frequent first: `3 .csv, 1 .txt.bz2, 1 hidden`."""
    ranked = sorted(numbers.items(), key=lambda item: (-item[1], item[0]))
    shown = [f"{number:,} {what}" for what, number in ranked[:ENDINGS_SHOWN]]
    rest = sum(number for _, number in ranked[ENDINGS_SHOWN:])
    return ", ".join([*shown, f"{rest:,} with other endings"] if rest else shown)


def repeated(files: list[Path]) -> dict[str, int]:
    """Files that are read more than once, under one name or several, with how often."""
    names: dict[tuple[int, int], list[str]] = {}
    for path in files:
        status = path.stat()
        names.setdefault((status.st_dev, status.st_ino), []).append(str(path))
    return {" = ".join(dict.fromkeys(same)): len(same) for same in names.values() if len(same) > 1}


def _inside(folder: Path, others: Counter[str]) -> list[Path]:
    """The text files inside a folder; what else is there is counted."""

    def fail(error: OSError) -> None:
        raise UserError(
            f"the folder {error.filename} cannot be read: {error.strerror}", "Check its permissions."
        ) from None

    found: list[Path] = []
    for top, folders, names in os.walk(folder, onerror=fail):
        others[HIDDEN] += sum(name.startswith(".") for name in (*folders, *names))
        folders[:] = [name for name in folders if not name.startswith(".")]
        others[LINKED_FOLDERS] += sum(Path(top, name).is_symlink() for name in folders)
        for path in (Path(top, name) for name in names if not name.startswith(".")):
            if not path.is_file():
                others[BROKEN_LINKS if not path.exists() else NO_FILES] += 1
            elif path.name.lower().endswith(ENDINGS):
                found.append(path)
            else:
                others[_ending(path)] += 1
    for what in [what for what, number in others.items() if not number]:
        del others[what]
    return sorted(found)


def _ending(path: Path) -> str:
    """`.csv`, or `.csv.bz2` with its compression."""
    stem, last = os.path.splitext(path.name.lower())  # noqa: PTH122 - no Path of its own
    return (os.path.splitext(stem)[1] if last in COMPRESSIONS else "") + last or NO_ENDING  # noqa: PTH122


def _checked(path: Path) -> Path:
    """A file that was named itself."""
    is_handle = str(path) == "-" or str(path).startswith(("/dev/stdin", "/dev/fd/", "/proc/"))
    if is_handle or (path.exists() and not path.is_file()):
        if path.is_fifo():  # whoever writes into it waits until somebody opens it
            os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
        raise UserError(
            f"{path} is no file on disk: text is read several times (to choose what is held out, to train the "
            "tokenizer, to write rows), and a pipe can be read once",
            "Write it to a file first (zstdcat text.jsonl.zst > text.jsonl), or name the file itself.",
        )
    if not path.exists():
        raise UserError(f"there is no file or folder {path}", "Check the path.")
    if not path.name.lower().endswith(ENDINGS):
        raise UserError(
            f"{path} does not end in {', '.join(ENDINGS)}", "Rename it by its content: plain text or JSON lines."
        )
    return path
