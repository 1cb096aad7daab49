"""Text that every installation carries: the documentation inside the installed Python packages."""

import ast
import importlib.util
import json
import pydoc_data.topics
import sysconfig
import warnings
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from hashlib import blake2b
from itertools import chain
from multiprocessing import get_context
from pathlib import Path

from masklater.console import Meter
from masklater.errors import UserError
from masklater.machine.signals import children_deaf_to_the_terminal

PACKAGES = ("torch", "transformers", "numpy", "scipy", "sklearn", "sympy", "networkx", "matplotlib", "pydantic",
            "huggingface_hub", "fsspec", "fontTools", "mpmath")  # fmt: skip
"""The packages besides the standard library: masklater's dependencies, direct or not. Missing ones are skipped."""
MIN_CHARS = 80
"""Shorter docstrings say little ("Return the value.")."""
FILES_A_TASK = 64


@dataclass(frozen=True)
class Gathered:
    """Counts of the docstrings that were found."""

    modules: int  # one document each
    characters: int
    repeated: int  # characters left out because the same paragraph had been seen


def find_sources(packages: Iterable[str] = PACKAGES) -> list[Path]:
    """Return the Python files of the standard library and of the installed packages, without tests."""
    roots = [Path(sysconfig.get_path("stdlib"))]
    for package in packages:
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin is not None:
            roots.append(Path(spec.origin).parent)
    files = []
    for root in roots:
        skipped = {"site-packages", "dist-packages", "test", "tests", "idlelib", "__pycache__"}
        files += [file for file in sorted(root.rglob("*.py")) if not skipped & set(file.relative_to(root).parts)]
    return files


def docstrings_of(file: Path) -> list[str]:
    """Return the docstrings of a Python file in order; empty where it does not parse. The file is not imported."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old escapes in other people's strings
            tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError, OSError, RecursionError, MemoryError):
        return []
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    found = [ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, kinds)]
    return [text for text in found if text is not None and len(text) >= MIN_CHARS]


def gather(out: Path, sources: list[Path], workers: int) -> Gathered:
    """Write the docstrings of all sources and the help topics of pydoc to `out`, one JSON line for each module.

    A paragraph that occurred before is left out: generated documentation repeats itself, and held-out text must not
    have been seen in training.

    Raises:
        UserError: A process that reads sources was killed.
    """
    tasks = [sources[start : start + FILES_A_TASK] for start in range(0, len(sources), FILES_A_TASK)]
    seen: set[bytes] = set()
    modules = characters = repeated = 0
    topics = [("pydoc_data.topics", [text for _, text in sorted(pydoc_data.topics.topics.items())])]
    try:
        with (
            out.open("w", encoding="utf-8") as file,
            Meter("Reading docstrings", len(tasks)) as meter,
            ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool,
        ):
            with children_deaf_to_the_terminal():
                found_in_files = pool.map(_docstrings_of_all, tasks)
            for found in chain([topics], found_in_files):
                for name, texts in found:
                    fresh, again = _without_repeats(texts, seen)
                    repeated += again
                    if fresh:
                        file.write(json.dumps({"module": name, "text": fresh}, ensure_ascii=True) + "\n")
                        modules += 1
                        characters += len(fresh)
                meter.advance(1, f"{modules:,} modules, {characters / 1e6:.1f} M characters")
    except BrokenProcessPool:
        raise UserError("a process that reads docstrings was killed", "Was memory short? Try again.") from None
    return Gathered(modules, characters, repeated)


def _docstrings_of_all(files: list[Path]) -> list[tuple[str, list[str]]]:
    return [(file.stem, texts) for file in files if (texts := docstrings_of(file))]


def _without_repeats(texts: list[str], seen: set[bytes]) -> tuple[str, int]:
    """Return the texts joined, without paragraphs seen before; and how many characters were left out."""
    kept, repeated = [], 0
    for paragraph in "\n\n".join(texts).split("\n\n"):
        digest = blake2b(" ".join(paragraph.split()).encode("utf-8", "replace"), digest_size=16).digest()
        if digest in seen:
            repeated += len(paragraph)
        else:
            seen.add(digest)
            kept.append(paragraph)
    return "\n\n".join(kept).strip(), repeated
