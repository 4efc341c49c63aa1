"""Optimizers: what each keeps for a parameter, and what a step takes besides.

optimizer("adamw_torch_fused") -> Optimizer

row.py        the record of one
plain.py      torch.optim
arguments.py  foreach, fused, amsgrad
bits.py       states in 8 and 4 bits: bitsandbytes, torchao
factored.py   rows and columns, or nothing: Adafactor, LOMO
lowrank.py    projected gradients: GaLore, APOLLO
others.py     schedule-free, StableAdamW, GrokAdamW, SOAP, Shampoo
"""

import re
from collections.abc import Mapping

from weighbridge.errors import UsageError
from weighbridge.training.optimizers import bits, factored, lowrank, others, plain
from weighbridge.training.optimizers.arguments import argued
from weighbridge.training.optimizers.bits import tuned
from weighbridge.training.optimizers.row import Optimizer, State

__all__ = ["NAMES", "Optimizer", "State", "argued", "optimizer", "said", "tuned"]

TABLE = (*plain.ROWS, *bits.ROWS, *factored.ROWS, *lowrank.ROWS, *others.ROWS)
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
    "adamw_torch_xla": "it runs on TPUs",
    "adamw_torch_npu_fused": "it runs on Ascend devices",
    "adamw_anyprecision": "torchdistx, which has it, is no longer published",
}
NAMES = tuple(ROWS)


def _key(name: str) -> str:
    return re.sub(r"[-_ ]", "", name.strip().lower())


# Without hyphens and the like, which people leave out: lion8bit
KEYS: Mapping[str, str] = {_key(name): name for name in ROWS}
SPELLED: Mapping[str, str] = {**KEYS, **{_key(name): known for name, known in ALIASES.items()}}


def optimizer(name: str) -> Optimizer:
    """Raises UsageError with the nearest names."""
    plain_name = name.strip().lower()
    known = plain_name if plain_name in ROWS else SPELLED.get(_key(name), plain_name)
    if known in ROWS:
        return ROWS[known]
    if known in ELSEWHERE:
        raise UsageError(f"--optimizer {name}: {ELSEWHERE[known]}; near is adamw_torch")
    from difflib import get_close_matches

    close = get_close_matches(known, NAMES, n=3, cutoff=0.5) or NAMES
    raise UsageError(f"--optimizer {name!r} is not known; near are {', '.join(close)}")


def said(name: str) -> str:
    """One sentence where a name is read as another one; "" for a spelling of its own."""
    known = optimizer(name).name
    return "" if _key(known) == _key(name) else f"--optimizer {name} is taken as {known}"
