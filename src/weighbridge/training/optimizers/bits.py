"""Optimizers with states in 8 or 4 bits.

    bitsandbytes    32 bit: float32 whatever the parameter's dtype
                    8 bit: a byte per element and a float32 for every 256; float32 below 4,096
                    elements and, with the Trainer, for embeddings
                    paged: managed memory from 100,000 elements on
    torchao         8 bit: the same in blocks of 256, if blocks fit; 4 bit: half a byte, in
                    blocks of 256 as the Trainer sets; each tensor has its own map of values

Kernels of bitsandbytes update in place; torchao compiles a step for each parameter. Source:
bitsandbytes 0.50 optim/optimizer.py (init_state, get_state_buffer), optim/ademamix.py; torchao 0.18
optim/adam.py, subclass_8bit.py, subclass_4bit.py; torch 2.5.1 and 2.7.1
_inductor/runtime/triton_heuristics.py (clone_args, copy_args_to_cpu_if_needed); transformers 5.23
trainer_optimizer.py and trainer.py (GlobalOptimManager).
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from weighbridge.base.dtypes import FLOAT32, UINT8
from weighbridge.base.records import replace
from weighbridge.base.units import ceil_div
from weighbridge.training.forward.machine import Machine
from weighbridge.training.forward.tensors import LeafTensor
from weighbridge.training.optimizers.plain import nothing
from weighbridge.training.optimizers.row import Optimizer, State, Where

SMALL = 4096  # min_8bit_size
BLOCK = 256
PAGED = 100_000  # elements from which a paged state is in managed memory
BITSANDBYTES = "bitsandbytes optim/optimizer.py"
TORCHAO = "torchao optim/adam.py"


def _states(param: LeafTensor, *, count: int, bits: int, paged: bool) -> Iterator[State]:
    """Yield the `count` states of one parameter in `bits` bits, each with its scales, as
    Optimizer1State and Optimizer2State allocate them."""
    where: Where = "managed" if paged and param.numel >= PAGED else "device"
    wide = bits == 32 or param.numel < SMALL or param.kind == "embedding"
    for i in range(count):
        yield State(f"state{i + 1}", param.shape, FLOAT32 if wide else UINT8, where)
        if not wide:
            yield State(f"absmax{i + 1}", (ceil_div(param.numel, BLOCK),), FLOAT32)


def _ademamix(param: LeafTensor, *, bits: int, paged: bool) -> Iterator[State]:
    """Yield the states of AdEMAMix for one parameter; `state1` holds two averages in one tensor."""
    where: Where = "managed" if paged and param.numel >= PAGED else "device"
    wide = bits == 32 or param.numel < SMALL or param.kind == "embedding"
    if not wide:
        blocks = ceil_div(param.numel, BLOCK)
        yield State("absmax1", (2, blocks), FLOAT32)
        yield State("absmax2", (blocks,), FLOAT32)
    yield State("state1", (2, *param.shape), FLOAT32 if wide else UINT8, where)
    yield State("state2", param.shape, FLOAT32 if wide else UINT8, where)


def _torchao(param: LeafTensor, *, bits: int, block: int, values: int) -> Iterator[State]:
    """Yield torchao's states of one parameter: codes, scales and a map of `values` entries
    (OptimState8bit, OptimState4bit)."""
    for name in ("exp_avg", "exp_avg_sq"):
        if param.numel < SMALL or param.numel % block:
            yield State(name, param.shape, param.dtype)
            continue
        yield State(f"{name}.codes", (param.numel * bits // 8,), UINT8)
        yield State(f"{name}.scale", (param.numel // block,), FLOAT32)
        yield State(f"{name}.qmap", (values,), FLOAT32)


def _scaled(m: Machine, params: Sequence[LeafTensor]) -> None:
    """Run single_param_adam's compiled step for each parameter: both moments are dequantized to
    float32, which the update and requantization read."""
    for p in params:
        if p.numel >= SMALL and p.numel % BLOCK == 0:
            m.hidden(FLOAT32.size(p.numel), FLOAT32.size(p.numel))


TUNING = "clones of the autotuner"  # name of their bytes
PINNED_SINCE = (2, 7)  # torch: clones that would raise the peak go to pinned host memory


def clones(param: LeafTensor, bits: int) -> int:
    """Return the bytes that a compiled step overwrites in place: the parameter and the codes of
    both averages; 0 without codes."""
    if param.numel < SMALL or param.numel % BLOCK:
        return 0
    return param.nbytes + 2 * (param.numel * bits // 8)


def tuned(optimizer: Optimizer, torch: tuple[int, ...]) -> Optimizer:
    """Return the optimizer with the autotuner's clones in the first step: Inductor copies every
    argument that a kernel overwrites, to time two configurations."""
    bits = TUNED.get(optimizer.name)
    if bits is None:
        return optimizer
    if torch >= PINNED_SINCE:
        return replace(optimizer, unsure=partial(clones, bits=bits))
    return replace(optimizer, step=partial(_tuned, bits=bits))


def _tuned(m: Machine, params: Sequence[LeafTensor], *, bits: int) -> None:
    for p in params:
        taken = clones(p, bits)
        if taken:
            averages = [m.new(p.shape, FLOAT32), m.new(p.shape, FLOAT32)]
            m.hidden(taken, name=TUNING)
            del averages


TUNED = {"adamw_torch_8bit": 8, "adamw_torch_4bit": 4}


def _row(name: str, states: Callable[[LeafTensor], Iterator[State]], formula: str) -> Optimizer:
    ours = "torch" in name
    return Optimizer(
        name=name,
        states=states,
        step=_scaled if ours else nothing,
        source=TORCHAO if ours else BITSANDBYTES,
        formula=formula,
    )


EIGHT = "a byte and 4/256 bytes for each of {} averages; float32 for embeddings and small tensors"
WIDE = "a float32 for each of {} averages"


def _family(name: str, count: int, bits: int, *, paged: bool = False) -> Optimizer:
    words = (EIGHT if bits == 8 else WIDE).format(count)
    return _row(name, partial(_states, count=count, bits=bits, paged=paged), words)


def _mixed(name: str, bits: int, *, paged: bool = False) -> Optimizer:
    words = (EIGHT if bits == 8 else WIDE).format(3)
    return _row(name, partial(_ademamix, bits=bits, paged=paged), words)


# Name, averages of a parameter, bits of each
_FAMILIES = """
adamw_bnb_8bit 2 8
adamw_8bit 2 8
adamw_bnb_32bit 2 32
lion_8bit 1 8
lion_32bit 1 32
rmsprop_bnb 1 32
rmsprop_bnb_8bit 1 8
rmsprop_bnb_32bit 1 32
paged_adamw_32bit 2 32
paged_adamw_8bit 2 8
paged_lion_32bit 1 32
paged_lion_8bit 1 8
"""
ROWS = (
    *(
        _family(name, int(averages), int(bits), paged=name.startswith("paged"))
        for name, averages, bits in map(str.split, _FAMILIES.strip().splitlines())
    ),
    _mixed("ademamix", 32),
    _mixed("ademamix_8bit", 8),
    _mixed("paged_ademamix_32bit", 32, paged=True),
    _mixed("paged_ademamix_8bit", 8, paged=True),
    _row(
        "adamw_torch_8bit",
        partial(_torchao, bits=8, block=256, values=256),
        "a byte and 4/256 bytes for each of 2 averages; the parameter's dtype where blocks fail",
    ),
    _row(
        "adamw_torch_4bit",
        partial(_torchao, bits=4, block=256, values=16),
        "half a byte and 4/256 bytes for each of 2 averages",
    ),
)
