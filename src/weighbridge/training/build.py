"""The class in memory: its parameters in the order in which they are placed, and its modules."""

from collections.abc import Iterator, Mapping

from weighbridge.arch.stacks import LAYER
from weighbridge.autograd.machine import Machine
from weighbridge.autograd.ops.packed import Linear4, Linear8
from weighbridge.autograd.tensors import ELSEWHERE, Param, Tensor
from weighbridge.components.weights import alive
from weighbridge.dtypes import INT8, TORCH, DType
from weighbridge.engines.transformers.loading import placement_order
from weighbridge.engines.transformers.plan import language
from weighbridge.errors import UnsupportedError
from weighbridge.quantization.schemes import StoredTensor, stored
from weighbridge.training.adapters import Adapters
from weighbridge.training.adapters.lora import Lora, Plain
from weighbridge.training.adapters.targets import matched
from weighbridge.training.modules import Module, Wrap
from weighbridge.training.plan import Plan
from weighbridge.training.sharding.around import Around
from weighbridge.training.sharding.cut import body, cut, elsewhere, layers
from weighbridge.training.step import Built
from weighbridge.training.tensors import Held, held


def build(m: Machine, p: Plan, around: Around, stage: int = 0) -> Built:
    """What one rank of a stage holds."""
    subject, s = p.subject, p.sharding
    plan = subject.part.blueprint
    path, numbers = _stack(p)
    start, end = layers(len(numbers), s.pipeline, stage)
    shares = [cut(h, s, vocab=p.framework.shares_vocab) for h in held(plan, major=p.major)]
    if s.pipeline > 1:
        kept = range(numbers[start], numbers[end - 1] + 1)
        shares = elsewhere(shares, path, kept, first=stage == 0, last=stage == s.pipeline - 1)
    specs = placement_order((_module(h), h) for h in shares)
    packed = _packed(p)
    params = {h.name: _param(m, p, h, packed, around) for h in specs}
    pieces = [m.new((t.nbytes,), INT8, "weights") for group in packed.values() for t in group]
    with m.making("buffers"):
        buffers = [
            m.new(b.shape, TORCH[b.dtype] if b.dtype else p.dtype)
            for b in alive(plan, subject.major)
        ]
    wraps = dict(_wraps(p, params, packed))
    if p.adapters is not None:
        for x in params.values():
            x.trainable = False
        adapt(m, p, p.adapters, params, wraps)
    root = Module(params, wraps)
    return Built(
        root=root,
        base=root.at(path.rpartition(".")[0]) if "." in path else root,
        layers=[root.at(f"{path}.{i}") for i in numbers[start:end]],
        params=params,
        body=body(subject.body, s, stage),
        config=language(subject),
        kind=subject.model_type,
        buffers=[*buffers, *pieces],
    )


def adapt(
    m: Machine, p: Plan, with_: Adapters, params: dict[str, Param], wraps: dict[str, Wrap]
) -> None:
    """Puts adapters on the modules that are targeted."""
    specs = held(p.subject.part.blueprint, major=p.major)
    for name in matched(specs, with_.targets):
        weight, bias = params[f"{name}.weight"], params.get(f"{name}.bias")
        inside, outside = weight.shape[::-1] if weight.kind != "conv1d" else weight.shape
        a, b = (
            m.param(f"{name}.lora_{which}.weight", shape, with_.dtype, component="adapters")
            for which, shape in (("A", (with_.r, inside)), ("B", (outside, with_.r)))
        )
        params[a.name], params[b.name] = a, b
        wraps[name] = Lora(wraps.get(name) or Plain(weight, bias), a, b, with_.dropout)


def _module(h: Held) -> str:
    return h.name.rpartition(".")[0]


Packed = Mapping[str, list[StoredTensor]]  # by the parameter's name


def _packed(p: Plan) -> Packed:
    """What stands for the parameters that a format packs."""
    form = p.subject.choice.scheme
    if form is None:
        return {}
    plan = p.subject.part.blueprint
    found: dict[str, list[StoredTensor]] = {}
    for t in stored(plan, form, dtype=p.dtype, transformers=p.major):
        found.setdefault(t.source, []).append(t)
    return {n: group for n, group in found.items() if len(group) > 1}


def _param(m: Machine, p: Plan, h: Held, packed: Packed, around: Around) -> Param:
    if h.kind == ELSEWHERE:
        return Param(h.name, h.shape, _dtype(p, h), None, trainable=False, kind=h.kind)
    if h.name in packed:
        return Param(h.name, h.shape, p.dtype, None, trainable=False, kind=h.kind)
    return around.place(m, h, _dtype(p, h))


def _wraps(p: Plan, params: dict[str, Param], packed: Packed) -> Iterator[tuple[str, Wrap]]:
    """What stands in for linears whose weights are packed."""
    form = p.subject.choice.scheme
    for name in packed:
        assert form is not None
        path = name.removesuffix(".weight")
        weight, bias = params[name], params.get(f"{path}.bias")
        if form.name == "bnb-int8":
            yield path, Linear8(weight, bias)
        else:
            yield path, Linear4(weight, bias, p.computing, nested=form.name.endswith("-dq"))


def _dtype(p: Plan, h: Held) -> DType:
    return TORCH.get(h.dtype, p.dtype)


def _stack(p: Plan) -> tuple[str, list[int]]:
    """(path, numbers) of the layers that the body's blocks are."""
    plan, count = p.subject.part.blueprint, len(p.subject.body.blocks)
    found: dict[str, set[int]] = {}
    for name in (h.name for h in held(plan, major=p.major) if plan.part(h.name) == LANGUAGE):
        at = LAYER.search(name)
        if at is not None:
            found.setdefault(name[: at.start()], set()).add(int(at[1]))
    fits = [(path, sorted(numbers)) for path, numbers in found.items() if len(numbers) >= count]
    if not fits or not count:
        raise UnsupportedError(
            f"{p.subject.model.reference}: {plan.cls} has no layers that we know how to train by "
            "shapes; trace its step instead: weighbridge trace, or train --exact"
        )
    path, numbers = min(fits, key=lambda f: len(f[1]))
    return path, numbers[:count]


LANGUAGE = "language model"


def trainable(params: dict[str, Param]) -> Iterator[Param]:
    return (p for p in params.values() if p.trainable)


def tensors(built: Built) -> list[Tensor]:
    return [*built.params.values(), *built.buffers]
