"""Data in time: is preparing as fast as the library it calls, and does training ever wait for rows?

    python benchmarks/data.py --text wikipedia_en.jsonl
    python benchmarks/data.py --text novels wikipedia_en.jsonl --megabytes 72 --tokenizer gpt2
    python benchmarks/data.py --text wikipedia_en.jsonl --part loader

Parts: `prepare`: `masklater prepare`, from files to finished shards, against `encode_batch` of tokenizers with its own
threads, which only tokenises documents in memory; they take turns on the same cores. Then the same text ten times over,
for rate and memory. `kinds`: the same text as a file of every kind that is read, once and ten times over. `loader`: the
share of its time that a model ten times as fast as the real 3ml-small waits for data. `index`: how long SHARDS of a
billion rows take to open and to give shuffled rows. The tokenizer is made, or loaded, beforehand and is in no figure.
No part needs a GPU; `loader` uses one if there is one.
"""

import argparse
import json
import multiprocessing
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from arguments import at_least_one, exit_status
from kinds import KINDS, write_kind
from memory import resident

from masklater.console import say
from masklater.corpus.files import find_files
from masklater.corpus.prepare import prepare
from masklater.corpus.read import ReadCounts, Source, read_documents
from masklater.corpus.settings import PrepareSettings
from masklater.corpus.tokenizer import load
from masklater.errors import UserError

PARTS = ("prepare", "kinds", "loader", "index")
TIMES = 10
BATCH_CHARS = 2**23
"""Characters per call of `encode_batch`: enough for any number of threads, and 200 MB of encodings."""


class Pass(NamedTuple):
    """One pass of all documents through a tokenizer."""

    tokens: int
    tokens_per_second: float
    peak_bytes: int  # of the process


def run_prepare(text: Path, tokenizer: Path | None, out: Path, workers: int, vocabulary: int = 0) -> Pass:
    """Run `masklater prepare`; its rate covers reading, tokenising, packing and writing.

    Args:
        text: A folder.
        tokenizer: A saved one; None: train one of `vocabulary` entries first.
        out: The folder for SHARDS.
        workers: Threads that tokenise.
        vocabulary: Ignored where there is a tokenizer.
    """
    settings = PrepareSettings(tokenizer=tokenizer, vocab_size=vocabulary, workers=workers)
    result = prepare([text], out, settings)
    return Pass(result.tokens, result.tokens_per_second, resident().highest)


def run_encode_batch(text: Path, tokenizer: Path, workers: int) -> Pass:
    """Run `encode_batch` on the same documents, from memory to memory."""
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    os.environ["RAYON_NUM_THREADS"] = str(workers)  # the library's threads; read when they start
    backend = load(tokenizer).backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = True
    batches: list[list[str]] = [[]]
    characters = 0
    for document in read_documents(Source(find_files([text])), ReadCounts()):
        batches[-1].append(document.text)
        characters += len(document.text)
        if characters >= BATCH_CHARS:
            batches.append([])
            characters = 0
    seconds, tokens = 0.0, 0
    for batch in batches:
        began = time.perf_counter()
        encodings = backend.encode_batch(batch, add_special_tokens=False)
        seconds += time.perf_counter() - began
        tokens += sum(map(len, encodings))
    return Pass(tokens, tokens / seconds, resident().highest)


def in_a_process(function: Callable[..., Any], *arguments: object) -> Any:
    """Return a function's result from a fresh process, so that its memory is measured alone."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def sample(inputs: list[Path], megabytes: int, folder: Path) -> Path:
    """Write the first `megabytes` of the text as a folder of one .jsonl file."""
    folder.mkdir()
    left = megabytes * 10**6
    with (folder / "text-0.jsonl").open("w", encoding="utf-8") as file:
        for document in read_documents(Source(find_files(inputs)), ReadCounts()):
            left -= file.write(json.dumps({"text": document.text}, ensure_ascii=False) + "\n")
            if left <= 0:
                return folder
    say(f"the text has {megabytes - left / 10**6:,.0f} MB, fewer than the {megabytes} asked for: all of it is taken")
    return folder


def repeated(text: Path, folder: Path) -> Path:
    """Link the same files under ten names each."""
    folder.mkdir()
    for number in range(TIMES):
        for file in text.iterdir():
            (folder / f"{number}-{file.name}").symlink_to(file.resolve())
    return folder


def show_prepare(text: Path, tokenizer: Path, work: Path, workers: int, rounds: int) -> None:
    """Print the two tables of the first part."""
    ours: list[Pass] = []
    theirs: list[Pass] = []
    print(f"\n{'round':<10}{'prepare, M tokens/s':>22}{'encode_batch, M tokens/s':>26}{'ratio':>9}")
    for number in range(rounds):
        ours.append(in_a_process(run_prepare, text, tokenizer, work / "out", workers))
        shutil.rmtree(work / "out")
        theirs.append(in_a_process(run_encode_batch, text, tokenizer, workers))
        if ours[-1].tokens != theirs[-1].tokens:
            raise UserError(
                f"prepare made {ours[-1].tokens:,} tokens, encode_batch {theirs[-1].tokens:,}",
                "They must agree: the tokenizer does not give the same tokens each time, or this is a fault.",
            )
        rates = [side[-1].tokens_per_second / 1e6 for side in (ours, theirs)]
        print(f"{number + 1:<10}{rates[0]:>22.3f}{rates[1]:>26.3f}{rates[0] / rates[1]:>9.3f}", flush=True)
    rates = [statistics.median(one.tokens_per_second for one in side) / 1e6 for side in (ours, theirs)]
    print(f"{'median':<10}{rates[0]:>22.3f}{rates[1]:>26.3f}{rates[0] / rates[1]:>9.3f}   goal: 0.95 or more")

    many = in_a_process(run_prepare, repeated(text, work / "repeated"), tokenizer, work / "out", workers)
    shutil.rmtree(work / "out")
    memory = max(one.peak_bytes for one in ours), many.peak_bytes
    print(f"\n{'input':<10}{'M tokens':>10}{'M tokens/s':>12}{'peak MiB':>10}")
    print(f"{'once':<10}{ours[0].tokens / 1e6:>10.2f}{rates[0]:>12.3f}{memory[0] / 2**20:>10.0f}")
    fast = many.tokens_per_second / 1e6
    print(f"{f'{TIMES} times':<10}{many.tokens / 1e6:>10.2f}{fast:>12.3f}{memory[1] / 2**20:>10.0f}")
    growth = f"{many.tokens / ours[0].tokens:>10.2f}{fast / rates[0]:>12.3f}{memory[1] / memory[0]:>10.3f}"
    print(f"{'ratio':<10}{growth}   goal: rate and memory flat", flush=True)


def show_kinds(text: Path, tokenizer: Path, work: Path, workers: int) -> None:
    """Print the table of each kind of file."""
    texts = [document.text for document in read_documents(Source(find_files([text])), ReadCounts())]
    library = in_a_process(run_encode_batch, text, tokenizer, workers).tokens_per_second / 1e6
    print(f"\nencode_batch of the same text, from memory: {library:.3f} M tokens/s")
    print(
        f"{'kind':<12}{'MB':>8}{'M tokens':>10}{'M tokens/s':>12}{'of encode_batch':>17}"
        f"{'peak MiB':>10}{'ten times':>11}"
    )
    for kind in KINDS:
        folder = write_kind(texts, kind, work / "kind")
        once = in_a_process(run_prepare, folder, tokenizer, work / "out", workers)
        shutil.rmtree(work / "out")
        many = in_a_process(run_prepare, repeated(folder, work / "kind-repeated"), tokenizer, work / "out", workers)
        megabytes = sum(file.stat().st_size for file in folder.iterdir()) / 1e6
        for made in ("out", "kind", "kind-repeated"):
            shutil.rmtree(work / made)
        rate = many.tokens_per_second / 1e6  # ten times as long, and therefore steadier
        print(
            f"{kind:<12}{megabytes:>8.1f}{once.tokens / 1e6:>10.2f}{rate:>12.3f}{rate / library:>17.3f}"
            f"{once.peak_bytes / 2**20:>10.0f}{many.peak_bytes / 2**20:>11.0f}",
            flush=True,
        )


def show_loader(shards: Path, rows: int | None) -> None:
    """Print the table of the part `loader`."""
    from loading import FASTER, SIMULATED_STEPS, wait_for_data

    waiting = wait_for_data(shards, rows)
    print(f"\n{'real step s':>12}{f'{FASTER} times as fast s':>22}{'steps':>7}{'waiting s':>11}{'of s':>9}{'share':>9}")
    print(
        f"{waiting.step:>12.3f}{waiting.step / FASTER:>22.3f}{SIMULATED_STEPS:>7}{waiting.waited:>11.4f}"
        f"{waiting.total:>9.2f}{waiting.share:>9.2%}   goal: 1% or less",
        flush=True,
    )


def show_index(shards: Path, work: Path, rows: int) -> None:
    """Print the table of the part `index`."""
    from loading import FAR, open_many, write_many

    opening = open_many(write_many(shards, work / "many", rows))
    step = f"batch at step {FAR:,} s"
    print(f"\n{'rows':>15}{'shards':>9}{'GB':>8}{'open s':>9}{'batch at step 10 s':>20}{step:>{len(step) + 2}}")
    print(
        f"{opening.rows:>15,}{opening.shards:>9,}{opening.bytes / 1e9:>8,.0f}{opening.open:>9.3f}{opening.near:>20.3f}"
        f"{opening.far:>{len(step) + 2}.3f}   goal: less than 1 s to open\n"
        f"A batch is {opening.batch_rows} rows, masked. All shards are names of one file: "
        "no disk is read, which its own speed adds."
    )


def run(given: argparse.Namespace) -> None:
    """Run the requested parts, one after the other."""
    parts = given.part or PARTS
    with tempfile.TemporaryDirectory(prefix="masklater-data-") as name:
        work = Path(name)
        text = sample(given.text, given.megabytes, work / "text")
        shards = work / "shards"
        made = in_a_process(run_prepare, text, given.tokenizer, shards, given.workers, given.vocab_size)
        print(f"{made.tokens:,} tokens of {', '.join(map(str, given.text))}; {given.workers} threads", flush=True)
        if "prepare" in parts:
            show_prepare(text, shards / "tokenizer", work, given.workers, given.rounds)
        if "kinds" in parts:
            show_kinds(text, shards / "tokenizer", work, given.workers)
        if "loader" in parts:
            show_loader(shards, given.rows)
        if "index" in parts:
            show_index(shards, work, given.index_rows)


def main() -> int:
    """Measure the requested parts; print tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, nargs="+", required=True, help=".txt or .jsonl files, or folders of them")
    parser.add_argument("--part", action="append", choices=PARTS, help="may be repeated; all by default")
    parser.add_argument("--megabytes", type=at_least_one, default=32, help="of the text")
    parser.add_argument("--tokenizer", type=Path, help="a saved one; else a BPE is trained on the text")
    parser.add_argument("--vocab-size", type=at_least_one, default=16_000, help="of the one that is trained")
    parser.add_argument("--workers", type=at_least_one, default=os.cpu_count() or 1, help="threads of both sides")
    parser.add_argument("--rounds", type=at_least_one, default=3, help="turns of prepare and encode_batch")
    parser.add_argument("--rows", type=at_least_one, help="rows a step of the loader's model [default: the recipe's]")
    parser.add_argument("--index-rows", type=at_least_one, default=10**9, help="of the index")
    given = parser.parse_args()
    return exit_status(lambda: run(given))


if __name__ == "__main__":
    sys.exit(main())
