"""Optimizers: what each keeps for a parameter, and what a step takes besides.

optimizer("adamw_torch_fused") -> Optimizer

row.py        the record of one, and the optimizer of a rank at work
plain.py      torch.optim; schedule-free, StableAdamW, GrokAdamW, SOAP, Shampoo
bits.py       states in 8 and 4 bits: bitsandbytes, torchao
lowrank.py    rows and columns, or nothing: Adafactor, LOMO; projected gradients: GaLore, APOLLO

Arguments change what Adam and AdamW keep or what a step takes, and the rank of GaLore and APOLLO:

    argued(row, ("foreach=False", "amsgrad=True"), (2, 13)) -> Optimizer

    foreach=False    one parameter after the other: its root, and the root over a correction
    fused=True       nothing
    amsgrad=True     a third average is kept
    rank=N           of the projections of GaLore and APOLLO
    weight_decay=X   Adam's, not AdamW's: gradients and decayed parameters are summed into a copy

Source: torch 2.13, 2.0.1 and 1.13.1 optim/adam.py, optim/adamw.py.
"""

import re
from collections.abc import Iterator, Mapping, Sequence

from weighbridge.base.errors import UnsupportedError, UsageError
from weighbridge.base.records import replace
from weighbridge.base.sentences import sentence
from weighbridge.base.wording import spelled_like
from weighbridge.training.forward.machine import Machine
from weighbridge.training.forward.tensors import LeafTensor
from weighbridge.training.optimizers import bits, lowrank, plain
from weighbridge.training.optimizers.bits import tuned
from weighbridge.training.optimizers.row import Optimizer, State

__all__ = ["NAMES", "Optimizer", "State", "argued", "optimizer", "taken_as", "tuned"]

TABLE = (*plain.ROWS, *bits.ROWS, *lowrank.FACTORED_ROWS, *lowrank.ROWS, *plain.LIBRARY_ROWS)
ROWS: Mapping[str, Optimizer] = {row.name: row for row in TABLE}
# Other spellings: torch's own class, and what people type.
ALIASES: Mapping[str, str] = {
    "adamw": "adamw_torch",
    "adamw_fused": "adamw_torch_fused",
    "momentum": "sgd-momentum",
    "sgd_momentum": "sgd-momentum",
    "adam8bit": "adamw_8bit",
    "adamw8bit": "adamw_8bit",
    "lion": "lion_32bit",
    "galore": "galore_adamw",
    "apollo": "apollo_adamw",
    "schedule_free": "schedule_free_adamw",
}
ELSEWHERE: Mapping[str, str] = {
    "adamw_torch_xla": "on_tpus",
    "adamw_torch_npu_fused": "on_ascend",
    "adamw_anyprecision": "unpublished",
}
NAMES = tuple(ROWS)


def _key(name: str) -> str:
    return re.sub(r"[-_ ]", "", name.strip().lower())


# Without hyphens and the like, which people leave out: lion8bit
KEYS: Mapping[str, str] = {_key(name): name for name in ROWS}
SPELLED: Mapping[str, str] = {**KEYS, **{_key(name): known for name, known in ALIASES.items()}}


def optimizer(name: str) -> Optimizer:
    """Return the optimizer called `name`. Raises UsageError with the nearest known names."""
    plain_name = name.strip().lower()
    known = plain_name if plain_name in ROWS else SPELLED.get(_key(name), plain_name)
    if known in ROWS:
        return ROWS[known]
    if known in ELSEWHERE:
        raise UsageError(
            sentence("optimizer_elsewhere", name=name, reason=sentence(ELSEWHERE[known]))
        )
    close = spelled_like(known, NAMES, 3)
    if close:
        raise UsageError(sentence("optimizer_near", name=name, near=" or ".join(close)))
    raise UnsupportedError(sentence("optimizer", name=name, known=", ".join(NAMES)))


def taken_as(name: str) -> str:
    """Return a note if `name` is read as another optimizer's name; "" if it is its own."""
    known = optimizer(name).name
    return "" if _key(known) == _key(name) else sentence("optimizer_taken", name=name, known=known)


ADAMS = ("adam", "adamw_torch", "adamw_torch_fused")
FLAGS = ("foreach", "fused", "amsgrad")
DECAY = "weight_decay"
PROJECTED = tuple(row.name for row in lowrank.ROWS)
WITHOUT_MEMORY = ("scale", "update_proj_gap")
MOST_RANK = 1 << 20
WORDS = {"true": True, "false": False, "none": None}  # None: torch chooses
FOREACH_SINCE = (2, 0)  # torch release with foreach by default
IN_PLACE_SINCE = (2, 1)  # Adam adds eps to the root in place


def argued(optimizer: Optimizer, written: Sequence[str], torch: tuple[int, ...]) -> Optimizer:
    """Return the optimizer as this `torch` version runs it with the arguments `written`. Raises
    UsageError for unknown ones."""
    if optimizer.name in PROJECTED:
        return _ranked(optimizer, written)
    if optimizer.name not in ADAMS:
        if written:
            raise UsageError(
                sentence(
                    "optim.not_its",
                    written=",".join(written),
                    known=", ".join(ADAMS),
                    name=optimizer.name,
                )
            )
        return optimizer
    switches = _read(written)
    fused = switches.get("fused", optimizer.name.endswith("fused"))
    if fused and switches.get("foreach"):
        raise UsageError(sentence("optim.two_ways"))
    if switches.get("amsgrad"):
        optimizer = replace(optimizer, states=_three, formula="three copies")
    if fused:
        states = (
            plain.with_step(optimizer.states)
            if optimizer.name != "adamw_torch_fused"
            else optimizer.states
        )
        return replace(optimizer, states=states, step=plain.nothing)
    step = _step(switches.get("foreach", torch >= FOREACH_SINCE), torch)
    return replace(
        optimizer, step=_decayed(step) if switches.get(DECAY) and optimizer.name == "adam" else step
    )


def _ranked(optimizer: Optimizer, arguments: Sequence[str]) -> Optimizer:
    """Return GaLore or APOLLO with the rank that `arguments` set; the Trainer's other arguments
    take no memory."""
    for one in arguments:
        name, _, value = one.partition("=")
        name, value = name.strip(), value.strip()
        if name == "rank" and value.isdigit() and 1 <= int(value) <= MOST_RANK:
            optimizer = lowrank.row(optimizer.name, int(value))
        elif name not in WITHOUT_MEMORY:
            raise UsageError(
                sentence(
                    "optim.of_name", text=one, name=optimizer.name, known=", ".join(WITHOUT_MEMORY)
                )
            )
    return optimizer


def _step(foreach: bool, torch: tuple[int, ...]) -> plain.Step:
    if not foreach:
        return plain.two_of_each
    return plain.one_copy if torch >= IN_PLACE_SINCE else plain.two_copies


def _three(param: LeafTensor) -> Iterator[State]:
    yield from plain.two(param)
    yield State("max_exp_avg_sq", param.shape, param.dtype)


def _decayed(step: plain.Step) -> plain.Step:
    """Return the step function with weight decay added; the decayed copies are freed before the
    square root (torch 2.13)."""

    def decayed(m: Machine, params: Sequence[LeafTensor]) -> None:
        if step is plain.two_of_each:
            plain.two_of_each(m, params, beside=1)
            return
        plain.one_copy(m, params)
        step(m, params)

    return decayed


def _read(arguments: Sequence[str]) -> dict[str, bool]:
    switches = {}
    for one in arguments:
        name, _, value = one.partition("=")
        if name.strip() == DECAY:
            switches[DECAY] = _number(one, value)
        elif name.strip() in FLAGS and value.strip().lower() in WORDS:
            meant = WORDS[value.strip().lower()]
            if meant is not None:
                switches[name.strip()] = meant
        else:
            raise UsageError(
                sentence(
                    "optim.known",
                    text=one,
                    flags=", ".join(f"{x}=True" for x in FLAGS),
                    decay=DECAY,
                )
            )
    return switches


def _number(one: str, value: str) -> bool:
    try:
        return float(value) > 0
    except ValueError:
        raise UsageError(sentence("optim.decay", text=one, decay=DECAY)) from None
