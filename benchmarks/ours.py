"""A masklater training step, on random rows.

Letters: B rows, L row length.
"""

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import PreTrainedTokenizerFast
from wanted import RECIPES, Step, Wanted

from masklater.budget.cost import row_flops
from masklater.budget.sizes import encoder_sizes
from masklater.corpus.vocabulary import Vocabulary
from masklater.machine.kernels import refuse_cudnn_attention
from masklater.machine.precision import Precision
from masklater.masking.batch import MaskedBatch
from masklater.masking.corrupt import corrupt
from masklater.masking.corruption import Corruption, make_corruption
from masklater.masking.draws import Draws
from masklater.model.check import settle
from masklater.model.config import MaskLaterConfig
from masklater.model.from_scratch import make_encoder_config
from masklater.model.masked_lm import MaskLaterForMaskedLM
from masklater.pretrain.batches import StepShare
from masklater.pretrain.loop import train_step
from masklater.pretrain.optim import Optimizers
from masklater.recipe.load import load
from masklater.recipe.recipe import Recipe

PAD, BOS, EOS, UNK, MASK = 1, 0, 2, 3, 4


def our_step(name: str, wanted: Wanted) -> tuple[Step, float]:
    """Make a step of `3ml` or `vanilla`; return it and the FLOPs that it executes."""
    ours, usual = RECIPES[wanted.size]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    precision = Precision(wanted.precision, "the command line says so", device)
    recipe = load(ours if name == "3ml" else usual)
    side = Ours(recipe, wanted.rows, wanted.row_length, wanted.vocabulary, precision)

    def step(number: int) -> None:
        side.train(side.share(number, side.corruption), number)

    return step, wanted.rows * side.row_flops(side.corruption)


def random_rows(rows: int, length: int, vocabulary: int, seed: int) -> Tensor:
    """Return full rows of random tokens, rows_BL."""
    generator = torch.Generator().manual_seed(seed)
    rows_BL = torch.randint(5, vocabulary, (rows, length), generator=generator)
    rows_BL[:, 0], rows_BL[:, -1] = BOS, EOS
    return rows_BL


def describe(recipe: Recipe, row_length: int, vocabulary: int) -> tuple[MaskLaterConfig, Corruption]:
    """Return the config of a recipe's model, settled, and the corruption of its rows.

    Raises:
        UserError: The recipe's masking does not fit rows of this length.
    """
    ids = Vocabulary(bos=BOS, eos=EOS, pad=PAD, mask=MASK, all=(PAD, BOS, EOS, UNK, MASK), size=vocabulary)
    encoder = make_encoder_config(recipe.model, vocabulary=ids, row_length=row_length, token_types=1)
    corruption = make_corruption(
        recipe.masking,
        drop=recipe.decoder.drops,
        row_length=row_length,
        maskable_per_row=row_length - 2,
        vocabulary=ids,
    )
    config = MaskLaterConfig(encoder, recipe.decoder, row_length=row_length, mask_token_id=MASK)
    return settle(config), corruption


def mask_rows(rows_BL: Tensor, corruption: Corruption, number: int) -> MaskedBatch:
    """Return a batch of masked rows, on the CPU."""
    return corrupt(rows_BL, None, corruption, Draws(torch.Generator().manual_seed(number)))


def made_up_tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """Return a tokenizer whose words are w5, w6 and so on."""
    names = {"<s>": BOS, "<pad>": PAD, "</s>": EOS, "<unk>": UNK, "<mask>": MASK}
    names |= {f"w{token_id}": token_id for token_id in range(5, vocabulary)}
    tokenizer = Tokenizer(models.WordLevel(names, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>", pad_token="<pad>", eos_token="</s>", unk_token="<unk>", mask_token="<mask>",
    )  # fmt: skip


class Ours:
    """A model of a recipe, trained on random rows.

    Raises:
        UserError: The recipe's masking does not fit rows of this length.
    """

    def __init__(self, recipe: Recipe, rows: int, row_length: int, vocabulary: int, precision: Precision) -> None:
        self.rows, self.row_length, self.vocabulary, self.precision = rows, row_length, vocabulary, precision
        self.decoder = recipe.decoder
        refuse_cudnn_attention()  # as `pretrain` does: on an H100 torch would choose it
        config, self.corruption = describe(recipe, row_length, vocabulary)
        self.encoder = config.encoder
        self.model = MaskLaterForMaskedLM(config).to(precision.device).train()
        self.optimizers = Optimizers(self.model, recipe.optimizer)

    def share(self, number: int, corruption: Corruption) -> StepShare:
        """Return the masked rows of a step, on the device."""
        batch = mask_rows(random_rows(self.rows, self.row_length, self.vocabulary, number), corruption, number)
        return StepShare([batch.to(self.precision.device)], 0, int(batch.num_targets))

    def train(self, share: StepShare, number: int) -> None:
        """Make the step."""
        train_step(self.model, self.optimizers, share, 1e-3, 1.0, self.precision, number)

    def row_flops(self, corruption: Corruption) -> float:
        """Return the FLOPs of one row, forward and backward."""
        return row_flops(encoder_sizes(self.encoder), self.decoder, corruption.counts).training
