"""Runs that differ in their seed alone are one arm, and what seeds differ by is never sold as savings."""

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from masklater.report.arms import find_arms
from masklater.report.compare import compare
from masklater.report.runs import Run, distinct_names, read_run
from tests.report.made_up import make_run, make_scores, read_lines, write_metrics


def seeded(path: Path, seed: int, final: float, recipe: str = "3ml-small", **more: object) -> Path:
    """A run whose loss is 6 half way, and a final one of its own."""
    return make_run(path, [(5, 6.0), (10, final)], recipe=recipe, overrides=[f"seed={seed}"], **more)  # type: ignore[arg-type]


def read(paths: Sequence[Path]) -> list[Run]:
    return [read_run(path, name) for path, name in zip(paths, distinct_names(list(paths)), strict=True)]


def names_of(root: Path, *names: str) -> list[tuple[str, int]]:
    """Arms of runs under these names; the part before the last separator or digit says which recipe."""
    paths = []
    for number, name in enumerate(names):
        recipe = "vanilla-small" if "vanilla" in name else "3ml-small"
        paths.append(seeded(root / name, number, 5.0, recipe))
    return [(arm.name, len(arm.runs)) for arm in find_arms(read(paths))]


@pytest.mark.usefixtures("unrendered")
def test_two_seeds_of_one_recipe_save_nothing(tmp_path: Path) -> None:
    """The second passes the first one's final loss at half its FLOPs."""
    runs = [seeded(tmp_path / "a-0", 0, 5.0), seeded(tmp_path / "a-1", 1, 4.0)]
    document, tree = compare(runs, tmp_path / "report")
    assert document.title == "2 seeds of a" and document.findings == []
    assert [arm["loss"] for arm in tree["arms"]] == [{"mean": 4.5, "low": 4.0, "high": 5.0, "count": 2}]
    text = (tmp_path / "report" / "report.md").read_text()
    assert re.search(r"\| a +\| +4\.5000 \(4\.0000 to 5\.0000; 2\) \|", text)
    assert not re.search(r"7\d\.\d%", text)


@pytest.mark.usefixtures("unrendered")
def test_a_difference_within_the_spread_is_no_saving(tmp_path: Path) -> None:
    """The means are 0.15 apart, and the seeds of one arm 0.3."""
    base = [seeded(tmp_path / f"vanilla-{n}", n, loss, "vanilla-small") for n, loss in enumerate((5.1, 4.8))]
    other = [seeded(tmp_path / f"3ml-{n}", n, loss) for n, loss in enumerate((4.85, 4.75))]
    document, tree = compare([*base, *other], tmp_path / "report")
    (finding,) = document.findings[1:]
    assert finding == (
        "3ml: no share to be stated: it ended 0.1500 nats lower, and seeds of one arm are up to 0.3000 apart"
    )
    assert tree["arms"][1]["share"]["flops"] is None
    assert tree["arms"][1]["beside_baseline"]["beyond_spread"] is False
    assert "within the spread" in (tmp_path / "report" / "report.md").read_text()


@pytest.mark.usefixtures("unrendered")
def test_a_difference_beyond_the_spread_is_stated_with_its_range(tmp_path: Path) -> None:
    """The baseline ends at 5.0 on average; the others fall from 6 to 4 and from 6 to 3.9 in 5 steps."""
    base = [seeded(tmp_path / f"vanilla-{n}", n, loss, "vanilla-small") for n, loss in enumerate((5.1, 4.9))]
    other = [seeded(tmp_path / f"3ml-{n}", n, loss) for n, loss in enumerate((4.0, 3.9))]
    document, tree = compare([*base, *other], tmp_path / "report")
    shares = [(5 + 5 / 2) / 10, (5 + 5 / 2.1) / 10]
    share = tree["arms"][1]["share"]["flops"]
    assert (share["mean"], share["low"], share["high"]) == pytest.approx((sum(shares) / 2, min(shares), max(shares)))
    assert document.findings[1:] == ["3ml: at 74.4% (73.8% to 75.0%) of vanilla's FLOPs"]
    assert document.findings[0].startswith(
        "Where the others reach the final loss of vanilla, 5.0000 nats (mean of 2 seeds, 4.9000 to 5.1000) at"
    )


@pytest.mark.usefixtures("unrendered")
def test_one_seed_is_said_beside_the_share(tmp_path: Path) -> None:
    base = [seeded(tmp_path / f"vanilla-{n}", n, loss, "vanilla-small") for n, loss in enumerate((5.1, 4.9))]
    other = seeded(tmp_path / "3ml", 0, 4.0)
    document, _ = compare([*base, other], tmp_path / "report")
    assert document.findings[1:] == ["3ml: at 75.0% of vanilla's FLOPs (one seed of 3ml)"]
    near = seeded(tmp_path / "near", 0, 4.85)
    document, tree = compare([*base, near], tmp_path / "report-2")
    assert "no share to be stated" in document.findings[1]  # 0.15 apart, seeds 0.2
    assert tree["arms"][1]["share"]["flops"] is None


@pytest.mark.usefixtures("unrendered")
def test_a_share_needs_every_seed(tmp_path: Path) -> None:
    base = seeded(tmp_path / "vanilla", 0, 5.0, "vanilla-small")
    diverged = [seeded(tmp_path / "3ml-0", 0, 4.0), seeded(tmp_path / "3ml-1", 1, math.nan)]
    document, tree = compare([base, *diverged], tmp_path / "report")
    assert document.findings[1:] == ["3ml: not reached"]
    assert tree["arms"][1]["share"]["flops"] is None
    assert "3ml-1 diverged: its last loss is not finite, and counts in no mean." in document.notes


@pytest.mark.parametrize("none", [math.nan, None, 0.0])
def test_a_loss_without_targets_is_never_ranked(tmp_path: Path, none: float | None) -> None:
    base = seeded(tmp_path / "vanilla", 0, 5.0, "vanilla-small")
    empty = seeded(tmp_path / "empty", 0, 4.0)
    records = [json.loads(line) for line in read_lines(empty)]
    for record in records:
        if "valid_loss" in record:
            record |= {"valid_loss_15": none, "valid_accuracy_15": none, "valid_targets_15": 0}
            record |= {"valid_loss": none, "valid_accuracy": none, "valid_targets": 0}
    write_metrics(empty, records)
    document, tree = compare([base, empty], tmp_path / "report")
    assert document.findings[1:] == ["empty: nothing to predict in its held-out rows"]
    assert tree["arms"][1]["loss"] is None and tree["arms"][1]["share"]["flops"] is None
    assert any(note.startswith("empty had nothing to predict") for note in document.notes)
    assert re.search(r"\| empty +\| +– \| +– \| +– \| +– \|", (tmp_path / "report" / "report.md").read_text())
    document, _ = compare([empty, base], tmp_path / "report-2")
    assert document.findings == ["The last loss of empty is not finite: there is nothing to reach."]


def test_what_is_one_arm(tmp_path: Path) -> None:
    runs = [
        seeded(tmp_path / "a", 0, 5.0),
        seeded(tmp_path / "b", 1, 5.0),
        seeded(tmp_path / "again", 1, 5.0),  # the same seed tells nothing of seeds
        make_run(tmp_path / "rate", [(10, 5.0)], overrides=["seed=2", "optimizer.lr=0.002"]),
    ]
    arms = find_arms(read(runs))
    assert [[run.name for run in arm.runs] for arm in arms] == [["a", "b"], ["again"], ["rate"]]
    assert [arm.name for arm in arms] == ["a + b", "again", "rate"]


def test_arms_are_named_by_what_their_runs_share(tmp_path: Path) -> None:
    two = ("3ml-seed-0", "3ml-seed-1", "vanilla_s2", "vanilla_s3")
    assert names_of(tmp_path / "1", *two) == [("3ml", 2), ("vanilla", 2)]
    folders = ("3ml/seed-0", "3ml/seed-1", "vanilla/seed-0")
    assert names_of(tmp_path / "2", *folders) == [("3ml", 2), ("vanilla/seed-0", 1)]
    assert names_of(tmp_path / "3", "run1", "run2") == [("run", 2)]
    assert names_of(tmp_path / "4", "alpha", "albeta") == [("alpha + albeta", 2)]
    assert names_of(tmp_path / "5", "0", "1") == [("0 + 1", 2)]
    deep = ("x/3ml/a-0", "x/3ml/a-1", "x/vanilla/a-0", "x/vanilla/a-1")
    assert names_of(tmp_path / "6", *deep) == [("3ml/a", 2), ("vanilla/a", 2)]
    uneven = ("one/small/3ml/s-0", "one/small/3ml/s-1", "other/place/large/vanilla/s-0")
    assert names_of(tmp_path / "7", *uneven)[0] == ("one/small/3ml", 2)


@pytest.mark.usefixtures("unrendered")
def test_the_optimizers_own_flops_are_counted(tmp_path: Path) -> None:
    """A tenth more for the other, whose duration in FLOPs does not count them."""
    base = seeded(tmp_path / "vanilla", 0, 5.0, "vanilla-small")
    other = seeded(tmp_path / "3ml", 0, 4.0, duration="flops=10e12", optimizer=1e11)
    document, tree = compare([base, other], tmp_path / "report")
    assert tree["arms"][1]["share"]["flops"]["mean"] == pytest.approx(0.75 * 1.1)
    assert document.notes == []
    short = seeded(tmp_path / "short", 0, 4.0, duration="flops=10.5e12", optimizer=1e11)
    assert any(
        "short is not finished: it stands at 1e+13" in note for note in compare([short], tmp_path / "r")[0].notes
    )


@pytest.mark.usefixtures("unrendered")
def test_glue_of_several_seeds_is_taken_together(tmp_path: Path) -> None:
    base = [seeded(tmp_path / f"vanilla-{n}", n, 5.0, "vanilla-small") for n in (0, 1)]
    other = [seeded(tmp_path / f"3ml-{n}", n, 4.0) for n in (0, 1)]
    for run, values in zip([*base, *other], ([60.0, 61.0, 62.0], [64.0] * 3, [65.0] * 3, [67.0] * 3), strict=True):
        make_scores(run / "scores", {"rte": values})
    compare([*base, *other], tmp_path / "report")
    text = (tmp_path / "report" / "report.md").read_text()
    assert re.search(r"\| rte \(accuracy\) \| +62\.5 \(60\.0 to 64\.0; 6\) \| +66\.0 \(65\.0 to 67\.0; 6\) \|", text)
    assert re.search(r"\| rte \(accuracy\) \| +\+3\.5 \(\+1\.0 to \+7\.0\) \|", text)
    assert "the mean of their medians" in text


@pytest.mark.usefixtures("unrendered")
@pytest.mark.parametrize(
    ("what", "told"),
    [
        ({"data_sha256": "e" * 64, "selected_from": {"": "d" * 64}}, "rows trained on"),
        ({"targets_sha256": "e" * 64}, "table of targets"),
        ({"source_sha256": "e" * 64}, "weights begun from"),
    ],
)
def test_what_a_recipe_does_not_hold_makes_another_arm(what: dict[str, object], told: str, tmp_path: Path) -> None:
    """As where one run was trained on all rows, and one of another seed on chosen ones of them."""
    plain, other = seeded(tmp_path / "plain", 0, 5.0), seeded(tmp_path / "other", 1, 4.0)
    identity = json.loads((other / "run.json").read_text())
    (other / "run.json").write_text(json.dumps({**identity, **what}))
    _, tree = compare([plain, other], tmp_path / "report")
    assert [arm["runs"] for arm in tree["arms"]] == [["plain"], ["other"]]
    row = next(line for line in (tmp_path / "report" / "report.md").read_text().splitlines() if told in line)
    assert "eeeeeeeeeeee..." in row


@pytest.mark.usefixtures("unrendered")
def test_a_seed_that_is_not_finished_counts_in_no_mean_beside_one_that_is(tmp_path: Path) -> None:
    done = seeded(tmp_path / "a-0", 0, 4.0)
    begun = make_run(tmp_path / "a-1", [(5, 7.0)], steps=5, duration="steps=10", overrides=["seed=1"])
    other = seeded(tmp_path / "b", 0, 5.0, "vanilla-small")
    _, tree = compare([done, begun, other], tmp_path / "report")
    assert tree["arms"][0]["runs"] == ["a-0", "a-1"]
    assert tree["arms"][0]["loss"] == {"mean": 4.0, "low": 4.0, "high": 4.0, "count": 1}
    assert tree["arms"][0]["spent"]["steps"] == 10
    assert tree["arms"][1]["beside_baseline"]["gap"] == -1.0
    assert tree["notes"] == [
        "a-1 is not finished: it stands at 5 of 10 steps, and counts in no mean beside seeds that are."
    ]
    (alone,) = find_arms(read([begun]))
    assert alone.loss is not None and alone.loss.mean == 7.0
