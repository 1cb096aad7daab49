"""RUN folders are read as pre-training writes them, and damage is named."""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest

from masklater.errors import DamagedDataError, UserError
from masklater.report.curves import x_label
from masklater.report.runs import counted_in, distinct_names, read_run
from tests.report.made_up import evaluation, make_run, read_lines, write_metrics


def test_totals_and_evaluations(tmp_path: Path) -> None:
    run = read_run(make_run(tmp_path / "run", [(4, 6.0), (10, 5.0)], head=2e11), "run")
    assert (run.spent.steps, run.spent.rows, run.spent.tokens, run.spent.flops) == (10, 100, 12800, 1e13)
    assert run.spent.hours == pytest.approx(10 * 36 / 3600)
    assert run.spent.flops_without_head == pytest.approx(8e12)
    assert [(point.spent.steps, point.loss, point.own_loss) for point in run.evaluations] == [(4, 6, 6.5), (10, 5, 5.5)]
    assert run.evaluations[0].spent.hours == pytest.approx(0.04)
    assert run.finished


def test_choosing_rows_is_part_of_what_a_run_has_spent_and_not_of_its_duration(tmp_path: Path) -> None:
    path = make_run(tmp_path / "run", [(4, 6.0)], head=2e11, optimizer=1e11, selection=2e12, duration="flops=1e13")
    run = read_run(path, "run")
    assert run.evaluations[0].spent.flops == pytest.approx(4 * 1.1e12 + 2e12)
    assert run.spent.flops == pytest.approx(10 * 1.1e12 + 2e12)
    assert run.spent.flops_without_head == pytest.approx(10 * 0.9e12 + 2e12)
    assert run.spent.flops_selection == pytest.approx(2e12)
    assert run.spent_of_duration == pytest.approx(1e13)
    assert run.finished
    plain = read_run(make_run(tmp_path / "plain", []), "plain")
    assert plain.spent.flops_selection == 0
    assert counted_in([plain]) == "LM head included"
    assert counted_in([plain, run]) == "LM head, optimizer and selection included"
    label = x_label(SimpleNamespace(runs=(plain, run)), "flops")  # type: ignore[arg-type]
    assert label.replace("\n", " ") == "training compute (10¹² FLOPs, LM head, optimizer and selection included)"
    assert all(len(line) <= 60 for line in label.split("\n"))  # what a plot has room for


def test_flops_without_head_only_where_recorded(tmp_path: Path) -> None:
    assert read_run(make_run(tmp_path / "run", []), "run").spent.flops_without_head is None


def test_a_last_line_cut_short_is_left_out(tmp_path: Path) -> None:
    path = make_run(tmp_path / "run", [(4, 6.0)])
    whole = (path / "metrics.jsonl").read_bytes()
    (path / "metrics.jsonl").write_bytes(whole[:-30])
    run = read_run(path, "run")
    assert run.spent.steps == 9
    assert not run.finished
    (path / "metrics.jsonl").write_bytes(whole + b'{"step": 11, "lo\xc3')
    assert read_run(path, "run").spent.steps == 10


DAMAGE = {
    "a line cut short, and more after it": lambda lines: [lines[0][:-20], *lines[1:]],
    "a last line that is no record, but whole": lambda lines: [*lines, "not json"],
    "an empty line": lambda lines: [lines[0], "", *lines[1:]],
    "no object": lambda lines: [*lines, "[1, 2]"],
    "a step is missing": lambda lines: lines[:2] + lines[3:],
    "a step twice": lambda lines: lines[:3] + lines[2:],
    "totals that fall": lambda lines: [*lines[:2], lines[2].replace('"rows": 30', '"rows": 20'), *lines[3:]],
    "no flops": lambda lines: [lines[0].replace("flops", "flips"), *lines[1:]],
    "text for a number": lambda lines: [lines[0].replace("36.0", '"36"'), *lines[1:]],
    "negative seconds": lambda lines: [lines[0].replace("36.0", "-1"), *lines[1:]],
    "seconds that are not finite": lambda lines: [lines[0].replace("36.0", "NaN"), *lines[1:]],
    "an evaluation elsewhere": lambda lines: [*lines[:6], json.dumps(evaluation(3, 5.0)), *lines[6:]],
    "an evaluation without its scores": lambda lines: [line.replace("valid_loss_15", "else") for line in lines],
}


@pytest.mark.parametrize("what", DAMAGE)
def test_damaged_metrics_are_named(what: str, tmp_path: Path) -> None:
    path = make_run(tmp_path / "run", [(4, 6.0)])
    (path / "metrics.jsonl").write_text("\n".join(DAMAGE[what](read_lines(path))) + "\n")
    with pytest.raises(DamagedDataError, match=r"metrics\.jsonl, line \d+: "):
        read_run(path, "run")


def test_the_later_evaluation_of_a_step_stands(tmp_path: Path) -> None:
    """A finished run that is resumed evaluates its last step once more."""
    path = make_run(tmp_path / "run", [(10, 5.0)])
    with (path / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(evaluation(10, 4.5)) + "\n")
    assert [point.loss for point in read_run(path, "run").evaluations] == [4.5]


def test_other_kinds_of_records_are_passed_over(tmp_path: Path) -> None:
    path = make_run(tmp_path / "run", [(10, 5.0)])
    with (path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 10, "peak_memory_bytes": 5}\n')
    assert read_run(path, "run").spent.steps == 10


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("run.json", None, "has no run.json"),
        ("recipe.yaml", None, "has no recipe.yaml"),
        ("metrics.jsonl", None, "cannot be read"),
        ("metrics.jsonl", "", "has not made a step"),
        ("run.json", "{}", "run.json is damaged"),
        ("run.json", "[", "run.json is damaged"),
        ("recipe.yaml", "masking: {rate: 3}\nduration: {steps: 1}", "masking.rate is 3"),
    ],
)
def test_a_folder_that_is_no_run(file: str, content: str | None, message: str, tmp_path: Path) -> None:
    path = make_run(tmp_path / "run", [])
    (path / file).unlink()
    if content is not None:
        (path / file).write_text(content)
    with pytest.raises(UserError, match=message):
        read_run(path, "run")


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no run"):
        read_run(tmp_path / "none", "none")


def test_names_take_as_many_parents_as_they_need(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    paths = [Path("a/1/run"), Path("b/1/run"), Path("a/2/run"), Path("other"), tmp_path / "here" / ".." / "here"]
    assert distinct_names(paths) == ["a/1/run", "b/1/run", "2/run", "other", "here"]
    monkeypatch.chdir(tmp_path / "here")
    assert distinct_names([Path()]) == ["here"]
    with pytest.raises(UserError, match="named twice"):
        distinct_names([Path("x"), Path("../here/x")])


def test_a_run_that_has_only_evaluated(tmp_path: Path) -> None:
    path = make_run(tmp_path / "run", [])
    write_metrics(path, [])
    with pytest.raises(UserError, match="has not made a step"):
        read_run(path, "run")


def test_an_evaluation_of_nothing_is_none(tmp_path: Path) -> None:
    """Runs of earlier versions recorded a loss of 0.0, which would beat every other."""
    path = make_run(tmp_path / "run", [(4, 6.0), (10, 0.0)], targets=0)
    assert [point.targets for point in read_run(path, "run").evaluations] == [0, 0]
    assert all(math.isnan(point.loss) and math.isnan(point.own_loss) for point in read_run(path, "run").evaluations)
    record = {**evaluation(4, 6.0), "valid_targets": 0}
    path = make_run(tmp_path / "own", [])
    lines = read_lines(path)
    write_metrics(path, [*map(json.loads, lines[:4]), record, *map(json.loads, lines[4:])])
    (point,) = read_run(path, "own").evaluations
    assert point.loss == 6.0 and math.isnan(point.own_loss) and math.isnan(point.own_accuracy)
