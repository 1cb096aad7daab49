"""docs/architecture.md against the code: every file is named in its room, and rooms stand in the order of imports."""

import re

from tests.architecture.test_imports import MAY_KNOW, SOURCE

PAGE = SOURCE.parents[1] / "docs" / "architecture.md"
ROWS = re.findall(r"^\| (`[^|]+`) \| (.*) \|$", PAGE.read_text().split("## Rooms")[1].split("##")[0], re.MULTILINE)
ROOMS = {name.strip("`/"): text for name, text in ROWS if name.endswith("/`")}
LEAVES = next(name for name, _ in ROWS if ".py" in name)


def test_every_file_is_named_in_its_room_and_no_other_is() -> None:
    for room, text in ROOMS.items():
        named = set(re.findall(r"`(\w+\.py)`", text))
        there = {path.name for path in (SOURCE / room).glob("*.py")} - {"__init__.py"}
        if room == "cli":  # whose files are commands but for those that are named
            assert named <= there
        else:
            assert named == there, room
    named = set(re.findall(r"`(\w+\.py)`", LEAVES))
    assert named == {path.name for path in SOURCE.glob("*.py")} - {"__init__.py", "__main__.py"}


def test_rooms_stand_above_what_they_import() -> None:
    rooms = [room for room in ROOMS if "/" not in room]
    assert set(rooms) == {path.name for path in SOURCE.iterdir() if (path / "__init__.py").is_file()}
    for place, room in enumerate(rooms):
        assert not MAY_KNOW[room] & set(rooms[:place]), f"{room} imports from above"
