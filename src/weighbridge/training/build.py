"""The class in memory: its parameters in the order in which they are allocated, and its modules."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, groupby
from math import prod

from weighbridge.base.dtypes import BFLOAT16, INT8, TORCH, DType
from weighbridge.base.errors import UnsupportedError
from weighbridge.base.memo import memo
from weighbridge.base.sentences import about, sentence
from weighbridge.base.units import ceil_div
from weighbridge.engines.transformers.plan import language
from weighbridge.memory.components.weights import BITSANDBYTES, EXPERTS, MERGES, alive
from weighbridge.models.arch.blueprint import Param, alike, numbered
from weighbridge.models.arch.model_types import differs, facts
from weighbridge.models.arch.roles import expert
from weighbridge.models.quantization.scheme import LoaderFacts, Scheme
from weighbridge.models.quantization.schemes import counted
from weighbridge.training import float8, kbit
from weighbridge.training.adapting import put_on
from weighbridge.training.forward.limits import possible
from weighbridge.training.forward.machine import Machine
from weighbridge.training.forward.modules import Module, ParameterSpec, Wrap
from weighbridge.training.forward.ops.float8 import LinearFloat8, StackFloat8
from weighbridge.training.forward.ops.packed import Dequantized, Linear4, Linear8, Stack4
from weighbridge.training.forward.step import Around, BuiltModel
from weighbridge.training.forward.tensors import ELSEWHERE, LeafTensor
from weighbridge.training.parameters import Members, members
from weighbridge.training.plan import TrainingPlan
from weighbridge.training.sharding.cut import body, cut, elsewhere, spread
from weighbridge.training.sharding.stages import first_and_end

STACK = 3  # dimensions of stacked experts' weights
CODES = "codes"  # kind of parameters that are quantized weights


def build(m: Machine, planned: TrainingPlan, around: Around, stage: int = 0) -> BuiltModel:
    """Return the class in memory as one rank of pipeline stage `stage` holds it."""
    subject, s = planned.subject, planned.sharding
    plan = subject.part.blueprint
    possible(subject.body, subject.model.reference)
    _check_experts(planned)
    known = members(plan, major=_layout_version(planned), text_alone=planned.text_alone)
    whole = known.specs
    path, numbers = _stack(planned, known)
    start, end = first_and_end(s.layers, stage)
    spread(whole, s.expert)
    shares = [cut(h, s, vocab=planned.framework.shares_vocab) for h in whole]
    if s.pipeline > 1:
        here = range(numbers[start], numbers[end - 1] + 1)
        shares = elsewhere(shares, path, here, first=stage == 0, last=stage == s.pipeline - 1)
    packed = _packed(planned)
    params = {
        h.name: _param(m, planned, h, packed, around) for h in map(shares.__getitem__, known.placed)
    }
    never = facts(subject.model_type).training.frozen
    if never:
        for name in (n for n in params if f"{never}." in n):
            params[name].trainable = False
    _allocate_quantized(m, planned, packed, params, around)
    with m.making("buffers"):
        buffers = [
            m.new(b.shape, TORCH[b.dtype] if b.dtype else planned.loaded)
            for b in alive(plan, subject.major)
        ]
    upcast = planned.base.upcast
    if upcast != "none":
        kbit.upcast(m, kbit.FIRST.get(upcast, upcast), params)
    wraps = dict(_linear_replacements(planned, params, packed))
    if planned.precision.float8:
        wraps |= _float8(planned, whole, params)
    prompt = None
    if planned.adapters is not None:
        for x in params.values():
            x.trainable = False
        prompt = put_on(m, around, planned, params, wraps)
    if upcast in kbit.FIRST:
        kbit.upcast(m, upcast, params)
    root = Module(params, wraps)
    return BuiltModel(
        root=root,
        base=root.at(path.rpartition(".")[0]) if "." in path else root,
        layers=[root.at(f"{path}.{i}") for i in numbers[start:end]],
        encoder=_encoder(root, path, planned),
        params=params,
        parts={name: plan.part(name) for name in params} if subject.body.towers else {},
        body=body(subject.body, s, stage),
        config=language(subject),
        kind=subject.model_type,
        whole=subject.config,
        buffers=buffers,
        prompt=prompt,
    )


def _layout_version(plan: TrainingPlan) -> int:
    """Return the transformers layout to build (4: a tensor per expert, 5: stacked). Full training
    uses stacks: the same bytes in far fewer tensors than 20,000. Adapters and quantized weights
    follow the release."""
    return MERGES if plan.method == "full" else plan.major


def _check_experts(plan: TrainingPlan) -> None:
    """Raise UnsupportedError unless experts are stacked as transformers 5 trains them, and not
    quantized in other formats than bitsandbytes'."""
    subject, form = plan.subject, plan.subject.choice.scheme
    if not any(x.kind in EXPERTS for x in subject.part.blueprint.counted):
        return
    if form is not None and plan.major >= MERGES and not form.name.startswith(BITSANDBYTES):
        raise UnsupportedError(sentence("no_expert_steps", kind=subject.model_type, form=form.name))


Packed = Mapping[str, tuple[int, ...]]  # bytes of each tensor, by the parameter's name


def _packed(plan: TrainingPlan) -> Packed:
    """Return the bytes of each tensor that holds a quantized parameter, by the parameter's name."""
    choice = plan.subject.choice
    form = choice.scheme
    if form is None:
        return {}
    facts = ("packed", *choice.facts, plan.loaded.name, plan.major)
    return dict(
        _one_by_one(memo(plan.subject.part, facts, lambda: _bytes_by_name_and_count(plan, form)))
    )


def _bytes_by_name_and_count(
    planned: TrainingPlan, form: Scheme
) -> dict[tuple[str, int], tuple[int, ...]]:
    """Return the bytes of each tensor of a quantized parameter, by its name and the number of
    layers or experts like it."""
    sizes: dict[tuple[str, int], list[int]] = {}
    plan = planned.subject.part.blueprint
    for t, count in counted(plan, form, dtype=planned.loaded, transformers=planned.major):
        sizes.setdefault((t.source, count), []).append(t.nbytes)
    each = {key: tuple(parts) for key, parts in sizes.items() if len(parts) > 1}
    return _with_stacks(planned, form, each) if form.stacks and planned.major >= MERGES else each


def _with_stacks(
    planned: TrainingPlan, form: Scheme, each: Mapping[tuple[str, int], tuple[int, ...]]
) -> dict[tuple[str, int], tuple[int, ...]]:
    """Return `each` with stacked experts in place of single ones."""
    plan = planned.subject.part.blueprint
    pack = form.loader(LoaderFacts(plan=plan, dtype=planned.loaded, major=planned.major))
    stacks = [x for x in members(plan, major=planned.major).specs if x.kind == "experts"]
    whole = {x.name: pack(Param(x.name, x.shape, "experts")) for x in stacks}
    return {key: parts for key, parts in each.items() if expert(key[0]) is None} | {
        (name, 1): tuple(kind.size(prod(shape)) for _, kind, shape in pieces)
        for name, pieces in whole.items()
        if pieces is not None
    }


def _one_by_one(
    several: Mapping[tuple[str, int], tuple[int, ...]],
) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield (name, bytes per tensor) of quantized parameters, layer by layer: all of the first
    layer or expert, then all of the second..."""
    for (_, count), group in groupby(several, lambda key: alike(*key)):
        names = [name for name, _ in group]
        for i in range(count):
            for name in names:
                yield numbered(name, i) if count > 1 else name, several[name, count]


def _allocate_quantized(
    m: Machine, plan: TrainingPlan, packed: Packed, params: dict[str, LeafTensor], around: Around
) -> None:
    """Allocate the tensors of quantized parameters. Sharded codes become parameters like all
    others; scales and maps are attributes of them, and replicated."""
    if plan.codes == "whole":
        m.heap.row(chain.from_iterable(packed.values()), "weights")
        return
    whole = plan.sharding.kind == "zero3" and not plan.stored_as_floats  # of what is cut
    dtype = INT8 if whole else plan.computing
    for source, sizes in packed.items():
        for number, nbytes in enumerate(sizes):
            cut = "whole" if number and plan.codes != "all" else plan.codes
            if cut in ("whole", "both"):
                m.heap.take(nbytes, "weights")
            if cut == "whole":
                continue
            count, which = ceil_div(nbytes, dtype.size(1)), f" {number}" if number else ""
            codes = ParameterSpec(f"{source} (packed{which})", (count,), CODES)
            params[codes.name] = around.place(m, codes, dtype)
            params[codes.name].trainable = False


def _param(
    m: Machine, plan: TrainingPlan, spec: ParameterSpec, packed: Packed, around: Around
) -> LeafTensor:
    if spec.kind == ELSEWHERE:
        return LeafTensor(
            spec.name, spec.shape, _dtype(plan, spec), None, trainable=False, kind=spec.kind
        )
    if spec.name in packed:
        turned = spec.kind == "conv1d"  # bitsandbytes replaces a Conv1D by a linear
        shape, kind = (spec.shape[::-1], "linear") if turned else (spec.shape, spec.kind)
        return LeafTensor(spec.name, shape, plan.loaded, None, trainable=False, kind=kind)
    return around.place(m, spec, _dtype(plan, spec))


def _linear_replacements(
    plan: TrainingPlan, params: dict[str, LeafTensor], packed: Packed
) -> Iterator[tuple[str, Wrap]]:
    """Yield (path, replacement) of linears whose weights are quantized."""
    form = plan.subject.choice.scheme
    for name in packed:
        assert form is not None
        path = name.removesuffix(".weight")
        if name not in params:
            raise UnsupportedError(
                sentence("no_form_steps", kind=plan.subject.model_type, name=name, form=form.name)
            )
        weight, bias = params[name], params.get(f"{path}.bias")
        if weight.kind == "experts":
            nested = form.name.endswith("-dq")
            yield path, Stack4(weight.shape, plan.unpacked, nested=nested)
        elif form.name == "bnb-int8":
            yield path, Linear8(weight, bias)
        elif plan.base.kernel is not None:
            yield path, Dequantized(weight, bias, plan.base.kernel)
        else:
            nested, keeps = form.name.endswith("-dq"), kbit.keeps_inputs(plan.base.bitsandbytes)
            yield path, Linear4(weight, bias, plan.unpacked, nested=nested, keeps=keeps)


def _float8(
    plan: TrainingPlan, specs: Sequence[ParameterSpec], params: dict[str, LeafTensor]
) -> Iterator[tuple[str, Wrap]]:
    casts = float8.casts(plan)
    for spec in float8.linears(plan, specs):
        path = spec.name.removesuffix(".weight")
        weight, bias = params.get(spec.name), params.get(f"{path}.bias")
        if weight is not None and float8.divides(weight.shape):
            alone = casts._replace(shared=False) if bias is not None else casts
            yield path, LinearFloat8(weight, bias, plan.computing, alone)
    if plan.float8_experts:
        alone = casts._replace(fused=True, shared=False)
        for spec in specs:
            if spec.kind == "experts" and len(spec.shape) == STACK:
                yield spec.name, StackFloat8(alone)


def _dtype(plan: TrainingPlan, spec: ParameterSpec) -> DType:
    if plan.low_layers and ".layers." in spec.name:
        return BFLOAT16
    return TORCH.get(spec.dtype, plan.loaded)


def _stack(planned: TrainingPlan, known: Members) -> tuple[str, Sequence[int]]:
    """Return (path, layer numbers) of the module list that holds the language model's layers.
    Raises UnsupportedError if no list has as many layers."""
    plan, count = planned.subject.part.blueprint, len(planned.subject.body.blocks)
    if differs(planned.subject.model_type, "one_layer_for_all") and len(known.layers) == 1:
        ((path, groups),) = known.layers.items()
        return path, [i * len(groups) // count for i in range(count)]
    fits = [(path, numbers) for path, numbers in known.layers.items() if len(numbers) >= count]
    if not fits or not count:
        raise UnsupportedError(
            about(
                planned.subject.model.reference,
                sentence("no_layers", cls=plan.cls),
            )
        )
    attends = planned.subject.body.encoder is not None
    path, numbers = min(fits, key=lambda f: (attends and DECODER not in f[0], len(f[1])))
    return path, numbers[:count]


DECODER, ENCODER = "decoder", "encoder"


def _encoder(root: Module, path: str, plan: TrainingPlan) -> list[Module]:
    """Return the encoder's layers, found by the decoder's path; an empty list without an
    encoder."""
    inner = plan.subject.body.encoder
    if inner is None or DECODER not in path:
        return []
    other = path.replace(DECODER, ENCODER)
    return [root.at(f"{other}.{i}") for i in range(len(inner.blocks))]
