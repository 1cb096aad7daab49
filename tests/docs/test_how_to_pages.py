"""Every command and every piece of Python on the pages, as they stand there, page by page, on a tiny model and made-up text."""

import json
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import BertConfig, BertModel, BertTokenizerFast

from tests.conftest import REPOSITORY, make_text
from tests.docs.pages import blocks, commands, run_here
from tests.judge.folders import make_glue

PAGES = ["quickstart", *(f"how-to/{name}" for name in (
    "choose", "compare", "embeddings", "many-machines", "memory", "publish", "reproduce", "select", "several-gpus", "tokenizer", "transformers",
    "watch",
))]  # fmt: skip

SMALLER = {
    "pretrain": [
        "model.hidden_size=32", "model.num_hidden_layers=2", "model.num_attention_heads=4",
        "model.intermediate_size=64", "batch.rows=8", "batch.micro_rows=2", "evaluation.rows=8", "precision=float32",
    ],
    "glue": ["--tasks", "mrpc", "--seeds", "1", "--lr", "1e-4", "--batch", "32", "--epochs", "1"],
}  # fmt: skip
"""What is added to a command; nothing else of it changes but how long a run takes and how many processes a machine has."""


def shortened(words: list[str], earlier: int) -> list[str]:
    """Make a command small: a run takes two steps more than `earlier` ones did, a quickstart a second."""
    kept = [word for word in words if not word.startswith("duration.")]
    command = next(word for word in words[words.index("masklater") + 1 :])
    if command == "pretrain":
        duration = f"duration.steps={2 + 2 * earlier}"
        if any("causal-first" in word for word in words) and any(word.startswith("duration.hours") for word in words):
            duration = (
                f"duration.hours={0.0005 * (1 + earlier)}"  # by the clock its phases do not move when it is lengthened
            )
        kept = [*kept, *SMALLER["pretrain"], duration]
    elif command == "quickstart":
        if "--minutes" in kept:
            place = kept.index("--minutes")
            del kept[place : place + 2]
        kept += ["--minutes", "0.02"]
    return kept + SMALLER.get(command, []) if command != "pretrain" else kept


def run_torchrun(words: list[str], folder: Path, machines: int) -> None:
    """Run torchrun on as many machines as it asks for, all of them this one."""
    command = [sys.executable, "-m", "torch.distributed.run", *words[1:]]
    started = [
        subprocess.Popen(command, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for _ in range(machines)
    ]
    for process in started:
        said, _ = process.communicate(timeout=600)
        assert process.returncode == 0, f"{shlex.join(words)}\n{said}"


def on_this_machine(words: list[str]) -> tuple[list[str], int]:
    """Let this machine be all of those that torchrun asks for, with one process each; return their number."""
    if "--nnodes" not in words:
        return words, 1
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    there = {"--rdzv-endpoint": f"localhost:{port}", "--nproc-per-node": "1"}
    changed = [there.get(before, word) for before, word in zip(["", *words], words, strict=False)]
    return changed, int(words[words.index("--nnodes") + 1])


def make_encoders_and_pairs(folder: Path) -> None:
    """What the page about embeddings starts from: two encoders, and two files of pairs."""
    tokenizer = BertTokenizerFast(
        vocab={"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4, "kan": 5, "lot": 6}
    )
    config = BertConfig(vocab_size=7, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    for place in ("encoder", "other"):
        BertModel(config).save_pretrained(folder / place)
        tokenizer.save_pretrained(folder / place)
    texts = [make_text(number, 5) for number in range(12)]
    likeness = [f"{text}\t{texts[0]}\t{number % 6}" for number, text in enumerate(texts)]
    (folder / "likeness.tsv").write_text("\n".join(["sentence1\tsentence2\tscore", *likeness]))
    questions = [f"{text} kan,{text}" for text in texts]
    (folder / "faq.csv").write_text("\n".join(["question,answer", *questions]))


@pytest.mark.slow
@pytest.mark.parametrize("name", PAGES)
def test_a_page_from_top_to_bottom(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = REPOSITORY / "docs" / f"{name}.md"
    (tmp_path / "texts").mkdir()
    for number in range(60):
        paragraphs = [make_text(100 * number + part, 60) for part in range(4)]
        (tmp_path / "texts" / f"{number}.txt").write_text("\n\n".join(paragraphs))
    make_glue(tmp_path / "glue")
    monkeypatch.chdir(tmp_path)
    if name == "how-to/embeddings":
        make_encoders_and_pairs(tmp_path)
    elif not any(shlex.split(command)[1:2] == ["prepare"] for command in commands(page)):
        run_here(["masklater", "prepare", "texts", "--out", "shards", "--vocab-size", "400"], monkeypatch)
    for earlier, command in enumerate(commands(page)):
        words, machines = on_this_machine(shlex.split(command))
        if name == "quickstart" and words[1:] == ["quickstart"]:
            words += ["--text", "texts"]  # the documentation of all packages takes minutes; another test reads it
        if words[0] == "torchrun":
            run_torchrun(shortened(words, earlier), tmp_path, machines)
        else:
            run_here(shortened(words, earlier), monkeypatch)
    for code in blocks(page, "python"):
        exec(compile(code, page.name, "exec"), {})
    if name == "how-to/many-machines":
        assert json.loads((tmp_path / "run" / "ledger.json").read_text())["steps"] == 2
