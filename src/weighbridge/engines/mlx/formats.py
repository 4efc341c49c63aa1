"""Formats of weights that mlx-lm reads, by release.

Its own are an object `quantization` of the config. Others it turns into its own, or into 16 bits,
while it loads.

Source: wheels of mlx-lm 0.22 to 0.32.2, utils.py (load_model, _transform_awq_weights,
_compressed_tensors_quantization) and models/*.py (sanitize). GPTQ's indices of groups, which its
checkpoints have, are refused there.
"""

from weighbridge.engines.weight_formats import FLOAT8, Reads

SANITIZED = "models/deepseek_v3.py, minimax.py, ministral3.py... (sanitize)"

READS: tuple[Reads, ...] = (
    Reads(r"mlx-\dbit-g.*", "utils.py (load_model)"),
    Reads(r"mlx-mxfp4", "utils.py (mode)", since=(0, 27)),
    Reads(r"mlx-(mxfp8|nvfp4)", "utils.py (mode); mlx 0.30 ops.cpp", since=(0, 30)),
    Reads("mxfp4", "utils.py (load_model)", since=(0, 27), methods="mxfp4", how="unpacked"),
    Reads(
        r"w4a16-g32|mxfp4|nvfp4",
        "utils.py (_compressed_tensors_quantization)",
        since=(0, 30),
        methods="compressed-tensors",
        how="unpacked",
    ),
    Reads(r"awq-4bit(-g.*)?", "utils.py (_transform_awq_weights)", since=(0, 30), how="unpacked"),
    Reads("nvfp4", "utils.py (load_model)", since=(0, 32), methods="modelopt", how="unpacked"),
    Reads(FLOAT8, SANITIZED, methods="fp8", how="unpacked"),
    Reads("mxfp8", "utils.py (load_model)", since=(0, 32), how="unpacked"),
    Reads("bitnet", "utils.py (load_model)", since=(0, 26), how="unpacked"),
)
