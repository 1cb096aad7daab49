"""Settings drawn at random, all of which a recipe may have together: what is promised of a run holds for them too."""

import math
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import strategies as st
from transformers import AutoModel, AutoTokenizer

from masklater.budget.forecast import forecast, rows_in
from masklater.errors import Interrupted, RecipeError
from masklater.model.encoder import encode
from masklater.model.export import export_encoder
from masklater.pretrain import loop
from masklater.pretrain.loop import pretrain
from masklater.recipe.load import load
from masklater.run.folder import RunFolder
from tests.conftest import TINY, make_shards
from tests.fuzz.fuzz import fuzz
from tests.runs import losses, stop_at, weights

FLOWS = [f"{a}-to-{b}" for a in ("unmasked", "masked") for b in ("unmasked", "masked")]
STEPS = 7


def one_of(name: str, *values: object) -> st.SearchStrategy[str]:
    return st.sampled_from([f"{name}={value}" for value in values])


COMMON = [
    one_of("model.family", "roberta", "roberta-prelayernorm", "bert", "electra", "camembert", "xlm-roberta", "esm",
           "modernbert"),
    one_of("model.dropout", 0, 0.1),
    one_of("masking.rate", 0.15, 0.3, 0.5, 0.7),
    one_of("masking.choose", "uniform", "word", "span"),
    one_of("masking.predict", 1, 0.5),
    one_of("masking.schedule", "{name: constant}", "{name: linear, end: 0.2}", "{name: random, low: 0.1, high: 0.8}",
           "{name: stepwise, steps: [[0.4, 0.3], [0.7, 0.2]]}"),
    one_of("batch.rows", 4, 6, 8),
    one_of("batch.micro_rows", "auto", 1, 2, 3),
    one_of("batch.attend", "document", "row"),
    one_of("optimizer", "{name: adamw, lr: 0.001}", "{name: muon, lr: 0.02, adamw_lr: 0.01}"),
    one_of("schedule", "{name: linear, warmup: 0.2}", "{name: cosine, warmup: 0, floor: 0.1}", "{name: wsd, decay: 0.3}"),
    one_of("activation_checkpointing", "false", "true", 2),
    one_of("duration", f"{{steps: {STEPS}}}", "{rows: 40}", "{tokens: 1300}"),
]  # fmt: skip
DECODERS = {
    "none": [],
    "late": [one_of("decoder.enter_layer", 0, 1)],
    "self": [one_of("decoder.num_layers", 1, 2), one_of("decoder.embedding_skip", "false", "true"),
             one_of("decoder.hidden_size", "null", 16), one_of("decoder.positions", "auto", "dropped", "all", "rotary"),
             one_of("decoder.blocked_flows", "[]", *(f"[{flow}]" for flow in FLOWS))],
}  # fmt: skip
PHASES = [
    "[]",
    "[{share: 0.4, objective: causal, row_length: 32}, {row_length: 64}]",
    "[{share: 0.4, row_length: 32, batch: {rows: 12}}, {row_length: 64, masking: {rate: 0.4}, lr_multiplier: 0.5}]",
    "[{share: 0.3}, {share: 0.3, objective: causal}, {masking: {rate: 0.2}}]",
]


@st.composite
def overrides(draw: st.DrawFn) -> list[str]:
    kind = draw(st.sampled_from(["none", "late", "self", "cross", "cross-only"]))
    own = DECODERS.get(kind, DECODERS["self"])
    chosen = [
        f"decoder.kind={kind}",
        *(draw(each) for each in [*COMMON, *own]),
        f"phases={draw(st.sampled_from(PHASES))}",
    ]
    if draw(st.booleans()):
        chosen += ["masking.mask=1", "masking.random=0", "masking.keep=0"]
        if kind == "self" and draw(st.booleans()):
            chosen.append("decoder.states=2")
    return [*(each for each in TINY if not each.startswith("duration.")), *chosen]


@pytest.fixture(scope="module")
def data(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SHARDS with rows of 32 and of 64, padded ones among them."""
    folder = tmp_path_factory.mktemp("fuzz") / "shards"
    return make_shards(corpus, folder, further_row_lengths=(64,))


@pytest.mark.parametrize("examples", [3, pytest.param(60, marks=pytest.mark.slow)])
def test_runs(examples: int, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def check(settings: list[str]) -> None:
        try:
            recipe = load("3ml-small", settings)
        except RecipeError:
            return
        folder = data if any(phase.row_length for phase in recipe.phases) else data / "rows-32"
        with tempfile.TemporaryDirectory() as place:
            run, resumed, encoder = (Path(place) / name for name in ("run", "resumed", "encoder"))
            result = pretrain(recipe, folder, run)
            assert all(map(math.isfinite, losses(run)))
            if recipe.masking.schedule.name != "random":
                assert result.flops == pytest.approx(forecast(recipe, rows_in(recipe, folder)).total_flops, rel=1e-9)

            monkeypatch.setattr(loop, "train_step", stop_at(result.steps // 2))
            with pytest.raises(Interrupted):
                pretrain(recipe, folder, resumed)
            monkeypatch.undo()
            pretrain(recipe, folder, resumed, resume=True)
            assert losses(resumed) == losses(run)
            before, after = weights(run), weights(resumed)
            assert all(torch.equal(before[name], after[name]) for name in before)

            model, _ = RunFolder(run).load_model()
            export_encoder(model, RunFolder(run).tokenizer, encoder)
            inputs = AutoTokenizer.from_pretrained(encoder)(["kan lot mir nus res so"], return_tensors="pt")
            ids_BL = inputs["input_ids"]
            pos_BL = torch.arange(ids_BL.shape[1])[None]
            with torch.no_grad():
                theirs_BLD = AutoModel.from_pretrained(encoder).eval()(**inputs).last_hidden_state
                ours_BLD = encode(model.encoder, ids_BL, pos_BL, model.config.position_offset or 0, None)
            torch.testing.assert_close(ours_BLD, theirs_BLD, rtol=1e-4, atol=1e-5)

    fuzz("runs", examples, check, overrides())
