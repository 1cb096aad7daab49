"""The values of --data: a folder, or SHARDS with their shares."""

from pathlib import Path

import pytest

from masklater.cli.app import read_data
from masklater.errors import UserError
from masklater.recipe.load import load


def data_of(*values: str) -> tuple[str, dict[str, float]]:
    folder, settings = read_data(values)
    return str(folder), load("3ml-small", settings).data


def test_one_folder_is_that_folder(tmp_path: Path) -> None:
    assert data_of("shards") == ("shards", {})
    (tmp_path / "a=0.5").mkdir()
    assert data_of(str(tmp_path / "a=0.5")) == (str(tmp_path / "a=0.5"), {})


def test_shares() -> None:
    assert data_of("general=0.7", "medical=0.3") == (".", {"general": 0.7, "medical": 0.3})
    assert data_of("../x/general=0.7", "../x/medical/=0.3") == ("../x", {"general": 0.7, "medical": 0.3})
    assert data_of("/x/web/rows-128=0.5", "/x/code/rows-128=0.5") == (
        "/x",
        {"web/rows-128": 0.5, "code/rows-128": 0.5},
    )
    assert data_of("general=1") == (".", {"general": 1.0})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["general=0.7", "medical"], "--data medical: of several SHARDS each has its share"),
        (["general=0.7", "./general=0.3"], "--data names general twice"),
        (["/x/general=0.7", "medical=0.3"], "--data names folders with their whole paths and such without"),
        (["general=0.7", "medical=0.4"], "shares of the rows must add up to 1"),
        (["general=a", "medical=0.4"], "data.general is 'a': input should be a valid number"),
    ],
)
def test_mistakes(values: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        data_of(*values)
