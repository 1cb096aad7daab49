"""The commands of docs/how-to, as they stand there, on a tiny model that a made-up cache of the hub holds."""

import gzip
import json
import os
import random
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer

from tests.conftest import REPOSITORY, make_shards, make_text
from tests.docs.pages import blocks, commands
from tests.reference.test_against_transformers import tiny_config
from tests.test_hub import FIRST, put

SMALLER = ["batch.rows=2", "batch.micro_rows=2", "duration.steps=1", "evaluation.rows=2"]
"""What is said of size at the end of a command holds; nothing else of it changes."""


@pytest.fixture
def cache(tmp_path: Path, shards_folder: Path) -> Path:
    """A cache that holds ModernBERT, tiny, with windows of 16 and positions for 512 tokens."""
    AutoTokenizer.from_pretrained(shards_folder / "tokenizer").save_pretrained(tmp_path / "model")
    torch.manual_seed(0)
    layers = {"num_hidden_layers": 4, "global_attn_every_n_layers": 3, "local_attention": 16}
    config = tiny_config("modernbert", vocab_size=320, **{**layers, "max_position_embeddings": 512})
    AutoModelForMaskedLM.from_config(config).save_pretrained(tmp_path / "model")
    put(tmp_path / "cache", tmp_path / "model", FIRST, "main", "answerdotai/ModernBERT-base")
    shutil.rmtree(tmp_path / "model")
    return tmp_path / "cache"


def ends_well(
    words: list[str], folder: Path, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command of a page in a folder."""
    run = [sys.executable, "-m", *words]
    done = subprocess.run(run, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"{shlex.join(words)}\n{done.stderr}"
    return done


def test_leaving_out_what_should_not_be_trained_on(tmp_path: Path) -> None:
    (tmp_path / "crawl").mkdir()
    (tmp_path / "glue").mkdir()
    secret = "the cat that the dog saw sat on a red mat in the sun"
    texts = [f"One of the people came home from work that day. {make_text(seed, 100)}" for seed in range(20)]
    records = [json.dumps({"text": text}) for text in [*texts, texts[0]]]
    (tmp_path / "crawl" / "a.jsonl").write_text("\n".join(records))
    (tmp_path / "crawl" / "b.txt").write_text(f"{texts[2]} {secret}")
    (tmp_path / "glue" / "dev.tsv").write_text(f"0\t{secret}\n")
    (command,) = commands(REPOSITORY / "docs" / "how-to" / "clean.md")
    words = shlex.split(command.replace("--language en ", ""))  # made-up words are not English
    done = ends_well([*words, "--vocab-size", "300", "--json"], tmp_path)
    assert json.loads(done.stdout)["dropped"] == {"evaluation text": 1, "exact duplicate": 1}
    reasons = [json.loads(line)["reason"] for line in (tmp_path / "dropped.jsonl").read_text().splitlines()]
    assert reasons == ["evaluation text", "exact duplicate"]


@pytest.mark.slow
def test_continuing_a_published_encoder(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    for number in range(6):
        (tmp_path / "texts" / f"{number}.txt").write_text(make_text(number, 2000))
    environment = {**os.environ, "HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}
    for command in commands(REPOSITORY / "docs" / "how-to" / "continue.md"):
        words = shlex.split(command)
        smaller = SMALLER if words[1] == "pretrain" else []
        done = ends_well([*words, *smaller], tmp_path, environment)
        if words[1] == "pretrain":
            assert (
                f"taken over from answerdotai/ModernBERT-base, commit {FIRST} on the hub: encoder, LM head"
                in done.stderr
            )
            assert "windows: 2 of 4 encoder layers see 8 positions to either side" in done.stderr
    assert json.loads((tmp_path / "run" / "run.json").read_text())["source_commit"] == FIRST
    encoder = AutoModel.from_pretrained(tmp_path / "encoder")
    assert (encoder.config.model_type, encoder.config.local_attention) == ("modernbert", 16)
    assert encoder.config.layer_types.count("sliding_attention") == 2
    small = AutoModel.from_pretrained(tmp_path / "small-encoder")
    assert small.config.vocab_size < encoder.config.vocab_size
    assert len(AutoTokenizer.from_pretrained(tmp_path / "small-encoder")) == small.config.vocab_size


@pytest.mark.slow
def test_preparing_a_corpus_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "crawl").mkdir()
    (tmp_path / "texts").mkdir()
    records = [{"title": f"t {i}", "body": make_text(i, 60), "language": ("en", "de")[i % 2]} for i in range(40)]
    (tmp_path / "crawl" / "a.jsonl").write_text("\n".join(map(json.dumps, records)))
    (tmp_path / "texts" / "b.json").write_text(json.dumps(records))
    rows = "\n".join(f'{i},"{record["body"]}"' for i, record in enumerate(records))
    (tmp_path / "more.csv").write_text(f"id,body\n{rows}\n")
    for command in commands(REPOSITORY / "docs" / "how-to" / "corpus.md"):
        done = subprocess.run(
            ["bash", "-c", command.replace("masklater", f"{sys.executable} -m masklater", 1)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stderr}"
    index = json.loads((tmp_path / "shards" / "index.json").read_text())
    assert [(one["name"], one["documents"]) for one in index["source"]["sources"]] == [
        ("texts", 20),
        ("crawl/*.jsonl", 20),
    ]


SIZES = [
    "model.hidden_size=32",
    "model.num_hidden_layers=2",
    "model.num_attention_heads=4",
    "model.intermediate_size=64",
]
FEW = ["batch.rows=2", "batch.micro_rows=2", "duration.steps=2", "evaluation.rows=2"]
TWO_PHASES = [*SIZES, *FEW, "phases.0.share=0.5", "phases.1.batch.rows=2"]


@pytest.mark.slow
@pytest.mark.parametrize("page", ["mix", "longer-rows", "rate", "causal-first"])
def test_curricula(page: str, corpus: Path, tmp_path: Path) -> None:
    """Each command as it stands there; what is said of size at the end of one that trains holds."""
    for folder in ("general", "medical", "texts"):
        (tmp_path / folder).mkdir()
        for number in range(4):
            (tmp_path / folder / f"{number}.txt").write_text(make_text(number, 3000))
    if page in {"rate", "causal-first"}:
        make_shards(corpus, tmp_path / "shards")
    for command in commands(REPOSITORY / "docs" / "how-to" / f"{page}.md"):
        words = shlex.split(command)
        smaller = []
        if words[1] == "pretrain":
            words = [word for word in words if not word.startswith("duration.flops=")]
            smaller = (
                TWO_PHASES if words[2] == "3ml-base-two-phase" else FEW if words[2] == "continue" else [*SIZES, *FEW]
            )
        done = ends_well([*words, *smaller], tmp_path)
    if page == "mix":
        records = (tmp_path / "run" / "metrics.jsonl").read_text()
        assert "valid_loss_15/medical-shards" in records
    if page == "causal-first":
        for run in ("run", "run-on"):
            records = (tmp_path / run / "metrics.jsonl").read_text()
            assert records.count('"objective": "causal"') == 1 and "valid_loss_15" in records
    if page == "longer-rows":
        assert "begin as copies of the 128 before" in done.stderr
        assert json.loads((tmp_path / "run" / "run.json").read_text())["row_length"] == 512


@pytest.mark.slow
def test_domains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each command as it stands there, on made-up proteins, a genome, code and three languages."""
    for folder in ("small", "related"):
        (tmp_path / folder).mkdir()
        for number in range(6):
            (tmp_path / folder / f"{number}.txt").write_text(make_text(number, 1500))
    for number in range(4):
        for ending in ("py", "js"):
            (tmp_path / "src" / "sub").mkdir(parents=True, exist_ok=True)
            (tmp_path / "src" / "sub" / f"{number}.{ending}").write_text(make_text(number, 300))
    letters = random.Random(0)
    proteins = [f">P{n} one\nM{''.join(letters.choices('ACDEFGHIKLMNPQRSTVWY', k=200))}\n" for n in range(40)]
    (tmp_path / "proteins.fasta.gz").write_bytes(gzip.compress("".join(proteins).encode()))
    (tmp_path / "genome.fa").write_text(">chr1\n" + "".join(letters.choices("ACGTacgtn", k=600_000)) + "\n")
    chinese = ["".join(letters.choices("我们在北京学习自然语言", k=200)) for _ in range(40)]
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in chinese))
    page = REPOSITORY / "docs" / "how-to" / "domains.md"
    segmenter = ModuleType("jieba")  # a made-up one: every two characters are a word
    segmenter.cut = lambda text: [text[i : i + 2] for i in range(0, len(text), 2)]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "jieba", segmenter)
    monkeypatch.chdir(tmp_path)
    for code in blocks(page, "python"):
        exec(compile(code, page.name, "exec"), {})
    for command in commands(page):
        words = shlex.split(command)
        smaller = [*SIZES, *FEW] if words[1] == "pretrain" else []
        done = ends_well([*words, *smaller], tmp_path)
        if "marked-run" in words:
            assert "of 2.0 tokens each; the longest has 2" in done.stderr
        if words[1] == "budget":
            assert "FLOPs = 0.588" in done.stdout  # as the page says, which has a vocabulary of 25 too
    for name, entries, documents in (("code-shards", 0, 4), ("protein-shards", 25, 40), ("dna-shards", 10, 3)):
        index = json.loads((tmp_path / name / "index.json").read_text())
        assert not entries or index["vocabulary_size"] == entries, name
        assert sum(one["documents"] for one in index["source"]["sources"]) == documents  # the .js repeat the .py
    assert AutoModel.from_pretrained(tmp_path / "protein-encoder").config.model_type == "esm"
