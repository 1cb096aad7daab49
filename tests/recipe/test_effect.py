"""What a run records is what acts: every setting in RUN/recipe.yaml, changed, changes the run."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from masklater.pretrain.loop import pretrain
from masklater.recipe.load import dump, load, settings_of
from masklater.run.folder import RunFolder
from masklater.run.metrics import read_metrics
from tests.conftest import tiny

MUON = ("optimizer.name=muon", "optimizer.adamw_lr=1e-3", "optimizer.lr=0.02")
SPAN = ("masking.choose=span", "masking.rate=0.3")
WSD = ("schedule.name=wsd", "schedule.decay=0.5")
LINEAR = ("masking.schedule.name=linear", "masking.schedule.end=0.2")
RANDOM = ("masking.schedule={name: random, low: 0.4, high: 0.6}",)
STEPWISE = ("masking.schedule.name=stepwise", "masking.schedule.steps=[[0.4, 0.3]]")
MODERNBERT, WINDOWS = ("model.family=modernbert",), ("model.family=modernbert", "model.global_every=2")
STATES = ("masking.mask=1", "masking.random=0", "masking.keep=0", "decoder.states=2")
SKIP = ("decoder.embedding_skip=true",)
PHASES = ("phases=[{share: 0.5}, {masking: {rate: 0.3}, batch: {rows: 4}, lr_multiplier: 0.5}]",)
CHANGES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "model.family": ((), ("model.family=bert",)),
    "model.hidden_size": ((), ("model.hidden_size=48",)),
    "model.num_hidden_layers": ((), ("model.num_hidden_layers=1",)),
    "model.num_attention_heads": ((), ("model.num_attention_heads=2",)),
    "model.intermediate_size": ((), ("model.intermediate_size=48",)),
    "model.dropout": ((), ("model.dropout=0",)),
    "model.global_every": (MODERNBERT, ("model.global_every=2",)),
    "model.window": (WINDOWS, ("model.window=4",)),
    "model.max_positions": ((), ("model.max_positions=64",)),
    "decoder.kind": ((), ("decoder.kind=cross",)),
    "decoder.num_layers": ((), ("decoder.num_layers=1",)),
    "decoder.hidden_size": ((), ("decoder.hidden_size=16",)),
    "decoder.enter_layer": (("decoder.kind=late", "decoder.enter_layer=1"), ("decoder.enter_layer=0",)),
    "decoder.mask_embedding": ((), ("decoder.mask_embedding=word",)),
    "decoder.positions": ((), ("decoder.positions=all",)),
    "decoder.embedding_skip": ((), SKIP),
    "decoder.states": (STATES, ("decoder.states=3",)),
    "decoder.blocked_flows": ((), ("decoder.blocked_flows=[masked-to-masked]",)),
    "masking.rate": ((), ("masking.rate=0.4",)),
    "masking.schedule.name": ((), LINEAR),
    "masking.schedule.end": (LINEAR, ("masking.schedule.end=0.3",)),
    "masking.schedule.steps": (STEPWISE, ("masking.schedule.steps=[[0.2, 0.3]]",)),
    "masking.schedule.low": (RANDOM, ("masking.schedule.low=0.2",)),
    "masking.schedule.high": (RANDOM, ("masking.schedule.high=0.8",)),
    "masking.schedule.levels": (LINEAR, ("masking.schedule.levels=2",)),
    "masking.mask": ((), ("masking.mask=0.9", "masking.keep=0.0")),
    "masking.random": ((), ("masking.random=0.2", "masking.keep=0.0")),
    "masking.keep": ((), ("masking.keep=0.2", "masking.random=0.0")),
    "masking.predict": ((), ("masking.predict=0.5",)),
    "masking.choose": ((), ("masking.choose=word",)),
    "masking.span_p": (SPAN, ("masking.span_p=0.9",)),
    "masking.span_max": (SPAN, ("masking.span_max=1",)),
    "batch.rows": ((), ("batch.rows=4",)),
    "batch.micro_rows": ((), ("batch.micro_rows=8",)),
    "batch.attend": ((), ("batch.attend=row",)),
    "optimizer.name": ((), MUON),
    "optimizer.lr": ((), ("optimizer.lr=0.01",)),
    "optimizer.adamw_lr": (MUON, ("optimizer.adamw_lr=0.01",)),
    "optimizer.momentum": (MUON, ("optimizer.momentum=0.5",)),
    "optimizer.betas": ((), ("optimizer.betas=[0.5, 0.5]",)),
    "optimizer.eps": ((), ("optimizer.eps=1",)),
    "optimizer.weight_decay": ((), ("optimizer.weight_decay=10",)),
    "optimizer.clip": ((), ("optimizer.clip=0.01",)),
    "schedule.name": ((), ("schedule.name=cosine",)),
    "schedule.warmup": ((), ("schedule.warmup=0.5",)),
    "schedule.decay": (WSD, ("schedule.decay=0.7",)),
    "schedule.floor": ((), ("schedule.floor=0.5",)),
    "schedule.over": (PHASES, ("schedule.over=phase",)),
    "phases.0.share": (PHASES, ("phases.0.share=0.25",)),
    "phases.1.masking.rate": (PHASES, ("phases.1.masking.rate=0.4",)),
    "phases.1.batch.rows": (PHASES, ("phases.1.batch.rows=2",)),
    "phases.1.lr_multiplier": (PHASES, ("phases.1.lr_multiplier=0.1",)),
    "duration.steps": ((), ("duration.steps=5",)),
    "evaluation.every_steps": ((), ("evaluation.every_steps=2",)),
    "evaluation.rows": ((), ("evaluation.rows=4",)),
    "checkpoint.every_steps": ((), ("checkpoint.every_steps=1",)),
    "checkpoint.keep": ((), ("checkpoint.keep=1",)),
    "precision": ((), ("precision=bfloat16",)),
    "seed": ((), ("seed=1",)),
}
"""By setting: overrides that it is tried beside, and those that change it."""
ELSEWHERE = {
    "model.from": "tests/pretrain/test_start.py",
    "max_epochs": "tests/pretrain/test_mixture.py",
    "data.a": "tests/pretrain/test_mixture.py",
    "masking.predict_by": "tests/select/test_targets.py",
    "checkpoint.background": "tests/pretrain/test_background.py",
    "health.max_skipped": "tests/pretrain/test_health.py",
    "health.spike": "tests/pretrain/test_health.py",
    "tracking": "tests/run/test_trackers.py",
    "deterministic": "tests/gpu",
    "compile": "tests/pretrain/test_compile.py",
    "distributed": "tests/invariance",
    "activation_checkpointing": "tests/model/test_checkpointing.py",
}
BASE = ("duration.steps=4", "evaluation.every_steps=4", "optimizer.clip=0.5", "schedule.warmup=0.25")
IDLE = {
    ("decoder.kind=none",): {"decoder.num_layers", "decoder.mask_embedding", "decoder.positions"},
    ("decoder.kind=late", "decoder.enter_layer=1"): {"decoder.num_layers"},
    ("decoder.kind=late", "decoder.enter_layer=0"): {
        "decoder.num_layers",
        "decoder.mask_embedding",
        "decoder.positions",
    },
    SPAN: set(),
    WINDOWS: set(),
    RANDOM: set(),
    STATES: set(),
    SKIP: set(),
    ("model.family=modernbert", "model.global_every=1"): {"model.window"},
}
STATES_ONLY, SKIP_ONLY = {"decoder.states"}, {"decoder.embedding_skip"}
SPAN_ONLY = {"masking.span_p", "masking.span_max"}
RANDOM_ONLY = {"masking.schedule.low", "masking.schedule.high", "masking.schedule.levels"}


def what_it_did(shards: Path, out: Path, overrides: tuple[str, ...]) -> Any:
    """Records without seconds, and the checkpoints that are kept."""
    pretrain(tiny("3ml-small", *BASE, *overrides), shards, out)
    records = read_metrics(out / "metrics.jsonl")
    timeless = [{key: value for key, value in record.items() if "seconds" not in key} for record in records]
    return timeless, sorted(path.name for path in (out / "checkpoints").iterdir())


def test_every_setting_is_tried() -> None:
    by_table = ("masking.predict=0.5", "masking.predict_by=table")
    rare = ("model.max_positions=64", "max_epochs=3", "data={a: 1}", *by_table, *PHASES)
    sets = ((), SPAN, WINDOWS, RANDOM, STATES, SKIP, rare)
    recorded = {key for overrides in sets for key in settings_of(tiny("3ml-small", *BASE, *overrides))}
    assert recorded == CHANGES.keys() | ELSEWHERE.keys()


@pytest.mark.slow
@pytest.mark.parametrize("key", CHANGES)
def test_a_recorded_setting_acts(key: str, shards_folder: Path, tmp_path: Path) -> None:
    beside, change = CHANGES[key]
    recorded = [settings_of(tiny("3ml-small", *BASE, *beside, *more)) for more in ((), change)]
    assert recorded[0].get(key) != recorded[1].get(key)
    before = what_it_did(shards_folder, tmp_path / "before", beside)
    assert what_it_did(shards_folder, tmp_path / "after", (*beside, *change)) != before


@pytest.mark.parametrize("overrides", IDLE)
def test_what_does_nothing_is_not_recorded(overrides: tuple[str, ...], tmp_path: Path) -> None:
    recipe = tiny("3ml-small", *overrides)
    idle = IDLE[overrides] | (set() if "masking.choose=span" in overrides else SPAN_ONLY)
    idle |= set() if MODERNBERT[0] in overrides else {"model.global_every", "model.window"}
    idle |= set() if overrides == RANDOM else RANDOM_ONLY
    idle |= set() if overrides == STATES else STATES_ONLY
    idle |= set() if overrides == SKIP else SKIP_ONLY
    (tmp_path / "recipe.yaml").write_text(dump(recipe))
    tree = yaml.safe_load((tmp_path / "recipe.yaml").read_text())
    recorded = {f"{section}.{name}" for section in ("model", "decoder", "masking") for name in tree[section]}
    recorded |= {f"masking.schedule.{name}" for name in tree["masking"]["schedule"]}
    assert not recorded & idle
    of_sections = {"decoder.num_layers", "decoder.mask_embedding", "decoder.positions"}
    assert recorded >= of_sections.union(SPAN_ONLY, RANDOM_ONLY, STATES_ONLY, SKIP_ONLY) - idle
    assert settings_of(load(tmp_path / "recipe.yaml")) == settings_of(recipe)


def test_a_run_whose_record_holds_what_does_nothing_is_resumed(shards_folder: Path, tmp_path: Path) -> None:
    """As earlier versions wrote it; and a setting that does nothing may be anything on resume."""
    recipe = tiny("vanilla-small", "duration.steps=2")
    pretrain(recipe, shards_folder, tmp_path / "run")
    path = tmp_path / "run" / "recipe.yaml"
    tree = yaml.safe_load(path.read_text())
    tree["decoder"]["num_layers"] = 3
    path.write_text(yaml.safe_dump(tree))
    assert RunFolder(tmp_path / "run").recipe.decoder.num_layers == 3
    longer = tiny("vanilla-small", "duration.steps=3", "decoder.num_layers=4")
    assert pretrain(longer, shards_folder, tmp_path / "run", resume=True).steps == 3
