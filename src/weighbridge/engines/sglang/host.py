"""Host memory of a server: a process per rank, and what each keeps there.

    load            file pages, which the kernel may drop, beside all that stays
    hierarchical    --enable-hierarchical-cache: a second pool per rank, of --hicache-ratio times
    cache           the tokens of the first (2 by default), or of --hicache-size GB; and a page.
                    Plain memory that is registered with CUDA, so no block is rounded up. The part
                    of sliding layers in it is unknown: none to all of them

Source: sglang 0.5.23 srt/mem_cache/pool_host/base.py (HostKVCache), pool_host/common.py
(ALLOC_MEMORY_FUNCS), server_args.py (hicache_ratio, hicache_size);
srt/model_loader/weight_utils.py. "pins exactly the requested size": sgl-project/sglang pull 36562.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from weighbridge.base.memory import Bytes, Component, Device, around
from weighbridge.base.units import GIB
from weighbridge.engines.servers.host import files, fullest, offloaded, processes
from weighbridge.engines.sglang import weights
from weighbridge.engines.sglang.effective import generates
from weighbridge.engines.sglang.replica import CardFit, Served
from weighbridge.engines.sglang.serving import SglangLaunched

if TYPE_CHECKING:
    from weighbridge.engines.sglang.caches import Cells

PROCESS = Bytes(GIB, 5 * GIB // 2, 4 * GIB)  # per rank's process, without weights
RATIO = 2.0  # hicache_ratio
GB = 10**9  # of --hicache-size


def host(launched: SglangLaunched) -> Device:
    """Return the host of the machine that holds most, over the ranks of all replicas. Without a
    named card, the second pool is sized by what the workload needs."""
    served, fit = launched.served, launched.fit
    return fullest(launched.ranks, served.case.budget, lambda there: _machine(served, fit, there))


def _machine(served: Served, fit: CardFit | None, there: Sequence[int]) -> Device:
    """Return the host of some ranks, each given by the first one like it."""
    case, ranks = served.case, len(there)
    tensors = (c for i in case.firsts for c in case.kinds[i].weights if c.name == "weights")
    loaded = sum(c.bytes.expected for c in tensors)
    running = processes(
        Bytes(*(ranks * b for b in PROCESS)),
        f"{ranks} ranks x 1 to 4 GiB: torch, CUDA libraries, compiled kernels",
    )
    read = files(case.subject.model, loaded, "sglang 0.5.23 srt/model_loader/weight_utils.py")
    names = ("prefill", "decode") if generates(case.subject) else ("prefill",)
    moved = offloaded((case.kinds[i].offloaded for i in there), weights.SOURCE)
    second = (_second(served, fit, there),) if served.asked.enable_hierarchical_cache else ()
    stays = (running, *moved, *second)
    phases = around(stays, {"load": (read,), **dict.fromkeys(names, ())})
    return Device(index=0, kind="host", phases=phases)


def _second(served: Served, fit: CardFit | None, there: Sequence[int]) -> Component:
    """Return the second cache level of some ranks in host memory."""
    settings, asked = served.settings, served.asked
    size = round((asked.hicache_size or 0) * GB)
    ratio = RATIO if asked.hicache_ratio is None else asked.hicache_ratio
    tokens = settings.context * served.load.requests if fit is None else max(0, fit.tokens)
    cells = [served.case.kinds[i].cells for i in there]
    each = [_pool(cell, size, int(tokens * ratio), settings.page) for cell in cells]
    told = f"{size:,} bytes a rank" if size else f"{ratio:g} x {tokens:,} tokens a rank"
    return Component(
        name="kv_cache",
        bytes=Bytes(*map(sum, zip(*each, strict=True))),
        basis="computed" if not any(cell.sliding for cell in cells) else "assumed",
        detail="hierarchical cache",
        formula=f"{told}, and a page",
        source="sglang srt/mem_cache/pool_host/base.py (HostKVCache)",
    )


def _pool(cell: "Cells", size: int, tokens: int, page: int) -> Bytes:
    """Return the bytes of one rank's host pool: whole pages, and one more."""
    unit = cell.full or cell.sliding
    if size:
        tokens = size // max(1, unit)
    tokens = (tokens // page + 1) * page
    return Bytes(tokens * unit, tokens * unit, tokens * (cell.full + cell.sliding))
