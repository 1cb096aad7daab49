"""The examination of SHARDS: are they as prepare wrote them?"""

from pathlib import Path

import numpy as np

from masklater.console import Meter
from masklater.corpus.index import read_index
from masklater.corpus.scored import ScoredRecord
from masklater.corpus.selection import SelectedShards, read_scores
from masklater.corpus.shards import find_damage
from masklater.corpus.target_table import TargetTable
from masklater.corpus.tokenizer import fingerprint, load, vocabulary
from masklater.corpus.unknown import SOME_UNKNOWN
from masklater.doctor.examination import Examination

_ENDINGS = ("rows", "starts")


def look_at_shards(path: Path, found: Examination) -> None:
    """Read every file of SHARDS and compare it with the index."""
    index = found.attempt(lambda: read_index(path))
    tokenizer = found.attempt(lambda: load(path / "tokenizer"))
    if index is None:
        return
    train, valid = index.train, index.valid
    found.facts["SHARDS"] = str(path)
    found.facts["rows"] = f"{train.rows:,} to train on, {valid.rows:,} held out, {index.row_length} positions each"
    found.facts["tokenizer"] = f"{index.vocabulary_size:,} entries, SHA-256 {index.tokenizer_sha256[:12]}..."
    unknown = index.source.get("unknown_tokens")
    if isinstance(unknown, int):  # SHARDS of earlier versions do not say
        share = unknown / max(train.tokens + valid.tokens, 1)
        found.facts["unknown tokens"] = f"{unknown:,}, {share:.2%} of all tokens"
        if share > SOME_UNKNOWN:
            found.notes.append(f"{share:.1%} of the tokens are unknown to the tokenizer: nothing is learned there")
    digest = found.attempt(lambda: fingerprint(path / "tokenizer"))
    if digest is not None and digest != index.tokenizer_sha256:
        found.problem(
            f"{path / 'tokenizer'} is not the tokenizer its rows were made with", "Put the original tokenizer back."
        )
    elif tokenizer is not None and vocabulary(tokenizer) != index.vocabulary:
        found.problem(
            f"{path / 'index.json'} gives special ids that are not those of the tokenizer", "Prepare the data again."
        )
    names = {f"{shard.name}.{ending}" for split in (train, valid) for shard in split.shards for ending in _ENDINGS}
    sizes = {name: (path / name).stat().st_size for name in names if (path / name).is_file()}
    found.facts["size"] = f"{sum(sizes.values()):,} bytes in {len(sizes)} files"
    with Meter("Verifying shards", sum(sizes.values())) as meter:
        for damage in find_damage(path, index, meter.advance):
            found.problem(damage.problem, damage.remedy)
    strangers = sorted(file.name for ending in _ENDINGS for file in path.glob(f"*.{ending}") if file.name not in names)
    if strangers:
        found.notes.append(f"files that the index does not know are never read: {', '.join(strangers)}")


def look_at_selection(path: Path, found: Examination) -> None:
    """Read every file of a SELECTION, and its SHARDS as `look_at_shards` does."""
    shards = found.attempt(lambda: SelectedShards(path))
    found.attempt(lambda: read_scores(path))
    if shards is None:
        return
    record = shards.selection
    found.facts["SELECTION"] = f"{path}, {record.kept:,} of {record.rows:,} rows"
    _name_scorers(record, found)
    look_at_shards(shards.folder, found)


def look_at_targets(path: Path, found: Examination) -> None:
    """Read every file of a TABLE."""
    table = found.attempt(lambda: TargetTable(path))
    if table is None:
        return
    seen = np.count_nonzero(table.seen_V)
    found.facts["TABLE"] = f"{path}, {seen:,} of {len(table.seen_V):,} tokens at {table.record.targets:,} targets"
    _name_scorers(table.record, found)


def _name_scorers(record: ScoredRecord, found: Examination) -> None:
    for what, run in (("early", record.early), ("reference", record.reference)):
        found.facts[f"scored by, {what}"] = f"{run.run} at step {run.step:,}"
