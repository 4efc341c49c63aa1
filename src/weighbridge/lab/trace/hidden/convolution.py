"""cuDNN convolutions, which rearrange what they read (kernels/convolution.py)."""

import torch

from weighbridge.kernels.convolution import tensor_cores, workspace
from weighbridge.lab.trace.hidden.rule import HALF, HiddenRule, Op, size

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
    half = x.dtype in HALF
    if not half and not (x.dtype == torch.float32 and torch.backends.cudnn.allow_tf32):
        return False
    return tensor_cores(op.card.chip, half=half, float16=x.dtype == torch.float16)


def _own_depthwise(x: torch.Tensor, weight: torch.Tensor, groups: int) -> bool:
    return groups > 1 and groups == x.shape[1] and weight.shape[0] % groups == 0


def _forward(op: Op) -> list[int]:
    x, weight = op.args[:2]
    if not _rearranged(x, weight, op.args[8], op):
        return []
    return [workspace(size(x) + size(weight), size(op.out), half=x.dtype in HALF)]


def _of_input(op: Op) -> list[int]:
    grad, x, weight = op.args[:3]
    if not op.args[10][0] or not _rearranged(x, weight, op.args[9], op):
        return []
    return [workspace(size(grad) + size(weight), size(x), half=x.dtype in HALF)]


def _of_weight(op: Op) -> list[int]:
    grad, x, weight = op.args[:3]
    if not op.args[10][1] or not _rearranged(x, weight, op.args[9], op):
        return []
    return [workspace(size(grad) + size(x), size(weight), half=x.dtype in HALF)]


RULES = (
    HiddenRule(ops="convolution", nbytes=_forward, source=SOURCE),
    HiddenRule(ops="convolution_backward", nbytes=_of_input, source=SOURCE),
    HiddenRule(ops="convolution_backward", nbytes=_of_weight, source=SOURCE),
)
