"""Text in any script survives prepare -> rows -> text exactly: byte-level BPE loses nothing."""

import json
import shutil
from pathlib import Path

from hypothesis import strategies as st

from masklater.corpus.prepare import prepare
from masklater.corpus.settings import PrepareSettings
from masklater.corpus.shards import Shards
from masklater.corpus.show import show_rows
from tests.conftest import make_text
from tests.fuzz.fuzz import EXAMPLES, fuzz

SCRIPTS = [
    "العربيّة \u200fلا", "देवनागरी क्ष\u200d ज्ञ", "中文，汉字𠮷", "日本語カﾞ", "한국어", "ไทย", "עִבְרִית", "👩\u200d👩\u200d👧", "🇺🇳", "👍🏽", "e\u0301\u0323",
    "a\u200bb\u200d\u2060c", "\ufe0f", "ﬁ ½ Å Å", "\u202eright to left\u202c", "\t tabs \r and\u2028lines\x85", "<s> </s> <mask> <pad>",
    "\u0300", "\ufffd", "\ufeffinside\ufeff", "Zalgo\u0335\u0321\u0352", "\U0010ffff\U000e0001", "straße İıſ", "\x1b[0m\x7f",
]  # fmt: skip
texts = st.lists(
    st.lists(st.sampled_from(SCRIPTS) | st.text(st.characters(codec="utf-8"), max_size=12), min_size=1, max_size=5).map(" ".join),
    min_size=1,
    max_size=6,
)  # fmt: skip


@EXAMPLES
def test_text_survives(examples: int, tmp_path: Path) -> None:
    """A tokenizer that was trained on other text: what it never saw becomes bytes, not unknown words."""
    (tmp_path / "plain.txt").write_text(make_text(0, 500))
    settings = {"vocab_size": 300, "row_length": 2048, "valid_fraction": 0, "workers": 1}
    prepare([tmp_path / "plain.txt"], tmp_path / "plain", PrepareSettings(**settings))  # type: ignore[arg-type]
    tokenizer = tmp_path / "plain" / "tokenizer"

    def check(given: list[str]) -> None:
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        expected = [text for text in (text.replace("\0", "").strip() for text in given) if text]
        if not expected:
            return
        path = tmp_path / "in.jsonl"
        path.write_text("".join(json.dumps({"text": text}, ensure_ascii=len(text) % 2 == 0) + "\n" for text in given))
        prepare([path], tmp_path / "out", PrepareSettings(tokenizer=tokenizer, **settings))  # type: ignore[arg-type]
        shards = Shards(tmp_path / "out")
        shown = show_rows(shards, "train", range(shards.train.num_rows))
        documents = [text for row in shown for text in (row.documents[0].removeprefix("<s>"), *row.documents[1:])]
        assert sorted(text.removesuffix("</s>") for text in documents) == sorted(expected)

    fuzz("texts in many scripts", max(10, examples // 4), check, texts)
