"""What is read and what is not: endings, links, names that stand twice, and what is no file at all."""

import gzip
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from masklater.corpus.data_set_folder import NO_ROWS
from masklater.corpus.files import LINKED_FOLDERS, describe, find_files, find_matching, repeated
from masklater.corpus.hub_rows import find_hub_rows
from masklater.corpus.made_of_text import MADE_OF_TEXT
from masklater.corpus.prepare import prepare
from masklater.corpus.read import Source
from masklater.corpus.settings import PrepareSettings
from masklater.corpus.shards import Shards
from masklater.errors import UserError
from masklater.model.export import export_encoder
from masklater.pretrain.loop import pretrain
from masklater.run.folder import RunFolder
from tests.conftest import make_text, tiny


def found(*inputs: Path) -> tuple[list[str], dict[str, int]]:
    passed_over: Counter[str] = Counter()
    return [file.name for file in find_files(list(inputs), passed_over)], dict(passed_over)


def test_everything_in_a_folder_is_read_or_counted(tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    for name in ("a.txt", "B.TXT", "c.JSONL", "d.Txt.Gz", "sub/e.jsonl.GZ", "sub/deep/f.txt",
                 "x.pdf", "sub/y.PDF", "z.docx", "README", "v.pdf.bz2", "w.docx.zst", "u.tar.gz",
                 ".hidden.txt", ".git/config.txt", "sub/.DS_Store"):  # fmt: skip
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "g.txt").write_text("clouds")
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "linked.txt").symlink_to(tmp_path / "elsewhere" / "g.txt")
    (folder / "gone.txt").symlink_to(tmp_path / "nowhere")
    os.mkfifo(folder / "pipe.txt")
    names, passed_over = found(folder)
    assert sorted(names) == ["B.TXT", "a.txt", "c.JSONL", "d.Txt.Gz", "e.jsonl.GZ", "f.txt", "linked.txt"]
    assert passed_over == {
        ".pdf": 2, ".docx": 1, "without an ending": 1, ".pdf.bz2": 1, ".docx.zst": 1, ".tar.gz": 1, "hidden": 3,
        "linked folders (named as inputs they are read)": 1, "broken links": 1, "pipes and devices": 1,
    }  # fmt: skip
    assert found(folder, folder / "linked") == ([*names, "g.txt"], passed_over)


def test_what_was_made_of_text_is_no_text(tmp_path: Path, shards: Shards) -> None:
    """Whoever prepares `.` a second time has the first SHARDS in it, and all that came of them."""
    (tmp_path / "a.txt").write_text("clouds")
    made = tmp_path / "made"
    shutil.copytree(shards.folder, made / "shards")
    pretrain(tiny("vanilla-small", "duration.steps=1"), shards.folder, made / "run")
    run = RunFolder(made / "run")
    export_encoder(run.model_of(run.open_newest()), run.tokenizer, made / "encoder")
    shutil.copytree(shards.folder / "tokenizer", made / "tokenizer")
    # What takes two runs or a sweep to make is known by two of its files, which tests of their own hold.
    for first, second in (("selection.json", "scores.npy"), ("targets.json", "excess.npy"), ("sweep.json", "runs.jsonl"),
                          ("report.json", "report.md"), ("config.json", "model.safetensors.index.json")):  # fmt: skip
        (made / second).mkdir()
        for name in (first, second):
            (made / second / name).write_text("{}")
    assert found(tmp_path) == (["a.txt"], {MADE_OF_TEXT: 9})
    others: Counter[str] = Counter()
    assert [file.name for file in find_matching(str(tmp_path / "*"), others)] == ["a.txt"] and others[MADE_OF_TEXT] == 9
    others.clear()
    (made / "b.txt").write_text("rain")
    assert [file.name for file in find_matching(str(made / "*"), others)] == ["b.txt"] and others[MADE_OF_TEXT] == 9
    deep = find_matching(str(tmp_path / "**" / "*"), others)
    assert [file.name for file in deep] == ["a.txt", "b.txt"] and others[MADE_OF_TEXT] == 18
    (made / "b.txt").unlink()
    (made / "report.json").write_text('{"text": "one of the two alone is text"}')
    assert found(tmp_path)[0] == ["a.txt", "report.json"]
    with pytest.raises(UserError, match=r"made/encoder is no corpus"):
        find_files([tmp_path, made / "encoder"])


def test_a_copy_of_a_repository_of_the_hub_is_read_by_split(tmp_path: Path) -> None:
    """Its test rows were read beside those to train on, and its card as a document."""
    copy = tmp_path / "copy"
    for name in ("en/train-00000-of-00001.jsonl", "en/extra/latest.jsonl", "README.md", "docs/README.md"):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_text('{"text": "kan"}')
    assert len(find_files([copy])) == 4  # a README.md without a header is text
    (copy / "README.md").write_text("---\ntitle: Welcome\nlayout: page\n---\n# A page\n")
    assert len(find_files([copy])) == 4  # nor is one with the header of a page a card
    (copy / "README.md").write_text("---\nlicense: mit\n---\n# A card\n")
    assert found(copy) == (["README.md", "latest.jsonl", "train-00000-of-00001.jsonl"], {NO_ROWS: 1})
    (copy / "en/test.jsonl").write_text('{"text": "lot"}')
    for folder in (copy, tmp_path):
        with pytest.raises(
            UserError, match=r"copy is a data set of the hub with several splits: test, train"
        ) as raised:
            find_files([folder])
        assert f"hf:{copy}#train" in raised.value.remedy
    rows = find_hub_rows(f"hf:{copy}#train").records(Source([]).fields)
    assert [record["text"] for _, record in rows] == ["kan"]
    assert len(find_matching(f"{copy}/**/*.jsonl")) == 3


def test_the_most_frequent_endings_come_first() -> None:
    assert describe(Counter({".csv": 1, ".md": 1200, "hidden": 2})) == "1,200 .md, 2 hidden, 1 .csv"
    many = Counter({f".e{number}": 1 for number in range(20)})
    assert describe(many).startswith("1 .e0, 1 .e1") and describe(many).endswith(", 12 with other endings")


def test_a_folder_without_text_says_what_it_holds(tmp_path: Path) -> None:
    for name in ("a.pdf", "b.pdf", "c.docx"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(UserError, match=r"holds no text: .*; it holds: 2 \.pdf, 1 \.docx") as refused:
        find_files([tmp_path])
    assert "pdftotext" in refused.value.remedy


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("a.zip", "Unpack it"), ("a.b.TAR.GZ", "Unpack it"), ("a.tgz", "Unpack it"), ("a.jsonl.zip", "Unpack it"),
        ("page.html", "trafilatura"), ("page.html.gz", "trafilatura"), ("a.jsonl.lz4", "Unpack it"), ("CC.warc.wet.gz", "warcio"),
        ("a.xlsx", ".csv"), ("a.sqlite", "JSON lines"), ("reads.fastq.gz", "FASTA"), ("en.conllu", "sed"), ("a.py", "--read-as txt"), ("text", "--read-as txt"),
    ],
)  # fmt: skip
def test_what_is_not_read_is_said_with_what_to_do(name: str, remedy: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("text")
    with pytest.raises(UserError, match="does not end in") as refused:
        find_files([tmp_path / name])
    assert remedy in refused.value.remedy


def test_a_folder_that_cannot_be_listed_is_not_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.txt").write_text("text")
    real = os.scandir

    def scandir(path: Any) -> Any:
        if str(path).endswith("sub"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(UserError, match=r"the folder .*sub cannot be read: Permission denied"):
        find_files([tmp_path])


def test_what_is_named_twice_is_read_twice_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    for number in range(4):
        (folder / f"{number}.txt").write_text(make_text(number, 60))
    (tmp_path / "other.txt").symlink_to(folder / "3.txt")
    monkeypatch.chdir(tmp_path)
    settings = PrepareSettings(vocab_size=300, row_length=16)
    once = prepare([folder], tmp_path / "once", settings)
    assert once.repeated == {} and "named" not in capsys.readouterr().err
    inputs = [folder, Path("texts"), folder / "3.txt", tmp_path / "other.txt"]
    more = prepare(inputs, tmp_path / "more", settings)
    assert (more.read.documents, more.read.files) == (10, 10)
    assert more.read.characters > 2 * once.read.characters
    assert sorted(more.repeated.values()) == [2, 2, 2, 4]
    assert (
        f"named 4 times, and read as often: {folder}/3.txt = texts/3.txt = {tmp_path}/other.txt"
        in capsys.readouterr().err
    )
    assert prepare([folder / "1.txt"] * 2 + [folder / "2.txt"], tmp_path / "twice", settings).read.documents == 3


def test_another_name_of_a_file_in_one_folder_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")
    (tmp_path / "b.txt").symlink_to("a.txt")
    (tmp_path / "c.txt").hardlink_to(tmp_path / "a.txt")
    assert repeated(find_files([tmp_path])) == {f"{tmp_path}/a.txt = {tmp_path}/b.txt = {tmp_path}/c.txt": 3}


def test_a_double_star_goes_through_no_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two links back to their own folder have no end; one star goes through them, as in a shell, and so does a name."""
    monkeypatch.chdir(tmp_path)
    Path("src/pkg/deep").mkdir(parents=True)
    for name in ("src/pkg/a.py", "src/pkg/deep/b.py", "src/pkg/deep/.c.py"):
        Path(name).write_text("text")
    for name, to in (("src/self", "."), ("src/pkg/again", ".."), ("src/pkg64", "pkg"), ("named", "src")):
        Path(name).symlink_to(to)

    def matching(pattern: str) -> tuple[list[str], dict[str, int]]:
        others: Counter[str] = Counter()
        return [str(file) for file in find_matching(pattern, others, "txt")], dict(others)

    both = ["src/pkg/a.py", "src/pkg/deep/b.py"]
    for pattern in ("src/**/*.py", "**/*.py", "./src/**", f"{tmp_path}/src/**/**/*.py"):
        names, others = matching(pattern)
        assert [name.removeprefix(f"{tmp_path}/") for name in names] == both
        assert others == {LINKED_FOLDERS: 4 if pattern == "**/*.py" else 3}
    assert matching("named/**/*.py") == ([name.replace("src", "named") for name in both], {LINKED_FOLDERS: 3})
    assert matching("src/*/a.py") == (["src/pkg/a.py", "src/pkg64/a.py"], {})
    assert matching("src/pkg64/*.py") == (["src/pkg64/a.py"], {})
    Path("src/pkg/c.txt").write_text("text")
    assert matching("src/p*") == (["src/pkg/c.txt", "src/pkg64/c.txt"], {".py": 4, "hidden": 2, LINKED_FOLDERS: 2})
    with pytest.raises(
        UserError, match=r"src/s\*f/\*\* matches no text.*: 1 linked folders.*\n.*Name the linked folders"
    ):
        matching("src/s*f/**")


def test_other_names_of_a_file_are_said_whatever_it_is_read_as(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("text")
    (tmp_path / "b.py").hardlink_to(tmp_path / "a.py")
    (tmp_path / "c.py").write_text("text")
    files = find_matching(f"{tmp_path}/*.py", read_as="txt")
    assert repeated(files) == {f"{tmp_path}/a.py = {tmp_path}/b.py": 2}


def test_upper_case_endings_say_what_a_file_is(tmp_path: Path) -> None:
    (tmp_path / "A.TXT.GZ").write_bytes(gzip.compress(make_text(1, 50).encode()))
    (tmp_path / "B.JSONL").write_text('{"text": "stones"}\n')
    settings = PrepareSettings(vocab_size=300, row_length=16)
    assert prepare([tmp_path], tmp_path / "out", settings).read.documents == 2


def test_what_was_passed_over_is_said_and_in_the_result(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(3):
        (tmp_path / f"{number}.txt").write_text(make_text(number, 50))
    (tmp_path / "a.txt.lz4").write_bytes(b"bees")
    result = prepare([tmp_path], tmp_path / "out", PrepareSettings(vocab_size=300, row_length=16))
    assert result.passed_over == {".txt.lz4": 1}
    assert "not read: 1 .txt.lz4 (text ends in .txt, .md, .jsonl, " in capsys.readouterr().err


PIPES = {
    "standard input": "cat text.jsonl | {run} /dev/stdin",
    "standard input from a file": "{run} /dev/stdin < text.jsonl",
    "a process substitution": "{run} <(cat text.jsonl)",
}


@pytest.mark.parametrize("name", PIPES)
def test_a_pipe_is_explained(name: str, tmp_path: Path) -> None:
    (tmp_path / "text.jsonl").write_text('{"text": "stones"}\n')
    script = PIPES[name].format(run=f"{sys.executable} -m masklater prepare --out out --vocab-size 300")
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 2, done.stderr
    assert "is no file on disk: text is read several times" in done.stderr
    assert "Write it to a file first" in done.stderr and "Traceback" not in done.stderr


def test_pipes_and_devices_by_name(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "p.jsonl")
    for path in (tmp_path / "p.jsonl", Path("-"), Path("/dev/null"), Path("/dev/fd/7")):
        with pytest.raises(UserError, match=f"{path} is no file on disk: text is read several times"):
            find_files([path])


def test_a_pipe_that_is_refused_lets_its_writer_go(tmp_path: Path) -> None:
    """A background `zstdcat > pipe` would wait for a reader for ever."""
    os.mkfifo(tmp_path / "p.jsonl")
    writer = subprocess.Popen(["sh", "-c", f"yes > {tmp_path / 'p.jsonl'}"], stderr=subprocess.DEVNULL)
    time.sleep(0.3)
    with pytest.raises(UserError, match="is no file on disk"):
        find_files([tmp_path / "p.jsonl"])
    assert writer.wait(timeout=120) != 0


def test_a_file_in_memory_is_a_file(tmp_path: Path) -> None:
    path = Path("/dev/shm") / f"masklater-{os.getpid()}.txt"
    if not path.parent.is_dir():
        pytest.skip("this machine has no /dev/shm")
    path.write_text("text")
    try:
        assert find_files([path]) == [path]
    finally:
        path.unlink()
