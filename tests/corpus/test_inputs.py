"""Inputs of every kind to sources: patterns, standard input, fsspec's addresses, data sets; what came of each."""

import gzip
import importlib.util
import json
import os
import subprocess
import sys
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import fsspec
import pytest
from backports import zstd
from pyarrow import ipc

from masklater.corpus import hub_rows
from masklater.corpus.data_set_folder import NO_ROWS
from masklater.corpus.elsewhere import STDIN_SHOWN
from masklater.corpus.index import read_index
from masklater.corpus.inputs import check_unchanged, file_states, find_sources
from masklater.corpus.made_of_text import MADE_OF_TEXT
from masklater.corpus.prepare import PrepareResult, prepare
from masklater.corpus.read import ReadCounts, read_documents
from masklater.corpus.settings import PrepareSettings
from masklater.corpus.shards import Shards
from masklater.errors import UserError
from tests.conftest import DATA, make_text
from tests.corpus.test_readers import FORMS, as_arrow
from tests.golden.test_shards import digests
from tests.stand_in_hub import stand_in_for_data_sets

ROWS: list[dict[str, Any]] = [
    {"id": i, "language": "ende"[i % 2 * 2 :][:2], "text": make_text(i, 8 + i)} for i in range(30)
]
SETTINGS = {"vocab_size": 300, "row_length": 16, "workers": 1}


def texts_of(inputs: list[str | Path], **settings: Any) -> list[str]:
    sources = find_sources(inputs, PrepareSettings(**settings), Counter())
    return [document.text for source in sources for document in read_documents(source, ReadCounts())]


def prepared(inputs: list[str | Path], out: Path, **settings: Any) -> PrepareResult:
    return prepare(inputs, out, PrepareSettings(**{**SETTINGS, **settings}))


def test_patterns_that_no_shell_has_expanded(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt", "c.jsonl", "d.pdf", "sub/e.txt", "sub/deep/f.txt", "[x].txt", "[x]/g.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text('{"text": "c"}' if name.endswith("jsonl") else Path(name).stem)
    passed_over: Counter[str] = Counter()
    (source,) = find_sources([f"{tmp_path}/[a-d].*"], PrepareSettings(), passed_over)
    assert [file.name for file in source.files] == ["a.txt", "b.txt", "c.jsonl"] and passed_over == {".pdf": 1}
    assert sorted(texts_of([f"{tmp_path}/**/*.txt"])) == ["[x]", "a", "b", "e", "f", "g"]
    assert texts_of([f"{tmp_path}/s?b"]) == ["f", "e"]  # a folder is searched
    assert texts_of([f"{tmp_path}/[x].txt"]) == ["[x]"]  # a file of that name comes first
    with pytest.raises(UserError, match=r"\*\.docx matches no text"):
        texts_of([f"{tmp_path}/*.docx"])
    with pytest.raises(UserError, match=r"\*\.pdf matches no text: .*; it matches: 1 \.pdf"):
        texts_of([f"{tmp_path}/*.pdf"])


def test_a_name_that_is_no_text(tmp_path: Path) -> None:
    """Paths may hold bytes that are no UTF-8; records of what was read are."""
    path = tmp_path / "caf\udce9.txt"
    path.write_text("One line.\nAnd another one.")
    prepared([path], tmp_path / "out", documents="line")
    assert read_index(tmp_path / "out").source["sources"][0].name.endswith("caf\\udce9.txt")


def test_files_of_other_endings_are_read_as_they_are_said_to_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where they are named, or a pattern asks for them; what has an ending that is known stays what it is."""
    monkeypatch.chdir(tmp_path)
    for name, content in (
        ("src/a.py", "def a(): pass"), ("src/deep/b.py", "def b(): pass"), ("src/c.jsonl", '{"text": "c"}'),
        ("src/.hidden.py", "no"), ("src/d.png", "\x89PNG"), ("table", "text\none\n"),
    ):  # fmt: skip
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(content)
    Path("packed.dat").write_bytes(gzip.compress(b"packed text"))
    assert texts_of(["src/**/*.py"], read_as="txt") == ["def a(): pass", "def b(): pass"]
    assert texts_of(["src/a.py", "src/c.jsonl"], read_as=".txt") == ["def a(): pass", "c"]
    assert texts_of(["table"], read_as="csv") == ["one"]
    assert texts_of(["packed.dat"], read_as="txt.gz") == ["packed text"]
    Path("packed.py.GZ").write_bytes(gzip.compress(b"packed code"))
    for ending in ("txt", ".txt", "txt.gz"):  # its name says already that it is packed
        assert texts_of(["*.py.GZ"], read_as=ending) == texts_of(["packed.py.GZ"], read_as=ending) == ["packed code"]
    assert texts_of(["src", "src/a.py"], read_as="txt") == ["c", "def a(): pass"]  # a folder holds whatever it holds
    for inputs in (["src"], ["src/c.jsonl"]):
        with pytest.raises(UserError, match="--read-as txt: nothing is read so"):
            texts_of([*inputs], read_as="txt")
    with pytest.raises(UserError, match=r"a\.py does not end in .*\n.*--read-as txt for plain text, source code too"):
        texts_of(["src/a.py"])
    with pytest.raises(UserError, match=r"'src/deep/\*\*/\*'.*--read-as txt"):
        texts_of(["src/deep"])
    with pytest.raises(UserError, match=r"src/\*\.py matches no text.*; it matches: 1 \.py\n.*--read-as txt"):
        texts_of(["src/*.py"])

    text = "\n".join(make_text(number, 30) for number in range(40))
    for name in ("a.txt", "b.log"):
        Path(name).write_text(text)
    prepared(["a.txt"], tmp_path / "one", documents="line")
    other = prepared(["b.log"], tmp_path / "other", documents="line", read_as="txt", workers=2)
    assert digests(tmp_path / "one") == digests(tmp_path / "other")
    assert other.sources[0]["name"] == "b.log"
    with pytest.raises(UserError, match=r"b\.log, line 1: not JSON"):
        prepared(["b.log"], tmp_path / "wrong", read_as="jsonl")
    capsys.readouterr()
    prepared(["b.log", "b.log"], tmp_path / "twice", documents="line", read_as="txt")
    assert "named 2 times, and read as often: b.log" in capsys.readouterr().err


EFFECTS: dict[str, tuple[dict[str, Any], list[str], list[str], str]] = {
    "documents": (
        {"documents": "line"}, ["a.txt"], ["a.jsonl", "a.parquet", "a.csv.gz", "a.fasta"],
        r"--documents line cuts plain text, and the input is records",
    ),
    "text field": (
        {"text_field": "body"}, ["a.jsonl", "a.parquet", "a.fasta"], ["a.txt", "b.md.gz"],
        r"--text-field body is about the fields of records, and the input is plain text",
    ),
    "null texts": (
        {"null_texts": "skip"}, ["a.jsonl", "a.csv.gz"], ["a.txt", "b.md.gz"],
        r"--null-texts skip is about the fields of records, and the input is plain text",
    ),
    "encoding": (
        {"encoding": "latin-1"}, ["a.txt", "a.jsonl", "a.csv.gz", "a.fasta"], ["a.parquet", "a.arrow", "a.xml"],
        r"--encoding latin-1 is of text files, and the input says itself",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", EFFECTS)
def test_an_option_by_which_nothing_is_read_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options, acted_on, others, message = EFFECTS[name]
    settings = PrepareSettings(**options)
    for file in (*acted_on, *others):
        Path(file).write_text("not looked into")
    for inputs in (others, *([one] for one in others)):
        with pytest.raises(UserError, match=rf"{message}.*\n.*Leave it out"):
            find_sources(inputs, settings, Counter())
    for one in acted_on:
        assert len(find_sources([one], settings, Counter())) == 1
        assert len(find_sources([*others, one], settings, Counter())) == len(others) + 1
    assert len(find_sources(["."], settings, Counter())[0].files) == len(acted_on) + len(others)
    assert len(find_sources(others, PrepareSettings(), Counter())) == len(others)


def piped(content: bytes, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    given = [
        sys.executable,
        "-m",
        "masklater",
        "prepare",
        "-",
        "--out",
        "out",
        "--vocab-size",
        "300",
        "--row-length",
        "16",
    ]
    done = subprocess.run(
        [*given, *arguments], cwd=folder, input=content, capture_output=True, check=False, timeout=300
    )
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


@pytest.mark.slow
def test_standard_input_gives_the_rows_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(FORMS["jsonl"](ROWS))
    prepared([tmp_path / "a.jsonl"], tmp_path / "file")
    done = piped((tmp_path / "a.jsonl").read_bytes(), tmp_path, "--json")
    assert done.returncode == 0, done.stderr
    size = (tmp_path / "a.jsonl").stat().st_size
    assert (
        f"standard input: {size:,} bytes, kept in a temporary file (it is read more than once), taken for .jsonl"
        in done.stderr
    )
    assert digests(tmp_path / "out") == digests(tmp_path / "file")
    assert json.loads(done.stdout.splitlines()[-1])["sources"][0]["name"] == "-"


def with_stdin(content: bytes, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> list[str]:
    reading, writing = os.pipe()
    os.write(writing, content)
    os.close(writing)
    with os.fdopen(reading) as file:
        monkeypatch.setattr(sys, "stdin", file)
        return texts_of(["-"], **settings)


@pytest.mark.parametrize("form", ["jsonl", "json", "parquet", "arrow"])
def test_standard_input_is_told_from_how_it_begins(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert with_stdin(FORMS[form](ROWS), monkeypatch) == [row["text"] for row in ROWS]


def test_a_stream_of_arrow_is_told_from_how_it_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    assert with_stdin(as_arrow(ROWS, ipc.new_stream), monkeypatch) == [row["text"] for row in ROWS]


def test_standard_input_is_what_it_is_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    csv = FORMS["csv"](ROWS)
    assert with_stdin(csv, monkeypatch, read_as="csv") == [row["text"] for row in ROWS]
    assert len(with_stdin(csv, monkeypatch)) == 1  # plain text, said aloud
    packed = gzip.compress(csv)
    assert with_stdin(packed, monkeypatch, read_as=".csv.gz") == [row["text"] for row in ROWS]
    with pytest.raises(UserError, match=r"standard input is compressed \(\.gz\).*\n.*--read-as jsonl\.gz"):
        with_stdin(packed, monkeypatch)
    with pytest.raises(UserError, match=r"It begins as \.gz does: if it is one, say so with --read-as txt\.gz\."):
        with_stdin(packed, monkeypatch, read_as="txt")
    with pytest.raises(UserError, match=r"--read-as 'docx' is no ending that is read"):
        with_stdin(csv, monkeypatch, read_as="docx")
    with pytest.raises(UserError, match="and it is empty"):
        with_stdin(b"", monkeypatch)
    with pytest.raises(UserError, match="- stands twice"):
        texts_of(["-", "-"])
    with pytest.raises(UserError, match=rf"{STDIN_SHOWN}: no field 'body'"):
        with_stdin(FORMS["parquet"](ROWS), monkeypatch, text_field="body,id")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[CHAPTER I]\nIt was so.\n", r"not JSON"), ("[1] A note.\n", r"line 1: a int, not an object"),
        ('["so"] she said.\n', r"a str, not an object"), ("[] is empty.\n", r"something stands behind the array"),
        ("{{Infobox}}\n", r"line 1: not JSON"), (f"[{chr(0xDCE9) * 9}]\n", r"--encoding, such as cp1252"),
    ],
)  # fmt: skip
def test_plain_text_that_begins_as_json_does(text: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the kind was guessed, the user is told how to say it."""
    content = text.encode("utf-8", "surrogateescape")
    for documents in ("file", "line"):
        expected = message if documents == "file" else "--documents line cuts plain text, and the input is records"
        with pytest.raises(UserError, match=rf"(?s){expected}.* plain text is read with --read-as txt\."):
            with_stdin(content, monkeypatch, documents=documents)
    if content.isascii():
        assert with_stdin(content, monkeypatch, documents="line", read_as="txt") == text.splitlines()
    for settings in ({}, {"documents": "line"}):
        with pytest.raises(UserError) as said:
            with_stdin(content, monkeypatch, read_as="jsonl", **settings)
        assert "--read-as" not in str(said.value)


@pytest.fixture
def bucket() -> str:
    """Files that fsspec holds in memory, under the name of a bucket."""
    files = fsspec.filesystem("memory")
    for name, form in (("a.jsonl", "jsonl"), ("sub/b.parquet", "parquet"), ("sub/c.csv", "csv")):
        files.pipe(f"/bucket/{name}", FORMS[form](ROWS))
    files.pipe("/bucket/notes.pdf", b"no text")
    files.pipe("/bucket/.hidden/d.jsonl", b"{}")
    return "memory://bucket"


def test_addresses_are_read_by_fsspec(bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = [row["text"] for row in ROWS]
    assert texts_of([f"{bucket}/a.jsonl"]) == texts
    assert texts_of([f"{bucket}/sub/b.parquet"]) == texts
    assert texts_of([bucket]) == texts * 3
    assert texts_of([f"{bucket}/sub/*.csv"]) == texts
    fsspec.filesystem("memory").pipe("/bucket/.hidden/d.jsonl", FORMS["jsonl"](ROWS[:1]))
    assert texts_of([f"{bucket}/.hidden"]) == texts_of([f"{bucket}/.hidden/*"]) == texts[:1]  # named, and so meant
    assert (
        texts_of([f"{bucket}/notes.pdf"], read_as="txt") == texts_of([f"{bucket}/*.pdf"], read_as="txt") == ["no text"]
    )
    fsspec.filesystem("memory").pipe("/code/a.py.gz", gzip.compress(b"packed code"))
    assert texts_of(["memory://code/a.py.gz"], read_as="txt") == ["packed code"]
    assert texts_of(["memory://code/*.gz"], read_as="txt") == ["packed code"]
    result = prepared([bucket], tmp_path / "out")
    assert result.passed_over == {".pdf": 1} and result.read.files == 3
    assert "what is not on this machine is read again in each pass" in capsys.readouterr().err


def test_a_data_set_that_was_saved(tmp_path: Path) -> None:
    """By `save_to_disk`: records of it lie beside its rows, and what `map` and `filter` computed later."""
    datasets = pytest.importorskip("datasets")
    rows = datasets.Dataset.from_list([{"text": "one"}, {"text": "two"}, {"text": "three"}])
    one, several = tmp_path / "one", tmp_path / "several"
    datasets.DatasetDict({"train": rows}).save_to_disk(one)
    datasets.DatasetDict({"train": rows, "test": rows.select([0])}).save_to_disk(several)
    for top in (str(tmp_path), f"file://{tmp_path}"):
        saved = datasets.load_from_disk(str(several / "train"))
        saved.filter(lambda row: row["text"] != "two", load_from_cache_file=False)
        if top == str(tmp_path):
            assert list((several / "train").glob("cache-*.arrow"))
        for name, records in (("one", 3), ("one/train", 2), ("several/train", 2)):
            passed_over: Counter[str] = Counter()
            (source,) = find_sources([f"{top}/{name}"], PrepareSettings(), passed_over)
            texts = [document.text for document in read_documents(source, ReadCounts())]
            assert texts == ["one", "two", "three"]
            cached = len(list((tmp_path / name).rglob("cache-*")))
            assert passed_over == {NO_ROWS: records + cached}
        assert texts_of([f"{top}/several/*/*.arrow"]) == ["one", "one", "two", "three"]  # named, and so meant
        for folder in ("several", ""):
            with pytest.raises(UserError, match=r"/several is a data set of several splits: test, train") as refused:
                texts_of([f"{top}/{folder}"])
            assert texts_of([refused.value.remedy.removeprefix("Name those to be read, as in ")[:-1]])[0] == "one"
    assert texts_of([f"hf:{one}"]) == texts_of([f"hf:{one}/train"]) == ["one", "two", "three"]
    assert texts_of([f"hf:{several}#test"]) == ["one"]
    with pytest.raises(UserError, match=r"has no split 'dev'; it has train, test"):
        texts_of([f"hf:{several}#dev"])


def test_what_was_made_of_text_is_no_text_elsewhere_either(tmp_path: Path) -> None:
    texts = {"a.txt": "one", "run/run.json": "{}", "run/recipe.yaml": "", "run/tokenizer/a.json": '{"text": "no"}',
             "b/out.partial-7/rows-64/b.txt": "no", "b/c.txt": "two"}  # fmt: skip
    for name, text in texts.items():
        (tmp_path / "all" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "all" / name).write_text(text)
        fsspec.filesystem("memory").pipe(f"/all/{name}", text.encode())
    for all_of_it in (f"file://{tmp_path}/all", f"file://{tmp_path}/all/", "memory://all", "memory://all/"):
        passed_over: Counter[str] = Counter()
        (source,) = find_sources([all_of_it], PrepareSettings(), passed_over)
        assert [Path(file.name).name for file in source.files] == ["a.txt", "c.txt"]
        assert passed_over == {MADE_OF_TEXT: 2}
        top = all_of_it.rstrip("/")
        assert texts_of([f"{top}/**/*.txt"]) == ["one", "two"]
        assert texts_of([f"{top}/run/tokenizer/*.json"]) == ["no"]  # named, and so meant
        with pytest.raises(UserError, match=r"/run/? is no corpus: it is one of the folders of rows"):
            texts_of([f"{top}/run"])
        with pytest.raises(UserError, match=r"/b/out\.partial-7 is no corpus"):
            texts_of([f"{top}/b/out.partial-7"])
    (tmp_path / "all/a.txt").unlink()
    (tmp_path / "all/b/c.txt").unlink()
    with pytest.raises(UserError, match=r"holds no text: .*; it holds: 2 folders of rows"):
        texts_of([f"file://{tmp_path}/all"])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("memory://bucket/no.jsonl", "cannot be listed|there is no file"),
        ("memory://bucket/notes.pdf", "does not end in"),
        ("nosuch://bucket/a.jsonl", "cannot be listed: Protocol not known"),
        ("s3://bucket/a.jsonl", r"[Ii]nstall s3fs.*\n.*pip install 'masklater\[s3\]'"),
        ("gs://bucket/a.jsonl", r"install gcsfs.*\n.*pip install 'masklater\[gs\]'"),
    ],
)
def test_addresses_that_lead_nowhere(bucket: str, name: str, message: str) -> None:
    if name[:2] in {"s3", "gs"} and importlib.util.find_spec({"s3": "s3fs", "gs": "gcsfs"}[name[:2]]):
        pytest.skip("the library is installed")
    with pytest.raises(UserError, match=message):
        texts_of([name])


def test_a_data_set_is_streamed_row_by_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder stands in for the hub; the same rows as of the file itself."""
    monkeypatch.chdir(tmp_path)
    Path("dataset").mkdir()
    Path("dataset/train.parquet").write_bytes(FORMS["parquet"](ROWS))
    settings = {"text_field": "id_text", "filters": ("language=en",)}
    with pytest.raises(UserError, match=r"hf:dataset: no field 'id_text'; the record has 'id', 'language', 'text'"):
        texts_of(["hf:dataset"], **settings)
    result = prepared(["hf:dataset"], Path("hub"), filters=("language=en",))
    assert "hf:dataset: split train, a folder of this machine" in capsys.readouterr().err
    assert (result.read.documents, result.read.filtered, result.sources[0]["revision"]) == (15, 15, None)
    prepared(["dataset"], Path("file"), filters=("language=en",))
    assert digests(Path("hub")) == digests(Path("file"))


class Streamed:
    """What `datasets` gives for one split, as far as it is used."""

    info = None
    column_names = ("text",)

    def select_columns(self, names: list[str]) -> list[dict[str, str]]:
        assert names == ["text"]
        return [{"text": row["text"]} for row in ROWS]


def test_a_data_set_of_the_hub_is_one_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = stand_in_for_data_sets(monkeypatch, lambda: {"train": Streamed()})
    result = prepared(["hf:owner/name:20231101.en@v2"], tmp_path / "out")
    assert asked == [("owner/name", "v2"), ("owner/name", "20231101.en", {"revision": "c" * 40, "streaming": True})]
    assert result.sources[0]["revision"] == "c" * 40
    (entry,) = Shards(tmp_path / "out").index.source["sources"]  # type: ignore[misc]
    assert (entry.name, entry.revision, entry.documents) == ("hf:owner/name:20231101.en@v2", "c" * 40, 30)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hf:", "is no data set of the hub"), ("hf:a/b@c@d", "is no data set of the hub"), ("hf:a:b:c", "is no data set"),
        ("hf:nobody/nothing", "hf:nobody/nothing cannot be opened: "),
    ],
)  # fmt: skip
def test_data_sets_that_are_not_there(name: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*anything: object) -> str:
        raise OSError("no route to the hub")

    monkeypatch.setattr(hub_rows, "_commit", no_network)
    with pytest.raises(UserError, match=message):
        texts_of([name])


def test_a_data_set_without_a_training_split_names_those_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("dataset").mkdir()
    Path("dataset/validation.jsonl").write_bytes(FORMS["jsonl"](ROWS))
    with pytest.raises(UserError, match=r"hf:dataset has no split 'train'; it has validation"):
        texts_of(["hf:dataset"])


CONFIGURATIONS = """---
configs:
- {config_name: als, data_files: als.jsonl}
- {config_name: deu, data_files: deu.jsonl}
---
"""


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hf:several", r"several configurations, and none is named: als, deu\n.*hf:several:als"),
        ("hf:several:xyz", r"has no configuration 'xyz'; it has als, deu\n.*hf:several:als"),
        ("hf:script", r"scripts are no longer supported.*\n.*hf download --repo-type dataset script"),
    ],
)
def test_a_data_set_of_several_configurations_or_with_code_says_what_to_name(
    name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("several").mkdir()
    Path("several/README.md").write_text(CONFIGURATIONS)
    for config in ("als", "deu"):
        Path(f"several/{config}.jsonl").write_bytes(FORMS["jsonl"](ROWS))
    Path("script").mkdir()
    Path("script/script.py").write_text("import datasets")
    with pytest.raises(UserError, match=message):
        texts_of([name])
    assert texts_of(["hf:several:deu"]) == texts_of(["several/deu.jsonl"])


def test_each_input_as_given_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.txt").write_text("one two")
    (tmp_path / "a" / "2.txt").write_text("three")
    (tmp_path / "b.csv").write_bytes(FORMS["csv"](ROWS))
    result = prepared([tmp_path / "a", tmp_path / "b.csv"], tmp_path / "out", valid_fraction=0.2)
    assert "reading: 2 .txt, 1 .csv" in capsys.readouterr().err
    first, second = result.sources
    assert (first["name"], first["files"], first["documents"], first["characters"]) == (str(tmp_path / "a"), 2, 2, 12)
    assert (second["documents"], second["characters"]) == (30, sum(len(row["text"]) for row in ROWS))
    assert first["tokens"] + second["tokens"] == result.tokens + result.left_out_tokens
    assert second["tokens_per_document"] == round(second["tokens"] / 30, 3) and second["unknown_share"] == 0
    entries: Any = Shards(tmp_path / "out").index.source["sources"]
    assert [entry.model_dump() for entry in entries] == result.sources


def test_filters_do_not_go_with_plain_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(UserError, match=r"--filter compares fields, and .*a\.txt is plain text, which has none"):
        texts_of([tmp_path], filters=("language=en",))


def test_a_file_that_is_read_as_another_is_watched_too(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text("one line\n")
    for name in (str(file), f"{tmp_path}/*.py"):
        sources = find_sources([name], PrepareSettings(read_as="txt"), Counter())
        states = file_states(sources)
        check_unchanged(sources, states)
        file.write_text(file.read_text() + "more\n")
        with pytest.raises(UserError, match=r"a\.py changed while it was read"):
            check_unchanged(sources, states)


def test_nothing_left_says_why(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(FORMS["jsonl"](ROWS))
    for fraction in (0.0, 0.1):
        with pytest.raises(
            UserError, match=r"no text in what is left of the input: 30 records that --filter leaves out"
        ):
            prepared([tmp_path], tmp_path / "out", filters=("language=fr",), valid_fraction=fraction)


@pytest.mark.slow
@pytest.mark.skipif(not (DATA / "text").is_dir(), reason="no Wikipedia is on this machine")
def test_real_text_gives_the_same_rows_in_every_form(tmp_path: Path) -> None:
    with (DATA / "text" / "wikipedia_en.jsonl").open(encoding="utf-8") as file:
        records = [json.loads(line) for line in islice(file, 150)]
    expected: dict[str, str] = {}
    for form, pack in (
        ("jsonl", bytes),
        ("parquet", bytes),
        ("csv", bytes),
        ("json", gzip.compress),
        ("jsonl.zst", zstd.compress),
    ):
        path = tmp_path / f"a.{form}{'.gz' if form == 'json' else ''}"
        path.write_bytes(pack(FORMS[form.removesuffix(".zst")](records)))
        assert prepared([path], tmp_path / form, vocab_size=1000, row_length=128).read.documents == 150
        found = digests(tmp_path / form)
        expected = expected or found
        assert found == expected, form
