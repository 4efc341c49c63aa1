"""Formats of weights that vLLM reads, by release and card.

A checkpoint's quant_method must be in QUANTIZATION_METHODS of layers/quantization/__init__.py, and
the card must have what get_min_capability of its class and of its scheme asks for. bitsandbytes
and GGUF have left for plug-ins, which are not in our rules; HQQ and AQLM are gone.

Source: wheels of vllm 0.9.0, 0.9.2, 0.10.0, 0.10.1.1, 0.10.2, 0.11 to 0.30 and 0.33, vllm/
model_executor/layers/quantization/, and what a row names beside. Releases between two of these
that differ are taken for the earlier.
"""

from weighbridge.engines.weight_formats import BITSANDBYTES, FILE, FLOAT8, TORCHAO, Reads

PLUGIN = "since then a plug-in, {}, does, which is not in our rules"
OTHERS = "(?!modelopt).*"
MIXTURES = "deepseek_v4(_fp8)?|fp8"  # how a config names float8 with experts in four bits

READS: tuple[Reads, ...] = (
    Reads(
        BITSANDBYTES,
        "bitsandbytes.py; pull request 43529",
        until=(0, 28),
        least=(7, 0),
        note=PLUGIN.format("vllm-bnb-plugin"),
    ),
    Reads("bitsandbytes", "the same, as --quantization has it", until=(0, 28), least=(7, 0)),
    # 2 and 3 bits are exllama's alone, which left with gptq.py
    Reads(r"gptq-[2348]bit(-g.*)?", "gptq.py", until=(0, 22), least=(6, 0)),
    Reads(
        r"gptq-[48]bit(-g.*)?",
        "auto_gptq.py (TYPE_MAP), utils/marlin_utils.py (verify_marlin_supported)",
        since=(0, 22),
        least=(7, 5),
    ),
    Reads(r"awq-4bit(-g.*)?", "awq.py, auto_awq.py", least=(7, 5)),
    # Below 8.9 Marlin's kernels unpack as they multiply (utils/marlin_utils_fp8.py)
    Reads(FLOAT8, "fp8.py", until=(0, 14), least=(8, 0), native=(8, 9), methods=OTHERS),
    Reads(FLOAT8, "fp8.py", since=(0, 14), least=(7, 5), native=(8, 9), methods=OTHERS),
    Reads(FLOAT8, "modelopt.py", until=(0, 27), least=(8, 9), methods="modelopt"),
    Reads(FLOAT8, "modelopt.py", since=(0, 27), least=(8, 0), native=(8, 9), methods="modelopt"),
    Reads("fp8", "fp8.py (--quantization fp8)", least=(7, 5)),
    Reads("ptpc_fp8", "ptpc_fp8.py", until=(0, 19), stacks=("hip",)),
    Reads(
        "fp8_per_tensor|fp8_per_block|int8_per_channel_weight_only",
        "config/quantization.py (_ONLINE_SHORTHANDS)",
        since=(0, 20),
        least=(7, 5),
    ),
    Reads("fp8_per_channel", "the same", since=(0, 24), least=(7, 5)),
    # Marlin's on cards before Hopper: mxfp4.py (get_min_capability)
    Reads("mxfp4", "mxfp4.py", since=(0, 10, 1), least=(8, 0), methods=f"(?!{MIXTURES}).*"),
    Reads(
        "mxfp4",
        "models/deepseek_v4/sparse_mla.py and nvidia/flashinfer_sparse.py "
        "(supports_compute_capability): its attention has no kernel for older cards",
        since=(0, 20),
        least=(9, 0),
        methods=MIXTURES,
    ),
    Reads(
        "nvfp4",
        "compressed_tensors_w4a16_nvfp4.py, compressed_tensors_w4a4_nvfp4.py",
        until=(0, 16),
        least=(8, 0),
        native=(10, 0),
    ),
    Reads("nvfp4", "the same", since=(0, 16), least=(7, 5), native=(10, 0)),
    Reads("mxfp8", "compressed_tensors_w8a8_mxfp8.py", since=(0, 20), least=(7, 5), native=(10, 0)),
    Reads(r"w[48]a16(-g.*)?", "compressed_tensors_wNa16.py", until=(0, 12), least=(8, 0)),
    Reads(r"w[48]a16(-g.*)?", "compressed_tensors_wNa16.py", since=(0, 12), least=(7, 5)),
    Reads(
        r"w[235678]a16(-g.*)?",
        "compressed_tensors_wNa16.py (WNA16_SUPPORTED_TYPES_MAP)",
        since=(0, 25),
        least=(7, 5),
    ),
    Reads("w8a8-int8", "compressed_tensors_w8a8_int8.py", least=(7, 5)),
    Reads(r"hqq-4bit-g64", "hqq_marlin.py", until=(0, 15), least=(8, 0), stacks=("cuda",)),
    Reads(TORCHAO, "torchao.py", least=(7, 5)),
    Reads(
        FILE,
        "gguf.py; pull request 39612",
        until=(0, 24),
        least=(6, 0),
        note=PLUGIN.format("vllm-gguf-plugin"),
    ),
    Reads("aqlm", "aqlm.py", until=(0, 10, 1), least=(6, 0)),
    Reads("quark|auto-round|inc", "quark/quark.py, auto_round.py, inc.py", least=(7, 0)),
)
