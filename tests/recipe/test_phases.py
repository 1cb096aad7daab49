"""Data and phases in a recipe: all faults at once, and the spans of steps that phases come to."""

import re

import pytest

from masklater.errors import RecipeError, UserError
from masklater.recipe.load import describe, load, settings_of
from masklater.recipe.recipe import Recipe
from masklater.recipe.timeline import NOT_BEGUN, find_spans, in_phase, rope_base, with_micro_rows

THREE = (
    "phases=[{share: 0.55, row_length: 64}, {share: 0.3, masking: {rate: 0.3}, batch: {rows: 64}}, {rope_base: 1e5}]"
)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data=wiki"], "sources need their shares of the rows: write {wiki: 1}"),
        (["phases=[{share: 0.5, data: [a, b]}, {}]"], "write {a: 1}, or several that add up to 1"),
        (["data={a: 0.7, b: 0.4}"], "shares of the rows must add up to 1; they add up to 1.1"),
        (["data={a: 0.33333, b: 0.66667}"], "shares have at most four decimals; a, b has more"),
        (["data={a: x}"], "data.a is 'x': input should be a valid number"),
        (["data={a: 1}", "phases=[{data: {b: 1}}]"], "every phase has data of its own, so that it would do nothing"),
        (["phases=[{share: 0.5}, {share: 0.4}]"], "phases make up the duration, 2,000 steps, and these come to 1,800"),
        (["phases=[{share: 1}, {}]"], "these come to 2,000, which leaves nothing for the last"),
        (["phases=[{}, {}]"], "phases.0.share is missing: all phases but the last have a share"),
        (["phases=[{share: 0.5, duration: {steps: 3}}]"], "a phase has a share or a duration, and this one has both"),
        (["phases=[{duration: {rows: 3}}, {}]"], "it must be in the unit of the duration, which is 2,000 steps"),
        (
            ["phases=[{share: 0.5}, {masking: {rate: 0.5, schedule: {name: linear, end: 0.2}}}]", "duration.hours=1"],
            "phases.1.masking.schedule.name is 'linear': what a step trains on must follow from its number alone",
        ),
        (
            [
                "phases=[{share: 0.5, masking: {rate: 0.5, schedule: {name: linear, end: 0.2}}}, {}]",
                "duration.flops=1e12",
            ],
            "phases.0.masking.schedule.name is 'linear': the step at which a phase begins follows from the FLOPs of a step",
        ),
        (
            [
                "phases=[{share: 0.5}, {}]",
                "duration.flops=1e12",
                "masking.schedule={name: random, low: 0.3, high: 0.6}",
            ],
            "masking.schedule.name is 'random': the step at which a phase begins follows from the FLOPs of a step",
        ),
        (["phases=[{rope_base: 1e5}]"], "roberta-prelayernorm has positions that are learned, and no rotary base"),
        (["phases=[{masking: {schedule: {name: random, low: 0.1, high: 0.2}}}]"], "Give rate and schedule together"),
        (
            ["phases=[{masking: {rate: 0.5, schedule: {name: random, low: 0.1, high: 0.2}}}]"],
            "0.1 and 0.2; it is 0.5. Change one of them.",
        ),
        (["phases=[{masking: {rat: 3}}]"], "phases.0.masking.rat is 3: the section phases.0.masking has no such key"),
        (["phases=[{batch: {rows: 0}}]"], "phases.0.batch.rows is 0: input should be greater than 0"),
        (
            ["phases=[{share: 0.5}, {objective: causal}]"],
            "phases.1.objective is 'causal': an encoder that has only looked back is no masked LM",
        ),
        (["phases=[{objective: causal}]"], "Let a phase without it follow"),
        (
            ["phases=[{share: 0.5, objective: causal, masking: {rate: 0.3}}, {}]"],
            "phases.0.masking.rate is 0.3: in a causal phase nothing is masked",
        ),
        (["phases=[{share: 0.5, objective: clm}, {}]"], "phases.0.objective is 'clm'"),
        (["schedule.over=phase"], "without phases there is nothing to begin anew"),
        (["max_epochs=2", "duration.hours=1"], "how many rows are read in a duration in hours is up to the machine"),
    ],
)
def test_faults(overrides: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=re.escape(message)):
        load("3ml-small", overrides)


def test_faults_of_several_phases_are_told_at_once() -> None:
    with pytest.raises(RecipeError) as caught:
        load("3ml-small", ["phases=[{shar: 1}, {data: {a: 0.5}}, {lr_multiplier: -1}]", "data={a: 2}"])
    for where in ("phases.0.shar", "phases.1.data", "phases.2.lr_multiplier", "data.a"):
        assert where in str(caught.value)


def test_overrides_reach_into_phases() -> None:
    recipe = load("3ml-small", [THREE, "model.family=modernbert", "phases.1.batch.rows=32", "phases.0.share=0.5"])
    assert (recipe.phases[1].batch.rows, recipe.phases[0].share) == (32, 0.5)
    with pytest.raises(UserError, match="names the place 3 in phases, which has 3, counted from 0"):
        load("3ml-small", [THREE, "phases.3.share=1"])
    with pytest.raises(UserError, match="goes into 0, which holds no settings"):
        load("3ml-small", ["optimizer.betas.0.x=1"])


def spans(recipe: Recipe, *row_lengths: int) -> list[tuple[int, int | None]]:
    return [(span.first, span.steps) for span in find_spans(recipe, row_lengths)]


def test_spans() -> None:
    rotary = "model.family=modernbert"
    assert spans(load("3ml-small"), 128) == [(0, 2000)]
    assert spans(load("3ml-small", ["duration.hours=2"]), 128) == [(0, None)]
    by_steps = load("3ml-small", [THREE, rotary])
    assert spans(by_steps, 64, 64, 128) == [(0, 1100), (1100, 600), (1700, 300)]
    # A phase ends at the first step by which what it is to spend is spent: 55 of 100 rows are 3 steps of 20.
    by_rows = load("3ml-small", [THREE, rotary, "duration.rows=100", "batch.rows=20", "phases.1.batch.rows=10"])
    assert spans(by_rows, 64, 64, 128) == [(0, 3), (3, 3), (6, 1)]
    by_tokens = load("3ml-small", [THREE, rotary, "duration.tokens=64000", "batch.rows=10", "phases.1.batch.rows=10"])
    assert spans(by_tokens, 64, 64, 128) == [(0, 55), (55, 30), (85, 8)]
    # 110 of 200 FLOPs are 4 steps of 30; 60 more, less the 10 that were too many, 3 of 20. The last one's the run counts.
    by_flops = load("3ml-small", [THREE, rotary, "duration.flops=200"])
    found = find_spans(by_flops, (64, 64, 128), (30.0, 20.0, 7.0))
    assert [(span.first, span.steps) for span in found] == [(0, 4), (4, 3), (7, None)]
    assert [(span.begins, span.amount, span.step.flops) for span in found] == [
        (0, 120, 30),
        (120, 60, 20),
        (180, 20, 7),
    ]
    # By the clock they begin when their hours have passed, at steps that the run finds.
    by_hours = load("3ml-small", [THREE, rotary, "duration.hours=2"])
    assert spans(by_hours, 64, 64, 128) == [(0, None), (NOT_BEGUN, None), (NOT_BEGUN, None)]
    found = find_spans(by_hours, (64, 64, 128), begun=(0, 70, 90))
    assert [(span.first, span.steps) for span in found] == [(0, 70), (70, 20), (90, None)]
    assert [span.begins for span in found] == pytest.approx([0, 1.1, 1.7])
    assert [span.amount for span in found] == pytest.approx([1.1, 0.6, 0.3])
    with pytest.raises(
        UserError, match="phase 3 of the recipe would have no step: those before it last to 3 steps of 3"
    ):
        find_spans(load("3ml-small", [THREE, rotary, "duration.steps=3"]), (64, 64, 64))
    assert [rope_base(by_steps, number) for number in range(3)] == [None, None, 1e5]


def test_a_recipe_in_a_phase() -> None:
    recipe = load("3ml-small", [THREE, "model.family=modernbert", "masking.schedule={name: linear, end: 0.2}"])
    assert in_phase(recipe, 0).masking == recipe.masking
    assert (in_phase(recipe, 1).masking.rate, in_phase(recipe, 1).masking.schedule.name) == (0.3, "constant")
    assert (in_phase(recipe, 1).batch.rows, in_phase(recipe, 2).batch.rows) == (64, 256)
    settled = with_micro_rows(recipe, [8, 4, 2])
    assert [in_phase(settled, number).batch.micro_rows for number in range(3)] == [8, 4, 2]
    assert settings_of(settled)["phases.2.batch.micro_rows"] == 2
    assert Recipe.may_change("phases.2.batch.micro_rows")
    assert not any(map(Recipe.may_change, ("phases", "phases.1.share", "phases.1.batch.rows", "data.a", "data")))


def test_a_phase_that_predicts_all_needs_no_table() -> None:
    recipe = load("3ml-small", ["masking.predict=0.5", "masking.predict_by=table", "phases=[{masking: {predict: 1}}]"])
    assert in_phase(recipe, 0).masking.predict_by is None


def test_a_causal_phase_masks_nothing_and_needs_no_decoder() -> None:
    causal = "phases=[{share: 0.25, objective: causal, masking: {predict: 0.5}}, {share: 0, objective: causal}, {}]"
    recipe = load("3ml-small", [causal, "masking.schedule={name: linear, end: 0.2}", "masking.choose=word"])
    assert len(recipe.phases) == 2  # one whose share is 0 is none
    first, second = in_phase(recipe, 0), in_phase(recipe, 1)
    assert (first.masking.causal, first.masking.rate, first.masking.predict) == (True, 0, 0.5)
    assert (first.masking.schedule.name, first.masking.choose, first.decoder.kind) == ("constant", "uniform", "none")
    assert (second.masking, second.decoder) == (recipe.masking, recipe.decoder)
    assert settings_of(recipe)["phases.0.objective"] == "causal"
    assert "phases.1.objective" not in settings_of(recipe)
    assert not Recipe.may_change("phases.0.objective")


def test_every_setting_of_a_phase_is_explained() -> None:
    meanings = {key: meaning for key, _, meaning in describe()}
    for key in ("share", "duration", "data", "row_length", "masking.rate", "masking.schedule", "masking.choose",
                "masking.predict", "objective", "batch.rows", "batch.micro_rows", "lr_multiplier", "rope_base"):  # fmt: skip
        assert len(meanings[f"phases.0.{key}"]) > 20
    assert meanings["data"] and meanings["phases"] and meanings["max_epochs"] and meanings["model.max_positions"]
