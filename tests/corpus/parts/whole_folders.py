"""Folders compared byte by byte."""

from pathlib import Path


def bytes_of(folder: Path) -> dict[str, bytes]:
    """The content of every file in a folder, by its name in it."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}
