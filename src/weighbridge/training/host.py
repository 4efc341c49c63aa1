"""Host memory of a training run, on one machine: what its ranks load, keep and save there.

    workers  processes that read data, for each rank, from the first step on
    load     every rank copies the weights whose dtype changes; only one rank with accelerate's
             cpu_ram_efficient_loading (FSDP); none if tensors go straight to the device
             (device_map, bitsandbytes) or come in parts (zero.Init: rank 0 reads, mapped)
    step     states, master copies, gradients and parameters that are offloaded, by each rank
    save     tensors of a file that come from the device, which safetensors copies before it
             writes, and before 0.8 those that are on the host as well. A state dict that is
             gathered from the parts of all ranks, on rank 0: under FSDP first the model's, then
             the optimizer's. torch.save copies nothing (measured: 0.05 of 1,024 MiB)

    ZeRO 1, 2 on the host    4 master (pinned) + 4 gradients + 2 of 16 bits, and the states
    ZeRO 3                   4 master + 4 gradients + 2 of 16 bits, the states, and with params 2 of
                             what is trained, pinned in blocks of sub_group_size elements
    kept                     parameters are first pinned one by one; torch's allocator keeps their
                             blocks after they have become one
    FSDP                     parts and gradients, pinned, and the states
    nvme                     gradients in 16 bits, locked buffers of a group's states, and of
                             parameters that are on the disk too, 10^9 of each rank

A pinned block is rounded up to a power of two, and never freed. DeepSpeed pins the rest if
`pin_memory` is set: its own default is false up to August 2026 (7dfa67ae), and most examples have
true. Nothing pins the master copy of stage 3.

Source: torch 2.13 ATen/core/CachingHostAllocator.h (allocate), distributed/fsdp; DeepSpeed 0.18
runtime/zero/stage_1_and_2.py, stage3.py (_move_to_flat_buffer, _create_fp32_partitions),
partition_parameters.py, offload_config.py, runtime/swap_tensor; accelerate 1.15
utils/dataclasses.py; transformers 5.23 modeling_utils.py, training_args.py; trl 1.10
trainer/sft_trainer.py; axolotl loaders/model.py; safetensors 0.8 torch.py (save_file).

States in managed memory, which the driver moves: on the device as far as there is room.

    a device is given     what surely fits besides everything else, and the rest is on the host
    no device is given    from none to all of them: the room is unknown

They are outside torch's allocator, which does not give them its cached blocks. Source: bitsandbytes
optim/optimizer.py (get_state_buffer, prefetch_state), csrc/pythonInterface.cpp (cget_managed_ptr).
"""

from collections.abc import Iterable, Iterator, Sequence

from weighbridge.base.dtypes import TORCH
from weighbridge.base.memory import Basis, Bytes, Component, Device, Instant, around, exactly, total
from weighbridge.base.records import replace
from weighbridge.base.units import ceil_div, power_of_two
from weighbridge.engines.format_choice import native_dtype
from weighbridge.memory.components import host
from weighbridge.memory.components.weights import weight_bytes
from weighbridge.training.optimizers import Optimizer
from weighbridge.training.plan import TrainingPlan
from weighbridge.training.run import TrainingRun

MADE_ON_DEVICE = ("torchtitan",)
SHARD = {4: 5 * 10**9, 5: 50 * 10**9}  # bytes of a file that save_pretrained writes
MASTER, GRADIENT, LOW = 4, 4, 2  # bytes per element
STATE_BUFFERS = 4  # each of a sub group, in float32 (offload_optimizer.buffer_count)
PARAMETER_BUFFERS = 5 * 10**8  # elements (offload_param.buffer_count x buffer_size)
KEPT_IN_RAM = 10**9  # elements per rank (offload_param.max_in_cpu)
GATHERED = "to be saved"
# Share that FSDP's offloading takes at most besides what the estimate follows (assumed): a
# published run of FSDP1 on two cards took 107 GB, 11 % more than our upper bound (huggingface/peft
# 5d602fd docs/source/accelerate/fsdp.md)
BESIDE = 0.12
AS_STORED = ("q_proj.bias", "q_norm.weight")  # names in Qwen, whose rotary order is as in the files
TORCHTUNE = (
    "torchtune 0.6.1 training/checkpointing (safe_torch_load, FullModelHFCheckpointer), "
    "models/convert_weights.py (hf_to_tune), training/_distributed.py "
    "(load_from_full_model_state_dict)"
)
LITGPT = (
    "litgpt 0.5.11 utils.py (load_checkpoint), lightning 2.5.5 fabric/strategies/model_parallel.py "
    "(_load_raw_module_state_from_path), fabric/utilities/load.py (_lazy_load)"
)
FLOAT = "float32"  # a part's gradients, besides those in 16 bits
ZERO = "DeepSpeed runtime/zero/stage_1_and_2.py, stage3.py"


def on_host(plan: TrainingPlan, result: TrainingRun) -> Device:
    """Return the host device: memory on one machine, without states that the driver pages."""
    ranks = plan.sharding.local
    process = host.processes(ranks)
    components = tuple(c for c in _kept(plan, result, ranks) if c.bytes.high)
    if plan.sharding.fully and plan.sharding.offload != "none":
        components = (*components, _unexplained_memory(components))
    if plan.workers:
        components = (host.workers(ranks * plan.workers), *components)
    others = {"load": tuple(_passing(_loading(plan, ranks)))}
    if result.away:
        others["backward"] = (*components, _inputs(plan, result, ranks))
    others["step"] = components
    saved = _saved(plan, result)
    if saved is not None:
        others["save"] = (*components, *_passing((saved,)))
    return Device(index=0, kind="host", phases=around((process,), others))


def _passing(components: Iterable[Component]) -> Iterator[Component]:
    return (replace(each, passing=True) for each in components)


# Loading


def _reading(plan: TrainingPlan, ranks: int) -> host.HostReading:
    alone, kind = plan.sharding.cards == 1, plan.sharding.kind
    by_trl = plan.framework.name == "trl" and alone  # device_map="auto"
    by_axolotl = plan.framework.name == "axolotl" and kind in ("none", "ddp")
    form = plan.subject.choice.scheme
    in_parts = kind == "zero3" and not plan.zero.whole_first
    straight = by_trl or by_axolotl or plan.sharding.tensor > 1
    return host.HostReading(
        processes=1 if plan.loads_once else ranks,
        straight=host.straight(form, device_map=straight),
        in_parts=in_parts,
        back=plan.loads_once and not straight and host.straight(form, device_map=False),
    )


def _loading(plan: TrainingPlan, ranks: int) -> Iterator[Component]:
    if plan.framework.name in MADE_ON_DEVICE:
        return
    part, choice = plan.subject.part, plan.subject.choice
    if choice.scheme is None:  # ZeRO may convert loaded weights
        choice = replace(choice, dtype=TORCH.get(plan.asked_dtype or "", choice.dtype))
    weights = weight_bytes(part, choice, major=plan.major)
    to = host.loaded(part, choice, weights, native_dtype(part))
    if plan.framework.loads != "transformers":
        yield from _recipe_load_memory(plan, ranks, to)
        return
    yield from host.while_loading(part, to, _reading(plan, ranks), version=plan.version)


def _recipe_load_memory(plan: TrainingPlan, ranks: int, to: host.LoadedPart) -> Iterator[Component]:
    """Yield what torchtune and litgpt hold while every rank reads the mapped files. litgpt copies
    one tensor at a time. torchtune reorders queries and keys in a copy, and casts all weights if
    the model's dtype differs from the files'."""
    part, source = plan.subject.part, LITGPT
    numels = [p.numel for p in part.blueprint.counted]
    each, formula = Bytes(0, 0, to.native.size(max(numels, default=0))), "a tensor at a time"
    if plan.framework.name == "torchtune":
        turned = [p.numel for p in part.blueprint.counted if p.role in ("q", "k")]
        kept = any(p.name.endswith(AS_STORED) for p in part.blueprint.counted)
        each = exactly(0 if kept else to.native.size(sum(turned)))
        formula, source = "queries and keys in another order, a copy", TORCHTUNE
        if to.dtype != to.native and plan.subject.choice.scheme is None:
            each, formula = exactly(to.weights), f"all are copied in {to.dtype.name}"
    if each.high:
        yield _of(
            "weights", _times(ranks, each), f"{formula}, in each rank", source, detail="copies"
        )
    yield host.mapped(part, to, source=source)


# Running


def _kept(plan: TrainingPlan, result: TrainingRun, ranks: int) -> Iterator[Component]:
    yield from _states(plan, result, ranks)
    if plan.sharding.offload == "none":
        return
    if plan.sharding.fully:
        yield _of(
            "weights",
            exactly(ranks * result.pinned),
            f"parts and gradients: {result.host:,} bytes a rank, in pinned blocks of powers of two",
            "torch distributed/fsdp; ATen/core/CachingHostAllocator.h",
        )
    elif plan.sharding.offload == "nvme":
        yield from _swapped(plan, result, ranks)
    else:
        yield from _zero_host_memory(plan, result, ranks)


def _unexplained_memory(kept: tuple[Component, ...]) -> Component:
    """Return memory of unknown cause that was seen besides what FSDP offloads: 0 to a share of
    `kept`."""
    return _of(
        "other",
        Bytes(0, 0, int(BESIDE * total(c.bytes for c in kept).high)),
        f"none to {BESIDE:.0%} of what is kept off the device: so much was seen once",
        "huggingface/peft 5d602fd docs/source/accelerate/fsdp.md",
        basis="assumed",
    )


def _states(plan: TrainingPlan, result: TrainingRun, ranks: int) -> Iterator[Component]:
    offloaded = 0 if plan.sharding.offload == "nvme" else result.elsewhere.get("host", 0)
    yield _of(
        "optimizer_states",
        exactly(ranks * offloaded),
        f"{plan.optimizer.name}: states that are kept off the device",
        plan.optimizer.source,
    )


def _zero_host_memory(plan: TrainingPlan, result: TrainingRun, ranks: int) -> Iterator[Component]:
    elements = ceil_div(result.trainable, plan.sharding.shares)
    third = plan.sharding.kind == "zero3"
    groups = result.groups
    yield _of(
        "master_weights",
        exactly(ranks * (MASTER * elements if third else power_of_two(MASTER * elements))),
        f"{elements:,} numbers a rank in float32",
    )
    yield _of(
        "gradients",
        _times(ranks, _either(plan, GRADIENT * elements, _pinned(GRADIENT, groups))),
        "the part's gradients in float32",
        detail=FLOAT,
    )
    waiting = not third and plan.accumulation > 1
    yield _of(
        "gradients",
        _times(
            ranks * (1 + waiting),
            _either(plan, LOW * elements, power_of_two(LOW * elements)),
        ),
        "gradients and parameters in 16 bits on their way" + (", summed up" * waiting),
    )
    if not third:
        largest = LOW * result.largest
        yield _of(
            "gradients",
            _times(ranks, _either(plan, largest, power_of_two(largest))),
            "room for the largest gradient in 16 bits (temp_grad_buffer_for_cpu_offload)",
            detail="on the way",
        )
    if plan.sharding.offload == "params":
        yield from _parameters(plan, result, ranks, groups)


def _parameters(
    plan: TrainingPlan, result: TrainingRun, ranks: int, groups: Sequence[int]
) -> Iterator[Component]:
    """Yield the parameters in host memory. Trained ones are copied from one block per parameter
    into one per group, always pinned; frozen ones stay as they are."""
    if plan.method != "full":
        whole = result.host - MASTER * sum(groups)
        yield _of(
            "weights",
            _times(ranks, _either(plan, whole, max(whole, result.pinned))),
            f"{whole:,} bytes of parameters a rank, each its own tensor where it is frozen",
        )
        return
    yield _of(
        "weights",
        exactly(ranks * _pinned(LOW, groups)),
        f"{sum(groups):,} numbers of parameters a rank in {len(groups):,} pinned blocks",
    )
    yield _of(
        "weights",
        _times(ranks, _either(plan, 0, result.pinned)),
        "pinned blocks that single parameters had, which the allocator keeps",
        detail="kept blocks",
    )


def _pinned(width: int, groups: Sequence[int]) -> int:
    return sum(power_of_two(width * n) for n in groups)


def _either(plan: TrainingPlan, nbytes: int, pinned: int) -> Bytes:
    """Return `nbytes`, or `pinned` bytes (powers of two) if pin_memory is set. If it is unknown,
    both are bounds, and the middle is expected."""
    if plan.zero.pins is None:
        return Bytes(nbytes, (nbytes + pinned) // 2, pinned)
    return exactly(pinned if plan.zero.pins else nbytes)


def _times(ranks: int, each: Bytes) -> Bytes:
    return Bytes(*(ranks * b for b in each))


def _swapped(plan: TrainingPlan, result: TrainingRun, ranks: int) -> Iterator[Component]:
    """Yield ZeRO's host memory with states on NVMe: gradients in 16 bits, buffers for one group's
    states, and, with parameters on NVMe too, those kept in RAM."""
    elements = ceil_div(result.trainable, plan.sharding.shares)
    yield _of(
        "gradients",
        _times(ranks, _either(plan, LOW * elements, power_of_two(LOW * elements))),
        "gradients in 16 bits, in one block",
    )
    group = MASTER * max(result.groups, default=0)
    least, most = STATE_BUFFERS * group, STATE_BUFFERS * power_of_two(group)
    yield _of(
        "temporaries",
        _times(ranks, Bytes(least, (least + most) // 2, most)),
        "locked buffers of the largest group's master copy, gradients and two states",
        "DeepSpeed runtime/swap_tensor, runtime/zero/offload_config.py (buffer_count)",
    )
    kept = power_of_two(LOW * min(KEPT_IN_RAM, elements)) + LOW * PARAMETER_BUFFERS
    yield _of(
        "weights",
        Bytes(0, 0, ranks * kept),
        "where parameters are on the disk, 10^9 of them are not, and five buffers of 10^8 are",
        "DeepSpeed runtime/zero/offload_config.py (max_in_cpu, buffer_count, buffer_size)",
    )


def _inputs(plan: TrainingPlan, result: TrainingRun, ranks: int) -> Component:
    """Return the layer inputs that save_on_cpu moves to the host; all have the same size."""
    each = plan.activations.size(plan.batch * plan.length * plan.subject.body.hidden)
    most = result.away * power_of_two(each) // max(1, each)
    return _of(
        "activations",
        Bytes(*(ranks * b for b in (result.away, (result.away + most) // 2, most))),
        "inputs of layers, from their forward to their backward; pinned or not",
        "torch autograd/graph.py, save_on_cpu",
    )


# Saving


def _saved(plan: TrainingPlan, result: TrainingRun) -> Component | None:
    """Return the host memory that saving takes; None if no large copies are made at once, or it is
    unknown."""
    if plan.framework.loads != "transformers" or plan.method != "full":
        return None
    if plan.sharding.parameters:
        return _sharded_save_memory(plan, result)
    file = _file(plan, plan.dtype.size(plan.subject.model.parameters))
    return _of("weights", exactly(file), "the tensors of a file", "safetensors torch.py, save_file")


def _file(plan: TrainingPlan, whole: int) -> int:
    return min(whole, SHARD.get(plan.major, SHARD[5]))


def _sharded_save_memory(plan: TrainingPlan, result: TrainingRun) -> Component | None:
    """Return the host memory to save a sharded model: gathered on rank 0, or each rank's own shard.
    FSDP copies shards in host memory, ZeRO does not."""
    zero = plan.sharding.kind == "zero3"
    each = LOW if zero else plan.dtype.size(1)
    whole = each * plan.subject.model.parameters
    states = 0 if zero else result.states * plan.sharding.shares
    gathered = Bytes(
        max(whole, states), max(whole, states), max(whole + _file(plan, whole), states)
    )
    ranks, all_ranks = plan.sharding.local, plan.sharding.cards
    parts = 0 if zero else max(whole, states) * ranks // all_ranks
    source = "transformers trainer.py (save_model), accelerate accelerator.py (get_state_dict)"
    if not zero:
        source = "accelerate utils/fsdp_utils.py (save_fsdp_model, save_fsdp_optimizer)"
    if plan.gathers:
        formula = "the whole state dict on rank 0, and what safetensors before 0.8 copies of a file"
        return _of("weights", gathered, formula, source, detail=GATHERED)
    if plan.gathers is None:
        formula = "the whole state dict on rank 0 where it is gathered; less where parts are saved"
        half = Bytes(0, gathered.expected // 2, gathered.high)
        return _of("weights", half, formula, source, basis="assumed", detail=GATHERED)
    if not parts:
        return None
    formula = "copies of parts, of the model or of the optimizer's states"
    some = Bytes(0, parts // 2, parts)
    return _of("weights", some, formula, source, basis="assumed", detail=GATHERED)


def _of(
    name: str,
    nbytes: Bytes,
    formula: str,
    source: str = ZERO,
    *,
    basis: Basis = "computed",
    detail: str = "",
) -> Component:
    return Component(
        name=name, detail=detail, bytes=nbytes, basis=basis, formula=formula, source=source
    )


# ---- paged


BEFORE = "load"  # the phase in which there are no states yet


def with_paged_states(
    devices: Sequence[Device],
    managed: int,
    optimizer: Optimizer,
    usable: Bytes | None,
    node: int,
) -> tuple[Device, ...]:
    """Return devices and host with `managed` bytes of paged optimizer states per device added. A
    machine has up to `node` ranks."""
    gpus = [d for d in devices if d.kind == "gpu"]
    if not managed or not gpus:
        return tuple(devices)
    rests = [p.at("driver") for d in gpus for p in d.phases if p.name != BEFORE]
    out = paged_out(rests, managed, usable)
    ranks = min(node, len(gpus))
    away = _paged_states(Bytes(*(ranks * b for b in out)), optimizer, "paged out of the device")
    return tuple(_beside(d, managed, optimizer, usable, away) for d in devices)


def paged_out(rests: Sequence[Bytes], managed: int, usable: Bytes | None) -> Bytes:
    """Return the bytes of one device's paged states that are in host memory. `rests` is each
    phase's memory on the devices without these states."""
    if not managed or usable is None:
        return Bytes(0, managed // 2, managed)
    low, expected, high = (
        max(0, max(bounds) + managed - room)
        for bounds, room in zip(zip(*rests, strict=True), reversed(usable), strict=True)
    )
    return Bytes(min(low, managed), min(expected, managed), min(high, managed))


def _beside(
    device: Device, managed: int, optimizer: Optimizer, usable: Bytes | None, away: Component
) -> Device:
    phases = []
    for phase in device.phases:
        states = away
        if device.kind == "gpu":
            here = _here(phase.at("driver"), managed, usable)
            states = _paged_states(here, optimizer, "paged optimizer states", name="other")
        later = phase.name != BEFORE and states.bytes.high > 0
        phases.append(Instant(phase.name, (*phase.components, states)) if later else phase)
    return replace(device, phases=tuple(phases))


def _here(beside: Bytes, managed: int, usable: Bytes | None) -> Bytes:
    """Return the bytes of paged states on the device, if `beside` is all else there. NVML's figure
    for a process leaves them out: 22.56 GiB of an H100 with 3.77 of states that had room (our own
    run of Llama 3.2 1B with paged_adamw_8bit)."""
    if usable is None:
        return Bytes(0, managed // 2, managed)
    room = min(managed, max(0, usable.low - beside.high))
    return Bytes(0, room, room)


def _paged_states(
    nbytes: Bytes, optimizer: Optimizer, detail: str, *, name: str = "optimizer_states"
) -> Component:
    return Component(
        name=name,
        detail=detail,
        bytes=nbytes,
        basis="assumed",
        formula=f"{optimizer.name}: managed memory, on the device as far as there is room",
        source=optimizer.source,
    )
