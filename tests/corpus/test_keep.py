"""What is kept: filters, duplicates and evaluation text against plain computations of the same, and all of it in prepare."""

import bz2
import codecs
import gzip
import io
import itertools
import json
import lzma
import random
import re
import sys
import time
import unicodedata
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from backports import zstd
from pyarrow import ipc, parquet

from masklater.corpus.index import read_index
from masklater.corpus.keep import buckets, duplicates
from masklater.corpus.keep.contamination import EvaluationRuns
from masklater.corpus.keep.duplicates import (
    ExactDuplicates,
    LineCounts,
    NearDuplicates,
    in_many,
    near_signature,
    shingles_of,
    without_lines,
)
from masklater.corpus.keep.kept import REASONS, Kept
from masklater.corpus.keep.quality import is_repetitive, share_of_letters, why_not
from masklater.corpus.keep.settings import KeepSettings, parse_duplicates, parse_slice
from masklater.corpus.keep.tokens import hashes_of, run_hashes, words_of
from masklater.corpus.prepare import PrepareResult, prepare
from masklater.corpus.read import MAX_DOCUMENT_CHARS, Document, ReadCounts, Source, read_documents
from masklater.corpus.settings import PrepareSettings
from masklater.corpus.text_hash import hash_of
from masklater.errors import UserError
from tests.conftest import DATA, make_text
from tests.corpus.deciding import decided, decided_one_by_one

WIKIPEDIA = DATA / "text" / "wikipedia_en.jsonl"


def documents_of(texts: list[str], source: int = 0) -> Iterator[Document]:
    return (Document(text, hash_of(text), source) for text in texts)


def chosen(texts: list[str], **settings: Any) -> Kept:
    return decided([[*documents_of(texts)]], 1, KeepSettings(**settings))


def chosen_of(documents: list[Document], **settings: Any) -> Kept:
    return decided([documents], 1, KeepSettings(**settings))


def kept_texts(kept: Kept, texts: list[str]) -> list[str]:
    return [document.text for document in kept.apply(documents_of(texts))]


def write(path: Path, texts: list[str]) -> Path:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


def run(path: Path, out: Path, **keep: Any) -> PrepareResult:
    settings = PrepareSettings(vocab_size=320, row_length=32, valid_fraction=0.1, workers=1, keep=KeepSettings(**keep))
    return prepare([path], out, settings)


def test_words_are_those_of_the_script() -> None:
    assert words_of("Don't go, HTML-Köche! 3.5") == ["don", "t", "go", "html", "köche", "3", "5"]
    assert words_of("我们 ok ไป") == ["我", "们", "ok", "ไ", "ป"]


WORDS_OF_SCRIPTS = {
    "Hindi": ("यह हिन्दी में लिखा हुआ एक वाक्य है।", 8),
    "Hindi, of three words": ("किताबें मेज़ पर", 3),
    "Bengali": ("আমার সোনার বাংলা, আমি তোমায় ভালোবাসি।", 6),
    "Tamil": ("யாதும் ஊரே யாவரும் கேளிர்", 4),
    "Telugu": ("తెలుగు భాష చాలా తీయనిది", 4),
    "Sinhala, with joiners": ("ශ්\u200dරී ලංකාව සුන්දර රටකි", 4),
    "Hebrew, pointed": ("בְּרֵאשִׁית בָּרָא אֱלֹהִים", 3),
    "Arabic, pointed": ("بِسْمِ اللَّهِ الرَّحْمَٰنِ الرَّحِيمِ", 4),
    "Persian, with joiners": ("نمی\u200cخواهم کتاب\u200cها را ببینم", 4),
    "Vietnamese": ("Tất cả mọi người sinh ra", 6),
    "Lithuanian, with marks that no letter is composed with": ("vi\u0307\u0301rus mė̃nuo", 2),
    "Greek": ("Ἐν ἀρχῇ ἦν ὁ λόγος", 5),
    "Korean": ("모든 인간은 태어날 때부터", 4),
    "Tibetan, of syllables": ("བོད་ཀྱི་སྐད་ཡིག", 4),
    "Chakma, beyond the first plane": ("𑄌𑄋𑄴𑄟𑄳𑄦 𑄞𑄌𑄴", 2),
    "Thai, of characters": ("ไปไหน", 5),
    "Thai, of characters and their signs": ("ที่นี่", 6),
    "Chinese, of characters": ("我们去", 3),
    "Japanese, of characters": ("がぎぐ", 3),
}


@pytest.mark.parametrize("script", WORDS_OF_SCRIPTS)
def test_a_word_goes_on_over_its_marks(script: str) -> None:
    phrase, number = WORDS_OF_SCRIPTS[script]
    words = words_of(phrase)
    assert len(words) == number
    assert words == words_of(unicodedata.normalize("NFD", phrase)) == words_of(unicodedata.normalize("NFC", phrase))
    if " " in phrase:
        assert words == [word.strip(",।") for word in unicodedata.normalize("NFC", phrase).lower().split()]


def test_marks_and_joiners_make_no_words_of_their_own() -> None:
    assert words_of("\u0301 \u200d \u200c\u200c x\u200c \u2260 =\u0338 a\u200c\u200cb c\u200d, \u0130") == [
        "x", "a", "b", "c", "i\u0307",
    ]  # fmt: skip
    assert words_of("我\ufe0f a我\u0301b") == ["我", "a", "我", "b"]  # a mark belongs to no word there, as ever
    assert words_of("k\u0e34 ก\u0e34") == ["k", "\u0e34", "ก", "\u0e34"]


def test_every_mark_is_known() -> None:
    """Over all of Unicode; of the scripts without spaces each character is a word, marks too."""
    marks = [one for one in map(chr, range(sys.maxunicode + 1)) if unicodedata.category(one)[0] == "M"]
    cut = [mark for mark in marks if len(words_of(f"q{mark}q")) != 1]
    assert len(marks) > 2000 and all(len(words_of(mark)) == 1 for mark in cut)
    scripts = {unicodedata.name(mark).split()[0] for mark in cut}
    assert scripts == {"THAI", "LAO", "MYANMAR", "KHMER", "COMBINING"}  # the last are those of kana's voiced sounds


def test_many_marks_out_of_order_take_no_time() -> None:
    """Python's sorting of marks takes the square of their number: two minutes for a document of these alone."""
    text = "a" + "\u0301\u0316" * 2**17
    began = time.monotonic()
    assert len(words_of(text)) == 1
    assert time.monotonic() - began < 10


def test_runs_of_words_have_one_hash_each() -> None:
    rng = random.Random(0)
    words = [rng.choice("abc") for _ in range(200)]
    for length in (1, 2, 5, 13, 200, 201):
        found = run_hashes(hashes_of(words), length)
        runs = [tuple(words[start : start + length]) for start in range(len(words) - length + 1)]
        assert len(found) == len(runs)
        by_run: dict[tuple[str, ...], set[int]] = {}
        for run_, value in zip(runs, found.tolist(), strict=True):
            by_run.setdefault(run_, set()).add(value)
        assert all(len(values) == 1 for values in by_run.values())
        assert len({next(iter(values)) for values in by_run.values()}) == len(by_run)


@pytest.mark.parametrize(
    ("text", "settings", "reason"),
    [
        ("abc", {"min_characters": 4}, "short"),
        ("abcd", {"min_characters": 4}, None),
        ("abcde", {"max_characters": 4}, "long"),
        ("a1 2!", {"min_letters": 0.26}, "few letters"),
        ("a1 2!", {"min_letters": 0.25}, None),
        ("नमस्ते दुनिया", {"min_letters": 1.0}, None),
        ("go on " * 20, {"drop_repetitive": True}, "repetitive"),
        ("go on " * 20, {}, None),
    ],
)
def test_filters_of_one_document(text: str, settings: dict[str, Any], reason: str | None) -> None:
    assert why_not(text, KeepSettings(**settings)) == reason


def test_marked_text_is_judged_without_its_marks(tmp_path: Path) -> None:
    """As it is kept; text that is not said to be marked keeps its U+200B, which count."""
    plain = ["我们去北京", "我们去北京看朋友", "我们去", "这是别的一句话"]
    marked = [
        "我们\u200b去\u200b北京",
        "我们\u200b去\u200b北京\u200b看\u200b朋友",
        "我\u200b们\u200b去",
        "这是\u200b别的\u200b一句话",
    ]

    def reasons(texts: list[str], marked_words: bool, **settings: Any) -> list[str]:
        kept = decided([[*documents_of(texts)]], 1, KeepSettings(**settings), marked_words)
        return [REASONS[code] for code in kept.reasons]

    for settings, expected in (
        ({"min_characters": 6}, ["short", "", "short", ""]),
        ({"max_characters": 7}, ["", "long", "", ""]),
        ({"min_characters": 4, "max_characters": 5}, ["", "long", "short", "long"]),
    ):
        assert reasons(plain, False, **settings) == reasons(marked, True, **settings) == expected
    assert reasons(marked, False, min_characters=6) == ["", "", "short", ""]
    again = [marked[0], plain[0], "我\u200b们\u200b去\u200b北京", plain[2]]
    assert reasons(again, True, dedup=("exact",)) == ["", "exact duplicate", "exact duplicate", ""]
    assert reasons(again, False, dedup=("exact",)) == [""] * 4
    parts = [Document(text, 1, 0, place == 0) for place, text in enumerate(marked[:2])]
    for most, expected in ((13, ""), (12, "long")):
        kept = decided([parts], 1, KeepSettings(max_characters=most), marked_words=True)
        assert REASONS[kept.reasons[0]] == expected
    # Words that are set apart by nothing else, of a script whose words are letters between spaces.
    (tmp_path / "eval.txt").write_text(" ".join(f"go{number}on" for number in range(13)))
    words = " ".join(f"go{number}\u200bon" for number in range(13))
    assert reasons([words, "other"], True, without=(tmp_path / "eval.txt",)) == ["evaluation text", ""]
    assert reasons(["\u200b\u200b", "other"], True, min_characters=1) == ["short", ""]


def test_marks_do_not_make_a_line_long_enough_to_go() -> None:
    lines = LineCounts()
    for document, line in enumerate(
        ("我们去", "我\u200b们\u200b去\u200b北\u200b京\u200b", "一二三四五六七八\u200b九十") * 2
    ):
        lines.add(line, document)
    counted = np.concatenate([*lines.counted()])
    assert counted["hash"].tolist() == [hash_of("一二三四五六七八\u200b九十")]
    assert (
        without_lines(
            "我\u200b们\u200b去\u200b北\u200b京\u200b", np.array([hash_of("我\u200b们\u200b去\u200b北\u200b京\u200b")])
        )[1]
        == 0
    )


def test_repetition_by_hand() -> None:
    words = [f"w{number:03}" for number in range(100)]  # 4 characters each
    assert not is_repetitive(" ".join(words))
    assert share_of_letters("ab 1") == pytest.approx(2 / 3)
    # The run "w000 w001" five times among 104 words: 10 of 104 words, below 20%; eleven times 22 of 110, at 20%.
    assert not is_repetitive(" ".join([*words, *["w000 w001 x", "w000 w001 y"] * 2]))
    separated = [f"w000 w001 x{number:02}" for number in range(40)]
    assert is_repetitive(" ".join(separated + words[:20]))
    # A quarter of the characters in one sentence that is said twice: 13 words of 113, above 10% of runs of ten words.
    assert is_repetitive(" ".join(words + words[:13]))
    assert not is_repetitive(" ".join(words + words[:9]))
    lines = [" ".join(words[number : number + 5]) for number in range(0, 50, 5)]
    assert is_repetitive("\n".join(lines + lines[:5])) and not is_repetitive("\n".join(lines))
    assert not is_repetitive("")


def test_exact_duplicates_against_a_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buckets, "HELD", 7)
    rng = random.Random(0)
    keys = [hash_of(str(rng.randrange(300))) for _ in range(1000)]
    exact, seen, expected = ExactDuplicates(), set(), []
    for number, key in enumerate(keys):
        exact.add(np.array([key], np.uint64), np.array([number], np.uint64))
        expected += [number] if key in seen else []
        seen.add(key)
    assert sorted(np.concatenate([*exact.later_ones()]).tolist()) == expected and len(expected) > 500


def test_lines_in_many_documents_against_a_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buckets, "HELD", 50)
    rng = random.Random(0)
    lines = [f"this is line {number}" for number in range(30)] + ["short"]
    texts = ["\n".join(f"  {line} " for line in rng.choices(lines, k=rng.randrange(1, 9))) for _ in range(100)]
    parts = [LineCounts() for _ in range(3)]
    for number, text in enumerate(texts):
        parts[number % 3].add(text, number)
        parts[number % 3].add(text, number)  # a later part of the same document
    numbers = Counter(line for text in texts for line in {part.strip() for part in text.splitlines()})
    expected = {line for line, number in numbers.items() if number > 14 and len(line) >= duplicates.SHORTEST_LINE}
    counted = [[*part.counted()] for part in parts]
    hashes_N = np.concatenate([in_many(np.concatenate(bucket), 14) for bucket in zip(*counted, strict=True)])
    assert (np.diff(hashes_N.astype(float)) > 0).all()
    assert 3 < len(expected) < 28 and set(hashes_N.tolist()) == set(map(hash_of, expected)) and numbers["short"] > 9
    for text in texts:
        left = [line for line in text.splitlines(keepends=True) if line.strip() not in expected]
        assert without_lines(text, hashes_N) == ("".join(left), len(text.splitlines()) - len(left))
    assert without_lines("this is line 1", np.empty(0, np.uint64)) == ("this is line 1", 0)


def changed(text: str, every: int) -> str:
    """The text with each so-manieth word another one."""
    return " ".join(f"x{number}" if number % every == every - 1 else word for number, word in enumerate(text.split()))


def jaccard(one: str, other: str) -> float:
    a, b = set(shingles_of(one)), set(shingles_of(other))
    return len(a & b) / len(a | b)


def test_near_duplicates_are_those_that_share_most_runs() -> None:
    pytest.importorskip("rensa")
    texts = [make_text(seed, 300) for seed in range(60)]
    assert max(jaccard(texts[0], other) for other in texts[1:]) < 0.5
    close = [changed(text, 120) for text in texts]  # 2 of 300 words
    far = [changed(text, 12) for text in texts]
    assert min(jaccard(*pair) for pair in zip(texts, close, strict=True)) > 0.9
    assert max(jaccard(*pair) for pair in zip(texts, far, strict=True)) < 0.5
    near = NearDuplicates(0.8)
    flags = [near.is_later(near_signature(text), number) for number, text in enumerate(texts + close + far)]
    assert not any(flags[:60]) and all(flags[60:120]) and not any(flags[120:])
    assert not near.is_later(near_signature("one two"), 500) and near.is_later(near_signature("One, two!"), 501)


def test_the_first_of_a_cluster_stays_and_what_is_equal_is_called_so() -> None:
    pytest.importorskip("rensa")
    one, other = make_text(1, 200), make_text(2, 200)
    texts = [one, other, changed(one, 100), one, other, changed(other, 100)]
    kept = chosen(texts, dedup=("exact", "near"))
    assert kept.dropped == {"exact duplicate": 2, "near duplicate": 2} and kept_texts(kept, texts) == texts[:2]
    assert chosen(texts, dedup=("exact",)).dropped == {"exact duplicate": 2}


@pytest.mark.parametrize("dedup", [("exact",), ("near",), ("lines",), ("exact", "near", "lines"), ()], ids="-".join)
def test_parts_decide_what_one_after_the_other_does(dedup: tuple[Any, ...], tmp_path: Path) -> None:
    """However documents lie in parts, some of which hold none; with filters, whose reasons come first, and without."""
    if "near" in dedup:
        pytest.importorskip("rensa")
    rng = random.Random(0)
    notices = [f"This is notice number {number}, which stands in many of them." for number in range(6)]
    (tmp_path / "eval.txt").write_text("kan lot mit " * 3 + make_text(1000, 12))
    secret = (tmp_path / "eval.txt").read_text()
    texts = [make_text(seed, rng.randrange(8, 90)) for seed in range(60)]
    texts += [rng.choice(texts) for _ in range(25)] + [changed(text, 30) for text in rng.choices(texts, k=25)]
    documents: list[Document] = []
    for number, text in enumerate(rng.sample(texts, len(texts))):
        lines = [*rng.sample(notices, rng.randrange(3)), text if rng.random() < 0.95 else notices[0]]
        documents.append(Document("\n".join(lines), hash_of("\n".join(lines)), number // 60))
        for _ in range(rng.randrange(3) * (rng.random() < 0.3)):
            later = rng.choice([make_text(number, 20), rng.choice(notices), secret, secret[:60], secret[60:]])
            documents.append(Document(later, documents[-1].key, number // 60, False))
    asked = KeepSettings(
        dedup=dedup, line_documents=12, min_characters=60, max_characters=330, without=(tmp_path / "eval.txt",)
    )
    starts = [place for place, document in enumerate(documents) if document.begins]
    for settings in (asked, KeepSettings(dedup=dedup, line_documents=12)):
        expected, gone = decided_one_by_one(documents, settings)
        assert (len(gone) > 4) == ("lines" in dedup)
        for cuts in ([], [0, 40, 40], rng.sample(range(len(starts)), 7)):
            places = [0, *(starts[cut] for cut in sorted(cuts)), len(documents)]
            kept = decided([documents[a:b] for a, b in itertools.pairwise(places)], 2, settings)
            assert [REASONS[code] for code in kept.reasons] == expected
            assert kept.first_of_source == [0, 60] and set(kept.lines_N.tolist()) == set(map(hash_of, gone))
            assert kept.lines_N.tolist() == sorted(kept.lines_N.tolist())
    reasons = set(decided_one_by_one(documents, asked)[0])
    assert {"", "short", "long", "evaluation text"} <= reasons
    assert {f"{each} duplicate" for each in dedup if each != "lines"} <= reasons


def test_evaluation_text_is_found_wherever_it_stands(tmp_path: Path) -> None:
    rng = random.Random(0)
    words = [f"word{number}" for number in range(400)]
    sentences = [rng.sample(words, length) for length in (30, 13, 12, 8, 7)]
    texts = [" ".join(sentence).capitalize() + "." for sentence in sentences]
    (tmp_path / "eval").mkdir()
    (tmp_path / "eval" / "a.jsonl").write_text(json.dumps({"pair": {"good": texts[0]}, "list": [texts[1], 5]}) + "\n")
    (tmp_path / "eval" / "b.tsv").write_text(f"id\tsentence\n1\t{texts[2]}\n")
    (tmp_path / "eval" / "c.csv").write_text(f'id,sentence\n1,"{texts[3]}"\n')
    (tmp_path / "eval" / "d.txt").write_text(texts[4] + "\n")
    runs = EvaluationRuns((tmp_path / "eval",))
    filler = [" ".join(rng.sample(words, 40)) for _ in range(20)]
    assert not any(map(runs.share_with, filler))
    for sentence, length in zip(sentences, (13, 13, 12, 8, 7), strict=True):
        start = len(sentence) - length
        part = " ".join(sentence[start:])
        assert runs.share_with(f"{filler[0]} {part.upper()}, {filler[1]}") == (
            length >= 8
        )  # shorter ones are too usual
        assert not runs.share_with(f"{filler[0]} {' '.join(sentence[start + 1 :])} {filler[1]}")
    (tmp_path / "bad.jsonl").write_text("{}\nno json\n")
    (tmp_path / "few.txt").write_text("too few words\n")
    for name, message in (
        ("nowhere", "--without: there is no file or folder .*nowhere"),
        ("bad.jsonl", "--without: .*bad.jsonl, line 2: not JSON"),
        ("few.txt", "holds no text of 8 words"),
    ):
        with pytest.raises(UserError, match=message):
            EvaluationRuns((tmp_path / name,))


SECRETS = [" ".join(f"{name}{number}" for number in range(length)) for name, length in (("long", 15), ("whole", 8))]


def in_columns(**more: Any) -> Any:
    """A table that has the two texts in two of its columns."""
    return pa.table({"id": [1, 2], "text": pa.array([SECRETS[0], None]), "other": [None, SECRETS[1]], **more})


def as_parquet(table: Any) -> bytes:
    out = io.BytesIO()
    parquet.write_table(table, out)
    return out.getvalue()


def as_arrow(table: Any) -> bytes:
    out = io.BytesIO()
    with ipc.new_file(out, table.schema) as writer:
        writer.write_table(table)
    return out.getvalue()


NESTED = {
    "rows": pa.array([[{"answer": SECRETS[0], "at": 3}], []]),
    "pairs": pa.array([[], [("key", SECRETS[1])]], pa.map_(pa.string(), pa.string())),
    "time": pa.array([1, 2], pa.timestamp("ns")),  # of which Python has no object
    "price": pa.array([None, 1]).cast(pa.decimal128(38, 2)),
    "image": pa.array([b"\xff\xd8\xff", None]),
}
LINES = "\n".join(["a few words", *SECRETS])
ROWS = [["id", "text"], ["1", SECRETS[0]], ["2", SECRETS[1]]]
EVALUATION_FILES: dict[str, bytes] = {
    "a.txt": LINES.encode(),
    "utf-16.txt": LINES.encode("utf-16"),
    "mark.md": codecs.BOM_UTF8 + LINES.encode(),
    "tabs.txt": f"1\t{SECRETS[0]}\t{SECRETS[1]}".encode(),
    "a.jsonl": "".join(json.dumps({"a": {"b": [1, secret]}}) + "\n" for secret in SECRETS).encode(),
    "lines of anything.ndjson": "\n\n".join(map(json.dumps, [SECRETS, None, 5])).encode(),
    "utf-16.jsonl": "\n".join(map(json.dumps, SECRETS)).encode("utf-16"),
    "array.json": json.dumps([{"text": SECRETS[0]}, [SECRETS[1]]], indent=1).encode(),
    "strings.json": json.dumps(SECRETS).encode(),
    "one.json": json.dumps({"data": [{"text": secret} for secret in SECRETS]}, indent=1).encode(),
    "a.csv": "\n".join(f'{number},"{secret}"' for number, secret in ROWS).encode(),
    "no header.csv": "\r\n".join(f'"{secret}",{number}' for number, secret in ROWS[1:]).encode(),
    "a header over two lines.csv": f'id,"text\nof it"\n1,"{SECRETS[0]}"\n2,"{SECRETS[1]}"'.encode(),
    "semicolons.csv": "\n".join(f"{number};{secret};1,5" for number, secret in ROWS).encode(),
    "tabs.csv": "\n".join("\t".join(row) for row in ROWS).encode(),
    "a.tsv": "\n".join("\t".join(row) for row in ROWS).encode(),
    "no header.tsv": "\n".join("\t".join(row) for row in ROWS[1:]).encode(),
    "rows of any length.tsv": "\n".join("\t".join([*row, *"abc"[:place]]) for place, row in enumerate(ROWS)).encode(),
    "a column twice.tsv": f"text\ttext\n{SECRETS[0]}\t{SECRETS[1]}\n".encode(),
    "a.parquet": as_parquet(in_columns()),
    "a.arrow": as_arrow(in_columns()),
    "nested.parquet": as_parquet(pa.table(NESTED)),
    "nested.arrow": as_arrow(pa.table(NESTED)),
    "binary.parquet": as_parquet(pa.table({"text": [secret.encode() for secret in SECRETS]})),
    "categories.parquet": as_parquet(pa.table({"text": pa.array(SECRETS).dictionary_encode()})),
}
PACKED: dict[str, Any] = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": zstd.compress}


@pytest.mark.parametrize("packing", ["", *PACKED])
@pytest.mark.parametrize("name", EVALUATION_FILES)
def test_evaluation_files_are_read_as_inputs_are(name: str, packing: str, tmp_path: Path) -> None:
    (tmp_path / "eval").mkdir()
    file = tmp_path / "eval" / f"{name}{packing}"
    file.write_bytes(PACKED.get(packing, bytes)(EVALUATION_FILES[name]))
    for path in (file, tmp_path / "eval"):
        runs = EvaluationRuns((path,))
        assert {length: len(found) for length, found in runs.by_length.items()} == {13: 3, 8: 1}
        assert runs.share_with(f"A text: {SECRETS[0][:-8]}.") and runs.share_with(f"Said {SECRETS[1]}, and more.")
        assert not runs.share_with("Nothing of " + " ".join(word for secret in SECRETS for word in secret.split()[::2]))


@pytest.mark.parametrize("sign", ["\u2028", "\u2029", "\u0085", "\x0b", "\x0c", "\x1c", "\x1e", "\r"], ids=ascii)
def test_only_line_feeds_end_the_lines_of_evaluation_files(sign: str, tmp_path: Path) -> None:
    """Valid JSON and tables may hold the others; so may a line of plain text, whose words are then in a row."""
    words = SECRETS[0].split()
    text = f"{' '.join(words[:8])}{sign}{' '.join(words[8:])}"
    record = json.dumps({"text": text}, ensure_ascii=ord(sign) < 0x20)
    contents = {"a.jsonl": record, "a.txt": text, "a.csv": f'id,text\n1,"{text}"', "a.tsv": f"1\t{text}"}
    for name, content in contents.items():
        if sign == "\r" and name == "a.tsv":
            continue  # the csv module takes it for the end of a row that has no quotes
        (tmp_path / name).write_bytes(f"{content}\n".encode())
        assert EvaluationRuns((tmp_path / name,)).share_with(SECRETS[0]), name


UNREADABLE: dict[str, tuple[bytes, str]] = {
    "a.dat": (LINES.encode(), r"does not end in .*\.txt.*\n  Name a copy of it by what it holds: \.txt for lines"),
    "a.pdf": (b"%PDF", r"does not end in .*\n  Take the text out of it first"),
    "a.zip": (b"PK", r"does not end in .*\n  Unpack it first"),
    "latin-1.txt": (f"caf\xe9\n{LINES}".encode("latin-1"), r"line 1: bytes that are not utf-8\n  Make it UTF-8 first"),
    "latin-1.csv": (
        f"1,caf\xe9\n2,{SECRETS[0]}".encode("latin-1"),
        "line 1: bytes that are not utf-8\n  Make it UTF-8",
    ),
    "latin-1.jsonl": (f'["\xe9"]\n["{SECRETS[0]}"]'.encode("latin-1"), "line 1: bytes that are not utf-8\n  Make it"),
    "no mark.txt": (LINES.encode("utf-16-le"), r"characters are NUL.*\n  Make it UTF-8 first"),
    "no mark.jsonl": (f'["{SECRETS[0]}"]'.encode("utf-16-be"), r"characters are NUL.*\n  Make it UTF-8 first"),
    "cut.txt.gz": (gzip.compress(LINES.encode())[:-9], r" is a damaged or truncated gzip file"),
    "a.parquet": (b"PAR1", " is a damaged or truncated Parquet file"),
    "twice.jsonl": (f'{{"a": "{SECRETS[0]}", "a": ""}}'.encode(), "line 1: not JSON .the field 'a' stands twice"),
    "twice.parquet": (
        as_parquet(pa.Table.from_arrays([pa.array(SECRETS)] * 2, ["a", "a"])),
        ": the column 'a' stands twice",
    ),
    "twice.arrow": (
        as_arrow(pa.Table.from_arrays([pa.array(SECRETS)] * 2, ["a", "a"])),
        ": the column 'a' stands twice",
    ),
    "array.json": (f'[\n"{SECRETS[0]}",\n"'.encode(), "line 3: not JSON"),
    "quotes.csv": (f'1,"{SECRETS[0]}\n'.encode(), "line 1: no row of a table"),
    "a.xml": (b"<html/>", "is no MediaWiki dump"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_evaluation_files_that_cannot_be_read_are_refused_by_name(name: str, tmp_path: Path) -> None:
    content, message = UNREADABLE[name]
    (tmp_path / name).write_bytes(content)
    (tmp_path / "sound.txt").write_text(LINES)
    with pytest.raises(UserError, match=rf"^--without: {re.escape(str(tmp_path / name))}.*{message}") as refused:
        EvaluationRuns((tmp_path / "sound.txt", tmp_path / name))
    assert "Name its encoding" not in str(refused.value) and "--read-as" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "library", "message"),
    [
        ("a.parquet", "pyarrow.parquet", r"a\.parquet needs pyarrow.*\n.*masklater\[parquet\]"),
        ("a.arrow", "pyarrow.ipc", r"a\.arrow needs pyarrow.*\n.*masklater\[parquet\]"),
        ("a.txt.zst", "backports.zstd", r"a\.txt\.zst needs backports\.zstd.*\n.*masklater\[zstd\]"),
    ],
)
def test_a_library_that_evaluation_files_need_is_named(
    name: str, library: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if library.startswith("backports") and sys.version_info >= (3, 14):
        pytest.skip("Python has it itself")
    monkeypatch.setitem(sys.modules, library, None)
    (tmp_path / name).write_bytes(EVALUATION_FILES.get(name, b""))
    with pytest.raises(UserError, match=f"^--without: .*{message}"):
        EvaluationRuns((tmp_path,))


def test_what_a_folder_of_evaluation_files_holds_beside_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.txt", "b.jsonl.gz", "c.pdf", "d.pdf", ".hidden.txt"):
        (tmp_path / name).write_bytes(gzip.compress(json.dumps(SECRETS).encode()) if name == "b.jsonl.gz" else b"few")
    EvaluationRuns((tmp_path,))
    said = capsys.readouterr().err
    assert f"--without {tmp_path}, reading: 1 .jsonl.gz, 1 .txt\n" in said
    assert f"--without {tmp_path}, not read: 2 .pdf, 1 hidden (text ends in .txt" in said
    EvaluationRuns((tmp_path / "b.jsonl.gz",))
    assert capsys.readouterr().err == ""
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "a.dat").write_text(LINES)
    with pytest.raises(UserError, match=r"^--without: the folder .*none holds no text.*1 \.dat\n  Name a copy of it"):
        EvaluationRuns((tmp_path / "none",))


def test_evaluation_text_in_scripts_with_vowel_signs(tmp_path: Path) -> None:
    """Of too few words it cannot be found again; of enough it is, composed or not."""
    (tmp_path / "few.txt").write_text("हिन्दी में किताबें\n")  # 3 words, which fall into 11 pieces between their signs
    with pytest.raises(UserError, match="holds no text of 8 words"):
        EvaluationRuns((tmp_path / "few.txt",))
    text = "किताबों की दुकान में ज़्यादा लोग नहीं थे और वह चुपचाप पढ़ता रहा शाम तक"
    assert len(text.split()) == 15
    (tmp_path / "eval.txt").write_text(unicodedata.normalize("NFD", text))
    runs = EvaluationRuns((tmp_path / "eval.txt",))
    assert runs.by_length.keys() == {13} and len(runs.by_length[13]) == 3
    words = unicodedata.normalize("NFC", text).split()
    assert runs.share_with(" ".join(words[2:])) and not runs.share_with(" ".join(words[:12]))


def test_a_document_in_parts_is_kept_or_left_out_whole(tmp_path: Path) -> None:
    secret = " ".join(f"secret{number}" for number in range(13))
    (tmp_path / "eval.txt").write_text(secret)
    parts = [Document("the first part of it", 1, 0), Document(secret, 1, 0, False), Document("the end", 1, 0, False)]
    after = [Document("another document", 2, 1), Document("more of it, rather long", 2, 1, False), *parts[:1]]

    def kept_of(**settings: Any) -> tuple[dict[str, int], list[str]]:
        kept = decided([parts, after], 3, KeepSettings(**settings))
        assert sum(map(Counter.total, kept.dropped_of_source)) == sum(kept.dropped.values())
        return kept.dropped, [document.text for document in kept.apply(iter(parts + after))]

    assert kept_of(without=(tmp_path / "eval.txt",)) == ({"evaluation text": 1}, [each.text for each in after])
    assert kept_of(max_characters=30) == ({"long": 2}, ["the first part of it"])
    assert kept_of(dedup=("exact",)) == ({"exact duplicate": 1}, [each.text for each in parts + after[:2]])


def test_short_is_said_of_the_whole_of_a_document_without_its_repeated_lines() -> None:
    parts = [Document("the first part", 1, 0), Document("the second part", 1, 0, False)]
    assert chosen_of(parts, min_characters=29).dropped == {}
    assert chosen_of(parts, min_characters=30).dropped == {"short": 1}
    notices = [Document("this line is everywhere", number, 0) for number in (2, 3)]
    parts[1] = parts[1]._replace(text="this line is everywhere\nthe second part")
    lines: dict[str, Any] = {"dedup": ("lines",), "line_documents": 2}
    gone = {"repeated lines only": 2}
    assert chosen_of(parts + notices, min_characters=29, **lines).dropped == gone
    assert chosen_of(parts + notices, min_characters=30, **lines).dropped == gone | {"short": 1}
    assert chosen_of(parts + notices, max_characters=29, **lines).dropped == gone
    assert chosen_of(parts + notices, max_characters=28, **lines).dropped == gone | {"long": 1}


@pytest.mark.parametrize("dedup", ["exact", "near"])
def test_nothing_is_a_duplicate_of_a_document_that_is_left_out(dedup: Any, tmp_path: Path) -> None:
    if dedup == "near":
        pytest.importorskip("rensa")
    (tmp_path / "eval.txt").write_text(make_text(9, 13))
    begins = make_text(1, 60)
    first = [Document(begins, 1, 0), Document(f"{make_text(9, 13)} {make_text(2, 40)}", 1, 0, False)]
    second = [Document(begins, 1, 0), Document(make_text(3, 50), 1, 0, False)]
    length = sum(len(part.text) for part in first)
    evaluation = {"without": (tmp_path / "eval.txt",)}
    for settings, reason in ((evaluation, "evaluation text"), ({"max_characters": length - 1}, "long")):
        kept = chosen_of(first + second, dedup=(dedup,), **settings)
        assert kept.dropped == {reason: 1} and [*kept.apply(iter(first + second))] == second
    kept = chosen_of(second + first, dedup=(dedup,), min_characters=length)
    assert kept.dropped == {"short": 1} and [*kept.apply(iter(second + first))] == first
    assert chosen_of(second + first, dedup=(dedup,)).dropped == {f"{dedup} duplicate": 1}


@pytest.mark.parametrize(
    ("keep", "dropped"),
    [
        ({"dedup": ("exact",)}, {}),
        ({"min_characters": 200}, {}),
        ({"min_characters": 306_000}, {}),
        ({"min_characters": 307_000}, {"short": 2}),
        ({}, {}),
    ],
    ids=str,
)
def test_books_of_one_long_line_are_not_judged_by_their_titles(
    keep: dict[str, Any], dropped: dict[str, int], tmp_path: Path
) -> None:
    (tmp_path / "books").mkdir()
    for seed in (1, 2):
        (tmp_path / "books" / f"{seed}.txt").write_text(f"Chapter 1\n{make_text(seed, 90_000)[:306_000]}")
    write(tmp_path / "books" / "b.jsonl", [make_text(seed, 120_000)[:408_144] for seed in (3, 4)])
    result = run(tmp_path / "books", tmp_path / "out", **keep)
    assert result.dropped == dropped and result.sources[0]["documents"] == 4 - sum(dropped.values())


def test_evaluation_text_is_found_over_the_borders_of_parts(tmp_path: Path) -> None:
    """Wherever the border is, of words and inside of one, and where parts between hold less than a run."""
    words = [f"secret{number}" for number in range(13)]
    secret = " ".join(words)
    (tmp_path / "eval.txt").write_text(secret)
    settings = KeepSettings(without=(tmp_path / "eval.txt",))

    def is_left_out(*texts: str) -> bool:
        parts = [Document(text, 1, 0, place == 0) for place, text in enumerate(texts)]
        return bool(decided([parts], 1, settings).dropped)

    for border in range(len(secret) + 1):
        assert is_left_out(f"some words, {secret[:border]}", f"{secret[border:]} and some more"), border
    assert is_left_out("some words", *words, "and more")
    assert is_left_out("some words", " ".join(words[:6]), "...", " ".join(words[6:]))
    for place in range(13):
        assert not is_left_out("some words", *words[:place], *words[place + 1 :], "and more")
        assert is_left_out("some words", *words[:place], "else", *words[place:], "and more") == (place == 0)
    one, other = (Document(half, number, 0) for number, half in enumerate((secret[:50], secret[50:])))
    assert not decided([[one, other]], 1, settings).dropped  # two documents


def test_prepare_finds_evaluation_text_on_the_border_of_its_parts(tmp_path: Path) -> None:
    rng = random.Random(0)
    secret = " ".join(f"secret{number}" for number in range(13))
    (tmp_path / "eval.txt").write_text(secret)
    filler = " ".join(rng.choice(["kan", "lot", "mit", "sob"]) for _ in range(2 * MAX_DOCUMENT_CHARS // 4))
    tails = (28, 60, 92)
    texts = [f"{filler[: MAX_DOCUMENT_CHARS - tail]}{secret} {filler[MAX_DOCUMENT_CHARS:]}" for tail in tails]
    path = write(tmp_path / "corpus.jsonl", [*texts, filler, make_text(1, 60)])
    borders = [[document.text for document in read_documents(Source([path]), ReadCounts())][at] for at in (0, 3, 6)]
    assert not any(secret in border for border in borders) and all("secret0" in border for border in borders)
    assert run(path, tmp_path / "shards", without=(tmp_path / "eval.txt",)).dropped == {"evaluation text": 3}


def test_prepare_leaves_out_counts_and_shows(tmp_path: Path) -> None:
    texts = [make_text(seed, 60) for seed in range(50)]
    notice = "Read our terms of use before you go on."
    planted = [f"{notice}\n{text}" for text in [*texts, texts[3], texts[4], "kan"]]
    path = write(tmp_path / "corpus.jsonl", planted)
    usual = run(write(tmp_path / "clean.jsonl", texts), tmp_path / "clean")
    keep = {"dedup": ("exact", "lines"), "min_characters": 10, "dropped": tmp_path / "dropped.jsonl"}
    result = run(path, tmp_path / "shards", **keep)
    assert result.dropped == {"exact duplicate": 2, "short": 1} and result.removed_lines == 50
    assert result.read.documents == 53 and result.sources[0]["documents"] == 50
    assert result.sources[0]["characters"] == sum(map(len, texts)) == usual.sources[0]["characters"]
    assert result.train_rows + result.valid_rows > 0 and result.tokens == usual.tokens
    source = read_index(tmp_path / "shards").source
    assert source["left_out_exact_duplicate"] == 2 and source["left_out_short"] == 1 and source["removed_lines"] == 50
    assert source["keep"] == "dedup=('exact', 'lines'), min_characters=10"
    samples = [json.loads(line) for line in (tmp_path / "dropped.jsonl").read_text().splitlines()]
    assert [each["reason"] for each in samples] == ["exact duplicate"] * 2 + ["repeated line", "short"]
    assert samples[0]["text"].endswith(texts[3]) and samples[2]["text"] == notice
    assert samples[0]["source"] == str(path)
    assert "keep" not in read_index(tmp_path / "clean").source and usual.dropped == {}


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        ({"dropped": Path("x.jsonl")}, "nothing is asked to be left out"),
        ({"min_characters": 9, "max_characters": 8}, "--max-characters 8 is below --min-characters 9"),
        ({"dropped": Path(__file__), "dedup": ("exact",)}, "exists already"),
        ({"dropped": Path("shards/x.jsonl"), "dedup": ("exact",)}, "is inside .*shards, which is made as a whole"),
        ({"dropped": Path(__file__) / "x.jsonl", "dedup": ("exact",)}, r"x\.jsonl cannot be written: Not a directory"),
        ({"min_characters": 10**6}, r"in what is left of the input: 2 documents left out as short"),
    ],
)
def test_what_cannot_be_is_said(keep: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = write(tmp_path / "corpus.jsonl", [make_text(seed, 60) for seed in range(2)])
    keep = {**keep, "dropped": tmp_path / keep["dropped"]} if "dropped" in keep else keep
    with pytest.raises(UserError, match=message):
        run(path, tmp_path / "shards", **keep)
    assert not (tmp_path / "shards").exists()


def test_duplicates_are_named_between_commas() -> None:
    assert parse_duplicates(["near,exact", "lines"]) == ("exact", "near", "lines")
    with pytest.raises(UserError, match="--dedup nearly: not known"):
        parse_duplicates(["exact,nearly"])


@pytest.mark.parametrize(
    ("library", "keep", "message"),
    [
        ("rensa", {"dedup": ("near",)}, r"--dedup near needs rensa.*\n.*masklater\[dedup\]"),
        ("py3langid.langid", {"languages": ("en",)}, r"--language needs py3langid.*\n.*masklater\[languages\]"),
    ],
)
def test_a_missing_library_is_named_with_its_extra(
    library: str, keep: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(UserError, match=message):
        chosen(["text"], **keep)


def test_languages() -> None:
    pytest.importorskip("py3langid")
    texts = [
        "This is a sentence in the English language.",
        "Dies ist ein Satz in deutscher Sprache.",
        "यह हिन्दी में लिखा हुआ एक वाक्य है।",
    ]
    kept = chosen(texts, languages=("de", "hi"))
    assert kept.dropped == {"other language": 1} and kept_texts(kept, texts) == texts[1:]
    with pytest.raises(UserError, match="--language xx: not known to the model"):
        chosen(texts, languages=("xx",))


@pytest.mark.slow
@pytest.mark.skipif(not WIKIPEDIA.exists(), reason="the real corpora are not on this machine")
def test_what_was_planted_in_wikipedia_is_found(tmp_path: Path) -> None:
    """Precision and recall of each way, in 1,000 articles; the figures are in docs/log.md."""
    pytest.importorskip("rensa")
    rng = random.Random(0)
    with WIKIPEDIA.open() as file:
        articles = [json.loads(line)["text"][:20_000] for line, _ in zip(file, range(1000), strict=False)]
    pairs = (DATA / "blimp" / "distractor_agreement_relative_clause.jsonl").read_text().splitlines()
    long_ones = [good for good in (json.loads(pair)["sentence_good"] for pair in pairs) if len(words_of(good)) >= 8]
    picked = rng.sample([each for each in articles[50:] if len(each) > 2000], 200)
    equal, near = picked[:100], [changed(each, rng.randrange(80, 400)) for each in picked[100:200]]
    tainted = [f"{each[:1000]} {rng.choice(long_ones)} {each[1000:]}" for each in articles[:50]]
    texts = articles[50:] + equal + near + tainted
    kept = chosen(texts, dedup=("exact", "near"), without=(DATA / "blimp",))
    planted = ["" for _ in articles[50:]] + ["exact"] * 100 + ["near"] * 100 + ["evaluation"] * 50
    reasons = np.frombuffer(kept.reasons, np.uint8)
    names = {7: "evaluation", 8: "exact", 9: "near"}
    found = [names.get(int(code), "") for code in reasons]
    for what in ("exact", "near", "evaluation"):
        hits = sum(a == b == what for a, b in zip(found, planted, strict=True))
        precision, recall = hits / found.count(what), hits / planted.count(what)
        print(f"{what}: precision {precision:.3f}, recall {recall:.3f}")
        assert recall > 0.9 and precision > 0.85


def test_slices_share_no_document_and_are_all_of_them_together(tmp_path: Path) -> None:
    texts = [make_text(seed, 20) for seed in range(80)]
    slices = [(0.0, 0.25), (0.25, 1.0)]
    found = [kept_texts(chosen(texts + texts[:10], of_documents=part), texts + texts[:10]) for part in slices]
    assert sorted(found[0] + found[1]) == sorted(texts + texts[:10])
    assert not set(found[0]) & set(found[1])
    assert 8 <= len(set(found[0])) <= 32
    assert chosen(texts, of_documents=(0.25, 1.0)).dropped == {"another slice": len(set(found[0]))}
    result = run(write(tmp_path / "texts.jsonl", texts), tmp_path / "shards", of_documents=(0.25, 1.0))
    assert result.read.documents == 80
    assert result.dropped == {"another slice": len(set(found[0]))}
    assert result.valid_rows > 0  # of the slice, a part is held out
    assert result.train_rows > 4 * result.valid_rows


@pytest.mark.parametrize("text", ["0.5", "1:0", "0:1.5", "-1:0.5", "a:b", "0.3:0.3", "0:nan"])
def test_a_slice_is_a_part_of_all(text: str) -> None:
    assert parse_slice("0.2:1") == (0.2, 1.0)
    with pytest.raises(UserError, match=f"--slice {text}"):
        parse_slice(text)
