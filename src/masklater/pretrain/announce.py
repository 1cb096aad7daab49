"""The lines a run prints before its first step: what is about to run, and which paths were chosen and why."""

import torch

from masklater.budget.cost import row_flops, vanilla_row_flops
from masklater.console import say
from masklater.ledger import Ledger
from masklater.machine.compilation import Compilation
from masklater.machine.distributed import World
from masklater.machine.hardware import Hardware
from masklater.machine.kernels import attention_kernels
from masklater.machine.precision import Precision
from masklater.model.config import MaskLaterConfig
from masklater.model.encoder import calls_torchs_attention, layer_sizes, window_reach
from masklater.model.implementations import SHORTEST_BY_BLOCKS
from masklater.pretrain.batches import BatchMaker
from masklater.pretrain.evaluate import Score
from masklater.pretrain.plan import NAMES, Judge, Phase, Plan
from masklater.recipe.recipe import Recipe
from masklater.recipe.sections import DECODERS
from masklater.recipe.timeline import NOT_BEGUN

DECODER_POSITIONS = {
    "dropped": "the decoder gets position embeddings where tokens were dropped",
    "all": "the decoder gets position embeddings everywhere",
    "rotary": "the decoder knows positions by rotary attention",
}
CAUSAL = "causal: nothing is masked, positions see those before them and predict the next token, the decoder rests"
MANY_EPOCHS = 4.0
ROWS_LOOKED_AT = 256
"""Number of rows whose words are counted."""


def announce(
    plan: Plan,
    num_parameters: tuple[int, int],
    hardware: Hardware,
    precision: Precision,
    compilation: Compilation,
    by_blocks: bool,
    world: World,
    ledger: Ledger,
) -> None:
    """Print what is about to run.

    Args:
        plan: The plan of the run.
        num_parameters: Parameters of the model, and of the encoder alone.
        hardware: The hardware that one process computes on.
        precision: The precision that it computes in.
        compilation: Whether its layers are compiled.
        by_blocks: Whether the encoder's attention on long rows skips blocks that do not attend.
        world: The processes.
        ledger: The ledger of the steps made so far.

    Raises:
        DamagedDataError: Rows that are read here differ from what was written.
    """
    recipe, config = plan.recipe, plan.config
    parameters, exported = num_parameters
    for phase in plan.phases:
        _announce_phase(plan, phase)
    say(f"{parameters / 1e6:.1f} M parameters, {exported / 1e6:.1f} M of them in the encoder that is exported")
    _announce_unused_positions(plan)
    if config.decoder.drops:
        say(f"{DECODER_POSITIONS[config.decoder.positions]}: {_why_these_positions(recipe, config)}")
    if config.decoder.embedding_skip:
        say("the decoder reads the word embeddings of the seen tokens beside the encoder's output")
    path = _attention_path(config, world.device, by_blocks)
    if not calls_torchs_attention(config.encoder):
        decoder = f"; in the decoder {path}" if config.decoder.has_layers else ""
        path = f"in the encoder its family's own, which holds the weights of all pairs of positions in memory{decoder}"
    say(f"attention: {path}")
    if recipe.deterministic:
        say(f"deterministic: {'sums in a fixed order' if world.device.type == 'cuda' else 'a CPU is so in any case'}")
    if reach := window_reach(config.encoder):
        say(
            f"windows: {plan.encoder.local_layers} of {plan.encoder.layers} encoder layers see {reach} positions to "
            f"either side, by true position; FLOPs count all pairs{'' if by_blocks else ', which torch computes'}"
        )
    say("the LM head is computed at the predicted positions only")
    if (states := config.decoder.states) > 1:
        say(
            f"and there for {states} states each, along a chain: the loss of steps is that of whole rows, and held-out "
            "losses, which compare with other runs', are of each target by itself"
        )
    if world.size > 1:
        spread = "whole in each (DDP)" if recipe.distributed == "ddp" else "cut up over them (FSDP2)"
        rows = plan.phase(ledger.steps).recipe.batch.rows // world.size
        say(f"{world.size} processes of {rows} rows a step each, the model {spread}")
    say(f"device {world.device.type}, {precision.name}: {precision.reason}")
    say(f"layers {'compiled' if compilation.on else 'not compiled'}: {compilation.reason}")
    say(f"at best {hardware.peak_flops_per_second / 1e12:.3g} TFLOP/s: {hardware.name}, {hardware.source}")
    announce_epochs(plan)
    for batches in {phase.span.row_length: phase.batches for phase in plan.phases}.values():
        announce_words(batches)
    if ledger.steps:
        _announce_resume(ledger, compilation)
    if not any(phase.held_out for phase in plan.phases):
        say("no rows are held out (--valid-fraction 0): there will be no validation loss")


def _announce_phase(plan: Plan, phase: Phase) -> None:
    """Say what a phase trains on; for a run without phases, what the run trains on."""
    span, corruption, decoder = phase.span, phase.batches.corruption, phase.recipe.decoder
    counts = corruption.counts
    if len(plan.phases) > 1:
        rate = f", learning rate times {span.lr_multiplier:g}" if span.lr_multiplier != 1 else ""
        base = f", rotary base {phase.rope_base:g}" if phase.rope_base is not None else ""
        begins = f"from step {span.first + 1:,}"
        if span.first == NOT_BEGUN:
            begins = f"after {span.begins:.6g} hours"
        say(f"phase {span.number + 1}, {begins}: {span.recipe.batch.rows} rows a step{rate}{base}")
    if len(span.recipe.data) > 1:
        say(f"of each 100 rows {', '.join(f'{100 * share:g} from {name}' for name, share in span.recipe.data.items())}")
    for source in phase.batches.rows.sources:
        if source.chosen_K is not None:
            say(f"{source.name or 'of the SHARDS'}: {source.num_rows:,} of {source.rows.num_rows:,} rows, as selected")
    objective = CAUSAL if phase.causal else _objective(plan.config)
    by = span.recipe.masking.predict_by
    say(
        f"{objective}: of each row's {counts.row_length} positions the encoder sees {counts.seen}, "
        f"{counts.targets} are predicted{f', chosen by {by}' if by else ''}"
    )
    flops = row_flops(plan.encoder, decoder, counts)
    of_vanilla = (
        flops.training / vanilla_row_flops(plan.encoder, counts.row_length, corruption.maskable_per_row).training
    )
    say(
        f"{flops.training / 1e9:.2f} GFLOPs to train on a row, {flops.head / flops.forward:.0%} in the LM head; "
        f"{of_vanilla:.2f} of what vanilla MLM at 15% takes"
    )
    if decoder.drops and not phase.causal and of_vanilla >= 1:
        remedy = "an encoder of more layers beside its decoder makes"
        if decoder.kind == "self":
            remedy = f"decoder.kind=cross, or {remedy}"
        if flops.head > flops.decoder_linear + flops.decoder_attention:
            remedy = "a smaller vocabulary, or masking.predict below 1, which spare the LM head, make"
        say(f"that saves nothing by the row: {remedy} it cheaper (`masklater budget` has all parts)")


def announce_unigram(unigram: Score | None) -> None:
    """Print the loss of guesses by token frequency alone: a run begins above it and has to get below."""
    if unigram is not None and unigram.targets:
        say(
            f"guesses by token frequency alone would lose {unigram.loss:.3f} nats a token on held-out rows with 15% "
            f"[MASK], {unigram.accuracy:.1%} of them right"
        )


def announce_epochs(plan: Plan) -> None:
    """Say how often the rows of each source will be read."""
    epochs = plan.epochs()
    for source, number in epochs.items():
        say(f"{f'{source}: ' if len(epochs) > 1 else ''}each row is read {number:.2f} times over the whole run")
        if number > MANY_EPOCHS:
            say(
                f"that is more than {MANY_EPOCHS:g} times, up to which rows read again were found to be worth about as "
                "much as new ones (arXiv 2305.16264); max_epochs refuses such a run"
            )


def _announce_unused_positions(plan: Plan) -> None:
    """Say what a padding token far back in the vocabulary costs an encoder that counts positions from that token on."""
    unused, width = plan.config.position_offset or 0, plan.encoder.embedding_width or plan.encoder.width
    if unused > plan.config.row_length:
        say(
            f"{unused * width / 1e6:.1f} M of them will never be used: {plan.encoder.family} counts positions from the "
            f"padding token's id + 1 on, {unused:,} here. bert, electra, esm and modernbert count from 0; or prepare "
            "the data with a tokenizer whose padding token is among its first"
        )


def _announce_resume(ledger: Ledger, compilation: Compilation) -> None:
    say(f"resuming at step {ledger.steps:,}")
    if ledger.compiled_steps != compilation.on * ledger.steps:
        say(
            f"{ledger.compiled_steps:,} of these steps were made with compiled layers: dropout draws other numbers "
            "from here on than it would have, had the run gone on as it began"
        )


def progress_note(ledger: Ledger, loss: float | None, scores: dict[Judge, Score]) -> str:
    """Return the text next to the meter after a step: losses and speed."""
    note = f"step {ledger.steps:,}"
    if loss is not None:
        note += f"  loss {loss:.3f}"
    if ledger.skipped_steps:
        note += f"  {ledger.skipped_steps:,} skipped"
    for judge, score in scores.items():
        _, what, suffix = NAMES[judge]
        if not suffix:
            note += f"  {what} {score.loss:.3f}" if score.targets else f"  {what}: nothing to predict"
    rate = ledger.rows / ledger.seconds
    return f"{note}  {rate:,.0f} rows/s  {ledger.tokens / ledger.seconds:,.0f} tokens/s"


def announce_words(batches: BatchMaker) -> None:
    """Print how many words a row has, where words or spans of them are masked, and whether words fit what is masked."""
    num_rows, length_W = batches.word_lengths(ROWS_LOOKED_AT)
    if not len(length_W):
        return
    longest, corrupted = int(length_W.max()), batches.corruption.counts.corrupted
    say(
        f"words: {len(length_W) / num_rows:.1f} in a row, of {float(length_W.double().mean()):.1f} tokens each; the "
        f"longest has {longest} ({num_rows} rows looked at)"
    )
    share = float(length_W[length_W > corrupted].sum() / length_W.sum())
    if share:
        say(
            f"{share:.0%} of the tokens stand in words longer than the {corrupted} positions that are masked of a row: "
            "of such a word a part is masked, anywhere in it. In text without spaces nothing tells words apart, unless "
            "they are marked (`masklater prepare --marked-words`); there masking.choose=uniform is the plain choice"
        )
    if longest == 1:
        say(
            "each word is one token, so that whole words are what single tokens are: of a language that puts no spaces "
            "between words they have to be marked (`masklater prepare --marked-words`)"
        )


def _objective(config: MaskLaterConfig) -> str:
    if config.decoder.kind == "late":
        return f"[MASK]s enter at layer {config.decoder.enter_layer} of {config.encoder.num_hidden_layers}"
    return DECODERS[config.decoder.kind]


def _why_these_positions(recipe: Recipe, config: MaskLaterConfig) -> str:
    if recipe.decoder.positions != "auto":
        return "the recipe says so"
    if config.decoder.positions == "rotary":
        return "the encoder knows distances only"
    return "elsewhere the encoder's output holds them"


def _attention_path(config: MaskLaterConfig, device: torch.device, by_blocks: bool) -> str:
    if (kernels := attention_kernels(device)) is not None:
        path = f"torch's scaled_dot_product_attention, by one of its kernels {kernels}"
        long_rows = f"; FlexAttention where the encoder reads {SHORTEST_BY_BLOCKS} positions or more with a mask"
        return path + long_rows if by_blocks else path
    dropout = layer_sizes(config.encoder, config.encoder.hidden_size).attention_dropout
    if device.type == "cpu" and dropout:
        held = f"with dropout ({dropout:g}) a CPU holds the weights of all pairs of positions in memory"
        return f"torch's scaled_dot_product_attention; {held}"
    return "torch's scaled_dot_product_attention"
