"""Phases: exact resume through them, what each changes, what they cost, and what may not change any more."""

import hashlib
import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from masklater.budget.forecast import forecast, rows_in
from masklater.cli import main
from masklater.corpus.shards import Shards
from masklater.errors import Interrupted, UserError
from masklater.ledger import Ledger
from masklater.machine.distributed import ALONE
from masklater.model.check import settle
from masklater.model.masked_lm import MaskLaterForMaskedLM
from masklater.model.positions import PositionTable, apply_rope_base, decoder_tables, encoder_tables, repeat_trained
from masklater.pretrain import loop
from masklater.pretrain.loop import pretrain
from masklater.pretrain.phase import extend_positions
from masklater.pretrain.plan import Phase, Plan, make_plan
from masklater.pretrain.sources import open_sources
from masklater.pretrain.start import find_start
from masklater.recipe.duration import Duration
from masklater.recipe.load import load
from masklater.recipe.recipe import Recipe
from masklater.run.checkpoint import Progress, list_checkpoints, load_checkpoint, load_newest, seal
from masklater.run.folder import RunFolder
from masklater.run.metrics import read_metrics
from tests.conftest import tiny
from tests.invariance.ranks import Job, run_jobs
from tests.pretrain.test_start import continue_from, save_masked_lm
from tests.reference.test_against_transformers import tiny_config
from tests.runs import losses, stop_at, weights

PHASES = (
    "data={general: 0.7, code: 0.3}", "duration.steps=6", "evaluation.every_steps=2", "checkpoint.every_steps=6",
    "evaluation.rows=4", "batch.rows=4", "batch.micro_rows=2",
    "phases=[{share: 0.3333, row_length: 64}, "
    "{share: 0.3333, row_length: 128, data: {general: 0.5, code: 0.5}, masking: {rate: 0.3}, batch: {rows: 2}}, "
    "{row_length: 256, masking: {choose: word, schedule: {name: linear, end: 0.3}}, batch: {rows: 2}, "
    "lr_multiplier: 0.5}]",
)  # fmt: skip
"""Steps 1 and 2, 3 and 4, 5 and 6: rows, mixture and masking change."""
LEARNED = ("model.family=bert",)
ROTARY = ("model.family=modernbert", "phases.1.rope_base=20000", "phases.2.rope_base=160000")


def phased(*overrides: str) -> Recipe:
    return tiny("3ml-small", *PHASES, *overrides)


def plan_of(recipe: Recipe, data: Path) -> Plan:
    sources = open_sources(recipe, data)
    return make_plan(recipe, sources, settle(find_start(recipe, sources.longest).config))


def resumed_at(steps: list[int], recipe: Recipe, data: Path, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is stopped after each of these steps, and goes on to its end."""
    done = 0
    for step in steps:
        with monkeypatch.context() as stopped, pytest.raises(Interrupted):
            stopped.setattr(loop, "train_step", stop_at(step - done))
            pretrain(recipe, data, run, resume=done > 0)
        done = step
    pretrain(recipe, data, run, resume=True)


def both_tables(model: MaskLaterForMaskedLM) -> list[PositionTable]:
    return [*encoder_tables(model), *decoder_tables(model)]


def check_same(one: Path, other: Path) -> None:
    assert losses(one) == losses(other)
    first, second = weights(one), weights(other)
    assert all(torch.equal(first[name], second[name]) for name in first)
    scores = [
        {step["step"]: step for step in read_metrics(run / "metrics.jsonl") if "valid_loss" in step}
        for run in (one, other)
    ]
    assert scores[0] == scores[1]


def test_a_run_of_three_phases_resumes_to_the_bit_and_costs_what_was_forecast(
    corpora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Stopped inside each phase and on each boundary, one after another."""
    recipe = phased(*LEARNED)
    result = pretrain(recipe, corpora, tmp_path / "straight")
    said = capsys.readouterr().err
    assert "positions from 64 on, of which none was trained so far, begin as copies of the 64 before" in said
    assert "phase 2, from step 3: 2 rows a step" in said
    resumed_at([1, 2, 3, 4, 5], recipe, corpora, tmp_path / "resumed", monkeypatch)
    check_same(tmp_path / "resumed", tmp_path / "straight")

    assert (result.rows, result.tokens) == (8 + 4 + 4, 8 * 64 + 4 * 128 + 4 * 256)
    expected = forecast(recipe, rows_in(recipe, corpora))
    assert result.flops == pytest.approx(expected.total_flops, rel=1e-12)
    steps = [record for record in read_metrics(tmp_path / "straight" / "metrics.jsonl") if "loss" in record]
    ends = [steps[at]["flops"] for at in (1, 3, 5)]
    assert ends == pytest.approx(
        [math.fsum(phase.total_flops or 0 for phase in expected.phases[:n]) for n in (1, 2, 3)]
    )
    assert [step["masking_rate"] for step in steps] == pytest.approx([0.5, 0.5, 0.3, 0.3, 0.5, 0.5 - 0.2 * 4 / 7])
    scored = [record for record in read_metrics(tmp_path / "straight" / "metrics.jsonl") if "valid_loss" in record]
    assert all({"valid_loss_15/general", "valid_loss/code"} <= record.keys() for record in scored)
    newest = load_newest(tmp_path / "straight" / "checkpoints")
    assert newest is not None
    assert newest.progress == Progress(None, 2, 256, decoder_row_length=256)


@pytest.mark.slow
@pytest.mark.parametrize("stop", [1, 2, 3, 4, 5])
@pytest.mark.parametrize(
    "family", [LEARNED, ROTARY, ("optimizer.name=muon", "optimizer.adamw_lr=1e-3", "model.family=roberta")]
)
def test_each_stop_by_itself(
    stop: int, family: tuple[str, ...], corpora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = phased(*family, "schedule.name=wsd", "schedule.over=phase", "schedule.decay=0.5", "schedule.warmup=0")
    pretrain(recipe, corpora, tmp_path / "straight")
    resumed_at([stop], recipe, corpora, tmp_path / "resumed", monkeypatch)
    check_same(tmp_path / "resumed", tmp_path / "straight")


@pytest.mark.slow
def test_processes_change_nothing_of_a_run_in_phases(corpora: Path, tmp_path: Path) -> None:
    """Nor does the way the model is spread; a resumed one goes on from what two processes have saved."""
    common = (*PHASES, *LEARNED, "model.dropout=0", "batch.micro_rows=1")
    run_jobs(
        [
            Job(1, common, corpora, tmp_path / "one"),
            Job(2, common, corpora, tmp_path / "ddp"),
            Job(2, (*common, "distributed=fsdp"), corpora, tmp_path / "fsdp"),
        ],
        tmp_path / "log",
    )
    for other in ("ddp", "fsdp"):
        assert losses(tmp_path / other) == pytest.approx(losses(tmp_path / "one"), rel=1e-4)
        mine, theirs = weights(tmp_path / other), weights(tmp_path / "one")
        assert all(torch.allclose(mine[name], theirs[name], rtol=1e-3, atol=1e-4) for name in mine)


def test_positions_beyond_those_trained_begin_as_copies(corpora: Path) -> None:
    plan = plan_of(phased("model.family=roberta"), corpora)
    torch.manual_seed(0)
    model = MaskLaterForMaskedLM(plan.config)
    encoder, decoder = both_tables(model)
    offset = model.config.position_offset
    assert (encoder.offset, len(encoder.weight), decoder.offset, len(decoder.weight)) == (offset, offset + 256, 0, 256)
    before = [table.weight.detach().clone() for table in (encoder, decoder)]
    extend_positions(
        plan.phases[0], Progress(row_length=0, decoder_row_length=0), model
    )  # from scratch: all begin as they are drawn
    extend_positions(plan.phases[1], Progress(row_length=128, decoder_row_length=128), model)  # which are trained
    assert all(torch.equal(table.weight, old) for table, old in zip((encoder, decoder), before, strict=True))
    extend_positions(plan.phases[2], Progress(row_length=100, decoder_row_length=100), model)
    for table, old in zip((encoder, decoder), before, strict=True):
        expected = old.clone()
        for position in range(100, 256):
            expected[table.offset + position] = old[table.offset + position % 100]
        assert torch.equal(table.weight, expected)


GROWING = (
    "phases=[{share: 0.5, row_length: 64}, {row_length: 128}]", "duration.steps=4", "schedule.warmup=0",
    "data={general: 1}", "batch.rows=2", "batch.micro_rows=2", "evaluation.rows=2", "checkpoint.every_steps=9",
)  # fmt: skip


def test_positions_of_a_new_decoder_begin_as_copies_beside_a_published_encoder(
    corpora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The encoder knows 256 positions, and they stay; the decoder has been trained on rows of 64 when longer ones come.

    So has what is made of the run before they come: who goes on from it takes over 64, or with another decoder none.
    """
    shards = Shards(corpora / "general" / "rows-64")
    save_masked_lm("bert", shards, tmp_path / "bert", max_position_embeddings=256)
    recipe = continue_from(tmp_path / "bert", *GROWING)
    tables: list[list[torch.Tensor]] = []

    def recorded(phase: Phase, progress: Progress, model: MaskLaterForMaskedLM) -> None:
        tables.append([table.weight.detach().clone() for table in both_tables(model)])
        extend_positions(phase, progress, model)
        tables.append([table.weight.detach().clone() for table in both_tables(model)])

    with monkeypatch.context() as patch:
        patch.setattr(loop, "extend_positions", recorded)
        pretrain(recipe, corpora, tmp_path / "straight")
    assert (
        "positions from 64 on, of which none was trained so far, begin as copies of the 64 before, in the decoder\n"
        in capsys.readouterr().err
    )
    at_first, begun, before, after = tables
    assert all(torch.equal(one, other) for one, other in zip(at_first, begun, strict=True))
    assert torch.equal(after[0], before[0])
    assert torch.equal(after[1], before[1][:64].repeat(2, 1)) and not torch.equal(before[1], after[1])

    with monkeypatch.context() as stopped, pytest.raises(Interrupted):
        stopped.setattr(loop, "train_step", stop_at(2))
        pretrain(recipe, corpora, tmp_path / "run")
    progress = RunFolder(tmp_path / "run").open_newest().progress
    assert (progress.row_length, progress.decoder_row_length) == (256, 64)
    model, _ = RunFolder(tmp_path / "run").load_model()
    encoder, decoder = (table.weight for table in both_tables(model))
    assert not torch.equal(encoder[64:128], encoder[:64]) and torch.equal(decoder[64:128], decoder[:64])
    longest = Shards(corpora / "general" / "rows-128")
    for kind, trained in (("self", 64), ("cross", 0)):
        start = find_start(continue_from(tmp_path / "run", f"decoder.kind={kind}"), longest)
        assert (start.trained, start.copy_weights(MaskLaterForMaskedLM(start.config))) == (256, trained)
    pretrain(recipe, corpora, tmp_path / "run", resume=True)
    check_same(tmp_path / "run", tmp_path / "straight")


def test_a_checkpoint_with_one_number_for_encoder_and_decoder_has_it_for_both(corpora: Path, tmp_path: Path) -> None:
    pretrain(tiny("3ml-small", "duration.steps=1", *LEARNED), corpora / "general" / "rows-64", tmp_path / "run")
    newest = RunFolder(tmp_path / "run").open_newest()
    file, sums = newest.path / "progress.json", newest.path / "checkpoint.json"
    tree, entry = json.loads(file.read_text()), json.loads(sums.read_text())
    assert tree.pop("decoder_row_length") == tree["row_length"] == 64
    file.write_text(json.dumps(tree))
    entry["sha256"]["progress.json"] = hashlib.sha256(file.read_bytes()).hexdigest()
    sums.write_text(json.dumps(entry))
    assert load_checkpoint(newest.path).progress == newest.progress


def test_a_run_with_room_for_longer_rows_is_gone_on_with(
    corpora: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = ("duration.steps=2", "batch.rows=2", "batch.micro_rows=2", "evaluation.rows=2", "schedule.warmup=0")
    short = corpora / "general" / "rows-64"
    with pytest.raises(UserError, match=r"model.max_positions is 60, and .*rows-64 has rows of 64"):
        pretrain(tiny("3ml-small", "model.max_positions=60"), short, tmp_path / "none")
    pretrain(tiny("3ml-small", "model.max_positions=128", "model.family=bert", *few), short, tmp_path / "run")
    model, _ = RunFolder(tmp_path / "run").load_model()
    capsys.readouterr()
    sizes = [override for override in few if not override.startswith("model.")]
    longer = load("continue", [f"model.from={tmp_path / 'run'}", *sizes, "evaluation.every_steps=2"])
    pretrain(longer, corpora / "general" / "rows-128", tmp_path / "longer")
    said = capsys.readouterr().err
    assert "encoder, LM head, decoder" in said
    assert "positions from 64 on, of which none was trained so far, begin as copies of the 64 before" in said
    start = find_start(longer, open_sources(longer, corpora / "general" / "rows-128").longest)
    assert (start.trained, start.config.row_length, model.config.row_length) == (64, 128, 128)
    with pytest.raises(UserError, match=r"has positions for rows of 128, and those of .*rows-256 have 256"):
        pretrain(longer, corpora / "general" / "rows-256", tmp_path / "none")


def test_a_decoder_that_has_rested_has_trained_no_positions(
    corpora: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Copies of what was drawn at random would make [MASK]s one phase length apart the same vector."""
    causal = ("phases=[{objective: causal, share: 0.5, row_length: 64}, {row_length: 128}]", *GROWING[1:])
    pretrain(tiny("3ml-small", "model.family=bert", *causal), corpora, tmp_path / "run")
    said = capsys.readouterr().err
    assert "begin as copies of the 64 before, in the encoder\n" in said
    progress = RunFolder(tmp_path / "run").open_newest().progress
    assert (progress.row_length, progress.decoder_row_length) == (128, 128)
    _, decoder = (table.weight for table in both_tables(RunFolder(tmp_path / "run").load_model()[0]))
    assert not torch.allclose(decoder[:64], decoder[64:], atol=1e-3)


@pytest.mark.parametrize("arguments", [[], ["--with-head"], ["--with-head", "3ml"]])
def test_an_export_has_copies_where_nothing_was_trained_and_is_gone_on_with(
    arguments: list[str], corpora: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the RUN itself is; what goes on from it is told nothing, and finds nothing that was drawn at random."""
    kind = "self" if "3ml" in arguments else "none"
    few = ("duration.steps=2", "batch.rows=2", "batch.micro_rows=2", "evaluation.rows=2", "schedule.warmup=0")
    recipe = tiny("3ml-small", "model.max_positions=128", "model.family=roberta", f"decoder.kind={kind}", *few)
    pretrain(recipe, corpora / "general" / "rows-64", tmp_path / "run")
    checkpoint = RunFolder(tmp_path / "run").open_newest()
    as_trained = MaskLaterForMaskedLM(RunFolder(tmp_path / "run").load_config())
    checkpoint.load_into(as_trained)
    (table,) = encoder_tables(as_trained)
    expected = table.weight.detach().clone()
    assert (table.offset + 128, table.room) == (len(expected), 128)
    expected[table.offset + 64 :] = expected[table.offset : table.offset + 64]
    assert not torch.equal(expected, table.weight)
    capsys.readouterr()
    command = ["masklater", "export", str(tmp_path / "run"), "--out", str(tmp_path / "out"), *arguments[:1]]
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as leave:
        patch.setattr(sys, "argv", command)
        main()
    assert not leave.value.code
    said = (
        "positions from 64 on, which no row has trained, are copies of the 64 before; its tokenizer cuts rows at that"
    )
    assert said in capsys.readouterr().out

    for folder in [tmp_path / "out", *([tmp_path / "out" / "encoder"] if "3ml" in arguments else [])]:
        assert torch.equal(AutoModel.from_pretrained(folder).embeddings.position_embeddings.weight, expected)
        assert AutoTokenizer.from_pretrained(folder).model_max_length == 64
    longer = load("continue", [f"model.from={tmp_path / 'out'}", f"decoder.kind={kind}", *few])
    start = find_start(longer, open_sources(longer, corpora / "general" / "rows-128").longest)
    model = MaskLaterForMaskedLM(start.config)
    start.copy_weights(model)
    assert torch.equal(encoder_tables(model)[0].weight, expected)


def test_copies_are_made_of_what_was_trained_alone() -> None:
    """None where all was, or more than a table has; several times where it was little."""
    config = tiny_config("roberta", max_position_embeddings=42)
    model = MaskLaterForMaskedLM.from_encoder(config, row_length=20)
    before = [table.weight.detach().clone() for table in both_tables(model)]
    for trained in (40, 512):
        repeat_trained(both_tables(model), trained)
        assert all(torch.equal(t.weight, old) for t, old in zip(both_tables(model), before, strict=True))
    repeat_trained(both_tables(model), 16)
    for table, old in zip(both_tables(model), before, strict=True):
        for position in range(table.room):
            assert torch.equal(table.weight[table.offset + position], old[table.offset + position % 16])
        assert torch.equal(table.weight[: table.offset], old[: table.offset])


def test_a_checkpoint_that_does_not_say_what_it_was_trained_on_is_left_as_it_is(corpora: Path, tmp_path: Path) -> None:
    """A run that began from a published encoder may have trained few of its positions, and knows all of them."""
    few = ("duration.steps=2", "batch.rows=2", "batch.micro_rows=2", "evaluation.rows=2")
    pretrain(
        tiny("3ml-small", "model.max_positions=128", "model.family=bert", *few),
        corpora / "general" / "rows-64",
        tmp_path / "run",
    )
    run = RunFolder(tmp_path / "run")
    checkpoint = run.open_newest()
    assert checkpoint.progress.row_length == 64
    of_before = replace(checkpoint, progress=replace(checkpoint.progress, row_length=None))
    now, then = (encoder_tables(run.model_of(each))[0].weight for each in (checkpoint, of_before))
    assert torch.equal(now[:64], then[:64]) and torch.equal(now[64:], now[:64])
    assert not torch.equal(then[64:], then[:64])


def test_the_rotary_base_of_a_phase_is_that_of_a_model_made_with_it(corpora: Path) -> None:
    plan = plan_of(phased(*ROTARY, "model.global_every=2", "model.window=8", "model.dropout=0"), corpora)
    assert [phase.rope_base for phase in plan.phases] == [None, 20_000, 160_000]
    torch.manual_seed(0)
    model = MaskLaterForMaskedLM(plan.config).eval()
    share = plan.share(4, ALONE)
    of_before = model.target_logits(share.micro_batches[0])
    apply_rope_base(model.encoder, 20_000.0)
    ours = model.target_logits(share.micro_batches[0])
    assert model.encoder.config.rope_parameters["full_attention"]["rope_theta"] == 20_000
    assert model.encoder.config.rope_parameters["sliding_attention"]["rope_theta"] == 10_000
    made = MaskLaterForMaskedLM(model.config).eval()
    made.load_state_dict(model.state_dict())
    assert torch.equal(made.target_logits(share.micro_batches[0]), ours)
    assert not torch.equal(ours, of_before)


@pytest.mark.parametrize("over", ["run", "phase"])
def test_the_learning_rate_spans_all_phases_or_begins_anew(over: str, corpora: Path) -> None:
    plan = plan_of(phased("schedule.warmup=0", f"schedule.over={over}"), corpora)
    ledger, rates = Ledger(), []
    for step in range(6):
        rates.append(plan.phase(step).multiplier(ledger))
        ledger.add_step(plan.spending(step), 0.0, 0.0)
    expected = {"run": [1, 5 / 6, 4 / 6, 3 / 6, 0.5 * 2 / 6, 0.5 * 1 / 6], "phase": [1, 0.5, 1, 0.5, 0.5, 0.25]}
    assert rates == pytest.approx(expected[over])


def test_phases_that_have_begun_do_not_move(corpora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = phased("phases=[{duration: {steps: 2}, row_length: 64}, {row_length: 128}]", "schedule.warmup=0")
    with monkeypatch.context() as stopped, pytest.raises(Interrupted):
        stopped.setattr(loop, "train_step", stop_at(3))
        pretrain(recipe, corpora, tmp_path / "run")
    with pytest.raises(UserError, match=r"the run .* began with general/rows-128, code/rows-128 too"):
        other = phased("phases=[{duration: {steps: 2}, row_length: 64}, {row_length: 64}]", "schedule.warmup=0")
        pretrain(other, corpora, tmp_path / "run", resume=True)
    longer = recipe.model_copy(update={"duration": tiny("3ml-small", "duration.steps=4").duration})
    assert pretrain(longer, corpora, tmp_path / "run", resume=True).steps == 4  # the last phase has what is left

    with monkeypatch.context() as stopped, pytest.raises(Interrupted):
        stopped.setattr(loop, "train_step", stop_at(3))
        pretrain(phased(), corpora, tmp_path / "shares")
    with pytest.raises(
        UserError, match=r"phase 2 of the run .* began at step 3, and with 12 steps it would begin at step 5"
    ):
        pretrain(phased("duration.steps=12"), corpora, tmp_path / "shares", resume=True)
    assert len(list_checkpoints(tmp_path / "shares" / "checkpoints")) == 1


@pytest.mark.parametrize("with_whole_duration", [False, True])
def test_a_longer_run_keeps_the_decay_of_a_phase_that_ends_where_it_did(
    with_whole_duration: bool, corpora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Earlier checkpoints name the duration of the whole run in that of the decay, though it says nothing of its end."""
    settings = (
        *LEARNED, "phases=[{duration: {steps: 6}}, {}]", "schedule={name: wsd, decay: 0.5, over: phase, warmup: 0}",
        "evaluation.rows=4", "batch.rows=4", "batch.micro_rows=4", "evaluation.every_steps=20", "duration.steps=16",
    )  # fmt: skip
    data = corpora / "general" / "rows-64"
    longer = tiny("3ml-small", *settings)
    with monkeypatch.context() as stopped, pytest.raises(Interrupted):
        stopped.setattr(loop, "train_step", stop_at(5))
        pretrain(longer.model_copy(update={"duration": Duration(steps=12)}), data, tmp_path / "run")
    newest = RunFolder(tmp_path / "run").open_newest()
    assert newest.progress.decay == "the last 0.5 of phase 1, 6 steps"
    if with_whole_duration:
        seal(newest.path, newest.ledger, replace(newest.progress, decay="the last 0.5 of phase 1, 6 of 12 steps"))
    pretrain(longer, data, tmp_path / "run", resume=True)
    assert not [path.name for path in (tmp_path / "run" / "checkpoints").iterdir() if "decayed" in path.name]
    pretrain(longer, data, tmp_path / "straight")
    check_same(tmp_path / "run", tmp_path / "straight")


CLOCK = (
    "data={general: 0.7, code: 0.3}", "evaluation.every_steps=2", "checkpoint.every_steps=6", "evaluation.rows=4",
    "batch.rows=4", "batch.micro_rows=2", "schedule={name: wsd, warmup: 0.1, decay: 0.5, over: phase}",
    "phases=[{share: 0.5, row_length: 64, objective: causal}, "
    "{share: 0.25, row_length: 128, data: {general: 0.5, code: 0.5}, masking: {rate: 0.3}, batch: {rows: 2}}, "
    "{row_length: 128, batch: {rows: 2}, lr_multiplier: 0.5}]",
)  # fmt: skip


def an_hour_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each step take an hour by the ledger, whatever the clock says."""
    add_step = Ledger.add_step
    monkeypatch.setattr(
        Ledger, "add_step", lambda ledger, spending, seconds, data_seconds: add_step(ledger, spending, 3600.0, 0.0)
    )


def test_phases_by_the_clock_are_those_of_as_many_steps(
    corpora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Weights and scores to the bit: phases read on where those before them have ended, and rates decay alike."""
    an_hour_a_step(monkeypatch)
    by_steps = tiny("3ml-small", *CLOCK, *LEARNED, "duration.steps=8")
    by_hours = by_steps.model_copy(update={"duration": Duration(hours=8)})
    pretrain(by_steps, corpora, tmp_path / "steps")
    capsys.readouterr()
    pretrain(by_hours, corpora, tmp_path / "hours")
    said = capsys.readouterr().err
    assert "phase 2, after 4 hours: 2 rows a step" in said and "phase 2 begins with step 5" in said
    assert "phase 3 begins with step 7" in said
    check_same(tmp_path / "hours", tmp_path / "steps")
    resumed_at([1, 4, 5, 6, 7], by_hours, corpora, tmp_path / "resumed", monkeypatch)
    check_same(tmp_path / "resumed", tmp_path / "steps")
    newest = load_newest(tmp_path / "resumed" / "checkpoints")
    assert newest is not None and newest.progress.begun == (0, 4, 6)

    assert forecast(by_hours, rows_in(by_hours, corpora)).total_flops is None
    with pytest.raises(
        UserError, match=r"phases of the run .* begin by a duration of 8 hours, and it would be 8 steps"
    ):
        pretrain(by_steps, corpora, tmp_path / "hours", resume=True)


def test_hours_that_are_over_before_a_phase_begins_are_said(
    corpora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    an_hour_a_step(monkeypatch)
    recipe = tiny("3ml-small", *CLOCK, *LEARNED).model_copy(update={"duration": Duration(hours=1)})
    pretrain(recipe, corpora, tmp_path / "run")
    assert "1 hours were over before phase 2 began; a longer --resume goes on to it" in capsys.readouterr().err
    longer = recipe.model_copy(update={"duration": Duration(hours=4)})
    assert pretrain(longer, corpora, tmp_path / "run", resume=True).steps == 4
    newest = load_newest(tmp_path / "run" / "checkpoints")
    assert newest is not None and newest.progress.begun == (0, 2, 3)


def test_a_phase_by_the_clock_keeps_the_hour_at_which_its_rate_began(
    corpora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a longer run it would be an hour to come, before which the rate would be below 0."""
    an_hour_a_step(monkeypatch)
    recipe = tiny("3ml-small", *CLOCK, *LEARNED).model_copy(update={"duration": Duration(hours=4)})
    pretrain(recipe, corpora, tmp_path / "run")
    longer = recipe.model_copy(update={"duration": Duration(hours=16)})
    message = (
        "phase 2 of the run .* has begun, and with schedule.over phase and 16 hours .* begin after 8 hours, when it"
    )
    with pytest.raises(UserError, match=message):
        pretrain(longer, corpora, tmp_path / "run", resume=True)
    over_run = longer.model_copy(update={"schedule": longer.schedule.model_copy(update={"over": "run"})})
    assert pretrain(over_run, corpora, tmp_path / "run", resume=True).steps == 16
    rates = [record["lr"] for record in read_metrics(tmp_path / "run" / "metrics.jsonl") if "lr" in record]
    assert min(rates) >= 0


def test_rows_of_another_length_than_a_phase_asks_for(corpora: Path, tmp_path: Path) -> None:
    recipe = tiny("3ml-small", "phases=[{row_length: 128}]")
    with pytest.raises(UserError, match="rows-64 has rows of 64, and phase 1 of the recipe asks for rows of 128"):
        pretrain(recipe, corpora / "general" / "rows-64", tmp_path / "run")
    with pytest.raises(UserError, match=r"there is no folder .*general/rows-512"):
        pretrain(tiny("3ml-small", "phases=[{row_length: 512}]"), corpora / "general", tmp_path / "run")
