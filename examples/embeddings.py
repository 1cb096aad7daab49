"""Train a sentence encoder from an exported encoder, on pairs, by sentence-transformers; judge it before and after.

    pip install 'sentence-transformers>=6' datasets accelerate
    python examples/embeddings.py ENCODER --pairs pairs.csv --sts sts.csv --search faq.csv --out sentence-encoder

pairs.csv has the columns anchor,positive: texts that belong together. All other texts of a batch are wrong answers.
sts.csv has sentence1,sentence2,score; faq.csv has query,passage. A file may have more columns, as STS-B's dev.tsv has.
In a .tsv a quote is text. `SentenceTransformer("sentence-encoder")` loads the result.
"""

import argparse
import csv
from pathlib import Path

from datasets import Dataset
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.evaluation import (
    EmbeddingSimilarityEvaluator,
    InformationRetrievalEvaluator,
)
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss


def read(path: Path, *columns: str) -> list[list[str]]:
    """Read columns of a .csv or .tsv file, row by row."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        is_tsv = path.suffix == ".tsv"
        rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE) if is_tsv else csv.DictReader(file)
        return [[row[column] for column in columns] for row in rows]


def main() -> None:
    """Judge, train, judge, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("encoder", help="a folder that AutoModel loads, with its tokenizer")
    parser.add_argument("--pairs", type=Path, required=True)
    parser.add_argument("--sts", type=Path, required=True)
    parser.add_argument("--search", type=Path, required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--epochs", type=float, default=1)
    parser.add_argument("--batch", type=int, default=64, help="more pairs in a batch are more wrong answers")
    parser.add_argument("--lr", type=float, default=2e-5)
    arguments = parser.parse_args()

    model = SentenceTransformer(arguments.encoder)  # a plain encoder gets mean pooling
    first, second, scores = zip(*read(arguments.sts, "sentence1", "sentence2", "score"), strict=True)
    sts = EmbeddingSimilarityEvaluator(list(first), list(second), list(map(float, scores)))
    rows = read(arguments.search, "query", "passage")
    queries = {text: f"q{number}" for number, text in enumerate(dict.fromkeys(query for query, _ in rows))}
    passages = {text: f"p{number}" for number, text in enumerate(dict.fromkeys(passage for _, passage in rows))}
    right: dict[str, set[str]] = {}
    for query, passage in rows:
        right.setdefault(queries[query], set()).add(passages[passage])
    search = InformationRetrievalEvaluator(
        {number: text for text, number in queries.items()}, {number: text for text, number in passages.items()}, right
    )

    def judge(when: str) -> None:
        figures = {**sts(model), **search(model)}
        for name in ("spearman_cosine", "cosine_recall@1", "cosine_recall@10", "cosine_mrr@10"):
            print(f"{when} {name} {figures[name]:.4f}")

    judge("before")
    anchors, positives = zip(*read(arguments.pairs, "anchor", "positive"), strict=True)
    SentenceTransformerTrainer(
        model=model,
        args=SentenceTransformerTrainingArguments(
            output_dir=f"{arguments.out}-checkpoints",
            num_train_epochs=arguments.epochs,
            per_device_train_batch_size=arguments.batch,
            learning_rate=arguments.lr,
            warmup_steps=0.1,  # a share of the steps
            save_strategy="no",
            report_to="none",
        ),
        train_dataset=Dataset.from_dict({"anchor": anchors, "positive": positives}),
        loss=MultipleNegativesRankingLoss(model),
    ).train()
    judge("after")
    model.save_pretrained(arguments.out)


if __name__ == "__main__":
    main()
