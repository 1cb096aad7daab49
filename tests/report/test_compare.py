"""REPORT folders: what they hold, what they say, and that the page stands by itself."""

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from PIL import Image
from rich.cells import cell_len

from masklater.cli import main
from masklater.errors import UserError
from masklater.pretrain.loop import pretrain
from masklater.report.compare import compare
from masklater.report.page import COLOURS
from masklater.report.runs import UNITS
from tests.conftest import tiny
from tests.report.made_up import make_run, make_scores, read_lines

SVG = "{http://www.w3.org/2000/svg}"


class Page(HTMLParser):
    """The tags of a page, with their attributes, and whether each that opens also closes."""

    VOID = frozenset({"meta"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def check_page(path: Path) -> str:
    """A page is well-formed, fetches nothing, suits a phone, and shares no id between two things."""
    text = path.read_text()
    page = Page(text)
    assert page.open == []
    ElementTree.fromstring(text.removeprefix("<!DOCTYPE html>"))  # well-formed to the strictest reader
    assert "http:" not in text and "https:" not in text and "@import" not in text
    for tag, name, value in page.attributes:
        assert name not in {"src", "srcset", "data", "action"}, (tag, name, value)
        if name == "href":
            assert value.startswith("#")
    assert not re.search(r"url\((?!#)", text)
    assert "<script" not in text
    ids = [value for _, name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    asked_for = [value[1:] for _, name, value in page.attributes if name == "href"] + re.findall(
        r"url\(#([^)]+)\)", text
    )
    assert set(asked_for) <= set(ids)
    assert ("meta", "content", "width=device-width, initial-scale=1") in page.attributes
    return text


def tree_of(report: Path) -> dict[str, Any]:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads((report / "report.json").read_text(), parse_constant=refuse)


def test_two_runs_with_scores(tmp_path: Path) -> None:
    base = make_run(tmp_path / "base", [(5, 6.0), (10, 5.0)], head=5e11, recipe="vanilla-small")
    other = make_run(tmp_path / "other", [(4, 6.0), (8, 4.0)], flops=1.3e12, head=1e12)
    make_scores(base / "scores", {"rte": [60.0, 62.0, 61.0], "cola": [10.0]}, run=base)
    apart = make_scores(tmp_path / "apart", {"rte": [64.0, 61.5, 63.0], "cola": [12.0]}, run=other)
    compare([base, other], tmp_path / "report", scores=[apart])

    tree = tree_of(tmp_path / "report")
    reaches = tree["runs"][1]["reaches_baseline"]
    assert reaches["share"]["flops"] == pytest.approx(0.78)
    assert reaches["share"]["flops_without_head"] == pytest.approx(0.36)
    assert reaches["spent"]["steps"] == pytest.approx(6)
    assert tree["runs"][1]["score_differences"]["rte"] == {"median": 2.0, "lowest": -0.5, "highest": 4.0}
    assert [point["loss"] for point in tree["runs"][0]["evaluations"]] == [6, 5]
    assert (tree["baseline"], tree["x"], tree["common_corruption"]) == ("base", "flops", "15% uniform [MASK]")

    text = (tmp_path / "report" / "report.md").read_text()
    assert "- other: at 78.0% of base's FLOPs" in text
    assert re.search(r"\| other +\| +7\.80 \| +78\.0% \| +36\.0% \|", text)
    assert re.search(r"\| rte \(accuracy\) +\| +\+2\.0 \(−0\.5 to \+4\.0\) \|", text)
    assert re.search(r"\| average +\| +\+2\.0 \|", text)  # 35.5 and 37.5
    assert "Settings that differ" in text and re.search(r"\| decoder\.kind +\| none +\| self +\|", text)
    for name in re.findall(r"\]\((.*?\.png)\)", text):
        assert (tmp_path / "report" / name).exists()

    page = check_page(tmp_path / "report" / "index.html")
    assert page.count("<svg ") == 4 * len(UNITS)
    assert "at 78.0% of base" in page
    assert "all under one corruption: 15% uniform [MASK]" in page


@pytest.mark.usefixtures("unrendered")
def test_what_was_noted_about_a_task_is_said_once(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / name, [(5, 6.0), (10, 5.0)]) for name in ("one", "two")]
    make_scores(runs[0] / "scores", {"rte": [60.0], "cola": [10.0]}, note="12 rows cut")
    make_scores(runs[1] / "scores", {"rte": [61.0]}, note="12 rows cut")
    compare(runs, tmp_path / "report")
    text = (tmp_path / "report" / "report.md").read_text()
    assert "in percent.\n\n- rte: 12 rows cut\n- cola (one): 12 rows cut\n\n" in text
    assert "<li>cola (one): 12 rows cut</li>" in check_page(tmp_path / "report" / "index.html")


@pytest.mark.filterwarnings("ignore:Glyph")  # DejaVu Sans has none of these
def test_tables_are_called_glue_where_all_tasks_are_its(tmp_path: Path) -> None:
    """Tasks of one's own have no place in GLUE's average, which is how a record tells them."""
    runs = [make_run(tmp_path / "left", [(10, 6.0)]), make_run(tmp_path / "日本語", [(10, 6.1)])]
    for run in runs:
        scores = make_scores(run / "scores", {"toxic": [60.0, 61.0]}) / "scores.json"
        tree = json.loads(scores.read_text())
        tree["tasks"]["toxic"]["in_average"], tree["average"] = None, None
        scores.write_text(json.dumps(tree))
    compare(runs, tmp_path / "report")
    text = (tmp_path / "report" / "report.md").read_text()
    assert "GLUE" not in text and "## Tasks\n" in text and "## Tasks, differences to the baseline\n" in text
    rows = [line for line in text.split("## Tasks\n")[1].splitlines() if line.startswith("|")][:3]
    assert len({cell_len(row) for row in rows}) == 1, rows  # aligned on a screen, where 日本語 takes six places


@pytest.fixture(scope="module")
def of_eight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A REPORT that needs every colour, on eight runs; two are scored on three tasks."""
    root = tmp_path_factory.mktemp("eight")
    runs = [make_run(root / f"run-{number}", [(5, 6.0 - number / 9), (10, 5.0)]) for number in range(8)]
    make_scores(runs[0] / "scores", {"rte": [60.0, 62.0], "cola": [10.0], "mrpc": [0.0]})
    make_scores(runs[1] / "scores", {"rte": [61.0, 62.0]})
    compare(runs, root / "report")
    return root / "report"


def test_an_average_is_compared_where_it_is_over_the_same_tasks(tmp_path: Path) -> None:
    """WNLI, which no average counts, is no other task."""
    runs = [make_run(tmp_path / name, [(10, 5.0)]) for name in ("base", "more", "unlike")]
    make_scores(runs[0] / "scores", {"rte": [60.0], "cola": [10.0]})
    make_scores(runs[1] / "scores", {"rte": [62.0], "cola": [10.0], "wnli": [50.0]}, not_averaged=["wnli"])
    make_scores(runs[2] / "scores", {"rte": [62.0], "mrpc": [10.0]})
    compare(runs, tmp_path / "report")
    text = (tmp_path / "report" / "report.md").read_text()
    assert re.search(r"\| average +\| +\+1\.0 \| +other tasks \|", text)


def test_every_plot_is_a_picture_of_one_width(of_eight: Path) -> None:
    for quality in ("loss", "accuracy", "glue-average", "glue-tasks"):
        for unit in UNITS:
            with Image.open(of_eight / "plots" / f"{quality}-{unit}.png") as image:
                assert image.width == 780
                assert len(image.getcolors(1 << 24) or []) > 20
            ElementTree.parse(of_eight / "plots" / f"{quality}-{unit}.svg")


def test_points_stay_inside_their_axes(of_eight: Path) -> None:
    """Points of equal compute are moved aside, and the limits of the axes do not know of it by themselves."""
    svg = ElementTree.parse(of_eight / "plots" / "glue-average-flops.svg").getroot()
    frame, *_ = [group for group in svg.iter(f"{SVG}g") if group.get("id") == "patch_2"]
    corners = re.findall(r"(-?[\d.]+) (-?[\d.]+)", frame[0].attrib["d"])
    left, right = min(float(x) for x, _ in corners), max(float(x) for x, _ in corners)
    top, bottom = min(float(y) for _, y in corners), max(float(y) for _, y in corners)
    axes, *_ = [group for group in svg.iter(f"{SVG}g") if group.get("id") == "axes_1"]
    at = [
        (float(use.attrib["x"]), float(use.attrib["y"]))
        for group in axes
        if group.get("id", "").startswith("line2d")
        for use in group.iter(f"{SVG}use")
    ]
    assert len({x for x, _ in at}) == 2  # side by side
    assert all(left < x < right and top < y < bottom for x, y in at)


def test_the_page_is_legible_on_dark(of_eight: Path) -> None:
    """Every colour of a plot is one that changes with the page."""
    svgs = "".join(re.findall(r"<svg.*?</svg>", check_page(of_eight / "index.html"), flags=re.DOTALL))
    assert not re.findall(r"(?:fill|stroke): ?#\w+", svgs)
    assert {f"--{name}" for name, _ in COLOURS.values()} <= set(re.findall(r"var\((--\w+)\)", svgs))
    for text in ElementTree.fromstring(f"<div>{svgs}</div>").iter("text"):
        assert "fill: var(--ink)" in text.attrib["style"], "".join(text.itertext())


def test_names_of_any_kind(tmp_path: Path) -> None:
    """_ hides a label from a legend, $ is mathematics, < is a tag, | ends a cell: as names they stand as they are."""
    names = ["_first", "$x$ and $", "<b>&amp;", "a|b", "very " * 20 + "long"]
    runs = [make_run(tmp_path / name, [(5, 6.0), (10, 5.0)]) for name in names]
    compare(runs, tmp_path / "report")
    page = check_page(tmp_path / "report" / "index.html")
    assert "&lt;b&gt;&amp;amp;" in page and "<b>" not in page
    svg = (tmp_path / "report" / "plots" / "loss-flops.svg").read_text()
    assert all(name in svg for name in ("_first", "$x$ and $", "&lt;b&gt;&amp;amp;", "a|b"))
    assert "a\\|b" in (tmp_path / "report" / "report.md").read_text()


def test_one_run_only(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", [(5, 6.0), (10, 5.0)])
    document, tree = compare([run], tmp_path / "report")
    assert document.findings == []
    assert tree["runs"][0]["reaches_baseline"]["share"]["flops"] == 1
    assert "<h1>The run run</h1>" in check_page(tmp_path / "report" / "index.html")


@pytest.mark.usefixtures("unrendered")
def test_not_reached_is_said(tmp_path: Path) -> None:
    base = make_run(tmp_path / "base", [(5, 6.0), (10, 5.0)])
    other = make_run(tmp_path / "other", [(5, 6.0), (10, 5.5)])
    early = make_run(tmp_path / "early", [(5, 4.0), (10, 3.5)])
    document, tree = compare([base, other, early], tmp_path / "report")
    alone = "(one seed each: how far seeds alone lie apart is not known)"
    assert document.findings[1:] == ["other: not reached", f"early: at most 50.0% of base's FLOPs {alone}"]
    assert tree["runs"][1]["reaches_baseline"] is None
    assert re.search(r"\| other +\| +not reached \|", (tmp_path / "report" / "report.md").read_text())
    assert re.search(r"\| early +\| +≤ 5\.00 \| +≤ 50\.0% \|", (tmp_path / "report" / "report.md").read_text())


@pytest.mark.usefixtures("unrendered")
def test_what_was_reached_and_lost_again_is_said(tmp_path: Path) -> None:
    base = make_run(tmp_path / "base", [(5, 5.0), (10, 4.0)], recipe="vanilla-small")
    other = make_run(tmp_path / "other", [(3, 3.0), (10, 6.0)])
    document, _ = compare([base, other], tmp_path / "report")
    assert document.findings[1].startswith("other: at most 30.0% of base's FLOPs, and it ended 2.0000 nats higher (")


def test_no_held_out_rows(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / name, []) for name in ("one", "two")]
    document, tree = compare(runs, tmp_path / "report")
    assert [note for note in document.notes if "has no evaluation" in note]
    assert tree["runs"][0]["evaluations"] == []
    check_page(tmp_path / "report" / "index.html")
    assert not list((tmp_path / "report" / "plots").iterdir())


def test_a_run_that_diverged(tmp_path: Path) -> None:
    base = make_run(tmp_path / "base", [(5, 6.0), (10, float("nan"))])
    other = make_run(tmp_path / "other", [(5, 6.0), (10, 5.5)])
    document, _ = compare([base, other], tmp_path / "report")
    assert document.findings == ["The last loss of base is not finite: there is nothing to reach."]
    assert tree_of(tmp_path / "report")["runs"][0]["evaluations"][1]["loss"] is None
    document, _ = compare([base, other], tmp_path / "report-2", baseline=other)
    assert document.findings[1:] == ["base: not reached"]


def test_nothing_is_overwritten_and_a_refused_report_leaves_nothing(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", [(10, 5.0)])
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "note").write_text("keep")
    with pytest.raises(UserError, match="exists already"):
        compare([run], tmp_path / "mine")
    other = make_run(tmp_path / "other", [(10, 5.0)], data="e" * 64)
    with pytest.raises(UserError, match="other data"):
        compare([run, other], tmp_path / "report")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "other", "run"]


def test_the_same_runs_make_the_same_report(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", [(5, 6.0), (10, 5.0)])
    compare([run], tmp_path / "a")
    compare([run], tmp_path / "b")
    for file in ("index.html", "report.md", "report.json", "plots/loss-flops.svg", "plots/loss-flops.png"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file


def test_x_chooses_what_comes_first(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", [(5, 6.0), (10, 5.0)])
    compare([run], tmp_path / "report", unit="hours")
    text = (tmp_path / "report" / "report.md").read_text()
    assert text.index("loss-hours.png") < text.index("loss-flops.png")
    assert "reached at (minutes)" in text


def test_two_real_runs(shards_folder: Path, tmp_path: Path) -> None:
    for name in ("3ml-small", "vanilla-small"):
        pretrain(tiny(name), shards_folder, tmp_path / name)
    document, tree = compare([tmp_path / "vanilla-small", tmp_path / "3ml-small"], tmp_path / "report")
    check_page(tmp_path / "report" / "index.html")
    for run in tree["runs"]:
        last = [json.loads(line) for line in read_lines(Path(run["path"]))][-1]
        assert run["evaluations"][-1]["loss"] == last["valid_loss_15"]
        assert [point["spent"]["steps"] for point in run["evaluations"]] == [3, 6]
        assert run["finished"]
    assert document.notes == []
    assert "3ml-small: " in document.findings[1]


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    base = make_run(tmp_path / "base", [(5, 6.0), (10, 5.0)])
    other = make_run(tmp_path / "other", [(4, 6.0), (8, 4.0)])
    arguments = ["compare", str(base), str(other), "--baseline", str(other), "--x", "rows", "--out"]

    def status(*more: str) -> int:
        monkeypatch.setattr(sys, "argv", ["masklater", *arguments, *more])
        with pytest.raises(SystemExit) as leave:
            main()
        return int(leave.value.code or 0)

    assert status(str(tmp_path / "report"), "--json") == 0
    tree = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (tree["baseline"], tree["x"], tree["runs"][0]["reaches_baseline"]) == ("other", "rows", None)
    assert status(str(tmp_path / "report")) == 2
    assert "exists already" in capsys.readouterr().err
    assert status(str(tmp_path / "report-2")) == 0
    assert "base: not reached" in capsys.readouterr().out
    assert status(str(tmp_path / "report-3"), "--scores", str(tmp_path)) == 2
    assert "has no scores.json" in capsys.readouterr().err


def test_compare_loads_no_torch(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", [(5, 6.0), (10, 5.0)])
    code = (
        "import sys\nfrom masklater.cli import main\n"
        f"sys.argv = ['masklater', 'compare', {str(run)!r}, '--out', {str(tmp_path / 'report')!r}]\n"
        "try:\n    main()\nexcept SystemExit as leave:\n    assert not leave.code, leave.code\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=300)


@pytest.mark.usefixtures("unrendered")
def test_losses_by_source_stand_in_a_table(tmp_path: Path) -> None:
    """Over the seeds of an arm; a source that a run does not read is a dash, and without sources there is no table."""
    mixed, other = ["data={general: 0.7, medical: 0.3}"], ["data={general: 0.5, code: 0.5}"]
    offsets = {"general": -0.5, "medical": 0.5}
    plain = make_run(tmp_path / "plain", [(5, 6.0), (10, 5.0)])
    runs = [
        make_run(tmp_path / "mix-0", [(5, 6.0), (10, 5.0)], overrides=mixed, by_source=offsets),
        make_run(tmp_path / "mix-1", [(5, 6.0), (10, 5.2)], overrides=[*mixed, "seed=1"], by_source=offsets),
        make_run(tmp_path / "code", [(10, 4.0)], overrides=other, by_source={"general": -0.25, "code": 0.75}),
    ]
    compare([plain, *runs], tmp_path / "report")
    text = (tmp_path / "report" / "report.md").read_text()
    _, _, table = text.partition("Held-out loss by source")
    assert re.search(r"\| run +\| +general \| +medical \| +code \|", table)
    assert re.search(
        r"\| mix +\| +4\.6000 \(4\.5000 to 4\.7000; 2\) \| +5\.6000 \(5\.5000 to 5\.7000; 2\) \| +– \|", table
    )
    assert re.search(r"\| code +\| +3\.7500 \| +– \| +4\.7500 \|", table)
    assert re.search(r"\| plain +\| +– \| +– \| +– \|", table)
    check_page(tmp_path / "report" / "index.html")
    evaluations = tree_of(tmp_path / "report")["runs"][1]["evaluations"]
    assert [one["by_source"] for one in evaluations] == [
        {"general": 5.5, "medical": 6.5},
        {"general": 4.5, "medical": 5.5},
    ]

    compare([plain], tmp_path / "without")
    assert "by source" not in (tmp_path / "without" / "report.md").read_text()


def test_names_that_matplotlibs_font_lacks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    """The plots in which they stand as text show them, which is said once, in place of a warning for each drawing."""
    runs = [make_run(tmp_path / name, [(1, 5.0), (10, 4.0)]) for name in ("走る", "run")]
    compare(runs, tmp_path / "report")
    said = capsys.readouterr().err
    assert said.count("have boxes for る走, which matplotlib's font lacks") == 1
    assert not [one for one in recwarn if "Glyph" in str(one.message)]
    assert "走る" in (tmp_path / "report" / "plots" / "loss-flops.svg").read_text(encoding="utf-8")
    assert "走る" in check_page(tmp_path / "report" / "index.html")
