"""cuDNN convolutions: tensor cores want the channels last, so what is not is rearranged.

    float32 (TF32)   inputs of the product + 512 bytes
    half types       inputs and output + 512

of which each direction has its own: x, w -> y; dy, w -> dx; x, dy -> dw. Nothing for channels-last
tensors, depthwise kernels of torch's own, and cards without tensor cores for the type. Fits six
published measurements to the byte (cuDNN 9.10 to 9.20, RTX 3090 Ti and RTX PRO 5000).
"""

import torch

from weighbridge.trace.hidden.rule import HALF, Op, Rule, size

TAIL = 512
LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
SOURCE = "published workspaces of cuDNN 9.10 to 9.20 engines; algorithm choice is cuDNN's"


def _rearranged(x: torch.Tensor, weight: torch.Tensor, groups: int, op: Op) -> bool:
    if not torch.backends.cudnn.enabled or _own_depthwise(x, weight, groups):
        return False
    form = LAST.get(x.dim())
    if form is not None and (
        x.is_contiguous(memory_format=form) or weight.is_contiguous(memory_format=form)
    ):
        return bool(x.shape[1] == 1)  # both layouts at once: nothing is known
    major = op.card.capability[0]
    if x.dtype in HALF:
        return major >= 8 or (major == 7 and x.dtype == torch.float16)
    return major >= 8 and x.dtype == torch.float32 and torch.backends.cudnn.allow_tf32


def _own_depthwise(x: torch.Tensor, weight: torch.Tensor, groups: int) -> bool:
    return groups > 1 and groups == x.shape[1] and weight.shape[0] % groups == 0


def _taken(inputs: int, output: int, dtype: torch.dtype) -> int:
    return inputs + (output if dtype in HALF else 0) + TAIL


def _forward(op: Op) -> list[int]:
    x, weight = op.args[:2]
    if not _rearranged(x, weight, op.args[8], op):
        return []
    return [_taken(size(x) + size(weight), size(op.out), x.dtype)]


def _of_input(op: Op) -> list[int]:
    grad, x, weight = op.args[:3]
    if not op.args[10][0] or not _rearranged(x, weight, op.args[9], op):
        return []
    return [_taken(size(grad) + size(weight), size(x), x.dtype)]


def _of_weight(op: Op) -> list[int]:
    grad, x, weight = op.args[:3]
    if not op.args[10][1] or not _rearranged(x, weight, op.args[9], op):
        return []
    return [_taken(size(grad) + size(x), size(weight), x.dtype)]


RULES = (
    Rule(ops="convolution", nbytes=_forward, source=SOURCE),
    Rule(ops="convolution_backward", nbytes=_of_input, source=SOURCE),
    Rule(ops="convolution_backward", nbytes=_of_weight, source=SOURCE),
)
