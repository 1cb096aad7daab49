"""Dumps of MediaWiki: articles, without markup; all else is counted or refused."""

import bz2
from collections.abc import Iterator
from pathlib import Path

import pytest

from masklater.corpus.files import find_files
from masklater.corpus.read import ReadCounts, Source, read_documents
from masklater.corpus.readers.wikitext import without_markup
from masklater.errors import DamagedDataError, UserError
from tests.conftest import DATA
from tests.fuzz.fuzz import EXAMPLES, fuzz
from tests.fuzz.test_tables import damaged

HEAD = """<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.10/" version="0.10" xml:lang="de">
  <siteinfo><sitename>Wikipedia</sitename><namespaces><namespace key="-1">Spezial</namespace>
  <namespace key="0" /><namespace key="6">Datei</namespace><namespace key="14">Kategorie</namespace></namespaces></siteinfo>
"""
PAGES = """
  <page><title>Eins &amp; zwei</title><ns>0</ns><id>10</id><revision><id>1</id><text xml:space="preserve">older</text></revision>
    <revision><id>2</id><contributor><username>text</username><id>77</id></contributor>
    <text>'''Eins''' ist eine [[Zahl|natürliche Zahl]].&lt;ref&gt;Quelle&lt;/ref&gt; [[Datei:x.png|mini|Bild]][[Kategorie:Zahl]]</text></revision></page>
  <page><title>1</title><ns>0</ns><id>11</id><redirect title="Eins" /><revision><text>#WEITERLEITUNG [[Eins]]</text></revision></page>
  <page><title>Diskussion:Eins</title><ns>1</ns><id>12</id><revision><text>Rede</text></revision></page>
  <page><title>Leer</title><ns>0</ns><id>13</id><revision><text /></revision></page>
"""
DUMP = HEAD + PAGES + "</mediawiki>\n"


def read_all(path: Path, **settings: object) -> tuple[list[str], ReadCounts]:
    counts = ReadCounts()
    source = Source(find_files([path]), **settings)  # type: ignore[arg-type]
    return [document.text for document in read_documents(source, counts)], counts


def test_articles_are_documents_and_the_rest_is_counted(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text(DUMP)
    texts, counts = read_all(tmp_path)
    assert texts == ["Eins ist eine natürliche Zahl."]
    assert (counts.redirects, counts.other_namespaces, counts.empty) == (1, 1, 1)
    texts, counts = read_all(tmp_path, text_field="title,text", filters=("id=10",))
    assert texts == ["Eins & zwei\n\nEins ist eine natürliche Zahl."] and counts.filtered == 1


BAD = {
    "cut short": (DUMP[:900], r"line \d+: no XML, or cut short"),
    "cut between pages": (HEAD + PAGES, r"no XML, or cut short \(no element found\)"),
    "empty": ("", r"line 1: no XML, or cut short"),
    "another kind of XML": ("<rss><page/></rss>", r"is no MediaWiki dump: it begins with <rss>"),
    "no XML": ("plain text", r"line 1: no XML"),
    "entities that grow": (
        '<!DOCTYPE a [<!ENTITY a "aaaaaaaaaa">' + "".join(f'<!ENTITY a{i} "{f"&a{i - 1 if i else str()};" * 10}">' for i in range(9))
        + "]><mediawiki><page><title>&a8;</title></page></mediawiki>", r"no XML, or cut short",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_whole_dump_is_refused(name: str, tmp_path: Path) -> None:
    content, message = BAD[name]
    (tmp_path / "a.xml").write_text(content)
    with pytest.raises(DamagedDataError, match=message):
        read_all(tmp_path)
    (tmp_path / "a.xml").write_text(DUMP)
    with pytest.raises(UserError, match=r"no field 'body'; the record has 'title', 'id', 'text'"):
        read_all(tmp_path, text_field="body")


@EXAMPLES
def test_any_dump_is_read_or_refused(examples: int, tmp_path: Path) -> None:
    path = tmp_path / "a.xml"

    def check(content: bytes) -> None:
        path.write_bytes(content)
        try:
            read_all(path)
        except UserError as error:
            assert "a.xml" in error.problem and error.remedy

    fuzz("MediaWiki dumps", examples, check, damaged(DUMP.encode()))


MARKUP = {
    "a '''b''' ''c'' '''''d'''''": "a b c d",
    "[[x]] [[x|y]] [[x#s|''y'']]s [http://a.b z] [http://a.b] http://c.d": "x y ys z  http://c.d",
    "a{{t|b|c={{d}}}} e<!-- f -->": "a e",
    "{|\n| cell\n|}\na": "a",
    "a<ref name=x>b</ref><ref name=x /> c<math>x^2</math>": "a c",
    "== H ==\ntext\n* one\n* two\n# three\n:: four": "H\ntext\none\ntwo\nthree\nfour",
    "[[File:a.png|thumb|[[b]] c]]d[[Category:e]][[:Category:f|g]]": "dg",
    "a (, {{lang|x}}) b &amp; &#x41; &nbsp;": "a b & A",
    "[[fr:Un]] [[de-at:x]] a [[fr:Un|one]]": "a one",
    "__NOTOC__a<br />b<code>c</code><gallery>d.jpg</gallery>": "a\nbc",
    "'''''broken [[link {{template <ref>": "'''''broken [[link {{template <ref>",
    "''a <ref>b</ref> [[File:c|d]] e''": "a   e",
}


@pytest.mark.parametrize("wikitext", MARKUP)
def test_markup_goes_and_text_stays(wikitext: str) -> None:
    assert without_markup(wikitext, frozenset({"file", "category"})) == MARKUP[wikitext]


DUMPS = DATA / "wiki_dump"


def real_dump() -> Iterator[bytes]:
    """The first pages of a real dump."""
    with bz2.open(next(DUMPS.glob("enwiki-latest*.bz2"))) as file:
        yield from file


@pytest.mark.skipif(not DUMPS.is_dir(), reason="no dump of Wikipedia is on this machine")
def test_a_real_dump(tmp_path: Path) -> None:
    (tmp_path / "a.xml-p10p12.bz2").write_bytes(bz2.compress(first_pages(6)))
    texts, counts = read_all(tmp_path)
    assert (counts.documents, counts.redirects, counts.other_namespaces) == (1, 5, 0)
    anarchism = texts[0]
    assert anarchism.startswith(
        "Anarchism is a political philosophy that advocates self-governed societies based on voluntary institutions."
    )
    for mark in ("[[", "]]", "{{", "}}", "<ref", "'''", "Category:", "|thumb", "==", "\n\n\n"):
        assert mark not in "".join(texts), mark


def first_pages(number: int) -> bytes:
    lines = []
    for line in real_dump():
        lines.append(line)
        number -= line.strip() == b"</page>"
        if not number:
            return b"".join(lines) + b"</mediawiki>"
    raise AssertionError("the dump has fewer pages")


@pytest.mark.slow
@pytest.mark.skipif(not DUMPS.is_dir(), reason="no dump of Wikipedia is on this machine")
def test_whole_real_dumps() -> None:
    texts, counts = read_all(DUMPS)
    assert (counts.files, counts.documents + counts.redirects + counts.other_namespaces + counts.empty) == (2, 211)
    assert (counts.redirects, counts.other_namespaces) == (100, 0)  # the one page about Wikipedia itself is a redirect
    assert sum("[[" in text or "{{" in text for text in texts) < 10
