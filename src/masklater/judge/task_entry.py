"""The parts of a task's entry in TASKS.yaml that say what is read: files, and which of their columns and rows."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from masklater.corpus.hub_rows import NAME as DATA_SET
from masklater.corpus.hub_rows import is_hub
from masklater.errors import MISSING, Fault, did_you_mean
from masklater.judge.own_task import Columns, HubSplit, Kind, TaskFile

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
FILE_KEYS = ("path", "columns", "where")
ONE_FILE = "Write a name, or {path: NAME, columns: {...}, where: {COLUMN: VALUE}}."


@dataclass(frozen=True)
class Entry:
    """A task's part of the file, the list that its faults go to, and how its files are looked for."""

    name: str
    tree: Mapping[str, Any]
    kind: Kind
    folder: Path  # names of files are relative to it
    is_ready: bool  # its files may be missing, which is reported when they are read
    faults: list[Fault]

    def fault(self, key: str, rule: str, remedy: str, value: object = None) -> None:
        """Add one fault; its value defaults to the entry's value under the key."""
        if value is None:
            value = self.tree.get(key, MISSING)
        self.faults.append(Fault(f"{self.name}.{key}", value, rule, remedy))

    def refuse_unknown(self, known: tuple[str, ...], within: str, tree: Mapping[str, Any]) -> None:
        """Add a fault for each unknown key; `within` is the place of the mapping, "" for the entry's own."""
        for key in tree:
            if key not in known:
                remedy = did_you_mean(key, known) or f"Known here: {', '.join(known)}."
                self.fault(f"{within}.{key}" if within else key, "there is no such key here", remedy, tree[key])


def read_sources(given: Entry) -> tuple[tuple[TaskFile, ...], dict[str, TaskFile], Columns]:
    """Read the files of train, the files of dev by split, and the columns for files without their own."""
    files = given.tree.get("files")
    if not isinstance(files, Mapping):
        given.fault("files", "files is a mapping of train and dev", "Write files: {train: FILE, dev: FILE}.")
        files = {}
    given.refuse_unknown(("train", "dev"), "files", files)
    named = [path for path in _paths(files) if isinstance(path, str)]
    by_number = given.kind.columns == (("word", "label"),) and not any(map(is_hub, named))
    columns = _columns(given, "columns", given.tree.get("columns", {} if by_number else None), by_number)
    if not files:
        return (), {}, columns

    def read(where: str, entry: object) -> TaskFile:
        return _file(given, where, entry, columns, by_number)

    train, dev = files.get("train"), files.get("dev")
    listed = train if isinstance(train, list) and train else [train]
    read_train = tuple(read("files.train", each) for each in listed)
    if not isinstance(dev, Mapping) or "path" in dev or not dev:
        return read_train, {"dev": read("files.dev", dev)}, columns
    for name in dev:
        if name == "train":
            given.fault("files.dev", "a dev file's name is another than that of the training data", "Rename it.", name)
        if not NAME.fullmatch(name):
            given.fault("files.dev", "a dev file's name is letters, digits, '.', '_' and '-'", "Rename it.", name)
    return read_train, {f"dev_{name}": read(f"files.dev.{name}", each) for name, each in dev.items()}, columns


def _paths(files: Mapping[str, Any]) -> Iterator[object]:
    """Yield all names of files in the mapping."""
    for part in files.values():
        for each in part if isinstance(part, list) else part.values() if isinstance(part, Mapping) else [part]:
            yield each.get("path") if isinstance(each, Mapping) else each


def _file(given: Entry, where: str, entry: object, columns: Columns, by_number: bool) -> TaskFile:
    if not isinstance(entry, Mapping):
        return TaskFile(_path(given, where, entry, by_number), columns)
    given.refuse_unknown(FILE_KEYS, where, entry)
    if "columns" in entry:
        own = _columns(given, f"{where}.columns", entry["columns"], by_number)
        if own and columns and own.keys() != columns.keys() and not by_number:
            rule = f"columns of a file are for what the task's are for: {', '.join(columns)}"
            given.fault(f"{where}.columns", rule, "Name the file's columns for these.", entry["columns"])
        columns = own
    wanted = entry.get("where", {})
    if not isinstance(wanted, Mapping) or any(_as_text(value) is None for value in wanted.values()) or by_number:
        rule = "where is a mapping of columns to the value, text or a whole number, that rows are to have there"
        remedy = "A file of words has no such columns." if by_number else "Quote yes, no, on, off, true and false."
        if wanted != {}:
            given.fault(f"{where}.where", rule, remedy, wanted)
        wanted = {}
    texts = {column: str(_as_text(value)) for column, value in wanted.items()}
    return TaskFile(_path(given, f"{where}.path", entry.get("path"), by_number), columns, texts)


def _path(given: Entry, where: str, value: object, by_number: bool) -> Path | HubSplit:
    if not isinstance(value, str) or not value.strip():
        given.fault(where, "this is the name of a file", ONE_FILE, MISSING if value is None else value)
        return given.folder
    if is_hub(value):
        parts = DATA_SET.fullmatch(value)
        if parts is None or parts["split"] is None:
            rule = "a data set is named with its split, hf:OWNER/NAME[:CONFIG][@REVISION]#SPLIT"
            given.fault(where, rule, "Write it as in hf:stanfordnlp/snli#validation.", value)
        return HubSplit(value, given.folder)
    path = given.folder / value
    suffixes = given.kind.suffixes
    if given.kind.columns == (("word", "label"),) and not by_number:
        rule = "of a task of words, either all files are data sets (hf:), or none"
        given.fault(where, rule, "Write two tasks, or convert the file.", value)
    elif path.suffix.lower() not in suffixes:
        given.fault(where, f"a file of this kind ends in {listed(suffixes)}", "Rename, unpack or convert it.", value)
    elif not given.is_ready and not path.is_file():
        given.fault(where, f"there is no file {path}", "Names are from TASKS.yaml's folder on.", value)
    return path


def _columns(given: Entry, where: str, columns: object, by_number: bool) -> Columns:
    ways = given.kind.columns
    said = " or ".join(", ".join(way) for way in ways)
    if not isinstance(columns, Mapping):
        value = MISSING if columns is None else columns
        given.fault(where, f"columns says where {said} stand", f"Write columns: {{{ways[0][0]}: ...}}.", value)
        return {}
    given.refuse_unknown(tuple(dict.fromkeys(name for way in ways for name in way)), where, columns)
    if not by_number and tuple(sorted(columns)) not in {tuple(sorted(way)) for way in ways}:
        rule, remedy = f"columns names {said}, neither more nor fewer", "Name the file's columns for them."
        given.fault(where, rule, remedy, columns)
    found: Columns = {}
    for name, value in columns.items():
        if by_number:
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 1000:
                rule = "a column of such a file is a number, from 1"
                given.fault(f"{where}.{name}", rule, "Count the columns.", value)
            else:
                found[name] = value
        elif isinstance(value, list) and value and name not in {"label", "word"} and all(map(_is_name, value)):
            found[name] = tuple(value)
        elif _is_name(value):
            found[name] = str(value)
        else:
            rule = "a column is named as the file names it; for a text, several may be listed"
            given.fault(f"{where}.{name}", rule, "Quote it.", value)
    used = [each for value in found.values() for each in (value if isinstance(value, tuple) else (value,))]
    if len(set(used)) < len(used):
        given.fault(where, "each column is used once", "Name another column.", columns)
    in_order = next((way for way in ways if {*way} == found.keys()), tuple(found))  # whatever order they are listed in
    return {name: found[name] for name in in_order}


def _is_name(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _as_text(value: object) -> str | None:
    """Return a label or other value as text, as in files; None where it is neither text nor a whole number."""
    if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
        return None
    return str(value).strip()


def read_rename(given: Entry) -> dict[str, str]:
    """Read the mapping from labels in files to their new names."""
    rename = given.tree.get("rename", {})
    if not isinstance(rename, Mapping) or any(_as_text(name) is None for name in rename.values()):
        rule = "rename is a mapping of labels, as a file has them, to what they are called elsewhere"
        given.fault("rename", rule, "Write rename: {contradictory: contradiction}, and quote yes and no.")
        return {}
    return {old.strip(): str(_as_text(new)) for old, new in rename.items()}


def read_no_label(given: Entry) -> str | None:
    """Read the mark of a row without a label; empty text stands for null too."""
    value = given.tree.get("no_label")
    if value == "":
        return ""
    if value is not None and _as_text(value) is None:
        given.fault("no_label", "no_label is what stands where a row has no label", "Write it in quotes.")
    return None if value is None else _as_text(value)


def listed(names: Any) -> str:
    """Return names as a sentence lists them, with `or` before the last one."""
    *most, last = names
    return f"{', '.join(most)} or {last}" if most else str(last)
