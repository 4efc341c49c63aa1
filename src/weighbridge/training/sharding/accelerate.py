"""What accelerate does around FSDP, by its version.

    1.6 to 1.12    all parts are cast to float32 when they are on the device, frozen ones too
    1.13           none: the loop that was to cast them binds a local name
    1.14 on        what is trained, before it is cut; nothing where weights are packed in 4 bits.
                   Embedding, and last norm with head, are units
    to 1.10        each micro-batch reduces: FSDP2's modules have no `no_sync`
    1.11 on        all but the last keep whole gradients (set_requires_gradient_sync)

A root that was told to give its parameters back after forward does so since torch 2.8 only. axolotl
brings a fsdp2_prepare_model of its own, which casts nothing and makes no units but layers.
Source: accelerate 1.6.0 to 1.15.0 utils/fsdp_utils.py (fsdp2_prepare_model), accelerator.py
(no_sync, prepare_model); axolotl 067b021 monkeypatch/accelerate/fsdp2.py; torch 2.7.1
_fsdp_state.py, 2.8.0 _fully_shard.py.
"""

from dataclasses import dataclass

WIDENS_ALL = (1, 13)  # before
CARVES = (1, 14)
WAITS = (1, 11)
ROOTS_GO = (2, 8)  # torch


@dataclass(frozen=True, slots=True, kw_only=True)
class AccelerateRules:
    """`widens`: which parts become float32 under mixed precision: all, trained or none."""

    widens: str
    carves: bool
    waits: bool


def rules(framework: str, version: tuple[int, ...] | None, *, packed: bool) -> AccelerateRules:
    """`packed`: weights are in 4 bits. A version of None is the newest."""
    later = version is None or version >= CARVES
    if framework == "axolotl":
        widens = "none"
    elif version is not None and version < WIDENS_ALL:
        widens = "all"
    else:
        widens = "trained" if later and not packed else "none"
    return AccelerateRules(
        widens=widens,
        carves=later and framework != "axolotl",
        waits=version is None or version >= WAITS,
    )
