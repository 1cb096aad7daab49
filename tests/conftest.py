"""Small things every test may need: a text, shards of it, a tiny recipe. Nothing here touches the network."""

import errno
import importlib.util
import json
import os
import random
import signal
from pathlib import Path
from types import ModuleType
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
# Tiny models are faster on one thread, and much faster where other work shares the cores; child processes inherit it.
os.environ["OMP_NUM_THREADS"] = "1"
import pytest
import torch

from masklater.corpus.prepare import prepare
from masklater.corpus.settings import PrepareSettings
from masklater.corpus.shards import Shards
from masklater.masking.draws import Draws
from masklater.recipe.load import load
from masklater.recipe.recipe import Recipe
from tests.counts import COUNTED, count

# A shell lets what it starts in the background ignore Ctrl-C, and its children with it: here it is to be answered.
signal.signal(signal.SIGINT, signal.default_int_handler)

REPOSITORY = Path(__file__).parents[1]
DATA = REPOSITORY.parent / "shared" / "data"

TINY = [
    "model.hidden_size=32", "model.num_hidden_layers=2", "model.num_attention_heads=4", "model.intermediate_size=64",
    "model.dropout=0.1", "batch.rows=8", "batch.micro_rows=4", "duration.steps=6", "evaluation.every_steps=3",
    "evaluation.rows=8", "checkpoint.every_steps=2", "precision=float32",
]  # fmt: skip
"""Overrides that make a shipped recipe run in seconds."""


def make_text(seed: int, words: int) -> str:
    """Text with some structure: each word calls for one of three that may follow it."""
    rng = random.Random(seed)
    vocabulary = [f"{a}{b}" for a in ("ka", "lo", "mi", "nu", "re", "so") for b in ("n", "t", "r", "s", "")]
    word, out = rng.choice(vocabulary), []
    for _ in range(words):
        out.append(word)
        start = vocabulary.index(word)
        word = vocabulary[(7 * start + rng.choice((1, 4, 9))) % len(vocabulary)]
    return " ".join(out)


def module_at(path: Path) -> ModuleType:
    """Import a file that is in no package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A .jsonl of 120 documents of very different lengths."""
    path = tmp_path_factory.mktemp("corpus") / "corpus.jsonl"
    lengths = [3, 10, 25, 60, 200]
    lines = [json.dumps({"id": i, "text": make_text(i, lengths[i % 5])}) for i in range(120)]
    path.write_text("\n".join(lines) + "\n")
    return path


def make_shards(corpus: Path, out: Path, **settings: object) -> Path:
    defaults = {"vocab_size": 320, "row_length": 32, "valid_fraction": 0.1, "workers": 2}
    prepare([corpus], out, PrepareSettings(**{**defaults, **settings}))  # type: ignore[arg-type]
    return out


@pytest.fixture(scope="session")
def shards_folder(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SHARDS of the corpus, packed by documents: padded rows, several documents in some."""
    return make_shards(corpus, tmp_path_factory.mktemp("shards") / "documents")


@pytest.fixture(scope="session")
def continuous_folder(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SHARDS of the corpus, packed continuously: full rows."""
    return make_shards(corpus, tmp_path_factory.mktemp("shards") / "continuous", pack="continuous")


@pytest.fixture(scope="session")
def shards(shards_folder: Path) -> Shards:
    return Shards(shards_folder)


@pytest.fixture(scope="session")
def continuous(continuous_folder: Path) -> Shards:
    return Shards(continuous_folder)


def tiny(name: str = "3ml-small", *overrides: str) -> Recipe:
    """A shipped recipe made tiny."""
    return load(name, [*TINY, *overrides])


def draws(seed: int = 0) -> Draws:
    return Draws(torch.Generator().manual_seed(seed))


def fill_the_disk(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """From now on a file of that name meets a full disk when it is written to."""
    original = Path.open

    class OnAFullDisk:
        def __init__(self, file: Any) -> None:
            self.file = file

        def write(self, data: bytes) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        def __enter__(self) -> "OnAFullDisk":
            return self

        def __exit__(self, *error: object) -> None:
            self.file.close()

        def __getattr__(self, attribute: str) -> Any:
            return getattr(self.file, attribute)

    def open_it(self: Path, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        file = original(self, mode, *args, **kwargs)
        return OnAFullDisk(file) if self.name == name and "w" in mode else file

    monkeypatch.setattr(Path, "open", open_it)


def pytest_configure(config: pytest.Config) -> None:
    """Hide GPUs but from `-m gpu`: what a CPU computes is what the other tests are about. Child processes inherit it."""
    wanted = config.option.markexpr.strip() == "gpu" and os.environ.get("MASKLATER_TEST_DEVICE", "cuda") == "cuda"
    if not wanted:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, so that no process is left alone with it at the end."""
    items.sort(key=lambda item: item.get_closest_marker("longest") is None)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call" and report.passed and "fault" in report.keywords and not hasattr(report, "node"):
        count("faults injected")  # where it ran: pytest-xdist reports it a second time, with the node that ran it


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand the counts of a process of pytest-xdist over to the one that prints the summary."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["counted"] = dict(COUNTED)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Add up the counts of a process of pytest-xdist that has ended."""
    COUNTED.update(getattr(node, "workeroutput", {}).get("counted", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how much was tried, not only how many tests passed."""
    for what, number in sorted(COUNTED.items()):
        terminalreporter.write_line(f"{what}: {number:,}")
