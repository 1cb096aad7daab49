"""fill: what stands in the place of a mask, as text."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from masklater.corpus import tokenizer as tokenizers_
from masklater.errors import UserError
from masklater.model.fill import fill_masks
from tests.corpus.kinds import save_kind

SAID = {"bpe": (" tree", "er"), "wordpiece": (" tree", "er"), "unigram": (" t", "t"), "characters": ("t", "e")}


@pytest.mark.parametrize("kind", SAID)
def test_a_guess_is_a_text_with_its_space(kind: str, tmp_path: Path) -> None:
    """Whichever sign the tokenizer writes for it, or for its absence: a word is told from the end of one."""
    tokenizer = tokenizers_.load(save_kind(kind, tmp_path / "tokenizer"))
    text = f"The{tokenizer.mask_token}"
    logits_V = torch.randn(len(tokenizer))

    def model(input_ids: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=logits_V.expand(*input_ids.shape, -1))

    model.config = SimpleNamespace(row_length=64)  # type: ignore[attr-defined]
    (guesses,) = fill_masks(model, tokenizer, text, len(tokenizer))  # type: ignore[arg-type]
    assert sum(guess.probability for guess in guesses) == pytest.approx(1, abs=1e-4)
    said = {guess.token for guess in guesses}
    assert said >= set(SAID[kind]), sorted(said)


def test_a_text_that_is_no_utf_8_is_told(tmp_path: Path) -> None:
    """As Python hands on the bytes of a terminal in Latin-1."""
    tokenizer = tokenizers_.load(save_kind("bpe", tmp_path / "tokenizer"))
    with pytest.raises(UserError, match=r"the text 'caf.udce9 <mask>' is not UTF-8"):
        fill_masks(SimpleNamespace(), tokenizer, "caf\udce9 <mask>", 1)  # type: ignore[arg-type]
