"""The way of a recipe through the code: which functions receive it, or a section of it, in one run of two steps.

    python benchmarks/recipe_way.py [--list]

A stop is a call that receives the recipe or one of its sections from another function. A return hands control back to
another file. A call at every step counts once for each step. The fewer stops, the easier the code is to follow.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from types import FrameType

from masklater.recipe.load import load
from masklater.recipe.section import Section

SOURCE = str(Path(__file__).parents[1] / "src" / "masklater")
TINY = [
    *("model.hidden_size=32", "model.num_hidden_layers=2", "model.num_attention_heads=2"),
    *("model.intermediate_size=64", "batch.rows=8", "batch.micro_rows=8", "duration.steps=2", "evaluation.rows=16"),
]


class Way:
    """The calls and returns that `sys.setprofile` saw with a recipe."""

    def __init__(self) -> None:
        self.stops: list[tuple[str, str, str]] = []  # of each: caller's file, file, function
        self.returns = 0

    def __call__(self, frame: FrameType, event: str, _: object) -> None:
        """Note a call or a return."""
        if event not in {"call", "return"} or not frame.f_code.co_filename.startswith(SOURCE):
            return
        if "/recipe/" in frame.f_code.co_filename or frame.f_code.co_name.startswith("<"):
            return  # reading and checking is this package's purpose
        back = frame.f_back
        if back is None or not back.f_code.co_filename.startswith(SOURCE):
            return
        code = frame.f_code
        names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        if not any(_is_of_a_recipe(frame.f_locals.get(name)) for name in names):
            return
        here, there = (self._short(one.f_code.co_filename) for one in (frame, back))
        if event == "call":
            self.stops.append((there, here, code.co_qualname))
        elif here != there:
            self.returns += 1

    @staticmethod
    def _short(path: str) -> str:
        return path.removeprefix(SOURCE).strip("/")


def _is_of_a_recipe(value: object) -> bool:
    """Return whether a value is a recipe or one of its sections; records of SHARDS are Sections too."""
    return isinstance(value, Section) and type(value).__module__.startswith("masklater.recipe")


def main() -> None:
    """Follow one run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="name every stop")
    arguments = parser.parse_args()
    from masklater.corpus.prepare import prepare
    from masklater.corpus.settings import PrepareSettings
    from masklater.pretrain.loop import pretrain

    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder, "text.txt")
        text.write_text("".join(f"the tree by the river number {i} and the old tree\n" for i in range(400)))
        prepare(
            [text],
            Path(folder, "shards"),
            PrepareSettings(row_length=16, valid_fraction=0.1, documents="line", vocab_size=300),
        )
        recipe, way = load("3ml-small", TINY), Way()
        sys.setprofile(way)
        try:
            pretrain(recipe, Path(folder, "shards"), Path(folder, "run"))
        finally:
            sys.setprofile(None)
    if arguments.list:
        for there, here, function in way.stops:
            print(f"{there:<28} -> {here:<28} {function}")
    files = {file for there, here, _ in way.stops for file in (there, here)}
    print(f"stops {len(way.stops)}, of them distinct {len(set(way.stops))}; files {len(files)}; returns {way.returns}")


if __name__ == "__main__":
    main()
