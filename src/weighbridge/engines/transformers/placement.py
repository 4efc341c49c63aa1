"""Tensors that a device holds from loading on: its share of the weights, and library workspaces.

The allocator is replayed over the tensors in the order in which they are placed. Free space between
them may serve later tensors, or may not: that is between the low and the high end of fragmentation.
Modules of older versions also hold tables of rotary positions (rules.py), and a tied head that the
files store again is loaded, and lives until it is tied.

With `device_map="auto"` whole layers are distributed:

    each device may take    total / n + 5/4 of the largest block that is never split, or of the mean
                            module if that is more, or all that it has free; the last one the rest
    the first spares        the largest module that is still to come, block or not

Modules are assigned in the order of the class, each whole; tied weights go with their owner.
Source: accelerate 1.15 utils/modeling.py, `get_balanced_memory` and `infer_auto_device_map`.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from weighbridge.base.memo import memo
from weighbridge.base.memory import Basis, Bytes, Component, exactly
from weighbridge.base.records import dataclass, frozen_record
from weighbridge.engines.interface import Subject
from weighbridge.engines.transformers.plan import GenerationPlan, computing, language
from weighbridge.engines.transformers.rules import placement_order
from weighbridge.engines.transformers.workspaces import HEADS, gptq, products
from weighbridge.memory.components import spelled
from weighbridge.memory.components.device import (
    LAZY_SINCE,
    Settled,
    context,
    kernels,
    settled,
)
from weighbridge.memory.components.weights import (
    FormatChoice,
    PlacedTensor,
    apart,
    placed,
    stacked,
    together,
    weight_bytes,
)
from weighbridge.models.arch.mixers import Attention


@frozen_record
class DeviceShare:
    """The share of one device: tensors, and layers of the language model from `start` to `end`."""

    tensors: tuple[PlacedTensor, ...]
    start: int
    end: int


def deal(
    tensors: Sequence[PlacedTensor],
    blocks: Sequence[str],
    *,
    layers: int,
    devices: int,
    rooms: Sequence[int] = (),
) -> tuple[DeviceShare, ...]:
    """Return the share of each device. `blocks`: patterns of modules that are never split; `rooms`:
    free bytes per device, if devices differ."""
    if devices == 1:
        return (DeviceShare(tensors=tuple(tensors), start=0, end=layers),)
    units = _units(tensors, blocks)
    sizes = {name: sum(t.nbytes * t.copies for t in content) for name, content in units.items()}
    most = sum(sizes.values()) // devices + 5 * _buffer(sizes, units, blocks) // 4
    spared = _to_come(list(sizes.values()))
    numbers = _numbers(units, layers)
    piles: list[list[str]] = [[] for _ in range(devices)]
    device, used = 0, 0
    for (name, nbytes), largest in zip(sizes.items(), spared, strict=True):
        limit = min(most, rooms[device]) if rooms else most
        limit -= largest if device == 0 else 0
        if used + nbytes > limit and device < devices - 1 and piles[device]:
            device, used = device + 1, 0
        piles[device].append(name)
        used += nbytes
    return tuple(_shares(piles, units, numbers))


def _buffer(
    sizes: Mapping[str, int], units: Mapping[str, list[PlacedTensor]], blocks: Sequence[str]
) -> int:
    """Return the bytes of the largest unsplit block, or of the mean module that owns tensors."""
    whole = [re.compile(_pattern(p)) for p in blocks]
    whole_sizes = (n for name, n in sizes.items() if any(p.fullmatch(name) for p in whole))
    leaves: dict[str, int] = {}
    for t in (t for content in units.values() for t in content):
        leaves[t.module] = leaves.get(t.module, 0) + t.nbytes * t.copies
    mean = sum(leaves.values()) // max(1, len(leaves))
    return max(mean, max(whole_sizes, default=0))


def _to_come(sizes: list[int]) -> list[int]:
    """Return, for each size, the largest of the following ones."""
    largest_behind, largest = [], 0
    for nbytes in reversed(sizes):
        largest_behind.append(largest)
        largest = max(largest, nbytes)
    return largest_behind[::-1]


def _pattern(block: str) -> str:
    return block.replace(".", r"\.").replace("*", r"\d+")


def _units(tensors: Sequence[PlacedTensor], blocks: Iterable[str]) -> dict[str, list[PlacedTensor]]:
    """Return the tensors by the module that is never split, in order."""
    whole = [re.compile(_pattern(p) + r"(?=\.|$)") for p in blocks]
    units: dict[str, list[PlacedTensor]] = {}
    for _, group in together(tensors):
        unit = next((m[0] for m in (p.match(group[0].module) for p in whole) if m), "")
        for t in group if unit else apart(group):
            units.setdefault(unit or t.module, []).append(t)
    return units


def _numbers(units: Iterable[str], layers: int) -> dict[str, int]:
    """Return module -> its layer in the language model: the last run of that many modules."""
    runs: dict[str, list[str]] = {}
    for name in units:
        stem, _, last = name.rpartition(".")
        if last.isdecimal():
            runs.setdefault(stem, []).append(name)
    fitting = [names for names in runs.values() if len(names) == layers]
    return {name: i for i, name in enumerate(fitting[-1])} if fitting else {}


def _shares(
    piles: Sequence[Sequence[str]], units: dict[str, list[PlacedTensor]], numbers: dict[str, int]
) -> Iterable[DeviceShare]:
    start = 0
    for pile in piles:
        indices = [numbers[name] for name in pile if name in numbers]
        end = max(indices, default=start - 1) + 1
        tensors = tuple(t for name in pile for t in units[name])
        yield DeviceShare(tensors=tensors, start=start, end=max(start, end))
        start = max(start, end)


# ---- holding


@dataclass(frozen=True, slots=True)
class LoadedShare:
    """One device's share, and its allocator after loading."""

    share: DeviceShare
    held: Settled
    parameters: int  # of the whole model


@frozen_record
class Holding:
    """Components of one device: `fixed` in every phase, `working` when it computes, `loading` only
    first. `rounding` and `free` are the allocator's bytes: per tensor, and between them."""

    fixed: tuple[Component, ...]
    working: tuple[Component, ...]
    loading: tuple[Component, ...]
    rounding: int
    free: int


def loaded(subject: Subject, plan: GenerationPlan) -> tuple[LoadedShare, ...]:
    """Return the share of each device, after loading the model."""
    warm = plan.device_map is not None and plan.rules.warms_up
    key = ("loaded", subject.formats, subject.major, plan.devices, plan.rooms, warm)

    def compute() -> tuple[LoadedShare, ...]:
        tensors = _placed(subject)
        plain = not subject.choice.as_stored and subject.choice.scheme is None
        shares = deal(
            stacked(tensors) if plain and plan.rules.stacked_experts else tensors,
            subject.part.blueprint.blocks,
            layers=len(subject.body.blocks),
            devices=plan.devices,
            rooms=plan.rooms,
        )
        count = subject.model.parameters
        order = None if warm else placement_order
        return tuple(LoadedShare(share, settled(share.tensors, order), count) for share in shares)

    return memo(subject.model, key, compute)


def _placed(subject: Subject) -> tuple[PlacedTensor, ...]:
    """A GGUF file is unpacked while it is read: transformers modeling_gguf_pytorch_utils.py."""
    if subject.part.library != "gguf":
        return subject.tensors
    plain = FormatChoice(dtype=computing(subject.choice.dtype))
    return placed(subject.part, plain, major=subject.major)


def holding(subject: Subject, plan: GenerationPlan, share: LoadedShare) -> Holding:
    last = share.share.end == len(subject.body.blocks)
    fixed = (
        *_tensors(subject, share, plan.stays),
        *(_second_head(subject, plan) if last else ()),
        *_tables(subject, plan, share.share),
        context(plan.part),
    )
    packed = gptq(subject.part, _form(subject), plan.rules.version, plan.capability)
    return Holding(
        fixed=tuple(c for c in fixed if c.bytes.high),
        working=(
            *products(plan.part, plan.torch),
            *((packed,) if packed else ()),
            *kernels(plan.torch or LAZY_SINCE, plan.part, training=False),
        ),
        loading=tuple(_tied_apart(subject, plan)) if last else (),
        rounding=share.held.rounding,
        free=share.held.free,
    )


def _tensors(
    subject: Subject, share: LoadedShare, stays: FormatChoice | None
) -> Iterator[Component]:
    """Yield weights and buffers; the low end is that of weights that may stay quantized."""
    unpacked = subject.part.library == "gguf"
    basis: Basis = "read" if subject.choice.as_stored and not unpacked else "computed"
    form = f"{computing(subject.choice.dtype).name}, unpacked" if unpacked else subject.choice.name
    least = weights = share.held.weights
    if stays is not None:
        packed, whole = (
            weight_bytes(subject.part, choice, major=subject.major)
            for choice in (stays, subject.choice)
        )
        least = weights * packed // whole
    yield Component(
        name="weights",
        bytes=Bytes(least, weights, weights),
        basis=basis,
        formula=spelled.parameters(share.parameters, form, share.held.weights),
        source="file headers" if basis == "read" else "the class's tensors",
    )
    yield Component(
        name="buffers",
        bytes=exactly(share.held.buffers),
        basis="computed",
        formula="tensors that modules hold and do not train",
        source="the class's register_buffer calls",
    )


def _tables(subject: Subject, plan: GenerationPlan, share: DeviceShare) -> Iterator[Component]:
    """Yield each layer's cosines and sines for every position up to the model's maximum."""
    if not plan.rules.rotary_tables:
        return
    config = language(subject)
    positions = config.num("max_position_embeddings", default=0)
    part = config.ratio("partial_rotary_factor", "rotary_pct", default=1.0)
    blocks = subject.body.blocks[share.start : share.end]
    heads = (m for b in blocks for m in b.mixers if isinstance(m, Attention))
    width = sum(int(m.key_dim * part) for m in heads)
    yield Component(
        name="buffers",
        detail="rotary tables",
        bytes=exactly(2 * positions * width * plan.prompt.size),
        basis="computed",
        formula=f"2 x {positions:,} positions x {width:,} of all layers",
        source=f"transformers {plan.rules.written}, cos_cached and sin_cached",
    )


def _tied_apart(subject: Subject, plan: GenerationPlan) -> Iterator[Component]:
    """Yield a tied head that is loaded separately, and freed when weights are tied. Some versions
    of AutoAWQ store it: Qwen2.5's checkpoints have it, Qwen2's do not."""
    if plan.rules.ties_at_once:
        return
    again = sum(t.nbytes for t in subject.part.unloaded if t.name.endswith(HEADS))
    known = bool(subject.part.stored)
    if not known and _form(subject).startswith(STORES_HEADS):
        again = _tied_head(subject)
    if again:
        yield Component(
            name="temporaries",
            detail="a tied head, stored again",
            bytes=exactly(again) if known else Bytes(0, 0, again),
            basis="read" if known else "assumed",
            formula="loaded, and given up when weights are tied",
            source="transformers modeling_utils.py, tie_weights",
        )


def _second_head(subject: Subject, plan: GenerationPlan) -> Iterator[Component]:
    """Yield the second copy of a tied head, beside the embedding where weights are float8 in
    blocks. Published with 4.51: Qwen3-4B takes 775 to 799 MiB more than without, of a head of 742;
    0.6B 234 to 288 of 297; the untied 8B none. What keeps it was not found in the sources; no other
    version was read."""
    again = _tied_head(subject) if _form(subject) == FP8_BLOCK else 0
    if again and plan.rules.second_head:
        yield Component(
            name="weights",
            detail="a head beside the embedding that it is tied to",
            bytes=Bytes(0, again, again),
            basis="assumed",
            formula="the vocabulary's matrix again, in the dtype of the model",
            source="github.com/QwenLM/Qwen3, docs/source/getting_started/speed_benchmark.md",
        )


FP8_BLOCK = "fp8-block"
STORES_HEADS = "awq-"


def _form(subject: Subject) -> str:
    return subject.choice.scheme.name if subject.choice.scheme else ""


def _tied_head(subject: Subject) -> int:
    """Return the bytes of a head that is tied to the embedding; 0 without one."""
    heads = (p for p in subject.part.blueprint.counted if p.tied and p.name.endswith(HEADS))
    return sum(int(subject.choice.dtype.size(p.numel)) for p in heads)
