"""A table of text, and its Markdown."""

from dataclasses import dataclass

from rich.cells import cell_len


@dataclass(frozen=True)
class Table:
    """Text in columns. The first column holds names, the others numbers unless `text` says otherwise."""

    title: str
    columns: list[str]
    rows: list[list[str]]
    caption: str = ""
    remarks: tuple[str, ...] = ()  # listed below the caption
    text: bool = False


def markdown(table: Table) -> str:
    """Return a table as Markdown that is also aligned as plain text."""
    cells = [[_plain(cell) for cell in row] for row in (table.columns, *table.rows)]
    widths = [max(map(cell_len, column)) for column in zip(*cells, strict=True)]
    left = [table.text or number == 0 for number in range(len(widths))]

    def line(row: list[str]) -> str:
        padded = [
            cell + space if to_left else space + cell
            for cell, width, to_left in zip(row, widths, left, strict=True)
            for space in [" " * (width - cell_len(cell))]  # in cells of a screen: a Chinese character takes two
        ]
        return f"| {' | '.join(padded)} |"

    rule = "|".join(
        "-" * (width + 2) if to_left else "-" * (width + 1) + ":" for width, to_left in zip(widths, left, strict=True)
    )
    return "\n".join([line(cells[0]), f"|{rule}|", *map(line, cells[1:])])


def _plain(cell: str) -> str:
    return " ".join(cell.split()).replace("|", "\\|")
