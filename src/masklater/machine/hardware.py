"""The peak rates of accelerators: dense matrix products in 16 bits with float32 sums, memory and board power.

Rates are for bfloat16, or for float16 where a GPU lacks bfloat16. They come from the makers' data sheets; figures with
sparsity are halved. A GPU is found by torch's name for the device.
"""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Hardware:
    """One accelerator, or this machine."""

    name: str
    peak_flops_per_second: float
    memory_bytes: float | None
    watts: float | None
    source: str


def _gpu(name: str, teraflops: float, gigabytes: float, watts: float, source: str) -> Hardware:
    return Hardware(name, teraflops * 1e12, gigabytes * 1e9, watts, source)


GPUS: dict[str, Hardware] = {
    "b200": _gpu("NVIDIA B200", 2250, 180, 1000, "NVIDIA Blackwell data sheet, HGX B200"),
    "h200": _gpu("NVIDIA H200 SXM", 989, 141, 700, "NVIDIA H200 data sheet"),
    "h100": _gpu("NVIDIA H100 SXM", 989, 80, 700, "NVIDIA H100 data sheet"),
    "h100-pcie": _gpu("NVIDIA H100 PCIe", 756, 80, 350, "NVIDIA H100 data sheet"),
    "a100": _gpu("NVIDIA A100 SXM 80 GB", 312, 80, 400, "NVIDIA A100 data sheet"),
    "a100-40": _gpu("NVIDIA A100 SXM 40 GB", 312, 40, 400, "NVIDIA A100 data sheet"),
    "l40s": _gpu("NVIDIA L40S", 362, 48, 350, "NVIDIA L40S data sheet"),
    "l4": _gpu("NVIDIA L4", 121, 24, 72, "NVIDIA L4 data sheet"),
    "a10": _gpu("NVIDIA A10", 125, 24, 150, "NVIDIA A10 data sheet"),
    "a6000": _gpu("NVIDIA RTX A6000", 155, 48, 300, "NVIDIA Ampere GA102 white paper"),
    "rtx4090": _gpu("NVIDIA RTX 4090", 165, 24, 450, "NVIDIA Ada white paper, float32 sums"),
    "v100": _gpu("NVIDIA V100 SXM2 16 GB", 125, 16, 300, "NVIDIA V100 data sheet"),
    "v100-32": _gpu("NVIDIA V100 SXM2 32 GB", 125, 32, 300, "NVIDIA V100 data sheet"),
    "t4": _gpu("NVIDIA T4", 65, 16, 70, "NVIDIA T4 data sheet"),
    "rtx3090": _gpu("NVIDIA RTX 3090", 71, 24, 350, "NVIDIA Ampere GA102 white paper, float32 sums"),
}

_PATTERNS = {
    "B200": "b200", "H200": "h200", "H100 PCIe": "h100-pcie", "H100": "h100", "A100-SXM4-40GB": "a100-40",
    "A100": "a100", "L40S": "l40s", "L4": "l4", "A10": "a10", "RTX A6000": "a6000", "RTX 4090": "rtx4090",
    "RTX 3090": "rtx3090", "V100-SXM2-32GB": "v100-32", "V100-SXM2": "v100", "T4": "t4",
}  # fmt: skip
"""Parts of drivers' names, the more specific first. A longer word (GH200, A10G) names another GPU."""

_ANOTHER = re.compile(r"\b(D|Laptop|Max-Q|MIG|NVL|SUPER|Ti)\b")
"""Words that mark another card of the same kind, slower or faster, or a slice of a card (MIG)."""


def find_gpu(device_name: str) -> Hardware | None:
    """Return the data sheet of a device by its driver's name for it; None where it is not in the table."""
    if _ANOTHER.search(device_name):
        return None
    for part, key in _PATTERNS.items():
        if re.search(rf"\b{part}\b", device_name):
            return GPUS[key]
    return None
