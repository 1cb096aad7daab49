"""Train a classifier of texts from an exported encoder, by transformers' own Trainer, on two csv files.

    pip install accelerate
    python examples/classify_csv.py ENCODER --train train.csv --dev dev.csv --out classifier

The files have the columns text,label. `pipeline("text-classification", "classifier")` loads the result. One run does
not show whether an encoder is good. That needs several seeds: masklater judge --tasks (docs/how-to/judge.md).
"""

import argparse
import csv
from pathlib import Path

from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    EvalPrediction,
    Trainer,
    TrainingArguments,
)


def read(path: Path) -> list[tuple[str, str]]:
    """Read texts and their labels."""
    with path.open(encoding="utf-8", newline="") as file:
        return [(row["text"], row["label"]) for row in csv.DictReader(file)]


def accuracy(predictions: EvalPrediction) -> dict[str, float]:
    """The share of rows that are right."""
    return {"accuracy": float((predictions.predictions.argmax(-1) == predictions.label_ids).mean())}


def main() -> None:
    """Train, score, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("encoder", help="a folder that AutoModel loads, with its tokenizer")
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--dev", type=Path, required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--epochs", type=float, default=3)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--lr", type=float, default=2e-5)
    arguments = parser.parse_args()

    train, dev = read(arguments.train), read(arguments.dev)
    labels = sorted({label for _, label in train})
    if unknown := sorted({label for _, label in dev} - set(labels)):
        parser.error(f"{arguments.dev} has labels that {arguments.train} lacks: {', '.join(unknown)}")
    tokenizer = AutoTokenizer.from_pretrained(arguments.encoder)
    model = AutoModelForSequenceClassification.from_pretrained(
        arguments.encoder, id2label=dict(enumerate(labels)), label2id={label: i for i, label in enumerate(labels)}
    )
    longest = min(tokenizer.model_max_length, 512)

    def encode(rows: list[tuple[str, str]]) -> list[dict[str, object]]:
        return [
            {**tokenizer(text, truncation=True, max_length=longest), "label": labels.index(label)}
            for text, label in rows
        ]

    trainer = Trainer(
        model,
        TrainingArguments(
            output_dir=f"{arguments.out}-checkpoints",
            num_train_epochs=arguments.epochs,
            per_device_train_batch_size=arguments.batch,
            learning_rate=arguments.lr,
            save_strategy="no",
            report_to="none",
        ),
        train_dataset=encode(train),
        eval_dataset=encode(dev),
        data_collator=DataCollatorWithPadding(tokenizer),
        compute_metrics=accuracy,
    )
    trainer.train()
    print(f"accuracy {trainer.evaluate()['eval_accuracy']:.4f}")
    model.save_pretrained(arguments.out)
    tokenizer.save_pretrained(arguments.out)


if __name__ == "__main__":
    main()
