"""One training step of 3ML against the alternatives of users, each side in a separate process, in turns.

    python benchmarks/step.py --size base                  # all peers
    python benchmarks/step.py --size large --peer vanilla --rows 4

Peers: `stock`, transformers' Trainer with RobertaForMaskedLM and DataCollatorForLanguageModeling(0.15) in float32, as
in its own example; `stock-bf16`, the same under bfloat16 autocast; `vanilla`, our own vanilla MLM at 15% with every
optimisation; `modernbert`, transformers' ModernBERT with sparse prediction. Each line shows the median step of both
sides in seconds, their ratio, the ratio of their processor seconds (comparable even where other work shares the cores),
the ratio of the FLOPs that both execute, and the share of the measured peak rate that ours reaches. Then it shows the
peak memory of both and its ratio: the GPU's, or the process's minus its memory before the model was built. Masking is
part of a step on both sides; reading rows from disk is not.
"""

import argparse
import statistics
import sys

import torch
from arguments import at_least_one, exit_status
from sides import Side
from wanted import PEERS, RECIPES, Wanted

from masklater.machine.hardware import Hardware
from masklater.machine.peak import this_hardware

HEADER = (
    f"{'peer':<12}{'3ML s':>9}{'peer s':>9}{'ratio':>8}{'of CPU s':>10}{'of FLOPs':>10}{'peak share':>12}"
    f"{'3ML GB':>9}{'peer GB':>9}{'ratio':>8}"
)


def compare(peer: str, wanted: Wanted, steps: int, hardware: Hardware) -> str:
    """Return the line of one peer. No other process of the benchmark may run meanwhile."""
    sides = [Side("3ml", wanted), Side(peer, wanted)]
    flops = [side.wait() for side in sides]
    for side in sides:
        side.step(0)  # to warm up
    seconds = [[side.step(number) for side in sides] for number in range(1, steps + 1)]
    memory = [side.end() / 1e9 for side in sides]
    wall = [statistics.median(of_turn[i].wall for of_turn in seconds) for i in range(2)]
    processor = [statistics.median(of_turn[i].processor for of_turn in seconds) for i in range(2)]
    share = flops[0] / wall[0] / hardware.peak_flops_per_second
    return (
        f"{peer:<12}{wall[0]:>9.3f}{wall[1]:>9.3f}{wall[0] / wall[1]:>8.3f}{processor[0] / processor[1]:>10.3f}"
        f"{flops[0] / flops[1]:>10.3f}{share:>12.1%}"
        f"{memory[0]:>9.2f}{memory[1]:>9.2f}{memory[0] / memory[1]:>8.3f}"
    )


def run(given: argparse.Namespace) -> None:
    """Print a line for each peer."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    hardware = this_hardware(device, given.precision)
    wanted = Wanted(given.size, given.rows, given.row_length, given.vocabulary, given.precision, given.compile_stock)
    print(
        f"{given.size}: {given.rows} rows of {given.row_length} a step, vocabulary {given.vocabulary:,}; "
        f"{hardware.name}, peak {hardware.peak_flops_per_second / 1e12:.3g} TFLOP/s ({hardware.source})"
    )
    print(HEADER)
    for peer in given.peer or PEERS:
        print(compare(peer, wanted, given.steps, hardware), flush=True)


def main() -> int:
    """Measure; print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=RECIPES, default="base")
    parser.add_argument("--peer", action="append", choices=PEERS, help="may be repeated")
    parser.add_argument("--rows", type=at_least_one, default=8, help="rows a step")
    parser.add_argument("--row-length", type=at_least_one, default=128)
    parser.add_argument("--vocabulary", type=at_least_one, default=50_265)
    parser.add_argument("--steps", type=at_least_one, default=5, help="steps a side, after one to warm up")
    parser.add_argument("--precision", choices=("bfloat16", "float32"), default="bfloat16", help="ours")
    parser.add_argument("--compile-stock", action="store_true", help="torch.compile on the stock side")
    given = parser.parse_args()
    return exit_status(lambda: run(given))


if __name__ == "__main__":
    sys.exit(main())
