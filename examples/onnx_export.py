"""Write an exported encoder as ONNX, for programs without PyTorch; run it beside the original, print the difference.

    pip install onnx onnxscript onnxruntime
    python examples/onnx_export.py ENCODER --out encoder.onnx

The file leaves the number of rows and their length open. The tokenizer is the folder's tokenizer.json.
"""

import argparse
from pathlib import Path

import onnxruntime
import torch
from transformers import AutoModel, AutoTokenizer

TEXTS = ["A short one.", "And a longer one beside it, so that the first is padded and has to be masked."]
LARGEST = 1e-3
"""Rounding differs from one runtime to another, but not by so much."""


class HiddenStates(torch.nn.Module):
    """The encoder with positional inputs and one output."""

    def __init__(self, encoder: torch.nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Return the last layer's hidden states, (rows, tokens, width)."""
        return self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state


def main() -> None:
    """Write the file and check it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("encoder")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    if arguments.out.exists():
        parser.error(f"{arguments.out} exists already")
    tokenizer = AutoTokenizer.from_pretrained(arguments.encoder)
    model = HiddenStates(AutoModel.from_pretrained(arguments.encoder, attn_implementation="eager")).eval()
    inputs = tokenizer(TEXTS, padding=True, truncation=True, return_tensors="pt")
    ids_BL, attention_BL = inputs["input_ids"], inputs["attention_mask"]
    rows, length = torch.export.Dim("rows"), torch.export.Dim("tokens", max=min(tokenizer.model_max_length, 2**20))
    torch.onnx.export(
        model,
        (ids_BL, attention_BL),
        arguments.out,
        dynamo=True,
        input_names=["input_ids", "attention_mask"],
        output_names=["last_hidden_state"],
        dynamic_shapes=({0: rows, 1: length}, {0: rows, 1: length}),
        external_data=False,
    )
    session = onnxruntime.InferenceSession(str(arguments.out), providers=["CPUExecutionProvider"])
    largest = 0.0
    for count in (2, 1):  # another number of rows, and another length
        inputs = tokenizer(TEXTS[:count], padding=True, truncation=True, return_tensors="pt")
        with torch.no_grad():
            expected = model(inputs["input_ids"], inputs["attention_mask"])
        (found,) = session.run(None, {name: inputs[name].numpy() for name in ("input_ids", "attention_mask")})
        there = inputs["attention_mask"].bool()
        largest = max(largest, float((torch.from_numpy(found)[there] - expected[there]).abs().max()))
    print(f"{arguments.out}: {arguments.out.stat().st_size:,} bytes, largest difference {largest:.1e}")
    if not largest <= LARGEST:
        raise SystemExit(f"the difference is more than {LARGEST:g}: the file is not the encoder")


if __name__ == "__main__":
    main()
