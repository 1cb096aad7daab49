"""Articles of a MediaWiki XML dump (`pages-articles`): one record per page, with `title`, `id` and `text`.

Redirects and pages of other namespaces are left out and counted. Of a page with several revisions the last one is read.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from xml.parsers import expat

from masklater.corpus.fields import MissingFieldError, missing_field
from masklater.corpus.lines import LongLineError
from masklater.corpus.readers.opened import Opened, Record, Records
from masklater.corpus.readers.wikitext import without_markup
from masklater.errors import DamagedDataError
from masklater.extras import import_extra

CHUNK_BYTES = 2**16
FIELDS = ("title", "id", "text")
FILE_NAMESPACES = ("-2", "6", "14")
"""Media, File and Category: links into these are not text. Their names differ from language to language."""


def read_mediawiki(opened: Opened) -> Records:
    """Yield the articles of a dump without markup, numbered by page."""
    import_extra("mwparserfromhell", "wiki", opened.name)
    try:
        opened.fields.columns(FIELDS)
    except MissingFieldError as missing:
        raise missing_field(opened.name, str(missing), FIELDS) from None
    dump = _Dump(opened.limit)
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler = dump.start, dump.end
    parser.CharacterDataHandler = dump.characters
    fed = 0
    while True:
        chunk = opened.stream.read(CHUNK_BYTES)
        fed += len(chunk)
        try:
            parser.Parse(chunk, not chunk)
        except expat.ExpatError as error:
            raise DamagedDataError(
                f"{opened.name}, line {error.lineno}: no XML, or cut short ({expat.errors.messages[error.code]})",
                "Fetch the dump again, or leave it out.",
            ) from None
        if dump.root not in {"", "mediawiki"}:
            raise DamagedDataError(
                f"{opened.name} is no MediaWiki dump: it begins with <{dump.root}>, not <mediawiki>",
                "Of XML, only dumps of MediaWiki are read: make text or JSON lines of it.",
            )
        if fed - parser.CurrentByteIndex > opened.limit:  # a tag or a comment that does not end
            raise LongLineError(parser.CurrentLineNumber)
        yield from _articles(dump, opened)
        if not chunk:
            return


@dataclass
class _Page:
    """One page as it is in the dump."""

    number: int
    title: str = ""
    namespace: str = ""
    id: str = ""
    text: str = ""
    is_redirect: bool = False


class _Dump:
    """The parser's events, collected into pages."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.root = ""
        self.path: list[str] = []
        self.parts: list[str] = []
        self.size = self.number = 0
        self.page = _Page(0)
        self.finished: list[_Page] = []
        self.file_names = {"file", "image", "media", "category"}

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self.root = self.root or tag
        self.path.append(tag)
        self.parts, self.size = [], 0
        if tag == "page":
            self.number += 1
            self.page = _Page(self.number)
        elif tag == "redirect":
            self.page.is_redirect = True
        elif tag == "namespace":
            self.key = attributes.get("key", "")

    def characters(self, text: str) -> None:
        self.parts.append(text)
        self.size += len(text)
        if self.size > self.limit:
            raise LongLineError(self.number)

    def end(self, tag: str) -> None:
        value = "".join(self.parts)
        self.parts, self.size = [], 0
        match self.path[-2:]:
            case ["page", "title"]:
                self.page.title = value
            case ["page", "ns"]:
                self.page.namespace = value.strip()
            case ["page", "id"]:
                self.page.id = value
            case ["revision", "text"]:
                self.page.text = value
            case ["namespaces", "namespace"] if self.key in FILE_NAMESPACES and value:
                self.file_names.add(value.lower())
            case [*_, "page"]:
                self.finished.append(self.page)
        self.path.pop()


def _articles(dump: _Dump, opened: Opened) -> Iterator[tuple[int, Record]]:
    for page in dump.finished:
        if page.is_redirect:
            opened.counts.redirects += 1
        elif page.namespace not in {"0", ""}:
            opened.counts.other_namespaces += 1
        else:
            text = without_markup(page.text, frozenset(dump.file_names))
            yield page.number, {"title": page.title, "id": page.id, "text": text}
    dump.finished.clear()
