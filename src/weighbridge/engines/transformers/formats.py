"""Formats of weights that transformers reads, by release.

A quant_method must be in AUTO_QUANTIZER_MAPPING of quantizers/auto.py; one that is not is skipped
with a warning, and the packed tensors do not fit the class. What cards without units for a format
make of it is in hardware.py.

Source: wheels of transformers 4.30 (utils/quantization_config.py), 4.32, 4.35 to 4.57, 5.0 to 5.22
by twos and 5.23. Releases between two of these that differ are taken for the earlier.
"""

from weighbridge.engines.weight_formats import BITSANDBYTES, FILE, FLOAT8, TORCHAO, Reads

COMPRESSED = "quantizer_compressed_tensors.py"

READS: tuple[Reads, ...] = (
    Reads(BITSANDBYTES, "quantizer_bnb_4bit.py, quantizer_bnb_8bit.py"),
    Reads(r"gptq-[2348]bit(-g.*)?", "quantizer_gptq.py", since=(4, 32)),
    Reads(r"awq-4bit(-g.*)?", "quantizer_awq.py", since=(4, 35)),
    Reads(r"quanto-.*", "quantizer_quanto.py", since=(4, 39)),
    Reads(r"hqq-.*", "quantizer_hqq.py", since=(4, 41)),
    Reads("eetq", "quantizer_eetq.py (validate_environment)", since=(4, 41), stacks=("cuda",)),
    Reads("fp8-dynamic", "quantizer_fbgemm_fp8.py", since=(4, 43), methods="fbgemm_fp8"),
    Reads(FLOAT8, COMPRESSED, since=(4, 45), methods="compressed-tensors"),
    Reads(FLOAT8, "quantizer_finegrained_fp8.py", since=(4, 49), methods="fp8"),
    Reads(r"w[2-8]a16(-g.*)?|w8a8-int8", COMPRESSED, since=(4, 45)),
    Reads("mxfp8|nvfp4", COMPRESSED, since=(4, 45), methods="compressed-tensors"),
    Reads(TORCHAO, "quantizer_torchao.py", since=(4, 45)),
    Reads("mxfp4", "quantizer_mxfp4.py", since=(4, 55)),
    # A file is unpacked while it is read; since 5.18 its blocks stay (quantizer_gguf.py), where
    # the `kernels` package is there
    Reads(FILE, "modeling_gguf_pytorch_utils.py", since=(4, 41), how="unpacked"),
    Reads(
        r"F32|B?F16|T?I?Q\d.*|MXFP4_MOE",
        "quantizer_gguf.py",
        since=(5, 18),
        note="before, it unpacks a GGUF file while it reads it: ask in a --dtype",
    ),
    Reads("aqlm", "quantizer_aqlm.py", since=(4, 38)),
    Reads("bitnet", "quantizer_bitnet.py", since=(4, 46)),
    Reads("higgs|vptq", "quantizer_higgs.py, quantizer_vptq.py", since=(4, 48)),
    Reads("spqr", "quantizer_spqr.py", since=(4, 49)),
    Reads("quark", "quantizer_quark.py", since=(4, 50)),
    Reads("auto-round", "quantizer_auto_round.py", since=(4, 52)),
    Reads("fp_quant", "quantizer_fp_quant.py", since=(4, 54)),
)
