"""Rows as text."""

import json
import sys
from functools import partial
from pathlib import Path

import pytest

from masklater.cli import main
from masklater.corpus.shards import Shards
from masklater.corpus.show import BORDER, as_text, show_rows
from masklater.errors import UserError
from masklater.masking.choose import words_of_rows
from tests.conftest import make_shards


def test_rows_show_their_documents_and_special_tokens(corpus: Path, shards: Shards) -> None:
    texts = {json.loads(line)["text"] for line in corpus.read_text().splitlines()}
    shown = show_rows(shards, "train", range(shards.train.num_rows))
    assert [row.number for row in shown] == list(range(shards.train.num_rows))
    whole = 0
    for row in shown:
        assert row.documents[0].startswith("<s>") and all(text.endswith("</s>") for text in row.documents)
        for text in row.documents:
            whole += text.removeprefix("<s>").removesuffix("</s>") in texts
    assert whole > 20
    assert show_rows(shards, "train", [3, 0])[0] == shown[3]


def test_full_rows(continuous: Shards) -> None:
    for row in show_rows(continuous, "valid", [0, 1]):
        assert row.positions == 32 and "<pad>" not in "".join(row.documents)


def test_numbers_that_are_not_there(shards: Shards, corpus: Path, tmp_path: Path) -> None:
    count = shards.valid.num_rows
    for number in (-1, count):
        with pytest.raises(UserError, match=rf"there is no row {number} in the valid split .* it has {count} rows"):
            show_rows(shards, "valid", [0, number])
    bare = Shards(make_shards(corpus, tmp_path / "data", valid_fraction=0))
    with pytest.raises(UserError, match=r"it has 0 rows\n.*--split"):
        show_rows(bare, "valid", [0])


def test_words_stand_apart_and_make_up_the_text(shards: Shards) -> None:
    plain = show_rows(shards, "train", range(20))
    apart = show_rows(shards, "train", range(20), partial(words_of_rows, shards))
    for row, same in zip(plain, apart, strict=True):
        assert tuple(text.replace(BORDER, "") for text in same.documents) == row.documents
        first, *words, last = same.documents[0].split(BORDER)
        assert (first, last) == ("<s>", "</s>")
        assert all(word.isalnum() or len(word) == 1 for word in (word.removeprefix(" ") for word in words))


def test_no_text_takes_the_terminal_over(tmp_path: Path) -> None:
    text = "a \x1b]0;title\x07 b\nc\u009b31m d"
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": text}) + "\n" + json.dumps({"text": "e"}))
    shards = Shards(make_shards(tmp_path / "a.jsonl", tmp_path / "data", valid_fraction=0, row_length=64))
    shown = show_rows(shards, "train", [0])
    assert text in "".join(shown[0].documents)
    printed = as_text(shown, "train")
    assert r"a \x1b]0;title\x07 b" in printed and r"c\x9b31m d" in printed
    assert not any(ord(character) < 32 for character in printed if character != "\n")


def test_the_command(shards: Shards, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["0", "2"], ["0", "--words"], ["1", "--split", "valid", "--json"]):
        monkeypatch.setattr(sys, "argv", ["masklater", "rows", str(shards.folder), *arguments])
        with pytest.raises(SystemExit) as leave:
            main()
        assert not leave.value.code
    text, _, last = capsys.readouterr().out.rstrip().rpartition("\n")
    assert text.startswith("row 0 (train): ") and "\n\nrow 2 (train): " in text
    result = json.loads(last)
    assert result["split"] == "valid" and [row["number"] for row in result["rows"]] == [1]
    assert list(result["rows"][0]["documents"]) == list(show_rows(shards, "valid", [1])[0].documents)
