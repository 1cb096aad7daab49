"""`judge --zero-shot`: the quality of an encoder's mean-pooled vectors on pairs of texts, without any training.

SCORES/zero-shot.json  figures and what they were made with, SCORES/zero-shot.md for people
SCORES/predictions/    for each file the cosine of each row, or the measures of each query
SCORES/encoder/        the exported encoder, where a RUN was given
SCORES/against/, SCORES/twin-encoder/, SCORES/twin/, SCORES/comparison.*  as in `against.py`
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from masklater.console import Meter, aligned, say
from masklater.folders import begun_folder, disk_errors_for_people, write_file
from masklater.judge.against import blocks, cells
from masklater.judge.bootstrap import LEVEL, RESAMPLES, Difference, compare_answers, compare_means
from masklater.judge.embed import MEASURES, Embedder, measure_search
from masklater.judge.encoder import attention_of, open_encoder
from masklater.judge.metrics import compute_metrics
from masklater.judge.scorer import Scorer
from masklater.judge.similarity import PairRows, find_pair_files, read_pairs
from masklater.judge.table import markdown_lines
from masklater.judge.twin import write_twin
from masklater.machine.device import all_devices, device_name
from masklater.machine.versions import versions
from masklater.run.identity import is_run

Record = dict[str, Any]
"""The content of zero-shot.json, or of comparison.json."""


@dataclass(frozen=True)
class _Scored:
    """The scores of an encoder on all files."""

    record: Record
    answers: list[NDArray[np.float64]]  # of each file: cosines [N], or measures of queries [Q, K]


def judge_zero_shot(
    encoder: str, given: Sequence[str], out: Path, against: str | None = None, random_twin: bool = False
) -> tuple[Record, Record | None]:
    """Score an encoder, and the encoders it is compared with, on files of pairs, and write SCORES.

    Args:
        encoder: A folder of transformers', a RUN, or a name on the hub.
        given: Files with the columns to read, as `similarity.py` says.
        out: The SCORES folder to make. If scoring fails, nothing of it is left.
        against: Another encoder; None: none.
        random_twin: Compare with untrained weights of the same config.

    Returns:
        The scores, and the comparison if there is one.

    Raises:
        UserError: A file or an encoder cannot be read, or `out` exists.
    """
    pairs = [read_pairs(file) for file in find_pair_files(given)]
    if against is not None and not is_run(Path(against)):
        open_encoder(against, out)
    with begun_folder(out):
        first = _score(encoder, pairs, out)
        rivals = {"against": against} if against is not None else {}
        if random_twin:
            write_twin(open_encoder(first.record["encoder"]["path"], out).folder, out / "twin-encoder")
            rivals["twin"] = str(out / "twin-encoder")
        if not rivals:
            return first.record, None
        comparison: Record = {"encoder": first.record["encoder"], "resamples": RESAMPLES, "level": LEVEL}
        for name, rival in rivals.items():
            second = _score(rival, pairs, out / name)
            comparison[name] = {"encoder": second.record["encoder"], "files": _compare(pairs, first, second)}
        write_file(out / "comparison.json", json.dumps(comparison, indent=1, allow_nan=False))
        write_file(out / "comparison.md", comparison_as_markdown(comparison))
    return first.record, comparison


def _score(name: str, pairs: Sequence[PairRows], out: Path) -> _Scored:
    began = time.monotonic()
    with disk_errors_for_people(out):
        (out / "predictions").mkdir(parents=True)
    encoder = open_encoder(name, out)
    say(f"encoder {encoder.path}, SHA-256 {encoder.sha256[:12]}...")
    device = all_devices()[0]
    scorer = Scorer(encoder, device, precision="float32")
    embedder = Embedder(scorer)
    files: list[Record] = []
    answers: list[NDArray[np.float64]] = []
    texts = sum(len({*first, *second}) for first, second in (each.split.texts for each in pairs))
    with Meter("Embedding", texts) as meter:
        for number, each in enumerate(pairs, start=1):
            record, answer = _score_file(embedder, each, meter)
            record["predictions"] = f"predictions/{number}-{each.file.path.stem}.npy"
            with disk_errors_for_people(out):
                np.save(out / record["predictions"], answer)
            files.append(record)
            answers.append(answer)
    scores = {
        "encoder": encoder.record(),
        "files": files,
        "vectors": "mean of the last hidden states over the row's tokens, compared by cosine",
        "max_length": scorer.max_length,
        "precision": "float32",
        "attention": attention_of(device),
        "hardware": device_name(device),
        "threads": torch.get_num_threads(),
        "versions": versions(),
        "seconds": round(time.monotonic() - began, 3),
    }
    write_file(out / "zero-shot.json", json.dumps(scores, indent=1, allow_nan=False))
    write_file(out / "zero-shot.md", scores_as_markdown(scores))
    return _Scored(scores, answers)


def _score_file(embedder: Embedder, pairs: PairRows, meter: Meter) -> tuple[Record, NDArray[np.float64]]:
    firsts, seconds = pairs.split.texts
    place = {text: number for number, text in enumerate(dict.fromkeys([*firsts, *seconds]))}
    vectors_ND, truncated = embedder.embed(list(place), meter.advance)
    record: Record = {
        "file": str(pairs.file.path),
        "kind": pairs.file.kind,
        "columns": list(pairs.file.columns),
        "rows": len(pairs.split),
        "data_sha256": pairs.sha256,
        "notes": [*pairs.notes, *([f"{truncated:,} texts cut to what the encoder takes"] if truncated else [])],
    }
    if pairs.file.kind == "sts":
        one_ND, other_ND = (vectors_ND[[place[text] for text in column]] for column in (firsts, seconds))
        cosines_N = np.einsum("nd,nd->n", one_ND, other_ND).astype(np.float64)
        return {**record, "metric": compute_metrics(("spearman",), pairs.split.labels, cosines_N)}, cosines_N
    passages = {text: number for number, text in enumerate(dict.fromkeys(seconds))}
    right: dict[str, set[int]] = {}
    for query, passage in zip(firsts, seconds, strict=True):
        right.setdefault(query, set()).add(passages[passage])
    queries_QD, passages_PD = (vectors_ND[[place[text] for text in texts]] for texts in (right, passages))
    measures_QK = measure_search(queries_QD, passages_PD, [sorted(each) for each in right.values()])
    metric = dict(zip(MEASURES, (100 * measures_QK.mean(axis=0)).tolist(), strict=True))
    return {**record, "queries": len(right), "passages": len(passages), "metric": metric}, measures_QK


def _compare(pairs: Sequence[PairRows], first: _Scored, second: _Scored) -> list[Record]:
    """Return the difference in every measure of every file."""
    compared: list[Record] = []
    for each, record, one, other in zip(pairs, first.record["files"], first.answers, second.answers, strict=True):
        if each.file.kind == "sts":
            found = {"spearman": compare_answers("spearman", (), each.split, [one], [other])}
        else:
            found = {name: compare_means(one[:, at], other[:, at]) for at, name in enumerate(MEASURES)}
        compared.append(
            {"file": record["file"], "metric": {name: _as_record(difference) for name, difference in found.items()}}
        )
    return compared


def _as_record(found: Difference) -> Record:
    return {name: value for name, value in found.record().items() if name != "seeds"}


Table = list[tuple[str, ...]]


def _scores_table(scores: Record) -> Table:
    rows: Table = [("file", "rows", "metric", "score")]
    for file in scores["files"]:
        rows += [(file["file"], f"{file['rows']:,}", name, f"{value:.2f}") for name, value in file["metric"].items()]
    return rows


def _notes(scores: Record) -> list[str]:
    return [f"{file['file']}: {note}" for file in scores["files"] for note in file["notes"]]


def _comparison_tables(comparison: Record) -> list[tuple[str, Table]]:
    tables: list[tuple[str, Table]] = []
    for title, compared in blocks(comparison):
        rows: Table = [("file", "metric", "encoder", "other", "difference", f"{LEVEL}% interval", "verdict")]
        for file in compared["files"]:
            rows += [(file["file"], metric, *cells(found)) for metric, found in file["metric"].items()]
        tables.append((title, rows))
    return tables


ABOUT = "Without training: cosines of mean-pooled last hidden states; all figures in percent."
ABOUT_INTERVALS = (
    f"Interval: paired bootstrap, {RESAMPLES:,} resamples of rows or queries, the same for both. "
    "Higher, lower: 0 is outside of it."
)


def as_text(scores: Record, comparison: Record | None) -> str:
    """Return the tables for a terminal."""
    lines = [aligned(_scores_table(scores), numbers_from=3), *_notes(scores), ABOUT]
    if comparison is not None:
        for title, rows in _comparison_tables(comparison):
            lines += ["", title, aligned(rows, numbers_from=2)]
        lines.append(ABOUT_INTERVALS)
    return "\n".join(lines)


def scores_as_markdown(scores: Record) -> str:
    """Return the content of zero-shot.md."""
    notes = [part for note in _notes(scores) for part in (note, "")]
    title = f"# {scores['encoder']['path']}, without training"
    return "\n".join([title, "", *markdown_lines(_scores_table(scores), texts=3), "", *notes, ABOUT, ""])


def comparison_as_markdown(comparison: Record) -> str:
    """Return the content of comparison.md."""
    lines = [f"# {comparison['encoder']['path']}, compared", ""]
    for title, rows in _comparison_tables(comparison):
        lines += [f"## {title}", "", *markdown_lines(rows, texts=2), ""]
    return "\n".join([*lines, ABOUT, ABOUT_INTERVALS, ""])
