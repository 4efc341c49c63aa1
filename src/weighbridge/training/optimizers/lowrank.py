"""Optimizers that keep less than one element per parameter: rows and columns, or nothing.

    adafactor    float32 sums of rows and columns of a matrix, an element each for other tensors;
                 one parameter at a time in float32: its gradient and itself if they are not, the
                 update and a copy of it
    lomo         nothing; a gradient is used and freed while backward runs
    adalomo      rows and columns, the same way

Source: transformers 5.23 optimization.py (Adafactor.step); lomo_optim 0.1 lomo.py, adalomo.py.

Optimizers whose states are of a projection of the gradient: GaLore and APOLLO.

    a matrix [m, n] of rank r        2 x max(m, n) x r of states, min(m, n) x r of projector
    anything else                    as AdamW

GaLore's projector comes from a decomposition of the gradient in float32, APOLLO's is random; both
work one parameter at a time. The user sets which modules the Trainer projects
(optim_target_modules); its examples name attention and MLPs, which is assumed here. The rank is the
Trainer's default, or its optim_args': papers and scripts take 1024 for a 7B.

Source: galore_torch 1.0 galore_projector.py, adamw.py; apollo_torch 1.0 apollo.py; transformers
5.23 trainer_optimizer.py.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

from weighbridge.base.dtypes import FLOAT32, UINT8, DType
from weighbridge.base.units import ceil_div
from weighbridge.training.forward.machine import Machine
from weighbridge.training.forward.tensors import LeafTensor
from weighbridge.training.optimizers.bits import BLOCK, SMALL
from weighbridge.training.optimizers.plain import by_muon, none, nothing, two
from weighbridge.training.optimizers.row import Optimizer, State


def factors(param: LeafTensor) -> Iterator[State]:
    if len(param.shape) < 2:
        yield State("exp_avg_sq", param.shape, FLOAT32)
        return
    yield State("exp_avg_sq_row", param.shape[:-1], FLOAT32)
    yield State("exp_avg_sq_col", (*param.shape[:-2], param.shape[-1]), FLOAT32)


def _adafactor(m: Machine, params: Sequence[LeafTensor]) -> None:
    """Run Adafactor's step, one parameter at a time; each temporary lives until the next
    parameter's replaces it."""
    grad = wide = update = None
    for p in params:
        narrow = p.dtype != FLOAT32
        grad = m.new(p.shape, FLOAT32) if narrow else None
        wide = m.new(p.shape, FLOAT32) if narrow else None
        squared = m.new(p.shape, FLOAT32)
        update = m.new(p.shape, FLOAT32)  # + eps
        del squared
        update = m.new(p.shape, FLOAT32)  # of rows and columns
        m.new(p.shape, FLOAT32)  # -update
    del grad, wide, update


FACTORED_ROWS = (
    Optimizer(
        name="adafactor",
        states=factors,
        step=_adafactor,
        source="transformers optimization.py",
        formula="float32 sums of rows and columns",
    ),
    Optimizer(
        name="lomo",
        states=none,
        step=nothing,
        source="lomo_optim lomo.py",
        formula="nothing, and no gradients beyond one",
        in_backward=True,
    ),
    Optimizer(
        name="adalomo",
        states=factors,
        step=nothing,
        source="lomo_optim adalomo.py",
        formula="float32 sums of rows and columns, and no gradients beyond one",
        in_backward=True,
    ),
)


# ---- lowrank


RANK = 128  # of both: transformers trainer_optimizer.py
GALORE, APOLLO = "galore_torch adamw.py", "apollo_torch apollo.py"
States = Callable[[LeafTensor], Iterator[State]]


def _low(param: LeafTensor, rank: int) -> tuple[int, ...]:
    """Return the shape of the projected gradient: the shorter side is reduced to `rank`."""
    m, n = param.shape
    return (m, min(rank, n)) if m >= n else (min(rank, m), n)


def _projected(rank: int) -> States:
    def states(param: LeafTensor) -> Iterator[State]:
        if not by_muon(param):
            yield from two(param)
            return
        yield State("ortho_matrix", (min(param.shape), min(rank, *param.shape)), param.dtype)
        for name in ("exp_avg", "exp_avg_sq"):
            yield State(name, _low(param, rank), param.dtype)

    return states


def _eight(rank: int) -> States:
    def states(param: LeafTensor) -> Iterator[State]:
        if not by_muon(param):
            yield from _bytes(param.shape, param.numel)
            return
        yield State("ortho_matrix", (min(param.shape), min(rank, *param.shape)), param.dtype)
        low = _low(param, rank)
        yield from _bytes(low, low[0] * low[1])

    return states


def _bytes(shape: tuple[int, ...], count: int) -> Iterator[State]:
    """Yield the two states of a tensor of `shape`, as bitsandbytes makes them (init_state), in
    float32 if `count` elements are few."""
    for i in (1, 2):
        yield State(f"state{i}", shape, FLOAT32 if count < SMALL else UINT8)
        if count >= SMALL:
            yield State(f"absmax{i}", (ceil_div(count, BLOCK),), FLOAT32)


def _factored(rank: int) -> States:
    def states(param: LeafTensor) -> Iterator[State]:
        if not by_muon(param):
            yield from factors(param)
            return
        yield State("ortho_matrix", (min(param.shape), min(rank, *param.shape)), param.dtype)
        m, n = _low(param, rank)
        yield State("exp_avg_sq_row", (m,), FLOAT32)
        yield State("exp_avg_sq_col", (n,), FLOAT32)

    return states


def _step_function(
    rank: int, *, decomposes: bool
) -> Callable[[Machine, Sequence[LeafTensor]], None]:
    def step(m: Machine, params: Sequence[LeafTensor]) -> None:
        for p in params:
            if not by_muon(p):
                m.hidden(p.nbytes, p.nbytes)  # the root, and what is divided by it
                continue
            if decomposes:
                _decomposed(m, p, FLOAT32)
            low = p.dtype.size(_low(p, rank)[0] * _low(p, rank)[1])
            m.hidden(low, low, low, p.nbytes, p.nbytes)  # projected back, and scaled

    return step


def _decomposed(m: Machine, param: LeafTensor, dtype: DType) -> None:
    """Allocate what torch.linalg.svd(full_matrices=False) of a gradient takes: U, S, Vh, and a copy
    in `dtype`."""
    short, long = min(param.shape), max(param.shape)
    copy = dtype.size(short * long) if param.dtype != dtype else 0
    m.hidden(copy, dtype.size(short * long), dtype.size(short * short), dtype.size(short * long))


KINDS: Mapping[str, Callable[[int], States]] = {
    "galore_adamw": _projected,
    "galore_adamw_8bit": _eight,
    "galore_adafactor": _factored,
    "apollo_adamw": _projected,
}
LAYERWISE = "_layerwise"


def row(name: str, rank: int) -> Optimizer:
    """Return the optimizer `name` (GaLore or APOLLO) with projections of this rank."""
    galore, states = name.startswith("galore"), KINDS[name.removesuffix(LAYERWISE)](rank)
    return Optimizer(
        name=name,
        states=states,
        step=_step_function(rank, decomposes=galore),
        source=GALORE if galore else APOLLO,
        formula=f"of matrices two averages and a projector of rank {rank}, of the rest two copies",
        assumed=True,
        in_backward=name.endswith(LAYERWISE),
    )


ROWS = tuple(row(f"{name}{how}", RANK) for name in KINDS for how in ("", LAYERWISE))
