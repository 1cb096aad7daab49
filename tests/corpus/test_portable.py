"""The tokenizer beside SHARDS and beside an encoder: a text gives the row it was packed as, in every transformers."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer

from masklater.corpus.prepare import prepare
from masklater.corpus.settings import PrepareSettings
from masklater.corpus.shards import Shards
from masklater.corpus.tokenizer import load, save
from tests.corpus.kinds import KINDS, TEXTS, save_kind
from tests.corpus.test_split import HINDI

CLASSES = {
    "bpe": "RobertaTokenizer",
    "bpe with a prefix space": "RobertaTokenizer",
    "bert": "BertTokenizer",
    "xlm-roberta": "XLMRobertaTokenizer",
    "camembert": "CamembertTokenizer",
}
"""All others are their tokenizer.json alone."""


def config_of(folder: Path) -> dict:  # type: ignore[type-arg]
    return json.loads((folder / "tokenizer_config.json").read_text())


@pytest.mark.parametrize("ends", [True, False], ids=["adds the ends", "adds nothing"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_text_gives_the_row_that_prepare_makes_of_it(
    kind: str, ends: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = [*TEXTS, HINDI] if kind.startswith("bpe") else TEXTS
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    source = save_kind(kind, tmp_path / "source", ends)
    settings = PrepareSettings(tokenizer=source, row_length=256, valid_fraction=0, max_unknown=1)
    prepare([tmp_path / "texts.jsonl"], tmp_path / "shards", settings)
    bos = AutoTokenizer.from_pretrained(source).convert_ids_to_tokens(Shards(tmp_path / "shards").vocabulary.bos)
    assert (f"does not add {bos} and " in capsys.readouterr().err) == (not ends)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "shards" / "tokenizer")
    assert sorted(map(tuple, tokenizer(texts)["input_ids"])) == sorted(packed_texts(Shards(tmp_path / "shards")))


def packed_texts(shards: Shards) -> Iterator[tuple[int, ...]]:
    """Each document as it stands in its row, which begins with <s>; so does a document that stands there alone."""
    block = shards.train.read(np.arange(shards.train.num_rows))
    for ids_L, documents_L in zip(block.ids_NL.tolist(), block.documents_NL, strict=True):
        assert ids_L[0] == shards.vocabulary.bos
        for document in range(documents_L.max() + 1):
            own = [token for token, of in zip(ids_L[1:], documents_L[1:], strict=True) if of == document]
            yield (ids_L[0], *own)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_saved_is_known_to_transformers_4_and_5(kind: str, tmp_path: Path) -> None:
    source = load(save_kind(kind, tmp_path / "source"))
    save(source, tmp_path / "saved", 77)
    config = config_of(tmp_path / "saved")
    assert config["tokenizer_class"] == CLASSES.get(kind, "PreTrainedTokenizerFast")
    assert not {"local_files_only", "is_local", "backend", "extra_special_tokens"} & config.keys()
    assert config["model_max_length"] == 77
    assert config["model_input_names"] == source.model_input_names
    saved = AutoTokenizer.from_pretrained(tmp_path / "saved")
    texts = [*TEXTS, HINDI, f"the {source.mask_token} is", "a  b\n"]
    assert saved(texts)["input_ids"] == source(texts)["input_ids"]
    assert saved(*texts[:2])["input_ids"] == source(*texts[:2])["input_ids"]
    assert saved.special_tokens_map == source.special_tokens_map
    assert saved.all_special_ids == source.all_special_ids


def test_words_passed_one_by_one_keep_their_spaces(tmp_path: Path) -> None:
    save(load(save_kind("bpe", tmp_path / "source")), tmp_path / "saved", 64)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "saved", add_prefix_space=True)
    words = ["The", "tree", "by", "the", "river"]
    assert tokenizer(words, is_split_into_words=True)["input_ids"] == tokenizer(" ".join(words))["input_ids"]
    assert tokenizer.tokenize("tree") == AutoTokenizer.from_pretrained(tmp_path / "saved").tokenize(" tree")
    for kind in ("wordpiece", "unigram", "xlm-roberta"):
        save(load(save_kind(kind, tmp_path / f"source-{kind}")), tmp_path / kind, 64)
        tokenizer = AutoTokenizer.from_pretrained(tmp_path / kind)
        assert tokenizer(words, is_split_into_words=True)["input_ids"] == tokenizer(" ".join(words))["input_ids"]


def test_a_class_that_would_give_other_tokens_is_not_written(tmp_path: Path) -> None:
    """As RobertaTokenizer, transformers 5 would split words at their marks."""
    save(load(save_kind("bpe with marks", tmp_path / "source")), tmp_path / "saved", 64)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert len(tokenizer.tokenize(HINDI)) == len(HINDI.split(" "))
    config = config_of(tmp_path / "saved")
    (tmp_path / "saved" / "tokenizer_config.json").write_text(
        json.dumps({**config, "tokenizer_class": "RobertaTokenizer"})
    )
    assert len(AutoTokenizer.from_pretrained(tmp_path / "saved").tokenize(HINDI)) > len(HINDI.split(" "))
