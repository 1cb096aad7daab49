"""Folders that are complete or not there, also where they are the folder somebody stands in."""

import shutil
from pathlib import Path

import pytest

from masklater import folders
from masklater.errors import UserError
from masklater.folders import begun_folder, complete_folder, refuse_existing, remove_unfinished, write_file


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, in which the process stands."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@pytest.mark.parametrize("name", [".", "./", "../here", ""])
def test_the_folder_somebody_stands_in_is_filled(name: str, here: Path) -> None:
    inode = here.stat().st_ino
    with complete_folder(Path(name)) as partial:
        (partial / "a.json").write_text("a")
        (partial / "sub").mkdir()
        (partial / "sub" / "b").write_text("b")
    assert here.stat().st_ino == inode, "whoever stands in it would see an empty folder"
    assert names(Path()) == ["a.json", "sub"] and Path("sub/b").read_text() == "b"
    assert names(here.parent) == ["here"]


def test_what_says_what_a_folder_is_comes_last(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is killed while it fills a folder leaves nothing that reads as whole."""
    order = []
    rename = Path.rename
    monkeypatch.setattr(Path, "rename", lambda self, target: (order.append(self.name), rename(self, target)))
    with complete_folder(Path()) as partial:
        for name in ("index.json", "z.rows", "tokenizer", "recipe.yaml"):
            (partial / name).write_text("")
    assert order == ["recipe.yaml", "tokenizer", "z.rows", "index.json"]


def test_a_failure_leaves_the_folder_empty(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ZeroDivisionError), complete_folder(Path()) as partial:
        (partial / "a").write_text("a")
        raise ZeroDivisionError
    assert names(Path()) == []
    rename = Path.rename

    def fail(self: Path, target: Path) -> None:
        if self.name == "b.json":
            raise OSError(28, "No space left on device")
        rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(UserError, match="the disk is full"), complete_folder(Path()) as partial:
        (partial / "a").write_text("a")
        (partial / "b.json").write_text("b")
    assert names(Path()) == []


def test_what_came_meanwhile_is_not_overwritten(here: Path) -> None:
    with pytest.raises(UserError, match=r"exists already, and holds mine"), complete_folder(Path()) as partial:
        (partial / "mine").write_text("ours")
        Path("mine").write_text("mine")
    assert names(Path()) == ["mine"] and Path("mine").read_text() == "mine"


def test_a_name_that_is_no_utf_8_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the work, which would end where a tokenizer is written; also where it is a folder above that has it."""
    here = tmp_path / "caf\udce9"
    here.mkdir()
    monkeypatch.chdir(here)
    for name in (here / "out", Path("out"), Path("../caf\udce9-2")):
        with pytest.raises(UserError, match=r"caf\\udce9(/out|-2) holds bytes that are no UTF-8"):
            refuse_existing(name)
    refuse_existing(tmp_path / "café")


@pytest.mark.parametrize("name", [".", ".."])
def test_a_folder_that_is_not_empty_is_refused(name: str, here: Path) -> None:
    (here / "mine").write_text("mine")
    with pytest.raises(UserError, match=r"\. exists already, and holds (mine|here)"), complete_folder(Path(name)):
        pass


def test_a_mounted_folder_is_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty volume of a container cannot be replaced by another folder, and lies on another disk than its parent."""
    (tmp_path / "volume").mkdir()
    monkeypatch.setattr(Path, "is_mount", lambda self: self.name == "volume")
    inode = (tmp_path / "volume").stat().st_ino
    with complete_folder(tmp_path / "volume") as partial:
        assert partial.parent == tmp_path / "volume"
        (partial / "a").write_text("a")
    assert (tmp_path / "volume").stat().st_ino == inode and names(tmp_path / "volume") == ["a"]


def test_a_link_to_an_empty_folder_is_that_folder(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with complete_folder(tmp_path / "link") as partial:
        (partial / "a").write_text("a")
    assert (tmp_path / "link").is_symlink() and names(tmp_path / "real") == ["a"]


@pytest.mark.parametrize("there", [False, True])
def test_a_folder_that_does_not_begin_is_not_there(there: bool, tmp_path: Path) -> None:
    place = tmp_path / "scores"
    if there:
        place.mkdir()
    with pytest.raises(KeyboardInterrupt), begun_folder(place):
        (place / "encoder").mkdir()
        (place / "sweep.json").write_text("{")
        raise KeyboardInterrupt
    assert place.exists() == there and list(tmp_path.rglob("*")) == [place] * there
    with begun_folder(place):
        (place / "a").write_text("a")
    assert names(place) == ["a"]
    with pytest.raises(UserError, match="exists already"), begun_folder(place):
        pass


def test_a_file_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_file(tmp_path / "deep" / "a.json", "a")
    with pytest.raises(UserError, match="exists already"):
        write_file(tmp_path / "deep" / "a.json", "b")
    write_file(tmp_path / "deep" / "a.json", "c", replace=True)
    assert (tmp_path / "deep" / "a.json").read_text() == "c"

    def fail(path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folders, "_sync", fail)
    with pytest.raises(UserError, match="the disk is full"):
        write_file(tmp_path / "deep" / "b.json", "b")
    assert names(tmp_path / "deep") == ["a.json"]


def test_what_is_unfinished_is_known(tmp_path: Path) -> None:
    """A process that is stopped for good removes it, however far it came with leaving in order."""
    with pytest.raises(UserError), complete_folder(tmp_path / "out") as partial:
        (partial / "a").write_text("a")
        remove_unfinished()
        assert not partial.exists()
        shutil.copytree(tmp_path, tmp_path / "elsewhere")
    remove_unfinished()
    assert (tmp_path / "elsewhere").exists(), "only what was begun and not finished goes"


@pytest.mark.parametrize("address", ["s3://bucket/shards", "gs://bucket/shards", "hf://datasets/me/it", "memory://a/b"])
def test_an_address_is_no_folder(address: str, here: Path) -> None:
    for make in (complete_folder, begun_folder):
        with pytest.raises(
            UserError, match=f"^{address} is an address, and what is made lies on a disk\n.*copy it when"
        ):
            with make(Path(address)):
                pass
    assert not names(here)
    with complete_folder(Path("s3:x/a:b")):
        pass
    assert names(here) == ["s3:x"]
