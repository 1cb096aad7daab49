"""The figure of masked language modelling beside 3ML, drawn to scale: one cell is one token in one layer.

`python docs/_ext/method_figure.py` writes docs/3ml-and-mlm.svg, which follows the reader's light or dark colours.
"""

from html import escape
from pathlib import Path

OUT = Path(__file__).parents[1] / "3ml-and-mlm.svg"

WORDS = ("the", "cat", "sat", "on", "a", "mat", "and", "had", "a", "nap")
MLM_MASKED = {1, 7}
"""15% of ten, rounded up."""
MASKED = {1, 3, 5, 7}
"""Four of the five chosen ones become [MASK]: 80%."""
REPLACED = {6: "sky"}
"""The fifth is replaced by a random token; it stays in the encoder, and is predicted too."""
ENCODER_LAYERS, DECODER_LAYERS = 12, 2

WIDTH, MARGIN, COLUMN, LAYER, BOX = 380, 20, 34, 9, 21
STYLE = """
text { font: 13px system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif; fill: #1f2328 }
.title { font-size: 16px; font-weight: 600 } .quiet { fill: #59636e } .box { font-size: 12px; text-anchor: middle }
.card { fill: #ffffff } .token { fill: #eaeef2 } .encoder { fill: #4078c0 } .decoder { fill: #d9822b }
.mask { fill: #59636e } .wasted { fill: #a9bfdb } .target { fill: #cdebd0 } .on-dark { fill: #ffffff }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .quiet { fill: #9da7b1 } .card { fill: #1a1c1f } .token { fill: #32383f }
  .encoder { fill: #5a96e3 } .decoder { fill: #e59a4c } .mask { fill: #8b949e } .wasted { fill: #35506f }
  .target { fill: #245c33 } .on-dark { fill: #0d1117 }
}
"""


def cells_of_mlm() -> int:
    """Return how many cells vanilla MLM computes: every token in every layer."""
    return ENCODER_LAYERS * len(WORDS)


def cells_of_3ml() -> int:
    """Return how many cells 3ML computes: the seen tokens in the encoder, all of them in the decoder."""
    return ENCODER_LAYERS * (len(WORDS) - len(MASKED)) + DECODER_LAYERS * len(WORDS)


class Drawing:
    """Shapes from top to bottom; `y` is where the next one goes."""

    def __init__(self) -> None:
        self.shapes: list[str] = []
        self.y = 14.0

    def line(self, text: str, kind: str = "", height: float = 19) -> None:
        """Write one line of text."""
        self.y += height
        self.shapes.append(f'<text x="{MARGIN}" y="{self.y:g}" class="{kind}">{escape(text)}</text>')

    def boxes(self, words: dict[int, str], kinds: dict[int, str]) -> None:
        """Draw a row of words in boxes, each in its column."""
        for column, word in words.items():
            x, kind = MARGIN + column * COLUMN, kinds.get(column, "token")
            on = " on-dark" if kind == "mask" else ""
            self.shapes.append(
                f'<rect x="{x + 1}" y="{self.y:g}" width="{COLUMN - 2}" height="{BOX - 3}" rx="3" class="{kind}"/>'
                f'<text x="{x + COLUMN / 2:g}" y="{self.y + 13.5:g}" class="box{on}">{escape(word)}</text>'
            )
        self.y += BOX

    def layers(self, number: int, kinds: dict[int, str]) -> None:
        """Draw layers of cells, in the columns that are computed."""
        for _ in range(number):
            for column, kind in kinds.items():
                self.shapes.append(
                    f'<rect x="{MARGIN + column * COLUMN + 1}" y="{self.y:g}" width="{COLUMN - 2}" '
                    f'height="{LAYER - 2}" rx="1.5" class="{kind}"/>'
                )
            self.y += LAYER


def draw() -> str:
    """Return the figure as SVG."""
    page, columns = Drawing(), range(len(WORDS))
    page.line("Masked language modelling", "title")
    page.line("Every [MASK] goes through all 12 layers", "quiet")
    page.y += 10
    page.boxes({i: WORDS[i] for i in MLM_MASKED}, dict.fromkeys(MLM_MASKED, "target"))
    page.layers(ENCODER_LAYERS, {i: "wasted" if i in MLM_MASKED else "encoder" for i in columns})
    page.boxes({i: "M" if i in MLM_MASKED else WORDS[i] for i in columns}, dict.fromkeys(MLM_MASKED, "mask"))
    page.line(f"12 x 10 = {cells_of_mlm()} cells, 2 tokens predicted", height=16)
    page.y += 16

    page.line("Mask More and Mask Later (3ML)", "title", 22)
    page.line("[MASK]s are left out of the encoder and join in a", "quiet")
    page.line("decoder of 2 layers, which is thrown away at the end", "quiet", 17)
    page.y += 10
    chosen = MASKED | set(REPLACED)
    page.boxes({i: WORDS[i] for i in sorted(chosen)}, dict.fromkeys(chosen, "target"))
    page.layers(DECODER_LAYERS, dict.fromkeys(columns, "decoder"))
    page.boxes(dict.fromkeys(sorted(MASKED), "M"), dict.fromkeys(MASKED, "mask"))
    seen = [i for i in columns if i not in MASKED]
    page.layers(ENCODER_LAYERS, dict.fromkeys(seen, "encoder"))
    page.boxes({i: REPLACED.get(i, WORDS[i]) for i in seen}, {})
    share = cells_of_3ml() / cells_of_mlm()
    page.line(f"12 x 6 + 2 x 10 = {cells_of_3ml()} cells ({share:.0%}), 5 predicted", height=16)
    page.y += 12

    x = MARGIN
    for kind, name, width in (("encoder", "encoder", 78), ("decoder", "decoder", 80), ("mask", "[MASK]", 76)):
        page.shapes.append(f'<rect x="{x}" y="{page.y + 8:g}" width="12" height="12" rx="2" class="{kind}"/>')
        page.shapes.append(f'<text x="{x + 17}" y="{page.y + 18.5:g}">{name}</text>')
        x += width
    page.shapes.append(f'<rect x="{x}" y="{page.y + 8:g}" width="12" height="12" rx="2" class="target"/>')
    page.shapes.append(f'<text x="{x + 17}" y="{page.y + 18.5:g}">predicted</text>')
    height = page.y + 34
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" width="{WIDTH}" height="{height:g}" '
        f'role="img"><title>Masked language modelling beside 3ML: one cell is one token in one layer</title>'
        f"<style>{STYLE}</style>"
        f'<rect width="{WIDTH}" height="{height:g}" rx="8" class="card"/>\n' + "\n".join(page.shapes) + "\n</svg>\n"
    )


if __name__ == "__main__":
    OUT.write_text(draw())
