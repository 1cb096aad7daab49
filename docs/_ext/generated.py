"""Directives whose content is read off the code when the site is built."""

from docutils import nodes
from from_code import command_pages, recipe_pages, setting_pages
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


class Generated(SphinxDirective):
    """Content that a function returns as Markdown."""

    has_content = False

    def run(self) -> list[nodes.Node]:
        """Parse what the function named after the directive returns, headings too."""
        return self.parse_text_to_nodes(PAGES[self.name](), allow_section_headings=True)


PAGES = {"masklater-commands": command_pages, "masklater-settings": setting_pages, "masklater-recipes": recipe_pages}


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives."""
    for name in PAGES:
        app.add_directive(name, Generated)
    return {"parallel_read_safe": True}
