"""docs/adding.md, a task: three classes and a metric of its own, added from outside and fine-tuned on."""

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import f1_score

from masklater.errors import UserError
from masklater.judge import metrics, tasks
from masklater.judge.data import read_task
from masklater.judge.grid import Grid, SweepSettings
from masklater.judge.sweep import sweep
from masklater.judge.tasks import Task, choose_tasks
from tests.judge.folders import sentences, write

TOPIC = Task(
    key="topic",
    title="Topic",
    texts=(("headline", "title"),),
    label=("topic",),
    classes=("sport", "trade", "art"),
    metrics=("count_alike", "accuracy"),
    rows={"train": 16, "dev": 9},
    in_average=False,
)


def count_alike(truth_N: NDArray[np.float64], predicted_N: NDArray[np.float64]) -> float:
    """F1, each class counting alike; kept for the test to look at."""
    seen.append((truth_N, predicted_N))
    return float(f1_score(truth_N, predicted_N, average="macro", zero_division=0))


seen: list[tuple[NDArray[np.float64], NDArray[np.float64]]] = []


def test_a_task_is_added_by_its_row_and_its_metric(
    encoder_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="names topic"):
        choose_tasks("topic")
    monkeypatch.setitem(tasks.TASKS, "topic", TOPIC)
    monkeypatch.setitem(metrics.METRICS, "count_alike", count_alike)
    for split, count in TOPIC.rows.items():
        lines = (f"{i}\t{text}\t{TOPIC.classes[i % 3]}" for i, text in enumerate(sentences(count, seed=3)))
        write(tmp_path / f"data/Topic/{split}.tsv", "id\theadline\ttopic", *lines)
    assert choose_tasks("topic,rte")[-1] is TOPIC and choose_tasks("all")[-1] is TOPIC
    assert read_task(tmp_path / "data", TOPIC).notes == ()
    seen.clear()
    settings = SweepSettings(Grid((1e-3,), (8,), 1), seeds=1)  # 16 rows: two steps
    result = sweep(str(encoder_folder), str(tmp_path / "data"), tmp_path / "scores", choose_tasks("topic"), settings)
    assert result.faults == {} and result.scores["average"] is None
    ((truth_N, predicted_N),) = seen
    assert truth_N.tolist() == [0, 1, 2] * 3 and set(predicted_N) <= {0, 1, 2}
    scores = json.loads((tmp_path / "scores/scores.json").read_text())["tasks"]["topic"]
    assert scores["main"] == "count_alike" and list(scores["metric"]) == ["count_alike", "accuracy"]
    by_hand = 100 * f1_score(truth_N, predicted_N, average="macro", zero_division=0)
    assert scores["metric"]["count_alike"]["values"] == [pytest.approx(by_hand)]
    assert scores["metric"]["accuracy"]["values"] == [pytest.approx(100 * np.mean(truth_N == predicted_N))]
    assert "Topic (not averaged)" in (tmp_path / "scores/scores.md").read_text()


def test_a_metric_that_no_table_has_is_named() -> None:
    of_glue = {name for task in tasks.TASKS.values() for name in task.metrics}
    assert of_glue | {"macro_f1"} == metrics.METRICS.keys()  # which own tasks may name
    with pytest.raises(ValueError, match="no metric is called bleu, rouge"):
        metrics.compute_metrics(("accuracy", "bleu", "rouge"), np.zeros(2), np.zeros(2))
