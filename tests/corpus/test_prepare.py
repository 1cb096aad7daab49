"""prepare: text to SHARDS, complete or not there."""

import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer

from masklater.corpus import shards as shards_module
from masklater.corpus.prepare import PrepareResult, prepare
from masklater.corpus.settings import PrepareSettings
from masklater.corpus.shards import Shards
from masklater.doctor.examine import examine
from masklater.errors import DamagedDataError, UserError
from masklater.pretrain.loop import pretrain
from tests.conftest import fill_the_disk, make_shards, make_text, tiny
from tests.corpus.kinds import save_kind


def texts_of(shards: Shards, split: str) -> list[str]:
    tokenizer = AutoTokenizer.from_pretrained(shards.folder / "tokenizer")
    rows = getattr(shards, split)
    block = rows.read(np.arange(rows.num_rows))
    texts = []
    for ids, documents in zip(block.ids_NL, block.documents_NL, strict=True):
        for number in range(documents.max() + 1):
            texts.append(tokenizer.decode(ids[documents == number], skip_special_tokens=True))
    return texts


def test_rows_hold_the_text(corpus: Path, shards: Shards) -> None:
    documents = [json.loads(line)["text"] for line in corpus.read_text().splitlines()]
    whole = sorted(document for document in documents if len(document.split()) <= 10)
    packed = texts_of(shards, "train") + texts_of(shards, "valid")
    assert set(whole) <= set(packed)
    assert sorted("".join(packed).replace(" ", "")) == sorted("".join(documents).replace(" ", ""))


def test_counts(shards: Shards, continuous: Shards) -> None:
    for opened in (shards, continuous):
        for entry, rows in ((opened.index.train, opened.train), (opened.index.valid, opened.valid)):
            block = rows.read(np.arange(rows.num_rows))
            special = np.isin(block.ids_NL, opened.vocabulary.special)
            full = block.documents_NL[:, -1] >= 0
            assert entry.tokens == (~special).sum()
            assert entry.full_rows == full.sum()
            assert entry.full_row_maskable == (~special[full]).sum()
            assert entry.mixed_rows == (block.documents_NL.max(axis=1) > 0).sum()
    assert continuous.index.train.full_rows == continuous.index.train.rows
    assert shards.index.train.full_rows < shards.index.train.rows


def test_the_held_out_split_survives_reordering(corpus: Path, tmp_path: Path, shards: Shards) -> None:
    lines = corpus.read_text().splitlines()
    (tmp_path / "b.jsonl").write_text("\n".join(reversed(lines)))
    tokenizer = shards.folder / "tokenizer"
    make_shards(tmp_path / "b.jsonl", tmp_path / "out", tokenizer=tokenizer)
    assert sorted(texts_of(Shards(tmp_path / "out"), "valid")) == sorted(texts_of(shards, "valid"))


def test_few_documents_still_hold_one_out(tmp_path: Path) -> None:
    for number in range(4):
        (tmp_path / f"{number}.txt").write_text(make_text(number, 100))
    result = prepare([tmp_path], tmp_path / "out", PrepareSettings(vocab_size=300, row_length=16))
    assert result.valid_rows > 0
    assert result.train_rows > result.valid_rows


def test_one_document_cannot_be_split(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(make_text(0, 100))
    with pytest.raises(UserError, match=r"one single document, .*\n.*--documents line"):
        prepare([tmp_path], tmp_path / "out", PrepareSettings(vocab_size=300))
    result = prepare([tmp_path], tmp_path / "out", PrepareSettings(vocab_size=300, valid_fraction=0))
    assert result.valid_rows == 0


@pytest.mark.parametrize("times", [1, 20, 1500])
def test_documents_that_are_all_equal_cannot_be_split(tmp_path: Path, times: int) -> None:
    """Held out is what a text's hash says: the same for all of them."""
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    (corpus / "a.jsonl").write_text("\n".join([json.dumps({"text": make_text(0, 100)})] * times))
    said = "one single document" if times == 1 else f"the {times:,} documents of the input have one and the same text"
    remedy = "Give each document a record of its own" if times == 1 else "Name with --text-field a field that differs"
    with pytest.raises(UserError, match=rf"{said}.*\n  {remedy}.*--valid-fraction 0"):
        prepare([corpus], tmp_path / "out", PrepareSettings(vocab_size=300))
    (corpus / "b.jsonl").write_text(json.dumps({"text": make_text(1, 100)}))
    for fraction in (0.0001, 0.5):  # two texts: one of them, however often it stands there
        out = tmp_path / f"out-{fraction}"
        result = prepare([corpus], out, PrepareSettings(vocab_size=300, row_length=16, valid_fraction=fraction))
        assert result.train_rows and result.valid_rows


def test_empty_input(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n \n")
    for fraction in (0.0, 0.01):
        with pytest.raises(UserError, match="every document is empty"):
            prepare([tmp_path], tmp_path / "out", PrepareSettings(vocab_size=300, valid_fraction=fraction))
    assert not list(tmp_path.glob("out*"))


def test_workers_and_shard_size_change_nothing(
    corpus: Path, tmp_path: Path, shards: Shards, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards_module, "SHARD_BYTES", 32 * 2 * 7)
    make_shards(corpus, tmp_path / "small", workers=1)
    small = Shards(tmp_path / "small")
    assert len(small.index.train.shards) > 5
    everything = np.arange(shards.train.num_rows)
    shuffled = np.random.default_rng(0).permutation(everything)
    expected, got = shards.train.read(shuffled), small.train.read(shuffled)
    assert (expected.ids_NL == got.ids_NL).all() and (expected.documents_NL == got.documents_NL).all()
    firsts = [shard.first_document for shard in small.index.train.shards]
    assert firsts == np.cumsum([0, *(shard.documents for shard in small.index.train.shards[:-1])]).tolist()


OPEN = """
import resource, sys
from pathlib import Path
soft, hard = map(int, sys.argv[2:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
from masklater.corpus.shards import Shards
from masklater.errors import UserError
try:
    shards = Shards(Path(sys.argv[1]))
    shards.train.read(__import__("numpy").arange(shards.train.num_rows))
    print(len(shards.train.shards))
except UserError as error:
    print(type(error).__name__, error)
"""


def test_more_shards_than_the_usual_number_of_open_files(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards_module, "SHARD_BYTES", 32 * 2 * 2)  # two rows a shard
    folder = make_shards(corpus, tmp_path / "shards")
    shards = len(list(folder.glob("train-*.rows")))
    assert 2 * shards > 64

    def opened(soft: int, hard: int) -> str:
        arguments = [sys.executable, "-c", OPEN, str(folder), str(soft), str(hard)]
        return subprocess.run(arguments, capture_output=True, text=True, check=True, timeout=300).stdout

    assert opened(64, 2000) == f"{shards}\n"
    refused = opened(64, 64)
    assert refused.startswith("UserError") and "more shards than this process may have files open (64;" in refused
    assert "ulimit -n" in refused


def test_an_existing_folder_is_not_touched(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    with pytest.raises(UserError, match="exists already"):
        make_shards(corpus, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]


def test_a_full_disk_leaves_nothing_behind(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill_the_disk(monkeypatch, "train-00000.rows")
    with pytest.raises(UserError, match=r"the disk is full: .*out could not be written"):
        make_shards(corpus, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def copy(shards_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(shards_folder, tmp_path / "copy"))


def test_a_sound_folder_verifies(copy: Path) -> None:
    Shards(copy).verify()


def test_truncated_shard(copy: Path) -> None:
    path = copy / "train-00000.rows"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(DamagedDataError, match=r"train-00000\.rows has .* bytes where the index says .*truncated"):
        Shards(copy)


@pytest.mark.parametrize("name", ["train-00000.rows", "train-00000.starts", "valid-00000.rows"])
def test_flipped_byte(copy: Path, name: str) -> None:
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(DamagedDataError, match=rf"{name}: the content has changed"):
        Shards(copy).verify()


def test_missing_shard(copy: Path) -> None:
    (copy / "valid-00000.starts").unlink()
    with pytest.raises(DamagedDataError, match=r"valid-00000\.starts is missing"):
        Shards(copy)


def test_another_tokenizer_in_the_folder(copy: Path) -> None:
    path = copy / "tokenizer" / "tokenizer.json"
    path.write_text(path.read_text().replace("kan", "kam"))
    with pytest.raises(DamagedDataError, match="is not the one its rows were made with"):
        Shards(copy)


@pytest.mark.parametrize("damage", ["{", "[]", '{"format": 1}'])
def test_damaged_index(copy: Path, damage: str) -> None:
    (copy / "index.json").write_text(damage)
    with pytest.raises(DamagedDataError, match=r"index\.json is damaged"):
        Shards(copy)


def test_a_format_of_the_future(copy: Path) -> None:
    index = json.loads((copy / "index.json").read_text())
    (copy / "index.json").write_text(json.dumps({**index, "format": 99}))
    with pytest.raises(UserError, match="has format 99; this version reads formats 1 to 4"):
        Shards(copy)


def test_shards_of_the_first_format_are_read_as_ever(copy: Path) -> None:
    index = json.loads((copy / "index.json").read_text())
    checksum = index.pop("checksum")
    (copy / "index.json").write_text(json.dumps({**index, "format": 1}))
    Shards(copy).verify()
    (copy / "index.json").write_text(json.dumps({**index, "format": 1, "checksum": checksum}))
    with pytest.raises(DamagedDataError, match="its checksum does not match"):
        Shards(copy)


def test_no_shards_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no folder"):
        Shards(tmp_path / "nowhere")
    with pytest.raises(UserError, match="is no SHARDS folder"):
        Shards(tmp_path)


def test_large_vocabularies_take_four_bytes() -> None:
    assert shards_module.row_dtype(65_536) is np.uint16
    assert shards_module.row_dtype(65_537) is np.uint32
    assert shards_module.row_dtype(32_768, marked=True) is np.uint16
    assert shards_module.row_dtype(32_769, marked=True) is np.uint32


def unknown_text(folder: Path, known: int, unknown: int) -> Path:
    """A file of so many characters, each a token, that a tokenizer of characters knows, and does not know."""
    save_kind("characters", folder / "characters")
    (folder / "text.txt").write_text("A" * known + "é" * unknown)
    return folder / "text.txt"


def prepare_characters(folder: Path, out: str, **settings: object) -> PrepareResult:
    wanted = {"tokenizer": folder / "characters", "row_length": 16, "valid_fraction": 0.0, **settings}
    return prepare([folder / "text.txt"], folder / out, PrepareSettings(**wanted))  # type: ignore[arg-type]


def test_unknown_tokens_are_counted_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unknown_text(tmp_path, 190, 10)
    result = prepare_characters(tmp_path, "out")
    assert (result.unknown_tokens, result.unknown_share) == (10, 0.05)
    assert "5.0% of the tokens (10 of 200) are <unk>" in capsys.readouterr().err
    assert Shards(tmp_path / "out").index.source["unknown_tokens"] == 10
    found = examine(tmp_path / "out")
    assert found.facts["unknown tokens"] == "10, 5.00% of all tokens"
    assert any("5.0% of the tokens are unknown" in note for note in found.notes)
    assert not found.problems


def test_a_few_unknown_tokens_are_only_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unknown_text(tmp_path, 198, 2)
    assert prepare_characters(tmp_path, "out").unknown_tokens == 2
    assert "<unk>" not in capsys.readouterr().err
    assert not any("<unk>" in note or "unknown" in note for note in examine(tmp_path / "out").notes)


def test_many_unknown_tokens_are_refused_unless_told_otherwise(tmp_path: Path) -> None:
    unknown_text(tmp_path, 70, 30)
    with pytest.raises(UserError, match=r"30\.0% of the tokens \(30 of 100\) are <unk>.*\n.*--max-unknown 0\.3"):
        prepare_characters(tmp_path, "out")
    assert not list(tmp_path.glob("out*"))
    assert prepare_characters(tmp_path, "out", max_unknown=0.3).unknown_tokens == 30


def test_wordpiece_does_not_know_a_text_without_spaces(tmp_path: Path) -> None:
    (tmp_path / "dna.txt").write_text("".join(random.Random(0).choices("ACGT", k=2000)))
    settings = PrepareSettings(train_tokenizer="wordpiece", vocab_size=300, valid_fraction=0)
    with pytest.raises(UserError, match=r"100\.0% .* are \[UNK\].*no word of more than 100 characters"):
        prepare([tmp_path / "dna.txt"], tmp_path / "out", settings)


def without_unknown(folder: Path, model: dict, tokenizer_too: bool) -> None:  # type: ignore[type-arg]
    """Save the tokenizer of characters again with another model, and without an unknown token of its own."""
    path = folder / "characters" / "tokenizer.json"
    pipeline = json.loads(path.read_text())
    path.write_text(json.dumps({**pipeline, "model": {"vocab": pipeline["model"]["vocab"], **model}}))
    if tokenizer_too:
        config = json.loads((folder / "characters" / "tokenizer_config.json").read_text())
        del config["unk_token"]
        (folder / "characters" / "tokenizer_config.json").write_text(json.dumps(config))


WITHOUT_UNKNOWN = {
    "word level": {"type": "WordLevel", "unk_token": "<none>"},
    "bpe": {"type": "BPE", "merges": [], "unk_token": None},
}


@pytest.mark.parametrize("model", WITHOUT_UNKNOWN)
def test_a_model_is_given_the_tokenizers_unknown_token(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unknown_text(tmp_path, 98, 2)
    without_unknown(tmp_path, WITHOUT_UNKNOWN[model], False)
    assert prepare_characters(tmp_path, "out").unknown_tokens == 2
    assert "the tokenizer does not put <unk> for what it does not know; its copy" in capsys.readouterr().err
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out" / "tokenizer")
    assert tokenizer.tokenize("Aé") == ["A", "<unk>"]


def test_a_bpe_that_leaves_out_what_it_does_not_know(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unknown_text(tmp_path, 98, 2)
    without_unknown(tmp_path, WITHOUT_UNKNOWN["bpe"], True)
    assert prepare_characters(tmp_path, "out").tokens == 98
    assert "characters that it does not know are left out, uncounted" in capsys.readouterr().err


def test_a_tokenizer_without_an_unknown_token_and_a_text_it_does_not_know(tmp_path: Path) -> None:
    unknown_text(tmp_path, 100, 1)
    without_unknown(tmp_path, WITHOUT_UNKNOWN["word level"], True)
    with pytest.raises(UserError, match=r"the tokenizer cannot encode the text: .*UNK"):
        prepare_characters(tmp_path, "out")
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize("last", ["river", "[MASK]"])
def test_an_entry_that_stands_twice_leaves_a_gap(last: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever comes last in the file, its id is in the vocabulary."""
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    entries = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    entries += ["river", "the", "river", *map(str, range(10))]
    entries = [entry for entry in entries if entry != last or last == "river"] + [last]
    (tmp_path / "vocab").mkdir()
    (tmp_path / "vocab" / "vocab.txt").write_text("\n".join(entries) + "\n")
    config = {"tokenizer_class": "BertTokenizer", "do_lower_case": True}
    (tmp_path / "vocab" / "tokenizer_config.json").write_text(json.dumps(config))
    (tmp_path / "text.txt").write_text("\n".join(f"The tree by the river number {i} river" for i in range(40)))
    settings = {"tokenizer": tmp_path / "vocab", "documents": "line", "row_length": 32}
    shards = Shards(make_shards(tmp_path / "text.txt", tmp_path / "shards", **settings))
    assert shards.vocabulary.size == len(entries)
    assert f"of the {len(entries)} ids have no entry" in capsys.readouterr().err
    assert len(entries) - 1 in shards.train.read(np.arange(shards.train.num_rows)).ids_NL or last == "[MASK]"
    assert len(shards.words.begins_V) == len(entries)
    assert not examine(shards.folder).problems
    for recipe in ("3ml-small", "3ml-whole-word-small"):
        assert pretrain(tiny(recipe, "duration.steps=1"), shards.folder, tmp_path / recipe).steps == 1
