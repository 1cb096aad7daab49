"""Tiny GLUE folders and encoders, made up, with the quirks of the real ones."""

import json
import random
from pathlib import Path

from tests.conftest import make_text

SENTENCES = 24


def write(path: Path, *lines: str, bom: bool = False, end: str = "\n") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((b"\xef\xbb\xbf" if bom else b"") + ("\n".join(lines) + end).encode())


def sentences(count: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    return [make_text(rng.randrange(10**6), rng.randrange(2, 12)) for _ in range(count)]


def make_glue(folder: Path, train: int = SENTENCES, dev: int = 12) -> Path:
    """All nine tasks in the classic layout."""
    for split, count in (("train", train), ("dev", dev)):
        first, second = sentences(count, 1), sentences(count, 2)
        first[0] = 'a "quoted kan, and an open one: "lot'  # unpaired quotes are text
        pairs = list(zip(first, second, strict=True))
        classes = [i % 2 for i in range(count)]
        entailment = ["entailment" if c == 0 else "not_entailment" for c in classes]
        write(
            folder / f"CoLA/{split}.tsv",
            *(f"gj04\t{c}\t{'*' if c == 0 else ''}\t{a}" for c, a in zip(classes, first, strict=True)),
            end="",
        )
        write(
            folder / f"SST-2/{split}.tsv",
            "sentence\tlabel",
            *(f"{a} \t{c}" for c, a in zip(classes, first, strict=True)),
        )
        header = "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String"
        write(
            folder / f"MRPC/{split}.tsv",
            header,
            *(f"{c}\t1\t2\t{a}\t{b}" for c, (a, b) in zip(classes, pairs, strict=True)),
            bom=split == "dev",
        )
        header = "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore"
        write(
            folder / f"STS-B/{split}.tsv",
            header,
            *(
                f"{i}\tg\tf\t2012\t0\tn\tn\t{a}\t{b}\t{i % 6}.{i % 10}00"
                if i % 6 < 5
                else f"{i}\tg\tf\t2012\t0\tn\tn\t{a}\t{b}\t5.000"
                for i, (a, b) in enumerate(pairs)
            ),
        )
        write(
            folder / f"QQP/{split}.tsv",
            "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate",
            *(f"{i}\t1\t2\t{a}\t{b}\t{i % 2}" for i, (a, b) in enumerate(pairs)),
        )
        write(
            folder / f"QNLI/{split}.tsv",
            "index\tquestion\tsentence\tlabel",
            *(f"{i}\t{a}\t{b}\t{entailment[i]}" for i, (a, b) in enumerate(pairs)),
        )
        write(
            folder / f"RTE/{split}.tsv",
            "index\tsentence1\tsentence2\tlabel",
            *(f"{i}\t{a}\t{b}\t{entailment[i]}" for i, (a, b) in enumerate(pairs)),
        )
        write(
            folder / f"WNLI/{split}.tsv",
            "index\tsentence1\tsentence2\tlabel",
            *(f"{i}\t{a}\t{b}\t{i % 2}" for i, (a, b) in enumerate(pairs)),
        )
        three = ["entailment", "neutral", "contradiction"]
        if split == "train":
            header = "index\tpromptID\tpairID\tgenre\tsentence1\tsentence2\tlabel1\tgold_label"
            write(
                folder / "MNLI/train.tsv",
                header,
                *(f"{i}\t1\t1e\tfiction\t{a}\t{b}\tneutral\t{three[i % 3]}" for i, (a, b) in enumerate(pairs)),
            )
        else:
            header = "index\tsentence1\tsentence2\tlabel1\tlabel2\tgold_label"
            write(
                folder / "MNLI/dev_matched.tsv",
                header,
                *(f"{i}\t{a}\t{b}\tneutral\tneutral\t{three[i % 3]}" for i, (a, b) in enumerate(pairs)),
            )
            records = [{"premise": a, "hypothesis": b, "label": three[(i + 1) % 3]} for i, (a, b) in enumerate(pairs)]
            write(folder / "MNLI/dev_mismatched.jsonl", *map(json.dumps, records))
    return folder
