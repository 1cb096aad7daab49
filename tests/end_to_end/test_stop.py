"""Ctrl-C, SIGTERM and SIGHUP wherever a command may be: one line, nothing half-written, 128 + the signal's number."""

import atexit
import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from masklater.cli import main
from masklater.cli.stop import Stopped
from masklater.corpus.interruptible import interruptible
from masklater.errors import Interrupted
from masklater.pretrain.loop import pretrain, train_step
from masklater.quickstart.docstrings import gather
from masklater.quickstart.main_job import quickstart
from tests.conftest import make_text, tiny


@pytest.fixture(scope="module")
def run(shards_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    pretrain(tiny("3ml-small", "duration.steps=2"), shards_folder, folder)
    return folder


SIGNALS = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGHUP: "SIGHUP"}


class Left(BaseException):
    """In place of the end of the process."""


@pytest.fixture
def leaving(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let a command be stopped inside this process, which goes on."""

    def leave(status: int) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        raise Left(status)

    monkeypatch.setattr(os, "_exit", leave)
    monkeypatch.setattr(atexit, "_run_exitfuncs", lambda: None)
    before = {number: signal.getsignal(number) for number in (*SIGNALS, signal.SIGALRM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


STOPS = {  # a command, and a function in whose place the signal comes
    "prepare, reading": ("prepare {corpus} --out {tmp}/o", "masklater.corpus.whole.held_out_below"),
    "prepare, tokenising": ("prepare {corpus} --out {tmp}/o --vocab-size 300", "masklater.corpus.parts.make.tokenise"),
    "prepare, writing": ("prepare {corpus} --out {tmp}/o --vocab-size 300", "masklater.corpus.shards.SplitWriter.close"),
    "prepare, into an empty folder": ("prepare {corpus} --out {tmp} --vocab-size 300", "masklater.corpus.prepare.make_index"),
    "pretrain, at its start": ("pretrain 3ml-small --data {shards} --out {tmp}/o", "masklater.pretrain.opening._verify"),
    "export": ("export {run} --out {tmp}/o", "masklater.model.encoder.PreTrainedModel.save_pretrained"),
    "fill": ("fill {run} <mask>", "masklater.model.fill.fill_masks"),
    "blimp": ("blimp {run} --data {tmp}/../pairs.jsonl --out {tmp}/o", "masklater.judge.blimp._score_file"),
    "glue": ("glue {run} --data {tmp}/../glue --out {tmp}/o --tasks rte", "masklater.judge.sweep.write_identity"),
    "compare": ("compare {run} --out {tmp}/o", "masklater.report.compare._drawings"),
    "quickstart": ("quickstart --out {tmp}/o", "masklater.quickstart.main_job.gather"),
    "budget": ("budget 3ml-small", "masklater.budget.forecast.forecast"),
    "rows": ("rows {shards} 0", "masklater.corpus.show.show_rows"),
    "doctor": ("doctor {shards}", "masklater.doctor.examine.examine"),
}  # fmt: skip


def in_place_of(name: str) -> tuple[Any, str]:
    """The module or class that holds a function, and its name in it."""
    holder, _, function = name.rpartition(".")
    try:
        return importlib.import_module(holder), function
    except ModuleNotFoundError:
        module, _, owner = holder.rpartition(".")
        return getattr(importlib.import_module(module), owner), function


@pytest.mark.parametrize("name", STOPS)
def test_a_stopped_command_leaves_nothing(
    name: str,
    leaving: None,
    corpus: Path,
    shards_folder: Path,
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    number, said = [*SIGNALS.items()][len(name) % 3]
    (tmp_path / "pairs.jsonl").write_text('{"sentence_good": "kan lot", "sentence_bad": "kan net"}\n')
    rte = tmp_path / "glue" / "RTE"
    rte.mkdir(parents=True)
    for split in ("train", "dev"):
        lines = [f"{row}\tkan lot\tkan net\t{'not_' * (row % 2)}entailment" for row in range(4)]
        (rte / f"{split}.tsv").write_text("\n".join(["index\tsentence1\tsentence2\tlabel", *lines, ""]))
    place = tmp_path / "place"
    place.mkdir()
    command, function = STOPS[name]
    places = {"tmp": place, "corpus": corpus, "shards": shards_folder, "run": run}
    monkeypatch.setattr(sys, "argv", ["masklater", *(part.format(**places) for part in command.split())])

    def stop(*_: object, **__: object) -> None:
        os.kill(os.getpid(), number)
        time.sleep(60)

    monkeypatch.setattr(*in_place_of(function), stop)
    with pytest.raises(Left, match=str(128 + number)):
        main()
    err = capsys.readouterr().err
    assert err.splitlines()[-1] == f"masklater: stopped by {said}"
    assert err.count("stopped by") == 1 and "Traceback" not in err
    assert list(place.iterdir()) == [] and not list(tmp_path.glob("*partial*"))


def _lose() -> None:
    class Lost:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.1)

    Lost()
    time.sleep(60)


def _wrap() -> None:
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
    except BaseException as error:
        raise RuntimeError("as torch.distributed.checkpoint does") from error


SWALLOWS = {"an exception that is lost": _lose, "another made of it": _wrap}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("name", SWALLOWS)
def test_a_signal_is_not_lost(
    name: str, leaving: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("masklater.recipe.load.load", lambda *_: SWALLOWS[name]())
    monkeypatch.setattr(sys, "argv", ["masklater", "budget", "3ml-small"])
    began = time.monotonic()
    with pytest.raises(Left, match="143"):
        main()
    assert time.monotonic() - began < 30
    assert "masklater: stopped by SIGTERM" in capsys.readouterr().err


def test_signals_reach_through_a_library_that_works_for_minutes() -> None:
    before = signal.getsignal(signal.SIGTERM)

    def stop(*_: object) -> None:
        raise Stopped

    signal.signal(signal.SIGTERM, stop)
    try:
        with pytest.raises(Stopped):
            interruptible(lambda: (os.kill(os.getpid(), signal.SIGTERM), time.sleep(20)))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert interruptible(lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        interruptible(lambda: 1 // 0)


def test_the_quickstart_stopped_while_training_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(40):
        (tmp_path / f"m{number}.py").write_text(f'"""{make_text(number, 120)}"""')

    def step(*arguments: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return train_step(*arguments)

    monkeypatch.setattr("masklater.pretrain.loop.train_step", step)
    overrides = ["duration.steps=12", "model.hidden_size=32", "model.intermediate_size=64"]
    with pytest.raises(Interrupted, match="stopped before its end; nothing is left of") as stopped:
        quickstart(tmp_path / "out", sorted(tmp_path.glob("*.py")), overrides, vocab_size=600)
    assert stopped.value.signal_number == signal.SIGTERM
    assert not list(tmp_path.glob("out*"))


def test_workers_do_not_see_ctrl_c(tmp_path: Path) -> None:
    """A terminal sends it to all processes; the one that started them answers."""
    code = (
        "import os, signal\n"
        "from pathlib import Path\n"
        "from masklater.quickstart import docstrings\n"
        "if __name__ == '__main__':\n"
        "    docstrings.FILES_A_TASK = 1\n"
        "    signal.signal(signal.SIGINT, lambda *_: print('heard'))\n"
        "    from masklater.console import Meter\n"
        "    advance = Meter.advance\n"
        "    Meter.advance = lambda self, *rest: (os.killpg(0, signal.SIGINT), advance(self, *rest))\n"
        "    print(docstrings.gather(Path('out.jsonl'), sorted(Path('.').glob('*.py')), 2).modules)\n"
    )
    (tmp_path / "program").write_text(code)
    for number in range(3):
        (tmp_path / f"m{number}.py").write_text(f'"""{make_text(number, 120)}"""')
    done = subprocess.run([sys.executable, "program"], cwd=tmp_path, capture_output=True, text=True, check=False,
                          timeout=300, start_new_session=True)  # fmt: skip
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert done.stdout.splitlines()[-1] == "4" and "heard" in done.stdout


def test_prepare_stopped_in_a_real_process(shards_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("".join(f"{make_text(seed, 200)}\n" for seed in range(200)) * 100)
    command = [sys.executable, "-m", "masklater", "prepare", "a.txt", "--documents", "line", "--out", "deep/o",
               "--tokenizer", str(shards_folder / "tokenizer")]  # fmt: skip
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    while process.poll() is None and not list(tmp_path.glob("deep/o.partial-*/tokenizer")):
        time.sleep(0.01)
    process.terminate()
    out, err = process.communicate(timeout=300)
    assert (process.returncode, out, err) == (143, "", "masklater: stopped by SIGTERM\n")
    assert list((tmp_path / "deep").iterdir()) == []


SMALL_PARTS = """
import functools, sys
from masklater.cli import main
if __name__ == "__main__":
    command = sys.modules["masklater.cli.prepare"]  # as an attribute it is the function
    command.PrepareSettings = functools.partial(command.PrepareSettings, part_bytes=200_000)
    main()
"""


def test_prepare_in_processes_ends_with_them_and_keeps_what_is_finished(shards_folder: Path, tmp_path: Path) -> None:
    """Ctrl-C, which a terminal sends to every process."""
    (tmp_path / "a.txt").write_text("".join(f"{make_text(seed, 200)}\n" for seed in range(200)) * 40)
    (tmp_path / "small.py").write_text(SMALL_PARTS)
    command = [sys.executable, "small.py", "prepare", "a.txt", "--documents", "line", "--out", "o", "--workers", "2",
               "--tokenizer", str(shards_folder / "tokenizer")]  # fmt: skip
    process = subprocess.Popen(
        command, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )

    def finished() -> list[Path]:
        return [path for path in tmp_path.glob("o.parts/*/part.json") if ".partial-" not in path.parent.name]

    while process.poll() is None and not finished():
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=300)
    assert (process.returncode, out) == (130, "") and "Traceback" not in err, err
    assert err.splitlines()[-1] == "masklater: stopped by Ctrl-C" and "the same command with --resume goes on" in err
    with pytest.raises(ProcessLookupError):  # the last of them ends when it finds its parent gone
        for _ in range(200):
            os.killpg(process.pid, 0)
            time.sleep(0.05)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "o.parts", "small.py"]
    assert finished() and not list(tmp_path.glob("o.parts/*.partial-*"))


def test_a_worker_that_is_killed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from concurrent.futures import ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool

    def broken(*_: object) -> None:
        raise BrokenProcessPool

    monkeypatch.setattr(ProcessPoolExecutor, "map", broken)
    with pytest.raises(Exception, match="a process that reads docstrings was killed"):
        gather(tmp_path / "out.jsonl", [], 1)
