"""Train a tagger of names from an exported encoder, by transformers' own Trainer, on CoNLL columns.

    pip install accelerate
    python examples/ner.py ENCODER --train train.conll --dev dev.conll --out tagger

Each line of a file has one word, with its label (B-PER, I-PER, O) in the last column. A blank line ends a sentence. A
word's label is learned and predicted at its first piece.
`pipeline("token-classification", "tagger", aggregation_strategy="first")` loads the result. One run does not show
whether an encoder is good. That needs several seeds: masklater judge --tasks (docs/how-to/judge.md).
"""

import argparse
from pathlib import Path

from transformers import (
    AutoModelForTokenClassification,
    AutoTokenizer,
    DataCollatorForTokenClassification,
    EvalPrediction,
    Trainer,
    TrainingArguments,
)

NO_LABEL = -100
"""The label that the loss ignores: that of special tokens, and of a word's pieces after its first one."""


def read(path: Path) -> list[list[tuple[str, str]]]:
    """Read sentences of words and labels."""
    sentences: list[list[tuple[str, str]]] = [[]]
    for line in path.read_text(encoding="utf-8-sig").split("\n"):
        columns = line.split()
        if columns and columns[0] != "-DOCSTART-":
            sentences[-1].append((columns[0], columns[-1]))
        elif sentences[-1]:
            sentences.append([])
    return [sentence for sentence in sentences if sentence]


def entities(labels: list[str]) -> set[tuple[int, int, str]]:
    """Find a sentence's entities, as (first word, word behind the last, type); I- after another type begins one."""
    found: set[tuple[int, int, str]] = set()
    begun = 0
    for place, label in enumerate([*labels, "O"]):
        before = labels[place - 1] if place else "O"
        if before != "O" and (label[:2] != "I-" or label[2:] != before[2:]):
            found.add((begun, place, before[2:]))
            before = "O"
        if before == "O":
            begun = place
    return found


def entity_f1(true: list[list[str]], found: list[list[str]]) -> float:
    """The F1 of entities that are right in all their words and their type."""
    pairs = [(entities(one), entities(other)) for one, other in zip(true, found, strict=True)]
    total = sum(len(one) + len(other) for one, other in pairs)
    return 2 * sum(len(one & other) for one, other in pairs) / total if total else 0.0


def main() -> None:
    """Train, score, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("encoder", help="a folder that AutoModel loads, with its tokenizer")
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--dev", type=Path, required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--epochs", type=float, default=3)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--lr", type=float, default=5e-5)
    arguments = parser.parse_args()

    train, dev = read(arguments.train), read(arguments.dev)
    labels = sorted({label for sentence in train for _, label in sentence})
    if unknown := sorted({label for sentence in dev for _, label in sentence} - set(labels)):
        parser.error(f"{arguments.dev} has labels that {arguments.train} lacks: {', '.join(unknown)}")
    tokenizer = AutoTokenizer.from_pretrained(arguments.encoder)
    model = AutoModelForTokenClassification.from_pretrained(
        arguments.encoder, id2label=dict(enumerate(labels)), label2id={label: i for i, label in enumerate(labels)}
    )
    longest = min(tokenizer.model_max_length, 512)

    def encode(sentence: list[tuple[str, str]]) -> dict[str, list[int]]:
        """Words are joined by spaces, as the encoder has met text, and their first pieces found by the offsets."""
        text = " ".join(word for word, _ in sentence)
        row = tokenizer(text, truncation=True, max_length=longest, return_offsets_mapping=True)
        at, begin, ids = 0, 0, [NO_LABEL] * len(row["input_ids"])
        offsets = row.pop("offset_mapping")
        for word, label in sentence:
            while at < len(offsets) and offsets[at][1] <= begin:
                at += 1
            if at < len(offsets) and offsets[at][0] < begin + len(word):  # else cut off, or nothing to the tokenizer
                ids[at] = labels.index(label)
            begin += len(word) + 1
        return {**row, "labels": ids}

    def score(predictions: EvalPrediction) -> dict[str, float]:
        true: list[list[str]] = []
        found: list[list[str]] = []
        for best, ids in zip(predictions.predictions.argmax(-1), predictions.label_ids, strict=True):
            there = ids != NO_LABEL
            true.append([labels[number] for number in ids[there]])
            found.append([labels[number] for number in best[there]])
        return {"entity_f1": entity_f1(true, found)}

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
        train_dataset=[encode(sentence) for sentence in train],
        eval_dataset=[encode(sentence) for sentence in dev],
        data_collator=DataCollatorForTokenClassification(tokenizer),
        compute_metrics=score,
    )
    trainer.train()
    print(f"entity F1 {trainer.evaluate()['eval_entity_f1']:.4f}")
    model.save_pretrained(arguments.out)
    tokenizer.save_pretrained(arguments.out)


if __name__ == "__main__":
    main()
