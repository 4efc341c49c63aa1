"""Storage formats of single tensors: how many bytes hold how many elements.

Sizes come from whole blocks, (elements, bytes), so a size is never a float. Names are torch's;
the spellings of files (safetensors, GGUF) are aliases of the same records.
"""

from dataclasses import dataclass

from weighbridge.errors import BadFileError
from weighbridge.units import ceil_div


@dataclass(frozen=True, slots=True)
class DType:
    """A storage format. `block` elements take `nbytes` bytes; they come in whole blocks."""

    name: str
    block: int
    nbytes: int

    def size(self, count: int) -> int:
        """Bytes of `count` elements in one run."""
        return ceil_div(count, self.block) * self.nbytes


def _plain(name: str, bits: int) -> DType:
    """`bits` a value, packed without padding between values."""
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
    """The dtype that a config or a user calls `name` ("torch.bfloat16", "bf16", "half")."""
    plain = name.removeprefix("torch.").lower()
    try:
        return TORCH[ALIASES.get(plain, plain)]
    except KeyError:
        known = ", ".join(sorted(TORCH))
        raise BadFileError(f"{where}: unknown dtype {name!r}; known: {known}") from None
