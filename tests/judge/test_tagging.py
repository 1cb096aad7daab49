"""Token tasks: where a word's first piece is, the loss there, words without one, and whole runs on made-up and real text."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers import AutoTokenizer

from masklater.errors import UserError
from masklater.judge.encoder import load_classifier, open_encoder
from masklater.judge.finetune import predict, task_loss
from masklater.judge.grid import Grid, SweepSettings
from masklater.judge.own_data import read_own
from masklater.judge.own_task import OwnTask, TaskFile
from masklater.judge.sweep import sweep
from masklater.judge.tokens import first_pieces, tokenise
from masklater.machine.precision import Precision
from tests.conftest import DATA, make_text
from tests.judge.folders import write
from tests.judge.test_own_data import UPOS, own

CPU = Precision("float32", "the test says so", torch.device("cpu"))
ONE = SweepSettings(Grid((5e-3,), (8,), 10), seeds=1)


def tagged(path: Path, sentences: int, seed: int) -> Path:
    """Sentences whose words say their label: `k...` begins an entity, `l...` goes on with it."""
    lines: list[str] = []
    for number in range(sentences):
        labels = {"k": "B-X", "l": "I-X"}
        lines += [f"{word}\t{labels.get(word[0], 'O')}" for word in make_text(100 * seed + number, 6).split()] + [""]
    write(path, *lines)
    return path


def test_first_pieces_by_hand() -> None:
    words = ["Un", "break", "able", "x"]  # "Un break able x"; the third word has no token
    offsets = [(0, 0), (0, 1), (1, 2), (2, 8), (14, 15), (0, 0)]  # the second word's token includes the space
    assert first_pieces(words, offsets) == [1, 3, -1, 4]
    assert first_pieces(words, offsets[:3]) == [1, -1, -1, -1]  # the row was cut
    assert first_pieces(["a", "b"], [(0, 3)]) == [0, 0]  # one token for both
    assert first_pieces([], [(0, 0)]) == []


def test_first_pieces_are_where_the_words_are(encoder_folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(encoder_folder)
    words = ["kant", "Ünïcode-straße", "日本", "lot", "👩‍👩‍👧", "x"]
    encoded = tokenizer(" ".join(words), return_offsets_mapping=True)
    places = first_pieces(words, encoded["offset_mapping"])
    ends = [*places[1:], len(encoded["input_ids"]) - 1]
    spelled = [tokenizer.decode(encoded["input_ids"][a:b]).strip() for a, b in zip(places, ends, strict=True)]
    assert spelled == words


def test_loss_and_predictions_are_those_of_the_slow_twin(encoder_folder: Path, tmp_path: Path) -> None:
    """Row by row, word by word; one sentence is cut, some words are not read."""
    path = tagged(tmp_path / "a.conll", 5, 1)
    with path.open("a") as file:
        file.write("\n".join(f"{word}\tO" for word in make_text(3, 40).split()) + "\n")
    data = read_own(own(path, "token"))
    encoder = open_encoder(str(encoder_folder), Path())
    tokenizer = encoder.tokenizer()
    rows = tokenise(data, tokenizer, 32, 1).splits["train"]
    assert len(rows) == 6 and rows.truncated == 1 and 0 < rows.unread < 40
    model = load_classifier(encoder, len(data.task.classes), CPU.device, tagging=True).eval()
    split = data.splits["train"]
    losses, predicted = [], []
    for number, words in enumerate(split.words):
        encoded = tokenizer(" ".join(words), truncation=True, max_length=32, return_offsets_mapping=True)
        with torch.no_grad():
            logits_LC = model(input_ids=torch.tensor([encoded["input_ids"]])).logits[0]
        labels = split.labels_W[split.starts_N1[number] : split.starts_N1[number + 1]]
        begin = 0
        for word, label in zip(words, labels.tolist(), strict=True):
            at = [
                place for place, (a, b) in enumerate(encoded["offset_mapping"]) if a < begin + len(word) and b > begin
            ]
            begin += len(word) + 1
            predicted.append(float(logits_LC[at[0]].argmax()) if at else -1.0)
            if at:
                losses.append(float(F.cross_entropy(logits_LC[at[0]], torch.tensor(label))))
    assert predict(model, data.task, rows, tokenizer.pad_token_id, CPU).tolist() == predicted
    with torch.no_grad():
        loss = task_loss(model, data.task, rows, np.arange(6), tokenizer.pad_token_id, CPU)
    assert loss.item() == pytest.approx(np.mean(losses), rel=1e-5)


def test_a_batch_without_any_word_read_is_no_loss(encoder_folder: Path, tmp_path: Path) -> None:
    data = read_own(own(tagged(tmp_path / "a.conll", 2, 1), "token"))
    encoder = open_encoder(str(encoder_folder), Path())
    rows = tokenise(data, encoder.tokenizer(), 32, 1).splits["train"]
    rows.words.place_W[:] = -1
    model = load_classifier(encoder, 3, CPU.device, tagging=True)
    loss = task_loss(model, data.task, rows, np.arange(2), 1, CPU)
    loss.backward()
    assert loss.item() == 0


def test_entities_are_learned_and_dev_files_have_names(encoder_folder: Path, tmp_path: Path) -> None:
    train, far = tagged(tmp_path / "train.conll", 40, 1), tagged(tmp_path / "far.conll", 7, 3)
    dev = {"dev_near": tagged(tmp_path / "near.conll", 12, 2), "dev_far": far}
    task = own(train, "token", dev=dev, metrics=("entity_f1", "accuracy"), rows={"dev_far": 7, "train": 41})
    result = sweep(str(encoder_folder), None, tmp_path / "scores", [task], ONE)
    entry = result.scores["tasks"]["own"]
    assert list(entry["metric"]) == ["entity_f1_near", "accuracy_near", "entity_f1_far", "accuracy_far"]
    assert entry["main"] == "entity_f1_near" and entry["metric"]["entity_f1_near"]["median"] > 60
    assert entry["note"] == "train is not the official split: 40 rows, officially 41"
    record = json.loads((tmp_path / "scores/runs.jsonl").read_text())
    assert record["definition"]["labels"] == ["B-X", "I-X", "O"] and record["definition"]["kind"] == "token"
    best = [epoch["entity_f1_near"] for epoch in record["scores"]]
    assert record["best_epoch"] == best.index(max(best)) + 1
    text = (tmp_path / "scores/scores.md").read_text()
    assert text.startswith("# Scores\n") and "| own* | entity_f1_near |" in text and "not averaged" not in text
    predicted = result.log.answers(result.log.records[0])
    truth = result.rows["own"].splits
    assert {name: len(labels) for name, labels in predicted.items()} == {
        name: len(truth[name].labels_W) for name in ("dev_near", "dev_far")
    }
    right = 100 * np.mean(predicted["dev_far"] == truth["dev_far"].labels_W)
    assert entry["metric"]["accuracy_far"]["median"] == pytest.approx(right)
    changed = OwnTask(**{**vars(task), "metrics": ("accuracy",)})
    with pytest.raises(
        UserError, match=r"own was scored with metrics \['entity_f1', 'accuracy'\], and has \['accuracy'\] now"
    ):
        sweep(str(encoder_folder), None, tmp_path / "scores", [changed], ONE, resume=True)
    moved = OwnTask(
        **{**vars(task), "dev": {**task.dev, "dev_far": TaskFile(far.rename(tmp_path / "moved.conll"), {})}}
    )
    again = sweep(str(encoder_folder), None, tmp_path / "scores", [moved], ONE, resume=True)
    assert again.scores["tasks"] == result.scores["tasks"] and len(again.log.records) == 1


def test_a_tokenizer_without_offsets_is_refused(encoder_folder: Path, tmp_path: Path) -> None:
    data = read_own(own(tagged(tmp_path / "a.conll", 2, 1), "token"))
    slow = type("Slow", (), {"is_fast": False, "pad_token_id": 0})()
    with pytest.raises(UserError, match="does not say where in the text its tokens are"):
        tokenise(data, slow, 32, 1)


def head_of(source: Path, path: Path, sentences: int) -> Path:
    blocks = [block for block in source.read_text().replace("\n\t\n", "\n\n").split("\n\n") if block.strip()]
    write(path, "\n\n".join(blocks[:sentences]))
    return path


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason=f"there is no {DATA}")
def test_real_entities_and_parts_of_speech(encoder_folder: Path, tmp_path: Path) -> None:
    """NER on WNUT 2017; parts of speech learned on English and scored on Hindi, Thai and Turkish."""
    wnut, ud = DATA / "ner" / "wnut17", DATA / "ud"
    ner = own(wnut / "train.conll", "token", key="ner", dev={"dev": wnut / "dev.conll"}, metrics=("entity_f1", "accuracy"), rows={"train": 3394, "dev": 1009})  # fmt: skip
    english = head_of(ud / "en_pud.conllu", tmp_path / "train.conllu", 300)
    dev = {
        f"dev_{name}": head_of(ud / f"{name}_pud.conllu", tmp_path / f"{name}.conllu", 50)
        for name in ("en", "hi", "th", "tr")
    }
    pos = own(english, "token", key="pos", dev=dev, labels=tuple(UPOS))
    settings = SweepSettings(Grid((5e-3,), (8,), 4), seeds=1, max_train_rows=300)
    scores = sweep(str(encoder_folder), None, tmp_path / "scores", [ner, pos], settings).scores["tasks"]
    assert (
        scores["ner"]["note"].startswith("trained on 300 of 3,394 rows")
        and "words of dev not read" in scores["ner"]["note"]
    )
    assert list(scores["pos"]["metric"]) == [f"accuracy_{name}" for name in ("en", "hi", "th", "tr")]
    assert scores["pos"]["metric"]["accuracy_en"]["median"] > 10  # of the 32 tokens that the encoder has positions for
