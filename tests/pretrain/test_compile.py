"""Compiled layers are the eager ones: whole graphs, few of them, the same losses, names and checkpoints.

Where it does not matter what code comes out, torch's backends without a code generator stand in for inductor.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from masklater.corpus.shards import Shards
from masklater.errors import UserError
from masklater.machine import compilation
from masklater.machine.compilation import Compilation, choose_compilation, compile_layers, find_failure
from masklater.machine.distributed import ALONE, World
from masklater.machine.parallel import stacked_layers
from masklater.machine.precision import choose_precision
from masklater.pretrain.evaluate import evaluate
from masklater.pretrain.loop import pretrain
from masklater.run.metrics import read_metrics
from tests.conftest import tiny
from tests.golden.test_trajectory import GOLDEN, RUNS, trajectory
from tests.invariance.ranks import run_jobs
from tests.invariance.test_invariance import job, losses
from tests.reference.cases import CASES, FAMILIES, gradients, make_batch, make_model

FAST = [("vanilla", family) for family in FAMILIES] + [
    (name, "roberta-prelayernorm")
    for name in ("3ml-self", "3ml-cross", "cross-only", "cross-flows", "late", "narrow-word-mask", "vanilla-flows")
]
"""The layers of each family once, and each kind of decoder layer."""


@dataclass
class Graphs:
    """A backend that runs what it is given as it is, and counts it."""

    count: int = 0

    def __call__(self, graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        self.count += 1
        return graph.forward


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> Graphs:
    backend = Graphs()
    monkeypatch.setattr(compilation, "BACKEND", backend)
    return backend


@pytest.mark.parametrize(
    ("objective", "family"),
    [pytest.param(*case, marks=() if case in FAST else pytest.mark.slow) for case in CASES],
)
def test_every_layer_is_one_graph(objective: str, family: str, shards: Shards, graphs: Graphs) -> None:
    """fullgraph raises where a graph would break. All layers of a stack share theirs."""
    model, batch = make_model(shards, objective, family).train(), make_batch(shards, objective, rows=4)
    names = list(model.state_dict())
    eager = model(batch=batch).loss_sum
    eager.backward()
    expected = gradients(model)
    compile_layers(stacked_layers(model))
    loss = model(batch=batch).loss_sum
    loss.backward()
    assert 1 <= graphs.count <= 4
    assert loss.item() == pytest.approx(eager.item(), rel=1e-6)
    found = gradients(model)
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-5, atol=1e-6 * float(expected[name].abs().max()))
    assert list(model.state_dict()) == names


@pytest.mark.parametrize("objective", ["3ml-self", "3ml-cross"])
def test_a_rate_schedule_needs_few_graphs(objective: str, continuous: Shards, graphs: Graphs) -> None:
    """The first shapes are compiled as they are, the second for all that follow: numbers do not grow with rates."""
    model = make_model(continuous, objective, "roberta-prelayernorm").train()
    compile_layers(stacked_layers(model))
    counted, shapes = [], set()
    for percent in range(20, 80, 12):
        batch = make_batch(continuous, objective, f"masking.rate={percent / 100}", rows=4)
        shapes.add(batch.seen_ids_BS.shape[1])
        model(batch=batch).loss_sum.backward()
        counted.append(graphs.count)
    assert len(shapes) == 5
    assert counted[-1] == counted[2] <= 8


def test_evaluation_is_eager(shards: Shards, graphs: Graphs) -> None:
    model, batch = make_model(shards, "3ml-self", "roberta"), make_batch(shards, "3ml-self", rows=4)
    precision = choose_precision("float32", ALONE.device)
    before = evaluate(model, [batch], precision)
    compile_layers(stacked_layers(model))
    assert evaluate(model, [batch], precision) == before
    assert graphs.count == 0
    model(batch=batch)
    assert graphs.count > 0


def run(data: Path, out: Path, steps: int, compiled: bool, *overrides: str, resume: bool = False) -> list[float]:
    settings = ("model.dropout=0", "schedule.warmup=0", "schedule.name=wsd", "schedule.decay=0.01", *overrides)
    few = (f"duration.steps={steps}", f"compile={str(compiled).lower()}")
    pretrain(tiny("3ml-small", *settings, *few), data, out, resume)
    return losses(out)


@pytest.mark.parametrize("first", [False, True])
def test_a_checkpoint_is_read_compiled_and_eager(
    first: bool, shards_folder: Path, tmp_path: Path, graphs: Graphs, capsys: pytest.CaptureFixture[str]
) -> None:
    straight = run(shards_folder, tmp_path / "straight", 4, compiled=False)
    assert graphs.count == 0
    run(shards_folder, tmp_path / "run", 2, compiled=first)
    capsys.readouterr()
    resumed = run(shards_folder, tmp_path / "run", 4, compiled=not first, resume=True)
    said = capsys.readouterr().err
    assert resumed == pytest.approx(straight, rel=1e-6)
    assert graphs.count > 0
    assert f"changed on resume: compile was {first}, is {not first}" in said
    assert f"layers {'not compiled' if first else 'compiled'}: the recipe says so" in said
    assert f"{2 * first} of these steps were made with compiled layers: dropout draws other numbers" in said
    assert json.loads((tmp_path / "run" / "ledger.json").read_text())["compiled_steps"] == 2


@pytest.mark.parametrize("family", ["esm", "roberta", "modernbert"])
def test_layers_that_are_computed_again_are_whole_graphs(family: str, shards: Shards, graphs: Graphs) -> None:
    """What transformers does around such a layer is compiled with it, its warnings too."""
    batch, model = make_batch(shards, "3ml-self"), make_model(shards, "3ml-self", family).train()
    expected = model(batch=batch).loss_sum
    model.checkpoint_activations(1)
    compile_layers(stacked_layers(model))
    loss = model(batch=batch).loss_sum
    loss.backward()
    torch.testing.assert_close(loss, expected)
    assert graphs.count > 0


def test_layers_are_whole_graphs_under_ddp(shards: Shards, graphs: Graphs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dynamo would cut them at DDP's buckets, of which each matrix of these small layers fills one."""
    monkeypatch.setattr(torch.distributed, "_DEFAULT_FIRST_BUCKET_BYTES", 1)
    monkeypatch.setattr(DistributedDataParallel, "_get_active_ddp_module", lambda: SimpleNamespace(bucket_bytes_cap=1))
    batch, model = make_batch(shards, "3ml-self"), make_model(shards, "3ml-self", "roberta-prelayernorm").train()
    compile_layers(stacked_layers(model))
    model(batch=batch).loss_sum.backward()
    assert graphs.count == 3  # a layer of the encoder's, one of the decoder's, and its last, at the targets alone


@pytest.mark.slow
def test_a_machine_without_a_compiler() -> None:
    """What was compiled before is not taken for a compiler."""
    from torch._inductor import config

    assert find_failure(torch.device("cpu")) is None
    # monkeypatch would take the entry away afterwards, for all tests that compile later in the same process.
    without = config.patch({"cpp.cxx": ("/no/such/compiler",)})
    with (
        without,
        pytest.raises(UserError, match=r"compile is true, and this machine cannot compile.*\n.*compile=false.*g\+\+"),
    ):
        choose_compilation(True, ALONE)


def test_auto_is_a_gpu_that_can(monkeypatch: pytest.MonkeyPatch) -> None:
    class WithGPU(World):
        device = torch.device("cuda")  # type: ignore[assignment]

    assert not choose_compilation("auto", ALONE).on
    assert not choose_compilation(False, WithGPU()).on
    monkeypatch.setattr(compilation, "find_failure", lambda device: None)
    assert choose_compilation("auto", WithGPU()).on
    monkeypatch.setattr(compilation, "find_failure", lambda device: "no Triton")
    fallen_back = choose_compilation("auto", WithGPU())
    assert not fallen_back.on
    assert "cannot compile: no Triton" in fallen_back.reason


def test_a_compiler_that_fails_in_the_run_is_told(
    shards_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        raise ValueError("no registers left")

    monkeypatch.setattr(compilation, "BACKEND", fails)
    monkeypatch.setattr(compilation, "find_failure", lambda device: None)
    with pytest.raises(UserError, match=r"could not be compiled.*\n.*--resume and compile=false"):
        run(shards_folder, tmp_path / "run", 2, compiled=True)
    assert len(run(shards_folder, tmp_path / "run", 2, compiled=False, resume=True)) == 2


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match="out of memory"), Compilation(True, "").errors_for_people():
        raise RuntimeError("out of memory")


@pytest.mark.slow
def test_inductor_resumes_to_the_bit(shards_folder: Path, tmp_path: Path) -> None:
    """With dropout on: compiled, it is drawn from the same seeds."""
    dropout = "model.dropout=0.1"
    run(shards_folder, tmp_path / "run", 2, True, dropout)
    resumed = run(shards_folder, tmp_path / "run", 4, True, dropout, resume=True)
    assert resumed == run(shards_folder, tmp_path / "straight", 4, True, dropout)
    assert [
        record["valid_loss"] for record in read_metrics(tmp_path / "run" / "metrics.jsonl") if "valid_loss" in record
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_golden_compiled(name: str, tmp_path: Path) -> None:
    tolerance = 2e-3 if "muon" in name else 5e-5
    found = trajectory(tmp_path, name, "compile=true")
    assert found == pytest.approx(json.loads(GOLDEN.read_text())[name], rel=tolerance)


@pytest.mark.slow
def test_processes_change_nothing_compiled(shards_folder: Path, tmp_path: Path) -> None:
    """DDP and FSDP2, compiled and not: one trajectory. With dropout on, one among the compiled."""
    eager = job(tmp_path, shards_folder, "eager-1-8-ddp", "model.dropout=0")
    compiled = ["plain-2-4-ddp", "plain-2-2-fsdp"]
    dropout = ["dropout-1-2-ddp", "dropout-2-2-fsdp"]
    jobs = [job(tmp_path, shards_folder, name, "model.dropout=0", "compile=true") for name in compiled]
    jobs += [job(tmp_path, shards_folder, name, "model.dropout=0.1", "compile=true") for name in dropout]
    run_jobs([eager, *jobs], tmp_path / "log", timeout=1800)
    for first, *others in ([eager.out.name, *compiled], dropout):
        assert len(losses(tmp_path / first)) == 4
        for other in others:
            assert losses(tmp_path / other) == pytest.approx(losses(tmp_path / first), rel=1e-4)
