"""The GPU that is here, and the versions of what runs on it."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version

import torch

from weighbridge.accelerators.names import find
from weighbridge.errors import UnsupportedError, UsageError
from weighbridge.lab.measure.record import MeasuredMachine

INSTEAD = "`weighbridge trace` answers for any GPU of the catalogue without one"
PACKAGES = ("transformers", "accelerate", "peft", "diffusers", "bitsandbytes", "nvidia-ml-py")
SETTINGS = (
    "PYTORCH_ALLOC_CONF",
    "PYTORCH_CUDA_ALLOC_CONF",
    "PYTORCH_NO_CUDA_MEMORY_CACHING",
    "CUBLAS_WORKSPACE_CONFIG",
    "CUBLASLT_WORKSPACE_SIZE",
    "CUDA_MODULE_LOADING",
    "CUDA_VISIBLE_DEVICES",
)
DRIVER = "/proc/driver/nvidia/version"


def machine() -> MeasuredMachine:
    """Describe the machine. Raises UnsupportedError where there is no GPU that torch can use."""
    why = _why_not()
    if why:
        raise UnsupportedError(f"{why}; {INSTEAD}")
    gpu = torch.cuda.get_device_properties(0)
    return MeasuredMachine(
        gpu=gpu.name,
        card=_card(gpu.name),
        capability=f"{gpu.major}.{gpu.minor}",
        total_memory=gpu.total_memory,
        driver=_driver(),
        versions=_versions(),
        settings={name: os.environ[name] for name in SETTINGS if name in os.environ},
    )


def _why_not() -> str:
    if torch.cuda.is_available():
        return ""
    if torch.version.cuda is None and torch.version.hip is None:
        return f"measuring needs a GPU, and torch {torch.__version__} is built without CUDA"
    return f"measuring needs a GPU, and torch {torch.__version__} finds none here (nvidia-smi?)"


def _card(name: str) -> str | None:
    try:
        return find(name).part.id
    except UsageError:
        return None


def _driver() -> str | None:
    try:
        with open(DRIVER, encoding="utf-8") as lines:
            words = lines.readline().split()
    except OSError:
        return None
    return next((word for word in words if word[:1].isdigit() and "." in word), None)


def _versions() -> dict[str, str]:
    versions = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": str(torch.version.cuda or torch.version.hip),
        "cudnn": str(torch.backends.cudnn.version()),
    }
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions
