"""Host memory of a vLLM server: its processes, and buffers of each rank.

    load      page cache of the weight files, reclaimable, beside everything that stays
    asleep    level 1: pinned copies of the weights' segments, each rounded up to a power of two by
              torch and retained after wake-up; level 2: none
    swap      V0: a CPU KV cache (--swap-space), one pinned buffer per layer
    Ray       object store: 30 % of memory available at its start, at most 200 GB, in /dev/shm. A
              reservation; vLLM's messages use next to nothing of it: counted as none to all
    offload   KV cache offloading: one file in /dev/shm shared by the ranks; in earlier releases
              pinned buffers, one per layer and rank

Source: vllm 0.33 device_allocator/cumem.py (sleep), v1/kv_offload/cpu/gpu_worker.py
(CpuGpuOffloadingHandlers), shared_offload_region.py; 0.6.4 worker/cache_engine.py
(_allocate_kv_cache), worker/worker.py (determine_num_available_blocks); torch
ATen/core/CachingHostAllocator.h (PowerOf2Ceil). That pinned memory survives wake-up is
vllm-project/vllm issue 16663. Ray 2.5x _private/ray_constants.py
(DEFAULT_OBJECT_STORE_MEMORY_PROPORTION, DEFAULT_OBJECT_STORE_MAX_MEMORY_BYTES); pull 66022 of
ray-project/ray.
"""

from collections.abc import Iterable, Iterator, Sequence

from weighbridge.base.memory import Bytes, Component, Device, Instant, exactly
from weighbridge.base.units import GIB, power_of_two
from weighbridge.engines.servers.host import files, fullest, offloaded, processes, together
from weighbridge.engines.vllm.cases import VllmLaunched
from weighbridge.engines.vllm.reserve import RankReserve
from weighbridge.engines.vllm.weights import RankWeights
from weighbridge.memory.components.kv_cache import mixers
from weighbridge.models.arch.mixers import Layer, Recurrent

# Resident memory of vLLM's processes without weights: libraries, compiled code, pinned staging
# buffers. No published rule; torch workers with CUDA libraries hold 1 to 4 GiB each.
SERVER, WORKER = Bytes(GIB // 2, GIB, 2 * GIB), Bytes(GIB, 5 * GIB // 2, 4 * GIB)
ITEMS = 4 * GIB  # default of --mm-processor-cache-gb
OFFLOADER = "vllm model_executor/offloader/uva.py"
ASLEEP = "asleep"
STORE_PERCENT, STORE_AT_MOST = 30, 200 * 10**9  # Ray's object store: percent of memory, bytes


def host(launched: VllmLaunched) -> Device:
    """Return the host memory of the node whose ranks need the most, over all replicas. Every node
    counts the API server's; the number of devices per node comes from the card."""
    return fullest(
        tuple(launched.reserves), launched.budget, lambda ranks: _machine(launched, ranks)
    )


def _machine(launched: VllmLaunched, there: Sequence[RankReserve]) -> Device:
    subject = launched.case.subject
    ranks = [r.standing.resident.loaded for r in there]
    everywhere = [r.standing.resident.loaded for r in launched.reserves]
    loaded = sum(one.weights + one.offloaded.nbytes for one in everywhere)
    kept = (
        *offloaded((one.offloaded for one in ranks), OFFLOADER),
        *_caches(launched, there),
        *_store(launched),
    )
    inside = there[0].standing.processes.high > 0  # unified memory: the device has the workers
    running = _processes(len(ranks), inside=inside)
    items = Component(
        name="other",
        bytes=Bytes(0, 0, ITEMS),
        basis="assumed",
        detail="images and sounds",
        formula="the cache of processed items, up to --mm-processor-cache-gb",
        source="vllm config/multimodal.py",
        growing=True,
    )
    pages = files(subject.model, loaded, "safetensors are mapped")
    served = (*kept, running, *((items,) if subject.body.towers else ()))
    names = ("prefill", "decode") if kept else ()
    instants = tuple(Instant(name, served) for name in names)
    asleep = tuple(_asleep(launched, ranks))
    sleeping = (Instant("sleep", (*served, *asleep)),) if asleep else ()
    loading = Instant("load", (*kept, pages, *served[len(kept) :]))
    return Device(index=0, kind="host", phases=(loading, *instants, *sleeping))


def _processes(count: int, *, inside: bool) -> Component:
    if inside:
        return processes(SERVER, "a server; its workers are counted with the device")
    return processes(workers(count).plus(SERVER), f"a server, and {count} workers")


def workers(count: int) -> Bytes:
    """Return the host memory of `count` worker processes, without what they load."""
    return Bytes(*(count * each for each in WORKER))


def beside(reserve: RankReserve) -> int:
    """Return the most bytes that host processes may need where GPU and host share memory,
    offloading and swap not included."""
    standing = reserve.standing
    own_workers = exactly(0) if standing.processes.high else workers(1)
    return own_workers.plus(SERVER).high + ITEMS * bool(standing.subject.body.towers)


def _asleep(launched: VllmLaunched, ranks: list[RankWeights]) -> Iterator[Component]:
    slept = together(one.asleep for one in ranks)
    if launched.launch.sleep_level == 1 and slept.nbytes:
        yield Component(
            name="weights",
            bytes=Bytes(slept.nbytes, slept.blocks, slept.blocks),
            basis="computed",
            detail=ASLEEP,
            formula=f"segments of {slept.nbytes:,} bytes, each in a pinned block of a power of two,"
            " which torch keeps when the engine wakes",
            source="vllm device_allocator/cumem.py; torch ATen/core/CachingHostAllocator.h",
        )


def _caches(launched: VllmLaunched, there: Sequence[RankReserve]) -> Iterator[Component]:
    """Yield the CPU KV caches of the ranks on one node, and its part of what all ranks share."""
    launch = launched.launch
    layers = [_layers(r.standing.resident.rank.layers) for r in there]
    if launch.swap and any(layers):
        each = sum(n * power_of_two(launch.swap // n) for n in layers if n)
        whole = launch.swap * sum(map(bool, layers))
        yield _cache("swap", Bytes(whole, each, each), "worker/cache_engine.py", "a pinned block")
    if launch.kv_offload and any(layers):
        share = launch.kv_offload * launch.data // len(launched.ranks)
        whole = launch.kv_offload * launch.data * len(there) // len(launched.ranks)
        most = sum(n * power_of_two(share // n) for n in layers if n)
        source = "v1/kv_offload/cpu/gpu_worker.py"
        told = "one file in /dev/shm, or pinned blocks of a power of two"
        yield _cache("offloaded blocks", Bytes(whole, whole, max(whole, most)), source, told)


def _store(launched: VllmLaunched) -> Iterator[Component]:
    """Yield Ray's object store, if Ray runs the workers and the node's memory is known."""
    ram = launched.asked.host_memory()
    if launched.asked.distributed_executor_backend != "ray" or ram is None:
        return
    yield Component(
        name="other",
        bytes=Bytes(0, 0, min(STORE_PERCENT * ram.room.expected // 100, STORE_AT_MOST)),
        basis="assumed",
        detail="object store",
        formula=f"{STORE_PERCENT} % of the machine, {STORE_AT_MOST:,} bytes at most; first empty",
        source="ray _private/ray_constants.py",
        growing=True,
    )


def _layers(layers: Iterable[Layer]) -> int:
    """Return the number of layers with a KV cache; recurrent states are not counted."""
    return sum(not isinstance(m, Recurrent) for m in mixers(layers))


def _cache(detail: str, nbytes: Bytes, source: str, how: str) -> Component:
    return Component(
        name="kv_cache",
        bytes=nbytes,
        basis="computed" if nbytes.exact else "assumed",
        detail=detail,
        formula=f"{nbytes.low:,} bytes asked for; {how} for each layer",
        source=f"vllm {source}",
    )
