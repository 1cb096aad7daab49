"""Tokens that have more to teach: what their table says, what a run predicts by it, and what is refused by name."""

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from masklater.budget.forecast import forecast, rows_of
from masklater.cli.select import select as select_command
from masklater.corpus.shards import Shards
from masklater.corpus.target_table import FLOOR, TargetTable, weigh
from masklater.errors import Interrupted, UserError
from masklater.machine.precision import choose_precision
from masklater.masking.batch import IGNORE, MaskedBatch
from masklater.model.check import settle
from masklater.pretrain import loop
from masklater.pretrain.evaluate import evaluate
from masklater.pretrain.loop import pretrain
from masklater.pretrain.plan import Plan, make_plan
from masklater.pretrain.sources import begin_ledger, open_sources
from masklater.pretrain.start import find_start
from masklater.recipe.recipe import Recipe
from masklater.run.folder import RunFolder
from masklater.run.identity import read_identity
from masklater.select.score import TokenLosses, excess, token_losses
from masklater.select.select import select
from masklater.select.targets import TargetsResult, make_targets
from tests.conftest import make_shards, tiny
from tests.runs import losses, stop_at, weights
from tests.select.conftest import scorer
from tests.select.tables import make_table


def by_table(table: Path, *overrides: str) -> Recipe:
    return tiny("3ml-small", "masking.predict=0.5", f"masking.predict_by={table}", *overrides)


def plan_of(recipe: Recipe, data: Path) -> Plan:
    sources = open_sources(recipe, data)
    return make_plan(recipe, sources, settle(find_start(recipe, sources.longest).config))


def targets_of(batch: MaskedBatch) -> Counter[int]:
    return Counter(batch.target_ids_BT[batch.target_ids_BT != IGNORE].tolist())


@pytest.fixture(scope="session")
def made(folder: Path) -> tuple[Path, TargetsResult]:
    """A TABLE of the SHARDS, and what was said of it; once, however often a worker comes back here."""
    out = folder / "table"
    return out, make_targets(folder / "shards", folder / "early", folder / "reference", out, precision="float32")


def test_noise_gets_the_floor_and_what_can_be_learned_more(folder: Path, made: tuple[Path, TargetsResult]) -> None:
    shards, table = Shards(folder / "shards"), TargetTable(made[0])
    rows_NL = shards.train.read(np.arange(shards.train.num_rows)).ids_NL
    letters = {token for word in ("Ġkan", "Ġlor", "Ġmis", "Ġnu", "Ġre", "Ġsot") for token in _ids(shards, word)}
    noise = {token for pair in ("Ġq", "Ġx", "Ġz", "q", "x", "z") for token in _ids(shards, pair)}
    assert noise and letters
    seen_in_rows = Counter(rows_NL.flatten().tolist())
    assert min(seen_in_rows[token] for token in letters | noise) > 0
    mean = np.average(np.maximum(table.excess_V, 0), weights=table.seen_V)
    of_noise, of_letters = (table.weights_V[sorted(ids)] for ids in (noise, letters))
    assert (table.excess_V[sorted(noise)] < 0).all()
    assert (of_noise - FLOOR * mean <= 0.5 * mean).all()  # nothing but what little is seen of them leaves open
    assert of_letters.mean() > 1.5 * mean
    assert of_letters.min() > of_noise.max()


def _ids(shards: Shards, token: str) -> list[int]:
    vocabulary = json.loads((shards.folder / "tokenizer" / "tokenizer.json").read_text())["model"]["vocab"]
    return [vocabulary[token]] if token in vocabulary else []


def test_what_both_lose_alike_has_no_excess() -> None:
    seen_V = np.array([1000, 1000, 1, 0])
    early, reference = (TokenLosses(np.array(sums), seen_V) for sums in ([3e3, 5e3, 9, 0], [2e3, 5e3, 9.5, 0]))
    assert excess(early, reference).tolist() == [1.0, 0.0, -0.5, 0.0]
    weights_V = weigh(excess(early, reference), seen_V)
    assert weights_V[1] < 1.2 * FLOOR * weights_V[0]


def test_the_table_is_what_a_count_one_by_one_says(folder: Path, made: tuple[Path, TargetsResult]) -> None:
    """Losses under the masks of an evaluation, in passes of another size; and nothing of it is lost."""
    shards, table = Shards(folder / "shards"), TargetTable(made[0])
    precision = choose_precision("float32", torch.device("cpu"))
    found = []
    for name in ("early", "reference"):
        model, batches = scorer(folder / name, shards)
        together = token_losses(model, batches, 7, precision, "Scoring")
        sums, seen = Counter[int](), Counter[int]()
        with torch.no_grad():
            for batch in batches.fixed(shards.train.num_rows, 16):
                loss_BT = model.target_losses(batch)
                for token, loss in zip(batch.target_ids_BT.flatten().tolist(), loss_BT.flatten().tolist(), strict=True):
                    if token != IGNORE:
                        sums[token] += loss
                        seen[token] += 1
        V = shards.vocabulary.size
        assert together.seen_V.tolist() == table.seen_V.tolist() == [seen[token] for token in range(V)]
        assert together.sum_V == pytest.approx(np.array([sums[token] for token in range(V)]), rel=1e-4)
        whole = evaluate(model, batches.fixed(shards.train.num_rows, 32), precision)
        assert (whole.targets, whole.loss) == (seen.total(), pytest.approx(sum(sums.values()) / seen.total()))
        found.append(together)
    assert np.abs(excess(*found) - table.excess_V).max() <= 0.0011
    result = made[1]
    assert (result.targets, result.tokens) == (seen.total(), len(seen))
    assert result.mean_excess == pytest.approx((found[0].sum_V - found[1].sum_V).sum() / seen.total(), abs=0.01)
    assert result.share_above == pytest.approx(table.seen_V[table.excess_V > 0].sum() / seen.total())


def test_a_run_by_a_table_is_resumed_and_books_its_cost(
    folder: Path, made: tuple[Path, TargetsResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, shards = TargetTable(made[0]), folder / "shards"
    recipe = by_table(table.folder, "duration.steps=4")
    pretrain(recipe, shards, tmp_path / "straight")
    with monkeypatch.context() as stopped, pytest.raises(Interrupted):
        stopped.setattr(loop, "train_step", stop_at(3))
        pretrain(recipe, shards, tmp_path / "run")
    assert read_identity(tmp_path / "run")[0].targets_sha256 == table.fingerprint
    other = make_table(tmp_path / "other", Shards(shards), {7: 1.0}).folder
    for given, message in (
        (by_table(other, "duration.steps=4"), r"predict_by: .*other is another table than the run .*run began with"),
        (
            tiny("3ml-small", "masking.predict=0.5", "duration.steps=4"),
            r"names no table, and the run .*run began with one",
        ),
    ):
        with pytest.raises(UserError, match=message):
            pretrain(given, shards, tmp_path / "run", resume=True)
    shutil.copytree(table.folder, tmp_path / "moved")
    pretrain(by_table(tmp_path / "moved", "duration.steps=4"), shards, tmp_path / "run", resume=True)
    assert losses(tmp_path / "run") == losses(tmp_path / "straight")
    straight, resumed = weights(tmp_path / "straight"), weights(tmp_path / "run")
    assert all((straight[name] == resumed[name]).all() for name in straight)
    with pytest.raises(UserError, match=r"the run .*early began without a table, and .*table is one"):
        pretrain(by_table(table.folder), shards, folder / "early", resume=True)

    ledger = json.loads((tmp_path / "run" / "ledger.json").read_text())
    spent = [json.loads((folder / name / "ledger.json").read_text())["flops"] for name in ("early", "reference")]
    row = forecast(RunFolder(folder / "early").recipe, rows_of(shards)).row
    assert ledger["flops_selection"] == made[1].flops == pytest.approx(2 * Shards(shards).train.num_rows * row.forward)
    assert ledger["flops_selection_runs"] == pytest.approx(sum(spent))
    assert ledger["flops"] == pytest.approx(forecast(recipe, rows_of(shards)).total_flops)

    # Chosen rows and chosen targets, by the same two runs: these were trained once.
    chosen = select(shards, folder / "early", folder / "reference", 0.5, tmp_path / "half", precision="float32")
    both = begin_ledger(open_sources(recipe, tmp_path / "half"))
    assert both.flops_selection == pytest.approx(made[1].flops + chosen.flops)
    assert both.flops_selection_runs == pytest.approx(sum(spent))


def test_batches_follow_from_seed_step_and_table(folder: Path, tmp_path: Path) -> None:
    """In every phase; the common evaluation is that of any other run, and the run's own prefers what it does."""
    data, shards = folder / "shards", Shards(folder / "shards")
    phases = ("duration.steps=4", "batch.rows=64", "phases=[{share: 0.5}, {masking: {rate: 0.3, choose: word}}]")
    even = range(0, shards.vocabulary.size, 2)
    table = make_table(tmp_path / "table", shards, dict.fromkeys(even, 1.0)).folder
    uniform = plan_of(tiny("3ml-small", "masking.predict=0.5", *phases), data)
    first, again = (plan_of(by_table(table, *phases), data) for _ in range(2))
    alike = plan_of(by_table(make_table(tmp_path / "alike", shards, {}, others=0.4).folder, *phases), data)
    for step in (0, 3):
        batches = [plan.phase(step).batches.of_step(step, 64) for plan in (uniform, first, again, alike)]
        for name, tensor in vars(batches[1]).items():
            if tensor is not None:
                assert torch.equal(tensor, getattr(batches[2], name))
                assert torch.equal(getattr(batches[3], name), getattr(batches[0], name))
        preferred, alike_preferred = (sum(targets_of(batches[n])[token] for token in even) for n in (1, 0))
        assert preferred > 1.3 * alike_preferred > 0
        assert targets_of(batches[1]).total() == targets_of(batches[0]).total()
        parts = [first.phase(step).batches.of_step(step, 64, slice(place, place + 16)) for place in range(0, 64, 16)]
        assert torch.equal(
            torch.cat([part.target_ids_BT for part in parts]), batches[1].target_ids_BT
        )  # of 4 processes
    for judge in ("own", "common"):
        of_plans = [next(iter(plan.phase(0).held_out.values()))[judge] for plan in (uniform, first)]  # type: ignore[index]
        one, other = (next(batches.fixed(8, 8)) for batches in of_plans)
        assert torch.equal(one.target_ids_BT, other.target_ids_BT) == (judge == "common")


def test_what_does_not_go_together_is_refused_by_name(folder: Path, tmp_path: Path) -> None:
    early, reference, shards = folder / "early", folder / "reference", folder / "shards"
    refused = [
        (shards, early, early, "--early and --reference both name .*early"),
        (shards, reference, early, "the reference .*early was trained on rows of .*shards"),
        (
            folder / "other",
            early,
            shutil.copytree(early, tmp_path / "twin"),
            "no token .* loses no more than .*twin on any",
        ),
    ]
    for data, one, other, message in refused:
        with pytest.raises(UserError, match=message):
            make_targets(data, one, other, tmp_path / "table")
        assert not (tmp_path / "table").exists()
    with pytest.raises(UserError, match=r"missing is no TABLE folder: it has no targets\.json"):
        open_sources(by_table(tmp_path / "missing"), shards)
    table = make_table(tmp_path / "made", Shards(shards), {7: 1.0}).folder
    make_shards(folder / "shards.jsonl", tmp_path / "larger", vocab_size=335)
    with pytest.raises(UserError, match=r"predict_by: .*made is of the tokens of another tokenizer than .*larger has"):
        pretrain(by_table(table), tmp_path / "larger", tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(UserError, match=r"--keep 0.5 is a share of the rows, and --targets keeps them all"):
        select_command(shards, early, reference, tmp_path / "table", keep=0.5, targets=True)
    with pytest.raises(UserError, match=r"with predict 1 all of it is predicted"):
        tiny("3ml-small", f"masking.predict_by={table}")


def test_a_run_by_a_table_scores_all_tokens_alike(folder: Path, tmp_path: Path) -> None:
    """What it preferred in training is not what a table or a selection is made by, nor has its table to be there."""
    table = make_table(tmp_path / "table", Shards(folder / "shards"), {7: 1.0}).folder
    pretrain(by_table(table, "duration.steps=2"), folder / "shards", tmp_path / "early")
    pretrain(tiny("3ml-small", "masking.predict=0.5", "duration.steps=2"), folder / "shards", tmp_path / "plain")
    shutil.rmtree(table)
    seen = []
    for name in ("early", "plain"):
        make_targets(folder / "shards", tmp_path / name, folder / "reference", tmp_path / f"of-{name}")
        seen.append(TargetTable(tmp_path / f"of-{name}").seen_V.tolist())
    assert seen[0] == seen[1]
