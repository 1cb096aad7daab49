"""A training step of ours, on random rows.

Letters: B rows, L row length.
"""

import torch
from torch import Tensor
from wanted import RECIPES, Step, Wanted

from masklater.budget.cost import encoder_sizes, row_flops
from masklater.machine.precision import Precision
from masklater.masking.corrupt import Corruption, corrupt, make_corruption
from masklater.masking.draws import Draws
from masklater.model.config import MaskLaterConfig
from masklater.model.encoder import make_encoder_config
from masklater.model.masked_lm import MaskLaterForMaskedLM
from masklater.pretrain.batches import StepShare
from masklater.pretrain.loop import train_step
from masklater.pretrain.optim import Optimizers
from masklater.recipe.load import Recipe, load

PAD, BOS, EOS, UNK, MASK = 1, 0, 2, 3, 4


def our_step(name: str, wanted: Wanted) -> tuple[Step, float]:
    """A step of `3ml` or `vanilla`, and the FLOPs it executes."""
    ours, usual = RECIPES[wanted.size]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    precision = Precision(wanted.precision, "the command line says so", device)
    recipe = load(ours if name == "3ml" else usual)
    side = Ours(recipe, wanted.rows, wanted.row_length, wanted.vocabulary, precision)

    def step(number: int) -> None:
        side.train(side.share(number, side.corruption), number)

    return step, wanted.rows * side.row_flops(side.corruption)


def random_rows(rows: int, length: int, vocabulary: int, seed: int) -> Tensor:
    """Full rows of random tokens, rows_BL."""
    generator = torch.Generator().manual_seed(seed)
    rows_BL = torch.randint(5, vocabulary, (rows, length), generator=generator)
    rows_BL[:, 0], rows_BL[:, -1] = BOS, EOS
    return rows_BL


class Ours:
    """A model of a recipe, trained on random rows.

    Raises:
        UserError: The recipe's masking does not fit rows of this length.
    """

    def __init__(self, recipe: Recipe, rows: int, row_length: int, vocabulary: int, precision: Precision) -> None:
        self.rows, self.row_length, self.vocabulary, self.precision = rows, row_length, vocabulary, precision
        self.decoder = recipe.decoder
        self.encoder = make_encoder_config(
            recipe.model, vocabulary_size=vocabulary, row_length=row_length, token_types=1,
            pad=PAD, bos=BOS, eos=EOS, mask=MASK,
        )  # fmt: skip
        self.corruption = make_corruption(
            recipe.masking, drop=recipe.decoder.drops, row_length=row_length, maskable_per_row=row_length - 2,
            vocabulary_size=vocabulary, special_ids=(PAD, BOS, EOS, UNK, MASK), mask_id=MASK, pad_id=PAD,
        )  # fmt: skip
        config = MaskLaterConfig(self.encoder, recipe.decoder, row_length=row_length, mask_token_id=MASK)
        self.model = MaskLaterForMaskedLM(config).to(precision.device).train()
        self.optimizers = Optimizers(self.model, recipe.optimizer)

    def share(self, number: int, corruption: Corruption) -> StepShare:
        """The masked rows of a step, on the device."""
        rows_BL = random_rows(self.rows, self.row_length, self.vocabulary, number)
        batch = corrupt(rows_BL, None, corruption, Draws(torch.Generator().manual_seed(number)))
        return StepShare([batch.to(self.precision.device)], 0, int(batch.num_targets))

    def train(self, share: StepShare, number: int) -> None:
        """The step."""
        train_step(self.model, self.optimizers, share, 1e-3, 1.0, self.precision, number)

    def row_flops(self, corruption: Corruption) -> float:
        """What one row executes, forward and backward."""
        return row_flops(encoder_sizes(self.encoder), self.decoder, corruption.counts).training
