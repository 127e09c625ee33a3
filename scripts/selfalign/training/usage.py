"""What a training used of its machine: memory, and the part of a GPU's arithmetic that it turned into training."""

import re
import resource

import torch

# Dense bfloat16 and float32 (no TF32) operations per second, 10^12, from NVIDIA's data sheets. Whole words are
# looked for in torch.cuda.get_device_name(), so that an RTX A4000 is no A40; the first that is found counts.
PEAKS = (
    ("H200 NVL", 835.5, 60.0),
    ("H200", 989.4, 67.0),
    ("H100 PCIe", 756.0, 51.0),
    ("H100 NVL", 835.5, 60.0),
    ("H100", 989.4, 67.0),
    ("A100", 312.0, 19.5),
    ("A10G", 70.0, 31.5),
    ("A10", 125.0, 31.2),
    ("A30", 165.0, 10.3),
    ("A40", 149.7, 37.4),
    ("L40S", 362.0, 91.6),
    ("L40", 181.0, 90.5),
    ("L4", 121.0, 30.3),
)


def peak_flops(name: str, dtype: str) -> float | None:
    """Return the operations per second that a GPU of this name can do at most; None where we do not know."""
    for known, half, single in PEAKS:
        if re.search(rf"\b{known}\b", name):
            return (single if dtype == "float32" else half) * 1e12
    return None


def model_flops_utilization(parameters: int, tokens_per_s: float, peak: float | None) -> float | None:
    """Return 6 x parameters x tokens per second (forward and backward pass of one GPU) as a fraction of its peak."""
    return round(6 * parameters * tokens_per_s / peak, 4) if peak else None


def peak_memory_mb() -> int:
    """Return the most memory that this process held, MiB: of its GPU, or without one of the machine."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() >> 20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


def usage(*, parameters: int, tokens: int, seconds: float, dtype: str, processes: int) -> dict:
    """Return the entries of training_stats.json on speed, memory and use of the GPU."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    speed = tokens / seconds if seconds else 0.0
    return {
        "device": device,
        "processes": processes,
        "tokens_per_s": round(speed, 1),
        "peak_memory_mb": peak_memory_mb(),
        "mfu": model_flops_utilization(parameters, speed / processes, peak_flops(device, dtype)),
    }
