"""The composition: a model and a workload in, a report out."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from weighbridge import fit
from weighbridge.components import device, host
from weighbridge.components.layers import largest_kept_whole
from weighbridge.components.table import table
from weighbridge.components.weights import (
    DIVISIONS,
    FLOATING,
    Choice,
    Placed,
    placed,
    total,
    volatile_bytes,
)
from weighbridge.dtypes import BFLOAT16, FLOAT32, DType, torch_dtype
from weighbridge.engines import transformers
from weighbridge.errors import UnsupportedError, UsageError
from weighbridge.memory import Basis, Device, Phase
from weighbridge.model import Model, ModelPart
from weighbridge.quantization.declared import declared, fallback_dtype
from weighbridge.quantization.scheme import Scheme
from weighbridge.quantization.schemes import scheme
from weighbridge.report import ModelFacts, Report, Verdict
from weighbridge.workload import Load

if TYPE_CHECKING:
    from weighbridge.accelerators.budget import Budget

CUDA = ("NVIDIA", "AMD", "")  # ROCm's torch has the same allocator; "" is a device of a given size
BASIS: dict[bool, Basis] = {True: "read", False: "computed"}  # by whether it is as stored
ONE_BUFFER = ("llama.cpp", "mlx-lm")  # no caching allocator between the tensors and the device
ENGINES = {"gguf": "llama.cpp", "timm": "timm", "diffusers": "diffusers", "torch": "torch"}


@dataclass(frozen=True, slots=True)
class Decision:
    """The format that one part is loaded in, and in words why."""

    choice: Choice
    why: str


def load(model: Model, workload: Load) -> Report:
    """What the weights of `model` take on one device: in the chosen format, and in every one."""
    version = transformers.version(workload.engine_version)
    major = version[0]
    decisions = {part.name: decide(part, workload, major) for part in model.parts}
    first = decisions[model.parts[0].name]
    tensors = {
        part.name: tuple(placed(part, decisions[part.name].choice, major=major))
        for part in model.parts
    }
    weights = {name: total(group, "weights") for name, group in tensors.items()}
    found = facts(model)
    everything = [t for group in tensors.values() for t in group]
    on_device = _on_device(
        model,
        everything,
        first.choice,
        formula=f"{found.parameters:,} parameters in {first.choice.name}",
        warm=workload.device_map is not None and version >= transformers.WARMUP_SINCE,
    )
    straight = workload.device_map is not None or engine(model, first.choice.scheme) in ONE_BUFFER
    on_host = tuple(
        host.while_loading(
            part,
            decisions[part.name].choice.dtype,
            weights[part.name],
            major=major,
            straight_to_device=straight,
        )
        for part in model.parts
    )
    native = {part.name: native_dtype(part) for part in model.parts}
    priced = table(model, native, major=major)
    gpu = Device(index=0, kind="gpu", phases=(on_device,))
    budget = workload.budget()
    return Report(
        task="load",
        model=found,
        workload=effective(model, workload, decisions),
        devices=(
            gpu,
            Device(index=0, kind="host", phases=(Phase("load", on_host),)),
        ),
        derived=derived(model, decisions, major)
        | {
            "download_estimate_bytes": _download(model, decisions, weights, major),
            "unavailable_formats": priced.unavailable,
        },
        table=priced.rows,
        verdict=None if budget is None else _verdict(model, gpu, everything, budget, first),
        warnings=model.notes if budget is None else (*model.notes, *_cautions(budget)),
    )


def _verdict(
    model: Model, gpu: Device, tensors: list[Placed], budget: "Budget", first: Decision
) -> Verdict:
    largest = None
    if budget.choice.count > 1 and not model.rough:
        largest = largest_kept_whole((t.module, t.nbytes) for t in tensors)
    return fit.verdict(
        gpu, budget, engine=engine(model, first.choice.scheme), largest_layer=largest
    )


def _cautions(budget: "Budget") -> Iterator[str]:
    """What a verdict cannot know: which part a short name meant, and how other stacks allocate."""
    part = budget.choice.part
    if budget.choice.note:
        yield f"--gpu: {budget.choice.note}"
    if part.vendor not in CUDA:
        yield (
            f"{part.name}: the estimate is that of a CUDA device; the allocator and the context of "
            f"{part.vendor}'s own stack differ"
        )


def _on_device(
    model: Model, tensors: list[Placed], first: Choice, *, formula: str, warm: bool
) -> Phase:
    form, basis = first.scheme, BASIS[first.as_stored]
    weights = total(tensors, "weights")
    if model.rough:
        return device.rough(weights)
    if engine(model, form) in ONE_BUFFER:
        return device.in_one_buffer(weights, formula=formula, basis=basis)
    order = None if warm else transformers.placement_order
    return device.loaded(tensors, formula=formula, basis=basis, order=order)


def engine(model: Model, form: Scheme | None = None) -> str:
    """Who loads such files, or such a format."""
    if form is not None and form.engine:
        return form.engine
    found = (ENGINES.get(part.library) for part in model.parts)
    return next(filter(None, found), "transformers")


def decide(part: ModelPart, workload: Load, major: int) -> Decision:
    """The format that the loader gives one part: as asked, as packed, or the engine's default.

    A packed checkpoint stays packed whatever float dtype is asked for; that is of what its format
    leaves alone.
    """
    plain = DIVISIONS.get(workload.dtype or "")
    divided = plain is not None and plain.nbytes < 2  # fp8, int8, int4: every weight alike
    if part.packed and not divided:
        own = _packed(part, workload, major)
        if workload.quantization in (None, own.choice.scheme and own.choice.scheme.name):
            return own
    if workload.quantization:
        dtype, _ = _dtype(part, workload, 5)
        return Decision(Choice(dtype=dtype, scheme=scheme(workload.quantization)), "as you asked")
    if plain is not None:
        return Decision(Choice(dtype=plain), "as you asked")
    dtype, why = _dtype(part, workload, major)
    return Decision(Choice(dtype=dtype), why)


def _packed(part: ModelPart, workload: Load, major: int) -> Decision:
    """A checkpoint in a format of its own: its tensors where headers were read."""
    dtype = _dtype(part, workload, major)[0] if workload.dtype else native_dtype(part)
    if not part.stored:
        assert part.quantization is not None
        form = declared(part.quantization)
        return Decision(Choice(dtype=dtype, scheme=form), "as the config's quantization declares")
    try:
        known = declared(part.quantization) if part.quantization is not None else None
    except UnsupportedError:  # its tensors are read, so nothing depends on the name
        known = None
    choice = Choice(dtype=dtype, scheme=known, as_stored=True)
    return Decision(choice, "as the checkpoint is stored")


def _dtype(part: ModelPart, workload: Load, major: int) -> tuple[DType, str]:
    """(dtype, why): the user's, else the engine's default, else the model's own."""
    if workload.dtype:
        dtype = torch_dtype(workload.dtype, "--dtype")
        if not dtype.name.startswith(FLOATING):
            known = ", ".join(DIVISIONS)
            raise UsageError(f"--dtype {workload.dtype!r} is not a dtype of weights; use {known}")
        return dtype, "as you asked"
    if part.library == "torch" and part.declared_dtype:
        return torch_dtype(part.declared_dtype, "the module"), "as the module holds it"
    if major < 5:
        return FLOAT32, "the default of transformers 4"
    if part.library in ("diffusers", "timm"):
        return FLOAT32, f"the default of {part.library}"
    return _own_dtype(part)


def _own_dtype(part: ModelPart) -> tuple[DType, str]:
    if part.declared_dtype:
        return torch_dtype(part.declared_dtype, "config.json: dtype"), "as the config declares"
    for t in part.stored:
        if t.dtype.name.startswith(FLOATING):
            return t.dtype, "as the first tensor of the checkpoint is stored"
    if part.quantization is not None:
        return fallback_dtype(part.quantization), "as loaders of this quantization take it"
    if part.library == "size":
        return BFLOAT16, "assumed: 16 bits, as models of today are released"
    return FLOAT32, "torch's default, since the config declares none"


def native_dtype(part: ModelPart) -> DType:
    """The dtype that the model itself asks for, whatever the engine or the user does."""
    return _dtype(part, Load(), 5)[0]


def effective(model: Model, workload: Load, decisions: Mapping[str, Decision]) -> dict[str, object]:
    """Every setting as it was used, defaults included. Parts of a pipeline may differ."""
    first = next(iter(decisions.values()))
    form = first.choice.scheme
    name = engine(model, form)
    dtypes = dict.fromkeys(d.choice.dtype.name for d in decisions.values())
    newest = transformers.NEWEST if name == "transformers" else None
    return {
        "engine": name,
        "engine_version": workload.engine_version or newest,
        "dtype": " and ".join(dtypes),
        "quantization": form.name if form else None,
        "device_map": workload.device_map,
        "base_model": workload.base_model,
        "gpu": workload.gpu,
        "gpu_memory": workload.gpu_memory,
        "headroom": workload.headroom,
    }


def _download(
    model: Model, decisions: Mapping[str, Decision], weights: Mapping[str, int], major: int
) -> int | None:
    """What the files would take, where none was read: weights as the model's config declares.

    `weights` are the bytes of each part as it is loaded, which mostly is how it is stored.
    """
    if model.download_bytes is not None or model.rough:
        return None
    nbytes = 0
    for part in model.parts:
        own, chosen = decide(part, Load(), 5).choice, decisions[part.name].choice
        same = major >= 5 and (own.name, own.dtype) == (chosen.name, chosen.dtype)
        stored = weights[part.name] if same else total(placed(part, own, major=5), "weights")
        nbytes += stored
    return nbytes


def facts(model: Model) -> ModelFacts:
    return ModelFacts(
        reference=model.reference,
        revision=model.revision,
        name=model.name,
        architecture=model.architecture,
        parameters=model.parameters,
        active_parameters=model.active_parameters,
        stored_bytes=model.stored_bytes,
        download_bytes=model.download_bytes,
        read_from=model.read_from,
        parts=model.part_sizes(),
        rough=model.rough,
    )


def derived(model: Model, decisions: Mapping[str, Decision], major: int) -> dict[str, object]:
    """What follows from the model and is no setting."""
    unloaded = [t for part in model.parts for t in part.unloaded]
    return {
        "dtype_from": ", ".join(dict.fromkeys(d.why for d in decisions.values())),
        "as_stored": any(d.choice.as_stored for d in decisions.values()),
        "unloaded_tensors": len(unloaded),
        "unloaded_bytes": sum(t.nbytes for t in unloaded),
        "volatile_buffer_bytes": sum(volatile_bytes(part, major) for part in model.parts),
    }
