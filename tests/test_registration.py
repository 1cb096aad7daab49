"""What is done after the first import of a module, whatever imports it."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from masklater.registration import after_import

FILES = {
    "__init__": "",
    "auto": "",  # what is waited for
    "layers": "from made_up import auto\nLAYER = 1",  # needed by what is then done, and half imported meanwhile
    "classes": "from made_up.layers import LAYER",
    "broken": "from made_up import auto\nraise ValueError('broken')",
}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "made_up").mkdir()
    for name, text in FILES.items():
        (tmp_path / "made_up" / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "made_up"]:
        del sys.modules[name]


def expect() -> list[int]:
    """What is found in made_up.layers each time that something is done after the import of made_up.auto."""
    found: list[int] = []
    after_import("made_up.auto", lambda: found.append(importlib.import_module("made_up.layers").LAYER))
    return found


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize("first", ["auto", "layers", "classes"])
def test_it_is_done_once_and_when_nothing_is_half_imported(first: str) -> None:
    finders = len(sys.meta_path)
    found = expect()
    importlib.import_module("made_up")
    assert found == []
    module = importlib.import_module(f"made_up.{first}")
    importlib.import_module("made_up.classes")
    assert found == [1]
    assert len(sys.meta_path) == finders
    assert module.__spec__ is not None and type(module.__spec__.loader) is type(module.__loader__)
    assert type(module.__loader__).__module__ != after_import.__module__, "a module keeps its own loader"
    assert expect() == [1], "at once, where it has been imported already"


@pytest.mark.usefixtures("package")
def test_an_import_that_fails_leaves_it_to_the_next() -> None:
    found = expect()
    with pytest.raises(ValueError, match="broken"):
        importlib.import_module("made_up.broken")
    assert found == []
    importlib.import_module("made_up.classes")
    assert found == [1]
