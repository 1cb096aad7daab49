"""The model card of an exported encoder: a README.md that says what it is, what made it, and what it scored."""

import math
import re
from collections.abc import Sequence

import yaml

from masklater.hub import REPOSITORY
from masklater.ledger import Ledger
from masklater.recipe.load import dump
from masklater.recipe.recipe import Recipe
from masklater.recipe.sections import DECODERS
from masklater.recipe.timeline import in_phase
from masklater.report.masked import as_sentences, percent
from masklater.report.origin import Exported, Origin
from masklater.report.quantities import digits, power, scale_for
from masklater.report.scores import Pairs, Scores, SeedSpread
from masklater.report.table import Table, markdown

PAPER = """@inproceedings{liao-etal-2022-mask,
  title     = {Mask More and Mask Later: Efficient Pre-training of Masked Language Models by Disentangling the [MASK] Token},
  author    = {Liao, Baohao and Thulke, David and Hewavitharana, Sanjika and Ney, Hermann and Monz, Christof},
  booktitle = {Findings of the Association for Computational Linguistics: EMNLP 2022},
  year      = {2022},
  pages     = {1478--1492},
  url       = {https://arxiv.org/abs/2211.04898}
}"""  # noqa: E501 - a title stands on one line


def model_card(exported: Exported, origin: Origin, scores: Sequence[Scores] = (), pairs: Pairs | None = None) -> str:
    """Return the README.md of an export: YAML front matter and Markdown."""
    parts = [
        f"---\n{yaml.safe_dump(_front_matter(exported, origin), sort_keys=False)}---",
        f"# {exported.name}",
        _what_it_is(exported, origin),
        f"## How to load\n\n{_how_to_load(exported, origin.recipe)}",
        f"## Data\n\n{_data(origin)}",
        f"## Training\n\n{_training(origin)}",
        f"## Held-out text\n\n{_held_out(origin)}",
        *([f"## Scores\n\n{_scores(scores, pairs)}"] if scores or pairs else []),
        f"## Limits\n\n{_limits(exported, origin)}",
        f"## Licence\n\n{_license(exported.license)}",
        f"## Citation\n\nThe method is that of\n\n```bibtex\n{PAPER}\n```",
    ]
    return "\n\n".join(parts) + "\n"


def _front_matter(exported: Exported, origin: Origin) -> dict[str, object]:
    """Return the front matter that the hub reads: only known facts, under the hub's names."""
    named = [source.name for shards in origin.data or () for source in shards.sources if source.name.startswith("hf:")]
    data_sets = list(dict.fromkeys(re.split("[:@#]", name.removeprefix("hf:"))[0] for name in named))
    source = origin.recipe.model.from_
    matter: dict[str, object] = {"library_name": "transformers"}
    if exported.license:
        matter["license"] = exported.license
    matter["pipeline_tag"] = "fill-mask" if exported.has_head else "feature-extraction"
    if source and origin.identity.source_commit and (parts := REPOSITORY.fullmatch(source)):
        matter["base_model"] = parts["name"]
    if data_sets:
        matter["datasets"] = data_sets
    return {**matter, "tags": ["masklater", "masked-lm", "arxiv:2211.04898"]}


def _what_it_is(exported: Exported, origin: Origin) -> str:
    recipe = origin.recipe
    what = "A masked language model" if exported.has_head else "A text encoder"
    method = DECODERS[recipe.decoder.kind]
    how = (
        f"by Mask More and Mask Later ([arXiv 2211.04898](https://arxiv.org/abs/2211.04898); {method}), where "
        "`[MASK]`s are left out of the encoder and join later"
        if recipe.decoder.drops
        else f"by {method}"
    )
    source = recipe.model.from_
    commit = f", commit {origin.identity.source_commit}" if origin.identity.source_commit else ""
    began = f", going on from {_code(source)}{commit}" if source else " from scratch"
    done = ""
    if origin.done < 1 - 1e-9:  # sums of seconds may differ in their last digits
        done = f" Of its duration, {recipe.duration}, {math.floor(1000 * origin.done) / 10:.1f}% is done."
    return (
        f"{what} of {exported.parameters:,} parameters (`{exported.kind}`), pre-trained{began} {how}. "
        f"{as_sentences(recipe, origin.phase)}{done} Made with masklater {origin.identity.masklater}."
    )


def _how_to_load(exported: Exported, recipe: Recipe) -> str:
    if not exported.has_head:
        load = 'encoder = AutoModel.from_pretrained("OWNER/NAME")'
        imports = "from transformers import AutoModel, AutoTokenizer"
    else:
        load = 'model = AutoModelForMaskedLM.from_pretrained("OWNER/NAME")'
        imports = "from transformers import AutoModelForMaskedLM, AutoTokenizer"
        if recipe.decoder.has_layers:
            imports = f"import masklater  # tells transformers of MaskLaterForMaskedLM\n{imports}"
    text = (
        f'```python\n{imports}\n\ntokenizer = AutoTokenizer.from_pretrained("OWNER/NAME")\n{load}\n```\n\n'
        "A folder of this machine may stand in place of `OWNER/NAME`."
    )
    if exported.has_head and recipe.decoder.has_layers:
        text += ' The encoder alone needs no masklater: `AutoModel.from_pretrained("OWNER/NAME", subfolder="encoder")`.'
    if not exported.has_pooler:
        text += " There is no pooler, as pre-training trains none: a task that needs one begins with a fresh one."
    return text


def _data(origin: Origin) -> str:
    identity = origin.identity
    tokens = origin.ledger.tokens
    trained = f"It was trained on {tokens:,} tokens in rows of up to {identity.row_length}"
    if origin.data is None:
        return f"{trained}. Sources were not recorded. SHA-256 of the data: `{identity.data_sha256}`."
    available = sum(shards.train_tokens for shards in origin.data)
    text = f"{trained}: {digits(tokens / max(available, 1))} times the {available:,} that there are."
    shares, rows = origin.recipe.data, []
    for shards in origin.data:
        share = shares.get(shards.key, shares.get(shards.key.rpartition("/")[0]))
        for source in shards.sources:
            name = f"{source.name}, commit {source.revision}" if source.revision else source.name
            counts = [f"{source.documents:,}", f"{source.characters:,}", f"{source.tokens:,}"]
            rows.append([_code(name), *([f"{share:.2%}" if share else "–"] if shares else []), *counts])
    columns = ["source", *(["share of rows"] if shares else []), "documents", "characters", "tokens"]
    caption = "Counts are of the sources as they were read, held-out documents included."
    table = f"\n\n{markdown(Table('', columns, rows))}\n\n{caption}" if rows else ""
    hashes = [
        [_code(shards.key or "all"), f"{shards.train_rows:,}", f"{shards.held_out_rows:,}", f"`{shards.sha256}`"]
        for shards in origin.data
    ]
    prepared = markdown(Table("", ["prepared rows", "to train on", "held out", "SHA-256"], hashes))
    return f"{text}{table}\n\n{prepared}\n\nSHA-256 of the tokenizer: `{identity.tokenizer_sha256}`."


def _training(origin: Origin) -> str:
    ledger, identity, recipe = origin.ledger, origin.identity, origin.recipe
    hours = scale_for("hours", ledger.hours)
    rows = [
        [
            "steps",
            f"{ledger.steps:,}" + (f", {ledger.skipped_steps:,} of them skipped" if ledger.skipped_steps else ""),
        ],
        ["rows, tokens", f"{ledger.rows:,}, {ledger.tokens:,}"],
        ["tokens that the encoder read", f"{ledger.tokens_seen:,}"],
        ["tokens predicted", f"{ledger.tokens_predicted:,}"],
        ["FLOPs, LM head included", _flops(ledger.total_flops)],
        *([["of them, choosing what to train on", _flops(ledger.flops_choosing)]] if ledger.flops_choosing else []),
        ["FLOPs of the LM head", _flops(ledger.flops_head)],
        ["time in training steps", f"{hours(ledger.hours)} {hours.unit}"],
        ["energy", _energy(ledger)],
        ["seed", str(recipe.seed)],
        [
            "versions at its beginning",
            f"masklater {identity.masklater}, torch {identity.torch}, transformers {identity.transformers}, "
            f"Python {identity.python}",
        ],
    ]
    table = markdown(Table("", ["of the run", "amount"], rows, text=True))
    whole = f"```yaml\n{dump(recipe).strip()}\n```"
    return f"{table}\n\n<details>\n<summary>The recipe, whole</summary>\n\n{whole}\n\n</details>"


def _flops(flops: float) -> str:
    return power(flops) if flops > 0 else "0"


def _energy(ledger: Ledger) -> str:
    if ledger.energy_joules is None:
        return "not read: there was no counter that could be"
    return f"{digits(ledger.energy_joules / 3.6e6)} kWh ({ledger.energy_source})"


def _held_out(origin: Origin) -> str:
    evaluation, masking = origin.evaluation, in_phase(origin.recipe, origin.phase).masking
    if evaluation is None:
        return "There is no evaluation on held-out text."
    own = "masked as in training"
    if masking.schedule.name != "constant":
        own += f", but at {percent(masking.rate)} throughout"
    rows = [
        ["15% of the tokens masked", _number(evaluation.loss), _percent(evaluation.accuracy)],
        [own, _number(evaluation.own_loss), _percent(evaluation.own_accuracy)],
        *([f"15% masked, {_code(name)}", _number(loss), "–"] for name, loss in evaluation.by_source.items()),
    ]
    table = markdown(Table("", ["held-out rows", "loss, nats a token", "accuracy"], rows))
    return f"{table}\n\nAt step {evaluation.spent.steps:,.0f}, over {evaluation.targets:,} tokens at 15%."


def _number(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else "–"


def _percent(value: float) -> str:
    return f"{value:.1%}" if math.isfinite(value) else "–"


def _scores(scores: Sequence[Scores], pairs: Pairs | None) -> str:
    parts = []
    rows = [
        [task, score.main, *_cells(score.spread), score.note or "–"]
        for each in scores
        for task, score in each.tasks.items()
    ]
    if rows:
        columns = ["task", "metric", "median", "lowest to highest", "seeds", "note"]
        parts.append(markdown(Table("", columns, rows, text=True)))
        parts.append("In percent, on the tasks' dev rows: the median over seeds at the best setting of the grid.")
    parts += [
        f"Average over {each.average.tasks} of GLUE's tasks: {each.average.value:.1f}."
        for each in scores
        if each.average
    ]
    if pairs:
        parts.append(f"Minimal pairs told apart, without fine-tuning: {pairs.accuracy:.1f}% of {pairs.pairs:,}.")
    return "\n\n".join(parts)


def _cells(spread: SeedSpread) -> list[str]:
    return [f"{spread.median:.1f}", f"{spread.min:.1f} to {spread.max:.1f}", str(spread.count)]


def _limits(exported: Exported, origin: Origin) -> str:
    ledger = origin.ledger
    parts = [
        f"It knows the languages and the kinds of text that are in its data, in rows of up to "
        f"{origin.identity.row_length} tokens, and no others.",
        "What its texts say of people, right or wrong, it has learned too; nothing has been done against that, nor "
        "measured.",
        "Scores are of one run"
        + (f" with seed {origin.recipe.seed}: another seed gives others." if ledger.steps else "."),
    ]
    if origin.causal:
        parts.insert(
            0, "Its training was stopped in a phase of next tokens: it has looked back alone, and is not done."
        )
    if not exported.has_head:
        parts.append("It has no LM head: `fill-mask` with it guesses at random.")
    elif origin.recipe.decoder.kind == "late":
        parts.append("Its lower layers have never seen a `[MASK]`: it fills them worse than the run itself does.")
    return "\n".join(f"- {part}" for part in parts)


def _license(identifier: str | None) -> str:
    if identifier is None:
        return "None was told: ask who made it before you use it. The texts it was trained on have terms of their own."
    return f"`{identifier}`. The texts it was trained on have terms of their own."


def _code(name: str) -> str:
    """Return a name of the user's as inline code, whatever characters are in it."""
    return f"`{' '.join(name.replace('`', chr(39)).split())}`"
