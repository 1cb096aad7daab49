"""Mixtures: exact shares at any place, each source its own order and epochs, and what is refused by name."""

import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from masklater.corpus.shards import Shards
from masklater.errors import Interrupted, UserError
from masklater.masking.batch import IGNORE
from masklater.model.check import settle
from masklater.pretrain import loop
from masklater.pretrain import sources as sources_
from masklater.pretrain.announce import announce_epochs
from masklater.pretrain.batches import corruption_for, make_batches
from masklater.pretrain.loop import pretrain
from masklater.pretrain.mixture import Mixture, Source, take_turns
from masklater.pretrain.plan import Plan, make_plan
from masklater.pretrain.sources import open_sources
from masklater.pretrain.start import find_start
from masklater.recipe.duration import Duration
from masklater.recipe.masking import COMMON_CORRUPTION
from masklater.recipe.recipe import Recipe
from masklater.run.metrics import read_metrics
from tests.conftest import make_shards, make_text, tiny
from tests.runs import stop_at


@pytest.fixture(scope="module")
def sources(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three SHARDS side by side with one tokenizer: rows padded, rows full, and other text."""
    folder = tmp_path_factory.mktemp("sources")
    make_shards(corpus, folder / "documents")
    tokenizer = folder / "documents" / "tokenizer"
    make_shards(corpus, folder / "continuous", pack="continuous", tokenizer=tokenizer)
    (folder / "other.jsonl").write_text("\n".join(json.dumps({"text": make_text(i + 900, 90)}) for i in range(30)))
    make_shards(folder / "other.jsonl", folder / "other", pack="continuous", tokenizer=tokenizer)
    return folder


def mixed(*overrides: str) -> Recipe:
    return tiny("3ml-small", "data={documents: 0.5, continuous: 0.37, other: 0.13}", "duration.steps=4", *overrides)


@pytest.mark.parametrize(
    "shares",
    [
        (1.0,),
        (0.7, 0.3),
        (0.5, 0.37, 0.13),
        (0.3333, 0.3333, 0.3334),
        (0.9997, 0.0001, 0.0001, 0.0001),
        (0.55, *[0.05] * 9),
        (0.13, 0.12, *[0.03] * 25),
    ],
)
def test_shares_are_exact_to_less_than_a_row_at_every_place(shares: tuple[float, ...]) -> None:
    turns = take_turns(shares)
    source_N, rank_N = turns.find(np.arange(25_000))
    for number, share in enumerate(shares):
        counted_N = np.cumsum(source_N == number)
        assert np.abs(counted_N - share * np.arange(1, 25_001)).max() < 1 - 1e-9
        assert rank_N[source_N == number].tolist() == list(range(counted_N[-1]))


def test_rows_that_are_counted_match_the_shares_after_any_number_of_steps(sources: Path) -> None:
    opened = open_sources(mixed(), sources)
    assert corruption_for(opened.of_phase(0), mixed().masking, True).maskable_per_row == pytest.approx(
        0.5 * opened.shards["documents"].index.maskable_per_row
        + 0.37 * opened.shards["continuous"].index.maskable_per_row
        + 0.13 * opened.shards["other"].index.maskable_per_row
    )
    mixture = mixture_of(opened.shards)
    counts: Counter[str] = Counter()
    for step in range(40):
        found = mixture.find(np.arange(7 * step, 7 * step + 7))
        counts.update({source.name: places.shape[1] for source, places in zip(mixture.sources, found, strict=True)})
        for source in mixture.sources:
            assert abs(counts[source.name] - source.share * 7 * (step + 1)) < 1
    assert mixture.counted(280) == [counts[source.name] for source in mixture.sources]


def mixture_of(shards: dict[str, Shards]) -> Mixture:
    shares = {"documents": 0.5, "continuous": 0.37, "other": 0.13}
    return Mixture([Source(key, key, shards[key].train, share, len(key)) for key, share in shares.items()])


def test_each_source_has_its_own_order_and_epochs(sources: Path) -> None:
    opened = open_sources(mixed(), sources).shards
    mixture = mixture_of(opened)
    found = mixture.find(np.arange(3000))
    for source, (here_K, rows_K) in zip(mixture.sources, found, strict=True):
        size = source.rows.num_rows
        for epoch in range(len(rows_K) // size):
            assert sorted(rows_K[epoch * size : (epoch + 1) * size]) == list(range(size))
        block = mixture.read(here_K[:5])
        assert (block.ids_NL == source.rows.read(rows_K[:5]).ids_NL).all()
        assert (block.documents_NL == source.rows.read(rows_K[:5]).documents_NL).all()
        later = Source(source.name, source.key, source.rows, 1.0, source.seed, first=11)
        ((_, again_K),) = Mixture([later]).find(np.arange(4))
        assert again_K.tolist() == rows_K[11:15].tolist()


def test_a_mixture_is_scored_by_source_and_over_all(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One run that is stopped and resumed; what would be another mixture is refused by name."""
    recipe = mixed("evaluation.every_steps=2", "masking.choose=word")
    with monkeypatch.context() as stopped, pytest.raises(Interrupted):
        stopped.setattr(loop, "train_step", stop_at(2))
        pretrain(recipe, sources, tmp_path / "run")
    said = capsys.readouterr().err
    assert "of each 100 rows 50 from documents, 37 from continuous, 13 from other" in said
    rows = Shards(sources / "other").train.num_rows
    assert f"other: each row is read {4 / rows:.2f} times over the whole run" in said  # 4 of the first 32 rows

    (tmp_path / "elsewhere").mkdir()
    for name, stands_for in (("continuous", "continuous"), ("documents", "other"), ("other", "documents")):
        (tmp_path / "elsewhere" / name).symlink_to(sources / stands_for)
    changed: list[tuple[Recipe, Path, str]] = [
        (recipe, tmp_path / "elsewhere", "elsewhere/documents is other data than the run .*run began with"),
        (mixed("data={documents: 0.6, continuous: 0.4}"), sources, "began with other too"),
        (mixed("data={documents: 0.5, continuous: 0.4, other: 0.1}"), sources, "data.continuous was 0.37, is 0.4"),
        (tiny("3ml-small", "data={documents: 1}"), sources, "began with continuous, other too"),
        (tiny("3ml-small"), sources / "documents", "documents is not among the data of the run"),
    ]
    for other, data, message in changed:
        with pytest.raises(UserError, match=message):
            pretrain(other, data, tmp_path / "run", resume=True)

    pretrain(recipe, sources, tmp_path / "run", resume=True)
    records = [record for record in read_metrics(tmp_path / "run" / "metrics.jsonl") if "valid_loss" in record]
    assert [record["step"] for record in records] == [2, 4]
    for record in records:
        for suffix in ("", "_15"):
            of = {name: f"{suffix}/{name}" for name in ("documents", "continuous", "other")}
            targets = {name: record[f"valid_targets{end}"] for name, end in of.items()}
            assert record[f"valid_targets{suffix}"] == sum(targets.values())
            total = sum(record[f"valid_loss{end}"] * targets[name] for name, end in of.items())
            assert record[f"valid_loss{suffix}"] == pytest.approx(total / sum(targets.values()))


def test_frequencies_of_a_mixture_are_those_of_what_it_reads(sources: Path) -> None:
    data = {"documents": 0.5, "continuous": 0.37, "other": 0.13}
    plan = plan_of(mixed("evaluation.rows=8"), sources)
    mixture, counts_V = plan.phases[0].batches.rows, np.ones(Shards(sources / "other").vocabulary.size)
    np.add.at(counts_V, mixture.read(np.arange(mixture.num_rows)).ids_NL.ravel(), 1)
    counts_V[list(Shards(sources / "other").vocabulary.special)] = 0
    held_out = [Shards(sources / name) for name in data]
    targets = [
        batch.target_ids_BT[batch.target_ids_BT != IGNORE].numpy()
        for shards in held_out
        for batch in make_batches(shards, shards.valid, COMMON_CORRUPTION, True, "document", 0).fixed(8, 8)
    ]
    score = plan.unigram_score()
    assert score is not None
    assert score.targets == sum(map(len, targets))
    assert score.loss == pytest.approx(-np.log(counts_V[np.concatenate(targets)] / counts_V.sum()).mean())


def test_sources_that_do_not_go_together_are_refused_by_name(sources: Path, corpus: Path, tmp_path: Path) -> None:
    make_shards(corpus, tmp_path / "larger", vocab_size=330, pack="continuous")
    make_shards(corpus, tmp_path / "longer", row_length=64, tokenizer=sources / "documents" / "tokenizer")
    for name, message in (
        ("larger", "larger was made with another tokenizer than .*documents"),
        ("longer", "longer has rows of 64, and those of .*documents have 32"),
        ("nowhere", "there is no folder .*nowhere"),
    ):
        recipe = tiny("3ml-small", f"data={{documents: 0.5, {tmp_path / name}: 0.5}}")
        with pytest.raises(UserError, match=message):
            pretrain(recipe, sources, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_sources_whose_rows_have_other_special_tokens_are_refused(
    sources: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Padding and what is never masked is known by those of the first."""
    opened = sources_.open_data

    def with_others(folder: Path) -> Shards:
        shards = opened(folder)
        if folder.name == "other":
            special = shards.index.special
            swapped = special.model_copy(update={"pad": special.eos, "eos": special.pad})
            shards.index = shards.index.model_copy(update={"special": swapped})
        return shards

    monkeypatch.setattr(sources_, "open_data", with_others)
    with pytest.raises(UserError, match=r"other was made with another tokenizer than .*documents"):
        open_sources(mixed(), sources)


@pytest.mark.parametrize("other", ["./documents", "other/../documents"])
def test_a_folder_under_two_names_is_refused(sources: Path, other: str) -> None:
    """Each of its rows would be read twice at once, and the epochs that are told be half of those that are read."""
    with pytest.raises(UserError, match=f"data names .* twice, as documents and as {other}"):
        open_sources(tiny("3ml-small", f"data={{documents: 0.5, {other}: 0.5}}"), sources)


def plan_of(recipe: Recipe, data: Path) -> Plan:
    opened = open_sources(recipe, data)
    return make_plan(recipe, opened, settle(find_start(recipe, opened.longest).config))


def test_rows_that_are_read_often(sources: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Said before the run, in any unit; refused where the recipe says how often at most."""
    often = ("data={documents: 0.1, other: 0.9}", "duration={rows: 900}", "max_epochs=3")
    rows = Shards(sources / "other").train.num_rows
    message = rf"each row of other would be read {round(904 * 0.9) / rows:.2f} times, and max_epochs is 3"
    with pytest.raises(UserError, match=message):
        pretrain(tiny("3ml-small", *often), sources, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    recipe, flops = tiny("3ml-small", "data={documents: 0.1, other: 0.9}"), 3e9
    plan = plan_of(recipe, sources)
    expected = {"documents": 0.1 * 48 / Shards(sources / "documents").train.num_rows, "other": 0.9 * 48 / rows}
    assert plan.epochs() == pytest.approx(expected, abs=1 / rows)
    by_flops = plan_of(recipe.model_copy(update={"duration": Duration(flops=flops)}), sources)
    steps = math.ceil(flops / plan.spending(0).flops)
    assert by_flops.epochs()["other"] == pytest.approx(0.9 * 8 * steps / rows, abs=1 / rows)
    announce_epochs(by_flops)
    said = " ".join(capsys.readouterr().err.split())
    assert f"other: each row is read {by_flops.epochs()['other']:.2f} times over the whole run" in said
    assert said.count("that is more than 4 times") == 1
    assert plan_of(recipe.model_copy(update={"duration": Duration(hours=1)}), sources).epochs() == {}


def test_epochs_of_a_random_rate_follow_from_all_its_rates(sources: Path) -> None:
    """Not from that of the first step, of which each seed has another."""
    recipe = tiny("3ml-small", "masking.schedule={name: random, low: 0.05, high: 0.9}", "seed=2")
    flops, spent, steps = 3e9, 0.0, 0
    plan = plan_of(recipe.model_copy(update={"duration": Duration(flops=flops)}), sources / "other")
    while spent < flops:
        spent, steps = spent + plan.spending(steps).flops, steps + 1
    rows = Shards(sources / "other").train.num_rows
    assert plan.epochs()[""] == pytest.approx(recipe.batch.rows * steps / rows, rel=0.02)
