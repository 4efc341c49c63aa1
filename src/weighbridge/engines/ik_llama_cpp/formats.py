"""Formats of weights that ik_llama.cpp reads: those of llama.cpp of August 2024, and its own.

Source: ggml/include/ggml.h at 8337e4cd3 (build 4840), which has no ternary types and no Q2_0;
MXFP4 since e23b2a7cc (pull request 682). Its converter reads plain checkpoints; what llama.cpp's
unpacks is a file for both.
"""

from weighbridge.engines.llama_cpp.formats import CONVERTED, TYPES
from weighbridge.engines.weight_formats import Reads

READS: tuple[Reads, ...] = (
    TYPES,
    Reads("MXFP4_MOE", "ggml.h; pull request 682", since=(3834,)),
    *CONVERTED,
)
