"""Tables of columns, read by pyarrow: Parquet and Arrow, a few rows at a time."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from masklater.corpus.fields import MissingFieldError, missing_field, refuse_twice
from masklater.corpus.readers.opened import Opened, Records
from masklater.errors import DamagedDataError, UserError, first_line
from masklater.extras import import_extra

BATCH_ROWS, BATCH_BYTES = 64, 4 * 2**20
"""The most rows that are made Python objects at once; fewer where rows are large."""
BUFFER_BYTES = 2**20
READ_BYTES = 2**29
"""The most bytes read from a file at once: one record batch of Arrow, which is never read in parts."""


def read_parquet(opened: Opened) -> Records:
    """Yield the rows of a Parquet file by row groups; one page of each column is in memory at a time."""
    parquet = import_extra("pyarrow.parquet", "parquet", opened.name)
    with _one_error(opened, "Parquet"):
        file = parquet.ParquetFile(_Bounded(opened), buffer_size=BUFFER_BYTES, pre_buffer=False)
        columns = _columns(opened, file.schema_arrow)
        number = 0
        for group in range(file.num_row_groups):
            about = file.metadata.row_group(group)
            if not about.num_rows:
                continue
            rows = max(1, min(BATCH_ROWS, BATCH_BYTES * about.num_rows // max(about.total_byte_size, 1)))
            for batch in file.iter_batches(rows, row_groups=[group], columns=columns, use_threads=False):
                for record in batch.to_pylist():
                    number += 1
                    yield number, record


def read_arrow(opened: Opened) -> Records:
    """Yield the rows of an Arrow file or stream by record batches; one whole batch is in memory at a time."""
    ipc = import_extra("pyarrow.ipc", "parquet", opened.name)
    with _one_error(opened, "Arrow"):
        file = _Bounded(opened)
        is_file = file.read(6) == b"ARROW1"
        file.seek(0)
        reader = ipc.open_file(file) if is_file else ipc.open_stream(file)
        columns = _columns(opened, reader.schema)
        number = 0
        batches = map(reader.get_batch, range(reader.num_record_batches)) if is_file else iter(reader)
        for whole in batches:
            batch = whole.select(columns)
            batch.validate(full=True)  # damaged offsets may point anywhere, and crash the process
            few = max(1, min(BATCH_ROWS, BATCH_BYTES * batch.num_rows // max(batch.nbytes, 1)))
            for start in range(0, batch.num_rows, few):
                for record in batch.slice(start, few).to_pylist():
                    number += 1
                    yield number, record


def _columns(opened: Opened, schema: Any) -> list[str]:
    if opened.fields.are_all:
        columns = [column.name for column in schema if _may_hold_text(column.type)]
    else:
        try:
            columns = opened.fields.columns(schema.names)
        except MissingFieldError as missing:
            raise missing_field(opened.name, str(missing), schema.names) from None
    refuse_twice(opened.name, columns, schema.names)
    return columns


def _may_hold_text(kind: Any) -> bool:
    """Tell whether a type is text or may contain text. Python has no objects for some numbers and times."""
    from pyarrow import types

    return not (types.is_primitive(kind) or types.is_decimal(kind) or types.is_null(kind))


class _Bounded:
    """A file for pyarrow that limits reads, as a damaged header may make pyarrow ask for any number of bytes."""

    def __init__(self, opened: Opened) -> None:
        self.name, self.file = opened.name, opened.anywhere()
        self.seek: Callable[..., int] = self.file.seek
        self.tell: Callable[[], int] = self.file.tell
        self.closed = False

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def close(self) -> None:
        self.closed = True

    def read(self, size: int = -1) -> bytes:
        if size > READ_BYTES:
            raise UserError(
                f"{self.name}: a piece of {size:,} bytes, of which {READ_BYTES:,} can be read at once",
                "Fetch it again if it is damaged, or write it in smaller record batches.",
            )
        return self.file.read(size)


@contextmanager
def _one_error(opened: Opened, kind: str) -> Iterator[None]:
    """Turn whatever pyarrow raises into one error. Errors of a record's consumer do not reach this generator."""
    import pyarrow

    try:
        yield
    except UnicodeDecodeError as error:
        raise DamagedDataError(
            f"{opened.name}: text that is not UTF-8 ({error.reason})", "Write it anew, as UTF-8 or in a binary column."
        ) from None
    except (pyarrow.ArrowException, ValueError, OSError, EOFError, MemoryError, KeyError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise DamagedDataError(
            f"{opened.name} is a damaged or truncated {kind} file ({first_line(error)})",
            "Fetch it again, or leave it out.",
        ) from None
