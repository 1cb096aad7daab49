"""The example scripts run as a user would run them."""

import gzip
import os
import re
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
from torch.distributed.run import get_args_parser
from transformers import AutoModel, AutoTokenizer, pipeline
from typer.main import get_command

from masklater.cli import app
from masklater.corpus.shards import Shards
from masklater.judge.entities import entities
from tests.conftest import DATA, REPOSITORY, make_text, module_at
from tests.corpus.test_inputs import texts_of
from tests.judge.test_tagging import tagged
from tests.pretrain.test_start import save_masked_lm

EXAMPLES = REPOSITORY / "examples"


def test_huggingface_trainer(continuous: Shards, tmp_path: Path) -> None:
    save_masked_lm("bert", continuous, tmp_path / "encoder")
    (tmp_path / "texts.txt").write_text("\n".join(make_text(i, 20) for i in range(40)))
    arguments = ["encoder", "texts.txt", "--out", "out", "--steps", "3", "--batch", "4", "--accumulation", "2"]
    done = subprocess.run(
        [sys.executable, EXAMPLES / "huggingface_trainer.py", *arguments, "--row-length", "24"],
        cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    before, after = (AutoModel.from_pretrained(tmp_path / name) for name in ("encoder", "out"))
    assert after.config.model_type == "bert"
    assert not (before.get_input_embeddings().weight == after.get_input_embeddings().weight).all()
    assert AutoTokenizer.from_pretrained(tmp_path / "out").mask_token_id == continuous.vocabulary.mask


def test_slurm_script() -> None:
    """It parses, says how it is called, and names options that torchrun and masklater have."""
    script = EXAMPLES / "slurm.sh"
    subprocess.run(["bash", "-n", script], check=True)
    called = subprocess.run(["bash", script], capture_output=True, text=True, check=False)
    assert called.returncode == 2
    assert "usage: sbatch slurm.sh SHARDS RUN RECIPE" in called.stderr

    torchrun, masklater = script.read_text().split("srun torchrun", 1)[1].split("-m masklater pretrain")
    known = {option for action in get_args_parser()._actions for option in action.option_strings}
    named = set(re.findall(r"--[a-z-]+", torchrun))
    assert len(named) >= 5
    assert named <= known
    parameters = get_command(app).commands["pretrain"].params  # type: ignore[attr-defined]
    command = masklater.splitlines()[0]
    named = set(re.findall(r"--[a-z-]+", command + script.read_text().split("resume=(")[2].split(")")[0]))
    assert named >= {"--data", "--out", "--resume"}
    assert named <= {option for parameter in parameters for option in parameter.opts}


ABSTRACT = """<Abstract><AbstractText Label="BACKGROUND">Why
we <i>did</i> it.</AbstractText><AbstractText Label="METHODS">How.</AbstractText><CopyrightInformation>(c)
</CopyrightInformation></Abstract>"""


def pubmed_article(number: int, abstract: str) -> str:
    return f"""<PubmedArticle><MedlineCitation><PMID Version="1">{number}</PMID><Article>
<ArticleTitle>On K<sup>+</sup> &amp; ions.</ArticleTitle>{abstract}<Language>eng</Language></Article></MedlineCitation>
<PubmedData><ReferenceList><Reference><ArticleIdList><ArticleId>9</ArticleId></ArticleIdList></Reference></ReferenceList></PubmedData></PubmedArticle>"""


def test_pubmed(tmp_path: Path) -> None:
    """Abstracts become records that `prepare` reads; what has none is counted, and a finished file stays as it is."""
    articles = "".join(pubmed_article(number, ABSTRACT if number != 2 else "") for number in (1, 2, 3))
    xml = f'<?xml version="1.0" encoding="utf-8"?><!DOCTYPE PubmedArticleSet SYSTEM "p.dtd"><PubmedArticleSet>{articles}</PubmedArticleSet>'
    (tmp_path / "pubmed26n0001.xml.gz").write_bytes(gzip.compress(xml.encode()))
    command = [sys.executable, EXAMPLES / "pubmed.py", "pubmed26n0001.xml.gz", "--out", "abstracts"]
    first, again = (
        subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout for _ in range(2)
    )
    assert "2 abstracts; 1 articles without one" in first
    assert "is there already" in again
    settings = {"text_field": "title,text", "filters": ("language=eng",)}
    assert texts_of([str(tmp_path / "abstracts")], **settings) == ["On K+ & ions.\n\nWhy we did it.\nHow."] * 2


@pytest.mark.slow
def test_the_notebook_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With half a minute of pre-training."""
    nbformat = pytest.importorskip("nbformat", reason="the extra `notebook` is not installed")
    nbclient = pytest.importorskip("nbclient", reason="the extra `notebook` is not installed")
    pytest.importorskip("ipykernel", reason="the extra `notebook` is not installed")
    notebook = nbformat.read(EXAMPLES / "quickstart.ipynb", 4)
    nbformat.validate(notebook)
    assert not any(cell.get("outputs") for cell in notebook.cells), "it is kept without what it printed"
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    assert "minutes = 2 " in first.source
    first.source = first.source.replace("minutes = 2 ", "minutes = 0.5 ")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")  # where `masklater` is
    nbclient.NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(tmp_path)}}).execute()
    printed = [
        str(output.get("text") or output.get("data")) for cell in notebook.cells for output in cell.get("outputs", [])
    ]
    assert any("image/png" in text for text in printed)
    assert any("held out, own masking" in text for text in printed)
    assert printed[-1].count("\n") == 3
    assert AutoModel.from_pretrained(tmp_path / "encoder").config.model_type == "modernbert"


@pytest.mark.slow
def test_onnx_export(continuous: Shards, tmp_path: Path) -> None:
    """Written, run by another runtime, and the same to rounding for other numbers of rows and tokens."""
    for library in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(library, reason=f"{library} is not installed")
    save_masked_lm("bert", continuous, tmp_path / "encoder")
    done = subprocess.run(
        [sys.executable, EXAMPLES / "onnx_export.py", "encoder", "--out", "encoder.onnx"],
        cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[-1]) < 1e-4


@pytest.mark.slow
def test_slurm_prepare(tmp_path: Path, shards_folder: Path) -> None:
    """An array of two tasks and the job that joins what they made, without Slurm."""
    script = EXAMPLES / "slurm-prepare.sh"
    called = subprocess.run(["bash", script], capture_output=True, text=True, check=False)
    assert called.returncode == 2 and "usage: sbatch --array=0-N slurm-prepare.sh SHARDS" in called.stderr
    for number in range(3):
        (tmp_path / f"{number}.txt").write_text("\n".join(make_text(10 * number + line, 30) for line in range(20)))
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "sbatch").write_text("#!/bin/bash\nprintf '%s\\n' \"$@\" >> sbatch.log\n")
    (tools / "masklater").write_text(f'#!/bin/bash\nexec {sys.executable} -m masklater "$@"\n')
    for tool in tools.iterdir():
        tool.chmod(0o755)
    slurm = {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_MIN": "0", "SLURM_ARRAY_TASK_COUNT": "2"}
    options = ["*.txt", "--documents", "line", "--row-length", "32"]
    for task in ("1", "0", "0"):  # the last one is queued again, though it was finished
        environment = {**os.environ, **slurm, "SLURM_ARRAY_TASK_ID": task, "PATH": f"{tools}:{os.environ['PATH']}"}
        command = ["bash", script, "shards", shards_folder / "tokenizer", *options]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    asked = (tmp_path / "sbatch.log").read_text().splitlines()
    assert [line.split("=")[0] for line in asked] == ["--dependency", "--job-name", "--output", "--wrap"]
    assert asked[0] == "--dependency=afterok:7"
    wrapped = asked[3].removeprefix("--wrap=")
    (tmp_path / "shards.0.partial-12").mkdir()  # of a task that was killed
    subprocess.run(["sh", "-c", wrapped], cwd=tmp_path, env=environment, capture_output=True, check=True)
    made = [Shards(tmp_path / name).index for name in ("shards", "shards.0", "shards.1")]
    assert [index.source["documents"] for index in made] == [60, 40, 20]
    assert made[0].train.rows == made[1].train.rows + made[2].train.rows


@pytest.mark.slow
def test_embeddings(continuous: Shards, tmp_path: Path) -> None:
    """An encoder that knows nothing learns which made-up texts belong together, and its folder keeps the vectors."""
    library = pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
    for other in ("datasets", "accelerate"):
        pytest.importorskip(other, reason=f"{other} is not installed")
    save_masked_lm("bert", continuous, tmp_path / "encoder")
    texts = [(make_text(i, 6), make_text(1000 + i, 6)) for i in range(16)]
    for name, header in (("pairs", "anchor,positive"), ("faq", "query,passage")):
        (tmp_path / f"{name}.csv").write_text("\n".join([header, *(f'"{x}","{y}"' for x, y in texts)]))
    likeness = [f'{i}\t"{x}\t{x if i % 2 else y}\t{5 * (i % 2)}' for i, (x, y) in enumerate(texts)]
    (tmp_path / "sts.tsv").write_text("\n".join(["index\tsentence1\tsentence2\tscore", *likeness]))
    arguments = ["--pairs", "pairs.csv", "--sts", "sts.tsv", "--search", "faq.csv", "--out", "out"]
    done = subprocess.run(
        [sys.executable, EXAMPLES / "embeddings.py", "encoder", *arguments, "--epochs", "40", "--lr", "1e-3"],
        cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = {(when, name): float(value) for when, name, value in re.findall(r"(before|after) (\S+) ([\d.]+)", done.stdout)}  # fmt: skip
    assert len(found) == 8
    assert found["after", "cosine_mrr@10"] > found["before", "cosine_mrr@10"] + 0.2
    vectors = library.SentenceTransformer(str(tmp_path / "out")).encode([text for text, _ in texts[:2]])
    assert vectors.shape == (2, AutoModel.from_pretrained(tmp_path / "encoder").config.hidden_size)


def test_entities_of_the_example_are_those_of_judge() -> None:
    """On sequences that keep to the scheme and on such that break it."""
    example = module_at(EXAMPLES / "ner.py")
    for labels in product(("O", "B-X", "I-X", "B-Y", "I-Y"), repeat=4):
        assert example.entities([*labels]) == entities(labels), labels
    assert example.entity_f1([["B-X", "O"], ["B-Y", "I-Y"]], [["B-X", "O"], ["B-Y", "O"]]) == 0.5
    assert example.entity_f1([["O"]], [["O"]]) == 0


def run_ner(folder: Path, *arguments: str) -> float:
    """Return the F1 that it prints."""
    pytest.importorskip("accelerate", reason="accelerate is not installed")
    done = subprocess.run(
        [sys.executable, EXAMPLES / "ner.py", "encoder", "--out", "out", *arguments],
        cwd=folder, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return float(done.stdout.split()[-1])


@pytest.mark.slow
def test_ner(continuous: Shards, tmp_path: Path) -> None:
    """Labels that follow from words are learned, and the folder says them by their names."""
    save_masked_lm("bert", continuous, tmp_path / "encoder")
    tagged(tmp_path / "a.conll", 60, 1)
    found = run_ner(
        tmp_path, "--train", "a.conll", "--dev", "a.conll", "--epochs", "20", "--batch", "4", "--lr", "1e-3"
    )
    assert found > 0.6
    words = (tmp_path / "a.conll").read_text().split("\n\n")[0].split("\n")
    tagger = pipeline("token-classification", str(tmp_path / "out"))
    assert {each["entity"] for each in tagger(" ".join(line.split()[0] for line in words))} <= {"B-X", "I-X", "O"}


@pytest.mark.slow
@pytest.mark.skipif(not (DATA / "ner").is_dir(), reason=f"there is no {DATA / 'ner'}")
def test_ner_on_real_columns(continuous: Shards, tmp_path: Path) -> None:
    save_masked_lm("bert", continuous, tmp_path / "encoder")
    wnut = DATA / "ner" / "wnut17"
    for split, sentences in (("train", 200), ("dev", 50)):
        kept = (wnut / f"{split}.conll").read_text().split("\n\n")[:sentences]
        (tmp_path / f"{split}.conll").write_text("\n\n".join(kept))
    read = module_at(EXAMPLES / "ner.py").read(wnut / "dev.conll")
    assert len(read) == 1009 and sum(map(len, read)) == 15733
    files = ("--train", "train.conll", "--dev", "dev.conll")
    assert 0 <= run_ner(tmp_path, *files, "--epochs", "1") <= 1


@pytest.mark.slow
def test_classify_csv(continuous: Shards, tmp_path: Path) -> None:
    """A class that the first word tells is learned, and the folder says the labels by their names."""
    pytest.importorskip("accelerate", reason="accelerate is not installed")
    save_masked_lm("bert", continuous, tmp_path / "encoder")
    rows = [f'"{("kan", "lot")[i % 2]} {make_text(i, 4)}",{("good", "bad")[i % 2]}' for i in range(64)]
    (tmp_path / "a.csv").write_text("\n".join(["text,label", *rows]))
    arguments = ["--train", "a.csv", "--dev", "a.csv", "--out", "out", "--epochs", "20", "--lr", "1e-3"]
    done = subprocess.run(
        [sys.executable, EXAMPLES / "classify_csv.py", "encoder", *arguments],
        cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[-1]) > 0.8
    assert pipeline("text-classification", str(tmp_path / "out"))(f"kan {make_text(0, 4)}")[0]["label"] == "good"
