"""Names of formats, and the tensors that a model has in one.

    scheme("nf4") -> Scheme;   stored(blueprint, scheme, dtype=...) -> its tensors, one by one

Every tensor is apart, since the CUDA allocator rounds each to 512 bytes. Experts are one tensor
each where the blueprint has them so, though loaders may stack them.
"""

import re
from collections.abc import Iterable, Iterator
from math import prod

from weighbridge.base.dtypes import DType
from weighbridge.base.errors import UnsupportedError, UsageError
from weighbridge.base.records import NamedTuple
from weighbridge.base.sentences import sentence
from weighbridge.base.wording import spelled_like
from weighbridge.models.arch.blueprint import Blueprint, Param, held
from weighbridge.models.quantization import (
    floats,
    ggml,
    integers,
    mlx,
    torch_libraries,
)
from weighbridge.models.quantization.scheme import LoaderFacts, Pack, PackedPiece, Scheme

__all__ = [
    "NAMES",
    "USUAL",
    "Scheme",
    "StoredTensor",
    "counted",
    "describe",
    "scheme",
    "stored",
    "weighed",
]


class StoredTensor(NamedTuple):
    """A tensor on the device, and the parameter (`source`) that it is part of."""

    name: str
    dtype: DType
    shape: tuple[int, ...]
    nbytes: int
    source: str


# suggested if no name is near the user's
OFTEN = ("nf4", "bnb-int8", "fp8", "awq", "gptq", "Q4_K_M", "Q6_K", "Q8_0")


def scheme(name: str) -> Scheme:
    """Return the format called `name`; GGUF types in any case. Raises UsageError with the nearest
    names."""
    plain = name.strip().lower().replace("_", "-") if name.upper() not in GGUF else name.upper()
    if plain in TABLE:
        return TABLE[plain]
    for pattern, make in PATTERNS.items():
        match = re.fullmatch(pattern, plain)
        if match:
            return make(match)
    if plain in PLAIN:
        raise UsageError(sentence("plain_dtype", name=name, plain=plain))
    close = spelled_like(name.lower(), (known.lower() for known in NAMES), 3)
    spelled = [known for known in NAMES if known.lower() in close]
    if spelled:
        raise UsageError(sentence("format_near", name=name, near=", ".join(spelled)))
    raise UsageError(sentence("format", name=name, often=", ".join(OFTEN)))


def stored(
    plan: Blueprint, scheme: Scheme, *, dtype: DType, transformers: int = 5
) -> Iterator[StoredTensor]:
    """Yield all tensors of `plan` in `scheme`, in the blueprint's order, tied parameters once.

    `dtype` is the model's own, and of what the scheme leaves alone; `transformers` is the major
    version of the loader.

    `dtype` is the model's own, and of what the scheme leaves alone; `transformers` is the major
    version of the loader.
    """
    facts = LoaderFacts(plan=plan, dtype=dtype, major=transformers)
    return (tensor for tensor, _ in _stored(plan.params, scheme, facts))


def weighed(
    params: Iterable[Param], scheme: Scheme, *, plan: Blueprint, dtype: DType, transformers: int = 5
) -> dict[str, int]:
    """Return the bytes of each of `params` in a format, by name; 0 for tied ones."""
    facts = LoaderFacts(plan=plan, dtype=dtype, major=transformers)
    pack = _loader(scheme, facts)
    nbytes = {}
    for p in params:
        pieces = None if p.tied else pack(p)
        if p.tied:
            nbytes[p.name] = 0
        elif pieces is None:
            nbytes[p.name] = held(p, dtype).size(p.numel)
        else:
            nbytes[p.name] = sum([kind.size(prod(shape)) for _, kind, shape in pieces])
    return nbytes


def counted(
    plan: Blueprint, scheme: Scheme, *, dtype: DType, transformers: int = 5
) -> Iterator[tuple[StoredTensor, int]]:
    """Yield (tensor, count) for all tensors of `plan` in `scheme`; equal experts of a layer are one
    tensor."""
    params = plan.params if scheme.by_expert else plan.counted
    return _stored(params, scheme, LoaderFacts(plan=plan, dtype=dtype, major=transformers))


def _stored(
    params: Iterable[Param], scheme: Scheme, facts: LoaderFacts
) -> Iterator[tuple[StoredTensor, int]]:
    pack = _loader(scheme, facts)
    for p in params:
        if p.tied:
            continue
        pieces = pack(p)
        if pieces is None:
            pieces = (PackedPiece(p.name, held(p, facts.dtype), p.shape),)
        for name, kind, shape in pieces:
            nbytes = kind.size(prod(shape))
            yield StoredTensor(name, kind, shape, nbytes, p.name), p.copies


def _loader(scheme: Scheme, facts: LoaderFacts) -> Pack:
    flat = next((p.name for p in facts.plan.counted if p.kind == "flat"), None)
    if flat is not None:
        raise UnsupportedError(sentence("header_shape", form=scheme.name, name=flat))
    return scheme.loader(facts)


def describe(scheme: Scheme) -> str:
    """Return a sentence on what a format does not quantize, with its source."""
    return f"{scheme.name}: {scheme.left} ({scheme.source})"


GGUF = frozenset(ggml.NAMES)
PLAIN = frozenset(("float32", "float16", "bfloat16", "fp8", "int8", "int4"))
TABLE: dict[str, Scheme] = {
    **torch_libraries.SCHEMES,
    **floats.SCHEMES,
    **integers.SCHEMES,
    **ggml.SCHEMES,
}
PATTERNS = {
    **floats.PATTERNS,
    **integers.PATTERNS,
    **torch_libraries.PATTERNS,
    **mlx.PATTERNS,
}
# Names in the report's table: part of the report's contract.
USUAL: tuple[str, ...] = (
    "bnb-int8",
    "nf4",
    "nf4-dq",
    "gptq-4bit-g128",
    "awq-4bit-g128",
    "fp8-tensor",
    "fp8-block",
    "mxfp4",
    "nvfp4",
    "hqq-4bit-g64",
    "torchao-int8",
    "torchao-int4-g128",
    "mlx-4bit-g64",
)
# One name of each kind, for help and for messages.
NAMES: tuple[str, ...] = (
    *USUAL,
    "fp4",
    "fp4-dq",
    "fp8-static",
    "fp8-dynamic",
    "mxfp8",
    "torchao-fp8",
    "quanto-int8",
    "quanto-float8",
    "quanto-int4",
    "quanto-int2",
    "eetq",
    "w4a16-g128",
    "w8a16",
    "w8a8-int8",
    "w8a8-fp8",
    "mlx-mxfp4",
    "mlx-mxfp8",
    "mlx-nvfp4",
    *ggml.NAMES,
)
