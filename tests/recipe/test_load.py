"""Recipes: read, overridden, validated whole, written back."""

import re
from pathlib import Path

import pytest

from masklater.errors import RecipeError, UserError
from masklater.recipe.duration import Duration
from masklater.recipe.load import describe, dump, load, settings_of, shipped, validate
from masklater.recipe.recipe import Recipe


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    return path


def test_a_setting_given_twice_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """The last one holds, so that a script's list of settings can be overridden."""
    assert load("3ml-small", ["batch.rows=8", "seed=3", "batch.rows=16"]).batch.rows == 16
    assert capsys.readouterr().err == "batch.rows=8 is given too, and replaced by batch.rows=16\n"
    load("3ml-small", ["duration.steps=8", "duration={hours: 2}"])
    assert capsys.readouterr().err == "duration.steps=8 is given too, and replaced by duration={hours: 2}\n"
    load("3ml-small", ["seed=3", "seed=3", "duration={hours: 2}", "batch.rows=8"])
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("name", shipped())
def test_shipped_recipes_load_and_round_trip(name: str, tmp_path: Path) -> None:
    recipe = load(name)
    assert load(write(tmp_path, dump(recipe))) == recipe


def test_overrides_set_any_leaf() -> None:
    recipe = load(
        "3ml-small", ["batch.rows=64", "optimizer.lr=5e-4", "model.family=roberta", "optimizer.betas=[0.9, 0.95]"]
    )
    assert (recipe.batch.rows, recipe.optimizer.lr, recipe.model.family) == (64, 5e-4, "roberta")
    assert recipe.optimizer.betas == (0.9, 0.95)


def test_naming_a_unit_replaces_the_recipes() -> None:
    recipe = load("3ml-small", ["duration.hours=0.5", "schedule.warmup.hours=0.1"])
    assert (recipe.duration.unit, recipe.duration.amount) == ("hours", 0.5)
    assert recipe.schedule.warmup == Duration(hours=0.1)


def test_heads_of_an_odd_width_are_heads_where_nothing_is_turned() -> None:
    sizes = ["model.hidden_size=14", "model.num_attention_heads=2"]
    assert load("3ml-small", [*sizes, "model.family=roberta"]).model.hidden_size == 14


def test_two_units_are_a_fault() -> None:
    with pytest.raises(RecipeError, match="exactly one of steps, rows, tokens, flops, hours; it has steps and rows"):
        load("3ml-small", ["duration.steps=5", "duration.rows=7"])


@pytest.mark.parametrize(
    ("overrides", "rows", "passes"),
    [
        (["batch.rows=8"], 8, [8, 4, 2, 1]),
        (["batch.rows=36"], 36, [36, 18, 12, 9, 6, 4, 3, 2, 1]),  # left open
        (["batch.rows=12", "batch.micro_rows=8"], 12, [6, 4, 3, 2, 1]),
        (["batch.rows=24", "batch.micro_rows=8"], 12, [6, 4, 3, 2, 1]),
        (["batch.rows=256", "batch.micro_rows=32"], 256, [32, 16, 8, 4, 2, 1]),
        (["batch.rows=2147483647", "batch.micro_rows=2147483646"], 2147483647, [1]),  # a prime
    ],
)
def test_micro_rows_are_at_most_what_divides_rows(overrides: list[str], rows: int, passes: list[int]) -> None:
    assert load("3ml-small", overrides).batch.passes_of(rows) == passes


def test_all_faults_at_once(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
        modle: {hidden_size: 3}
        model: {hiden_size: 3, num_attention_heads: 5}
        masking: {rate: 1.5, mask: 0.5}
        optimizer: {lr: fast, name: muon}
        schedule: {warmup: 1.2}
        batch: {rows: 10, micro_rows: 0}
        duration: {}
        precision: int8
        """,
    )
    with pytest.raises(RecipeError) as caught:
        load(path)
    message = str(caught.value)
    for expected in (
        "modle is {'hidden_size': 3}: a recipe has no such key",
        "Did you mean model?",
        "model.hiden_size is 3: the section model has no such key",
        "Did you mean hidden_size?",
        "masking.rate is 1.5: input should be less than 1",
        "share of the maskable positions that are corrupted",
        "optimizer.lr is 'fast': input should be a valid number",
        "warmup as a share must be at least 0 and below 1; it is 1.2",
        "batch.micro_rows is 0: input should be greater than 0",
        "exactly one of steps, rows, tokens, flops, hours; it has none",
        "precision is 'int8'",
    ):
        assert expected in message, message
    assert "function-after" not in message


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["masking.mask=0.5"], "mask + random + keep must be 1; they are 0.7"),
        (["masking.mask=0", "masking.keep=0.9"], "decoder.kind self appends the [MASK]s"),
        (["decoder.states=2"], "decoder.states is 2: [MASK]s have states, and only 0.8 of the corrupted positions are"),
        (["decoder.states=2", "decoder.kind=cross"], "states above 1 need kind self and masking.mask 1; kind is cross"),
        (["decoder.states=2", "decoder.kind=none"], "states above 1 need kind self and masking.mask 1; kind is none"),
        (["model.num_attention_heads=3"], "num_attention_heads must divide hidden_size; 3 heads do not divide 256"),
        (["decoder.num_layers=0"], "input should be greater than 0"),
        (["decoder.kind=late"], "enter_layer belongs to kind late, which needs it; kind is late"),
        (["decoder.enter_layer=1"], "enter_layer belongs to kind late, which needs it; kind is self"),
        (["decoder.kind=late", "decoder.enter_layer=4"], "the encoder's 4 layers count from 0"),
        (["decoder.kind=late", "decoder.enter_layer=1", "model.family=electra"], "is not known how to do for electra"),
        (["decoder.kind=none", "decoder.hidden_size=64"], "kind none has no decoder"),
        (["decoder.hidden_size=100"], "it must be a multiple of the encoder's head size, 64"),
        (["decoder.hidden_size=512"], "and at most its width, 256"),
        (["decoder.positions=rotary", "model.num_attention_heads=256"], "and heads are 1 wide"),
        *(
            (
                [f"model.family={family}", "model.hidden_size=14", "model.num_attention_heads=2", *of_decoder],
                f"heads of {family}, which turns pairs of numbers by position, must be an even number wide; hidden_size "
                "14 and num_attention_heads 2 make them 7",
            )
            for family in ("modernbert", "esm")
            for of_decoder in ([], ["decoder.kind=none"], ["decoder.positions=dropped"])
        ),
        (
            ["decoder.positions=rotary", "decoder.kind=late", "decoder.enter_layer=1"],
            "those of roberta-prelayernorm turn nothing",
        ),
        (["decoder.blocked_flows=[all]"], "decoder.blocked_flows.0 is 'all'"),
        (["masking.schedule.name=linear"], "end belongs to name linear, which needs it"),
        (["masking.schedule.end=0.2"], "end belongs to name linear, which needs it; name is constant"),
        (["masking.schedule.name=stepwise"], "steps belong to name stepwise, which needs them"),
        (["masking.schedule={name: stepwise, steps: [[0.5, 0.3], [0.2, 0.1]]}"], "shares in steps must rise"),
        (["masking.schedule={name: stepwise, steps: [[0.5, 1.5]]}"], "rates in steps must lie between 0 and 1"),
        (
            ["masking.schedule={name: linear, end: 0.2}", "duration.hours=1"],
            "State the duration in steps, rows or tokens",
        ),
        (["masking.schedule.name=random"], "low and high belong to name random, which needs both"),
        (["masking.schedule.low=0.2"], "low and high belong to name random, which needs both; name is constant"),
        (["masking.schedule={name: random, low: 0.6, high: 0.4}"], "low must be at most high; they are 0.6 and 0.4"),
        (
            ["masking.schedule={name: random, low: 0.1, high: 0.4}"],
            "rate, at which held-out rows are scored, must lie between schedule.low and schedule.high, 0.1 and 0.4",
        ),
        (["masking.schedule={name: random, low: 0.5, high: 0.5, levels: null}"], "levels null belongs to name linear"),
        (["masking.schedule={name: linear, end: 0.2, levels: 9}"], "input should be less than or equal to 8"),
        (["masking.choose=words"], "masking.choose is 'words'"),
        (["model.family=deberta-v2"], "model.family is 'deberta-v2'"),
        (["optimizer.name=muon"], "name muon needs adamw_lr"),
        (["optimizer.momentum=0.9"], "adamw_lr and momentum belong to name muon"),
        (["optimizer.betas=[0.9, 1.5]"], "betas must each be at least 0 and below 1"),
        (["schedule.decay=0.5"], "decay belongs to name wsd"),
        (["schedule.name=wsd", "schedule.decay=0.98"], "warmup and decay together must not exceed 1"),
        (["schedule.warmup.steps=2000"], "it must be shorter than the duration, 2,000 steps"),
        (["schedule.warmup.hours=1"], "hours convert to no other unit"),
        (["schedule.warmup=abc"], "schedule.warmup is 'abc': input should be a valid number"),
        (["schedule.warmup.minutes=1"], "the section schedule.warmup has no such key"),
        (["seed=-1"], "input should be greater than or equal to 0"),
        (["optimizer.lr=.inf"], "input should be a finite number"),
        (["duration=5"], "duration is 5"),
    ],
)
def test_contradictions(overrides: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=re.escape(message)):
        load("3ml-small", overrides)


def test_a_recipe_needs_a_duration() -> None:
    with pytest.raises(RecipeError, match=r"duration is missing: .*Add it, for example duration: \{steps: 2000\}"):
        validate({})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "not readable as YAML"),
        ("- 1\n", "a recipe is a mapping of sections; this is list"),
        ("seed: 1\nseed: 2\n", "line 2: .*the key 'seed' stands twice"),
        ("1: 2\n", "the key 1 is not text"),
        ("a: !!python/object/apply:os.system ['true']", "not readable as YAML"),
    ],
)
def test_unreadable_recipes(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load(write(tmp_path, text))


def test_unknown_recipe_names_the_shipped_ones() -> None:
    with pytest.raises(UserError, match=r"neither a file nor a shipped recipe\n.*Did you mean 3ml-small\?"):
        load("3ml-smal")


@pytest.mark.parametrize("text", ["1:30", "1:30.5", "0:30:00"])
def test_hours_and_minutes_are_no_number(text: str) -> None:
    """YAML 1.1 counts them by sixties: 1:30 would be 90 hours."""
    with pytest.raises(RecipeError, match=rf"duration.hours is '{text}': input should be a valid number"):
        load("3ml-small", [f"duration.hours={text}"])


def test_a_number_with_a_zero_before_it_is_what_it_looks() -> None:
    assert load("3ml-small", ["seed=010", "batch.rows=0x10", "optimizer.weight_decay=0"]).seed == 10


@pytest.mark.parametrize(
    "setting",
    ["batch.rows=true", "batch.micro_rows=yes", "model.dropout=false", "health.spike=on", "schedule.warmup=no"],
)
def test_true_and_false_are_no_numbers(setting: str) -> None:
    with pytest.raises(RecipeError, match=r"is (True|False): it must be a number\. It means: "):
        load("3ml-small", [setting])


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("tracking=tensorboard", r"tracking is 'tensorboard': it must be a list, as \[\.\.\.\]"),
        ("duration=5", r"duration is 5: it must be a section, as \{\.\.\.\}"),
        ("optimizer.betas=[0.9]", r"optimizer.betas is \[0.9\]: it has too few values. It means: AdamW's decay"),
        ("decoder.blocked_flows=[all]", r"blocked_flows.0 is 'all'.* It means: attention flows"),
    ],
)
def test_a_value_of_another_shape_is_told_in_words_of_yaml(setting: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load("3ml-small", [setting])


@pytest.mark.parametrize("override", ["batch.rows", "=3", "batch..rows=3"])
def test_malformed_overrides(override: str) -> None:
    with pytest.raises(UserError, match=r"is not of the form dotted\.key=value"):
        load("3ml-small", [override])


def test_a_saved_model_brings_its_own_sizes(tmp_path: Path) -> None:
    recipe = load("3ml-small", ["model.from=encoder", "model.dropout=0"])
    assert recipe.model.from_ == "encoder"
    assert (recipe.model.family, recipe.model.hidden_size, recipe.model.dropout) == (None, None, 0)
    assert load(write(tmp_path, dump(recipe))) == recipe
    with pytest.raises(RecipeError, match=r"the saved model's own family and sizes hold, so hidden_size must not be"):
        load("3ml-small", ["model.from=encoder", "model.hidden_size=64"])


def test_every_setting_has_a_meaning() -> None:
    settings = describe()
    assert len(settings) > 30
    assert all(meaning for _, _, meaning in settings)


def test_what_a_resumed_run_may_change() -> None:
    keys = settings_of(load("3ml-small", ["schedule.warmup.steps=3"]))
    may = {key for key in keys if Recipe.may_change(key)}
    whole = ("duration.", "schedule.", "evaluation.", "checkpoint.", "health.")
    assert {key for key in may if not key.startswith(whole)} == {
        "optimizer.lr", "optimizer.adamw_lr", "optimizer.weight_decay", "optimizer.clip", "batch.micro_rows", "precision",
        "distributed", "compile", "deterministic", "activation_checkpointing", "tracking",
    }  # fmt: skip
    assert {key for key in keys if key.startswith(whole)} < may
    assert not Recipe.may_change("masking.schedule.name") and not Recipe.may_change("nothing.such")


@pytest.mark.parametrize("setting", ["compile=often", "activation_checkpointing=often", "activation_checkpointing=-1"])
def test_a_setting_of_several_types_is_told_once(setting: str) -> None:
    key, value = setting.split("=")
    with pytest.raises(RecipeError) as raised:
        load("3ml-small", [setting])
    (told,) = [line for line in str(raised.value).splitlines() if key in line]
    assert f"{key} is {value}" in told.replace("'", "") and "It means: " in told
