"""Text in columns, as it stands in a terminal and in a pipe."""

import os
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from masklater import console
from masklater.console import aligned


def test_names_stand_to_the_left_and_numbers_to_the_right() -> None:
    rows = [("file", "pairs"), ("a", "1,000"), ("  b", "")]
    assert aligned(rows, numbers_from=1) == "file  pairs\na     1,000\n  b"
    assert aligned(rows) == "file  pairs\na     1,000\n  b"
    assert aligned([("x", "1"), ("y", "100")], numbers_from=1) == "x    1\ny  100"


def test_wide_characters_take_their_two_places() -> None:
    assert aligned([("日本", "1"), ("abcd", "2")]) == "日本  1\nabcd  2"


def test_nothing_is_wrapped_or_coloured_and_no_markup_is_read() -> None:
    path = "/a folder/" * 50 + "[red]x[/red]:smile:"
    assert aligned([("written to", path), ("rows", "5")]) == f"written to  {path}\nrows        5"


def test_the_last_column_is_wrapped_where_a_width_is_given() -> None:
    assert aligned([("name", "one two three")], width=14) == "name  one two\n      three"


def test_what_is_short_may_be_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(console, "say", said.append)
    with console.Meter("Looking", 4, quiet_if_short=True) as meter:
        meter.advance(4)
    assert said == []
    with console.Meter("Looking", 4, quiet_if_short=True) as meter:
        meter.started -= console.LOG_INTERVAL_SECONDS
        meter.advance(4)
    with console.Meter("Reading", 4) as meter:
        meter.advance(4)
    assert said == ["Looking  100%  0:10", "Reading  100%  0:00"]


def test_time_left_is_told_from_what_this_try_has_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is resumed at 90% and has made 1% in 10 seconds has 90 seconds left, not one."""
    said: list[str] = []
    monkeypatch.setattr(console, "say", said.append)
    meter = console.Meter("Training", 100, before=90)
    for done in (90, 91):
        meter.started = time.monotonic() - 10
        meter.last_line -= console.LOG_INTERVAL_SECONDS
        meter.set(done)
    assert said == ["Training   90%  0:10", "Training   91%  0:10 gone, 1:30 left"]


@pytest.mark.parametrize("opened", [os.pipe, os.openpty])
def test_work_goes_on_where_nobody_listens_any_more(opened: Callable[[], tuple[int, int]]) -> None:
    """`| tee` goes at Ctrl-C, before the run has saved; a terminal is closed while a run that left it goes on."""
    code = (
        "from masklater.console import Meter, say\n"
        "input()\n"
        "with Meter('Reading', 2) as meter:\n"
        "    say('half of it')\n"
        "    meter.set(2)\n"
        "say('all of it')\n"
        "print('done')\n"
    )
    read, written = opened()
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=written, text=True
    ) as process:
        os.close(read)
        os.close(written)
        assert process.communicate("\n", timeout=120)[0] == "done\n"
    assert process.returncode == 0
