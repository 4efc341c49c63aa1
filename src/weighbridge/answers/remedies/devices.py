"""Other devices: the next larger ones, more of the same, and more RAM."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from weighbridge.answers.remedies import prices
from weighbridge.answers.remedies.case import Move, RemedyCase
from weighbridge.answers.remedies.formats import unrunnable
from weighbridge.base.units import GIB
from weighbridge.machines.accelerators.machines import MACHINE
from weighbridge.workload import SPREAD

if TYPE_CHECKING:
    from weighbridge.machines.accelerators.parts import Part

# Most sold and rented device of each size, by vendor (assumed)
LADDERS: Mapping[str, tuple[str, ...]] = {
    "NVIDIA": (
        *("geforce-rtx-3060-12gb", "geforce-rtx-4060-ti-16gb", "geforce-rtx-4090"),
        *("geforce-rtx-5090", "l40s", "a100-sxm4-80gb", "h200-sxm-141gb", "b200-sxm-180gb"),
    ),
    "AMD": ("instinct-mi210", "instinct-mi300x", "instinct-mi325x", "instinct-mi355x"),
    "Apple": (
        *("m4-24gb", "m4-32gb", "m4-pro-48gb", "m4-max-64gb"),
        *("m4-max-128gb", "m3-ultra-256gb", "m3-ultra-512gb"),
    ),
}
ALONE = frozenset(("Apple",))  # vendors whose device is a whole computer, so nobody adds another
COUNTS = (2, 4, 8, 16, 32, 64)
ALL = frozenset(("*",))
# Components that ranks of one step shard: each has its own sequences
OF_RANKS = frozenset(
    (
        *("weights", "gradients", "optimizer_states", "master_weights", "adapters"),
        *("temporaries", "rounding"),
    )
)
LARGER = 3  # larger devices that are tried
RAM = (16, 32, 64, 128, 256, 512, 1024)  # GiB that machines are sold with (assumed)
SHARES = ("fsdp1", "fsdp2", "hsdp", "zero3")  # kinds by which ranks shard everything


def moves(case: RemedyCase) -> Iterator[Move]:
    """Yield the smallest larger devices first, then more of the same; more RAM before them if that
    is short."""
    if case.short_of_ram:
        yield from _more_ram(case)
    if case.workload.gpu is None or case.workload.gpu_memory is not None or case.budget is None:
        return
    if unrunnable(case):  # nor does it run on a larger one
        return
    yield from _larger(case)
    yield from _more(case)
    divides = case.kind.reads == "gguf" and case.free("n_gpu_layers")  # other layers stay in RAM
    if divides and not case.short_of_ram:
        yield from _more_ram(case)


def _more_ram(case: RemedyCase) -> Iterator[Move]:
    """Yield larger RAM sizes, if the user set the machine's."""
    host = case.verdict.host
    if host is None or host.available is None or host.shared:
        return
    cost = prices.CHANGES["more RAM"]
    for size in [size for size in RAM if size * GIB > host.available][:LARGER]:
        yield Move(kind="more RAM", change={"ram": f"{size}GiB"}, cost=cost, touches=ALL)


def _larger(case: RemedyCase) -> Iterator[Move]:
    from weighbridge.machines.accelerators.parts import parts

    here, need = case.part, case.verdict.per_device.expected
    assert here is not None
    assert case.budget is not None
    if _too_few(case):
        return
    known = parts()
    ladder = [known[f"{here.vendor.lower()}-{name}"] for name in LADDERS.get(here.vendor, ())]
    large = [part for part in ladder if part.room.low > max(here.room.low, need)]
    for part in large[:LARGER]:
        count = max(case.count, case.verdict.devices_used)
        words = f"{count} x {part.name}" if count > 1 else part.name
        words += f" instead of {here.name}"
        yield Move(
            kind="larger device",
            change={"gpu": named(part, count)},
            cost=prices.hardware(
                here.total.bytes.expected * case.count, part.total.bytes.expected * count, words
            ),
            touches=ALL,
        )


def _too_few(case: RemedyCase) -> bool:
    """Return whether a rank fits its device, but there are fewer devices than ranks."""
    assert case.budget is not None
    room = case.budget.usable.expected
    return case.verdict.devices_used > case.count and case.verdict.per_device.expected <= room


def _more(case: RemedyCase) -> Iterator[Move]:
    """Yield larger numbers of the device that can share the memory, with the setting that shards
    it."""
    here = case.part
    assert here is not None
    assert case.budget is not None
    if here.vendor in ALONE:
        return
    used, room = case.verdict.devices_used, case.budget.usable.expected
    if _too_few(case):
        cost = prices.hardware(case.count, used, f"{used} x {here.name}")
        yield Move(kind="more devices", change={"gpu": typed(case, used)}, cost=cost, touches=ALL)
        return
    need = _needed(case)
    most = max(MACHINE, 4 * case.count)
    for count in COUNTS:
        shared = _shared(case, count)
        if not case.count < count <= most or count * room < need or shared is None:
            continue
        yield Move(
            kind="more devices",
            change={"gpu": typed(case, count), **shared},
            cost=prices.hardware(case.count, count, f"{count} x {here.name}"),
            touches=OF_RANKS if case.task == "train" else ALL,
        )


def _needed(case: RemedyCase) -> int:
    """Return the total bytes to share over devices; replicated ranks hold a copy each."""
    copied = case.task == "train" and case.effective["shard"] not in SHARES
    used = 1 if copied else max(1, case.verdict.devices_used)
    return case.verdict.per_device.expected * used


def _shared(case: RemedyCase, count: int) -> Mapping[str, Any] | None:
    """Return the settings by which `count` devices share the model; None if the user's forbid
    it."""
    if case.task == "train":
        if case.effective["shard"] in SHARES:
            return {}
        if case.effective["framework"] == "megatron":
            return {"shard": "zero1"} if case.effective["shard"] != "zero1" else {}
        return {"shard": "fsdp2"} if case.free("shard") else None
    # Servers use all named cards by default
    return None if case.kind.server and not case.free(*SPREAD) else {}


def typed(case: RemedyCase, count: int) -> str:
    """Return `count` of the user's card, under the name that the user typed."""
    from weighbridge.base.errors import UsageError
    from weighbridge.machines.accelerators.names import find

    assert case.part is not None
    name = str(case.workload.gpu).partition(":")[0]
    try:
        part = find(name)
    except UsageError:
        return named(case.part, count)
    alone = part.part is case.part and part.count == 1
    return f"{name}:{count}" if alone and count > 1 else named(case.part, count)


def named(part: "Part", count: int) -> str:
    """Return `count` of a part, as people type it."""
    from weighbridge.machines.accelerators.names import spoken

    return f"{spoken(part)}:{count}" if count > 1 else spoken(part)
