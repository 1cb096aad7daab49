"""PubMed's XML files (pubmed26n0001.xml.gz and on) as JSON lines, a file each, for `masklater prepare`.

    python examples/pubmed.py pubmed26n*.xml.gz --out abstracts
    masklater prepare abstracts --text-field title,text --filter language=eng --out shards

A record has the fields id, title, text (the abstract) and language. Articles without an abstract are left out and
counted. A file that is there already is not made again, so that an interrupted command can be repeated. The files, one
set a year, are at https://ftp.ncbi.nlm.nih.gov/pubmed/baseline/.
"""

import argparse
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree


def text_of(parent: ElementTree.Element, path: str) -> str:
    """Return the text of all elements at a path, a line each; tags inside of it, as <sup>, leave their text."""
    found = (" ".join("".join(element.itertext()).split()) for element in parent.iterfind(path))
    return "\n".join(text for text in found if text)


def articles(path: Path) -> Iterator[dict[str, str]]:
    """Read a file article by article, so that memory stays flat."""
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        events = ElementTree.iterparse(file, events=("start", "end"))
        _, root = next(events)
        for event, element in events:
            if event == "end" and element.tag == "PubmedArticle":
                yield {
                    "id": text_of(element, "MedlineCitation/PMID"),
                    "title": text_of(element, "MedlineCitation/Article/ArticleTitle"),
                    "text": text_of(element, "MedlineCitation/Article/Abstract/AbstractText"),
                    "language": (text_of(element, "MedlineCitation/Article/Language").splitlines() or [""])[0],
                }
                root.clear()


def main() -> None:
    """Write a .jsonl file for each file that was named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="a folder")
    arguments = parser.parse_args()

    arguments.out.mkdir(parents=True, exist_ok=True)
    for path in arguments.files:
        done = arguments.out / f"{path.name.removesuffix('.gz').removesuffix('.xml')}.jsonl"
        if done.exists():
            print(f"{done} is there already")
            continue
        partial = done.with_suffix(".partial")
        kept = without = 0
        with partial.open("w", encoding="utf-8") as out:
            for article in articles(path):
                if article["text"]:
                    out.write(json.dumps(article, ensure_ascii=False) + "\n")
                    kept += 1
                else:
                    without += 1
        partial.rename(done)
        print(f"{done}: {kept:,} abstracts; {without:,} articles without one")


if __name__ == "__main__":
    main()
