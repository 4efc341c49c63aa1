"""The model's tensors by GGUF name, from a GGUF file's headers or from the class as converted.

    a file       as its headers have it
    a class      what the format's rules make of each parameter; experts joined to one tensor a
                 layer and role; gate and up apart; of a tied pair one, of a tower none (mmproj)

Source: llama.cpp 0c1e57098 conversion/ (modify_tensors of each architecture).
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from math import prod
from typing import TypeVar

from weighbridge.arch.mixers import GatedDelta, Latent, Layer, Mamba2, Mixer
from weighbridge.checkpoint.model import ModelPart
from weighbridge.components.weights import FormatChoice
from weighbridge.dtypes import FLOAT32, GGML_BY_NAME, DType
from weighbridge.engines.interface import Subject
from weighbridge.engines.llama_cpp.graphs.network import Weight
from weighbridge.engines.llama_cpp.naming import gguf_name, siblings_of
from weighbridge.quantization.scheme import Scheme
from weighbridge.quantization.schemes import scheme, stored

PLAIN = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
SPLIT = {
    "ffn_gate_up_exps": ("ffn_gate_exps", "ffn_up_exps"),
    "ffn_gate_up_shexp": ("ffn_gate_shexp", "ffn_up_shexp"),
}
DROPPED = ("pooler",)
M = TypeVar("M", bound=Mixer)


def tensors(s: Subject) -> tuple[Weight, ...]:
    if s.part.library == "gguf":
        return tuple(of_file(s.part))
    return tuple(of_class(s.part, form(s.choice), s.choice.dtype, s.layers))


def of_file(part: ModelPart) -> Iterator[Weight]:
    for t in part.stored:
        yield Weight(t.name, t.dtype, tuple(reversed(t.shape)), t.nbytes)


def form(choice: FormatChoice) -> Scheme:
    """GGUF types alone; another library's format is taken as unpacked by the converter."""
    if choice.scheme is not None and choice.scheme.engine == "llama.cpp":
        return choice.scheme
    return scheme(PLAIN.get(choice.dtype.name, "BF16"))


def of_class(
    part: ModelPart, form: Scheme, dtype: DType, layers: tuple[Layer, ...]
) -> Iterator[Weight]:
    alike = {p.name: count for p, count in part.blueprint.distinct()}
    first = tuple(p for p, _ in part.blueprint.distinct())
    near = siblings_of([p.name for p in first])
    for t in stored(replace(part.blueprint, params=first), form, dtype=dtype):
        if part.blueprint.part(t.source) != "language model":
            continue
        kind = GGML_BY_NAME[PLAIN.get(t.dtype.name, t.dtype.name)]
        for name, ne in _apart(gguf_name(t.name, near), _shape(t.shape), layers):
            full = _stacked(name, _folded(name, ne, layers), alike[t.source])
            if not name.startswith(DROPPED):
                yield Weight(name, kind, full, kind.rows(full[0] if full else 1, prod(full)))
    yield from _buffers(part)


def _shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """ggml's order; a convolution's single input channel is left out."""
    ne = tuple(reversed(shape))
    if len(ne) == 3 and ne[1] == 1:
        return ne[0], ne[2]
    return ne


def _stacked(name: str, ne: tuple[int, ...], count: int) -> tuple[int, ...]:
    """Experts of a layer and role are one tensor."""
    return (*ne, count) if "_exps.weight" in name and len(ne) == 2 else ne


def _apart(
    name: str, ne: tuple[int, ...], layers: tuple[Layer, ...]
) -> Iterable[tuple[str, tuple[int, ...]]]:
    """A tensor that the converter splits, in its pieces."""
    for both, halves in SPLIT.items():
        start, _, rest = name.partition(both)
        if rest:
            return tuple((f"{start}{one}{rest}", _halved(name, ne)) for one in halves)
    if name.endswith("in_proj_qkvz.weight"):
        return _qkvz(name, ne, layers)
    return ((name, ne),)


def _folded(name: str, ne: tuple[int, ...], layers: tuple[Layer, ...]) -> tuple[int, ...]:
    """Matrices of heads and norms of groups have an axis of their own."""
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
    """Biases that choose experts are buffers of the class, and tensors of the file."""
    for b in part.blueprint.buffers:
        if b.persistent and b.name.endswith(("e_score_correction_bias", "expert_bias")):
            ne = tuple(reversed(b.shape))
            yield Weight(gguf_name(b.name), GGML_BY_NAME["F32"], ne, FLOAT32.size(prod(ne)))
