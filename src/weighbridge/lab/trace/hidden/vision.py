"""torchvision's own kernels: what they take on the way.

nms   boxes in the order of their scores, and a bit for each pair of them
"""

from weighbridge.lab.trace.hidden.rule import HiddenRule, Op, size
from weighbridge.units import ceil_div

PAIRS = 64  # that one word of 8 bytes has bits for
WORD = 8


def _suppressed(op: Op) -> list[int]:
    """Return the bytes of sorted scores with their indices, sorted boxes, and the mask."""
    boxes, scores = op.args[:2]
    n = boxes.shape[0]
    return [size(scores), n * WORD, size(boxes), n * ceil_div(n, PAIRS) * WORD]


RULES = (
    HiddenRule(
        ops="nms",
        nbytes=_suppressed,
        source="torchvision/csrc/ops/cuda/nms_kernel.cu, nms_kernel",
        when="before",
    ),
)
