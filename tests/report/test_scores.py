"""SCORES folders find their run, and differences are those of the seeds."""

import json
from pathlib import Path

import pytest

from masklater.errors import DamagedDataError, UserError
from masklater.report.runs import Run, read_run
from masklater.report.scores import difference, read_scores, together
from masklater.report.whose import find_scores
from masklater.run.metrics import training_sha256
from tests.report.made_up import make_run, make_scores


@pytest.fixture
def runs(tmp_path: Path) -> list[Run]:
    return [read_run(make_run(tmp_path / name, [(10, 5.0)]), name) for name in ("one", "two")]


def test_differences_are_of_medians_and_of_any_two_seeds(tmp_path: Path) -> None:
    base = read_scores(make_scores(tmp_path / "base", {"rte": [60.0, 62.0, 61.0], "cola": [10.0]}))
    other = read_scores(make_scores(tmp_path / "other", {"rte": [64.0, 61.5, 63.0], "cola": [7.5]}))
    gap = difference(other.tasks["rte"], base.tasks["rte"])
    assert gap is not None
    assert (gap.median, gap.lowest, gap.highest) == (2.0, -0.5, 4.0)
    assert difference(other.tasks["cola"], base.tasks["rte"]) is None


def test_scores_find_their_run(runs: list[Run], tmp_path: Path) -> None:
    inside = make_scores(runs[0].path / "scores", {"rte": [60.0]})
    apart = make_scores(tmp_path / "apart", {"rte": [61.0]}, run=runs[1].path)
    found, notes = find_scores(runs, [apart])
    assert (found["one"].tasks["rte"].spread.median, found["two"].tasks["rte"].spread.median) == (60, 61)
    assert notes == []
    assert find_scores(runs, [inside])[0].keys() == {"one"}  # naming what is found anyway is no fault
    assert find_scores(runs[1:], [])[0] == {}


def test_scores_of_an_encoder_inside_the_run(runs: list[Run], tmp_path: Path) -> None:
    path = make_scores(tmp_path / "apart", {"rte": [61.0]}, encoder=str(runs[1].path / "encoder"))
    assert find_scores(runs, [path])[0].keys() == {"two"}


def test_scores_of_none_of_the_runs(runs: list[Run], tmp_path: Path) -> None:
    stranger = make_scores(tmp_path / "stranger", {"rte": [61.0]}, run=tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"stranger scored the run .*elsewhere, which is none of the runs"):
        find_scores(runs, [stranger])
    namesake = make_scores(tmp_path / "namesake", {"rte": [61.0]}, encoder=str(runs[0].path) + "-other")
    with pytest.raises(UserError, match=r"namesake scored the encoder .*one-other.*\n  If it was exported from one"):
        find_scores(runs, [namesake])


def test_two_scores_of_one_run(runs: list[Run], tmp_path: Path) -> None:
    make_scores(runs[0].path / "scores", {"rte": [60.0]})
    second = make_scores(tmp_path / "second", {"rte": [61.0]}, run=runs[0].path)
    with pytest.raises(UserError, match="the run one has two SCORES"):
        find_scores(runs, [second])


def test_scores_of_a_run_and_of_its_longer_copy_are_each_their_own(tmp_path: Path) -> None:
    """Both began alike, so that what the shorter one logged is no reason to take its scores for the longer one's."""
    losses = [(6, 5.0)]
    short = read_run(make_run(tmp_path / "short", losses, steps=6, duration="steps=10"), "short")
    longer = read_run(make_run(tmp_path / "longer", losses, steps=10), "longer")
    made = {
        run.name: make_scores(
            tmp_path / f"of-{run.name}",
            {"rte": [score]},
            run=tmp_path / "moved",
            step=step,
            training=training_sha256(run.path, step),
        )
        for run, step, score in ((short, 6, 60.0), (longer, 10, 70.0))
    }
    for runs in ([longer, short], [short, longer]):
        found, notes = find_scores(runs, [made["short"], made["longer"]])
        assert {name: scores.tasks["rte"].spread.median for name, scores in found.items()} == {
            "short": 60,
            "longer": 70,
        }
        assert notes == []
        assert find_scores(runs, [made["short"]])[0].keys() == {"short"}
    assert find_scores([longer], [made["short"]])[0].keys() == {"longer"}  # which has been there


def test_averages_of_other_tasks_are_not_averaged(tmp_path: Path) -> None:
    made = {
        "own": make_scores(tmp_path / "own", {"rte": [60.0], "cola": [20.0]}),
        "same": make_scores(tmp_path / "same", {"rte": [62.0], "cola": [22.0], "wnli": [50.0]}, not_averaged=["wnli"]),
        "other": make_scores(tmp_path / "other", {"rte": [80.0], "mrpc": [90.0]}),
    }
    own, same, other = (read_scores(folder) for folder in made.values())
    both = together([own, same])
    assert both.average is not None and both.average.value == 41
    assert together([own, other]).average is None


def test_scores_that_are_not_there(runs: list[Run], tmp_path: Path) -> None:
    (runs[0].path / "scores").mkdir()
    assert find_scores(runs, []) == ({}, ["one: scores holds no scores.json yet, and was left out."])
    with pytest.raises(UserError, match="no SCORES folder"):
        find_scores(runs, [tmp_path])


@pytest.mark.parametrize("path", [("tasks", "rte", "metric"), ("tasks", "rte", "main"), ("encoder",), ("tasks",)])
def test_damaged_scores_are_named(path: tuple[str, ...], tmp_path: Path) -> None:
    file = make_scores(tmp_path / "scores", {"rte": [60.0]}) / "scores.json"
    tree = json.loads(file.read_text())
    node = tree
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = "f1"
    file.write_text(json.dumps(tree))
    with pytest.raises(DamagedDataError, match=r"scores\.json is damaged at " + path[0]):
        read_scores(tmp_path / "scores")
    file.write_text("{")
    with pytest.raises(DamagedDataError, match=r"scores\.json is damaged: "):
        read_scores(tmp_path / "scores")


def test_what_is_not_known_here_is_passed_over(tmp_path: Path) -> None:
    file = make_scores(tmp_path / "scores", {"rte": [60.0]}) / "scores.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "seconds": 3, "average": None}))
    assert read_scores(tmp_path / "scores").average is None
