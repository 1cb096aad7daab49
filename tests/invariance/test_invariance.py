"""A run is the same however many processes share its steps, and however the model is spread over them."""

import shutil
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch

from masklater.corpus.shards import Shards
from masklater.errors import UserError
from masklater.machine.distributed import ALONE, World, join
from masklater.machine.precision import choose_precision
from masklater.masking.batch import IGNORE
from masklater.pretrain.batches import make_batches, make_share, share_out
from masklater.pretrain.opening import _refuse_other_than_first, open_run
from masklater.pretrain.sources import open_sources
from masklater.recipe.sections import BatchSettings
from masklater.run.folder import RunFolder
from masklater.run.metrics import read_metrics
from tests.conftest import TINY, tiny
from tests.invariance.ranks import Job, run_jobs
from tests.pretrain.test_start import save_masked_lm
from tests.reference.cases import CASES, STATES, make_batch, make_model
from tests.runs import losses

STABLE = ("schedule.name=wsd", "schedule.warmup=0", "schedule.decay=0.01")
"""A rate that does not depend on how long a run will be."""

MUON = ("optimizer.name=muon", "optimizer.adamw_lr=1e-3", "optimizer.lr=0.02")


def scores(run: Path) -> list[float]:
    records = [record for record in read_metrics(run / "metrics.jsonl") if "valid_loss" in record]
    return [
        record[f"valid_{what}{suffix}"] for record in records for what in ("loss", "targets") for suffix in ("", "_15")
    ]


def job(folder: Path, data: Path, name: str, *overrides: str) -> Job:
    """A job from its name: what it belongs to, processes, rows of a micro-batch, how the model is spread."""
    _, processes, micro_rows, how = name.split("-")
    few = ("duration.steps=4", "schedule.warmup=0", "evaluation.every_steps=4", "evaluation.rows=7")
    settings = (*few, f"batch.micro_rows={micro_rows}", f"distributed={how}", *overrides)
    return Job(int(processes), settings, data, folder / name)


@pytest.mark.longest
def test_processes_change_nothing(shards_folder: Path, tmp_path: Path) -> None:
    """1 x 8, 2 x 4 and 4 x 2 rows, in one go and in micro-batches, DDP and FSDP2: one trajectory and the same scores.

    Rows are padded, so that processes have different numbers of targets. With dropout on, the same where micro-batches
    are the same.
    """
    plain = ["plain-1-8-ddp", "plain-2-4-ddp", "plain-2-1-fsdp", "plain-4-1-ddp", "plain-4-2-fsdp"]
    dropout = ["dropout-1-2-ddp", "dropout-4-2-ddp", "dropout-2-2-fsdp"]
    muon = ["muon-1-8-ddp", "muon-4-2-ddp", "muon-4-2-fsdp"]  # some processes hold fewer rows of a matrix than others
    states = ["states-1-8-ddp", "states-2-2-ddp", "states-4-1-fsdp"]  # whose rows are predicted whole
    jobs = [job(tmp_path, shards_folder, name, "model.dropout=0") for name in plain]
    jobs += [job(tmp_path, shards_folder, name, "model.dropout=0", *STATES["states"]) for name in states]
    jobs += [job(tmp_path, shards_folder, name, "model.dropout=0.1") for name in dropout]
    jobs += [
        job(tmp_path, shards_folder, name, *MUON, "model.intermediate_size=66", "model.dropout=0") for name in muon
    ]
    run_jobs(jobs, tmp_path / "log")
    in_bfloat16 = choose_precision("auto", torch.device("cpu")).name == "bfloat16"  # what Muon multiplies in
    for first, *others in (plain, dropout, muon, states):
        assert len(losses(tmp_path / first)) == 4
        tolerance = 2e-3 if first == muon[0] and in_bfloat16 else 1e-4
        for other in others:
            assert losses(tmp_path / other) == pytest.approx(losses(tmp_path / first), rel=tolerance)
            assert scores(tmp_path / other) == pytest.approx(scores(tmp_path / first), rel=tolerance)
    assert losses(tmp_path / plain[0]) != pytest.approx(losses(tmp_path / dropout[0]), rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_checkpoint_is_read_by_other_processes(optimizer: str, shards_folder: Path, tmp_path: Path) -> None:
    """4 -> 2 -> 1 processes and back, FSDP2 <-> DDP, dropout on; and the same processes again, to the bit."""
    common = ("model.dropout=0.1", "batch.micro_rows=2", *STABLE, *(MUON if optimizer == "muon" else ()))

    def part(run: str, processes: int, how: str, steps: int) -> Job:
        settings = (*common, f"distributed={how}", f"duration.steps={steps}")
        return Job(processes, settings, shards_folder, tmp_path / run, resume=steps > 2)

    run_jobs(
        [
            part("down", 4, "fsdp", 2), part("down", 2, "ddp", 4), part("down", 1, "ddp", 6),
            part("up", 1, "ddp", 2), part("up", 2, "fsdp", 4), part("up", 4, "ddp", 6),
            part("again", 2, "fsdp", 2), part("again", 2, "fsdp", 4), part("again", 2, "fsdp", 6),
            Job(2, (*common, "distributed=fsdp", "duration.steps=6"), shards_folder, tmp_path / "straight-2"),
            *(
                Job(2, (*common, f"distributed={how}", "duration.steps=6", "checkpoint={every_steps: 1, background: true}"),
                    shards_folder, tmp_path / f"background-{how}")
                for how in ("ddp", "fsdp")
            ),
            Job(1, (*common, "duration.steps=6"), shards_folder, tmp_path / "straight"),
        ],
        tmp_path / "log",
    )  # fmt: skip
    # Muon orthogonalises in bfloat16.
    tolerance = 2e-3 if optimizer == "muon" else 1e-4
    for run in ("down", "up"):
        assert losses(tmp_path / run) == pytest.approx(losses(tmp_path / "straight"), rel=tolerance)
    assert losses(tmp_path / "again") == losses(tmp_path / "straight-2")
    resumed, straight = (RunFolder(tmp_path / run).load_model()[0].state_dict() for run in ("again", "straight-2"))
    assert all(torch.equal(resumed[name], straight[name]) for name in straight)
    in_background = RunFolder(tmp_path / "background-fsdp").load_model()[0].state_dict()
    assert all(torch.equal(in_background[name], straight[name]) for name in straight)
    assert losses(tmp_path / "background-ddp") == pytest.approx(losses(tmp_path / "straight"), rel=tolerance)
    shards = list((tmp_path / "straight-2" / "checkpoints" / "step-00000006").glob("*.safetensors"))
    assert len(shards) == 2  # each process has written its part


def check_two_processes(name: str, common: tuple[str, ...], theirs: tuple[str, ...], data: Path, out: Path) -> None:
    """One process, and two under DDP and FSDP2, which have settings of their own, have the same losses."""
    jobs = [
        Job(1, common, data, out / "one", recipe=name),
        Job(2, (*common, *theirs, "distributed=fsdp"), data, out / "fsdp", recipe=name),
        Job(2, (*common, *theirs), data, out / "ddp", recipe=name),
    ]
    run_jobs(jobs, out / "log")
    for run in ("fsdp", "ddp"):
        assert losses(out / run) == pytest.approx(losses(out / "one"), rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["late-entry-small", "3ml-cross-small", "3ml-modernbert-small", "3ml-electra-small"])
def test_every_kind_of_model_can_be_cut_up(name: str, shards_folder: Path, tmp_path: Path) -> None:
    kind = ("decoder.enter_layer=1",) if name == "late-entry-small" else ()
    common = ("model.dropout=0", "duration.steps=3", "schedule.warmup=0", "batch.micro_rows=2", *kind)
    check_two_processes(name, common, (), shards_folder, tmp_path)


@pytest.mark.slow
def test_layers_inside_of_others_and_called_again_and_again_can_be_cut_up(shards: Shards, tmp_path: Path) -> None:
    """ALBERT's: one group of one layer, called once for each layer of others."""
    save_masked_lm("albert", shards, tmp_path / "model", embedding_size=16, num_hidden_layers=3)
    sizes = (override.partition("=")[0] for override in TINY if override.startswith("model."))
    common = (
        *(f"{size}=null" for size in sizes), f"model.from={tmp_path / 'model'}", "model.dropout=0", "duration.steps=3", "schedule.warmup=0",
        "batch.micro_rows=2",
    )  # fmt: skip
    check_two_processes("continue", common, (), shards.folder, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["3ml-small", "3ml-modernbert-small"])
def test_layers_computed_again_are_the_same_on_many_processes(name: str, shards_folder: Path, tmp_path: Path) -> None:
    """Activation checkpointing under DDP and FSDP2, dropout on, against one process that keeps all."""
    common = ("model.dropout=0.1", "duration.steps=3", "schedule.warmup=0", "batch.micro_rows=2")
    check_two_processes(name, common, ("activation_checkpointing=true",), shards_folder, tmp_path)


@pytest.mark.slow
def test_a_scaled_loss_is_the_same_however_many_processes_share_it(shards_folder: Path, tmp_path: Path) -> None:
    """float16: each process finds the same gradients too large, whether it holds all of them or a part."""
    common = ("precision=float16", "model.dropout=0", "duration.steps=4", "schedule.warmup=0", "batch.micro_rows=2")
    muon = (*common, *MUON)
    jobs = [
        Job(processes, settings, shards_folder, tmp_path / f"{name}-{how}-{processes}")
        for name, settings in (("adamw", common), ("muon", muon))
        for processes, how in ((1, "ddp"), (2, "ddp"), (2, "fsdp"))
        for settings in [(*settings, f"distributed={how}")]
    ]
    run_jobs(jobs, tmp_path / "log")
    for name in ("adamw", "muon"):
        alone = losses(tmp_path / f"{name}-ddp-1")
        for how in ("ddp", "fsdp"):
            assert losses(tmp_path / f"{name}-{how}-2") == pytest.approx(alone, rel=1e-3)
            records = [r for r in read_metrics(tmp_path / f"{name}-{how}-2" / "metrics.jsonl") if "loss_scale" in r]
            assert len(records) == 4 and len({record["loss_scale"] for record in records}) == 1


def test_every_parameter_that_is_trained_gets_a_gradient(shards: Shards) -> None:
    """What DDP asks of a model, of every objective and family."""
    for objective, family in CASES:
        model = make_model(shards, objective, family).train()
        model(batch=make_batch(shards, objective, rows=4))[0].backward()
        without = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
        assert not without, (objective, family)


@pytest.mark.parametrize("masking", [(), ("masking.choose=word",), ("masking.choose=span", "masking.predict=0.5")])
@pytest.mark.parametrize("recipe", ["3ml-small", "vanilla-small"])
def test_shares_make_up_the_global_batch(recipe: str, masking: tuple[str, ...], shards: Shards) -> None:
    """Whatever the processes: the same rows under the same masks, in order, to the bit."""
    settings = tiny(recipe, *masking)
    batches = make_batches(shards, shards.train, settings.masking, settings.decoder.drops, "document", 0)
    batch = batches.of_step(3, 8)
    for processes in (1, 2, 4, 8):
        worlds = [World(rank, processes) for rank in range(processes)]
        shares = [make_share(batches, 3, BatchSettings(rows=8, micro_rows=1), world) for world in worlds]
        micro_batches = [micro for share in shares for micro in share.micro_batches]
        for name, tensor in vars(batch).items():
            parts = [getattr(micro, name) for micro in micro_batches]
            assert parts == [None] * 8 if tensor is None else torch.equal(torch.cat(parts), tensor), name
        assert [share.first for share in shares] == list(range(0, 8, 8 // processes))
        assert sum(share.num_targets for share in shares) == int(batch.num_targets)


def test_held_out_rows_are_shared(shards: Shards) -> None:
    """Every row is scored once; masks do not follow the cut; a process that runs out goes through the motions."""
    batches = make_batches(shards, shards.valid, tiny().masking, True, "document", 0)
    (whole,) = batches.fixed(9, 9)
    for processes, rows in ((1, 2), (2, 2), (4, 2), (4, 9), (3, 1)):
        parts = [list(batches.fixed(9, rows, World(rank, processes))) for rank in range(processes)]
        assert len({len(part) for part in parts}) == 1
        in_turn = [part[turn] for turn in range(len(parts[0])) for part in parts]
        scored = [batch.target_ids_BT for batch in in_turn if (batch.target_ids_BT != IGNORE).any()]
        assert torch.equal(torch.cat(scored), whole.target_ids_BT)


@pytest.mark.parametrize(
    ("rows", "micro_rows", "processes", "lowered", "said"),
    [
        (
            8,
            8,
            2,
            4,
            "batch.micro_rows is 4 in place of 8, to divide the 4 rows that each of 2 processes has of a step",
        ),
        (24, 8, 2, 6, "batch.micro_rows is 6 in place of 8, to divide the 12 rows that each of 2 processes has"),
        (8, 32, 1, 8, "batch.micro_rows is 8 in place of 32, to divide the 8 rows of a step; what is trained on stays"),
        (14, 4, 1, 2, "batch.micro_rows is 2 in place of 4, to divide the 14 rows of a step"),
        (8, 2, 1, 2, ""),
        (8, 2, 2, 2, ""),
        (8, 2, 4, 2, ""),
    ],
)
def test_micro_rows_are_lowered_aloud(
    rows: int, micro_rows: int, processes: int, lowered: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shared = share_out(BatchSettings(rows=rows, micro_rows=micro_rows), World(0, processes))
    assert (shared.rows, shared.micro_rows) == (rows, lowered)
    text = " ".join(capsys.readouterr().err.split())
    assert text.startswith(said) and bool(text) == bool(said)


def test_a_process_with_another_recipe_or_other_data_than_the_first_is_refused(
    shards: Shards, continuous: Shards
) -> None:
    """Such as a copy of SHARDS on another machine: both would train, each on rows of its own, and nothing would show."""
    said = []

    class Of(World):  # two processes, one after the other
        def broadcast(self, text: str) -> str:
            said.append(text)
            return said[0]

        def all_max(self, *values: float) -> list[float]:
            return list(values)

    recipe, other = tiny("3ml-small"), tiny("3ml-small", "optimizer.lr=0.5")
    here, there = (open_sources(recipe, each.folder) for each in (shards, continuous))
    for _ in range(2):
        _refuse_other_than_first(recipe, here, Of(len(said), 2))
    with pytest.raises(UserError, match=r"process 1, on .*, has another optimizer\.lr than the first process: 0\.5 in"):
        _refuse_other_than_first(other, here, Of(1, 2))
    with pytest.raises(UserError, match="has another data than"):
        _refuse_other_than_first(recipe, there, Of(1, 2))


@pytest.mark.parametrize("local_rank", [0, 1])
def test_each_machine_verifies_the_shards_it_sees(local_rank: int, shards_folder: Path, tmp_path: Path) -> None:
    """Its copy may be damaged where the first machine's is not; of the processes of one machine the first looks."""

    class Of(World):  # one of two processes, in which all goes well in the other
        def broadcast(self, text: str) -> str:
            return text

        def all_max(self, *values: float) -> list[float]:
            return list(values)

    data = shutil.copytree(shards_folder, tmp_path / "shards")
    rows = next(data.glob("train-*.rows"))
    rows.write_bytes(bytes([rows.read_bytes()[0] ^ 1]) + rows.read_bytes()[1:])
    with ExitStack() as held, pytest.raises(UserError) as refused:
        open_run(tiny("3ml-small"), data, tmp_path / "run", False, Of(1, 2, local_rank), held)
    assert ("checksum" in str(refused.value)) == (local_rank == 0), refused.value
    assert not (tmp_path / "run").exists()


def test_rows_that_cannot_be_shared() -> None:
    with pytest.raises(UserError, match=r"batch\.rows is 8, which 3 processes cannot share evenly"):
        share_out(BatchSettings(rows=8, micro_rows=4), World(0, 3))


@pytest.mark.parametrize("variables", [{"RANK": "x"}, {"RANK": "2", "WORLD_SIZE": "2"}, {"RANK": "1"}])
def test_an_environment_that_makes_no_sense(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="not a place among processes"), join():
        pass


def test_one_process_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is started, nothing is exchanged, and an error is the error itself."""
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    with join() as world:
        assert not torch.distributed.is_initialized()
        assert (world, world.is_main, world.all_max(3, 2.5), world.broadcast("a")) == (ALONE, True, [3, 2.5], "a")
        with pytest.raises(KeyError), world.all_or_none():
            raise KeyError
