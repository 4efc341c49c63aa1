"""Storage formats of single tensors: how many bytes hold how many elements.

Sizes come from whole blocks, (elements, bytes), so a size is never a float. Names are torch's;
the spellings of files (safetensors, GGUF) are aliases of the same records.
"""

from weighbridge.base.errors import BadFileError
from weighbridge.base.records import NamedTuple
from weighbridge.base.units import ceil_div


class DType(NamedTuple):
    """A storage format. `block` elements take `nbytes` bytes; they come in whole blocks. Some of
    ik_llama.cpp's have `head` bytes more a row."""

    name: str
    block: int
    nbytes: int
    head: int = 0

    def size(self, count: int) -> int:
        """Return the bytes of `count` elements in one run."""
        block, nbytes = self.block, self.nbytes
        return count * nbytes if block == 1 else ceil_div(count, block) * nbytes

    def rows(self, row: int, count: int) -> int:
        """Return the bytes of `count` elements in rows of `row`."""
        return self.size(count) + self.head * (count // max(1, row))


def _plain(name: str, bits: int) -> DType:
    """Make a dtype of `bits` a value, packed without padding between values."""
    elements = next(n for n in (1, 2, 4, 8) if bits * n % 8 == 0)
    return DType(name, elements, bits * elements // 8)


FLOAT32, FLOAT16, BFLOAT16 = _plain("float32", 32), _plain("float16", 16), _plain("bfloat16", 16)
FLOAT64, BOOL = _plain("float64", 64), _plain("bool", 8)
INT8, UINT8, INT16, INT32, INT64 = (
    _plain("int8", 8),
    _plain("uint8", 8),
    _plain("int16", 16),
    _plain("int32", 32),
    _plain("int64", 64),
)
FLOAT8 = _plain("float8_e4m3fn", 8)

# torch's dtypes, plus the sub-byte ones of the safetensors format (huggingface/safetensors,
# safetensors/src/tensor.rs, enum Dtype).
TORCH: dict[str, DType] = {
    d.name: d
    for d in (
        FLOAT32,
        FLOAT16,
        BFLOAT16,
        FLOAT64,
        BOOL,
        INT8,
        UINT8,
        INT16,
        INT32,
        INT64,
        FLOAT8,
        _plain("float8_e5m2", 8),
        _plain("float8_e4m3fnuz", 8),
        _plain("float8_e5m2fnuz", 8),
        _plain("float8_e8m0fnu", 8),
        _plain("float4_e2m1fn", 4),
        _plain("float6_e2m3fn", 6),
        _plain("float6_e3m2fn", 6),
        _plain("uint16", 16),
        _plain("uint32", 32),
        _plain("uint64", 64),
        _plain("complex32", 32),
        _plain("complex64", 64),
        _plain("complex128", 128),
        _plain("int4", 4),
        _plain("uint4", 4),
    )
}

SAFETENSORS: dict[str, DType] = {
    "BOOL": BOOL,
    "F4": TORCH["float4_e2m1fn"],
    "F6_E2M3": TORCH["float6_e2m3fn"],
    "F6_E3M2": TORCH["float6_e3m2fn"],
    "U8": UINT8,
    "I8": INT8,
    "F8_E5M2": TORCH["float8_e5m2"],
    "F8_E4M3": FLOAT8,
    "F8_E8M0": TORCH["float8_e8m0fnu"],
    "F8_E4M3FNUZ": TORCH["float8_e4m3fnuz"],
    "F8_E5M2FNUZ": TORCH["float8_e5m2fnuz"],
    "I16": INT16,
    "U16": TORCH["uint16"],
    "F16": FLOAT16,
    "BF16": BFLOAT16,
    "I32": INT32,
    "U32": TORCH["uint32"],
    "F32": FLOAT32,
    "C64": TORCH["complex64"],
    "F64": FLOAT64,
    "I64": INT64,
    "U64": TORCH["uint64"],
}

# ggml types: (number, name, elements per block, bytes per block). ggml/src/ggml-common.h and
# ggml.h (enum ggml_type), llama.cpp 0c1e57098; also gguf-py/gguf/constants.py GGML_QUANT_SIZES.
# Q8_1 is 36 bytes in the C struct (2 halves + 32 bytes); gguf 0.19 says 40: the struct wins.
GGML: dict[int, DType] = {
    number: DType(name, block, nbytes)
    for number, name, block, nbytes in (
        (0, "F32", 1, 4),
        (1, "F16", 1, 2),
        (2, "Q4_0", 32, 18),
        (3, "Q4_1", 32, 20),
        (6, "Q5_0", 32, 22),
        (7, "Q5_1", 32, 24),
        (8, "Q8_0", 32, 34),
        (9, "Q8_1", 32, 36),
        (10, "Q2_K", 256, 84),
        (11, "Q3_K", 256, 110),
        (12, "Q4_K", 256, 144),
        (13, "Q5_K", 256, 176),
        (14, "Q6_K", 256, 210),
        (15, "Q8_K", 256, 292),
        (16, "IQ2_XXS", 256, 66),
        (17, "IQ2_XS", 256, 74),
        (18, "IQ3_XXS", 256, 98),
        (19, "IQ1_S", 256, 50),
        (20, "IQ4_NL", 32, 18),
        (21, "IQ3_S", 256, 110),
        (22, "IQ2_S", 256, 82),
        (23, "IQ4_XS", 256, 136),
        (24, "I8", 1, 1),
        (25, "I16", 1, 2),
        (26, "I32", 1, 4),
        (27, "I64", 1, 8),
        (28, "F64", 1, 8),
        (29, "IQ1_M", 256, 56),
        (30, "BF16", 1, 2),
        (34, "TQ1_0", 256, 54),
        (35, "TQ2_0", 256, 66),
        (39, "MXFP4", 32, 17),
        (40, "NVFP4", 64, 36),
        (41, "Q1_0", 128, 18),
        (42, "Q2_0", 64, 18),
    )
}

# What ik_llama.cpp adds: (number, name, elements per block, bytes per block, bytes per row beside
# them). ggml/include/ggml.h, ggml/src/ggml.c (type_traits), ik_llama.cpp 8337e4cd3.
GGML |= {
    number: DType(name, block, nbytes, head)
    for number, name, block, nbytes, head in (
        (133, "Q6_0", 32, 26, 0),
        (134, "IQ1_BN", 64, 13, 2),
        (135, "IQ2_BN", 64, 16, 4),
        (136, "Q8_K64", 64, 68, 0),
        (137, "IQ2_K", 256, 76, 0),
        (138, "IQ3_K", 256, 110, 0),
        (139, "IQ4_K", 256, 144, 0),
        (140, "IQ5_K", 256, 176, 0),
        (141, "IQ6_K", 256, 212, 0),
        (144, "IQ4_KS", 256, 136, 4),
        (145, "IQ2_KS", 256, 70, 2),
        (146, "IQ4_KSS", 256, 128, 4),
        (147, "Q8_K16", 64, 64, 20),
        (148, "Q8_K32", 256, 296, 0),
        (149, "Q8_KR8", 256, 296, 0),
        (150, "Q8_K128", 128, 140, 0),
        (151, "Q8_KV", 32, 32, 8),
        (152, "IQ5_KS", 256, 168, 4),
        (153, "IQ2_KT", 256, 68, 4),
        (154, "IQ3_KT", 256, 100, 4),
        (155, "IQ4_KT", 256, 128, 4),
        (156, "IQ3_KS", 256, 102, 2),
        (157, "IQ2_KL", 256, 86, 2),
        (158, "IQ1_KT", 256, 56, 4),
        (202, "Q4_0_R8", 32, 18, 0),
        (206, "Q5_0_R4", 32, 22, 0),
        (208, "Q8_0_R8", 32, 34, 0),
        (210, "Q2_K_R4", 256, 84, 0),
        (211, "Q3_K_R4", 256, 110, 0),
        (212, "Q4_K_R4", 256, 144, 0),
        (213, "Q5_K_R4", 256, 176, 0),
        (214, "Q6_K_R4", 256, 210, 0),
        (216, "IQ2_XXS_R4", 256, 66, 0),
        (217, "IQ2_XS_R4", 256, 74, 0),
        (218, "IQ3_XXS_R4", 256, 98, 0),
        (219, "IQ1_S_R4", 32, 6, 2),
        (220, "IQ4_NL_R4", 32, 18, 0),
        (221, "IQ3_S_R4", 256, 110, 0),
        (222, "IQ2_S_R4", 256, 82, 0),
        (223, "IQ4_XS_R8", 256, 136, 0),
        (229, "IQ1_M_R4", 32, 7, 2),
        (230, "BF16_R16", 1, 2, 0),
        (233, "Q6_0_R4", 32, 26, 0),
        (335, "IQ2_BN_R4", 64, 16, 4),
        (337, "IQ2_K_R4", 256, 76, 0),
        (338, "IQ3_K_R4", 256, 110, 0),
        (339, "IQ4_K_R4", 256, 144, 0),
        (340, "IQ5_K_R4", 256, 176, 0),
        (344, "IQ4_KS_R4", 256, 136, 4),
        (352, "IQ5_KS_R4", 256, 168, 4),
        (353, "MXFP4_R8", 32, 17, 0),
        (397, "Q8_K_R16", 256, 258, 0),
        (398, "Q8_KV_R8", 32, 32, 4),
        (399, "Q8_K_R8", 256, 258, 0),
    )
}
GGML_BY_NAME: dict[str, DType] = {d.name: d for d in GGML.values()}

ALIASES = {
    "fp32": "float32",
    "f32": "float32",
    "float": "float32",
    "fp16": "float16",
    "f16": "float16",
    "half": "float16",
    "bf16": "bfloat16",
    "fp8": "float8_e4m3fn",
    "float8": "float8_e4m3fn",
    "fp8_e4m3": "float8_e4m3fn",
    "fp8_e5m2": "float8_e5m2",
    "double": "float64",
    "long": "int64",
}


def torch_dtype(name: str, where: str) -> DType:
    """Return the dtype that a config or a user calls `name` ("torch.bfloat16", "bf16", "half")."""
    plain = name.removeprefix("torch.").lower()
    try:
        return TORCH[ALIASES.get(plain, plain)]
    except KeyError:
        known = ", ".join(sorted(TORCH))
        raise BadFileError(f"{where}: unknown dtype {name!r}; known: {known}") from None
