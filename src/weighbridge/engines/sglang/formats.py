"""Formats of weights that SGLang reads, by release and card.

A checkpoint's quant_method must be in QUANTIZATION_METHODS of srt/layers/quantization/__init__.py,
and the card must have what get_min_capability of its class asks for. `--torchao-config` packed a
model that was there in 16 bits already, and is gone.

Source: wheels of sglang 0.4.0, 0.4.6, 0.4.8, 0.4.9, 0.5.2, 0.5.3, 0.5.5, 0.5.6, 0.5.8 to 0.5.10,
0.5.12, 0.5.14, 0.5.16, 0.5.18, 0.5.20 to 0.5.23, srt/layers/quantization/. Releases between two
of these that differ are taken for the earlier.
"""

from weighbridge.engines.weight_formats import BITSANDBYTES, FILE, FLOAT8, TORCHAO, Reads

READS: tuple[Reads, ...] = (
    # Pull request 12268 took it out, and 15325 of December 2025 brought it back
    Reads(f"{BITSANDBYTES}|bitsandbytes", "bitsandbytes.py", until=(0, 5, 5), least=(7, 0)),
    Reads(f"{BITSANDBYTES}|bitsandbytes", "bitsandbytes.py", since=(0, 5, 7), least=(7, 0)),
    Reads(r"gptq-[2348]bit(-g.*)?", "gptq.py (GPTQConfig)", until=(0, 5, 20), least=(6, 0)),
    Reads(
        r"gptq-[48]bit(-g.*)?", "gptq/gptq.py (GPTQMarlinConfig)", since=(0, 5, 20), least=(8, 0)
    ),
    Reads(r"awq-4bit(-g.*)?", "awq/awq.py", least=(7, 5)),
    Reads(
        f"{FLOAT8}|fp8",
        "fp8.py, w8a8_fp8.py",
        least=(8, 0),
        native=(8, 9),
        methods="(?!fbgemm|modelopt).*",
    ),
    Reads(FLOAT8, "modelopt_quant.py (ModelOptFp8Config)", least=(8, 9), methods="modelopt"),
    Reads(
        "fp8-dynamic",
        "fbgemm_fp8.py",
        until=(0, 5, 16),
        least=(8, 0),
        native=(8, 9),
        methods="fbgemm_fp8",
    ),
    # Before Hopper Triton's kernels: mxfp4.py (_swizzle_mxfp4)
    Reads("mxfp4", "mxfp4.py", since=(0, 5), least=(8, 0), methods="(?!fp8).*"),
    Reads(
        "mxfp4",
        "mxfp4_marlin_moe.py (process_weights_after_loading): Hopper and Blackwell alone",
        since=(0, 5, 12),
        least=(9, 0),
        methods="fp8",
    ),
    Reads("quark_mxfp4", "quark/quark.py", since=(0, 5, 14), stacks=("hip",)),
    Reads("nvfp4", "modelopt_quant.py", since=(0, 4, 6), until=(0, 5, 14), least=(10, 0)),
    Reads(
        "nvfp4",
        "modelopt_quant.py, compressed_tensors_w4a16_nvfp4.py",
        since=(0, 5, 14),
        least=(8, 0),
        native=(10, 0),
    ),
    Reads("nvfp4_online", "nvfp4_online.py", since=(0, 5, 14), least=(10, 0)),
    Reads("mxfp8", "fp8.py (use_mxfp8)", since=(0, 5, 9), least=(10, 0)),
    Reads(r"w[48]a16(-g.*)?", "compressed_tensors_wNa16.py", least=(8, 0)),
    Reads("w8a8-int8", "w8a8_int8.py, compressed_tensors_w8a8_int8.py", least=(7, 5)),
    Reads(
        TORCHAO,
        "srt/layers/torchao_utils.py",
        until=(0, 5, 18),
        least=(7, 5),
        how="made",
        note="by --torchao-config, of a checkpoint in 16 bits",
    ),
    Reads(FILE, "gguf.py", least=(6, 0), stacks=("cuda",)),
    Reads("quark", "quark/quark.py", since=(0, 5, 2), least=(7, 0)),
    Reads("auto-round", "auto_round.py", since=(0, 5, 5), least=(6, 0)),
)
