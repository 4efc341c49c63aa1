"""How MXFP4 experts lie in memory, which depends on the kernel that multiplies by them.

    Triton on Hopper    F / ranks to 64; values in rows and bytes of 64 (not today's copy of the
                        kernels); scales in rows of 256, beside the file's own until those were
                        dropped; biases in float32
    Marlin              F / ranks to 128, D to 256
    TensorRT-LLM        F / ranks to 128 (to 256 before), D to 256: on Blackwell

Source: vllm 0.33 and 0.19 model_executor/layers/fused_moe/oracle/mxfp4.py
(mxfp4_round_up_hidden_size_and_intermediate_size, TRITON_BACKENDS), third_party/triton_kernels/
tensor_details/layout_details/hopper_{value,scale}.py; sglang 0.5.23 srt/layers/quantization/
mxfp4.py. vLLM's logs on an H100 (0.11 and 0.19, gpt-oss-20b) agree with the first row.
"""

from typing import NamedTuple


class WeightKernel(NamedTuple):
    """Multiples to which sizes are padded, and what is kept."""

    columns: int = 1  # F of a rank
    hidden: int = 1
    value_rows: int = 1
    value_bytes: int = 1
    scale_rows: int = 1
    scale_columns: int = 1
    file_scales: bool = False  # the scales as stored, beside those that the kernel reads
    bias_bytes: int = 2


PLAIN = WeightKernel()
HOPPER = WeightKernel(columns=64, scale_rows=256, scale_columns=2, bias_bytes=4)
MARLIN = WeightKernel(columns=128, hidden=256)
