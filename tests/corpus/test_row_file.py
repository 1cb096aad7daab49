"""Files of rows that change, or fail, between any look at them and the read."""

import errno
import gc
import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from masklater.corpus.row_file import RowFile
from masklater.errors import DamagedDataError

WIDTH, ROWS = 6, 500
CONTENT = np.random.default_rng(0).integers(0, 2**16, (ROWS, WIDTH // 2), dtype=np.uint16)


@pytest.fixture
def file(tmp_path: Path) -> RowFile:
    path = tmp_path / "train-00000.rows"
    path.write_bytes(CONTENT.tobytes())
    return RowFile(path, ROWS, WIDTH)


def read(file: RowFile, first: int, number: int) -> np.ndarray:
    rows_NL = np.empty((number, WIDTH // 2), dtype=np.uint16)
    file.read_into(first, rows_NL)
    return rows_NL


def before_the_read(monkeypatch: pytest.MonkeyPatch, fault: Callable[[], Any]) -> None:
    """Let something happen after every look at the file, right before the kernel is asked for its bytes."""
    preadv = os.preadv

    def late(*arguments: Any) -> int:
        fault()
        return preadv(*arguments)

    monkeypatch.setattr(os, "preadv", late)


def test_rows_are_read_by_position_in_one_read(file: RowFile, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[int] = []
    before_the_read(monkeypatch, lambda: reads.append(1))
    assert (read(file, 17, 100) == CONTENT[17:117]).all()
    assert (read(file, ROWS - 1, 1) == CONTENT[-1:]).all()
    assert len(reads) == 2


def test_reads_that_come_back_short_are_gone_on_with(file: RowFile, monkeypatch: pytest.MonkeyPatch) -> None:
    preadv = os.preadv
    monkeypatch.setattr(os, "preadv", lambda descriptor, views, at: preadv(descriptor, [views[0][:7]], at))
    assert (read(file, 3, 200) == CONTENT[3:203]).all()
    file.verify(hashlib.sha256(CONTENT.tobytes()).hexdigest())


@pytest.mark.fault
@pytest.mark.parametrize("length", [0, 5, WIDTH * 450, ROWS * WIDTH - 1])
def test_a_file_that_is_cut_between_the_look_and_the_read(
    length: int, file: RowFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.check()
    before_the_read(monkeypatch, lambda: os.truncate(file.path, length))
    said = rf"train-00000\.rows has {length:,} bytes where the index says 3,000: it was truncated"
    with pytest.raises(DamagedDataError, match=said):
        read(file, 440, 60)
    with pytest.raises(DamagedDataError, match=r"train-00000\.rows has .* truncated"):
        file.verify("0" * 64)


@pytest.mark.fault
def test_a_file_that_grew_back_before_it_could_be_said(file: RowFile, monkeypatch: pytest.MonkeyPatch) -> None:
    preadv = os.preadv

    def cut_for_a_moment(*arguments: Any) -> int:
        os.truncate(file.path, 0)
        try:
            return preadv(*arguments)
        finally:
            file.path.write_bytes(CONTENT.tobytes())

    monkeypatch.setattr(os, "preadv", cut_for_a_moment)
    with pytest.raises(DamagedDataError, match=r"has 2,640 bytes where the index says 3,000: it was truncated"):
        read(file, 440, 60)


@pytest.mark.fault
@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE])
def test_a_disk_that_fails_is_an_error_of_that_read(
    number: int, file: RowFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise OSError(number, os.strerror(number))

    before_the_read(monkeypatch, fail)
    with pytest.raises(DamagedDataError, match=rf"train-00000\.rows cannot be read: {os.strerror(number)}"):
        read(file, 0, 1)
    with pytest.raises(DamagedDataError, match=rf"train-00000\.rows cannot be read: {os.strerror(number)}"):
        file.verify("0" * 64)


@pytest.mark.fault
def test_a_file_that_goes_or_is_replaced_gives_the_rows_that_were_checked(
    file: RowFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other").write_bytes(bytes(ROWS * WIDTH))
    (tmp_path / "other").replace(file.path)
    file.check()
    assert (read(file, 0, ROWS) == CONTENT).all()
    file.path.unlink()
    assert (read(file, 0, ROWS) == CONTENT).all()
    with pytest.raises(DamagedDataError, match=r"train-00000\.rows is missing"):
        file.check()


def test_no_descriptor_outlives_its_file(file: RowFile) -> None:
    def open_files() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    gc.collect()
    before = open_files()
    more = [RowFile(file.path, ROWS, WIDTH) for _ in range(20)]
    assert open_files() == before + 20
    del more
    gc.collect()
    assert open_files() == before


AT_ONCE = """
import os, sys, threading
from pathlib import Path
import numpy as np
from masklater.corpus.row_file import RowFile
from masklater.errors import DamagedDataError

path, rows, width = Path(sys.argv[1]), 100_000, 64
whole = bytes(rows * width)
path.write_bytes(whole)
file = RowFile(path, rows, width)

def cut():
    while True:
        os.truncate(path, 1000 * width)
        os.truncate(path, len(whole))

threading.Thread(target=cut, daemon=True).start()
told = 0
while told < 50:
    try:
        file.read_into(0, np.empty((rows, width), dtype=np.uint8))
    except DamagedDataError as error:
        assert "truncated" in str(error)
        told += 1
print(told)
"""


@pytest.mark.fault
def test_cut_again_and_again_while_it_is_read(tmp_path: Path) -> None:
    """A process of its own: what reads a memory map here does not live to fail a test."""
    arguments = [sys.executable, "-c", AT_ONCE, str(tmp_path / "rows")]
    done = subprocess.run(arguments, check=False, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (0, "50\n"), done.stderr
