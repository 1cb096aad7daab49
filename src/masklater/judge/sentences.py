"""The likelihood of sentences under a masked LM.

A sentence's pseudo-log-likelihood is the sum over its tokens of each token's log-probability when only this token is
masked (Salazar et al., ACL 2020, arXiv 1910.14659).

Letters: B rows, L their length.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from masklater.corpus.half_pairs import without_half_pairs
from masklater.corpus.tokenizer import read_saved
from masklater.errors import UserError, first_line
from masklater.judge.encoder import longest_row
from masklater.model.head import LOGITS_AT_ONCE
from masklater.model.likelihood import log_likelihood, plain_log_likelihood
from masklater.model.masked_lm import MaskLaterForMaskedLM

TOKENS_AT_ONCE = 2**13
"""Most tokens of one forward pass: on a CPU, more do not fit its cache, and fewer keep it waiting."""


class SentenceScorer:
    """Pseudo-log-likelihoods of sentences under a masked LM (a run's encoder, decoder and head), in float32."""

    def __init__(self, model: PreTrainedModel, tokenizer_folder: Path) -> None:
        """Use a model with the tokenizer in a folder.

        Raises:
            UserError: The tokenizer has no mask, or does not load.
        """
        self.model = model.eval()
        self.device = next(model.parameters()).device
        try:
            tokenizer = read_saved(tokenizer_folder)
        except Exception as error:  # transformers raises whatever its many readers raise
            raise UserError(
                f"the tokenizer in {tokenizer_folder} does not load: {first_line(error)}", "Save the model's own there."
            ) from None
        if tokenizer.mask_token_id is None:
            raise UserError(f"the tokenizer in {tokenizer_folder} has no mask", "Save the model's own there.")
        self.tokenizer = tokenizer
        # The unknown token stands for a part of the sentence, unless it is also one of these. If it were not scored, a
        # sentence would be the likelier, the less of it the tokenizer knows.
        others = {getattr(tokenizer, f"{role}_token_id") for role in ("bos", "eos", "cls", "sep", "pad", "mask")}
        self.special = set(tokenizer.all_special_ids) - ({tokenizer.unk_token_id} - others)
        if isinstance(model, MaskLaterForMaskedLM):
            self.row_length, self.vocabulary = model.config.row_length, model.config.encoder.vocab_size
        else:
            self.row_length = longest_row(model, tokenizer.model_max_length)
            self.vocabulary = model.config.vocab_size

    def tokenise(self, sentences: Sequence[str]) -> list[list[int]]:
        """Return the ids of each sentence, including first and last token."""
        if not sentences:
            return []
        encoded: list[list[int]] = self.tokenizer(list(map(without_half_pairs, sentences)), verbose=False)["input_ids"]
        return encoded

    def score(self, rows: Sequence[list[int]]) -> NDArray[np.float64]:
        """Return the pseudo-log-likelihood of each row of ids, in nats; special tokens are read, but not scored."""
        copies = [  # (row, position), one masked copy each
            (row, position)
            for row, ids in enumerate(rows)
            for position, token in enumerate(ids)
            if token not in self.special
        ]
        copies.sort(key=lambda copy: len(rows[copy[0]]))
        total = np.zeros(len(rows))
        for batch in self._batches(copies, rows):
            log_likelihood_B = self._score_copies(batch, rows)
            np.add.at(total, [row for row, _ in batch], log_likelihood_B)
        return total

    def _batches(self, copies: list[tuple[int, int]], rows: Sequence[list[int]]) -> Iterator[list[tuple[int, int]]]:
        """Yield copies of one length together.

        Without padding, a sentence's score does not depend on other sentences.
        """
        start = 0
        while start < len(copies):
            length = len(rows[copies[start][0]])
            logits = self.vocabulary * (1 if isinstance(self.model, MaskLaterForMaskedLM) else length)
            most = max(1, min(TOKENS_AT_ONCE // length, LOGITS_AT_ONCE["cpu"] // logits))
            stop = start
            while stop < len(copies) and stop - start < most and len(rows[copies[stop][0]]) == length:
                stop += 1
            yield copies[start:stop]
            start = stop

    @torch.no_grad()
    def _score_copies(self, copies: list[tuple[int, int]], rows: Sequence[list[int]]) -> NDArray[np.float64]:
        ids_BL = torch.tensor([rows[row] for row, _ in copies], device=self.device)
        position_B = torch.tensor([position for _, position in copies], device=self.device)
        if isinstance(self.model, MaskLaterForMaskedLM):
            likelihood_B = log_likelihood(self.model, ids_BL, position_B)
        else:
            likelihood_B = plain_log_likelihood(self.model, ids_BL, position_B, self.tokenizer.mask_token_id)
        return likelihood_B.double().cpu().numpy()
