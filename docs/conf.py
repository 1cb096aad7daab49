"""How Sphinx makes the site from these pages: `make docs`, then open site/index.html."""

import re
import sys
from importlib.metadata import version as version_of
from pathlib import Path

from sphinx.application import Sphinx

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent / "src")]

project = "masklater"
author = "The masklater contributors"
copyright = author
version = release = version_of("masklater")
language = "en"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "generated"]
exclude_patterns = ["_build"]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3
default_role = "code"  # docstrings have one backtick around code
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
python_maximum_signature_line_length = 88
smartquotes = False

html_theme = "furo"
html_title = f"masklater {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {"navigation_with_keys": True, "top_of_page_buttons": []}

OUTSIDE = re.compile(r"\[([^\]]+)\]\((?:\.\./)+(?!docs/)([^)#:]+)\)")


def name_files_outside(app: Sphinx, docname: str, source: list[str]) -> None:
    """Turn a link from a page into the repository into the name of what it leads to, once that is there."""
    page = Path(app.env.doc2path(docname))

    def named(link: re.Match[str]) -> str:
        there = (page.parent / link[0].rpartition("(")[2].rstrip(")")).resolve()
        if there.is_relative_to(HERE) or not there.exists():
            return link[0]  # Sphinx follows the one and complains of the other
        path = str(there.relative_to(HERE.parent))
        return f"`{path}`" if link[1].strip("`").rstrip("/") in path else f"{link[1]} (`{path}`)"

    source[0] = OUTSIDE.sub(named, source[0])


def setup(app: Sphinx) -> None:
    """Register what runs on every page that is read."""
    app.connect("source-read", name_files_outside)
