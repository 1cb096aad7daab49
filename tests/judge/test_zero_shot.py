"""Vectors as they are: against slow twins by definition, what SCORES holds, comparisons, and bad input."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from transformers import AutoModel, AutoTokenizer

from masklater.cli import main
from masklater.errors import DamagedDataError, UserError
from masklater.judge import bootstrap, embed
from masklater.judge.bootstrap import compare_means
from masklater.judge.embed import Embedder, measure_search
from masklater.judge.encoder import open_encoder
from masklater.judge.scorer import Scorer
from masklater.judge.similarity import find_pair_files, read_pairs
from masklater.judge.twin import write_twin
from masklater.judge.zero_shot import judge_zero_shot
from tests.judge.folders import sentences, write


def sts(path: Path, rows: int = 12) -> str:
    one, other = sentences(rows, 1), sentences(rows, 2)
    write(path, "a\tb\tscore", *(f"{x}\t{y}\t{i % 5}" for i, (x, y) in enumerate(zip(one, other, strict=True))))
    return f"{path}:a,b,score"


def faq(path: Path, rows: int = 12) -> str:
    asked, answers = sentences(rows, 3), sentences(rows, 4)
    asked[1] = asked[0]  # one query with two right passages
    write(path, "query,passage", *(f'"{x}","{y}"' for x, y in zip(asked, answers, strict=True)))
    return f"{path}:query,passage"


def slow_vector(folder: Path, text: str) -> torch.Tensor:
    """The definition: one text, no padding."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        states_LD = (
            AutoModel.from_pretrained(folder).eval()(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        )
    return states_LD.mean(dim=0) / states_LD.mean(dim=0).norm()


def test_vectors_are_those_of_one_text_at_a_time(encoder_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embed, "TOKENS_AT_ONCE", 40)
    texts = [*sentences(6, 1), "", "kan " * 60]
    scorer = Scorer(open_encoder(str(encoder_folder), Path("unused")), torch.device("cpu"))
    vectors_ND, truncated = Embedder(scorer).embed(texts)
    assert truncated == 1 and np.linalg.norm(vectors_ND, axis=1) == pytest.approx(1)
    for text, vector_D in zip(texts[:-1], vectors_ND, strict=False):
        assert vector_D == pytest.approx(slow_vector(encoder_folder, text).numpy(), abs=1e-5)


def test_searching_is_sorting_with_ties_against_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embed, "COSINES_AT_ONCE", 60)  # three queries at a time
    rng = np.random.default_rng(0)
    passages_PD = rng.integers(-1, 2, (20, 3)).astype(np.float32)  # many of them are the same
    queries_QD = rng.integers(-1, 2, (8, 3)).astype(np.float32)
    right = [rng.choice(20, size, replace=False).tolist() for size in (1, 1, 2, 3, 1, 12, 1, 2)]
    measures_QK = measure_search(queries_QD, passages_PD, right)
    for query, found_K in enumerate(measures_QK):
        is_right_P = np.isin(np.arange(20), right[query])
        in_order_P = is_right_P[np.lexsort((is_right_P, -(passages_PD @ queries_QD[query])))]
        expected = [in_order_P[:k].sum() / is_right_P.sum() for k in (1, 10)]
        assert found_K == pytest.approx([*expected, 1 / (1 + in_order_P.argmax())])
    perfect = np.eye(4, dtype=np.float32)
    assert (measure_search(perfect, perfect, [[0], [1], [2], [3]]) == 1).all()
    assert measure_search(perfect[:1], perfect[:2], [[1]]).tolist() == [[0, 1, 0.5]]


def test_means_are_compared_row_by_row() -> None:
    one_N = np.random.default_rng(0).random(200)
    same = compare_means(one_N, one_N)
    assert same.one == pytest.approx(100 * one_N.mean()) and same.low == same.high == 0 and not same.exceeds
    assert compare_means(one_N, one_N - 0.1).low == pytest.approx(10)


def test_scores_and_comparisons(encoder_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "RESAMPLES", 20)
    given, out = [sts(tmp_path / "sts.tsv"), faq(tmp_path / "faq.csv")], tmp_path / "scores"
    write_twin(encoder_folder, tmp_path / "other")
    scores, comparison = judge_zero_shot(str(encoder_folder), given, out, str(tmp_path / "other"), random_twin=True)
    assert scores == json.loads((out / "zero-shot.json").read_text())
    first, second = scores["files"]
    pairs = list(zip(sentences(12, 1), sentences(12, 2), strict=True))
    cosines = [float(slow_vector(encoder_folder, x) @ slow_vector(encoder_folder, y)) for x, y in pairs]
    assert np.load(out / first["predictions"]) == pytest.approx(cosines, abs=1e-5)
    expected = 100 * spearmanr(cosines, [i % 5 for i in range(12)]).statistic
    assert first["metric"] == {"spearman": pytest.approx(expected)} and first["kind"] == "sts"
    assert (second["queries"], second["passages"], second["rows"]) == (11, 12, 12)
    assert list(second["metric"]) == ["recall@1", "recall@10", "mrr"]
    assert second["notes"] == ["12 passages: recall@10 says little"]
    assert scores["encoder"]["sha256"] == open_encoder(str(encoder_folder), out).sha256
    assert {"versions", "hardware", "max_length", "precision"} <= scores.keys() and len(first["data_sha256"]) == 64
    assert comparison is not None and comparison == json.loads((out / "comparison.json").read_text())
    found = comparison["against"]["files"][1]["metric"]["mrr"]
    other = json.loads((out / "against/zero-shot.json").read_text())
    assert found["one"] == pytest.approx(second["metric"]["mrr"])
    assert found["other"] == pytest.approx(other["files"][1]["metric"]["mrr"])
    assert found["low"] <= found["difference"] <= found["high"]
    twin = comparison["twin"]["files"][0]["metric"]["spearman"]  # `other` is a twin too: the same weights
    assert twin == comparison["against"]["files"][0]["metric"]["spearman"]
    assert "| spearman |" in (out / "zero-shot.md").read_text()
    with pytest.raises(UserError, match="exists already"):
        judge_zero_shot(str(encoder_folder), given, out)


def test_a_run_is_exported_and_nothing_stays_where_it_fails(run_folder: Path, tmp_path: Path) -> None:
    scores, _ = judge_zero_shot(str(run_folder), [sts(tmp_path / "sts.tsv")], tmp_path / "scores")
    assert (scores["encoder"]["run"], scores["encoder"]["step"]) == (str(run_folder), 4)
    assert (tmp_path / "scores/encoder/config.json").is_file()
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError):
        judge_zero_shot(str(tmp_path / "empty"), [sts(tmp_path / "sts.tsv")], tmp_path / "failed")
    assert not (tmp_path / "failed").exists()


def test_all_that_is_wrong_with_the_files_is_in_one_message(tmp_path: Path) -> None:
    good = sts(tmp_path / "a.tsv")
    (tmp_path / "a.pdf").touch()
    given = [good, good, f"{tmp_path}/a.tsv", f"{tmp_path}/a.tsv:a", f"{tmp_path}/b.csv:a,b", f"{tmp_path}/a.pdf:a,b"]
    with pytest.raises(UserError) as said:
        find_pair_files(given)
    assert str(said.value).startswith("--zero-shot 5 of them cannot be read")
    for part in ("it is named twice", "two or three different columns", "there is no file", "ends in one of .csv"):
        assert part in str(said.value)


@pytest.mark.parametrize(
    ("lines", "columns", "said"),
    [
        (["a,b,c", "x,y,high"], "a,b,c", r"line 2: the label is 'high', which is no number"),
        (["a,b,c", "x,y,1", "u,v,1"], "a,b,c", r"c is 1 in every row: there is nothing to tell apart"),
        (["a,b", "x,y", "u,y"], "a,b", r"b is the same in every row: there is nothing to search among"),
        (["a,b", "x,y"], "a,d", r"line 1: no column d; it has a, b"),
        (["a,b"], "a,b", r"holds no rows"),
    ],
)
def test_files_that_say_nothing(lines: list[str], columns: str, said: str, tmp_path: Path) -> None:
    write(tmp_path / "a.csv", *lines)
    with pytest.raises(DamagedDataError, match=said):
        read_pairs(find_pair_files([f"{tmp_path}/a.csv:{columns}"])[0])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--zero-shot", "a.csv:a,b", "--seeds", "2", "--lr", "1"], "trains nothing, and --seeds, --lr says how to"),
        ([], "judge needs --tasks or --zero-shot"),
    ],
)
def test_options_that_do_not_go_together(
    words: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["masklater", "judge", "encoder", "--out", "scores", *words])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 2 and said in " ".join(capsys.readouterr().err.split())
