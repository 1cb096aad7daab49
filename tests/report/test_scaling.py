"""Reports on arms over several budgets, whose laws are known."""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from masklater.errors import DamagedDataError
from masklater.report.arms import find_arms
from masklater.report.compare import compare
from masklater.report.runs import distinct_names, read_run
from masklater.report.scaling import find_methods
from tests.report.made_up import make_run
from tests.report.test_compare import check_page

WIDTHS = {"3e13": 64, "1e14": 96, "3e14": 128, "1e15": 192}
SEEDS = (-0.004, 0.004)


def run_at(
    root: Path,
    budget: str,
    name: str,
    loss: float,
    *,
    recipe: str,
    seed: int = 0,
    blimp: float | None = None,
    **more: Any,
) -> Path:
    """A run of a budget, whose encoder is as wide as its budget says."""
    overrides = [f"seed={seed}", f"model.hidden_size={WIDTHS[budget]}", *more.pop("overrides", ())]
    flops = float(budget) / 10
    run = make_run(root / budget / name / f"seed-{seed}", [(5, 8.0), (10, loss)], recipe=recipe, overrides=overrides,
                   flops=0.95 * flops, optimizer=0.05 * flops, **more)  # fmt: skip
    if blimp is not None:
        scored = {"accuracy": blimp, "pairs": 67_000, "step": 10, "left_out": 0}
        (run / "blimp.json").write_text(json.dumps(scored))
    return run


def ladder(root: Path, seeds: tuple[float, ...] = SEEDS, blimp: bool = True) -> list[Path]:
    """stock, and an arm that needs half its FLOPs for any loss; for BLiMP too, where 10 times the FLOPs are 5 points."""
    runs = []
    for name, recipe, share in (("stock", "vanilla-small", 1.0), ("cross", "3ml-cross-small", 0.5)):
        for budget in WIDTHS:
            worth = float(budget) / share / 1e14
            for seed, offset in enumerate(seeds if budget != "1e15" else seeds[:1]):
                loss = 4.5 * worth**-0.08 * (1 + offset)
                points = 60 + 5 * math.log10(worth) + 100 * offset if blimp else None
                runs.append(run_at(root, budget, name, loss, recipe=recipe, seed=seed, blimp=points))
    return runs


def test_an_arm_at_half_the_flops(tmp_path: Path) -> None:
    document, tree = compare(ladder(tmp_path), tmp_path / "report")
    stock, cross = tree["scaling"]["arms"]
    assert (tree["scaling"]["baseline"], stock["name"], cross["name"]) == ("stock", "stock", "cross")
    assert stock["budgets"] == ["3e13/stock", "1e14/stock", "3e14/stock", "1e15/stock/seed-0"]
    for quality in ("loss", "pairs"):
        costs = cross["multipliers"][quality]
        assert [cost["flops"] for cost in costs] == pytest.approx([3e13, 1e14, 3e14, 1e15])
        for cost in costs:
            assert cost["value"] == pytest.approx(0.5, rel=0.06)
            assert cost["low"] < 0.5 < cost["high"]
        assert [cost["measured"] for cost in costs] == [False, True, True, True]
        assert stock["multipliers"][quality] == []
    assert cross["laws"]["loss"]["slope"] == pytest.approx(-0.08, abs=0.002)
    assert document.findings[0] == "FLOPs beside stock's at equal loss, by power laws, at its 1.00·10¹⁵ FLOPs:"
    assert re.fullmatch(r"cross: x 0\.5\d \(0\.4\d to 0\.5\d\)", document.findings[1])

    text = (tmp_path / "report" / "report.md").read_text()
    assert re.search(r"\| cross +\| ~ 0\.\d\d \(0\.\d\d to 0\.\d\d\) \|", text)
    assert "Compute to the baseline's final quality" not in text  # which knows one budget
    assert re.search(r"\| cross +\| 3ML_cross .*\| 0\.5\d \(.*\| 0\.\d\d \(.*\| 2, 2, 2, 1 +\|", text)
    foreseen = re.search(r"(\d\.\d{3}), measured (\d\.\d{3}) \(([+−]\d\.\d)%\)", text)
    assert foreseen and abs(float(foreseen[2]) / float(foreseen[1]) - 1) < 0.01
    assert " at 3.33·10¹⁵" in text  # 1e15 x 1e15 / 3e14
    page = check_page(tmp_path / "report" / "index.html")
    for name in ("law-loss", "multiplier-loss", "law-pairs", "multiplier-pairs"):
        assert f"]({'plots'}/{name}.png)" in text and f'id="{name}-figure_1"' in page
        with Image.open(tmp_path / "report" / "plots" / f"{name}.png") as image:
            assert image.width == 780 and len(image.getcolors(1 << 24) or []) > 20


def test_every_number_along_an_axis_is_written_out(tmp_path: Path) -> None:
    """Logarithmic axes would write powers of ten in a markup that is switched off, so that names stand as they are."""
    runs = ladder(tmp_path, seeds=(0.0,))
    compare(runs, tmp_path / "report")
    for path in (tmp_path / "report" / "plots").glob("*.svg"):
        assert "mathdefault" not in path.read_text(), path.name
    text = (tmp_path / "report" / "plots" / "law-loss.svg").read_text()
    assert all(f">{number}<" in text for number in ("3·10¹³", "10¹⁴", "3·10¹⁴", "10¹⁵"))
    assert "stock (4 budgets)" in (tmp_path / "report" / "plots" / "loss-flops.svg").read_text()


def test_no_text_is_cut_off_at_an_edge(tmp_path: Path) -> None:
    runs = []
    for name, recipe in (("vanilla-with-rotary-layers-and-muon-at-40%", "vanilla-small"), ("cross", "3ml-cross-small")):
        runs += [run_at(tmp_path, budget, name, loss, recipe=recipe) for budget, loss in (("3e13", 4.5), ("3e14", 3.5))]
    compare(runs, tmp_path / "report")
    for plot in ("multiplier-loss", "law-loss"):
        picture = Image.open(tmp_path / "report" / "plots" / f"{plot}.png").convert("L")
        width, height = picture.size
        edges = [(0, 0, 3, height), (width - 3, 0, width, height), (0, 0, width, 3), (0, height - 3, width, height)]
        assert all(picture.crop(edge).getextrema()[0] == picture.getextrema()[1] for edge in edges), plot


def test_an_arm_that_may_never_be_as_good_has_no_upper_end(tmp_path: Path) -> None:
    """In some of its draws its loss rises, though it is higher than the baseline's in all of them."""
    losses = {"stock": {"3e13": (5.0, 4.9), "1e14": (4.6, 4.5), "3e14": (4.25, 4.15)},
              "cross": {"3e13": (5.5, 5.4), "1e14": (5.40, 5.30)}}  # fmt: skip
    runs = [
        run_at(
            tmp_path, budget, name, loss, recipe="vanilla-small" if name == "stock" else "3ml-cross-small", seed=seed
        )
        for name, budgets in losses.items()
        for budget, each in budgets.items()
        for seed, loss in enumerate(each)
    ]
    _, tree = compare(runs, tmp_path / "report")
    costs = tree["scaling"]["arms"][1]["multipliers"]["loss"]
    assert len(costs) == 3
    assert all(cost["high"] is None and 1 < cost["low"] < cost["value"] <= 1e6 for cost in costs)
    text = (tmp_path / "report" / "report.md").read_text()
    assert json.loads((tmp_path / "report" / "report.json").read_text())["scaling"] == json.loads(
        json.dumps(tree["scaling"])
    )
    ends = re.findall(r"~ (\S+|over 1,000,000) \(\S+ to no upper end\)", text)
    assert len(ends) == 5  # at each budget, and at the largest in the first finding and the record
    assert ends.count("over 1,000,000") == 3
    assert text.count("No upper end: some of these laws never get there.") == 1
    svg = (tmp_path / "report" / "plots" / "multiplier-loss.svg").read_text()
    assert "arrows: no upper end" in svg
    assert ">10,000<" in svg  # powers of ten, where numbers a step apart would stand upon each other
    assert "arrows" not in (tmp_path / "report" / "plots" / "law-loss.svg").read_text()


@pytest.mark.usefixtures("unrendered")
def test_single_seeds_have_no_intervals(tmp_path: Path) -> None:
    _, tree = compare(ladder(tmp_path, seeds=(0.0,), blimp=False), tmp_path / "report")
    costs = tree["scaling"]["arms"][1]["multipliers"]["loss"]
    assert [cost["value"] for cost in costs] == pytest.approx([0.5] * 4)
    assert {cost["low"] for cost in costs} == {None}
    text = (tmp_path / "report" / "report.md").read_text()
    assert re.search(r"\| cross +\| +~ 0\.50 \| +0\.50 \| +0\.50 \| +0\.50 \|", text)
    assert not list((tmp_path / "report" / "plots").glob("*-pairs.png"))


@pytest.mark.usefixtures("unrendered")
def test_two_budgets_of_the_baseline_only_are_no_comparison(tmp_path: Path) -> None:
    stock = [
        run_at(tmp_path, budget, "stock", loss, recipe="vanilla-small")
        for budget, loss in (("3e13", 5.0), ("1e14", 4.5))
    ]
    other = run_at(tmp_path, "1e14", "cross", 4.0, recipe="3ml-cross-small")
    document, tree = compare([*stock, other], tmp_path / "report")
    assert [arm["name"] for arm in tree["scaling"]["arms"]] == ["stock"]
    assert document.findings[0].startswith("FLOPs beside")
    document, tree = compare([*stock, other], tmp_path / "report-2", baseline=other)
    assert tree["scaling"]["baseline"] is None
    assert document.findings[0].startswith("Where the others reach the final loss of")


@pytest.mark.usefixtures("unrendered")
def test_unfinished_runs_count_in_no_law(tmp_path: Path) -> None:
    runs = ladder(tmp_path, seeds=(0.0,))
    short = run_at(tmp_path, "1e15", "cross", 9.0, recipe="3ml-cross-small", seed=1, duration="steps=20")
    _, tree = compare([*runs, short], tmp_path / "report")
    assert [cost["value"] for cost in tree["scaling"]["arms"][1]["multipliers"]["loss"]] == pytest.approx([0.5] * 4)


@pytest.mark.usefixtures("unrendered")
def test_a_budget_that_nothing_has_finished_is_no_place_to_compare_at(tmp_path: Path) -> None:
    """As that of a baseline that is named first and still under way."""
    runs = [run for run in ladder(tmp_path, seeds=(0.0,)) if run.parts[-3] != "1e15"]
    short = run_at(tmp_path / "short", "1e15", "stock", 9.0, recipe="vanilla-small", duration="steps=20")
    document, tree = compare([short, *runs], tmp_path / "report")
    _, cross = tree["scaling"]["arms"]
    assert [cost["flops"] for cost in cross["multipliers"]["loss"]] == pytest.approx([3e13, 1e14, 3e14])
    assert "at its 3.00·10¹⁴ FLOPs" in document.findings[0]


@pytest.mark.usefixtures("unrendered")
def test_models_of_two_sizes_at_one_budget_are_no_two_budgets(tmp_path: Path) -> None:
    """What comes next was the largest budget once more, foreseen with its own help."""
    runs = [
        run_at(
            tmp_path / str(layers), budget, "stock", 4.5 * (float(budget) / 1e14) ** -0.08, recipe="vanilla-small",
            overrides=[f"model.num_hidden_layers={layers}"],
        )
        for budget in ("3e13", "1e14", "3e14")
        for layers in (2, 4)
    ]  # fmt: skip
    compare(runs, tmp_path / "report")
    text = (tmp_path / "report" / "report.md").read_text()
    assert "3, 3.00·10¹³ to 3.00·10¹⁴" in text
    assert "at 9.00·10¹⁴" in text


@pytest.mark.usefixtures("unrendered")
def test_pairs_scored_on_the_way_say_nothing_of_all_flops(tmp_path: Path) -> None:
    runs = ladder(tmp_path, seeds=(0.0,))
    scored = json.loads((runs[2] / "blimp.json").read_text())
    (runs[2] / "blimp.json").write_text(json.dumps({**scored, "step": 5, "accuracy": 10.0}))
    _, tree = compare(runs, tmp_path / "report")
    laws = tree["scaling"]["arms"][0]["laws"]
    assert [len(laws[quality]["levels"]) for quality in ("loss", "pairs")] == [4, 3]


def methods(
    make: Callable[[str, int, list[str]], Path], *settings: tuple[str, list[str]]
) -> list[tuple[str, list[str]]]:
    paths = [make(budget, number, overrides) for number, (budget, overrides) in enumerate(settings)]
    runs = [read_run(path, name) for path, name in zip(paths, distinct_names(paths), strict=True)]
    found = find_methods(find_arms(runs), runs)
    return [(method.name, [run.name for arm in method.arms for run in arm.runs]) for method in found]


def test_what_is_one_method(tmp_path: Path) -> None:
    def make(root: Path) -> Callable[[str, int, list[str]], Path]:
        return lambda budget, seed, overrides: run_at(
            root, budget, "arm", 4.0, recipe="3ml-small", seed=seed, overrides=overrides
        )

    larger = [("3e13", ["batch.rows=32"]), ("1e14", ["batch.rows=64", "optimizer.lr=2e-3"])]
    assert len(methods(make(tmp_path / "1"), *larger)) == 1  # larger models may want other rates
    tuned = [("3e13", ["optimizer.lr=1e-3"]), ("3e13", ["optimizer.lr=2e-3"]), ("1e14", ["optimizer.lr=2e-3"])]
    found = methods(make(tmp_path / "2"), *tuned)
    assert [runs for _, runs in found] == [["seed-0"], ["seed-1", "seed-2"]]
    watched = [("3e13", ["tracking=[]"]), ("1e14", ["max_epochs=40"])]
    assert len(methods(make(tmp_path / "4"), *watched)) == 1
    phases = [(budget, [f"phases=[{{batch: {{rows: {rows}}}, duration: {{steps: {rows}}}}}, {{}}]", "duration.steps=99"])
              for budget, rows in (("3e13", 8), ("1e14", 16))]  # fmt: skip
    assert len(methods(make(tmp_path / "5"), *phases)) == 1
    other = [("3e13", []), ("1e14", ["masking.rate=0.4"])]
    assert len(methods(make(tmp_path / "3"), *other)) == 2


@pytest.mark.usefixtures("unrendered")
def test_blimp_beside_loss_at_one_budget(tmp_path: Path) -> None:
    runs = [run_at(tmp_path, "3e13", name, 5.0, recipe=recipe, blimp=points)
            for name, recipe, points in (("stock", "vanilla-small", 60.0), ("cross", "3ml-cross-small", 61.5))]  # fmt: skip
    (runs[1] / "scores").mkdir()
    (runs[1] / "blimp.json").rename(runs[1] / "scores" / "blimp.json")  # it may stand there too
    document, tree = compare(runs, tmp_path / "report")
    assert tree["scaling"] is None
    assert [run["pairs"]["accuracy"] for run in tree["runs"]] == [60.0, 61.5]
    assert re.search(r"\| cross/seed-0 .*\| +61\.50% \|", (tmp_path / "report" / "report.md").read_text())
    (runs[0] / "blimp.json").write_text(json.dumps({"accuracy": 60.0, "pairs": 13_400, "step": 8}))
    document, _ = compare(runs, tmp_path / "report-2")
    assert any("as it was at step 8, and has gone on to step 10" in note for note in document.notes)
    assert any("not scored on equally many minimal pairs" in note for note in document.notes)
    for run, file, sentences in ((runs[0], "blimp.json", "a" * 64), (runs[1], "scores/blimp.json", "b" * 64)):
        (run / file).write_text(json.dumps({"accuracy": 60.0, "pairs": 900, "step": 10, "pairs_sha256": sentences}))
    document, _ = compare(runs, tmp_path / "report-other-pairs")
    assert any("not scored on the same minimal pairs" in note for note in document.notes)
    (runs[0] / "blimp.json").write_text("{}")
    with pytest.raises(DamagedDataError, match=r"blimp\.json is damaged at accuracy"):
        compare(runs, tmp_path / "report-3")
