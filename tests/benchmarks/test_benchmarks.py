"""The benchmarks run, at sizes that measure nothing. No time is asserted: other work may share the machine."""

import ast
import importlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from graphlib import TopologicalSorter
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from masklater.corpus.files import find_files
from masklater.corpus.read import ReadCounts, Source, read_documents
from masklater.corpus.shards import Shards
from masklater.machine.precision import Precision
from masklater.masking.batch import IGNORE, MaskedBatch
from masklater.pretrain.loop import pretrain
from masklater.recipe.load import load
from tests.conftest import REPOSITORY, tiny

STEP = ["--size", "small", "--rows", "2", "--row-length", "32", "--vocabulary", "400", "--steps", "1"]


def run(script: str, *arguments: str | Path, status: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, REPOSITORY / "benchmarks" / script, *arguments],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == status, done.stderr
    return done


def check_peers(stdout: str, peers: list[str]) -> None:
    lines = [line.split() for line in stdout.splitlines()[2:]]
    assert [line[0] for line in lines] == peers
    assert all(float(cell.rstrip("%")) > 0 for line in lines for cell in line[1:])


@pytest.mark.slow
def test_a_step_beside_a_peer() -> None:
    check_peers(run("step.py", *STEP, "--peer", "stock-bf16").stdout, ["stock-bf16"])


def test_a_step_of_ours_has_the_kernels_of_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(REPOSITORY / "benchmarks")
    ours = importlib.import_module("ours")
    torch.backends.cuda.enable_cudnn_sdp(True)
    ours.Ours(load("3ml-small"), 1, 16, 100, Precision("float32", "", torch.device("cpu")))
    assert not torch.backends.cuda.cudnn_sdp_enabled()


def test_a_gpu_memory_is_read_where_the_step_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of checkpointing.py: what the process holds on the host says nothing of it."""
    monkeypatch.syspath_prepend(REPOSITORY / "benchmarks")
    checkpointing = importlib.import_module("checkpointing")
    monkeypatch.setattr(checkpointing, "ALONE", SimpleNamespace(device=torch.device("cuda")))
    monkeypatch.setattr(checkpointing, "MEASURED_IN", Precision("float32", "", torch.device("cpu")))
    for name, found in (("reset_peak_memory_stats", None), ("memory_allocated", 1), ("max_memory_allocated", 12_346)):
        monkeypatch.setattr(torch.cuda, name, lambda found=found: found)
    checkpointing.measure("3ml-small", "false", 1)
    assert capsys.readouterr().out.startswith("12345 ")


@pytest.mark.slow
def test_a_step_beside_all_its_peers() -> None:
    check_peers(run("step.py", *STEP).stdout, ["vanilla", "stock", "stock-bf16", "modernbert"])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the C library does not give freed memory back")
def test_memory_is_what_is_estimated() -> None:
    """With activation checkpointing and without, within a seventh where 30% are asked for."""
    printed = run("checkpointing.py", "--rows", "32", "--recipes", "3ml-small").stdout
    rows = [line.split() for line in printed.splitlines() if line.startswith("3ml-small")]
    assert [row[1] for row in rows] == ["false", "2", "true"]
    assert all(0.85 < float(row[-2]) < 1.15 for row in rows), printed
    measured = [float(row[2]) for row in rows]
    assert measured == sorted(measured, reverse=True) and measured[2] < 0.6 * measured[0]


@pytest.mark.slow
def test_a_step_that_cannot_be_made_is_refused_in_a_sentence() -> None:
    done = run("step.py", *STEP, "--row-length", "2", "--peer", "vanilla", status=2)
    assert "leaves no target in rows of 2 positions" in done.stderr
    assert "Traceback" not in done.stderr


def test_large_compares_one_encoder_with_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(REPOSITORY / "benchmarks")
    threeml, usual = importlib.import_module("wanted").RECIPES["large"]
    vanilla = load(usual)
    assert load(threeml).model == vanilla.model
    assert vanilla.masking == load("vanilla-small").masking
    assert vanilla.decoder.kind == "none"


def test_data_in_all_its_parts(
    corpus: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In this process, where each pass has one of its own: the memory printed is not theirs alone."""
    monkeypatch.syspath_prepend(REPOSITORY / "benchmarks")
    for name in ("TOKENIZERS_PARALLELISM", "RAYON_NUM_THREADS"):  # which it sets
        monkeypatch.setenv(name, os.environ.get(name, "1"))
    data = importlib.import_module("data")
    monkeypatch.setattr(data, "in_a_process", lambda function, *arguments: function(*arguments))
    small = ["--megabytes", "1", "--vocab-size", "320", "--workers", "1", "--rounds", "1", "--rows", "4"]
    monkeypatch.setattr(sys, "argv", ["data.py", "--text", str(corpus), *small, "--index-rows", "2500"])
    assert data.main() == 0
    lines = capsys.readouterr().out.splitlines()
    cells = {line.split()[0]: line.split() for line in lines if line}
    assert cells["1"][1:] == cells["median"][1:4]  # one round is its own median
    tokens = float(cells["once"][1])
    assert float(cells["10"][2]) == pytest.approx(10 * tokens, abs=0.05)  # printed as hundredths of a million
    for kind in importlib.import_module("kinds").KINDS:
        if kind not in (".txt", ".md"):  # whose documents are files
            assert float(cells[kind][2]) == pytest.approx(tokens, abs=0.02)
    assert {".txt", ".jsonl.zst", ".parquet", ".xml"} < cells.keys()
    after = dict(pairwise(lines))
    loader = next(below for line, below in after.items() if "waiting s" in line).split()
    assert float(loader[3]) > 0 and float(loader[4]) > float(loader[3])
    index = next(below for line, below in after.items() if "open s" in line).split()
    assert index[:2] == ["2,500", "1"]


def test_every_kind_of_file_holds_the_documents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Line ends, tabs and quotes, which real text is full of, included."""
    monkeypatch.syspath_prepend(REPOSITORY / "benchmarks")
    kinds = importlib.import_module("kinds")
    texts = [f'"{number}", he said;\tand\n\n<so> & on.' for number in range(kinds.PLAIN_TEXTS)]
    for kind in kinds.KINDS:
        folder = kinds.write_kind(texts, kind, tmp_path / kind)
        read = [document.text for document in read_documents(Source(find_files([folder])), ReadCounts())]
        assert [text.split() for text in sorted(read)] == [text.split() for text in sorted(texts)], kind


def test_data_without_text_is_refused_in_a_sentence(tmp_path: Path) -> None:
    done = run("data.py", "--text", tmp_path / "none.txt", status=2)
    assert done.stderr.startswith("there is no file or folder")


@pytest.mark.slow
def test_growth_is_measured_and_drawn(tmp_path: Path) -> None:
    out = tmp_path / "growth"
    small = ["--lengths", "16", "64", "32", "--positions", "64", "--vocabulary", "400", "--steps", "1"]
    lines = run("growth.py", "--out", out, *small).stdout.splitlines()
    points = [line.split() for line in lines if line.strip()[:2].isdecimal()]
    rates = ["15%", "30%", "50%", "70%", "90%"]
    assert [point[:2] for point in points] == [*([a, b] for a in ("16", "32") for b in rates), ["64", "50%"]]
    assert points[2][-3:] == ["1.000"] * 3  # what the others are measured by
    assert float(points[-1][-2]) > 4  # FLOPs of a row four times as long: attention grows with the square
    assert lines[-1].startswith("Largest jump of time per FLOP between neighbours: x ")
    assert (out / "growth.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (out / "growth.svg").read_text()


def test_pairs_are_a_sentence_and_the_same_with_one_fault(tmp_path: Path) -> None:
    subjects = [("The old house near the river", "was"), ("The two birds in that garden", "were")]
    sentences = [f"{subject} {verb} {word} and quite old." for subject, verb in subjects for word in ("big", "red")]
    lines = [json.dumps({"text": f"Chapter One\n{sentence} Too short."}) for sentence in sentences]
    (tmp_path / "text.jsonl").write_text("\n".join(lines))
    run("pairs.py", "--text", tmp_path / "text.jsonl", "--valid-fraction", "1", "--out", tmp_path / "pairs")
    found = {
        path.stem: [tuple(json.loads(line).values()) for line in path.read_text().splitlines()]
        for path in (tmp_path / "pairs").iterdir()
    }
    assert sorted(good for good, _ in found["agreement"]) == sorted(sentences)
    for good, bad in found["agreement"]:
        assert bad == good.replace(" was ", " WERE ").replace(" were ", " was ").replace(" WERE ", " were ")
    for good, bad in found["order"]:
        assert good != bad and sorted(good[:-1].split()) == sorted(bad[:-1].split())
    again = ["--text", tmp_path / "text.jsonl", "--valid-fraction", "1", "--out", tmp_path / "pairs"]
    assert "exists already" in run("pairs.py", *again, status=2).stderr
    none = ["--text", tmp_path / "text.jsonl", "--valid-fraction", "0", "--out", tmp_path / "none"]
    assert "too few sentences are held out" in run("pairs.py", *none, status=2).stderr


def test_losses_are_split_by_what_could_be_copied(
    shards: Shards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A target counts as standing elsewhere where its document shows it; the kinds' losses make up the run's own."""
    monkeypatch.syspath_prepend(REPOSITORY / "benchmarks")
    copied = importlib.import_module("copied")
    batch = MaskedBatch(
        seen_ids_BS=torch.tensor([[5, 6, 7, 8, 5]]),
        seen_pos_BS=torch.tensor([[0, 1, 2, 4, 6]]),
        masked_pos_BM=torch.tensor([[3, 5, 7]]),
        target_pos_BT=torch.tensor([[3, 5, 7]]),
        target_ids_BT=torch.tensor([[6, 6, IGNORE]]),
        documents_BL=torch.tensor([[0, 0, 0, 0, 1, 1, 1, 1]]),
    )
    assert copied.stands_elsewhere(batch).tolist() == [[True, False, False]]
    assert copied.stands_elsewhere(replace(batch, documents_BL=None)).tolist() == [[True, True, False]]
    results = {
        name: pretrain(tiny(name, "duration.steps=2", "evaluation.rows=64"), shards.folder, tmp_path / name)
        for name in ("3ml-small", "vanilla-small")
    }
    copied.compare([tmp_path / name for name in results], shards.folder, 20, 64)
    *runs, totals = [line.split() for line in capsys.readouterr().out.splitlines()[1:-1]]
    targets, *kinds = (int(cell.replace(",", "")) for cell in totals[1:])
    assert sum(kinds) == targets and all(kinds)
    for line, result in zip(runs, results.values(), strict=True):
        assert targets == result.valid_targets_15
        assert float(line[3]) == pytest.approx(result.valid_loss_15, abs=1e-3)
        mean = sum(number * float(loss) for number, loss in zip(kinds, line[4:], strict=True)) / targets
        assert mean == pytest.approx(float(line[3]), abs=2e-3)


def test_no_benchmark_imports_one_that_imports_it() -> None:
    files = {path.stem: ast.parse(path.read_text()) for path in (REPOSITORY / "benchmarks").glob("*.py")}
    imports = {
        name: {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)} & files.keys()
        for name, tree in files.items()
    }
    assert imports["sides"] >= {"ours", "stock"}  # imported inside a function, and counted all the same
    TopologicalSorter(imports).prepare()  # raises CycleError
