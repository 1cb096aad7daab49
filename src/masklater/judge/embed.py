"""Texts as vectors without any training: the mean of an encoder's last hidden states, and the quality of their cosines.

Letters: B rows of a batch, L the longest of them, D width, N texts or pairs, Q queries, P passages, K measures.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from masklater.errors import UserError
from masklater.judge.encoder import load_classifier
from masklater.judge.scorer import Scorer
from masklater.judge.tokens import tokenise_texts

TOKENS_AT_ONCE = 2**13
"""Most tokens of one forward pass."""

COSINES_AT_ONCE = 2**24
"""Most cosines between queries and passages in memory at once."""

NEAREST = (1, 10)
"""The values of k in recall@k."""

MEASURES = (*(f"recall@{k}" for k in NEAREST), "mrr")


class Embedder:
    """One encoder on one device, in float32."""

    def __init__(self, scorer: Scorer) -> None:
        """Use the encoder of a scorer.

        Raises:
            UserError: The encoder does not load, or it has a decoder.
        """
        self.scorer = scorer
        self.device = scorer.precision.device
        self.model = load_classifier(scorer.encoder, 2, self.device).base_model.eval()
        if self.model.config.is_encoder_decoder:
            raise UserError(
                f"{scorer.encoder.path} is an encoder with a decoder, whose last states are not those of the text",
                "Choose a plain encoder.",
            )

    def embed(
        self, texts: Sequence[str], progress: Callable[[int], None] = lambda rows: None
    ) -> tuple[NDArray[np.float32], int]:
        """Return vectors of length 1, [N, D], and how many texts were longer than the encoder takes.

        The mean includes the special tokens that the tokenizer adds. A text without any token has the vector 0.

        Raises:
            UserError: A vector is not finite.
        """
        rows = tokenise_texts(texts, self.scorer.tokenizer, self.scorer.max_length, self.scorer.num_types)
        lengths_N = rows.lengths_N
        vectors_ND = np.zeros((len(texts), self.model.config.hidden_size), dtype=np.float32)
        order_N = np.argsort(lengths_N, kind="stable")
        order_N = order_N[lengths_N[order_N] > 0]
        start = 0
        while start < len(order_N):
            stop = start + 1
            while stop < len(order_N) and (stop + 1 - start) * lengths_N[order_N[stop]] <= TOKENS_AT_ONCE:
                stop += 1
            batch_B = order_N[start:stop]
            inputs = rows.batch(batch_B, self.scorer.tokenizer.pad_token_id, self.device)
            with torch.inference_mode():
                mean_BD = mean_of_tokens(self.model(**inputs).last_hidden_state, inputs["attention_mask"])
                vectors_ND[batch_B] = torch.nn.functional.normalize(mean_BD, dim=-1).cpu().numpy()
            progress(len(batch_B))
            start = stop
        if not np.isfinite(vectors_ND).all():
            raise UserError(
                f"{self.scorer.encoder.path} makes vectors that are not finite", "Its weights are damaged, or diverged."
            )
        return vectors_ND, rows.truncated


def mean_of_tokens(states_BLD: Tensor, there_BL: Tensor) -> Tensor:
    """Return the mean over the tokens that are not padding, [B, D]."""
    weights_BL1 = there_BL.to(states_BLD.dtype).unsqueeze(-1)
    return (states_BLD * weights_BL1).sum(dim=1) / weights_BL1.sum(dim=1)


def measure_search(
    queries_QD: NDArray[np.float32], passages_PD: NDArray[np.float32], right: Sequence[Sequence[int]]
) -> NDArray[np.float64]:
    """Search all passages for each query, by cosine; at equal distance a wrong passage ranks before a right one.

    Args:
        queries_QD: Vectors of length 1.
        passages_PD: Vectors of length 1.
        right: The passages that answer each query, at least one.

    Returns:
        For each query: recall@k, the share of its right passages among the k nearest, and the reciprocal rank of the
        nearest right one, [Q, K] in the order of MEASURES.
    """
    measures_QK = np.empty((len(right), len(MEASURES)))
    step = max(1, COSINES_AT_ONCE // len(passages_PD))
    for start in range(0, len(right), step):
        cosines_BP = queries_QD[start : start + step] @ passages_PD.T
        for query, cosines_P in enumerate(cosines_BP, start=start):
            of_right_R = np.sort(cosines_P[list(right[query])])[::-1]
            as_near_R = np.array([np.count_nonzero(cosines_P >= cosine) for cosine in of_right_R])
            right_R = np.array([np.count_nonzero(of_right_R >= cosine) for cosine in of_right_R])
            rank_R = as_near_R - right_R + np.arange(1, len(of_right_R) + 1)
            measures_QK[query] = *((rank_R <= k).mean() for k in NEAREST), 1 / rank_R[0]
    return measures_QK
