"""The command line as a user meets it: the main job, the exit statuses, the messages, the JSON."""

import json
import os
import re
import resource
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from masklater.cli import app, main
from masklater.pretrain.loop import pretrain
from tests.conftest import DATA, TINY, tiny


def masklater(*arguments: object, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own; one with minutes of work gets all cores."""
    command = [sys.executable, "-m", "masklater", *map(str, arguments)]
    env = {name: value for name, value in os.environ.items() if timeout <= 120 or name != "OMP_NUM_THREADS"}
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False, env=env)


def result_of(*arguments: object, timeout: float = 300) -> dict:  # type: ignore[type-arg]
    done = masklater(*arguments, "--json", timeout=timeout)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def main_job(folder: Path, corpus: Path, recipe: str, *overrides: str) -> dict:  # type: ignore[type-arg]
    prepared = result_of("prepare", corpus, "--out", folder / "shards", "--vocab-size", 320, "--row-length", 32,
                         "--valid-fraction", 0.1)  # fmt: skip
    assert prepared["train_rows"] > 0
    trained = result_of("pretrain", recipe, *TINY, *overrides, "--data", folder / "shards", "--out", folder / "run")
    assert trained["finished"]
    exported = result_of("export", folder / "run", "--out", folder / "encoder")
    assert exported["step"] == trained["steps"]
    filled = result_of("fill", folder / "run", "kan <mask> lot <mask>", "--top", 3)
    assert [len(guesses) for guesses in filled["masks"]] == [3, 3]
    return trained


def test_the_main_job(corpus: Path, tmp_path: Path) -> None:
    main_job(tmp_path, corpus, "3ml-small")
    code = (  # in a process that never heard of masklater
        "import sys; from transformers import AutoModel, AutoTokenizer;"
        f"m = AutoModel.from_pretrained({str(tmp_path / 'encoder')!r});"
        f"t = AutoTokenizer.from_pretrained({str(tmp_path / 'encoder')!r});"
        "assert m(**t('kan lot', return_tensors='pt')).last_hidden_state.shape[-1] == 32;"
        "assert not any('masklater' in name for name in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
    assert not list((tmp_path / "encoder").glob("*.py"))


def test_the_vanilla_twin(
    shards_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = ("--data", shards_folder, "--out", tmp_path / "run")
    assert inside(monkeypatch, "pretrain", "vanilla-small", *TINY, *run) == 0
    assert "vanilla MLM: of each row's 32 positions the encoder sees 32" in capsys.readouterr().err
    assert inside(monkeypatch, "export", tmp_path / "run", "--out", tmp_path / "encoder") == 0
    assert inside(monkeypatch, "fill", tmp_path / "run", "kan <mask> lot") == 0
    assert capsys.readouterr().out.count("%") == 5
    AutoModel.from_pretrained(tmp_path / "encoder")


def test_resume_from_the_command_line(
    shards_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("pretrain", "3ml-small", *TINY, "--data", shards_folder, "--out", tmp_path / "run", "--json")

    def steps() -> int:
        return int(json.loads(capsys.readouterr().out.splitlines()[-1])["steps"])

    assert inside(monkeypatch, *arguments, "duration.steps=2") == 0
    assert steps() == 2
    assert inside(monkeypatch, *arguments, "duration.steps=2") == 2
    assert "exists already" in capsys.readouterr().err
    assert inside(monkeypatch, *arguments, "duration.steps=4", "--resume") == 0
    assert steps() == 4


def test_output_for_people(corpus: Path, tmp_path: Path) -> None:
    done = masklater("prepare", corpus, "--out", tmp_path / "shards", "--vocab-size", 320, "--row-length", 32)
    assert done.returncode == 0, done.stderr
    for expected in ("120 documents", "held out", "tokens/s", "peak memory", str(tmp_path / "shards")):
        assert expected in done.stdout
    assert "Tokenising" in done.stderr


@pytest.mark.parametrize(
    ("kind", "size", "said"),
    [
        (
            "bpe",
            5000,
            "entries of 5,000 asked for: each word of the text, number and run of other signs has become one",
        ),
        ("wordpiece", 300, "more than the 300 asked for: each character of the text is one"),
        ("characters", 500, " entries of 500 asked for: the text has no more characters\n"),
        ("bpe", 300, "300 entries\n"),
    ],
)
def test_prepare_says_why_a_vocabulary_has_another_size(
    kind: str, size: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.txt").write_text(" ".join(map(chr, range(0x4E00, 0x4E00 + 400))) + " the tree by the river")
    wanted = ("--train-tokenizer", kind, "--vocab-size", size, "--valid-fraction", 0)
    assert inside(monkeypatch, "prepare", tmp_path / "text.txt", "--out", tmp_path / "shards", *wanted) == 0
    assert said in capsys.readouterr().out


MISTAKES = {
    "a missing file": (["prepare", "{tmp}/nowhere.txt", "--out", "{tmp}/o"], "there is no file or folder"),
    "a folder without text": (["prepare", "{tmp}/empty", "--out", "{tmp}/o"], "holds no text"),
    "a wrong text field": (["prepare", "{corpus}", "--out", "{tmp}/o", "--text-field", "body"], "no field 'body'"),
    "two tokenizers": (["prepare", "{corpus}", "--out", "{tmp}/o", "--tokenizer", "x", "--vocab-size", "500"], "ready tokenizer"),
    "nothing to trim": (["prepare", "{corpus}", "--out", "{tmp}/o", "--trim"], "--trim makes a ready tokenizer smaller"),
    "trimmed too far": (["prepare", "{corpus}", "--out", "{tmp}/o", "--tokenizer", "{shards}/tokenizer", "--trim", "--vocab-size", "9"], "stay in any case"),
    "a similarity of nothing": (["prepare", "{corpus}", "--out", "{tmp}/o", "--near-threshold", "0.8"], "--near-threshold 0.8 is for --dedup near"),
    "a similarity of other duplicates": (["prepare", "{corpus}", "--out", "{tmp}/o", "--dedup", "exact,lines", "--near-threshold", "0.9"], "Add --dedup near"),
    "a number of documents for no lines": (["prepare", "{corpus}", "--out", "{tmp}/o", "--dedup", "exact,near", "--line-documents", "10"], "--line-documents 10 is for --dedup lines"),
    "a tokenizer that is none": (["prepare", "{corpus}", "--out", "{tmp}/o", "--tokenizer", "{tmp}/empty"], "holds no tokenizer"),
    "an output that exists": (["prepare", "{corpus}", "--out", "{tmp}/full"], "exists already"),
    "an output place that is a file": (["prepare", "{corpus}", "--out", "{tmp}/full/file/o"], "cannot be written"),
    "an output that can never be": (["prepare", "{corpus}", "--out", "/proc/masklater"], "/proc/masklater cannot be written"),
    "an output with a name too long": (["pretrain", "3ml-small", "--data", "{shards}", "--out", "{tmp}/" + 300 * "x"], "name too long"),
    "scores below a file": (["glue", "{tmp}/empty", "--data", "{tmp}/empty", "--out", "{tmp}/full/file/o", "--tasks", "rte"], "cannot be written: Not a directory"),
    "an unknown recipe": (["pretrain", "nosuch", "--data", "{shards}", "--out", "{tmp}/o"], "Shipped recipes:"),
    "a misspelt recipe": (["pretrain", "3ml-smal", "--data", "{shards}", "--out", "{tmp}/o"], "\n  Did you mean 3ml-small? Shipped recipes:"),
    "text in place of shards": (["pretrain", "3ml-small", "--data", "{corpus}", "--out", "{tmp}/o"], "masklater prepare {corpus} --out shards"),
    "an unknown key": (["pretrain", "3ml-small", "batch.row=3", "--data", "{shards}", "--out", "{tmp}/o"], "Did you mean rows?"),
    "a contradiction": (["pretrain", "3ml-small", "model.num_attention_heads=7", "--data", "{shards}", "--out", "{tmp}/o"], "num_attention_heads must divide hidden_size"),
    "no shards": (["pretrain", "3ml-small", "--data", "{tmp}/empty", "--out", "{tmp}/o"], "is no SHARDS folder"),
    "a rate without targets": (["pretrain", "3ml-small", "masking.rate=0.001", "--data", "{shards}", "--out", "{tmp}/o"], "leaves no target"),
    "a run that exists not": (["export", "{tmp}/nowhere", "--out", "{tmp}/o"], "there is no run"),
    "a folder that is no run": (["fill", "{tmp}/empty", "<mask>"], "is no RUN folder"),
    "rows of no shards": (["rows", "{tmp}/empty", "0"], "is no SHARDS folder"),
    "a row that is not there": (["rows", "{shards}", "0", "99999999"], "there is no row 99999999"),
    "a row that is no number": (["rows", "{shards}", "first"], "should be a valid integer"),
    "a doctor for nothing": (["doctor", "{tmp}/nowhere"], "there is no folder"),
    "a doctor for something else": (["doctor", "{tmp}/empty"], "is neither SHARDS nor a RUN"),
    "an unknown command": (["pretrian"], "No such command"),
    "a missing option": (["prepare", "{corpus}"], "Missing option"),
    "an option given twice": (["pretrain", "3ml-small", "--data", "{shards}", "--data", "{tmp}/empty", "--out", "{tmp}/o"], "of several SHARDS each has its share"),
    "an option given twice in two ways": (["budget", "3ml-small", "--gpu", "a100", "--gpu=h100"], "--gpu is given 2 times"),
    "a row length beside data": (["budget", "3ml-small", "--data", "{shards}", "--row-length", "512"], "--data has its own"),
    "a tokenizer given twice": (["prepare", "{corpus}", "--out", "{tmp}/o", "--tokenizer", "a", "--tokenizer", "a"], "--tokenizer is given 2 times"),
    "an unknown encoding": (["prepare", "{corpus}", "--out", "{tmp}/o", "--encoding", "utf-88"], "Python knows no text encoding of that name"),
    "a value out of range": (["prepare", "{corpus}", "--out", "{tmp}/o", "--row-length", "2"], "greater than or equal to 8"),
}  # fmt: skip


def inside(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """Run the command line in this process; return its exit status."""
    monkeypatch.setattr(sys, "argv", ["masklater", *map(str, arguments)])
    with pytest.raises(SystemExit) as leave:
        main()
    return int(leave.value.code or 0)


def test_what_lines_are_counted_by_is_taken_where_they_are(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a word of it the usual number holds; neither is refused."""
    records = [json.loads(line) for line in corpus.read_text().splitlines()]
    with (tmp_path / "corpus.jsonl").open("w") as file:
        for number, record in enumerate(records):
            notice = "This is said in five documents.\n" if number < 5 else ""
            file.write(json.dumps({"text": notice + record["text"]}) + "\n")
    for name, wanted, taken_out in (("usual", (), 0), ("asked", ("--line-documents", 4), 5)):
        sizes = ("--vocab-size", 320, "--row-length", 32, "--dedup", "lines", *wanted)
        out = ("--out", tmp_path / name, "--json")
        assert inside(monkeypatch, "prepare", tmp_path / "corpus.jsonl", *out, *sizes) == 0
        assert json.loads(capsys.readouterr().out.splitlines()[-1])["removed_lines"] == taken_out


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(
    name: str,
    corpus: Path,
    shards_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments, message = MISTAKES[name]
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    places = {"tmp": tmp_path, "corpus": corpus, "shards": shards_folder}
    status = inside(monkeypatch, *[argument.format(**places) for argument in arguments])
    out, err = capsys.readouterr()
    assert status == 2, err
    assert message.format(**places) in err
    assert "Traceback" not in err
    assert out == ""
    assert (tmp_path / "full" / "file").read_text() == "mine"
    assert {path.name for path in tmp_path.iterdir()} == {"empty", "full"}, "a mistake left something behind"


def test_fill_without_a_mask(
    shards_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pretrain(tiny("3ml-small", "duration.steps=1"), shards_folder, tmp_path / "run")
    assert inside(monkeypatch, "fill", tmp_path / "run", "nothing here") == 2
    assert "there is no <mask>" in capsys.readouterr().err
    assert inside(monkeypatch, "fill", tmp_path / "run", "<mask> " * 100) == 2
    assert "the model takes rows of 32" in capsys.readouterr().err


def test_what_token_frequencies_alone_are_worth_is_said_before_and_after(
    shards_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["3ml-small", *TINY, "duration.steps=1", "--data", shards_folder, "--out", tmp_path / "run"]
    assert inside(monkeypatch, "pretrain", *words) == 0
    out, err = capsys.readouterr()
    (before,) = re.findall(r"guesses by token frequency alone would lose (\d+\.\d{3}) nats", err)
    (after,) = re.findall(r"by frequency alone +loss (\d+\.\d{4}) nats a token, .*; the run is hardly better yet", out)
    assert float(before) == pytest.approx(float(after), abs=5.1e-4)


@pytest.mark.parametrize(("peak", "is_too_low"), [(1e3, True), (1e18, False)])
def test_a_peak_that_was_measured_too_low_is_said(
    peak: float, is_too_low: bool, shards_folder: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr("masklater.machine.peak._measure", lambda *_: peak)
    words = ["3ml-small", *TINY, "duration.steps=1", "--data", shards_folder, "--out", tmp_path / "run"]
    assert inside(monkeypatch, "pretrain", *words) == 0
    [hardware] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("hardware")]
    assert ("too low" in hardware) == is_too_low


def test_a_fault_of_ours_shows_its_traceback_and_exits_with_1() -> None:
    code = (
        "import sys; from masklater import cli\n"
        "import masklater.recipe.load as load\n"
        "load.load = lambda *_: 1 / 0\n"
        "sys.argv = ['masklater', 'pretrain', 'x', '--data', 'd', '--out', 'o']; cli.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr
    assert "a fault of ours" in done.stderr


@pytest.mark.fault
@pytest.mark.parametrize(
    ("error", "message"),
    [
        (PermissionError(13, "Permission denied", "/some/file"), "masklater: /some/file: Permission denied"),
        (MemoryError(), "masklater: out of memory: there is no more\n  Lower batch.micro_rows"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried"), "masklater: out of memory: CUDA out of memory"),
        (torch.AcceleratorError("CUDA error: out of memory\nSearch for"), "out of memory: CUDA error: out of memory\n"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), "out of memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried"), "out of memory"),
    ],
)
def test_what_no_room_expected(
    error: Exception, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("masklater.recipe.load.load", fail)
    assert inside(monkeypatch, "pretrain", "x", "--data", "d", "--out", "o") == 2
    err = capsys.readouterr().err
    assert message in err and "Traceback" not in err


def test_the_version_names_what_masklater_stands_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert inside(monkeypatch, "--version") == 0
    found = capsys.readouterr().out
    for package in ("masklater", "torch", "transformers"):
        assert f"{package} {metadata.version(package)}" in found


def test_what_comes_before_torch_needs_neither_torch_nor_posix() -> None:
    """The version, and the shell's completion of commands and recipes; and on Windows a sentence."""
    code = (
        "import sys, os; from unittest import mock\n"
        "sys.modules.update({name: None for name in ('torch', 'transformers', 'fcntl', 'resource')})\n"
        "import masklater.cli as cli\n"
        "def run(*words):\n"
        "    sys.argv = ['masklater', *words]\n"
        "    try: cli.main()\n"
        "    except SystemExit as leave: print('status', leave.code)\n"
        "run('--version')\n"
        "os.environ.update(_MASKLATER_COMPLETE='complete_bash', COMP_WORDS='masklater pretrain mae', COMP_CWORD='2')\n"
        "run()\n"
        "with mock.patch.object(sys, 'platform', 'win32'): run('doctor')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    version, status, first, second, completed, windows = done.stdout.splitlines()
    assert f"torch {metadata.version('torch')}" in version and status == "status 0"
    assert {first, second} == {"mae-lm-base", "mae-lm-small"} and completed == "status 0"
    assert windows == "status 2" and "Windows is not supported" in done.stderr and "WSL 2" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_saved_model_in_place_of_a_run_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "encoder").mkdir()
    (tmp_path / "encoder" / "config.json").write_text("{}")
    assert inside(monkeypatch, "fill", tmp_path / "encoder", "<mask>") == 2
    assert "What is here is a saved model, which transformers loads" in capsys.readouterr().err
    assert inside(monkeypatch, "doctor", tmp_path / "encoder") == 2
    assert "neither SHARDS nor a RUN, but a saved model" in capsys.readouterr().err


def test_a_result_that_the_encoding_of_a_terminal_lacks_is_no_traceback(shards_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(shards_folder, tmp_path / "again")
    command = [
        sys.executable,
        "-m",
        "masklater",
        "join",
        shards_folder,
        tmp_path / "again",
        "--out",
        tmp_path / "текст",
    ]
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    done = subprocess.run(command, capture_output=True, env=environment, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert b"\\u0442\\u0435\\u043a\\u0441\\u0442" in done.stdout


@pytest.mark.parametrize("command", ["prepare", "pretrain", "export", "fill", "rows", "doctor", "quickstart"])
def test_help_has_examples(command: str) -> None:
    done = masklater(command, "--help")
    assert done.returncode == 0
    assert f"  masklater {command}" in done.stdout.split("Examples:")[1]
    assert "--json" in done.stdout


def test_help_has_headings() -> None:
    said = masklater("prepare", "--help").stdout
    headings = [line for line in said.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert headings == [
        "Arguments:", "Options:", "What is read:", "The tokenizer:", "Rows:", "What is kept:", "How it is done:",
    ]  # fmt: skip
    assert said.index("What is read:") < said.index("  --text-field") < said.index("The tokenizer:")


@pytest.mark.slow
def test_the_quickstart_as_it_is(tmp_path: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    quick = result_of("quickstart", "--out", tmp_path / "out", timeout=600)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert quick["learning_seconds"] >= 120
    computed = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    if computed < 0.8 * quick["seconds"]:
        pytest.skip(f"other work left it {computed / quick['seconds']:.0%} of a core: what it learned says nothing")
    assert quick["seconds"] < 360
    assert quick["valid_loss"] < quick["unigram_loss"] - 0.8
    assert quick["valid_accuracy"] > 2 * quick["unigram_accuracy"]


@pytest.mark.slow
@pytest.mark.skipif(not (DATA / "text").is_dir(), reason="the real corpora are not on this machine")
def test_the_main_job_on_real_text(tmp_path: Path) -> None:
    """200 steps on Wikipedia's text, 3ML and its vanilla twin: both must be well below where they began."""
    prepared = result_of("prepare", DATA / "text" / "wikipedia_en.jsonl", "--out", tmp_path / "shards",
                         "--vocab-size", 16000, timeout=300)  # fmt: skip
    assert prepared["read"]["documents"] == 34_352
    assert prepared["real_share"] > 0.95
    for recipe in ("3ml-small", "vanilla-small"):
        trained = result_of("pretrain", recipe, "batch.rows=32", "duration.steps=200", "--data", tmp_path / "shards",
                            "--out", tmp_path / recipe, timeout=1500)  # fmt: skip
        assert trained["valid_loss"] < 7.6  # the unigram distribution's loss is 7.5, a uniform one's 9.7
        result_of("export", tmp_path / recipe, "--out", tmp_path / f"{recipe}-encoder")
        encoder = AutoModel.from_pretrained(tmp_path / f"{recipe}-encoder")
        tokenizer = AutoTokenizer.from_pretrained(tmp_path / f"{recipe}-encoder")
        hidden = encoder(**tokenizer("History is a science.", return_tensors="pt")).last_hidden_state
        assert torch.isfinite(hidden).all()
        assert len(result_of("fill", tmp_path / recipe, "The capital of France is <mask>.")["masks"][0]) == 5


@pytest.mark.slow
@pytest.mark.skipif(not (DATA / "text").is_dir(), reason="the real corpora are not on this machine")
def test_prepare_real_novels_with_robertas_ids_and_flat_memory(tmp_path: Path) -> None:
    options = ("--tokenizer", DATA / "vocab")
    once = result_of("prepare", DATA / "text" / "novels", "--out", tmp_path / "once", *options, timeout=300)
    assert (once["vocabulary"], once["read"]["documents"]) == (50_265, 100)
    (tmp_path / "thrice").mkdir()
    for number in range(3):
        (tmp_path / "thrice" / str(number)).symlink_to(DATA / "text" / "novels")
    inputs = sorted((tmp_path / "thrice").iterdir())
    thrice = result_of("prepare", *inputs, "--out", tmp_path / "out", *options, timeout=600)
    assert thrice["tokens"] == 3 * once["tokens"]
    assert thrice["peak_memory_bytes"] < 1.25 * once["peak_memory_bytes"]


def test_help_shows_every_summary_whole() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "masklater", "--help"], capture_output=True, text=True, check=True,
        env={**os.environ, "COLUMNS": "80", "TERMINAL_WIDTH": "80"},
    )  # fmt: skip
    shown = " ".join(done.stdout.split())
    assert max(map(len, done.stdout.splitlines())) <= 80
    for command in app.registered_commands:
        assert command.callback is not None
        summary = " ".join((command.callback.__doc__ or "").split("\n\n")[0].split())
        assert summary and summary in shown
