"""Files of own tasks: each format gives the same rows, oddities are said, and what cannot be used is named with its place."""

import csv
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from masklater.errors import DamagedDataError, UserError
from masklater.judge.conll import read_sentences
from masklater.judge.data import TaskData
from masklater.judge.own_data import read_own
from masklater.judge.own_task import OwnTask, TaskFile
from masklater.judge.task_file import read_task_file
from tests.conftest import DATA
from tests.judge.folders import write

ROWS = [('kan, "lot"', "sport"), ("net\tmir", "art"), ("rer\nkan", "sport"), ("lot", "trade")]
UPOS = [
    "ADJ",
    "ADP",
    "ADV",
    "AUX",
    "CCONJ",
    "DET",
    "INTJ",
    "NOUN",
    "NUM",
    "PART",
    "PRON",
    "PROPN",
    "PUNCT",
    "SCONJ",
    "SYM",
    "VERB",
    "X",
]


def own(train: Path, kind: str = "classification", **more: object) -> OwnTask:
    token = kind == "token"
    defaults: dict[str, object] = {
        "key": "own", "kind": kind, "dev": {"dev": train}, "labels": (), "rows": {},
        "columns": {} if token else {"text": "text", "label": "label"},
        "metrics": ("pearson",) if kind == "regression" else ("accuracy",),
    }  # fmt: skip
    made: dict[str, Any] = {**defaults, **more}
    made["train"] = (TaskFile(train, made["columns"]),)
    made["dev"] = {split: TaskFile(path, made["columns"]) for split, path in made["dev"].items()}
    return OwnTask(**made)


def csv_of(path: Path, lines: Sequence[str]) -> Path:
    write(path, *lines)
    return path


def rows_of(data: TaskData, split: str = "train") -> list[tuple[str, str]]:
    texts, labels = data.splits[split].texts, data.splits[split].labels.astype(int)
    return [(text, data.task.classes[label]) for text, label in zip(texts[0], labels, strict=True)]


def test_every_format_gives_the_same_rows(tmp_path: Path) -> None:
    quoted = "\r\n".join(
        ["label,x,text", *('{},0,"{}"'.format(label, text.replace('"', '""')) for text, label in ROWS)]
    )
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbf" + quoted.encode() + b"\r\n\n\n")
    write(tmp_path / "a.jsonl", *(json.dumps({"text": text, "label": label, "n": 1}) for text, label in ROWS), bom=True)
    by_csv, by_json = (read_own(own(tmp_path / f"a.{kind}")) for kind in ("csv", "jsonl"))
    assert rows_of(by_csv) == rows_of(by_json) == ROWS
    assert by_csv.task.classes == ("art", "sport", "trade") and by_csv.sha256 == by_json.sha256
    both = f"{len(ROWS)} of {len(ROWS)} rows of dev stand in train too"
    assert by_json.notes == (both,) and by_csv.notes == (
        "2 blank lines of train passed over",
        "2 blank lines of dev passed over",
        both,
    )
    plain = [("kan", "b"), ('"lot', "a")]
    write(tmp_path / "a.tsv", "text\tlabel", *(f"{text}\t{label}" for text, label in plain))
    assert rows_of(read_own(own(tmp_path / "a.tsv"))) == plain
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    table = {"label": [label for _, label in ROWS], "text": [text for text, _ in ROWS], "n": [None] * 4}
    parquet.write_table(pytest.importorskip("pyarrow").table(table), tmp_path / "a.parquet")
    assert read_own(own(tmp_path / "a.parquet")).sha256 == by_csv.sha256
    with (tmp_path / "b.csv").open("w", newline="") as file:
        csv.writer(file, delimiter=";").writerows([["label", "text"], *((label, text) for text, label in ROWS)])
    assert read_own(own(tmp_path / "b.csv")).sha256 == by_csv.sha256
    with pytest.raises(DamagedDataError, match=r"a\.parquet: no column topic; it has label, text, n"):
        read_own(own(tmp_path / "a.parquet", columns={"text": "text", "label": "topic"}))
    arrow = pytest.importorskip("pyarrow")
    parquet.write_table(arrow.table([["kan"], ["a"], ["b"]], names=["text", "label", "label"]), tmp_path / "c.parquet")
    with pytest.raises(DamagedDataError, match=r"c\.parquet: 2 columns label; it has text, label, label"):
        read_own(own(tmp_path / "c.parquet"))
    (tmp_path / "b.parquet").write_bytes(b"PAR1 but no table")
    with pytest.raises(DamagedDataError, match=r"b\.parquet: not readable as Parquet"):
        read_own(own(tmp_path / "b.parquet"))


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("a.csv", "text,label\nkan,a\nlot\n", r"line 3: 1 fields; the first line has 2"),
        ("a.csv", 'text,label\nkan,a\n"lot,b\nnet,a\n', r"line 3: not readable as csv: unexpected end of data"),
        ("a.csv", 'text,label\nkan,a\n"lot"x,b\n', r"line 3: not readable as csv"),
        ("a.csv", "txt,label\nkan,a\n", r"line 1: no column text; it has txt, label"),
        ("a.csv", "text,label,label\nkan,a,b\n", r"line 1: 2 columns label"),
        ("a.csv", "text,label\nkan,a\nlot,\n", r"line 3: label is empty, which is no label"),
        ("a.csv", "text,label\nkan,A\nlot,b\nnet,a\n", r"line 4: the label is 'a', and elsewhere in train 'A'"),
        ("a.csv", "text,label\rkan,a\r", r"line 1: a carriage return that no line feed follows\n.*tr "),
        ("a.csv", "text,label\nkan,a\n".encode("utf-16"), r"line 1: byte 0 of it is not UTF-8\n.*iconv"),
        ("a.csv", "text,label\nkan,a\nlot,a\n", r"line 2: the label is 'a', as everywhere in train"),
        ("a.csv", "text,label\n", r"a\.csv holds no rows"),
        ("a.csv", "", r"a\.csv holds no rows"),
        ("a.csv", b"text,label\nkan,a\nl\xe9t,b\n", r"line 3: byte 1 of it is not UTF-8"),
        ("a.csv", "text,label\n" + "".join(f"kan,{i}\n" for i in range(20)), r"each row of train has one of its own"),
        ("a.tsv", "text\tlabel\nkan\ta\nlot\tb\tc\n", r"line 3: 3 fields; the first line has 2"),
        ("a.jsonl", '{"text": "a", "label": 1}\n{"text": "b"}\n', r"line 2: no field label; it has text"),
        ("a.jsonl", '{"text": "a", "label": 1}\n\n{"text"\n', r"line 3: not readable as JSON"),
        ("a.jsonl", '{"text": "a", "label": 1}\n[]\n', r"line 2: no JSON object\n.*jq "),
        ("a.jsonl", '{"text": "a", "label": 1}\n{"text": 3, "label": 1}\n', r"line 2: text is '3', a text is text"),
        ("a.jsonl", '{"text": "a", "label": 1}\n{"text": "b", "label": null}\n', r"line 2: label is null, which is no label"),
        ("a.jsonl", '{"text": "a", "label": 1, "label": 0}\n', r"line 1: not readable as JSON: a key stands twice"),
    ],
)  # fmt: skip
def test_a_table_that_cannot_be_used(name: str, content: str | bytes, what: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=what) as raised:
        read_own(own(tmp_path / name))
    assert str(tmp_path / name) in raised.value.problem and raised.value.remedy


def test_a_long_text_is_a_cell_like_any_other(tmp_path: Path) -> None:
    text = "lot kan " * 20_000
    assert rows_of(read_own(own(csv_of(tmp_path / "a.csv", ["text,label", f"{text},a", "kan,b"]))))[0] == (text, "a")


def test_a_label_that_the_training_data_lacks(tmp_path: Path) -> None:
    train = csv_of(tmp_path / "train.csv", ["text,label", "kan,10", "lot,9"])
    dev = csv_of(tmp_path / "dev.csv", ["text,label", "kan,9", "", "lot,8"])
    with pytest.raises(DamagedDataError, match=r"dev\.csv, line 4: the label is '8'; the training data has 9, 10"):
        read_own(own(train, dev={"dev": dev}))  # numbers in their order, not the alphabet's
    data = read_own(own(train, dev={"dev": dev}, labels=("8", "9", "10"), rows={"train": 5, "dev": 2}))
    assert data.splits["dev"].labels.tolist() == [1, 0]
    assert data.notes == ("1 blank lines of dev passed over", "train is not the official split: 2 rows, officially 5")
    with pytest.raises(DamagedDataError, match="the label is '10'; labels lists 8, 9"):
        read_own(own(train, labels=("8", "9")))


def test_rows_that_are_trained_on_too_are_told(tmp_path: Path) -> None:
    train = csv_of(tmp_path / "train.csv", ["text,label", "kan,a", "lot,b"])
    dev = csv_of(tmp_path / "dev.csv", ["text,label", "kan,a", "kan,b", "mir,a"])  # one row; a text alone is none
    assert read_own(own(train, dev={"dev": dev})).notes == ("1 of 3 rows of dev stand in train too",)


def test_empty_texts_and_truth_values(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", '{"text": "", "label": true}', '{"text": "b", "label": false}')
    data = read_own(own(tmp_path / "a.jsonl"))
    assert data.task.classes == ("false", "true") and data.notes[0] == "1 rows of train have an empty text"


@pytest.mark.parametrize("label", ["NaN", "-Infinity", "1e400"])
def test_a_label_that_is_no_finite_number_is_none(label: str, tmp_path: Path) -> None:
    """Python's JSON writes so of a table that lacks one: it was a class of its own."""
    lines = ['{"text": "kan", "label": 0}', '{"text": "lot", "label": 1}', f'{{"text": "net", "label": {label}}}']
    write(tmp_path / "a.jsonl", *lines)
    with pytest.raises(DamagedDataError, match=r"line 3: label is (nan|-inf|inf), which is no label\n") as raised:
        read_own(own(tmp_path / "a.jsonl"))
    no_label = str(raised.value).rpartition("no_label: ")[2].strip('"`.')
    data = read_own(own(tmp_path / "a.jsonl", no_label=no_label))
    assert data.task.classes == ("0", "1")
    assert data.notes[0] == f"1 rows of train left out, their label being {no_label}"


def test_one_class_that_is_written_in_two_ways(tmp_path: Path) -> None:
    """Two files are put together, of which one has passed through floats: each class was two."""
    labels = ("0", "1", "1.0", '"1"', "0.0")
    write(tmp_path / "a.jsonl", *(f'{{"text": "{n}", "label": {label}}}' for n, label in enumerate(labels)))
    with pytest.raises(DamagedDataError, match=r"line 3: the label is '1.0', and elsewhere in train '1'") as raised:
        read_own(own(tmp_path / "a.jsonl"))
    assert 'rename: {"1.0": "1"}' in raised.value.remedy
    data = read_own(own(tmp_path / "a.jsonl", rename={"1.0": "1", "0.0": "0"}))
    assert data.task.classes == ("0", "1") and data.splits["train"].labels.tolist() == [0, 1, 1, 1, 0]
    assert len(read_own(own(tmp_path / "a.jsonl", labels=("0", "1", "0.0", "1.0"))).task.classes) == 4


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_rows_without_a_label_are_left_out_as_the_message_says(kind: str, tmp_path: Path) -> None:
    """Whatever stands there: the line of the remedy goes into TASKS.yaml as it is."""
    for mark in ("null", '""', "NaN", "-1.0"):
        lines = [f'{{"text": "{n}", "label": {label}}}' for n, label in enumerate((0, 1))]
        write(tmp_path / "train.jsonl", *lines)
        write(tmp_path / "dev.jsonl", *lines, f'{{"text": "x", "label": {mark}}}')
        task = (
            f"own: {{kind: {kind}, files: {{train: train.jsonl, dev: dev.jsonl}}, columns: {{text: text, label: label}}"
        )
        line = "no_label: -1" if (kind, mark) == ("regression", "-1.0") else ""  # a number like any other
        if not line:
            (tmp_path / "tasks.yaml").write_text(f"{task}}}")
            with pytest.raises(DamagedDataError, match=r"dev.jsonl, line 3: ") as raised:
                read_own(*read_task_file(tmp_path / "tasks.yaml"))
            (line,) = re.findall(r'no_label: "[^"]*"', raised.value.remedy)
        (tmp_path / "tasks.yaml").write_text(f"{task}, {line}}}")
        data = read_own(*read_task_file(tmp_path / "tasks.yaml"))
        assert data.splits["dev"].labels.tolist() == [0, 1]
        assert data.notes[0].startswith("1 rows of dev left out, their label being ")


def test_numbers(tmp_path: Path) -> None:
    path = csv_of(tmp_path / "a.csv", ["text,label", "kan,-1.5", "lot,2e1", "net, .5"])
    data = read_own(own(path, "regression"))
    assert (data.task.lowest, data.task.highest) == (-1.5, 20.0) and data.task.regression
    assert data.splits["train"].labels.tolist() == [-1.5, 20.0, 0.5]
    assert read_own(own(path, "regression", range=(-2.0, 30.0))).task.highest == 30
    with pytest.raises(DamagedDataError, match=r"line 3: the label is 2e1, and range is from -2 to 3"):
        read_own(own(path, "regression", range=(-2.0, 3.0)))
    for label in ("nan", "inf", "1_0", "٣", "", "1e999"):
        with pytest.raises(DamagedDataError, match=r"line 2: (the )?label is .*, which is no (number|label)"):
            read_own(own(csv_of(tmp_path / "b.csv", ["text,label", f"kan,{label}", "lot,1"]), "regression"))
    with pytest.raises(DamagedDataError, match=r"line 2: the label is 1, as everywhere in train"):
        read_own(own(csv_of(tmp_path / "b.csv", ["text,label", "kan,1", "lot,1"]), "regression"))


ODD = "\ufeffEU\tB-ORG\nrejects\tO\n\t\n \nPeter\tB-PER\n-DOCSTART-\tO\n\nBlackburn\tI-PER\r\n\n\n"


def test_sentences_with_odd_blank_lines_and_tabs(tmp_path: Path) -> None:
    (tmp_path / "a.conll").write_text(ODD)
    data = read_own(own(tmp_path / "a.conll", "token", metrics=("entity_f1",)))
    train = data.splits["train"]
    assert train.words == [["EU", "rejects"], ["Peter"], ["Blackburn"]] and data.task.tagging
    assert data.task.classes == ("B-ORG", "B-PER", "I-PER", "O") and train.labels_W.tolist() == [0, 3, 1, 2]
    assert train.starts_N1.tolist() == [0, 2, 3, 4] and len(train) == 3
    fewer = data.limited(2).splits["train"]
    assert len(fewer) == 2 and len(fewer.labels_W) == sum(map(len, fewer.words)) == fewer.starts_N1[-1]
    write(tmp_path / "b.txt", "EU NNP B-ORG", "rejects VBZ O", "", "Peter NNP B-PER", "", "Blackburn NNP I-PER")
    spaced = own(tmp_path / "b.txt", "token", metrics=("entity_f1",))
    assert read_own(spaced).sha256 == data.sha256  # the word is in the first column, its label in the last
    by_number = own(tmp_path / "b.txt", "token", columns={"label": 2})
    assert read_own(by_number).task.classes == ("NNP", "VBZ")


def test_universal_dependencies(tmp_path: Path) -> None:
    rest = "\t_" * 6
    lines = ["# text = vámonos al mar", f"1-2\tvámonos\t_\t_{rest}", f"1\tvamos\tir\tVERB{rest}", f"2\tnos\tnosotros\tPRON{rest}", f"2.1\tx\tx\tX{rest}", "", f"1\tmar\tmar\tNOUN{rest}"]  # fmt: skip
    write(tmp_path / "a.conllu", *lines)
    assert [sentence[:2] for sentence in read_sentences(tmp_path / "a.conllu", {})] == [
        (["vamos", "nos"], ["VERB", "PRON"]), (["mar"], ["NOUN"]),
    ]  # fmt: skip
    assert read_sentences(tmp_path / "a.conllu", {"word": 3})[0][0] == ["ir", "nosotros"]


@pytest.mark.parametrize(
    ("lines", "columns", "what"),
    [
        (["EU\tB-ORG", "rejects"], {}, r"line 2: 1 columns; the lines before have 2"),
        (["EU\tB-ORG", "re\tjects\tO"], {}, r"line 2: 3 columns; the lines before have 2"),
        (["EU\tB-ORG", "", "\tO"], {}, r"line 3: the word, column 1, is empty"),
        (["EU\tB-ORG", "rejects\t "], {}, r"line 2: the label, column 2, is empty"),
        (["EU\tB-ORG"], {"label": 4}, r"line 1: there is no column 4, which is the label's; the line has 2"),
        (["EU\tB-ORG", "is\tNOUN"], {}, r"in the sentence from line 1 on: the label is 'NOUN'; entity_f1 counts labels such as"),
        (["# id 1  domain=en", "EU _ _ B-ORG"], {}, r"line 2: 4 columns; the lines before have 5\n.*comments in .conllu alone"),
        (["EU\tO", "is\tO"], {}, r"the label is 'O', as everywhere in train"),
        (["", "\t"], {}, r"a\.conll holds no rows"),
    ],
)  # fmt: skip
def test_columns_that_cannot_be_used(lines: list[str], columns: dict[str, int], what: str, tmp_path: Path) -> None:
    write(tmp_path / "a.conll", *lines)
    with pytest.raises(UserError, match=what) as raised:
        read_own(own(tmp_path / "a.conll", "token", metrics=("entity_f1",), columns=columns))
    assert str(tmp_path / "a.conll") in raised.value.problem and raised.value.remedy


@pytest.mark.skipif(not DATA.is_dir(), reason=f"there is no {DATA}")
def test_real_columns() -> None:
    wnut = DATA / "ner" / "wnut17"
    ner = own(wnut / "dev.conll", "token", dev={"dev": wnut / "dev.conll"}, metrics=("entity_f1",))
    data = read_own(ner)
    assert len(data.splits["dev"]) == 1009 and data.splits["dev"].starts_N1[-1] == 15733
    assert (np.char.startswith(np.array(data.task.classes)[data.splits["dev"].labels_W], "B-")).sum() == 836
    hi, th = (DATA / "ud" / f"{language}_pud.conllu" for language in ("hi", "th"))
    pos = read_own(own(hi, "token", dev={"dev_th": th}, labels=tuple(UPOS)))
    assert {name: (len(rows), int(rows.starts_N1[-1])) for name, rows in pos.splits.items()} == {
        "train": (1000, 23829), "dev_th": (1000, 22330),
    }  # fmt: skip
