"""SHARDS of many parts: the same bytes however they are made, and nothing that is finished is lost."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import fields, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from masklater.corpus import prepare as prepare_module
from masklater.corpus import whole as whole_module
from masklater.corpus.keep.settings import KeepSettings, parse_duplicates
from masklater.corpus.parts import looks as looks_module
from masklater.corpus.parts import make as make_module
from masklater.corpus.parts import work as work_module
from masklater.corpus.parts.folder import parts_folder
from masklater.corpus.prepare import PrepareResult, prepare
from masklater.corpus.settings import PrepareSettings, parse_row_lengths
from masklater.corpus.shards import Shards
from masklater.corpus.tokenizer import load
from masklater.errors import DamagedDataError, UserError
from tests.conftest import make_text
from tests.corpus.parts.whole_folders import bytes_of


def make(inputs: list[Path], out: Path, resume: bool = False, **settings: object) -> PrepareResult:
    defaults = {"vocab_size": 320, "row_length": 32, "valid_fraction": 0.1, "workers": 1, "part_bytes": 4000}
    return prepare(inputs, out, PrepareSettings(**{**defaults, **settings}), resume)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A large file, in some of whose documents a line is the same, and small ones; the last holds one of the large."""
    folder = tmp_path_factory.mktemp("texts")
    notices = ["The same in many.\n" * (i % 10 == 3) for i in range(150)]
    lines = [json.dumps({"text": notice + make_text(i, 5 + i % 60)}) for i, notice in enumerate(notices)]
    (folder / "large.jsonl").write_text("\n".join(lines))
    for number in range(6):
        (folder / f"small-{number}.txt").write_text(make_text(200 + number, 150))
    (folder / "z.txt").write_text(make_text(40, 45))
    return folder


@pytest.fixture(scope="module")
def straight(texts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SHARDS made in one process, one part after the other."""
    out = tmp_path_factory.mktemp("straight") / "out"
    assert make([texts], out).parts > 5
    return out


@pytest.mark.parametrize("workers", [2, 4])
def test_any_number_of_processes_makes_the_same_bytes(
    workers: int, texts: Path, straight: Path, tmp_path: Path
) -> None:
    result = make([texts], tmp_path / "out", workers=workers)
    assert bytes_of(tmp_path / "out") == bytes_of(straight)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    shards = Shards(tmp_path / "out")
    assert (result.train_rows, result.tokens) == (
        shards.train.num_rows, shards.index.train.tokens + shards.index.valid.tokens,
    )  # fmt: skip


def make_without(texts: Path, out: Path, dedup: str, **settings: object) -> PrepareResult:
    keep = KeepSettings(
        dedup=parse_duplicates([dedup]), line_documents=2, min_characters=30, dropped=out.with_suffix(".jsonl")
    )
    return make([texts], out, keep=keep, **settings)


@pytest.mark.parametrize(
    ("dedup", "workers"),
    [
        ("exact,near,lines", 2),
        *(pytest.param(way, 2, marks=pytest.mark.slow) for way in ("exact", "near", "lines")),
        pytest.param("exact,near,lines", 4, marks=pytest.mark.slow),
    ],
)
def test_what_is_left_out_is_the_same_too(
    dedup: str, workers: int, texts: Path, straight: Path, tmp_path: Path
) -> None:
    if "near" in dedup:
        pytest.importorskip("rensa")
    made = [
        make_without(texts, tmp_path / f"{number}", dedup, workers=number, tokenizer=straight / "tokenizer")
        for number in (1, workers)
    ]
    assert made[0].dropped == made[1].dropped and made[0].sources == made[1].sources and made[0].dropped["short"] > 1
    assert dedup == "lines" or made[0].dropped[f"{parse_duplicates([dedup])[0]} duplicate"] >= 1
    assert (made[0].removed_lines > 0) == ("lines" in dedup)
    assert bytes_of(tmp_path / "1") == bytes_of(tmp_path / f"{workers}")
    assert (tmp_path / "1.jsonl").read_bytes() == (tmp_path / f"{workers}.jsonl").read_bytes()
    assert not list(tmp_path.glob("*.parts"))


def test_what_is_left_out_does_not_depend_on_parts(texts: Path, tmp_path: Path) -> None:
    plain = make([texts], tmp_path / "one", part_bytes=2**20, keep=KeepSettings(min_characters=30))
    many = make([texts], tmp_path / "many", keep=KeepSettings(min_characters=30))
    assert (plain.parts, plain.dropped, plain.tokens, plain.sources) == (1, many.dropped, many.tokens, many.sources)


def test_parts_hold_the_rows_of_their_documents(texts: Path, straight: Path, tmp_path: Path) -> None:
    """Counts and documents are those of one part; uneven shards are read by number all the same."""
    one = make([texts], tmp_path / "one", part_bytes=2**20, tokenizer=straight / "tokenizer")
    assert one.parts == 1
    many, whole = Shards(straight), Shards(tmp_path / "one")
    assert {shard.rows for shard in many.index.train.shards[:-1]} != {many.index.train.shards[0].rows}
    assert (many.index.format, whole.index.format) == (3, 2)

    def pieces(shards: Shards, split: str) -> list[tuple[int, ...]]:
        rows = getattr(shards, split)
        block = rows.read(np.random.default_rng(0).permutation(rows.num_rows))
        is_text = ~np.isin(block.ids_NL, shards.vocabulary.special)
        return sorted(
            tuple(ids[(documents == number) & text].tolist())
            for ids, documents, text in zip(block.ids_NL, block.documents_NL, is_text, strict=True)
            for number in range(documents.max() + 1)
        )

    for split in ("train", "valid"):
        assert pieces(many, split) == pieces(whole, split) != []
        firsts = [shard.first_document for shard in getattr(many.index, split).shards]
        assert firsts == np.cumsum([0, *(one.documents for one in getattr(many.index, split).shards[:-1])]).tolist()
    tokens = [index.train.tokens + index.valid.tokens for index in (many.index, whole.index)]
    assert tokens[0] == tokens[1] == one.tokens


def test_several_row_lengths_out_of_one_reading(texts: Path, straight: Path, tmp_path: Path) -> None:
    """Each to the byte what is made of it alone, in one part and in many, packed either way."""
    for part_bytes, packing in ((4000, "documents"), (2**20, "continuous")):
        made = tmp_path / packing
        settings = {"part_bytes": part_bytes, "pack": packing, "tokenizer": straight / "tokenizer"}
        result = make([texts], made / "out", further_row_lengths=(64, 16), workers=2, **settings)
        assert sorted(path.name for path in (made / "out").iterdir()) == ["rows-16", "rows-32", "rows-64"]
        for counted in result.row_lengths:
            length = counted.row_length
            alone = make([texts], made / f"alone-{length}", row_length=length, **settings)
            assert bytes_of(made / "out" / f"rows-{length}") == bytes_of(made / f"alone-{length}")
            assert counted == replace(alone.row_lengths[0], out=str(made / "out" / f"rows-{length}"))
        assert [each.row_length for each in result.row_lengths] == [32, 64, 16]
        assert (result.train_rows, result.tokens) == (result.row_lengths[0].train_rows, result.row_lengths[0].tokens)


@pytest.mark.parametrize(
    ("text", "said"),
    [("128,512,", "nothing is no row length"), ("7", "7 is no row length"), ("128,1e3", "1e3 is no row length"),
     ("-9", "-9 is no row length"), ("65537", "65537 is no row length"), ("64,32,64", "a row length stands there twice")],
)  # fmt: skip
def test_row_lengths_that_are_none(text: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        parse_row_lengths(text)
    assert parse_row_lengths("128") == (128,)
    assert parse_row_lengths("128, 512") == (128, 512)


def in_a_child(work: Callable[[], object]) -> int:
    """Do work in a process that may be killed; return how it ended."""
    child = os.fork()
    if not child:
        try:
            work()
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_killed_three_times_it_goes_on_to_the_same_bytes(
    texts: Path, straight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"tokenizer": straight / "tokenizer"}
    make([texts], tmp_path / "straight", **settings)
    out = tmp_path / "out"
    for module, name, calls, finished in (
        (make_module, "tokenise", 3, 2), (work_module, "sync_files", 2, 3), (prepare_module, "link_shards", 2, None),
    ):  # fmt: skip
        original, left = getattr(module, name), [calls]

        def killing(*arguments: object, original: Callable[..., object] = original, left: list[int] = left) -> object:
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*arguments)

        with monkeypatch.context() as patched:
            patched.setattr(module, name, killing)
            assert in_a_child(lambda: make([texts], out, resume=True, **settings)) == -signal.SIGKILL
        assert not out.exists()
        there = len(list((tmp_path / "out.parts").glob("*/part.json")))
        assert finished is None or there - len(list((tmp_path / "out.parts").glob("*.partial-*/part.json"))) == finished
    with pytest.raises(UserError, match=r"out\.parts holds what .* finished: \d+ finished parts.*\n.*--resume"):
        make([texts], out, **settings)
    result = make([texts], out, resume=True, workers=2, **settings)
    assert result.parts_taken_over == result.parts
    assert bytes_of(out) == bytes_of(tmp_path / "straight")
    assert not (tmp_path / "out.parts").exists()


@pytest.mark.parametrize("name", ["LineCounts", "judge"])
def test_killed_while_it_looks_it_goes_on_from_the_looks(
    name: str, texts: Path, straight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"dedup": "exact,lines", "tokenizer": straight / "tokenizer"}
    parts = make_without(texts, tmp_path / "straight", **settings).parts
    original, calls = getattr(looks_module, name), [0]

    def counting(*arguments: object, last: int = 0) -> object:
        calls[0] += 1
        if calls[0] == last:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(looks_module, name, partial(counting, last=4))
        assert in_a_child(lambda: make_without(texts, tmp_path / "out", **settings)) == -signal.SIGKILL
    looks = 3 if name == "LineCounts" else parts + 3
    assert len([path for path in tmp_path.glob("out.parts/looks/*/part.json") if ".partial" not in str(path)]) == looks
    with pytest.raises(UserError, match=rf"out\.parts holds what .* finished: {looks} looks at parts\n.*--resume"):
        make_without(texts, tmp_path / "out", **settings)
    monkeypatch.setattr(looks_module, name, counting)
    make_without(texts, tmp_path / "out", resume=True, **settings)
    assert calls[0] == parts - 3
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "straight")
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "straight.jsonl").read_bytes()


SCRIPT = """
import sys
from pathlib import Path
from masklater.corpus.prepare import prepare
from masklater.corpus.settings import PrepareSettings
if __name__ == "__main__":
    settings = PrepareSettings(vocab_size=2000, part_bytes=60_000, workers=2)
    prepare([Path(sys.argv[1])], Path(sys.argv[2]), settings, resume=True)
"""


@pytest.mark.slow
@pytest.mark.longest
def test_killed_at_twenty_random_moments(tmp_path: Path) -> None:
    """With two processes of its own, which end with it; its tokenizer is trained here too."""
    for number in range(40):
        (tmp_path / "texts").mkdir(exist_ok=True)
        (tmp_path / "texts" / f"{number}.txt").write_text(make_text(number, 10_000))
    (tmp_path / "run.py").write_text(SCRIPT)
    command = [sys.executable, tmp_path / "run.py", tmp_path / "texts"]
    began = time.monotonic()
    subprocess.run([*command, tmp_path / "straight"], check=True, capture_output=True, timeout=1200)
    took = time.monotonic() - began
    kills, ends, seed = 0, 0, np.random.default_rng(0)
    while True:
        if (tmp_path / "out").exists():  # faster than the moment to kill it
            assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "straight")
            if kills >= 20:
                return
            (tmp_path / "out").rename(tmp_path / f"out-{ends}")
            ends += 1
        began = time.monotonic()
        process = subprocess.Popen([*command, tmp_path / "out"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            assert process.wait(seed.uniform(0.3, 1.0) * took if kills < 20 else 1200) == 0
            took = min(took, time.monotonic() - began)  # the straight run may have had less of the machine
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            kills += 1


def test_a_damaged_input_ends_its_part_and_no_other(
    texts: Path, straight: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    lines = [json.dumps({"text": make_text(i, 30)}) for i in range(90)]
    for number in range(3):
        (folder / f"{number}.jsonl").write_text("\n".join(lines[number::3]))
    sound = (folder / "1.jsonl").read_text()
    (folder / "1.jsonl").write_text(sound + "\n{")
    settings = {
        "tokenizer": straight / "tokenizer",
        "valid_fraction": 0.0,
        "part_bytes": 10 + max(file.stat().st_size for file in folder.iterdir()),
    }
    with pytest.raises(DamagedDataError, match=r"1\.jsonl, line 31: not JSON"):
        make([folder], tmp_path / "out", workers=2, **settings)
    said = capsys.readouterr().err
    assert "part 2 of 3:" in said and "2 finished parts, what was found out about the whole; the same command" in said
    assert not (tmp_path / "out").exists()
    (folder / "1.jsonl").write_text(sound)
    assert make([folder], tmp_path / "out", resume=True, **settings).parts_taken_over == 2
    make([folder], tmp_path / "straight", **settings)
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "straight")


@pytest.mark.parametrize("when", ["held_out_below", "make_parts"])
@pytest.mark.parametrize(("number", "found"), [(61, "more documents than the 60"), (59, "59 documents, not the 60")])
def test_an_input_that_has_changed_since_it_was_looked_at_is_said(
    when: str, number: int, found: str, straight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [json.dumps({"text": make_text(i, 30)}) + "\n" for i in range(61)]
    (tmp_path / "a.jsonl").write_text("".join(lines[:60]))
    module = whole_module if when == "held_out_below" else prepare_module
    original = getattr(module, when)

    def changing(*arguments: object) -> object:
        (tmp_path / "a.jsonl").write_text("".join(lines[:number]))
        return original(*arguments)

    monkeypatch.setattr(module, when, changing)
    settings = {"tokenizer": straight / "tokenizer", "keep": KeepSettings(dedup=("exact",)), "part_bytes": 2**20}
    with pytest.raises(UserError, match=rf"the input has changed since it was looked at: it holds {found}"):
        make([tmp_path / "a.jsonl"], tmp_path / "out", **settings)
    assert not (tmp_path / "out").exists()


def test_a_file_that_changed_while_it_was_read_is_named(
    straight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many documents, others: of the files that stay, parts are taken over."""
    folder = tmp_path / "texts"
    folder.mkdir()
    for name in "abc":
        lines = [json.dumps({"text": make_text(i + ord(name), 30)}) for i in range(60)]
        (folder / f"{name}.jsonl").write_text("\n".join(lines))
    original = prepare_module.make_parts

    def changing(*arguments: object) -> object:
        made = original(*arguments)
        (folder / "b.jsonl").write_text("\n".join(reversed(lines)))
        (folder / "c.jsonl").unlink()  # it has been read
        return made

    settings = {"tokenizer": straight / "tokenizer", "part_bytes": 2**13}
    with monkeypatch.context() as patched:
        patched.setattr(prepare_module, "make_parts", changing)
        with pytest.raises(UserError, match=rf"^{folder}/b\.jsonl changed while it was read"):
            make([folder], tmp_path / "out", **settings)
    assert not (tmp_path / "out").exists()
    (folder / "c.jsonl").write_text("\n".join(lines))
    result = make([folder], tmp_path / "out", resume=True, **settings)
    assert 0 < result.parts_taken_over < result.parts
    make([folder], tmp_path / "again", **settings)
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "again")


def test_other_settings_take_nothing_over(texts: Path, straight: Path, tmp_path: Path) -> None:
    """A stranger's parts, and a part that has lost a file, are made anew."""
    settings = {"tokenizer": straight / "tokenizer"}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(prepare_module, "link_shards", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            make([texts], tmp_path / "out", **settings)
    parts = sorted(path for path in (tmp_path / "out.parts").iterdir() if (path / "part.json").exists())
    (parts[0] / "32" / "train-00000.rows").unlink()
    result = make([texts], tmp_path / "out", resume=True, **settings)
    assert result.parts_taken_over == result.parts - 1
    assert bytes_of(tmp_path / "out")["train-00000.rows"]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(prepare_module, "link_shards", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            make([texts], tmp_path / "b", **settings)
    assert make([texts], tmp_path / "b", resume=True, row_length=16, **settings).parts_taken_over == 0


def stop_at_the_end(inputs: list[Path], out: Path, **settings: object) -> None:
    """Prepare as far as that all parts are finished."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(prepare_module, "link_shards", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            make(inputs, out, **settings)


CHANGED: dict[str, object] = {
    "train_tokenizer": "wordpiece", "vocab_size": 330, "normalise": ("lower",), "row_length": 16,
    "further_row_lengths": (64,), "encoding": "latin-1", "documents": "line", "text_field": "other",
    "filters": ("kind=a",), "null_texts": "skip", "marked_words": True, "read_as": "jsonl", "valid_fraction": 0.3,
    "pack": "continuous", "keep": KeepSettings(min_characters=90), "tokenizer": "saved", "trim": True, "trim_to": 310,
}  # fmt: skip
"""Of each setting that decides what SHARDS are, another value than the one before."""
DECIDE_NOTHING = {"max_unknown", "part_bytes", "workers"}


@pytest.fixture(scope="module")
def lines_of_both_kinds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files that can be read as JSON lines and as text, under an ending that is not known."""
    folder = tmp_path_factory.mktemp("lines")
    for part in range(3):
        kinds = [{"text": make_text(i, 25), "other": make_text(i + 90, 25), "kind": "ab"[i % 2]} for i in range(20)]
        lines = [json.dumps(kind) for kind in kinds[part::3]]
        (folder / f"{part}.dat").write_text("\n".join(lines))
    return folder


@pytest.mark.parametrize("name", CHANGED)
def test_a_setting_that_changed_takes_no_part_over_that_it_decides(
    name: str, lines_of_both_kinds: Path, straight: Path, tmp_path: Path
) -> None:
    """Whatever was finished before, SHARDS are to the byte those of a first try."""
    assert {*CHANGED, *DECIDE_NOTHING} == {field.name for field in fields(PrepareSettings)}
    inputs = [lines_of_both_kinds / "*.dat"]
    before: dict[str, object] = {"part_bytes": 2000, "read_as": "txt" if name in {"read_as", "documents"} else "jsonl"}
    if name in {"trim", "trim_to"}:
        before["tokenizer"] = straight / "tokenizer"
    if name == "trim_to":
        before["trim"] = True
    changed = {**before, name: straight / "tokenizer" if name == "tokenizer" else CHANGED[name]}
    stop_at_the_end(inputs, tmp_path / "out", **before)
    make(inputs, tmp_path / "out", resume=True, **changed)
    make(inputs, tmp_path / "afresh", **changed)
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "afresh")


def test_a_tokenizer_that_was_replaced_is_trimmed_anew(
    lines_of_both_kinds: Path, straight: Path, texts: Path, tmp_path: Path
) -> None:
    inputs, saved = [lines_of_both_kinds / "*.dat"], tmp_path / "tokenizer"
    settings = {"part_bytes": 2000, "read_as": "jsonl", "tokenizer": saved, "trim": True}
    shutil.copytree(straight / "tokenizer", saved)
    stop_at_the_end(inputs, tmp_path / "out", **settings)
    make([texts], tmp_path / "other", vocab_size=340, normalise=("lower",))
    shutil.rmtree(saved)
    shutil.copytree(tmp_path / "other" / "tokenizer", saved)
    make(inputs, tmp_path / "out", resume=True, **settings)
    make(inputs, tmp_path / "afresh", **settings)
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "afresh")


def test_resumed_rows_of_every_length_open(texts: Path, tmp_path: Path) -> None:
    """The tokenizer is not saved anew from what was read back, which may be written in other words."""
    settings = {"further_row_lengths": (64,)}
    stop_at_the_end([texts], tmp_path / "out", **settings)
    result = make([texts], tmp_path / "out", resume=True, **settings)
    assert result.parts_taken_over == result.parts
    make([texts], tmp_path / "straight", **settings)
    for length in (32, 64):
        folder = tmp_path / "out" / f"rows-{length}"
        assert load(Shards(folder).folder / "tokenizer").model_max_length == length
        assert bytes_of(folder) == bytes_of(tmp_path / "straight" / f"rows-{length}")


def test_out_inside_what_is_prepared_can_be_resumed(texts: Path, tmp_path: Path) -> None:
    """Neither finished parts nor what a killed process has left is text, for a folder and for a pattern."""
    folder = tmp_path / "texts"
    shutil.copytree(texts, folder)
    (folder / "shards.partial-123").mkdir()
    (folder / "shards.partial-123" / "left.txt").write_text("Left behind.")
    for inputs in ([folder], [folder / "**" / "*"]):
        out = folder / "shards"
        stop_at_the_end(inputs, out)
        assert list((folder / "shards.parts").glob("*/part.json"))
        result = make(inputs, out, resume=True)
        assert result.parts_taken_over == result.parts
        assert sum(one["files"] for one in result.sources) == len(list(texts.iterdir()))
        assert bytes_of(out)["train-00000.rows"]
        shutil.rmtree(out)


def test_a_corpus_of_one_part_leaves_the_parts_of_another(
    texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stop_at_the_end([texts], tmp_path / "out")
    before = sorted(path.name for path in (tmp_path / "out.parts").iterdir())
    with pytest.raises(UserError):
        make([texts / "z.txt"], tmp_path / "out", resume=True)
    assert make([texts / "z.txt"], tmp_path / "out", resume=True, valid_fraction=0.0).parts_taken_over == 0
    assert sorted(path.name for path in (tmp_path / "out.parts").iterdir()) == before
    assert "of another corpus, as this one is of one part: nothing is taken over" in capsys.readouterr().err


def test_two_at_work_on_one_place(tmp_path: Path) -> None:
    with parts_folder(tmp_path / "out", False, False) as place:
        with pytest.raises(UserError, match=r"parts are being made in .*out.* by process"):
            with parts_folder(tmp_path / "out", True, False):
                pass
        assert place.is_dir()
    assert list(tmp_path.iterdir()) == []


def test_a_killed_process_is_said(texts: Path, straight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("masklater.corpus.parts.engines._make", die)
    with pytest.raises(UserError, match="a process that makes parts was killed"):
        make([texts], tmp_path / "out", workers=2, tokenizer=straight / "tokenizer")
    assert not (tmp_path / "out").exists()


def die(task: object) -> None:
    """In place of the making of a part, in a pool's process."""
    os.kill(os.getpid(), signal.SIGKILL)
