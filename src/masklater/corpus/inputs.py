"""From inputs as the user gave them (files, folders, patterns, standard input, addresses, datasets) to sources."""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from masklater.console import say
from masklater.corpus.elsewhere import (
    ElsewhereFile,
    check_ending,
    find_remote,
    is_pattern,
    is_read_as,
    is_remote,
    read_file_as,
    spool_stdin,
)
from masklater.corpus.files import find_files, find_matching, repeated, say_kinds
from masklater.corpus.hub_rows import find_hub_rows, is_hub
from masklater.corpus.read import Source, TextFile
from masklater.corpus.readers import READERS, ending_of
from masklater.corpus.settings import PrepareSettings
from masklater.errors import UserError

STDIN = "-"


def find_sources(inputs: Sequence[str | Path], settings: PrepareSettings, passed_over: Counter[str]) -> list[Source]:
    """Find the source of each input, in the order given; report files read in an unusual way, and files not read.

    Args:
        inputs: Files, folders, patterns, `-`, addresses for fsspec, `hf:` data sets.
        settings: How documents are made from the inputs.
        passed_over: Counts, by ending or kind, the files in folders that are not read; updated.

    Raises:
        UserError: An input is missing or not readable, or the settings do not fit it.
    """
    names = [str(one) for one in inputs]
    if names.count(STDIN) > 1:
        raise UserError("- stands twice among the inputs: standard input is there once", "Name it once.")
    if settings.read_as is not None:
        check_ending(settings.read_as)
    sources = []
    for number, name in enumerate(names):
        rows = find_hub_rows(name) if is_hub(name) else None
        source = Source(
            [] if rows else _files(name, settings, passed_over),
            settings.documents,
            settings.text_field,
            settings.encoding,
            settings.filters,
            settings.null_texts,
            number,
            name.encode("utf-8", "backslashreplace").decode(),  # a path may hold bytes that are not text
            rows,
        )
        source.fields.check()
        sources.append(source)
        if rows:
            said = f", commit {rows.commit}" if rows.commit else ", a folder of this machine"
            say(f"{name}: split {rows.split}{said}")
    _check_read_as(sources, settings.read_as)
    _check_filters(sources)
    _check_effects(sources, settings)
    return sources


def say_what_is_read(sources: list[Source], passed_over: Counter[str]) -> dict[str, int]:
    """Report, before the work begins, kinds of files, files left out, and files that are read several times.

    Returns:
        For each file that is read several times, how often.
    """
    say_kinds((file.name for source in sources for file in source.files), passed_over)
    if any(is_remote(source.name) or source.rows for source in sources):
        say("what is not on this machine is read again in each pass: to train a tokenizer, and to write rows")
    twice = repeated([file for source in sources for file in source.files])
    for names, number in twice.items():
        say(f"named {number} times, and read as often: {names}")
    return twice


def size_of(file: TextFile) -> int:
    """Return the bytes of a file."""
    return file.stat().st_size if isinstance(file, Path) else file.size


def file_states(sources: Sequence[Source]) -> dict[Path, tuple[int, int]]:
    """Return the size in bytes and the time of change, in ns, of each existing file of this machine."""
    states = {}
    files = [file for source in sources for file in source.files]
    for file in [file.path if isinstance(file, ElsewhereFile) else file for file in files]:
        if isinstance(file, Path):  # files that are elsewhere have no state here
            with suppress(FileNotFoundError):  # a file deleted since it was read does no harm
                status = file.stat()
                states[file] = (status.st_size, status.st_mtime_ns)
    return states


def check_unchanged(sources: Sequence[Source], before: Mapping[Path, tuple[int, int]]) -> None:
    """Raise UserError where a file has changed since its state was taken: both contents may have been read."""
    changed = [str(file) for file, state in file_states(sources).items() if before.get(file, state) != state]
    if changed:
        more = f" and {len(changed) - 1:,} more" if len(changed) > 1 else ""
        raise UserError(
            f"{changed[0]}{more} changed while it was read",
            "Run prepare again once nothing writes there; with --resume, parts of other files are taken over.",
        )


def _files(name: str, settings: PrepareSettings, passed_over: Counter[str]) -> list[TextFile]:
    if name == STDIN:
        return [spool_stdin(settings.read_as)]
    if is_remote(name):
        return [*find_remote(name, passed_over, settings.read_as)]
    if is_pattern(name) and not Path(name).exists():
        return [*find_matching(name, passed_over, settings.read_as)]
    if settings.read_as and Path(name).is_file() and ending_of(name) is None:
        return [read_file_as(Path(name), settings.read_as)]
    return [*find_files([Path(name)], passed_over)]


def _check_read_as(sources: list[Source], read_as: str | None) -> None:
    """Raise UserError where no file is read by the ending of --read-as."""
    files = [file for source in sources for file in source.files if isinstance(file, ElsewhereFile)]
    if read_as is not None and not any(is_read_as(file, read_as) for file in files):
        raise UserError(
            f"--read-as {read_as}: nothing is read so, as all files are told by their own endings",
            "Leave it out. In a folder, files of other endings are passed over: name them by a pattern, 'src/**/*.py'.",
        )


def _check_filters(sources: list[Source]) -> None:
    """Raise UserError where filters are given for plain text, which has no fields to compare."""
    for source in sources if sources and sources[0].filters else []:
        for file in source.files:
            ending = ending_of(file.name)
            if ending and READERS[ending.kind].records is None:
                raise UserError(
                    f"--filter compares fields, and {file} is plain text, which has none",
                    "Leave the file or the filter out.",
                )


def _check_effects(sources: list[Source], settings: PrepareSettings) -> None:
    """Raise UserError where an option applies to none of the inputs; it may apply to only some of them."""
    endings = [ending_of(file.name) for source in sources for file in source.files]
    readers = [READERS[ending.kind] for ending in endings if ending]
    has_records = any(source.rows for source in sources) or any(reader.records for reader in readers)
    usual = PrepareSettings()
    if settings.documents != usual.documents and all(reader.records for reader in readers):
        files = [file for source in sources for file in source.files if isinstance(file, ElsewhereFile)]
        raise UserError(
            f"--documents {settings.documents} cuts plain text, and the input is records, each of them a document",
            " ".join(["Leave it out.", *(file.if_not for file in files if file.if_not)]),
        )
    for option, name in (("--text-field", "text_field"), ("--null-texts", "null_texts")):
        if (value := getattr(settings, name)) != getattr(usual, name) and not has_records:
            raise UserError(
                f"{option} {value} is about the fields of records, and the input is plain text, which has none",
                "Leave it out. Files are told by their endings, standard input by --read-as: .jsonl has records, .txt "
                "has none.",
            )
    if settings.encoding is not None and not any(reader.has_encoding for reader in readers):
        raise UserError(
            f"--encoding {settings.encoding} is of text files, and the input says itself what it is in", "Leave it out."
        )
