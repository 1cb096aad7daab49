"""The peak rate that is measured where there is no data sheet."""

from types import SimpleNamespace

import pytest
import torch

from masklater.machine import peak
from masklater.machine.hardware import GPUS


def test_the_first_product_loads_the_library_and_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes half a second here, and each other one a millisecond."""
    now, products = 0.0, 0

    class Matrix:
        def __matmul__(self, other: "Matrix") -> None:
            nonlocal now, products
            products += 1
            now += 0.5 if products == 1 else 1e-3

    monkeypatch.setattr(torch, "randn", lambda *_, **__: Matrix())
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(peak, "time", SimpleNamespace(perf_counter=lambda: now))
    rate = peak._measure.__wrapped__("cuda", "float16")
    assert rate == pytest.approx(2 * peak.SIZE["cuda"] ** 3 / 1e-3)


def test_a_gpu_is_measured_in_what_a_run_computes_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA GeForce RTX 2080 Ti")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=11e9))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    monkeypatch.setattr(peak, "_measure", lambda device, precision: 1e12)
    assert peak.measure_this().source == "float16 matmul measured here"


def test_memory_is_that_of_the_gpu_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA A100-PCIE-40GB")
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=42_400_000_000)
    )
    found = peak.this_hardware(torch.device("cuda"), "bfloat16")
    assert (found.peak_flops_per_second, found.memory_bytes) == (GPUS["a100"].peak_flops_per_second, 42.4e9)
