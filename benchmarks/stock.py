"""A training step the stock way: transformers' Trainer with its own masked LMs, 15% masked."""

import tempfile

import torch
from ours import BOS, EOS, PAD, made_up_tokenizer, random_rows
from transformers import (
    AutoConfig,
    AutoModelForMaskedLM,
    DataCollatorForLanguageModeling,
    Trainer,
    TrainingArguments,
)
from wanted import RECIPES, Step, Wanted

from masklater.budget.cost import row_flops
from masklater.budget.sizes import encoder_sizes
from masklater.masking.counts import Counts
from masklater.recipe.load import load
from masklater.recipe.sections import DecoderSettings


def stock_step(name: str, wanted: Wanted) -> tuple[Step, float]:
    """Make a step of one of STOCK; return it and its FLOPs: with RoBERTa, every position passes through the LM head."""
    L, V, sizes = wanted.row_length, wanted.vocabulary, load(RECIPES[wanted.size][0]).model
    modern = name == "modernbert"
    config = AutoConfig.for_model(
        "modernbert" if modern else "roberta", vocab_size=V, hidden_size=sizes.hidden_size,
        num_hidden_layers=sizes.num_hidden_layers, num_attention_heads=sizes.num_attention_heads,
        intermediate_size=(sizes.intermediate_size or 0) * (2 if modern else 3) // 3, max_position_embeddings=L + 2,
        pad_token_id=PAD, bos_token_id=BOS, eos_token_id=EOS, type_vocab_size=1,
        **({"sparse_prediction": True, "cls_token_id": BOS, "sep_token_id": EOS} if modern else {}),
    )  # fmt: skip
    collate = DataCollatorForLanguageModeling(made_up_tokenizer(V), mlm_probability=0.15)
    trainer = Trainer(
        AutoModelForMaskedLM.from_config(config),
        TrainingArguments(
            output_dir=tempfile.gettempdir(),  # required; nothing is saved in it
            per_device_train_batch_size=wanted.rows, bf16=name != "stock", report_to="none",
            use_cpu=not torch.cuda.is_available(), max_steps=1000, torch_compile=wanted.compile_stock,
        ),
        train_dataset=[{"input_ids": [0]}],
    )  # fmt: skip
    trainer.create_optimizer_and_scheduler(1000)
    model, optimizer = trainer.accelerator.prepare(trainer.model, trainer.optimizer)
    model.train()
    trainer.current_gradient_accumulation_steps = 1  # what Trainer.train sets before its first step

    def step(number: int) -> None:
        rows_BL = random_rows(wanted.rows, L, V, number)
        inputs = collate([{"input_ids": row} for row in rows_BL])
        trainer.training_step(model, trainer._prepare_inputs(inputs))
        trainer.accelerator.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    masked = round(0.15 * (L - 2))
    counts = Counts(L, masked, dropped=0, targets=masked if modern else L)
    return step, wanted.rows * row_flops(encoder_sizes(config), DecoderSettings(kind="none"), counts).training
