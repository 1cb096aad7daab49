"""This machine: versions, processor, memory, devices, and whether they compute."""

import os
import platform
from importlib import metadata

import torch
from packaging.requirements import Requirement

import masklater
from masklater.corpus.settings import available_cores
from masklater.doctor.examination import Examination
from masklater.machine.device import all_devices, processor_name
from masklater.machine.precision import choose_precision

THREADS = "OMP_NUM_THREADS"


def look_at_machine(found: Examination) -> None:
    """Record the facts that a bug report needs, and problems that would stop anything from running."""
    found.facts["masklater"] = masklater.__version__
    found.facts["Python"] = f"{platform.python_version()} ({platform.python_implementation()})"
    found.facts["system"] = platform.platform()
    _look_at_packages(found)
    cores = available_cores()
    threads = torch.get_num_threads()
    found.facts["processor"] = f"{processor_name()}, {cores} cores for this process"
    found.facts["threads"] = f"{threads} ({THREADS} is {os.environ.get(THREADS, 'not set')})"
    if threads > cores:
        found.notes.append(f"{threads} threads on {cores} cores wait for each other: set {THREADS}={cores}")
    found.facts["memory"] = f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:,.1f} GiB"
    for device in all_devices():
        _look_at_device(device, found)


def _look_at_packages(found: Examination) -> None:
    """Compare the versions of masklater's dependencies with the ranges that it states."""
    versions = []
    try:
        stated = metadata.requires("masklater") or []
    except metadata.PackageNotFoundError:
        stated = []
        found.notes.append("masklater runs from its source and is not installed: what it needs is not looked for")
    for line in stated:
        needed = Requirement(line)
        if needed.marker is not None and not needed.marker.evaluate({"extra": ""}):
            continue
        try:
            version = metadata.version(needed.name)
        except metadata.PackageNotFoundError:
            found.problem(f"{needed.name} is not installed; masklater needs {needed}", f"pip install '{needed}'")
            continue
        versions.append(f"{needed.name} {version}")
        if not needed.specifier.contains(version, prereleases=True):
            found.problem(f"{needed.name} is {version}; masklater needs {needed}", f"pip install '{needed}'")
    found.facts["packages"] = ", ".join(versions)


def _look_at_device(device: torch.device, found: Examination) -> None:
    precision = choose_precision("auto", device)
    name = "device" if device.index is None else f"device {device.index}"
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        free, total = torch.cuda.mem_get_info(device)
        what = f"{properties.name}, CUDA {torch.version.cuda}, {free / 2**30:,.1f} of {total / 2**30:,.1f} GiB free"
    else:
        what = "the CPU" + (f" (torch is built for CUDA {torch.version.cuda})" if torch.version.cuda else "")
        if torch.version.cuda:
            found.notes.append("torch is built for GPUs and sees none: training would run on the CPU")
    found.facts[name] = f"{what}; {precision.name}: {precision.reason}"
    if not _computes(device, precision.dtype):
        found.problem(
            f"{name} ({what}) does not multiply matrices in {precision.name} as it must",
            "Try another device, or precision=float32; report a GPU that miscalculates to whoever runs it.",
        )


def _computes(device: torch.device, dtype: torch.dtype) -> bool:
    """Return whether a product of small whole numbers, which every precision holds exactly, is right."""
    rows = torch.arange(64).reshape(8, 8) % 5
    try:
        product = rows.to(device, dtype) @ rows.T.to(device, dtype)
    except RuntimeError:
        return False
    return bool((product.cpu().long() == rows @ rows.T).all())
