"""The imports run one way: what each room may know, and what must not be loaded before it is needed."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "masklater"
LEAVES = {"errors", "console", "extras", "folders", "hub", "ledger", "lock", "publish", "record", "seeds"}
MAY_KNOW = {
    "errors": set(),
    "console": set(),
    "extras": {"errors"},
    "folders": {"errors"},
    "hub": {"errors"},
    "ledger": set(),
    "lock": {"console", "errors", "folders"},
    "publish": {"errors"},
    "record": {"errors"},
    "seeds": set(),
    "registration": set(),
    "machine": LEAVES,
    "recipe": LEAVES,
    "corpus": {"machine", "recipe", *LEAVES},
    "masking": {"corpus", "recipe", *LEAVES},
    "model": {"corpus", "masking", "recipe", *LEAVES},
    "budget": {"corpus", "masking", "machine", "recipe", *LEAVES},
    "run": {"corpus", "model", "machine", "recipe", *LEAVES},
    "pretrain": {"corpus", "masking", "model", "machine", "budget", "run", "recipe", *LEAVES},
    "select": {"corpus", "masking", "model", "machine", "budget", "run", "pretrain", "recipe", *LEAVES},
    "report": {"run", "recipe", *LEAVES},
    "glue": {"judge"},
    "judge": {"corpus", "model", "machine", "run", "recipe", *LEAVES},
    "doctor": {"corpus", "model", "machine", "run", "recipe", *LEAVES},
    "quickstart": {"corpus", "machine", "masking", "model", "run", "pretrain", "recipe", "report", *LEAVES},
    "cli": {
        *(
            "corpus",
            "doctor",
            "judge",
            "machine",
            "masking",
            "model",
            "run",
            "pretrain",
            "quickstart",
            "recipe",
            "select",
            "budget",
            "report",
        ),
        *LEAVES,
    },
    "__main__": {"cli"},
}


def room_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports_of(path: Path) -> set[str]:
    """The rooms of masklater that a file imports."""
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    rooms = {name.split(".")[1] for name in names if name.startswith("masklater.")}
    return {room for room in rooms if (SOURCE / room).exists() or (SOURCE / f"{room}.py").exists()}


FILES = [path for path in sorted(SOURCE.rglob("*.py")) if path != SOURCE / "__init__.py"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_room_knows_only_what_it_may(path: Path) -> None:
    room = room_of(path)
    assert imports_of(path) - {room} <= MAY_KNOW[room]


def test_the_rule_has_no_cycles() -> None:
    below: dict[str, set[str]] = {}
    rest = dict(MAY_KNOW)
    while rest:
        free = [room for room, known in rest.items() if known <= below.keys()]
        assert free, f"a cycle among {sorted(rest)}"
        for room in free:
            below[room] = rest.pop(room)


def test_only_the_encoder_file_builds_transformers_models() -> None:
    makers = {"AutoModel", "AutoModelForMaskedLM", "RobertaModel"}
    allowed = {"model/encoder.py", "model/masked_lm.py", "model/saved.py", "quickstart/main_job.py"}
    allowed |= {"model/auto.py", "model/plain.py"}
    # masked_lm and auto register what is ours, saved reads what exists, plain writes it, main_job loads the export
    for path in FILES:
        tree = ast.parse(path.read_text())
        names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
        assert not names & makers or str(path.relative_to(SOURCE)) in allowed, path


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["pretrain", "--help"],
        ["pretrain", "--settings"],
        ["budget", "3ml-base-50", "--against", "roberta-base-15"],
        ["prepare", "--help"],
        ["compare", "--help"],
        ["glue", "--help"],
        ["judge", "--help"],
        ["rows", "--help"],
        ["select", "--help"],
        ["doctor", "--help"],
        ["push", "--help"],
    ],
)
def test_help_starts_without_torch(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom masklater.cli import main\n"
        f"sys.argv = ['masklater', *{arguments!r}]\n"
        "try:\n    main()\nexcept SystemExit as leave:\n    assert not leave.code, leave.code\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=300)


def test_recipes_are_checked_without_torch() -> None:
    code = "import sys\nfrom masklater.recipe.load import load\nload('3ml-base-50')\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


def test_no_leftovers_in_the_source() -> None:
    for path in FILES:
        text = path.read_text()
        for mark in ("TODO", "FIXME", "HACK", "XXX"):
            assert mark not in text, f"{path}: {mark}"
