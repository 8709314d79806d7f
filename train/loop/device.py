"""What the device can do: its arithmetic in half precision, its free memory."""

from __future__ import annotations

import psutil
import torch
from distributed.system import MEMORY_LIMIT

from extract.errors import InputError
from train.processes import local_process_count


def require_precision(precision: str, device: torch.device) -> None:
    """
    Raises:
        InputError: the device does not compute in this precision, or only by emulating it, more slowly than in fp32.
    """
    if precision == "fp32" or precision in (known := precisions(device)):
        return
    raise InputError(
        f"precision = {precision}", expected=f"one that {device.type} computes in: {', '.join(known)}", found=precision,
        remedy="Set precision to one of those.",
    )  # fmt: skip


def precisions(device: torch.device) -> list[str]:
    """Names of the precisions that the device has instructions for."""
    known = ["fp32"]
    if device.type == "cuda":
        known += ["bf16"] * torch.cuda.is_bf16_supported(including_emulation=False) + ["fp16"]
    elif device.type == "cpu":
        able = torch.cpu.get_capabilities()
        known += ["bf16"] * bool(able.get("avx512_bf16") or able.get("amx_bf16") or able.get("bf16"))
    elif device.type == "mps":
        known += ["bf16", "fp16"]
    return known


def free_memory(device: torch.device) -> int | None:
    """Bytes that this process can still take: on the GPU, or its share of the RAM within the limits of its container;
    None where that cannot be asked."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    if device.type != "cpu":
        return None
    free = min(psutil.virtual_memory().available, int(MEMORY_LIMIT) - psutil.Process().memory_info().rss)
    return int(free) // local_process_count()
