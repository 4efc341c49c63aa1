"""Text layers of Qwen2-VL, Qwen2.5-VL and Qwen3-VL: Qwen2's and Qwen3's, with positions of time,
height and width.

Source: transformers 5.23 models/qwen2_5_vl/modeling_qwen2_5_vl.py,
models/qwen3_vl/modeling_qwen3_vl.py.
"""

from weighbridge.autograd.tensors import Tensor
from weighbridge.training.nets import decoder
from weighbridge.training.nets.sparse import grids
from weighbridge.training.step import Step


def forward(s: Step) -> Tensor:
    """Qwen2_5_VLTextModel.forward, Qwen3VLTextModel.forward; of images, what joins it is in
    towers.py."""
    return decoder.forward(s, rotary=grids)
