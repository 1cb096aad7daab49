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
"""The file in a folder by which it is one process's (lock.py, which not every system can import)."""
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+:/")
"""What a path begins with that was meant as an address, such as s3://bucket/name."""
_unfinished: set[Path] = set()
"""What is being written by this process, and goes where the process is stopped."""


def refuse_existing(path: Path) -> None:
    """Raise UserError where something already stands under that name, or nothing can; an empty folder is taken.

    So that no work is lost at its end, the place is tried: a file without a name is opened there, and gone at once. An
    address such as s3://bucket/name is refused too: as a path it would be a folder called `s3:`. So is a name that
    is no UTF-8: the libraries that write tokenizers and weights take no other.
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
    ever reads.

    Raises:
        UserError: The name is taken, the disk is full, or the place cannot be written to.
    """
    refuse_existing(path)
    with disk_errors_for_people(path):
        place = Path(os.path.realpath(path))  # "." has no name of its own
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
    """Make a folder that grows from now on. Where the block fails, which makes its beginning, nothing of it is left.

    Args:
        path: Its name.
        hold: Keeps other processes out of it, once it is there. Where that fails, one was faster, and all stays.

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
    """Write a file whole or not at all; what stands there is replaced where that is asked for.

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
    """Have a path removed, or no longer removed, where this process is stopped."""
    (_unfinished.add if unfinished else _unfinished.discard)(path)


def remove_unfinished() -> None:
    """Remove what this process has begun to write and not finished: it is about to end."""
    for path in list(_unfinished):
        remove(path)


@contextmanager
def gone_on_failure(path: Path) -> Iterator[None]:
    """Remove what is made under a name in the block, where the block fails or this process is stopped in it."""
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
    """Remove a file or a folder with all that is in it, as far as that is possible."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def _is_in_use(place: Path) -> bool:
    """Whether an empty folder must stay the folder it is: somebody stands in it, or a disk is mounted there."""
    return place.is_dir() and (place == Path.cwd() or place.is_mount())


def _fill(place: Path, partial: Path) -> None:
    """Move everything from inside a folder into it. Files of JSON, which say what a folder is, come last."""
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
        # Not there when the work began: another process was faster.
        if error.errno in {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR} and path.exists():
            raise _exists_already(path) from None
        raise


@contextmanager
def disk_errors_for_people(path: Path) -> Iterator[None]:
    """Turn what the operating system says of a place that cannot be written into a UserError."""
    try:
        yield
    except (UserError, BrokenPipeError):
        raise  # said already; or whoever read our output has left, which says nothing of the place
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
    """The file that an error is about, where it is not in the place that was written."""
    name = getattr(error, "filename", None)
    if name is None or str(name).startswith((str(path), str(path.absolute()))):
        return ""
    return f" ({name})"


def _error_number(error: Exception) -> int | None:
    """The operating system's number of an error; libraries written in Rust carry it in their message."""
    if isinstance(error, OSError):
        return error.errno
    in_message = re.search(r"\(os error (\d+)\)", str(error))
    return int(in_message[1]) if in_message else None


def nearest_existing(path: Path) -> Path:
    """Return a path, or the innermost folder above it that exists; a loop of links counts as there."""
    real = Path(os.path.realpath(path))
    return next(each for each in (real, *real.parents) if os.path.lexists(each))


def sync_files(folder: Path) -> None:
    """Have the operating system put a folder and the files in it on disk."""
    for file in folder.rglob("*"):
        if file.is_file():
            _sync(file)
    _sync(folder)


def _sync(path: Path) -> None:
    """Have the operating system put it on disk before anything is renamed over it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
