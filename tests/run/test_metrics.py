"""Training, health and report read metrics.jsonl alike, whatever its last line looks like."""

import json
from pathlib import Path

import pytest

from masklater.errors import DamagedDataError, UserError
from masklater.report.runs import read_run
from masklater.run.metrics import MetricsLog, read_metrics, recent_losses, training_sha256
from tests.report.made_up import make_run, write_metrics

ENDINGS = {"cut short": 40, "half a character": 40, "whole without its end": 1}
"""Bytes of the last line that are missing."""


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_last_line_without_its_end_is_a_record_to_all_or_to_none(ending: str, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", [])
    path = run / "metrics.jsonl"
    path.write_bytes(path.read_bytes()[: -ENDINGS[ending]] + (b"\xc3" if ending.startswith("half") else b""))
    steps = 10 if ending == "whole without its end" else 9
    assert len(read_metrics(path)) == len(recent_losses(path, 100)) == read_run(run, "run").spent.steps == steps
    with MetricsLog(run, 10) as log:
        log.write({"step": 11, "loss": 1.0})
    assert [record["step"] for record in read_metrics(path)] == [*range(1, steps + 1), 11]


@pytest.mark.parametrize("line", ["not json", "[1, 2]", "", '{"loss": 2.0}', '{"step": "1", "loss": 2.0}'])
@pytest.mark.parametrize("at", [3, 10])
def test_a_line_with_its_end_that_is_no_record_is_damage_to_all(line: str, at: int, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", [])
    path = run / "metrics.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:at], line, *lines[at:]]) + "\n")
    before = path.read_bytes()
    for read in (
        lambda: read_metrics(path),
        lambda: recent_losses(path, 100),
        lambda: read_run(run, "run"),
        lambda: MetricsLog(run, 10),
    ):
        with pytest.raises(DamagedDataError, match=rf"metrics\.jsonl, line {at + 1}: not a record of a run"):
            read()
    assert path.read_bytes() == before


def test_damage_near_the_end_of_a_long_log_is_named_by_its_line(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    lines = [json.dumps({"step": step, "loss": 1.0, "note": "x" * 3000}) for step in range(1, 100)]
    path.write_text("\n".join([*lines[:95], "broken", *lines[95:]]) + "\n")
    with pytest.raises(DamagedDataError, match="line 96: not a record"):
        recent_losses(path, 10)


def test_steps_that_a_log_lacks_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As after a power cut, or where it was on a disk that the run has left."""
    run = make_run(tmp_path / "run", [])
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    with MetricsLog(run, 10):
        assert capsys.readouterr().err == ""
    (run / "metrics.jsonl").write_text("".join(lines[:3] + lines[5:]))
    with MetricsLog(run, 10) as log:
        log.sync()
    assert "lacks 2 of the 10 steps made" in capsys.readouterr().err
    (run / "metrics.jsonl").unlink()
    with MetricsLog(run, 10):
        assert "lacks 10 of the 10 steps made" in capsys.readouterr().err


def test_a_full_disk_is_one_message(tmp_path: Path) -> None:
    """Closing the file tries again to write what could not be written, and says nothing new."""
    log = MetricsLog(tmp_path, 0)
    with Path("/dev/full").open("w", encoding="utf-8") as log.file:
        with pytest.raises(UserError, match=r"the disk is full: .*metrics\.jsonl"), log:
            log.write({"step": 1, "loss": 1.0})


def test_a_log_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read: No such file"):
        read_metrics(tmp_path / "metrics.jsonl")
    assert recent_losses(tmp_path / "metrics.jsonl", 10) == []


def test_what_was_logged_of_the_training_tells_weights_apart(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", [(5, 4.0)])
    records = read_metrics(run / "metrics.jsonl")
    found = training_sha256(run, 8)
    assert found is not None
    assert len(found) == 64

    def changed(step: int, **fields: float) -> str | None:
        write_metrics(run, [each | (fields if each["step"] == step else {}) for each in records])
        return training_sha256(run, 8)

    assert changed(8, step_seconds=1.0, data_seconds=2.0, rows=1, energy_joules=3.0) == found  # the machine's business
    assert changed(9, loss=1.0) == changed(5, valid_loss=9.0) == found  # later, or no step
    assert len({found, changed(8, loss=9.1), changed(1, loss=9.1), changed(8, lr=1.0), changed(2, grad_norm=2.0)}) == 5
    assert changed(8, loss=float("nan")) not in {found, None}
    assert training_sha256(run, 7) != found
    assert [training_sha256(run, step) for step in (0, 11)] == [None, None]
    assert training_sha256(tmp_path, 8) is None
    (run / "metrics.jsonl").write_text("broken\n")
    assert training_sha256(run, 8) is None
