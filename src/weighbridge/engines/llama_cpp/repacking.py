"""Rows that are packed for processors: in the file (_R4, _R8), or by ik_llama.cpp's -rtr.

    -rtr            after loading, every matrix in host memory whose type has a partner and whose
                    rows are a multiple of 4, 8 or 16; its bytes stay the same. No file is mapped
    a GPU           multiplies those of `PRODUCTS` from their build on. No other one: the operation
                    stays on the host at any batch, and its weight is copied to no compute buffer

Source: ik_llama.cpp 8337e4cd3 ggml/src/iqk/iqk_quantize.cpp (get_repack_info, iqk_repacked_type),
src/llama.cpp (llm_load_tensors), ggml/src/ggml-cuda.cu (ggml_backend_cuda_supports_op).
"""

from collections.abc import Mapping

PACKED = ("_R4", "_R8", "_R16")
_FOUR = "IQ2_K IQ3_K IQ4_K IQ5_K IQ4_KS IQ5_KS IQ4_NL IQ2_BN IQ2_XXS IQ2_XS IQ2_S IQ3_XXS IQ3_S"
_MORE = "Q2_K Q3_K Q4_K Q5_K Q6_K Q5_0 Q6_0"
_EIGHT = "IQ4_XS Q4_0 Q8_0 Q8_K Q8_KV MXFP4"
# BF16 and F16 only with AVX512-BF16, which is not assumed
ROWS: Mapping[str, int] = {
    **dict.fromkeys((*_FOUR.split(), *_MORE.split()), 4),
    **dict.fromkeys(_EIGHT.split(), 8),
}
PRODUCTS: Mapping[int, str] = {  # build -> types
    3714: "IQ2_K_R4 IQ3_K_R4 IQ4_K_R4 IQ5_K_R4 IQ4_KS_R4 IQ5_KS_R4",  # #461, 26 May 2025
    3726: "IQ1_S_R4 IQ1_M_R4",  # #492, 5 June 2025
}


def repacked(name: str, rows: int) -> str:
    """The type that -rtr makes of a host's matrix."""
    width = ROWS.get(name)
    return f"{name}_R{width}" if width and rows % width == 0 else name


def products(build: int) -> frozenset[str]:
    """Packed types that a GPU multiplies."""
    return frozenset(
        name for since, names in PRODUCTS.items() if build >= since for name in names.split()
    )
