"""Folders that are either complete or not there: written beside their final name, then renamed."""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from masklater.errors import UserError


def refuse_existing(path: Path) -> None:
    """Raise UserError where something already stands under that name, or nothing can; an empty folder is taken."""
    with disk_errors_for_people(path):
        if path.is_dir() and not any(path.iterdir()):
            return
        if path.exists() or path.is_symlink():
            raise _exists_already(path)


def _exists_already(path: Path) -> UserError:
    return UserError(f"{path} exists already", "Nothing is overwritten: name another folder, or remove this one.")


@contextmanager
def complete_folder(path: Path) -> Iterator[Path]:
    """Yield a fresh folder to write into, and give it its final name when the block ends well.

    A block that fails leaves nothing behind. A process killed inside the block leaves `NAME.partial-PID`, which nothing
    ever reads.

    Raises:
        UserError: The name is taken, the disk is full, or the place cannot be written to.
    """
    refuse_existing(path)
    partial = path.with_name(f"{path.name}.partial-{os.getpid()}")
    with disk_errors_for_people(path):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            yield partial
            for file in partial.rglob("*"):
                if file.is_file():
                    _sync(file)
            _sync(partial)
            _give_name(partial, path)
            _sync(path.parent)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise


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
            free = shutil.disk_usage(_existing(path)).free
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


def replace_file(path: Path, text: str) -> None:
    """Write a file, whole or not at all; one that stood there before is replaced.

    Raises:
        UserError: The disk is full, or the place cannot be written to.
    """
    partial = path.with_name(f"{path.name}.partial")
    with disk_errors_for_people(path):
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)


def _elsewhere(error: Exception, path: Path) -> str:
    """The file that an error is about, where it is not in the place that was written."""
    name = getattr(error, "filename", None)
    if name is None or str(name).startswith((str(path), str(path.parent / f"{path.name}.partial"))):
        return ""
    return f" ({name})"


def _error_number(error: Exception) -> int | None:
    """The operating system's number of an error; libraries written in Rust carry it in their message."""
    if isinstance(error, OSError):
        return error.errno
    in_message = re.search(r"\(os error (\d+)\)", str(error))
    return int(in_message[1]) if in_message else None


def _existing(path: Path) -> Path:
    for parent in (path, *path.absolute().parents):
        if os.path.exists(parent):  # noqa: PTH110 - Path.exists raises for a name that is too long
            return parent
    return Path("/")


def _sync(path: Path) -> None:
    """Have the operating system put it on disk before anything is renamed over it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
