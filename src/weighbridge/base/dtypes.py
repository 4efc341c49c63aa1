"""Storage formats of single tensors: how many bytes hold how many elements.

Sizes come from whole blocks, (elements, bytes), so a size is never a float. Names are torch's;
the spellings of files (safetensors, GGUF) are aliases of the same records. All are in dtypes.txt.
"""

from weighbridge.base.parsed import sections_beside
from weighbridge.base.records import NamedTuple


class DType(NamedTuple):
    """A storage format. `block` elements take `nbytes` bytes, in whole blocks. Some of
    ik_llama.cpp's have `head` further bytes per row."""

    name: str
    block: int
    nbytes: int
    head: int = 0

    def size(self, count: int) -> int:
        """Return the bytes of `count` elements in one run."""
        block, nbytes = self.block, self.nbytes
        return count * nbytes if block == 1 else -(-count // block) * nbytes

    def rows(self, row: int, count: int) -> int:
        """Return the bytes of `count` elements in rows of `row` elements."""
        return self.size(count) + self.head * (count // max(1, row))


def _unpadded_dtype(name: str, bits: int) -> DType:
    """Return a dtype of `bits` bits per element, packed without padding."""
    elements = next(n for n in (1, 2, 4, 8) if bits * n % 8 == 0)
    return DType(name, elements, bits * elements // 8)


def _ggml_dtype(row: list[str]) -> tuple[int, DType]:
    number, name, *sizes = row
    return int(number), DType(name, *map(int, sizes))


ROWS = {
    title: [line.split() for line in lines]
    for title, lines in sections_beside(__file__, "dtypes.txt").items()
}
TORCH: dict[str, DType] = {name: _unpadded_dtype(name, int(bits)) for name, bits in ROWS["torch"]}
SAFETENSORS: dict[str, DType] = {name: TORCH[dtype] for name, dtype in ROWS["safetensors"]}
ALIASES: dict[str, str] = dict(ROWS["aliases"])
GGML: dict[int, DType] = dict(map(_ggml_dtype, ROWS["ggml"]))
GGML_BY_NAME: dict[str, DType] = {d.name: d for d in GGML.values()}

FLOAT32, FLOAT16, BFLOAT16 = TORCH["float32"], TORCH["float16"], TORCH["bfloat16"]
FLOAT64, FLOAT8, BOOL = TORCH["float64"], TORCH["float8_e4m3fn"], TORCH["bool"]
INT8, UINT8, INT16, INT32, INT64 = (
    TORCH[name] for name in ("int8", "uint8", "int16", "int32", "int64")
)
