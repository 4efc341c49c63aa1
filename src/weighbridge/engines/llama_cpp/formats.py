"""Formats of weights that llama.cpp reads: types of GGUF, and what its converter unpacks.

Source: ggml/include/ggml.h (ggml_type) of builds vendored in llama-cpp-python 0.3.9 to 0.3.36;
conversion/base.py (dequant_model) of 2026 and conversion/gpt_oss.py. A checkpoint in another packed
format cannot be converted: "Quant method is not yet supported". MXFP4 came with pull request 15091
(5 August 2025, b6096); Q2_0 in the summer of 2026 (its kernels for CUDA are pull request 25707),
of which builds before June are taken to have nothing.
"""

from weighbridge.engines.weight_formats import FILE, FLOAT8, Reads

CONVERTER = "conversion/base.py (dequant_model)"
LATER = "MXFP4_MOE|TQ[12]_0|Q2_0"  # types that were added one by one

TYPES = Reads(rf"(?!({LATER})$)(F32|B?F16|I?Q\d.*)|{FILE}", "ggml.h")
TERNARY = Reads(r"TQ[12]_0", "ggml.h")  # pull request 8151, September 2024: before all of ours
CONVERTED: tuple[Reads, ...] = (
    Reads(FLOAT8, CONVERTER, methods="fp8|compressed-tensors|modelopt", how="unpacked"),
    Reads(r"gptq-[248]bit(-g.*)?", CONVERTER, how="unpacked"),
    Reads(r"w[2-8]a16-g.*|w8a8-int8", CONVERTER, how="unpacked"),
    Reads("nvfp4", f"{CONVERTER}, _repack_nvfp4", methods="modelopt", how="unpacked"),
    Reads("mxfp4", "conversion/gpt_oss.py, conversion/deepseek.py", how="unpacked"),
    Reads("bitnet", CONVERTER, how="unpacked"),
)
READS: tuple[Reads, ...] = (
    TYPES,
    TERNARY,
    Reads("MXFP4_MOE", "ggml.h; pull request 15091", since=(6096,)),
    Reads("Q2_0", "ggml.h; pull request 25707", since=(9512,)),
    *CONVERTED,
)
