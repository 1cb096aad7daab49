"""`prepare`: text in, SHARDS out."""

from pathlib import Path
from typing import Annotated

import typer

from masklater.cli.app import AsJson, print_result
from masklater.corpus.keep.settings import KeepSettings, parse_duplicates, parse_slice
from masklater.corpus.settings import (
    DocumentUnit,
    NullTexts,
    Packing,
    PrepareSettings,
    TokenizerKind,
    parse_row_lengths,
)
from masklater.errors import UserError

DEFAULTS = PrepareSettings()
KEEP = DEFAULTS.keep
READ, TOKENS, ROWS = "What is read", "The tokenizer", "Rows"
KEPT, WORK = "What is kept", "How it is done"


def prepare(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT",
            help="Files (.txt .md .jsonl .ndjson .json .csv .tsv .parquet .arrow, MediaWiki's .xml, .fasta .fa .faa "
            ".fna, each also .gz .bz2 .xz .zst; others by --read-as), folders of them, patterns in quotes, - for "
            "standard input, s3:// gs:// hf:// addresses, or hf:OWNER/NAME[:CONFIG][@REVISION][#SPLIT].",
        ),
    ],
    out: Annotated[Path, typer.Option(help="The SHARDS folder to make.")],
    encoding: Annotated[
        str | None,
        typer.Option(
            help="What text is in that has no byte-order mark, by Python's name for it [default: utf-8].",
            rich_help_panel=READ,
        ),
    ] = None,
    documents: Annotated[
        DocumentUnit, typer.Option(help="What one document is in plain text.", rich_help_panel=READ)
    ] = DEFAULTS.documents,
    text_field: Annotated[
        str,
        typer.Option(
            help="The field of a record (JSON, table, data set) that holds the text; with dots a field inside a field; "
            "several between commas, joined by a blank line.",
            rich_help_panel=READ,
        ),
    ] = DEFAULTS.text_field,
    filters: Annotated[
        list[str] | None,
        typer.Option(
            "--filter",
            help="FIELD=VALUE: take only records of which it holds; may be given several times, and all must hold.",
            rich_help_panel=READ,
        ),
    ] = None,
    null_texts: Annotated[
        NullTexts,
        typer.Option(help="Records whose text is null: refuse the file, or skip and count them.", rich_help_panel=READ),
    ] = DEFAULTS.null_texts,
    read_as: Annotated[
        str | None,
        typer.Option(
            metavar="ENDING",
            help="What files of other endings, named or by a pattern, are read as: txt, jsonl.zst; and standard input, "
            "which is else told from how it begins.",
            rich_help_panel=READ,
        ),
    ] = None,
    marked_words: Annotated[
        bool,
        typer.Option(
            "--marked-words",
            help="The text has U+200B (zero width space) between its words, as a segmenter is told to write it for a "
            "language without spaces: it is taken out, and masking.choose word and span go by it.",
            rich_help_panel=READ,
        ),
    ] = False,
    tokenizer: Annotated[
        Path | None,
        typer.Option(
            help="A saved tokenizer: a Hugging Face folder, SHARDS or RUN, GPT-2's vocab.json and merges.txt, a file "
            "(spm.model, vocab.txt, tokenizer.json), or a name on the hub, with @REVISION where that is not main.",
            rich_help_panel=TOKENS,
        ),
    ] = None,
    trim: Annotated[
        bool,
        typer.Option(
            "--trim",
            help="Keep of --tokenizer's entries those that the text uses (with --vocab-size the most frequent of "
            "them); model.from then takes over their rows of the embedding alone.",
            rich_help_panel=TOKENS,
        ),
    ] = False,
    train_tokenizer: Annotated[
        TokenizerKind | None,
        typer.Option(help=f"Train one on the input [default: {DEFAULTS.train_tokenizer}].", rich_help_panel=TOKENS),
    ] = None,
    vocab_size: Annotated[
        int | None,
        typer.Option(
            min=8, max=2**31 - 1, help=f"Its entries [default: {DEFAULTS.vocab_size}].", rich_help_panel=TOKENS
        ),
    ] = None,
    normalise: Annotated[
        list[str] | None,
        typer.Option(
            metavar="STEP",
            help="What the trained tokenizer does to every text first: nfc, nfkc, lower or strip-accents; may be given "
            "several times, in order.",
            rich_help_panel=TOKENS,
        ),
    ] = None,
    max_unknown: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            help="Share of tokens unknown to the tokenizer above which nothing is written.",
            rich_help_panel=TOKENS,
        ),
    ] = DEFAULTS.max_unknown,
    row_length: Annotated[
        str,
        typer.Option(
            metavar="L,...",
            help="Tokens a row, <s> and </s> included; of several, SHARDS of each are made in OUT/rows-L, out of one "
            "reading.",
            rich_help_panel=ROWS,
        ),
    ] = f"{DEFAULTS.row_length}",
    pack: Annotated[
        Packing,
        typer.Option(
            help="documents: whole documents, padded rows; continuous: full rows across documents.",
            rich_help_panel=ROWS,
        ),
    ] = DEFAULTS.pack,
    valid_fraction: Annotated[
        float,
        typer.Option(
            min=0,
            max=0.5,
            help="Share of the documents held out, chosen by a hash of their text.",
            rich_help_panel=ROWS,
        ),
    ] = DEFAULTS.valid_fraction,
    dedup: Annotated[
        list[str] | None,
        typer.Option(
            help="exact: leave out documents whose text has stood before; near: such as are much like an earlier one; "
            "lines: take out lines that stand in many documents. Several between commas.",
            rich_help_panel=KEPT,
        ),
    ] = None,
    near_threshold: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            max=1,
            help=f"Similarity from which near counts [default: {KEEP.near_threshold}].",
            rich_help_panel=KEPT,
        ),
    ] = None,
    line_documents: Annotated[
        int | None,
        typer.Option(
            min=1,
            help=f"Documents that a line may stand in, for lines [default: {KEEP.line_documents}].",
            rich_help_panel=KEPT,
        ),
    ] = None,
    min_characters: Annotated[
        int, typer.Option(min=0, help="Leave out shorter documents.", rich_help_panel=KEPT)
    ] = KEEP.min_characters,
    max_characters: Annotated[
        int | None, typer.Option(min=1, help="Leave out longer documents.", rich_help_panel=KEPT)
    ] = None,
    min_letters: Annotated[
        float,
        typer.Option(min=0, max=1, help="Leave out documents with a smaller share of letters.", rich_help_panel=KEPT),
    ] = KEEP.min_letters,
    drop_repetitive: Annotated[
        bool,
        typer.Option(
            "--drop-repetitive", help="Leave out what repeats itself, by Gopher's rules.", rich_help_panel=KEPT
        ),
    ] = False,
    language: Annotated[
        list[str] | None,
        typer.Option(help="Keep documents in this language: en, de, ... May be several.", rich_help_panel=KEPT),
    ] = None,
    without: Annotated[
        list[Path] | None,
        typer.Option(
            help="An evaluation file of any kind that is read, or a folder of such: leave out documents that share 13 "
            "words in a row with a text in it. May be several.",
            rich_help_panel=KEPT,
        ),
    ] = None,
    slice_: Annotated[
        str,
        typer.Option(
            "--slice",
            metavar="FROM:TO",
            help="Keep documents by a hash of their text: 0:0.2 a fifth, 0.2:1 the rest; the two share none.",
            rich_help_panel=KEPT,
        ),
    ] = "0:1",
    dropped: Annotated[
        Path | None,
        typer.Option(help="Write samples of what is left out to this file, as JSON lines.", rich_help_panel=KEPT),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Processes, each making parts of 256 MiB of text; threads, where there are fewer parts. Rows are the "
            "same with any number [default: all cores].",
            rich_help_panel=WORK,
        ),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS", help="Make the parts on a Ray cluster: auto, or where it is.", rich_help_panel=WORK
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Take over the parts that an earlier try has finished.", rich_help_panel=WORK),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Turn text into SHARDS: rows of token ids that training reads.

    \b
    Examples:
      masklater prepare texts/ --out shards
      masklater prepare wiki.jsonl.zst --out shards --train-tokenizer bpe --vocab-size 16000
      masklater prepare 'crawl/*.parquet' --text-field title,text --filter language=en --out shards
      masklater prepare crawl/ --out shards --dedup exact,near --without glue/ --dropped dropped.jsonl
      masklater prepare corpus.txt --documents blank-line --out shards --tokenizer my-tokenizer
    """
    from masklater.corpus.prepare import prepare as run
    from masklater.corpus.prepared_text import as_text

    if ray is not None and workers is not None:
        raise UserError(
            f"--workers {workers} are processes of this machine, and --ray {ray} makes the parts on a cluster",
            "Keep one of the two.",
        )
    if tokenizer is not None and (train_tokenizer is not None or (vocab_size is not None and not trim) or normalise):
        raise UserError(
            f"--tokenizer {tokenizer} names a ready tokenizer; --train-tokenizer, --vocab-size and --normalise ask "
            "to train one",
            "Keep one of the two, or have the ready one made smaller with --trim, which takes --vocab-size.",
        )
    if trim and tokenizer is None:
        raise UserError("--trim makes a ready tokenizer smaller, and there is none", "Name it with --tokenizer.")
    duplicates = parse_duplicates(dedup or [])
    if near_threshold is not None and "near" not in duplicates:
        raise UserError(
            f"--near-threshold {near_threshold} is for --dedup near, which is not asked for",
            "Add --dedup near, or leave --near-threshold away.",
        )
    if line_documents is not None and "lines" not in duplicates:
        raise UserError(
            f"--line-documents {line_documents} is for --dedup lines, which is not asked for",
            "Add --dedup lines, or leave --line-documents away.",
        )
    row_lengths = parse_row_lengths(row_length)
    settings = PrepareSettings(
        tokenizer=tokenizer,
        train_tokenizer=train_tokenizer or DEFAULTS.train_tokenizer,
        vocab_size=vocab_size or DEFAULTS.vocab_size,
        trim=trim,
        trim_to=vocab_size if trim else None,
        normalise=tuple(normalise or ()),
        row_length=row_lengths[0],
        further_row_lengths=row_lengths[1:],
        encoding=encoding,
        documents=documents,
        text_field=text_field,
        filters=tuple(filters or ()),
        null_texts=null_texts,
        marked_words=marked_words,
        read_as=read_as,
        valid_fraction=valid_fraction,
        pack=pack,
        max_unknown=max_unknown,
        keep=KeepSettings(
            dedup=duplicates,
            near_threshold=KEEP.near_threshold if near_threshold is None else near_threshold,
            line_documents=KEEP.line_documents if line_documents is None else line_documents,
            min_characters=min_characters,
            max_characters=max_characters,
            min_letters=min_letters,
            drop_repetitive=drop_repetitive,
            languages=tuple(language or ()),
            without=tuple(without or ()),
            of_documents=parse_slice(slice_),
            dropped=dropped,
        ),
        workers=workers or DEFAULTS.workers,
    )
    result = run(inputs, out, settings, resume, ray)
    print_result(result, as_json, lambda: as_text(result, settings))
