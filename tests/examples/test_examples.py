"""The example scripts run as a user would run them."""

import subprocess
import sys
from pathlib import Path

from transformers import AutoModel, AutoTokenizer

from masklater.corpus.shards import Shards
from tests.conftest import REPOSITORY, make_text
from tests.pretrain.test_start import save_masked_lm

EXAMPLES = REPOSITORY / "examples"


def test_huggingface_trainer(continuous: Shards, tmp_path: Path) -> None:
    save_masked_lm("bert", continuous, tmp_path / "encoder")
    (tmp_path / "texts.txt").write_text("\n".join(make_text(i, 20) for i in range(40)))
    arguments = ["encoder", "texts.txt", "--out", "out", "--steps", "3", "--batch", "4", "--accumulation", "2"]
    done = subprocess.run(
        [sys.executable, EXAMPLES / "huggingface_trainer.py", *arguments, "--row-length", "24"],
        cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    before, after = (AutoModel.from_pretrained(tmp_path / name) for name in ("encoder", "out"))
    assert after.config.model_type == "bert"
    assert not (before.get_input_embeddings().weight == after.get_input_embeddings().weight).all()
    assert AutoTokenizer.from_pretrained(tmp_path / "out").mask_token_id == continuous.vocabulary.mask
