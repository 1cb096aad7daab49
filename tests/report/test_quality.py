"""Where a run first reaches a loss, held against values worked out by hand."""

from math import inf, nan
from pathlib import Path

import pytest

from masklater.errors import UserError
from masklater.report.caveats import caveats
from masklater.report.comparison import Comparison, check_comparable, choose_baseline, describe
from masklater.report.quality import first_reach
from masklater.report.runs import Evaluation, Run, Spent, read_run
from masklater.report.whose import find_scores
from tests.report.made_up import make_run, make_scores


def points(*losses: float) -> list[Evaluation]:
    """Evaluations 10 steps and 1e3 FLOPs apart."""
    return [
        Evaluation(Spent(steps=10 * number, flops=1e3 * number, hours=number), loss, 0.1, 100, loss, 0.1)
        for number, loss in enumerate(losses, start=1)
    ]


@pytest.mark.parametrize(
    ("losses", "flops", "at_most"),
    [
        ((8, 6, 4), 2500.0, False),  # 5 lies half way from 6 to 4
        ((8, 5.2, 4.4, 3), 2250.0, False),  # 0.2 of 0.8 down
        ((8, 5, 4), 2000.0, False),  # met exactly at an evaluation
        ((8, 4, 6, 3), 1750.0, False),  # the first time counts: 3 of 4 down
        ((4, 3), 1000.0, True),
        ((nan, 4, 3), 2000.0, True),  # nothing finite before it
        ((8, inf, 4), 3000.0, True),
    ],
)
def test_the_first_time_by_linear_interpolation(losses: tuple[float, ...], flops: float, at_most: bool) -> None:
    reached = first_reach(points(*losses), 5.0)
    assert reached is not None
    assert reached.spent.flops == pytest.approx(flops)
    assert reached.spent.hours == pytest.approx(flops / 1e3)
    assert reached.spent.flops_without_head is None
    assert reached.at_most is at_most


@pytest.mark.parametrize("losses", [(), (8, 6, 5.001), (nan, nan), (8, nan)])
def test_not_reached(losses: tuple[float, ...]) -> None:
    assert first_reach(points(*losses), 5.0) is None


def comparison(*runs: Run) -> Comparison:
    return Comparison(runs, runs[0], "flops", {}, ())


def test_shares_of_the_baselines_compute(tmp_path: Path) -> None:
    """The baseline ends at 5.0 after 10 steps of 1e12; the other is half way from 6 to 4 between steps 4 and 8, at 6."""
    base = read_run(make_run(tmp_path / "base", [(5, 6.0), (10, 5.0)], head=5e11), "base")
    other = read_run(make_run(tmp_path / "other", [(4, 6.0), (8, 4.0)], flops=1.3e12, head=1e12, seconds=18.0), "other")
    both = comparison(base, other)
    assert both.share(other, "flops") == pytest.approx(6 * 1.3 / 10)
    assert both.share(other, "flops_without_head") == pytest.approx(6 * 0.3 / 5)
    assert both.share(other, "hours") == pytest.approx(0.3)
    assert both.share(other, "rows") == both.share(other, "tokens") == pytest.approx(0.6)
    assert both.share(base, "flops") == 1
    assert both.measures == ("flops", "flops_without_head", "hours", "rows", "tokens")


def test_without_head_is_left_out_where_nobody_recorded_it(tmp_path: Path) -> None:
    base = read_run(make_run(tmp_path / "base", [(10, 5.0)]), "base")
    other = read_run(make_run(tmp_path / "other", [(10, 5.0)], head=1e11), "other")
    assert "flops_without_head" not in comparison(base).measures
    assert comparison(base, other).share(other, "flops_without_head") is None  # nothing to take a share of


def test_other_data_is_refused(tmp_path: Path) -> None:
    base = read_run(make_run(tmp_path / "base", []), "base")
    data = read_run(make_run(tmp_path / "data", [], data="e" * 64), "data")
    length = read_run(make_run(tmp_path / "length", [], row_length=64), "length")
    check_comparable([base])
    with pytest.raises(UserError, match=r"other data than .*base.* dddddddddddd.* and eeeeee|data_sha256"):
        check_comparable([base, data])
    with pytest.raises(UserError, match=r"rows of 64 tokens and .* rows of 128"):
        check_comparable([base, length])


def test_the_baseline_is_the_first_or_the_one_named(tmp_path: Path) -> None:
    runs = [read_run(make_run(tmp_path / name, []), name) for name in ("one", "two")]
    assert choose_baseline(runs, None) is runs[0]
    assert choose_baseline(runs, Path("two")) is runs[1]
    assert choose_baseline(runs, tmp_path / "x" / ".." / "two") is runs[1]
    with pytest.raises(UserError, match="none of the runs compared: one, two"):
        choose_baseline(runs, Path("three"))


def test_what_is_unequal_is_said(tmp_path: Path) -> None:
    base = read_run(make_run(tmp_path / "base", [(10, 5.0)]), "base")
    part = read_run(make_run(tmp_path / "part", [(10, 5.0)], duration="rows=400", targets=400), "part")
    none = read_run(make_run(tmp_path / "none", []), "none")
    notes = " ".join(caveats([base, part, none], base, {}))
    assert "part is not finished: it stands at 100 of 400 rows" in notes
    assert "base is not finished" not in notes
    assert "none has no evaluation" in notes
    assert "equally many held-out rows (targets: base 1,000, part 400)" in notes
    assert caveats([base], base, {}) == []


def test_what_is_unequal_among_scores_is_said(tmp_path: Path) -> None:
    runs = [read_run(make_run(tmp_path / name, [(10, 5.0)]), name) for name in ("one", "two", "three")]
    make_scores(runs[1].path / "scores", {"rte": [60.0]}, step=8)
    make_scores(runs[2].path / "scores", {"rte": [60.0]}, seeds=5)
    notes = caveats(runs, runs[0], find_scores(runs, [])[0])
    assert [note.split(";")[0].split(",")[0] for note in notes] == [
        "The baseline one has no SCORES: there are no differences to it.",
        "The encoders were not fine-tuned alike",
        "two was scored as it was at step 8",
    ]
    assert "differ in seeds." in notes[1]
    assert notes[2].endswith("and has gone on to step 10.")


def test_scores_of_other_rows_are_told(tmp_path: Path) -> None:
    runs = [read_run(make_run(tmp_path / name, [(10, 5.0)]), name) for name in ("one", "two", "three")]
    for run, data in zip(runs, ("a" * 64, "b" * 64, None), strict=True):  # None: scored by an earlier version
        make_scores(run.path / "scores", {"rte": [60.0]}, data=data)
    found = find_scores(runs, [])[0]
    said = "Scores are not of the same rows everywhere, and do not compare, in rte."
    assert caveats(runs, runs[0], found) == [said]
    assert caveats(runs[::2], runs[0], {name: found[name] for name in ("one", "three")}) == []


def test_a_run_that_began_from_another_is_marked(tmp_path: Path) -> None:
    """Its figures leave out what the other had spent."""
    sizes = [f"model.{name}=null" for name in ("family", "hidden_size", "num_hidden_layers", "num_attention_heads",
                                               "intermediate_size", "dropout")]  # fmt: skip
    run = read_run(make_run(tmp_path / "run", [(10, 5.0)], overrides=["model.from=older", *sizes]), "run")
    assert caveats([run], run, {}) == ["run began from older: what that had cost is not counted."]
    assert describe(run).endswith(", encoder from older")


def test_a_run_in_one_line(tmp_path: Path) -> None:
    vanilla = ["masking.rate=0.4", "masking.mask=1", "masking.random=0", "masking.keep=0", "model.num_hidden_layers=1"]
    late = ["decoder.kind=late", "decoder.enter_layer=3", "masking.choose=span", "masking.schedule.name=linear",
            "masking.schedule.end=0.15"]  # fmt: skip
    phases = ["phases=[{share: 0.5, objective: causal}, {share: 0.3}, {masking: {rate: 0.3}}]"]
    narrow = ["decoder.kind=cross-only", "decoder.hidden_size=64", "decoder.num_layers=1"]
    lines = [
        describe(read_run(make_run(tmp_path / "self", []), "self")),
        describe(read_run(make_run(tmp_path / "none", [], recipe="vanilla-small", overrides=vanilla), "none")),
        describe(read_run(make_run(tmp_path / "late", [], overrides=late), "late")),
        describe(read_run(make_run(tmp_path / "narrow", [], overrides=narrow), "narrow")),
        describe(read_run(make_run(tmp_path / "states", [], recipe="3ml-states-small"), "states")),
        describe(read_run(make_run(tmp_path / "phases", [], overrides=phases), "phases")),
    ]
    assert lines == [
        "3ML_self (2 layers), rate 0.5 (80-10-10), encoder 4 layers of 256",
        "vanilla MLM, rate 0.4 (all [MASK]), encoder 1 layer of 256",
        "[MASK]s enter the encoder at layer 3, rate 0.5 (80-10-10, falling to 0.15 over the run, by span), encoder 4 layers of 256",
        "3ML_cross-only (1 layer of 64), rate 0.5 (80-10-10), encoder 4 layers of 256",
        "3ML_self (2 layers, 2 states for each [MASK]), rate 0.5 (all [MASK]), encoder 4 layers of 256",
        "3ML_self (2 layers), causal in a phase, rate 0.5 (80-10-10), then rate 0.3 (80-10-10), encoder 4 layers of 256",
    ]


@pytest.mark.parametrize(("phases", "is_noted"), [("{share: 0.5, objective: causal}, {}", False),
                                                  ("{share: 0.5, row_length: 64}, {row_length: 128}", True)])  # fmt: skip
def test_phases_are_noted_where_held_out_rows_change(phases: str, is_noted: bool, tmp_path: Path) -> None:
    run = read_run(make_run(tmp_path / "run", [(10, 5.0)], overrides=[f"phases=[{phases}]"]), "run")
    notes = caveats([run, run], run, {})
    assert len([note for note in notes if "on the held-out rows of its phase: run, run." in note]) == is_noted
