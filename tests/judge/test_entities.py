"""Entities and the F1 of them: against what conlleval.pl (2004-01-26) printed, and a published example."""

import json
from pathlib import Path

import numpy as np
import pytest

from masklater.judge.entities import LABEL, entities
from masklater.judge.metrics import compute_tag_metrics, entities_right, words_right

CASES = json.loads(Path(__file__).with_name("conlleval.json").read_text())
"""Random sentences in several schemes, broken ones too, and the counts and percentages that the Perl program gave."""


def counts(truth: list[str], predicted: list[str]) -> tuple[np.ndarray, dict[str, float]]:
    """Sentences as labels with spaces between."""
    classes = sorted({label for sentence in (*truth, *predicted) for label in sentence.split()})
    true_W, predicted_W = (
        np.array([classes.index(label) for sentence in side for label in sentence.split()])
        for side in (truth, predicted)
    )
    starts_N1 = np.cumsum([0, *(len(sentence.split()) for sentence in truth)])
    metrics = compute_tag_metrics(("entity_f1", "accuracy"), true_W, predicted_W, starts_N1, classes)
    return entities_right(true_W, predicted_W, starts_N1, classes).sum(axis=0), metrics


@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_entities_are_counted_as_conlleval_counts_them(case: dict) -> None:
    found, metrics = counts(case["truth"], case["predicted"])
    assert found.tolist() == [case["right"], case["found"], case["true"]]
    assert metrics["entity_f1"] == pytest.approx(case["FB1"], abs=0.005)  # printed with two digits
    assert metrics["accuracy"] == pytest.approx(case["accuracy"], abs=0.005)


def test_the_published_example_of_seqeval() -> None:
    """Its README: F1 0.50, accuracy 0.80."""
    truth = ["O O O B-MISC I-MISC I-MISC O", "B-PER I-PER O"]
    predicted = ["O O B-MISC I-MISC I-MISC I-MISC O", "B-PER I-PER O"]
    assert counts(truth, predicted)[1] == {"entity_f1": 50, "accuracy": 80}


def test_entities_by_hand() -> None:
    assert entities(["B-PER", "I-PER", "O", "B-LOC", "B-LOC"]) == {(0, 2, "PER"), (3, 4, "LOC"), (4, 5, "LOC")}
    assert entities(["I-PER", "I-LOC", "O", "I-creative-work"]) == {
        (0, 1, "PER"),
        (1, 2, "LOC"),
        (3, 4, "creative-work"),
    }
    assert entities([*"IOBBIOOIB"]) == {(0, 1, ""), (2, 3, ""), (3, 5, ""), (7, 8, ""), (8, 9, "")}
    assert entities([]) == entities(["O", "O"]) == set()
    assert [bool(LABEL.fullmatch(label)) for label in ("O", "B-x", "I-a-b", "B", "S-x", "NOUN", "B-", "-x", "")] == [
        True, True, True, True, False, False, False, False, False,
    ]  # fmt: skip


def test_words_without_a_prediction() -> None:
    """They are outside of entities, and their label is wrong even where it is O."""
    classes, starts_N1 = ("B-X", "O"), np.array([0, 2, 3])
    truth_W, predicted_W = np.array([0, 1, 0]), np.array([0, -1, -1])
    assert entities_right(truth_W, predicted_W, starts_N1, classes).tolist() == [[1, 1, 1], [0, 0, 1]]
    assert words_right(truth_W, predicted_W, starts_N1, classes).tolist() == [[1, 2, 2], [0, 1, 1]]
    nothing = np.array([1, 1, 1])
    assert compute_tag_metrics(("entity_f1",), nothing, nothing, starts_N1, classes) == {"entity_f1": 0.0}
