"""What the site takes from the code: the figure of the method, commands, settings, recipes; and the site as a whole."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import masklater
from masklater.cli import app
from masklater.recipe.load import describe, shipped
from tests.conftest import REPOSITORY, module_at

DOCS = REPOSITORY / "docs"


def test_the_figure_of_the_method_is_what_its_code_draws() -> None:
    figure = module_at(DOCS / "_ext" / "method_figure.py")
    assert figure.OUT.read_text() == figure.draw()
    assert (figure.cells_of_mlm(), figure.cells_of_3ml()) == (120, 92)
    assert figure.cells_of_3ml() / figure.cells_of_mlm() == pytest.approx((12 * 0.6 + 2) / 12)


def test_the_reference_has_every_command_setting_and_recipe() -> None:
    from_code = module_at(DOCS / "_ext" / "from_code.py")
    commands = from_code.command_pages()
    for command in app.registered_commands:
        assert command.callback is not None
        assert f"## masklater {command.callback.__name__}\n" in commands
    assert ": Share of the documents held out, chosen by a hash of their text." in commands
    assert "\nmasklater prepare [OPTIONS] INPUT...\n" in commands and "`INPUT`\n: Files (.txt .md .jsonl" in commands
    assert "**The tokenizer**\n\n`--tokenizer <path>`" in commands
    assert "masklater budget 3ml-base-50 --against roberta-base-15" in commands
    settings = from_code.setting_pages()
    for key, default, _ in describe():
        if not key.startswith("duration"):
            assert f"`{key}`, default `{default}`" in settings
    assert "share of the maskable positions that are corrupted." in settings
    recipes = from_code.recipe_pages()
    for name in shipped():
        assert f"`{name}`\n: " in recipes


def test_the_citation_is_of_this_version() -> None:
    cited = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())["version"]
    assert cited == masklater.__version__
    code = "import sys; sys.path.insert(0, 'src'); import masklater; print(masklater.__version__)"
    alone = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert alone.stdout.strip() == cited, "the source says its version where nothing is installed"


def test_the_table_of_extras_has_every_extra_and_what_it_brings() -> None:
    table = (DOCS / "install.md").read_text().split("## Extras")[1].split("## Windows")[0]
    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    rows = {
        name: row
        for row in table.splitlines()
        if row.startswith("| `")
        for name in re.findall("`([^`]+)`", row.split("|")[1])
    }
    assert rows.keys() == extras.keys()
    for name in extras.keys() - {"docs", "test"}:  # of which the table says what they are for
        for requirement in extras[name]:
            library = re.split("[>;=<]", requirement)[0]
            assert library == "fsspec" or f"`{library}`" in rows[name]


@pytest.mark.slow
def test_the_site_is_made_and_a_broken_link_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("sphinx", reason="the extra `docs` is not installed")

    def make(source: Path) -> subprocess.CompletedProcess[str]:
        options = ["--fail-on-warning", "--keep-going", "--quiet", "--builder", "html", "--doctree-dir", tmp_path / "d"]
        command = [sys.executable, "-m", "sphinx", *options, source, tmp_path / "site"]
        return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300, check=False)

    done = make(DOCS)
    assert done.returncode == 0, done.stderr
    for page in DOCS.rglob("*.md"):
        assert (tmp_path / "site" / page.relative_to(DOCS).with_suffix(".html")).exists()
    assert "https://unpkg" not in (tmp_path / "site" / "index.html").read_text()  # all of it is here
    assert "tensorboard" in (tmp_path / "site" / "searchindex.js").read_text()
    for text, said in (("[no page](nowhere.md)", "nowhere.md"), ("[no place](method.md#nowhere)", "nowhere")):
        broken = tmp_path / "broken"
        broken.mkdir(exist_ok=True)
        (broken / "conf.py").write_text('extensions = ["myst_parser"]\nmyst_heading_anchors = 3\n')
        (broken / "index.md").write_text(f"# Home\n\n{text}\n\n```{{toctree}}\nmethod\n```\n")
        (broken / "method.md").write_text("# Method\n")
        done = make(broken)
        assert done.returncode != 0
        assert said in done.stderr
