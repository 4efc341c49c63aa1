"""cuDNN convolutions: tensor cores want the channels last, so what is not is rearranged.

    float32 (TF32)   inputs of the product + 512 bytes
    half types       inputs and output + 512

of which each direction has its own: x, w -> y; dy, w -> dx; x, dy -> dw. Nothing for channels-last
tensors, depthwise kernels of torch's own, and cards without tensor cores for the type.

Source: published workspaces of cuDNN 9.10 to 9.20 engines (RTX 3090 Ti, RTX PRO 5000), six of them
to the byte; which algorithm runs is cuDNN's choice.
"""

from weighbridge.accelerators.chips import Chip

TAIL = 512


def tensor_cores(chip: Chip, *, half: bool, float16: bool) -> bool:
    """Tell whether a card has tensor cores for a type, TF32 among them."""
    return chip.capability >= (8, 0) or (half and float16 and chip.capability >= (7, 0))


def workspace(inputs: int, output: int, *, half: bool) -> int:
    """Bytes in which one direction is rearranged; `inputs` and `output` are bytes of tensors."""
    return inputs + (output if half else 0) + TAIL
