"""What leaves the house: the wheel, made from the sdist, holds every file of the package."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

from tests.conftest import REPOSITORY


def test_the_wheel_made_from_the_sdist_holds_every_file(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(tmp_path), str(REPOSITORY)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    source = REPOSITORY / "src"
    there = {
        str(path.relative_to(source)) for path in (source / "masklater").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }  # fmt: skip
    assert "masklater/recipes/3ml-small.yaml" in there
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as files:
        assert {name for name in files.namelist() if ".dist-info/" not in name} == there
    (sdist,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {f"src/{name}" for name in there} | {"README.md", "tests/conftest.py", "Makefile"} <= names
    assert not [name for name in names if name.startswith((".venv", ".hypothesis", ".git/"))]
