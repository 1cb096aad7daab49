"""Faults of the world around a run: each has a clear outcome, and nothing that was written before is lost."""

import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from masklater import folders, lock
from masklater.cli import main
from masklater.errors import DamagedDataError, UserError
from masklater.folders import complete_folder, refuse_existing
from masklater.lock import last_holder, only_process
from masklater.pretrain import loop
from masklater.pretrain.loop import pretrain, train_step
from masklater.run.checkpoint import list_checkpoints
from masklater.run.metrics import read_metrics
from tests.conftest import REPOSITORY, fill_the_disk, tiny
from tests.runs import losses

pytestmark = pytest.mark.fault


def before_step(number: int, fault: Any) -> Any:
    """A train_step that lets a fault happen before its so-manieth call."""
    calls: list[int] = []

    def step(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == number:
            fault()
        return train_step(*arguments)

    return step


@pytest.mark.parametrize("ending", ["rows", "starts"])
@pytest.mark.parametrize("fault", ["vanishes", "shrinks"])
def test_a_shard_that_goes_while_training(
    fault: str, ending: str, shards_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run is saved where it stands, the file is named; once it is back, the run goes on as if nothing had been."""
    pretrain(tiny(), shards_folder, tmp_path / "straight")
    data = Path(shutil.copytree(shards_folder, tmp_path / "data"))
    file = data / f"train-00000.{ending}"

    def go() -> None:
        if fault == "vanishes":
            file.unlink()
        else:
            os.truncate(file, 4096 if ending == "rows" else 10)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_step", before_step(3, go))
        with pytest.raises(DamagedDataError, match=rf"train-00000\.{ending} (is missing|has .* truncated)"):
            pretrain(tiny(), data, tmp_path / "run")
    newest = list_checkpoints(tmp_path / "run" / "checkpoints")[-1]
    assert newest.name == f"step-{len(losses(tmp_path / 'run')):08d}"
    with pytest.raises(DamagedDataError, match=rf"train-00000\.{ending}"):
        pretrain(tiny(), data, tmp_path / "run", resume=True)
    if file.exists():
        file.unlink()
    shutil.copy(shards_folder / file.name, file)
    pretrain(tiny(), data, tmp_path / "run", resume=True)
    assert losses(tmp_path / "run") == losses(tmp_path / "straight")


def test_an_evaluation_that_could_not_be_made_is_made_up_for(
    shards_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The step before it is saved; without the evaluation, the log would lack what a straight run's has."""
    pretrain(tiny(), shards_folder, tmp_path / "straight")
    data = Path(shutil.copytree(shards_folder, tmp_path / "data"))
    file = data / "valid-00000.rows"
    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_step", before_step(3, file.unlink))
        with pytest.raises(DamagedDataError, match=r"valid-00000\.rows is missing"):
            pretrain(tiny(), data, tmp_path / "run")
    shutil.copy(shards_folder / file.name, file)
    pretrain(tiny(), data, tmp_path / "run", resume=True)
    names = ("step", "loss", "valid_loss", "valid_loss_15")
    straight, run = (
        [[record.get(name) for name in names] for record in read_metrics(tmp_path / folder / "metrics.jsonl")]
        for folder in ("straight", "run")
    )
    assert run == straight


def test_an_id_that_is_no_token_is_refused_before_it_is_looked_up(shards_folder: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(shards_folder, tmp_path / "data"))
    pretrain(tiny("3ml-small", "duration.steps=2"), data, tmp_path / "run")
    content = bytearray((data / "train-00000.rows").read_bytes())
    content[1::64] = b"\xff" * len(content[1::64])  # a run that goes on checks sizes, not checksums
    (data / "train-00000.rows").write_bytes(content)
    with pytest.raises(
        DamagedDataError, match=r"train-00000\.rows holds the id 6\d,\d+; the tokenizer has \d+ entries"
    ):
        pretrain(tiny(), data, tmp_path / "run", resume=True)


def test_the_old_checkpoint_stays_until_the_new_one_is_complete(
    shards_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny("3ml-small", "checkpoint.keep=1")
    pretrain(recipe, shards_folder, tmp_path / "straight")
    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_step", before_step(3, lambda: fill_the_disk(patch, "progress.json")))
        with pytest.raises(UserError, match=r"the disk is full: .*step-00000004"):
            pretrain(recipe, shards_folder, tmp_path / "run")
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-00000002"]
    pretrain(recipe, shards_folder, tmp_path / "run", resume=True)
    assert losses(tmp_path / "run") == losses(tmp_path / "straight")


def test_a_run_that_is_moved_while_it_trains_stays_one(
    shards_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its later checkpoints do not go to a new folder under the old name, where nothing could be made of them."""
    pretrain(tiny(), shards_folder, tmp_path / "straight")
    run, moved = tmp_path / "run", tmp_path / "moved"
    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_step", before_step(3, lambda: run.rename(moved)))
        with pytest.raises(UserError, match=r"run/checkpoints is no longer there: was the run moved"):
            pretrain(tiny(), shards_folder, run)
    assert not run.exists()
    pretrain(tiny(), shards_folder, moved, resume=True)
    assert losses(moved) == losses(tmp_path / "straight")


@pytest.mark.parametrize("file", ["metrics.jsonl", "recipe.yaml", "config.json", "run.json"])
def test_damage_inside_a_run_is_refused_by_name(file: str, shards_folder: Path, tmp_path: Path) -> None:
    pretrain(tiny("3ml-small", "duration.steps=2"), shards_folder, tmp_path / "run")
    path = tmp_path / "run" / file
    path.write_bytes(b"\xff\xfe{[" + path.read_bytes())
    with pytest.raises(UserError, match=file.replace(".", r"\.")):
        pretrain(tiny(), shards_folder, tmp_path / "run", resume=True)


def test_a_log_that_ends_in_rubbish_loses_its_last_line_only(shards_folder: Path, tmp_path: Path) -> None:
    pretrain(tiny(), shards_folder, tmp_path / "straight")
    pretrain(tiny("3ml-small", "duration.steps=2"), shards_folder, tmp_path / "run")
    with (tmp_path / "run" / "metrics.jsonl").open("ab") as file:
        file.write(b"\0\0\xff\xfe")  # what a power cut may leave of a block
    pretrain(tiny("3ml-small", "duration.steps=2"), shards_folder, tmp_path / "run", resume=True)
    assert losses(tmp_path / "run") == losses(tmp_path / "straight")[:2]


def test_the_clock_may_jump(shards_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The calendar is nobody's business: only clocks that never go back are read."""
    pretrain(tiny(), shards_folder, tmp_path / "straight")
    jumps = iter(range(10**9))
    real = time.time()
    monkeypatch.setattr(time, "time", lambda: real + (-1) ** next(jumps) * 1e8)
    pretrain(tiny(), shards_folder, tmp_path / "run")
    assert losses(tmp_path / "run") == losses(tmp_path / "straight")
    ledger = json.loads((tmp_path / "run" / "ledger.json").read_text())
    assert all(0 <= ledger[name] < 600 for name in ledger if name.endswith("seconds"))
    source = "\n".join(path.read_text() for path in (REPOSITORY / "src").rglob("*.py"))
    assert "time.time(" not in source
    assert "datetime.now" not in source


# One process to a run


def test_two_processes_on_one_run(shards_folder: Path, tmp_path: Path) -> None:
    """The second is told who holds the run; when the first is killed, the kernel lets go of the lock."""
    pretrain(tiny("3ml-small", "duration.steps=1"), shards_folder, tmp_path / "run")
    code = (
        "import sys, time; from pathlib import Path; from masklater.lock import only_process\n"
        "with only_process(Path(sys.argv[1])):\n    print('held', flush=True); time.sleep(600)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "run")], stdout=subprocess.PIPE)
    assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
    before = sorted((path, path.stat().st_mtime_ns) for path in (tmp_path / "run").rglob("*"))
    with pytest.raises(UserError, match=rf"is being trained by process {holder.pid} on ") as raised:
        pretrain(tiny(), shards_folder, tmp_path / "run", resume=True)
    assert os.uname().nodename in raised.value.problem
    assert before == sorted((path, path.stat().st_mtime_ns) for path in (tmp_path / "run").rglob("*"))
    holder.kill()
    holder.wait()
    holder.stdout.close()
    assert pretrain(tiny(), shards_folder, tmp_path / "run", resume=True).finished
    assert last_holder(tmp_path / "run") == lock.Holder(os.getpid(), os.uname().nodename)


def test_where_locks_are_not_to_be_had_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(lock.fcntl, "flock", no_locks)
    with only_process(tmp_path):
        pass
    assert "cannot be locked on this file system" in capsys.readouterr().err


def test_the_slower_of_two_into_one_name_is_told(tmp_path: Path) -> None:
    """Both began while the name was free. The faster one's folder stays as it is."""
    with pytest.raises(UserError, match="out exists already"), complete_folder(tmp_path / "out") as slow:
        (slow / "slow").write_text("slow")
        with complete_folder(tmp_path / "elsewhere") as fast:
            (fast / "fast").write_text("fast")
        (tmp_path / "elsewhere").rename(tmp_path / "out")
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "fast"]


# Places that cannot be written


def places(tmp_path: Path) -> dict[str, Path]:
    (tmp_path / "file").write_text("mine")
    return {
        "proc": Path("/proc/x"),
        "sys": Path("/sys/x"),
        "below a file": tmp_path / "file" / "out",
        "deep below a file": tmp_path / "file" / "a" / "out",
        "too long": tmp_path / ("x" * 300),
        "a loop of links": tmp_path / "loop" / "out",
        "a device": Path("/dev/null/out"),
    }


@pytest.mark.parametrize(
    "name", ["proc", "sys", "below a file", "deep below a file", "too long", "a loop of links", "a device"]
)
def test_places_that_cannot_be_written(name: str, shards_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    out = places(tmp_path)[name]
    with pytest.raises(UserError, match=r"cannot be written|exists already"):
        refuse_existing(out)  # at once, and not when the work is done
    with pytest.raises(UserError, match=r"cannot be written|exists already"):
        pretrain(tiny(), shards_folder, out)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE, errno.EDQUOT])
def test_read_only_and_failing_disks(
    number: int, shards_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the kernel says is said, whatever it is; simulated, as root may write where nobody else may."""
    mkdir = Path.mkdir

    def refuse(self: Path, *args: Any, **kwargs: Any) -> None:
        if "out" in self.name:
            raise OSError(number, os.strerror(number), str(self))
        mkdir(self, *args, **kwargs)

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(UserError, match=os.strerror(number)):
        pretrain(tiny(), shards_folder, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "work"),
    [
        ("blimp {run} --data {pairs} --out {out}", "masklater.judge.blimp.score_pairs"),
        ("blimp {run} --data {pairs} --out {out}/deep/in/it.json", "masklater.judge.blimp.score_pairs"),
        ("export {run} --out {out}", "masklater.run.folder.RunFolder"),
        ("compare {run} {run} --out {out}", "masklater.report.compare.read_run"),
        (
            "select {shards} --early {run} --reference {run} --keep 0.5 --out {out}",
            "masklater.select.select.open_scorers",
        ),
        (
            "select {shards} --early {run} --reference {run} --targets --out {out}",
            "masklater.select.targets.open_scorers",
        ),
        ("prepare {pairs} --dropped {out} --dedup exact --out {other}", "masklater.corpus.prepare.look_at"),
        ("prepare {pairs} --out {out}", "masklater.corpus.prepare.look_at"),
        ("join {shards} {shards} --out {out}", "masklater.corpus.join.Shards"),
    ],
)
def test_a_place_that_cannot_be_written_is_found_before_the_work(
    words: str,
    work: str,
    shards_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "pairs.jsonl").write_text('{"sentence_good": "a", "sentence_bad": "b", "text": "kan lot"}\n')
    disk = tmp_path / "disk"
    disk.mkdir()
    real = tempfile.TemporaryFile

    def read_only(*args: Any, dir: Any = None, **kwargs: Any) -> Any:
        if dir == disk:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(dir))
        return real(*args, dir=dir, **kwargs)

    def too_late(*_: object, **__: object) -> None:
        raise AssertionError("the work began")

    monkeypatch.setattr(tempfile, "TemporaryFile", read_only)
    monkeypatch.setattr(work, too_late)
    at = {
        "run": tmp_path / "run",
        "shards": shards_folder,
        "pairs": tmp_path / "pairs.jsonl",
        "other": tmp_path / "other",
    }
    monkeypatch.setattr(sys, "argv", ["masklater", *words.format(out=disk / "out", **at).split()])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 2 and "cannot be written: Read-only file system" in capsys.readouterr().err
    assert list(disk.iterdir()) == [] and not (tmp_path / "other").exists()


@pytest.mark.parametrize("file", ["lock", "metrics.jsonl"])
def test_a_run_that_has_become_read_only(
    file: str, shards_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretrain(tiny("3ml-small", "duration.steps=2"), shards_folder, tmp_path / "run")
    real_os_open, real_open = os.open, Path.open

    def read_only(path: Any, flags: Any, *args: Any, **kwargs: Any) -> Any:
        if str(path).endswith(f"run/{file}") and flags & (os.O_RDWR | os.O_WRONLY):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return real_os_open(path, flags, *args, **kwargs)

    def read_only_file(self: Path, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if str(self).endswith(f"run/{file}") and mode not in {"rb", "r"}:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(self))
        return real_open(self, mode, *args, **kwargs)

    monkeypatch.setattr(os, "open", read_only)
    monkeypatch.setattr(Path, "open", read_only_file)
    with pytest.raises(UserError, match=rf"{file} cannot be written: Read-only file system"):
        pretrain(tiny(), shards_folder, tmp_path / "run", resume=True)


def test_a_fault_inside_the_block_names_the_file_it_is_about(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"out cannot be written: No such file or directory \(.*nowhere\)"):
        with complete_folder(tmp_path / "out"):
            (tmp_path / "nowhere").read_text()
    with pytest.raises(BrokenPipeError), complete_folder(tmp_path / "out"):
        raise BrokenPipeError
    with pytest.raises(ZeroDivisionError), complete_folder(tmp_path / "out"):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
    assert folders.nearest_existing(Path("/" + "x" * 300)) == Path("/")


@pytest.mark.parametrize("progress", [{}, [], {"ledger": 3, "decay": None}, {"ledger": {"stepz": 1}, "decay": None}])
def test_a_checkpoint_that_is_something_else(progress: Any, shards_folder: Path, tmp_path: Path) -> None:
    """Its checksum is right: whoever makes the folder can make that too."""
    pretrain(tiny("3ml-small", "duration.steps=2"), shards_folder, tmp_path / "run")
    checkpoint = list_checkpoints(tmp_path / "run" / "checkpoints")[-1]
    (checkpoint / "progress.json").write_text(json.dumps(progress))
    files = [file for file in checkpoint.iterdir() if file.name != "checkpoint.json"]
    hashes = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    (checkpoint / "checkpoint.json").write_text(json.dumps({"step": 2, "sha256": hashes}))
    with pytest.raises(DamagedDataError, match=r"no checkpoint in .* is sound"):
        pretrain(tiny(), shards_folder, tmp_path / "run", resume=True)
