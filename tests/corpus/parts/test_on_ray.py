"""Parts on a Ray cluster of two nodes on this machine: the same bytes, though one of them is lost in the middle."""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from masklater.corpus.prepare import prepare
from masklater.corpus.settings import PrepareSettings
from masklater.errors import DamagedDataError, UserError
from tests.conftest import make_text
from tests.corpus.parts.whole_folders import bytes_of

pytestmark = [pytest.mark.slow, pytest.mark.longest]
ray = pytest.importorskip("ray", reason="needs Ray: pip install 'masklater[ray]'")


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    root = str(Path(__file__).parents[3])  # what a node's processes import `masklater` and these tests from
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([f"{root}/src", root]))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def settings(tokenizer: Path) -> PrepareSettings:
    return PrepareSettings(tokenizer=tokenizer, row_length=32, valid_fraction=0.1, part_bytes=200_000, workers=1)


def test_a_node_is_lost_and_the_bytes_are_the_same(
    cluster: Any, shards_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = cluster.add_node(num_cpus=1)
    texts = tmp_path / "texts"
    texts.mkdir()
    for number in range(40):
        (texts / f"{number}.txt").write_text(make_text(number, 40_000))
    here = prepare([texts], tmp_path / "straight", settings(shards_folder / "tokenizer"))
    assert here.parts > 20
    lost: list[int] = []

    def lose() -> None:
        """Take the second node away once parts are finished, and others under way."""
        place = tmp_path / "out.parts"
        while len(list(place.glob("*/part.json"))) < 3:
            time.sleep(0.05)
        while len(under_way := list(place.glob("*.partial-*"))) < 2:
            time.sleep(0.001)
        cluster.remove_node(second, allow_graceful=False)
        lost.append(len(under_way))

    thread = threading.Thread(target=lose, daemon=True)
    thread.start()
    monkeypatch.chdir(tmp_path)  # a node's processes stand elsewhere
    result = prepare([Path("texts")], Path("out"), settings(shards_folder / "tokenizer"), ray=cluster.address)
    thread.join(timeout=300)
    assert lost and result.parts == here.parts
    there, straight = bytes_of(tmp_path / "out"), bytes_of(tmp_path / "straight")
    assert {name for name in there if there[name] != straight[name]} <= {"index.json"}  # which names the input
    assert there.keys() == straight.keys()
    assert (
        there["index.json"].replace(b'"texts"', b"X").split(b'"checksum"')[0]
        == straight["index.json"].replace(f'"{texts}"'.encode(), b"X").split(b'"checksum"')[0]
    )
    assert not (tmp_path / "out.parts").exists()


def test_what_is_wrong_is_said_as_on_one_machine(cluster: Any, shards_folder: Path, tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.jsonl").write_text('{"text": "kan lot"}\n' * 10 + "{" * (number == 1))
    given = settings(shards_folder / "tokenizer")
    given = PrepareSettings(**{**vars(given), "part_bytes": 250, "valid_fraction": 0.0})
    with pytest.raises(DamagedDataError, match=r"1\.jsonl, line 11: not JSON"):
        prepare([tmp_path], tmp_path / "out", given, ray=cluster.address)
    assert len(list((tmp_path / "out.parts").glob("*/part.json"))) == 2
    with pytest.raises(UserError, match=r"2\.jsonl, line 1: no field 'body'"):
        prepare(
            [tmp_path / "2.jsonl"], tmp_path / "b", PrepareSettings(**{**vars(given), "text_field": "body"}),
            ray=cluster.address,
        )  # fmt: skip
