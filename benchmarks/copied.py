"""The parts of a run's held-out loss: frequent tokens, tokens that occur once more in the row, and new ones.

    python benchmarks/copied.py RUN RUN --data SHARDS

A masked token may be copied where it also occurs elsewhere in its document, unmasked. All runs get the same targets,
15% [MASK] of the same rows, so that the numbers in a column can be compared. Each line also shows the steps and FLOPs
that the run has spent.

Letters: see masking/batch.py.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from arguments import at_least_one, exit_status
from torch import Tensor

from masklater.console import Meter, aligned
from masklater.corpus.same_ids import have_same_ids
from masklater.corpus.shards import Shards
from masklater.errors import UserError
from masklater.machine.device import all_devices
from masklater.machine.precision import choose_precision
from masklater.masking.batch import IGNORE, MaskedBatch
from masklater.pretrain.batches import EVALUATION_SEED, make_batches
from masklater.recipe.masking import COMMON_CORRUPTION
from masklater.run.checkpoint import Checkpoint
from masklater.run.folder import RunFolder

ROWS_COUNTED, ROWS_AT_ONCE = 2**14, 64
KINDS = ("frequent", "once more", "new")


@dataclass(frozen=True)
class Split:
    """Losses of a run's targets, by kind."""

    losses: tuple[float, ...]  # mean of each kind, nats; nan where a kind has no target
    loss: float  # of all
    targets: tuple[int, ...]


def most_frequent(shards: Shards, number: int) -> Tensor:
    """Return the commonest tokens of the first training rows, is_frequent_V.

    Specials may be among them: they are no targets.
    """
    rows = shards.train.read(np.arange(min(ROWS_COUNTED, shards.train.num_rows)))
    counts_V = torch.bincount(
        torch.from_numpy(rows.ids_NL.astype(np.int64)).flatten(), minlength=shards.index.vocabulary_size
    )
    is_frequent_V = torch.zeros(len(counts_V), dtype=torch.bool)
    is_frequent_V[counts_V.argsort(descending=True)[:number]] = True
    return is_frequent_V


def stands_elsewhere(batch: MaskedBatch) -> Tensor:
    """Return whether each target token is seen elsewhere in its document, bool [B, T]."""
    same_BTS = batch.target_ids_BT[:, :, None] == batch.seen_ids_BS[:, None]
    if batch.hidden_BS is not None:
        same_BTS &= ~batch.hidden_BS[:, None]
    if batch.documents_BL is not None:
        of_target_BT = batch.documents_BL.gather(1, batch.target_pos_BT)
        of_seen_BS = batch.documents_BL.gather(1, batch.seen_pos_BS)
        same_BTS &= of_target_BT[:, :, None] == of_seen_BS[:, None]
    return same_BTS.any(dim=2)


def split_loss(
    run: RunFolder, checkpoint: Checkpoint, shards: Shards, is_frequent_V: Tensor, num_rows: int, meter: Meter
) -> Split:
    """Return the losses of a run's checkpoint on held-out rows."""
    model = run.model_of(checkpoint)
    device = all_devices()[0]
    precision = choose_precision(run.recipe.precision, device)
    model.to(device)
    drops, attend = run.recipe.decoder.drops, run.recipe.batch.attend
    batches = make_batches(shards, shards.valid, COMMON_CORRUPTION, drops, attend, EVALUATION_SEED)
    total_K, number_K = torch.zeros(3, dtype=torch.float64), torch.zeros(3, dtype=torch.int64)
    for batch in batches.fixed(num_rows, ROWS_AT_ONCE):
        with torch.no_grad(), precision.autocast():
            losses_BT = model.target_losses(batch.to(device)).double().cpu()
        is_target_BT = batch.target_ids_BT != IGNORE
        is_frequent_BT = is_frequent_V[batch.target_ids_BT.clamp(min=0)]
        kind_BT = torch.where(is_frequent_BT, 0, torch.where(stands_elsewhere(batch), 1, 2))
        total_K += torch.bincount(kind_BT[is_target_BT], losses_BT[is_target_BT], minlength=3)
        number_K += torch.bincount(kind_BT[is_target_BT], minlength=3)
        meter.advance(len(batch.target_ids_BT))
    mean = float(total_K.sum() / number_K.sum())
    return Split(tuple((total_K / number_K).tolist()), mean, tuple(number_K.tolist()))


def compare(paths: list[Path], data: Path, frequent: int, num_rows: int) -> None:
    """Print a line for each run.

    Raises:
        UserError: A folder is of the wrong kind, no row is held out, or a run has another tokenizer.
    """
    shards, runs = Shards(data), [RunFolder(path) for path in paths]
    if not shards.valid.num_rows:
        raise UserError(f"{data} holds no rows out", "Prepare it with --valid-fraction above 0.")
    for run in runs:
        if not have_same_ids(run.tokenizer, shards.folder / "tokenizer"):
            raise UserError(f"the run {run.path} has another tokenizer than {data}", "Name the SHARDS it trained on.")
    checkpoints = {run: run.open_newest() for run in runs}
    is_frequent_V = most_frequent(shards, frequent)
    num_rows = min(num_rows, shards.valid.num_rows)
    with Meter("Scoring rows", len(runs) * num_rows) as meter:
        found = [split_loss(*each, shards, is_frequent_V, num_rows, meter) for each in checkpoints.items()]
    rows = [("run", "step", "FLOPs", "loss at 15%", *KINDS)]
    for (run, checkpoint), split in zip(checkpoints.items(), found, strict=True):
        ledger = checkpoint.ledger
        spent = f"{ledger.flops + ledger.flops_optimizer:.3g}"
        losses = (f"{loss:.3f}" for loss in (split.loss, *split.losses))
        rows.append((str(run.path), f"{ledger.steps:,}", spent, *losses))
    number = found[0].targets
    rows.append(("targets", "", "", *(f"{count:,}" for count in (sum(number), *number))))
    print(aligned(rows, numbers_from=1))
    print(f"frequent: the {frequent} commonest tokens; once more: others that are seen elsewhere in the document")


def main() -> int:
    """Compare the runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="runs on one tokenizer")
    parser.add_argument("--data", type=Path, required=True, help="the SHARDS whose held-out rows are scored")
    parser.add_argument("--frequent", type=at_least_one, default=100, help="how many tokens count as frequent")
    parser.add_argument("--rows", type=at_least_one, default=1024, help="held-out rows, at most")
    given = parser.parse_args()
    return exit_status(lambda: compare(given.runs, given.data, given.frequent, given.rows))


if __name__ == "__main__":
    sys.exit(main())
