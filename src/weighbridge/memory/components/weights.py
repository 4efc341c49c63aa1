"""Weights: the bytes of a class's parameters and buffers in a format, tensor by tensor.

    plain dtype     numel x itemsize, every parameter alike (parameters that the class keeps in
                    float32 stay so when the model is loaded, not in the table's divisions)
    real format     weights, scales, zero points and maps as the format's loader holds them; what
                    the loader leaves alone is in the model's own dtype
    as stored       a quantized checkpoint: its tensors, byte for byte

Tensors are listed one by one, since the allocator rounds each; those of like experts have a count.
"""

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from math import prod
from typing import TYPE_CHECKING

from weighbridge.base.dtypes import FLOAT16, FLOAT32, TORCH, DType
from weighbridge.base.memo import memo
from weighbridge.base.records import NamedTuple, frozen_record
from weighbridge.base.sentences import sentence
from weighbridge.models.arch.blueprint import Blueprint, Buffer, alike, expert_path, held
from weighbridge.models.checkpoint.model import Model, ModelPart

if TYPE_CHECKING:
    from weighbridge.models.quantization.scheme import Scheme

# The plain divisions of the report, in the order of its table.
DIVISIONS: dict[str, DType] = {
    "float32": FLOAT32,
    "float16": FLOAT16,
    "bfloat16": TORCH["bfloat16"],
    "fp8": TORCH["float8_e4m3fn"],
    "int8": TORCH["int8"],
    "int4": TORCH["int4"],
}
FLOATING = ("float", "bfloat")
DOWN = (".down_proj", ".w2", ".fc2", ".wo", ".output_linear")  # an expert's second matrix


class PlacedTensor(NamedTuple):
    """A tensor on the device, and the module that owns it; equal experts are listed as the first
    one's."""

    module: str
    nbytes: int
    component: str  # "weights" or "buffers"
    copies: int = 1


@frozen_record
class FormatChoice:
    """The format in which weights are loaded. `scheme` None and `as_stored` False: plain
    `dtype`."""

    dtype: DType  # of what a scheme leaves alone; of everything without one
    scheme: "Scheme | None" = None
    as_stored: bool = False

    @property
    def name(self) -> str:
        if self.as_stored:
            return "the checkpoint's own formats"
        return self.scheme.name if self.scheme else self.dtype.name

    @property
    def facts(self) -> tuple[Hashable, ...]:
        """Return a key of what a part is loaded as; per name, a maker has one scheme."""
        maker = self.scheme.maker if self.scheme else ""
        return (self.name, self.dtype.name, self.as_stored, maker)


Choices = Mapping[str, FormatChoice]  # part of a model -> its format


def formats(choices: Choices) -> Hashable:
    """Return a key of what a model is loaded as: each part's format."""
    return tuple((name, *c.facts) for name, c in choices.items())


def tensors(model: Model, choices: Choices, *, major: int) -> tuple[PlacedTensor, ...]:
    """Return every tensor of every part, unsharded: what a single device would hold."""

    def of_all_parts() -> tuple[PlacedTensor, ...]:
        parts = [placed(part, choices[part.name], major=major) for part in model.parts]
        return parts[0] if len(parts) == 1 else tuple(t for part in parts for t in part)

    return memo(model, ("tensors", formats(choices), major), of_all_parts)


def placed(part: ModelPart, choice: FormatChoice, *, major: int) -> tuple[PlacedTensor, ...]:
    """Return every tensor that one part puts on the device, parameters first, tied ones once."""
    facts = ("placed", *choice.facts, major)
    return memo(
        part, facts, lambda: tuple(_made(part, _weights(part, choice, major), choice, major))
    )


def by_module(model: Model, choices: Choices, *, major: int) -> tuple[PlacedTensor, ...]:
    """Return `tensors` for callers that need a module's tensors together: equal stored experts are
    one entry with a count."""
    placed_tensors: list[PlacedTensor] = []
    for part in model.parts:
        choice = choices[part.name]
        if choice.as_stored:
            placed_tensors += _made(part, _counted(part), choice, major)
        else:
            placed_tensors += placed(part, choice, major=major)
    return tuple(placed_tensors)


def _counted(part: ModelPart) -> Iterator[tuple[str, int, int]]:
    """Yield (name, bytes, count) of a part's stored weights; equal experts are one entry."""
    first, copies, ordered, stands = part.counted
    for tensor, place in zip(part.stored, stands, strict=True):
        if not ordered[place]:
            yield tensor.name, tensor.nbytes, 1
        elif tensor is first[place]:
            yield tensor.name, tensor.nbytes, copies[place]


def weight_bytes(part: ModelPart, choice: FormatChoice, *, major: int) -> int:
    """Return the bytes of a part's weights, without its buffers."""
    if choice.as_stored:
        return memo(part, ("stored",), lambda: sum(t.nbytes for t in part.stored))
    facts = ("weights", *choice.facts, major)
    return memo(part, facts, lambda: total(placed(part, choice, major=major), "weights"))


def _made(
    part: ModelPart, weights: Iterable[tuple[str, int, int]], choice: FormatChoice, major: int
) -> Iterator[PlacedTensor]:
    prefix = f"{part.name}." if part.name else ""
    for name, nbytes, count in weights:
        yield PlacedTensor(prefix + name.rpartition(".")[0], nbytes, "weights", count)
    for buffer in alive(part.blueprint, major):
        nbytes = buffer_size(buffer, choice.dtype)
        yield PlacedTensor(prefix + buffer.name.rpartition(".")[0], nbytes, "buffers")


def together(tensors: Iterable[PlacedTensor]) -> Iterator[tuple[int, tuple[PlacedTensor, ...]]]:
    """Yield (repeats, tensors): each layer's experts as one group, every other tensor by itself,
    once."""
    for several, run in groupby(tensors, lambda tensor: tensor.copies > 1):
        if not several:
            yield from ((1, (tensor,)) for tensor in run)
            continue
        for (_, count), group in groupby(run, lambda tensor: alike(tensor.module, tensor.copies)):
            yield count, tuple(group)


def stacked(tensors: Iterable[PlacedTensor]) -> tuple[PlacedTensor, ...]:
    """Return the tensors with a layer's experts stacked as in the class: gates with ups, and
    downs."""
    return tuple(one for times, group in together(tensors) for one in _stack(times, group))


def _stack(times: int, group: Sequence[PlacedTensor]) -> Iterator[PlacedTensor]:
    if times == 1:
        yield from group
        return
    path = expert_path(group[0].module).rstrip(".")
    down = [t.module.endswith(DOWN) for t in group]
    for last in (False, True):
        nbytes = times * sum(t.nbytes for t, d in zip(group, down, strict=True) if d is last)
        if nbytes:
            yield PlacedTensor(path, nbytes, "weights")


def apart(tensors: Iterable[PlacedTensor]) -> Iterator[PlacedTensor]:
    """Yield every tensor by itself, those of equal experts too."""
    for count, group in together(tensors):
        paths = [(expert_path(tensor.module), tensor) for tensor in group]
        for number in range(count):
            for path, tensor in paths:
                tail = tensor.module[len(path) + 1 :]
                yield (
                    tensor
                    if count == 1
                    else PlacedTensor(f"{path}{number}{tail}", tensor.nbytes, tensor.component)
                )


def _weights(part: ModelPart, choice: FormatChoice, major: int) -> Iterator[tuple[str, int, int]]:
    """Yield (parameter, bytes, count); scales and maps have the name of the parameter that they
    belong to."""
    plan = part.blueprint
    if choice.as_stored:
        return ((tensor.name, tensor.nbytes, 1) for tensor in part.stored)
    if choice.scheme is None:
        return (
            (p.name, held(p, choice.dtype).size(p.numel), p.copies)
            for p in plan.counted
            if not p.tied
        )
    from weighbridge.models.quantization.schemes import counted  # plain dtypes do without it

    counted_tensors = counted(plan, choice.scheme, dtype=choice.dtype, transformers=major)
    return ((stored.source, stored.nbytes, count) for stored, count in counted_tensors)


def alive(plan: Blueprint, major: int) -> Iterator[Buffer]:
    """Yield the buffers that this major version of transformers registers."""
    return (b for b in plan.buffers if b.until is None or major < b.until)


def buffer_size(buffer: Buffer, dtype: DType) -> int:
    return (TORCH[buffer.dtype] if buffer.dtype else dtype).size(prod(buffer.shape))


def divided(plan: Blueprint, parameters: int, dtype: DType) -> int:
    """Return the bytes of parameters and persistent buffers with every floating-point value in
    `dtype`: a plain division."""
    buffers = [b for b in plan.buffers if b.persistent]
    floating = sum(prod(b.shape) for b in buffers if _follows(b))
    fixed = sum(buffer_size(b, dtype) for b in buffers if not _follows(b))
    return dtype.size(parameters + floating) + fixed


def persistent_bytes(part: ModelPart, dtype: DType) -> int:
    return sum(buffer_size(b, dtype) for b in part.blueprint.buffers if b.persistent)


def volatile_bytes(part: ModelPart, major: int) -> int:
    """Return the bytes of buffers that are computed at load time and never stored: positions,
    masks, rotary frequencies."""

    def nbytes() -> int:
        alone = (b for b in alive(part.blueprint, major) if not b.persistent)
        return sum(buffer_size(b, FLOAT32) for b in alone)

    return memo(part, ("volatile", major), nbytes)


def _follows(buffer: Buffer) -> bool:
    """Return whether a change of the model's dtype also converts the buffer (integers stay)."""
    return not buffer.dtype or buffer.dtype.startswith(FLOATING)


def total(tensors: Iterable[PlacedTensor], component: str) -> int:
    return sum(t.nbytes * t.copies for t in tensors if t.component == component)


# ---- Experts that bitsandbytes does not quantize: since transformers 5 they are parameters of
# three dimensions, and it quantizes linear layers only (integrations/bitsandbytes.py)

MERGES = 5  # the version of transformers that stacks the experts of a layer
FOUR_BITS = ("nf4", "fp4")
BITSANDBYTES = (*FOUR_BITS, "bnb-")  # formats that leave stacked experts alone
EXPERTS = ("expert", "experts")  # kinds of the parameters of one expert, and of all stacked


def unpacked_experts(part: ModelPart, choice: FormatChoice, major: int) -> str:
    """Return a note on experts that stay unquantized; "" without any."""
    form = choice.scheme
    if major < MERGES or form is None or form.stacks or choice.as_stored:
        return ""
    routed = (x.kind in EXPERTS for x in part.blueprint.counted)
    if not form.name.startswith(BITSANDBYTES) or not any(routed):
        return ""
    return sentence("experts_unpacked", dtype=choice.dtype.name, form=form.name)
