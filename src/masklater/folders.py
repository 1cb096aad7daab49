"""Folders that are either complete or not there: written beside their final name, then renamed."""

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from masklater.errors import UserError

LOCK = "lock"
"""The lock file of a folder that one process holds (the name is here as some systems cannot import lock.py)."""
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+:/")
"""The beginning of a path that was meant as an address, such as s3://bucket/name."""
_unfinished: set[Path] = set()
"""Paths that this process is writing; they are removed if it is stopped."""


def refuse_existing(path: Path) -> None:
    """Raise UserError where a path exists already or cannot be written; an empty folder is accepted.

    The place is tried at once, so that no work is lost at its end: a file without a name is opened there and disappears
    on closing. An address such as s3://bucket/name is refused too, because as a path it would be a folder called `s3:`.
    So is a name that is not UTF-8: the libraries that write tokenizers and weights accept no other.
    """
    if _ADDRESS.match(str(path)):
        raise UserError(
            f"{str(path).replace(':/', '://', 1)} is an address, and what is made lies on a disk",
            "Name a place there, and copy it when it is whole, as with aws s3 cp --recursive or gcloud storage cp -r.",
        )
    with disk_errors_for_people(path):
        is_empty = path.is_dir() and not any(path.iterdir())
        if not is_empty and (path.exists() or path.is_symlink()):
            raise _exists_already(path)
        place = Path(os.path.realpath(path))
        if (shown := str(place).encode("utf-8", "backslashreplace").decode()) != str(place):
            raise UserError(
                f"{shown} holds bytes that are no UTF-8, and tokenizers and weights are written under no such name",
                "Name another place; where it is the folder you stand in that holds them, by an absolute path.",
            )
        with tempfile.TemporaryFile(dir=place if _is_in_use(place) else nearest_existing(place.parent)):
            pass


def _exists_already(path: Path, but: str = "") -> UserError:
    inside = [entry.name for entry in path.iterdir() if entry.name != but] if path.is_dir() else []
    holds = f", and holds {min(inside)}" if inside else ""
    return UserError(
        f"{path} exists already{holds}", "Nothing is overwritten: name another folder, or remove this one."
    )


@contextmanager
def complete_folder(path: Path) -> Iterator[Path]:
    """Yield a fresh folder to write into, and give it its final name when the block ends well.

    A block that fails leaves nothing behind. A process killed inside the block leaves `NAME.partial-PID`, which nothing
    reads.

    Raises:
        UserError: The name is taken, the disk is full, or the place cannot be written to.
    """
    refuse_existing(path)
    with disk_errors_for_people(path):
        place = Path(os.path.realpath(path))  # "." has no name that could be extended
        stays = _is_in_use(place)
        partial = place.with_name(f"{place.name}.partial-{os.getpid()}")
        if stays:
            partial = place / partial.name
        with gone_on_failure(partial):
            partial.mkdir(parents=True)
            yield partial
            sync_files(partial)
            if stays:
                _fill(place, partial)
            else:
                _give_name(partial, place)
            _sync(place if stays else place.parent)


@contextmanager
def begun_folder(path: Path, hold: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Make a folder that grows from now on. If the block, which writes its first content, fails, it is removed.

    Args:
        path: The folder to make.
        hold: Keeps other processes out of the folder, once it exists. If this fails, another process was faster, and
            nothing is removed.

    Raises:
        UserError: The name is taken, the disk is full, or the place cannot be written to.
    """
    refuse_existing(path)
    made = not path.exists()
    with disk_errors_for_people(path):
        path.mkdir(parents=True, exist_ok=True)
        hold()
        try:
            yield
        except BaseException:
            for entry in path.iterdir():
                remove(entry)
            if made:
                path.rmdir()
            raise


def write_file(path: Path, text: str, replace: bool = False) -> None:
    """Write a file completely or not at all; an existing file is replaced only with `replace`.

    Raises:
        UserError: The name is taken, the disk is full, or the place cannot be written to.
    """
    if not replace and (path.exists() or path.is_symlink()):
        raise _exists_already(path)
    with disk_errors_for_people(path):
        partial = path.with_name(f"{path.name}.partial-{os.getpid()}")
        path.parent.mkdir(parents=True, exist_ok=True)
        with gone_on_failure(partial):
            partial.write_text(text, encoding="utf-8")
            _sync(partial)
            partial.replace(path)


def mark_unfinished(path: Path, unfinished: bool) -> None:
    """Mark a path to be removed if this process is stopped, or unmark it."""
    (_unfinished.add if unfinished else _unfinished.discard)(path)


def remove_unfinished() -> None:
    """Remove everything that this process has begun to write and not finished, as it is about to end."""
    for path in list(_unfinished):
        remove(path)


@contextmanager
def gone_on_failure(path: Path) -> Iterator[None]:
    """Remove what the block makes at a path, where the block fails or this process is stopped in it."""
    remove(path)
    _unfinished.add(path)
    try:
        yield
    except BaseException:
        remove(path)
        raise
    finally:
        _unfinished.discard(path)


def remove(path: Path) -> None:
    """Remove a file, or a folder with its content, as far as possible."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def _is_in_use(place: Path) -> bool:
    """Return whether an empty folder must not be replaced: it is the working directory, or a disk is mounted there."""
    return place.is_dir() and (place == Path.cwd() or place.is_mount())


def _fill(place: Path, partial: Path) -> None:
    """Move the content of one folder into another. JSON files, which say what kind of folder it is, come last."""
    if any(entry.name != partial.name for entry in place.iterdir()):
        raise _exists_already(place, partial.name)
    entries = sorted(partial.iterdir(), key=lambda entry: (entry.suffix == ".json", entry.name))
    targets = [place / entry.name for entry in entries]
    try:
        _unfinished.update(targets)
        for entry, target in zip(entries, targets, strict=True):
            entry.rename(target)
        partial.rmdir()
    except BaseException:
        for target in targets:
            remove(target)
        raise
    finally:
        _unfinished.difference_update(targets)


def _give_name(partial: Path, path: Path) -> None:
    try:
        partial.rename(path)
    except OSError as error:
        # It was not there when the work began: another process was faster.
        if error.errno in {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR} and path.exists():
            raise _exists_already(path) from None
        raise


@contextmanager
def disk_errors_for_people(path: Path) -> Iterator[None]:
    """Turn the operating system's errors about a place that cannot be written into a UserError."""
    try:
        yield
    except (UserError, BrokenPipeError):
        raise  # reported already; or the reader of our output is gone, which says nothing about the place
    except Exception as error:
        number = _error_number(error)
        if number in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
            free = shutil.disk_usage(nearest_existing(path)).free
            raise UserError(
                f"the disk is full: {path} could not be written ({os.strerror(number)}; {free / 2**20:,.0f} MiB free)",
                "Free some space or name a place on another disk; nothing incomplete was left behind.",
            ) from None
        if number is None and not isinstance(error, OSError):
            raise
        raise UserError(
            f"{path} cannot be written: {os.strerror(number) if number else error}{_elsewhere(error, path)}",
            "Name a place you may write to.",
        ) from None


def _elsewhere(error: Exception, path: Path) -> str:
    """Return the file that an error is about, where it is outside the place that was written."""
    name = getattr(error, "filename", None)
    if name is None or str(name).startswith((str(path), str(path.absolute()))):
        return ""
    return f" ({name})"


def _error_number(error: Exception) -> int | None:
    """Return the operating system's number of an error; libraries written in Rust give it in their message."""
    if isinstance(error, OSError):
        return error.errno
    in_message = re.search(r"\(os error (\d+)\)", str(error))
    return int(in_message[1]) if in_message else None


def nearest_existing(path: Path) -> Path:
    """Return a path, or the innermost folder above it that exists; a loop of links counts as there."""
    real = Path(os.path.realpath(path))
    return next(each for each in (real, *real.parents) if os.path.lexists(each))


def sync_files(folder: Path) -> None:
    """Make the operating system put a folder and the files in it on disk."""
    for file in folder.rglob("*"):
        if file.is_file():
            _sync(file)
    _sync(folder)


def _sync(path: Path) -> None:
    """Make the operating system put a file or folder on disk, before anything is renamed over another."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
