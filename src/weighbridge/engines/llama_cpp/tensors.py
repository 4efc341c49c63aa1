"""The model's tensors by GGUF name, from a GGUF file's headers or from the class as converted.

    a file       as its headers list them
    a class      each parameter as the format's rules store it; experts stacked to one tensor per
                 layer and role; gate and up separate; one of a tied pair, none of encoders (mmproj)

Source: llama.cpp 0c1e57098 conversion/ (modify_tensors of each architecture).
"""

from collections.abc import Iterable, Iterator
from math import prod
from typing import TypeVar

from weighbridge.base.dtypes import FLOAT32, GGML_BY_NAME, DType
from weighbridge.base.records import replace
from weighbridge.engines.interface import Subject
from weighbridge.engines.llama_cpp.graphs.network import Weight
from weighbridge.memory.components.weights import FormatChoice
from weighbridge.models.arch.gguf_names import SPLIT, gguf_name, siblings_of
from weighbridge.models.arch.mixers import GatedDelta, Latent, Layer, Mamba2, Mixer
from weighbridge.models.checkpoint.model import ModelPart
from weighbridge.models.quantization.scheme import Scheme
from weighbridge.models.quantization.schemes import StoredTensor, scheme, stored

PLAIN = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
DROPPED = ("pooler",)
M = TypeVar("M", bound=Mixer)


def tensors(subject: Subject) -> tuple[Weight, ...]:
    if subject.part.library == "gguf":
        return tuple(of_file(subject.part))
    return tuple(of_class(subject.part, form(subject.choice), subject.choice.dtype, subject.layers))


def of_file(part: ModelPart) -> Iterator[Weight]:
    for t in part.stored:
        yield Weight(t.name, t.dtype, tuple(reversed(t.shape)), t.nbytes)


def form(choice: FormatChoice) -> Scheme:
    """Return the GGUF scheme, of other formats the type the converter dequantizes to."""
    if choice.scheme is not None and choice.scheme.engine == "llama.cpp":
        return choice.scheme
    return scheme(PLAIN.get(choice.dtype.name, "BF16"))


def of_class(
    part: ModelPart, form: Scheme, dtype: DType, layers: tuple[Layer, ...]
) -> Iterator[Weight]:
    alike = {p.name: count for p, count in part.blueprint.distinct()}
    first = tuple(p for p, _ in part.blueprint.distinct())
    near = siblings_of([p.name for p in first])
    known: dict[object, list[Weight]] = {}  # converted tensors of one layer, for all like it
    for t in stored(replace(part.blueprint, params=first), form, dtype=dtype):
        if part.blueprint.part(t.source) != "language model":
            continue
        name, count = gguf_name(t.name, near), alike[t.source]
        at = name[: name.find(".", 4) + 1] if name.startswith("blk.") else ""
        key = name[len(at) :], t.dtype.name, t.shape, count
        if key not in known:
            known[key] = [
                replace(w, name=w.name[len(at) :]) for w in _converted(t, name, count, layers)
            ]
        for w in known[key]:
            yield Weight(at + w.name, w.dtype, w.ne, w.nbytes)
    yield from _buffers(part)


def _converted(
    tensor: StoredTensor, name: str, count: int, layers: tuple[Layer, ...]
) -> Iterator[Weight]:
    """Yield the tensors that the converter makes of one called `name`, of `count` experts."""
    kind = GGML_BY_NAME[PLAIN.get(tensor.dtype.name, tensor.dtype.name)]
    for piece, ne in _apart(name, _shape(tensor.shape), layers):
        full = _stacked(piece, _folded(piece, ne, layers), count)
        if not piece.startswith(DROPPED):
            yield Weight(piece, kind, full, kind.rows(full[0] if full else 1, prod(full)))


def _shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape in ggml's order; a convolution's single input channel is left out."""
    ne = tuple(reversed(shape))
    if len(ne) == 3 and ne[1] == 1:
        return ne[0], ne[2]
    return ne


def _stacked(name: str, ne: tuple[int, ...], count: int) -> tuple[int, ...]:
    """Return the shape; experts of a layer and role are stacked to one tensor."""
    return (*ne, count) if "_exps.weight" in name and len(ne) == 2 else ne


def _apart(
    name: str, ne: tuple[int, ...], layers: tuple[Layer, ...]
) -> Iterable[tuple[str, tuple[int, ...]]]:
    """Return (name, shape) of each piece that the converter splits a tensor into."""
    for both, halves in SPLIT.items():
        start, _, tail = name.partition(both)
        if tail:
            return tuple((f"{start}{one}{tail}", _halved(name, ne)) for one in halves)
    if name.endswith("in_proj_qkvz.weight"):
        return _qkvz(name, ne, layers)
    return ((name, ne),)


def _folded(name: str, ne: tuple[int, ...], layers: tuple[Layer, ...]) -> tuple[int, ...]:
    """Return the shape with a separate axis for heads (attn_v_b) or groups (Mamba 2's norm)."""
    if name.endswith("attn_v_b.weight"):
        m = _first(layers, Latent)
        return ne[0], m.value_dim, m.heads
    if name.endswith("ssm_norm.weight") and any(isinstance(m, Mamba2) for m in _mixers(layers)):
        groups = _first(layers, Mamba2).groups
        return ne[0] // groups, groups
    return ne


def _mixers(layers: tuple[Layer, ...]) -> Iterator[Mixer]:
    return (m for la in layers for m in la.mixers)


def _first(layers: tuple[Layer, ...], kind: type[M]) -> M:
    return next(m for m in _mixers(layers) if isinstance(m, kind))


def _halved(name: str, ne: tuple[int, ...]) -> tuple[int, ...]:
    if name.endswith(".bias"):
        return (ne[0] // 2, *ne[1:])
    return (ne[0], ne[1] // 2, *ne[2:])


def _qkvz(
    name: str, ne: tuple[int, ...], layers: tuple[Layer, ...]
) -> Iterable[tuple[str, tuple[int, ...]]]:
    m = _first(layers, GatedDelta)
    start = ".".join(name.split(".")[:2])
    values = m.value_heads * m.value_dim
    return (
        (f"{start}.attn_qkv.weight", (ne[0], m.channels)),
        (f"{start}.attn_gate.weight", (ne[0], values)),
    )


def _buffers(part: ModelPart) -> Iterator[Weight]:
    """Yield the biases that choose experts: buffers of the class, tensors of the file."""
    for b in part.blueprint.buffers:
        if b.persistent and b.name.endswith(("e_score_correction_bias", "expert_bias")):
            ne = tuple(reversed(b.shape))
            yield Weight(gguf_name(b.name), GGML_BY_NAME["F32"], ne, FLOAT32.size(prod(ne)))
