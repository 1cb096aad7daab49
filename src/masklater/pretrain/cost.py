"""What a step of a run spends, known before it is made."""

from masklater.budget.flops import RowFlops, RowShape, count_row_flops
from masklater.budget.ledger import Ledger
from masklater.masking.corrupt import Corruption
from masklater.model.config import MaskLaterConfig
from masklater.model.encoder import GATED


def row_flops(config: MaskLaterConfig, corruption: Corruption) -> RowFlops:
    """FLOPs of one row."""
    encoder = config.encoder
    return count_row_flops(
        RowShape(
            seen=corruption.row_length - corruption.num_dropped,
            row_length=corruption.row_length,
            targets=corruption.num_targets,
            width=encoder.hidden_size,
            feed_forward=encoder.intermediate_size,
            vocabulary=encoder.vocab_size,
            encoder_layers=encoder.num_hidden_layers,
            decoder=config.decoder_kind,
            decoder_layers=config.num_decoder_layers,
            decoder_width=config.decoder_width,
            enter_layer=config.enter_layer,
            embedding_width=getattr(encoder, "embedding_size", None),
            gated=encoder.model_type in GATED,
        )
    )


def step_cost(rows: int, config: MaskLaterConfig, corruption: Corruption) -> Ledger:
    """What one step of so many rows spends; its seconds are not known beforehand."""
    flops = rows * row_flops(config, corruption).training
    return Ledger(steps=1, rows=rows, tokens=rows * corruption.row_length, flops=float(flops))
