"""Files that are not opened by their path: standard input, files that fsspec reaches, files read as another kind."""

import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from operator import contains
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from masklater.console import say
from masklater.corpus.data_set_folder import INFO, NO_ROWS, SPLITS, has_no_rows, refuse_several_splits
from masklater.corpus.made_of_text import MADE_OF_TEXT, is_made_of_text
from masklater.corpus.readers import ENDINGS_SAID, ending_of, ending_shown, remedy_for
from masklater.corpus.unpack import PACKINGS
from masklater.errors import UserError, first_line
from masklater.extras import import_extra

EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs"}
"""The extra that installs what fsspec needs for a protocol; `hf` comes with huggingface_hub."""
MAGIC = (
    (b"\x1f\x8b", ".gz"), (b"BZh", ".bz2"), (b"\xfd7zXZ\0", ".xz"), (b"\x28\xb5\x2f\xfd", ".zst"),
    (b"PAR1", ".parquet"), (b"ARROW1", ".arrow"), (b"\xff\xff\xff\xff", ".arrow"),
)  # fmt: skip
VERSIONS = ("ETag", "etag", "md5Hash", "generation", "blob_id", "mtime", "LastModified", "last_modified", "created")
"""The fields by which file systems tell one content of a file from another, the most reliable first."""
STDIN_SHOWN = "standard input"
_TEXT_BEGINS = {b"{": ".jsonl", b"[": ".json"}
"""The ending that standard input is assumed to have, by its first character."""


@dataclass(frozen=True)
class ElsewhereFile:
    """A file with a name, a size, and a way to open it as often as needed."""

    name: str  # its ending says what the file holds
    shown: str  # what messages call it
    size: int
    opener: Callable[[], BinaryIO]
    version: str | None = None  # identifies the content under this name; None: the file exists only in this run
    is_portable: bool = False  # another process can open it too
    path: Path | None = None  # where it is a file of this machine, which may have other names
    if_not: str = ""  # what to do where the kind of file was guessed, and wrongly

    def __str__(self) -> str:
        return self.shown

    def open(self, mode: str = "rb", buffering: int = -1) -> BinaryIO:
        """Open the file at its beginning, always for bytes."""
        return self.opener()


def check_ending(ending: str) -> None:
    """Raise UserError where the ending given to `--read-as` is not one that is read."""
    if ending_of(_with_ending("-", ending)) is None:
        raise UserError(f"--read-as {ending!r} is no ending that is read", f"Name one of {ENDINGS_SAID}.")


def read_file_as(path: Path, ending: str) -> ElsewhereFile:
    """Return a file of this machine that is read as if it had another ending."""
    status = path.stat()
    opener = _LocalOpener(path)
    name = _with_ending(path.name, ending)
    version = str(status.st_mtime_ns)
    return ElsewhereFile(name, str(path), status.st_size, opener, version, is_portable=True, path=path)


@dataclass(frozen=True)
class _LocalOpener:
    path: Path

    def __call__(self) -> BinaryIO:
        return self.path.open("rb")


def _with_ending(name: str, ending: str) -> str:
    """Return `a.py.txt`, so that a.py is read as text; a compression ending stays last, as in `a.py.gz.txt.gz`."""
    said = f".{ending.lstrip('.')}"
    packing = next((packing for packing in PACKINGS if name.lower().endswith(packing)), "")
    return f"{name}{said}{'' if said.lower().endswith(tuple(PACKINGS)) else packing}"


def is_read_as(file: ElsewhereFile, ending: str) -> bool:
    """Tell whether the name of a file ends as `--read-as` says, compressed or not."""
    said = f".{ending.lstrip('.')}"
    return file.name.endswith((said, *(said + packing for packing in PACKINGS)))


def is_pattern(name: str) -> bool:
    """Tell whether a name is a pattern."""
    return any(sign in name for sign in "*?[")


def named_parts(parts: Sequence[str]) -> list[str]:
    """Return the parts of a pattern before the first wildcard: the user's own choice."""
    return [*takewhile(lambda part: not is_pattern(part), parts)]


def is_remote(name: str) -> bool:
    """Tell whether a name is one for fsspec, as in s3://bucket/folder."""
    return "://" in name


def spool_stdin(ending: str | None) -> ElsewhereFile:
    """Copy standard input to a temporary file that only this process sees, and that is deleted with the process.

    Args:
        ending: The ending of a file with the same content; None: it is told from the first bytes.

    Raises:
        UserError: Standard input is a terminal or empty, or the disk is full.
    """
    if sys.stdin is None or sys.stdin.isatty():
        raise UserError("- is standard input, and nothing is piped into it", "Pipe text in: zcat a.gz | masklater ...")
    try:
        copy = tempfile.TemporaryFile()  # noqa: SIM115 - read again and again until the process ends
        shutil.copyfileobj(sys.stdin.buffer, copy, 2**20)
        copy.flush()
        size = copy.tell()
    except OSError as error:
        raise UserError(
            f"{STDIN_SHOWN} cannot be kept in a temporary file in {tempfile.gettempdir()}: {error.strerror}",
            "Set TMPDIR to a folder with enough space.",
        ) from None
    if not size:
        raise UserError("- is standard input, and it is empty", "Check the command before the pipe.")

    def reopen() -> BinaryIO:
        again = os.fdopen(os.dup(copy.fileno()), "rb", buffering=0)
        again.seek(0)
        return again

    with reopen() as beginning:
        name = _with_ending("-", ending) if ending else f"-{_told_from(beginning.read(4096))}"
    taken_for = name.removeprefix("-")
    say(f"{STDIN_SHOWN}: {size:,} bytes, kept in a temporary file (it is read more than once), taken for {taken_for}")
    if_not = ""
    if not ending and taken_for in _TEXT_BEGINS.values():  # plain text may begin with these characters too
        if_not = f"From how it begins, {STDIN_SHOWN} was taken for {taken_for}: plain text is read with --read-as txt."
    return ElsewhereFile(name, STDIN_SHOWN, size, reopen, if_not=if_not)


def begins_as(beginning: bytes) -> str:
    """Return the ending of the kind of file whose mark these first bytes are; empty where they are the mark of none."""
    return next((ending for magic, ending in MAGIC if beginning.startswith(magic)), "")


def _told_from(beginning: bytes) -> str:
    """Return the ending of a file that begins so."""
    ending = begins_as(beginning)
    if ending in {".parquet", ".arrow"}:
        return ending
    if ending:
        raise UserError(
            f"{STDIN_SHOWN} is compressed ({ending}), which does not tell what is inside",
            f"Say it with --read-as, as in --read-as jsonl{ending}.",
        )
    text = beginning.removeprefix(b"\xef\xbb\xbf").lstrip()
    return _TEXT_BEGINS.get(text[:1], ".xml" if text.startswith(b"<mediawiki") else ".txt")


def find_remote(name: str, passed_over: Counter[str], read_as: str | None = None) -> list[ElsewhereFile]:
    """Find a file, the files in a folder, or those that match a pattern, by fsspec; sorted by name.

    Args:
        name: The name, with its protocol.
        passed_over: Counts, by ending or kind, the files that are there and not read; updated.
        read_as: The ending by which a named file, or one that matches a pattern, is read if its own ending is not
            known.

    Raises:
        UserError: A library is missing, or there is nothing to read.
    """
    fsspec = import_extra("fsspec", "remote", name)
    protocol = name.split("://", maxsplit=1)[0]
    try:
        files, path = fsspec.core.url_to_fs(name)
        found = _listed(files, path)
    except ImportError as error:
        extra = EXTRAS.get(protocol)
        remedy = f"Install it: pip install 'masklater[{extra}]'." if extra else "Install it."
        raise UserError(f"{name}: {first_line(error)}", remedy) from None
    except Exception as error:  # fsspec raises whatever its many file systems raise
        raise UserError(
            f"{name} cannot be listed: {first_line(error)}", "Check the name and who may read it."
        ) from None
    if not found:
        raise UserError(f"there is no file or folder {name}", "Check the name.")
    is_named = list(found) == [path]
    read_as = read_as if is_named or is_pattern(path) else None
    made = set() if is_named else _made_of_text(found, path)
    found = found if is_named else _with_rows(found, files, passed_over)
    if path in made:
        raise UserError(f"{name} is no corpus: it is one of the {MADE_OF_TEXT}", "Name a folder of text.")
    if outermost := [folder for folder in made if not _is_inside(folder, made)]:
        passed_over[MADE_OF_TEXT] += len(outermost)
    there = []
    for place, about in sorted(found.items()):
        if _is_inside(place, made):
            continue
        known = place if ending_of(place) else read_as and _with_ending(place, read_as)
        if known:
            shown = f"{protocol}://{place.lstrip('/')}"
            opener = _Opener(files, place, name)
            there.append(ElsewhereFile(known, shown, about.size, opener, about.version, is_portable=True))
        elif is_named:
            raise UserError(
                f"{name} does not end in {ENDINGS_SAID}", remedy_for(name, "Say what it is with --read-as: txt, say.")
            )
        else:
            passed_over[ending_shown(place)] += 1
    if not there:
        beside = f"; it holds: {len(outermost):,} {MADE_OF_TEXT}" if outermost else ""
        raise UserError(f"{name} holds no text: no file in it ends in {ENDINGS_SAID}{beside}", "Check the name.")
    return there


def _with_rows(found: dict[str, "_About"], files: Any, passed_over: Counter[str]) -> dict[str, "_About"]:
    """Leave out and count files that describe datasets; raise UserError where a folder holds several splits."""
    infos = {_folder_of(place) for place in found if place.endswith(f"/{INFO}")}
    for folder in [_folder_of(place) for place in found if place.endswith(f"/{SPLITS}")]:
        splits = [info.rpartition("/")[2] for info in infos if _folder_of(info) == folder]
        refuse_several_splits(files.unstrip_protocol(folder), splits)
    own = {
        place
        for folder, _, name, place in ((*place.rpartition("/"), place) for place in found)
        if has_no_rows(name, partial(contains, infos, folder))
    }
    passed_over.update({NO_ROWS: len(own)} if own else {})
    return {place: about for place, about in found.items() if place not in own}


def _made_of_text(places: Iterable[str], path: str) -> set[str]:
    """Return the folders of these files that were made of text (SHARDS, RUNs and the like); also the named folder.

    Args:
        places: The files.
        path: What the user named: a folder, or a pattern. Folders before the first wildcard are the user's own choice,
            and are read.
    """
    named = "/".join(named_parts(path.rstrip("/").split("/")))
    held: dict[str, set[str]] = {}
    for place in places:
        folder, _, name = place.rpartition("/")
        held.setdefault(folder, set()).add(name)
        for above in _above(folder):
            held.setdefault(above, set())
    return {
        folder
        for folder, names in held.items()
        if (folder.startswith(f"{named}/") or folder == path)
        and is_made_of_text(folder.rpartition("/")[-1], names.__contains__)
    }


def _folder_of(place: str) -> str:
    return place.rpartition("/")[0]


def _is_inside(place: str, folders: set[str]) -> bool:
    return any(above in folders for above in _above(place))


def _above(place: str) -> Iterator[str]:
    """Yield the folders that a place is in, from the innermost outwards."""
    while "/" in place:
        place = place.rpartition("/")[0]
        yield place


class _About(NamedTuple):
    """What a file system says about a file."""

    size: int
    version: str


def _listed(files: Any, path: str) -> dict[str, _About]:
    """Return files with what the file system says of them; hidden files are left out unless the user named them."""
    if is_pattern(path):
        found = files.glob(path, detail=True)
    elif files.isdir(path):
        found = files.find(path, detail=True)
    else:
        return {path: _about(files.info(path))}
    named = len(named_parts(path.rstrip("/").split("/")))
    return {
        place: _about(about)
        for place, about in found.items()
        if about["type"] == "file" and not any(part.startswith(".") for part in place.split("/")[named:])
    }


def _about(said: dict[str, Any]) -> _About:
    version = next((str(said[name]) for name in VERSIONS if said.get(name)), "")
    return _About(int(said.get("size") or 0), version)


@dataclass(frozen=True)
class _Opener:
    """Opens a file by fsspec, in this or in another process."""

    files: Any
    place: str
    name: str

    def __call__(self) -> BinaryIO:
        try:
            return self.files.open(self.place, "rb")
        except Exception as error:
            raise UserError(
                f"{self.place} of {self.name} cannot be read: {first_line(error)}", "Check who may read it."
            ) from None
