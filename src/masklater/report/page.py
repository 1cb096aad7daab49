"""The report as one HTML file with everything inside."""

import html
import re
from collections.abc import Sequence

from masklater.report import plots
from masklater.report.curves import Picture
from masklater.report.document import Document, Plots
from masklater.report.table import Table

COLOURS = {
    plots.INK: ("ink", "#e6e8eb"),
    plots.PAPER: ("paper", "#15181c"),
    plots.GREY: ("grey", "#9aa0a6"),
    plots.BLUE: ("blue", "#3f9fe0"),
    plots.ORANGE: ("orange", "#f07a2e"),
    plots.GREEN: ("green", "#1fbf92"),
    plots.PURPLE: ("purple", "#dd93bc"),
    plots.SKY: ("sky", "#8fd3f7"),
    plots.AMBER: ("amber", "#f0b323"),
}
"""Each colour of the plots, with its name on the page and the colour that replaces it on a dark page."""

STYLE = """
:root { color-scheme: light dark; LIGHT --line: #d5d9de; --soft: #f3f5f7; }
@media (prefers-color-scheme: dark) { :root { DARK --line: #3a4048; --soft: #1e2227; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 72rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; line-height: 1.25; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
h1, p, li, summary { overflow-wrap: anywhere; }
p, ul { max-width: 46rem; } ul { padding-left: 1.2rem; } .caption { color: var(--grey); font-size: .875rem; }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: 6px; }
table { border-collapse: collapse; width: 100%; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { padding: .4rem .7rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
thead th { background: var(--soft); vertical-align: bottom; white-space: normal; min-width: 5rem; }
tr:last-child > * { border-bottom: 0; }
th:first-child, .text th, .text td { text-align: left; }
th:first-child { position: sticky; left: 0; background: var(--paper); }
thead th:first-child { background: var(--soft); }
tbody th { font-weight: 600; white-space: normal; overflow-wrap: break-word; min-width: 7rem; max-width: 9.5rem; }
.text td { white-space: normal; min-width: 9rem; } .text tbody th { max-width: none; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap: 1rem; }
figure { margin: 0; max-width: 38rem; } figure svg { display: block; width: 100%; height: auto; }
details { border-top: 1px solid var(--line); padding: .6rem 0; } summary { cursor: pointer; }
@media (min-width: 40rem) { body { padding: 2rem; } tbody th { max-width: 20rem; } }
"""

SECURITY = "default-src 'none'; style-src 'unsafe-inline'"  # a browser then fetches nothing, whatever is on the page


def as_html(document: Document) -> str:
    """Return the whole page: a text that needs no other file, and requests none."""
    parts = [f"<h1>{html.escape(document.title)}</h1>"]
    parts += [f"<p>{html.escape(sentence)}</p>" for sentence in document.findings[:1]]
    parts += [_list(document.findings[1:])] if document.findings[1:] else []
    if document.notes:
        parts.append(f"<h2>To mind</h2>\n{_list(document.notes)}")
    parts += [_table(block) if isinstance(block, Table) else _plots(block) for block in document.blocks]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8"/>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>\n'
        f'<meta http-equiv="Content-Security-Policy" content="{SECURITY}"/>\n'
        f"<title>{html.escape(document.title)}</title>\n<style>{_style()}</style>\n</head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body>\n</html>\n"
    )


def _style() -> str:
    light = " ".join(f"--{name}: {colour};" for colour, (name, _) in COLOURS.items())
    dark = " ".join(f"--{name}: {colour};" for name, colour in COLOURS.values())
    return STYLE.replace("LIGHT", light).replace("DARK", dark)


def _list(items: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{html.escape(item)}</li>" for item in items) + "</ul>"


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{html.escape(column)}</th>' for column in table.columns)
    rows = []
    for first, *others in table.rows:
        cells = "".join(f"<td>{html.escape(cell)}</td>" for cell in others)
        rows.append(f'<tr><th scope="row">{html.escape(first)}</th>{cells}</tr>')
    kind = ' class="text"' if table.text else ""
    caption = f'\n<p class="caption">{html.escape(table.caption)}</p>' if table.caption else ""
    caption += f'\n<div class="caption">{_list(table.remarks)}</div>' if table.remarks else ""
    return (
        f'<h2>{html.escape(table.title)}</h2>\n<div class="scroll"><table{kind}>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n" + "\n".join(rows) + f"\n</tbody></table></div>{caption}"
    )


def _plots(plots: Plots) -> str:
    figures = "\n".join(f"<figure>{_inline(picture)}</figure>" for picture in plots.pictures)
    grid = f'<div class="plots">\n{figures}\n</div>'
    title = html.escape(plots.title)
    if plots.folded:
        return f"<details><summary>{title}</summary>\n{grid}\n</details>"
    return f"<h2>{title}</h2>\n{grid}"


def _inline(picture: Picture) -> str:
    """Return an SVG as part of a page: no ids shared with another, no fixed size, colours that follow the page."""
    svg = picture.svg[picture.svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<title>.*?</title>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:xlink)?="[^"]*"', "", svg).replace("xlink:href=", "href=")
    svg = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{picture.name}-", svg)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    for colour, (name, _) in COLOURS.items():
        svg = svg.replace(colour, f"var(--{name})")
    label = html.escape(picture.title)
    return svg.replace("<svg", f'<svg role="img" aria-label="{label}"', 1).strip()
