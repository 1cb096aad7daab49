"""Wikitext to plain text: parsed by mwparserfromhell, written node by node.

Kept: paragraphs, headings as lines, list items, the text of links, of bold and italic. Removed: templates (and the text
they would have produced), tables, references, images and categories, links to other languages, comments, formulas,
galleries, blocks of code. Broken markup stays as it is.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

_BLANK_LINES = re.compile(r"\n\s*\n\s*")
_SPACES = re.compile(r"[ \t]+(?=\n)|(?<=\n)[ \t]+")
_EMPTY_BRACKETS = re.compile(r" ?\([\s,;:]*\)")
_MAGIC = re.compile(r"__[A-Z]{3,}__")
_LEFT_REFERENCES = re.compile(r"<ref\b[^<>]*(?:/>|>[^<]*</ref>)")
"""Next to broken bold or italic the parser takes a reference for text."""
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[a-z]+)*|simple")
NO_TEXT = frozenset(
    [
        "table",
        "ref",
        "references",
        "gallery",
        "math",
        "chem",
        "ce",
        "score",
        "timeline",
        "syntaxhighlight",
        "source",
        "pre",
        "imagemap",
        "inputbox",
        "templatedata",
        "templatestyles",
        "categorytree",
        "mapframe",
        "maplink",
        "graph",
        "hiero",
        "indicator",
        "section",
    ]
)
"""Tags whose content is not text."""


def without_markup(wikitext: str, not_text: frozenset[str]) -> str:
    """Return the text of an article.

    Args:
        wikitext: The article's source.
        not_text: Namespaces, in lower case, such as files and categories; links into these are not text.
    """
    import mwparserfromhell

    code = mwparserfromhell.parse(wikitext, skip_style_tags=False)
    text = "".join(_texts(code, not_text))
    text = _EMPTY_BRACKETS.sub("", _MAGIC.sub("", _LEFT_REFERENCES.sub("", text)))
    return _BLANK_LINES.sub("\n\n", _SPACES.sub("", text)).strip()


def _texts(code: Any, not_text: frozenset[str]) -> Iterator[str]:
    for node in code.nodes:
        yield from _WRITERS.get(type(node).__name__, _nothing)(node, not_text)


def _nothing(node: Any, not_text: frozenset[str]) -> Iterator[str]:
    yield from ()


def _text(node: Any, not_text: frozenset[str]) -> Iterator[str]:
    yield node.value


def _entity(node: Any, not_text: frozenset[str]) -> Iterator[str]:
    try:
        yield node.normalize()
    except (ValueError, OverflowError):  # a number that is not a character
        yield str(node)


def _heading(node: Any, not_text: frozenset[str]) -> Iterator[str]:
    return _texts(node.title, not_text)


def _external_link(node: Any, not_text: frozenset[str]) -> Iterator[str]:
    if node.title is not None:
        yield from _texts(node.title, not_text)
    elif not node.brackets:
        yield str(node.url)


def _wikilink(node: Any, not_text: frozenset[str]) -> Iterator[str]:
    namespace, colon, _ = str(node.title).partition(":")
    name = namespace.strip().lower()
    if colon and (name in not_text or (node.text is None and _LANGUAGE.fullmatch(name))):
        return
    yield from _texts(node.title if node.text is None else node.text, not_text)


def _tag(node: Any, not_text: frozenset[str]) -> Iterator[str]:
    name = str(node.tag).strip().lower()
    if name == "br":
        yield "\n"
    elif name not in NO_TEXT and node.contents is not None:
        yield from _texts(node.contents, not_text)


_WRITERS: dict[str, Callable[[Any, frozenset[str]], Iterator[str]]] = {
    "Text": _text, "HTMLEntity": _entity, "Heading": _heading, "ExternalLink": _external_link, "Wikilink": _wikilink,
    "Tag": _tag,
}  # fmt: skip
