"""Adapters on a class in memory: LoRA's on linears and experts, PEFT's other methods on linears."""

from collections.abc import Iterator, Sequence

from weighbridge.base.dtypes import TORCH
from weighbridge.base.errors import TriedError
from weighbridge.base.sentences import sentence
from weighbridge.models.arch.blueprint import Blueprint
from weighbridge.training.adapters import (
    Adapters,
    ExpertTarget,
    experts,
    matched,
    refuse_targets,
    saved,
)
from weighbridge.training.forward.adapters import FusedLora, LoraLinear, Plain, Stacked, fuses
from weighbridge.training.forward.machine import Machine
from weighbridge.training.forward.modules import ParameterSpec, Wrap
from weighbridge.training.forward.prompts import KeyPrefix, Prompt
from weighbridge.training.forward.step import Around
from weighbridge.training.forward.tensors import LeafTensor
from weighbridge.training.kbit import HALF
from weighbridge.training.parameters import members
from weighbridge.training.plan import TrainingPlan
from weighbridge.training.prompts import put_before
from weighbridge.training.tuners import TUNERS, Adapted, Maker, ends_feed_forward


def _maker(m: Machine, with_: Adapters, around: Around) -> Maker:
    return lambda h: around.adapter(m, h, TORCH.get(h.dtype, with_.dtype))


def put_on(
    m: Machine,
    around: Around,
    planned: TrainingPlan,
    params: dict[str, LeafTensor],
    wraps: dict[str, Wrap],
) -> Prompt | KeyPrefix | None:
    """Put adapters on the targeted modules, and copy those to be trained whole. Return the trained
    prompt or prefix, None for other methods."""
    with_ = planned.adapters
    assert with_ is not None
    make = _maker(m, with_, around)
    if with_.virtual_tokens:
        return put_before(make, with_, planned.subject.body, planned.dtype, params)
    plan = planned.subject.part.blueprint
    known = members(plan, major=planned.major, text_alone=planned.text_alone)
    specs = [*known.specs, *_tied(plan, params)]
    if with_.tuner:
        _tune(m, make, planned, specs, params, wraps)
    else:
        _adapt(make, planned, with_, specs, params, wraps)
    _save(make, planned, with_, specs, params)
    return None


def _adapt(
    make: Maker,
    planned: TrainingPlan,
    with_: Adapters,
    specs: Sequence[ParameterSpec],
    params: dict[str, LeafTensor],
    wraps: dict[str, Wrap],
) -> None:
    """Put LoRA adapters on the targeted linears and on parameters of experts."""
    stacks, targets = experts(specs, planned.subject.model_type, with_.targets)
    for stack in stacks:
        _stacked(make, with_, stack, params, wraps)
    alone = {s.name.removesuffix(".weight") for s in stacks}
    paths = matched(specs, targets, with_.modules_to_save) if targets else []
    refuse_targets(paths, planned.subject.model_type, "")
    for name in (n for n in paths if n not in alone and not _of_experts(n, stacks)):
        weight, bias = params[f"{name}.weight"], params.get(f"{name}.bias")
        inside, outside = _sides(weight)
        a, b = _factors(make, name, (inside, outside), with_.r)
        params[a.name], params[b.name] = a, b
        base = wraps.get(name) or Plain(weight, bias)
        fused = planned.framework.fused_adapters and not with_.dora
        if fused and fuses(name, paths, params):
            wraps[name] = FusedLora(name, base, a, b, with_.dropout)
            continue
        wrap = LoraLinear(base, weight, a, b, with_.dropout)
        if with_.dora:
            path = f"{name}.lora_magnitude_vector.weight"
            wrap.magnitude = make(ParameterSpec(path, (outside,), "linear"))
            wrap.biased = bias is not None
            params[path] = wrap.magnitude
        wraps[name] = wrap


def _tune(
    m: Machine,
    make: Maker,
    planned: TrainingPlan,
    specs: Sequence[ParameterSpec],
    params: dict[str, LeafTensor],
    wraps: dict[str, Wrap],
) -> None:
    """Put a PEFT method other than LoRA on the targeted linears; it supports no other modules."""
    kind, with_ = planned.subject.model_type, planned.adapters
    assert with_ is not None
    stacks, _ = experts(specs, kind, with_.targets)
    if stacks:
        raise TriedError(
            sentence("adapters.stacks", name=stacks[0].name),
            seen="peft 0.21: Target module is not supported. Currently only the following "
            "modules are supported: torch.nn.Linear",
        )
    paths = matched(specs, with_.targets, with_.modules_to_save)
    refuse_targets(paths, kind, with_.tuner)
    tuner = TUNERS[with_.tuner]
    turned = [n for n in paths if params[f"{n}.weight"].kind == "conv1d"]
    if turned and not tuner.conv1d:
        raise TriedError(
            sentence("adapters.conv1d", tuner=with_.tuner, name=turned[0]),
            seen="peft 0.21: Target module Conv1D() is not supported",
        )
    sides = [_sides(params[f"{name}.weight"]) for name in paths]
    with m.making("buffers"):
        shared = tuner.shared(m, sides, with_.r) if tuner.shared else None
    for name, (inside, outside) in zip(paths, sides, strict=True):
        before = Adapted(
            m=m,
            make=make,
            name=name,
            base=wraps.get(name) or Plain(params[f"{name}.weight"], params.get(f"{name}.bias")),
            inside=inside,
            outside=outside,
            r=with_.r,
            size=with_.size,
            rate=with_.dropout,
            last=with_.tuner == "ia3" and ends_feed_forward(name, kind),
            cast=name in wraps or params[f"{name}.weight"].dtype in HALF,
            shared=shared,
        )
        wrap, made = tuner.wrap(before)
        wraps[name] = wrap
        params.update((p.name, p) for p in made)


def _sides(weight: LeafTensor) -> tuple[int, int]:
    """Return (inputs, outputs) of a linear."""
    first, second = weight.shape
    return (first, second) if weight.kind == "conv1d" else (second, first)


def _save(
    make: Maker,
    planned: TrainingPlan,
    with_: Adapters,
    specs: Sequence[ParameterSpec],
    params: dict[str, LeafTensor],
) -> None:
    """Add a trainable copy of each module that is trained whole (modules_to_save)."""
    if not with_.modules_to_save:
        return
    dtypes = {h.name: TORCH.get(h.dtype, planned.loaded) for h in specs}
    for name in saved(params, with_.modules_to_save):
        whole = params[name]
        dtype = dtypes.get(name, planned.dtype).name
        params[f"original {name}"] = whole
        params[name] = make(ParameterSpec(f"{name} (saved)", whole.shape, whole.kind, dtype))


def _tied(plan: Blueprint, params: dict[str, LeafTensor]) -> Iterator[ParameterSpec]:
    """Yield specs of heads tied to the embedding: PEFT sees separate modules that share its
    weight."""
    for x in plan.counted:
        if x.tied in params and x.name.endswith(".weight") and params[x.tied].kind == "embedding":
            params[x.name] = params[x.tied]
            yield ParameterSpec(x.name, x.shape, "linear", x.dtype)


def _of_experts(name: str, stacks: list[ExpertTarget]) -> bool:
    """Return whether a linear is named like an expert's projection. If experts are stacked,
    all-linear does not match such linears anywhere."""
    return bool(stacks) and name.rpartition(".")[2] in ("gate_proj", "up_proj", "down_proj")


def _stacked(
    make: Maker,
    with_: Adapters,
    target: ExpertTarget,
    params: dict[str, LeafTensor],
    wraps: dict[str, Wrap],
) -> None:
    shape = params[target.name].shape
    count, outside, inside = shape if len(shape) == 3 else (1, *shape)
    if with_.dora or with_.dropout:
        raise TriedError(
            sentence("adapters.plain_stacks", name=target.name),
            seen="peft 0.21 tuners/lora/layer.py: lora.ParamWrapper does not work with "
            "lora_dropout != 0 and use_dora",
        )
    a, b = _factors(make, target.name, (inside, outside), with_.r * target.ranks * count)
    params[a.name], params[b.name] = a, b
    wraps[target.name] = Stacked(a, b, wraps.get(target.name))


def _factors(
    make: Maker, name: str, sides: tuple[int, int], rank: int
) -> tuple[LeafTensor, LeafTensor]:
    """Return the two matrices of a new adapter, A [rank, in] and B [out, rank]; `sides` are (in,
    out)."""
    inside, outside = sides
    a = make(ParameterSpec(f"{name}.lora_A.weight", (rank, inside), "linear"))
    return a, make(ParameterSpec(f"{name}.lora_B.weight", (outside, rank), "linear"))
