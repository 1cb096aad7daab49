"""Continue to pre-train an encoder on your text by Mask More and Mask Later, inside transformers' own Trainer.

    python examples/huggingface_trainer.py ENCODER texts.txt --out encoder-on-my-texts

ENCODER is any folder (or name) that `AutoModel` loads. texts.txt has one text a line. To change a script that trains a
masked LM, change only the three places marked (*). transformers' Trainer needs: pip install accelerate
"""

import argparse
from pathlib import Path

from transformers import AutoTokenizer, DataCollatorForLanguageModeling, Trainer, TrainingArguments

from masklater import MaskLaterForMaskedLM  # (*) importing it also registers it with AutoModelForMaskedLM


def main() -> None:
    """Train, and save the plain encoder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("encoder", help="a folder or name that AutoModel loads, with its tokenizer")
    parser.add_argument("texts", type=Path, help="a text file, one text a line")
    parser.add_argument("--out", required=True, help="where the encoder goes")
    parser.add_argument("--row-length", type=int, default=128)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=32, help="rows in a forward pass")
    parser.add_argument("--accumulation", type=int, default=1, help="forward passes a step")
    parser.add_argument("--lr", type=float, default=1e-4)
    arguments = parser.parse_args()

    tokenizer = AutoTokenizer.from_pretrained(arguments.encoder)
    # (*) was: AutoModelForMaskedLM.from_pretrained(...). The decoder is new; weights and LM head are the encoder's own.
    model = MaskLaterForMaskedLM.from_encoder(
        arguments.encoder,
        decoder={"num_layers": 2},
        mask_token_id=tokenizer.mask_token_id,
        row_length=arguments.row_length,
    )
    lines = arguments.texts.read_text(encoding="utf-8").splitlines()
    tokenized = tokenizer([line for line in lines if line.strip()], truncation=True, max_length=arguments.row_length)
    trainer = Trainer(
        model,
        TrainingArguments(
            output_dir=f"{arguments.out}-checkpoints",
            max_steps=arguments.steps,
            per_device_train_batch_size=arguments.batch,
            gradient_accumulation_steps=arguments.accumulation,
            learning_rate=arguments.lr,
            warmup_steps=arguments.steps // 16,
            report_to="none",
        ),
        train_dataset=[{"input_ids": ids} for ids in tokenized["input_ids"]],
        # (*) was: 0.15
        data_collator=DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.5),
    )
    trainer.train()
    model.encoder.save_pretrained(arguments.out)  # what AutoModel loads, with nothing of masklater in it
    tokenizer.save_pretrained(arguments.out)


if __name__ == "__main__":
    main()
