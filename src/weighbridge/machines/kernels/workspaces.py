"""Workspaces of products and of convolutions on NVIDIA's cards.

cuBLAS has one for each thread that multiplies.

    usual      2 x 4 MiB + 8 x 16 KiB
    large      8 x 4 MiB: compute capability 9, and 10 to 12 since torch 2.11
    kept       from the first product on; from torch 2.14 on allocated for each product
    cuBLASLt   1 MiB for a product with a bias until torch 2.9, kept until 2.12, then shared with
               the workspace of cuBLAS

Source: torch aten/src/ATen/cuda/CublasHandlePool.cpp (parseChosenWorkspaceSize); PRs 145130,
151163, 156495, 168175, 175344, 175879 and 194311.

cuDNN takes one for each direction of a convolution: tensor cores need the channels last, so other
layouts are rearranged.

    float32 (TF32)   inputs of the product + 512 bytes; on Hopper (cuDNN 9.19) the output, too
    half types       inputs and output + 512

The directions are x, w -> y; dy, w -> dx; x, dy -> dw. Nothing for channels-last tensors, depthwise
kernels of torch's own, and cards without tensor cores for the type.

Source: published workspaces of cuDNN 9.10 to 9.20 engines (RTX 3090 Ti, RTX PRO 5000), six of them
to the byte; decodes and encodes on an H100 (torch 2.11); cuDNN chooses the algorithm.
"""

from weighbridge.base.units import KIB, MIB
from weighbridge.machines.accelerators.chips import Chip

Version = tuple[int, ...]  # of torch
USUAL = 2 * 4 * MIB + 8 * 16 * KIB
LARGE = 8 * 4 * MIB
LIGHT = MIB
NEWEST = (2, 13)  # torch release that our rules were read from
BLACKWELL, HOPPER = (10, 11, 12), 9  # major compute capabilities
BLACKWELL_SINCE = (2, 11)
TRANSIENT_SINCE = (2, 14)
LIGHT_KEPT_SINCE = (2, 9)
UNIFIED_SINCE = (2, 12)
TAIL = 512  # bytes of cuDNN in addition to what it rearranges
# cuDNN requests no larger ones: decodes of 16 pictures took none (12 GiB) where those of 8 took
# theirs (6 GiB: diffusers-torchao README, FLUX.1-dev at 1024 x 1024); between them assumed. What
# runs for tensors that 32 bits cannot index was not read: that of 16 took 6.1 GiB more than this
MOST_WORKSPACE = (1 << 33) + TAIL

# Chips and releases of torch on which published programs with convolutions were re-run. On others
# cuDNN chose more than here: a YOLO11n on an RTX 50 took 12 to 30 % more, a DINO with torch 1.7 19
# % (users' own reports, read by us: assumed)
MEASURED_CHIPS = (7, 0), (9, 0)
MEASURED_TORCH = (2, 0)
UNMEASURED = 30  # percent, upwards


def is_measured(capability: tuple[int, int], torch_version: tuple[int, int]) -> bool:
    """Return whether programs with convolutions were measured on such a chip and torch release."""
    first, last = MEASURED_CHIPS
    return first <= capability <= last and torch_version >= MEASURED_TORCH


def product(major: int | None, torch: Version = NEWEST) -> int:
    """Return the bytes of one cuBLAS workspace; `major`: that of the compute capability, None
    without a known card."""
    large = major == HOPPER or (major in BLACKWELL and torch >= BLACKWELL_SINCE)
    return LARGE if large else USUAL


def lasting(torch: Version, chip: Chip) -> list[int]:
    """Return the bytes of the cuBLAS workspace that is kept from the first product on."""
    return [0 if torch >= TRANSIENT_SINCE else product(chip.capability[0], torch)]


def tensor_cores(chip: Chip, *, half: bool, float16: bool) -> bool:
    """Return whether a card has tensor cores for a type, including TF32."""
    return chip.capability >= (8, 0) or (half and float16 and chip.capability >= (7, 0))


def convolution(inputs: int, output: int, *, half: bool, chip: Chip) -> list[int]:
    """Return the bytes that cuDNN rearranges one direction in; `inputs` and `output` are bytes of
    tensors."""
    both = half or chip.capability[0] == HOPPER
    workspace = inputs + (output if both else 0) + TAIL
    return [workspace if workspace <= MOST_WORKSPACE else 0]
