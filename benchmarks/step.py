"""One training step of 3ML beside what users would otherwise run, in turns within one process, since machines drift.

    python benchmarks/step.py --size base                  # all peers
    python benchmarks/step.py --size large --peer vanilla --rows 4

Peers: `stock`, transformers' Trainer with RobertaForMaskedLM and DataCollatorForLanguageModeling(0.15) in float32, as
its own example has it; `stock-bf16`, the same under bfloat16 autocast; `vanilla`, our own vanilla MLM at 15% with every
optimisation; `modernbert`, transformers' ModernBERT with sparse prediction. Each line shows the median step of both
sides in seconds, their ratio, the ratio of their processor seconds (which tell the same where other work shares the
cores), the ratio of the FLOPs that both execute, and the share of the measured peak rate that ours reaches. Masking is
part of a step on both sides; reading rows from disk is not.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from masklater.budget.flops import count_row_flops
from masklater.budget.peak import this_hardware
from masklater.masking.corrupt import corrupt, make_corruption
from masklater.model.config import MaskLaterConfig
from masklater.model.encoder import make_encoder_config
from masklater.model.masked_lm import MaskLaterForMaskedLM
from masklater.pretrain.allocator import keep_large_buffers
from masklater.pretrain.cost import encoder_sizes, row_shape
from masklater.pretrain.loader import StepShare
from masklater.pretrain.loop import train_step
from masklater.pretrain.optim import Optimizers
from masklater.pretrain.precision import Precision
from masklater.recipe.load import Recipe, load

PAD, BOS, EOS, UNK, MASK = 1, 0, 2, 3, 4
SIZES = {
    "small": ("3ml-small", "vanilla-small"),
    "base": ("3ml-base-50", "roberta-base-15"),
    "large": ("3ml-large-50", "efficient-mlm-large-40"),
}
AS_USUAL = ["masking.rate=0.15", "masking.mask=0.8", "masking.random=0.1", "masking.keep=0.1"]
Step = Callable[[int], None]


def random_rows(rows: int, length: int, vocabulary: int, seed: int) -> Tensor:
    """Full rows of random tokens, rows_BL."""
    generator = torch.Generator().manual_seed(seed)
    rows_BL = torch.randint(5, vocabulary, (rows, length), generator=generator)
    rows_BL[:, 0], rows_BL[:, -1] = BOS, EOS
    return rows_BL


def ours(recipe: Recipe, arguments: argparse.Namespace, precision: Precision) -> tuple[Step, float]:
    """A step of masklater, and the FLOPs it executes."""
    L, V = arguments.row_length, arguments.vocabulary
    encoder = make_encoder_config(recipe.model, vocabulary_size=V, row_length=L, pad=PAD, bos=BOS, eos=EOS, mask=MASK)
    decoder = recipe.decoder
    config = MaskLaterConfig(
        encoder, decoder_kind=decoder.kind, num_decoder_layers=decoder.num_layers, row_length=L, mask_token_id=MASK
    )
    model = MaskLaterForMaskedLM(config).to(precision.device).train()
    optimizers = Optimizers(model, recipe.optimizer)
    corruption = make_corruption(
        recipe.masking, drop=decoder.drops, row_length=L, maskable_per_row=L - 2, vocabulary_size=V,
        special_ids=(PAD, BOS, EOS, UNK, MASK), mask_id=MASK, pad_id=PAD,
    )  # fmt: skip

    def step(number: int) -> None:
        rows_BL = random_rows(arguments.rows, L, V, number)
        batch = corrupt(rows_BL, None, corruption, torch.Generator().manual_seed(number)).to(precision.device)
        share = StepShare([batch], 0, int(batch.num_targets))
        train_step(model, optimizers, share, 1e-3, 1.0, precision, number)

    flops = count_row_flops(row_shape(encoder_sizes(encoder), decoder, corruption.counts)).training
    return step, arguments.rows * flops


def stock(recipe: Recipe, arguments: argparse.Namespace, bf16: bool, modern: bool) -> tuple[Step, float]:
    """A step of transformers' Trainer, and the FLOPs it executes: every position passes through the LM head."""
    from tokenizers import Tokenizer, models
    from transformers import (
        AutoConfig,
        AutoModelForMaskedLM,
        DataCollatorForLanguageModeling,
        PreTrainedTokenizerFast,
        Trainer,
        TrainingArguments,
    )

    L, V, sizes = arguments.row_length, arguments.vocabulary, recipe.model
    config = AutoConfig.for_model(
        "modernbert" if modern else "roberta", vocab_size=V, hidden_size=sizes.hidden_size,
        num_hidden_layers=sizes.num_hidden_layers, num_attention_heads=sizes.num_attention_heads,
        intermediate_size=(sizes.intermediate_size or 0) * (2 if modern else 3) // 3, max_position_embeddings=L + 2,
        pad_token_id=PAD, bos_token_id=BOS, eos_token_id=EOS, type_vocab_size=1,
        **({"sparse_prediction": True, "cls_token_id": BOS, "sep_token_id": EOS} if modern else {}),
    )  # fmt: skip
    model: nn.Module = AutoModelForMaskedLM.from_config(config)
    words = {"<s>": BOS, "<pad>": PAD, "</s>": EOS, "<unk>": UNK, "<mask>": MASK}
    names = words | {f"w{token_id}": token_id for token_id in range(5, V)}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(names, unk_token="<unk>")),
        bos_token="<s>", pad_token="<pad>", eos_token="</s>", unk_token="<unk>", mask_token="<mask>",
    )  # fmt: skip
    collate = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15)
    trainer = Trainer(
        model,
        TrainingArguments(
            output_dir=tempfile.mkdtemp(), per_device_train_batch_size=arguments.rows, bf16=bf16, report_to="none",
            use_cpu=not torch.cuda.is_available(), max_steps=1000, torch_compile=arguments.compile_stock,
        ),
        train_dataset=[{"input_ids": [0]}],
    )  # fmt: skip
    trainer.create_optimizer_and_scheduler(1000)
    model, optimizer = trainer.accelerator.prepare(trainer.model, trainer.optimizer)
    model.train()
    trainer.current_gradient_accumulation_steps = 1  # what Trainer.train sets before its first step

    def step(number: int) -> None:
        rows_BL = random_rows(arguments.rows, L, V, number)
        inputs = collate([{"input_ids": row} for row in rows_BL])
        trainer.training_step(model, trainer._prepare_inputs(inputs))
        trainer.accelerator.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    encoder = encoder_sizes(config)
    counts = make_counts(L, sparse=modern)
    flops = count_row_flops(row_shape(encoder, load("roberta-base-15").decoder, counts)).training
    return step, arguments.rows * flops


def make_counts(row_length: int, sparse: bool):  # type: ignore[no-untyped-def]
    """All positions are seen, and all or 15% of them go through the head."""
    from masklater.masking.counts import Counts

    targets = round(0.15 * (row_length - 2)) if sparse else row_length
    return Counts(row_length, round(0.15 * (row_length - 2)), 0, targets)


def timed(step: Step, number: int, device: torch.device) -> tuple[float, float]:
    """Wall and processor seconds of one step; the latter tell the same where other work shares the cores."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    began, began_cpu = time.perf_counter(), time.process_time()
    step(number)
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began, time.process_time() - began_cpu


def main() -> int:
    """Measure; print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="base")
    parser.add_argument(
        "--peer", action="append", choices=("stock", "stock-bf16", "vanilla", "modernbert"), help="may be repeated"
    )
    parser.add_argument("--rows", type=int, default=8, help="rows a step")
    parser.add_argument("--row-length", type=int, default=128)
    parser.add_argument("--vocabulary", type=int, default=50_265)
    parser.add_argument("--steps", type=int, default=5, help="steps a side, after one to warm up")
    parser.add_argument("--precision", choices=("bfloat16", "float32"), default="bfloat16", help="ours")
    parser.add_argument("--compile-stock", action="store_true", help="torch.compile on the stock side")
    arguments = parser.parse_args()
    keep_large_buffers()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    precision = Precision(arguments.precision, "the command line says so", device)
    hardware = this_hardware(device, arguments.precision)
    name, vanilla_name = SIZES[arguments.size]
    recipe = load(name)
    vanilla = load(vanilla_name, AS_USUAL)
    print(
        f"{arguments.size}: {arguments.rows} rows of {arguments.row_length} a step, vocabulary "
        f"{arguments.vocabulary:,}; {hardware.name}, peak {hardware.peak_flops_per_second / 1e12:.3g} TFLOP/s "
        f"({hardware.source})"
    )
    print(
        f"{'peer':<12}{'3ML s':>9}{'peer s':>9}{'ratio':>8}{'of CPU s':>9}{'FLOPs':>8}{'peak share':>12}"
        f"{'3ML GB':>9}{'peer GB':>9}"
    )
    for peer in arguments.peer or ("vanilla", "stock", "stock-bf16", "modernbert"):
        sides = [
            ours(recipe, arguments, precision),
            ours(vanilla, arguments, precision)
            if peer == "vanilla"
            else stock(recipe, arguments, bf16=peer != "stock", modern=peer == "modernbert"),
        ]
        seconds: list[list[tuple[float, float]]] = [[], []]
        peaks = [0, 0]
        for number in range(arguments.steps + 1):
            for side, (step, _) in enumerate(sides):
                if device.type == "cuda":
                    torch.cuda.reset_peak_memory_stats()
                seconds[side].append(timed(step, number, device))
                if device.type == "cuda":
                    peaks[side] = torch.cuda.max_memory_allocated()
        medians = [statistics.median(wall for wall, _ in of_side[1:]) for of_side in seconds]
        cpu = [statistics.median(cpu for _, cpu in of_side[1:]) for of_side in seconds]
        share = sides[0][1] / medians[0] / hardware.peak_flops_per_second
        memory = "".join(f"{peak / 1e9:>9.2f}" if peak else f"{'':>9}" for peak in peaks)
        print(
            f"{peer:<12}{medians[0]:>9.3f}{medians[1]:>9.3f}{medians[0] / medians[1]:>8.3f}{cpu[0] / cpu[1]:>9.3f}"
            f"{sides[0][1] / sides[1][1]:>8.3f}{share:>12.1%}{memory}",
            flush=True,
        )
        del sides
    return 0


if __name__ == "__main__":
    sys.exit(main())
