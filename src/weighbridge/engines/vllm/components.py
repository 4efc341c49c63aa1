"""The components of an answer: the memory alive in each phase on one device."""

from collections.abc import Iterable, Iterator
from functools import lru_cache

from weighbridge.base.memo import memo
from weighbridge.base.memory import ONCE, Basis, Bytes, Component, Instant, around, exactly
from weighbridge.base.records import NamedTuple
from weighbridge.engines.servers import device_support
from weighbridge.engines.vllm.profile import ProfiledMoment
from weighbridge.engines.vllm.reserve import LATER, RankReserve, Standing
from weighbridge.memory.components.weights import FormatChoice

RUNNER = "vllm v1/worker/gpu_model_runner.py (profile_run)"


def phases(reserve: RankReserve) -> tuple[Instant, ...]:
    """Return the phases of a rank, cached for cards with equal facts. Pooling models have no decode
    phase."""
    return memo(reserve, ("phases",), lambda: _phases(reserve))


def _phases(reserve: RankReserve) -> tuple[Instant, ...]:
    standing = memo(reserve.standing, ("parts",), lambda: _Standing.of(reserve.standing))
    loaded = tuple(_shown((*standing.held, _requests(reserve), *standing.driver)))
    cached = (*reserve.blocks.components(), *_late(reserve), *standing.running)
    running = tuple(_shown((*cached, *_images(reserve), *standing.unseen)))
    others = {"load": reserve.standing.resident.arriving}
    others["prefill"] = (*running, *_moment(reserve.profiled))
    if not reserve.standing.launch.pooling:
        others["decode"] = (*running, *_moment(reserve.decoding))
    return (*around(loaded, others), *_sleeping(reserve, standing))


def _sleeping(reserve: RankReserve, standing: "_Standing") -> Iterator[Instant]:
    """Yield the phases of sleep mode: "sleep", with weights and KV cache unmapped, and "wake", with
    weights back. Other torch memory stays, kernel workspaces too (device_allocator/cumem.py)."""
    if not reserve.standing.launch.sleeps:
        return
    pooled = reserve.standing.resident.asleep
    running = (c for c in standing.running if c not in pooled)
    moment = reserve.profiled if reserve.standing.launch.pooling else reserve.decoding
    kernels = (c for c in _moment(moment) if c.name == "workspaces")
    stays = tuple(_shown((*standing.driver, *_late(reserve), *kernels, *running, *standing.unseen)))
    inside = tuple(_shown(standing.held))
    yield Instant(
        "sleep", (*(c for c in inside if c.name == "workspaces"), _requests(reserve), *stays)
    )
    yield Instant("wake", (*inside, _requests(reserve), *stays))


def _shown(every: Iterable[Component]) -> Iterator[Component]:
    return (c for c in every if c.bytes.high)


class _Standing(NamedTuple):
    """Components that do not depend on requests, in display order."""

    held: tuple[Component, ...]
    driver: tuple[Component, ...]
    running: tuple[Component, ...]
    unseen: tuple[Component, ...]

    @classmethod
    def of(cls, standing: Standing) -> "_Standing":
        talk = Component(
            name="communication",
            bytes=standing.resident.talk_before,
            basis="assumed",
            formula="communicators of NCCL, one a group of ranks; 0.50 GiB each on an H100",
            source="logs of vLLM 0.19 on 2 and 4 H100",
        )
        graphs = Component(
            name="cuda_graphs",
            bytes=standing.captured.taken,
            basis="assumed",
            formula="sizes x kernels x 9 to 21 KiB, the pool of the largest, splits of attention",
            source="35 logs of vLLM 0.10 to 0.19: 0.14 to 2.6 GiB",
        )
        driver = (standing.context, talk)
        running = (graphs, *standing.talk_after, *standing.resident.asleep)
        return cls(tuple(_held(standing)), driver, running, tuple(_unseen(standing)))


def _weights(choice: FormatChoice, nbytes: int) -> str:
    formula = f"every tensor of this rank in {choice.name}, as vLLM's layers hold it"
    size = choice.dtype.size(1)
    if choice.scheme is not None or nbytes % size:
        return formula
    return f"{nbytes // size:,} numbers of this rank x {size} B ({choice.name})"


def _held(standing: Standing) -> Iterator[Component]:
    choice, there = standing.subject.choice, standing.resident
    loaded = there.loaded
    extra = sum(c.bytes.expected for c in (*there.adapters, *there.draft))
    yield _of(
        "weights",
        loaded.weights,
        basis="read" if choice.as_stored else "computed",
        formula=_weights(choice, loaded.weights),
        source="file headers" if choice.as_stored else "the class's tensors",
    )
    yield _of(
        "buffers",
        loaded.buffers + standing.batch,
        formula="tables of positions and other buffers, those of a batch's tokens",
        source="vllm model_executor/models/*.py, layers/rotary_embedding/",
    )
    yield from there.adapters
    yield from there.draft
    yield _of(
        "workspaces",
        there.imported,
        detail="latent attention",
        formula="128 MiB for each module of kernels that is tried",
        source="vllm v1/attention/backends/mla/{flashinfer,cutlass}_mla.py",
    )
    yield _of(
        "rounding",
        loaded.allocated - loaded.weights - loaded.buffers - extra - there.imported,
        formula="blocks of 512 bytes, and remainders too small to split off",
        source="c10/cuda/CUDACachingAllocator.cpp, replayed tensor by tensor",
    )
    yield _of(
        "fragmentation",
        standing.sums.spread,
        formula="free room in segments of 2 MiB, 20 MiB or a tensor's own",
        source="c10/cuda/CUDACachingAllocator.cpp, replayed tensor by tensor",
    )


def _requests(reserve: RankReserve) -> Component:
    return _of(
        "buffers",
        reserve.persistent,
        detail="requests",
        formula="tables of blocks, inputs of a batch, counts of the sampler",
        source="vllm v1/worker/gpu_input_batch.py, v1/worker/gpu/sample/penalties.py",
    )


def _unseen(standing: Standing) -> Iterator[Component]:
    """Yield memory taken outside torch after vLLM's first free-memory snapshot."""
    yield Component(
        name="context",
        bytes=LATER,
        basis="assumed",
        role=ONCE,
        detail="kernels loaded later",
        formula="outside vLLM's share; readings are 0.45 to 0.65 GiB",
        source="NVML beside vLLM 0.23 and 0.26 (AgileRL/AgileRL, tools/memory_profiling)",
    )
    yield Component(
        name="other",
        bytes=standing.growth,
        basis="assumed",
        detail="kernels and handles",
        formula="growth outside torch while profiling: kernels, and stacks of one that filters "
        "logits; published: 0.04 to 0.46 GiB",
        source="vllm utils/mem_utils.py (non_torch_increase)",
    )
    if standing.processes.high:
        yield Component(
            name="other",
            bytes=standing.processes,
            basis="assumed",
            role=ONCE,
            detail="the rank's process",
            formula="host memory of the rank, which vLLM finds gone from the device's",
            source=device_support.LOGGED,
        )


def _late(reserve: RankReserve) -> Iterator[Component]:
    if reserve.late:
        yield _of(
            "workspaces",
            reserve.late,
            detail="attention",
            formula="latents gathered from the cache, scratch of the backend",
            source="vllm model_executor/layers/attention/mla_attention.py",
        )


def _images(reserve: RankReserve) -> Iterator[Component]:
    if reserve.images:
        yield Component(
            name="activations",
            bytes=Bytes(0, reserve.images, reserve.images),
            basis="computed",
            detail="images and sounds, which this version does not profile",
            formula="what encoding a batch of them takes beyond the profile's peak",
            source="vllm v1/worker/gpu/model_runner.py (profile_run)",
        )


@lru_cache(maxsize=64)
def _moment(moment: ProfiledMoment) -> tuple[Component, ...]:
    rows = (
        Component(
            name="activations",
            bytes=moment.activations,
            basis="computed",
            detail=moment.name,
            formula=moment.formula,
            source=RUNNER,
        ),
        _of("logits", moment.logits, detail=moment.name, formula=moment.formula, source=RUNNER),
        _of(
            "workspaces",
            moment.workspaces,
            detail=moment.name,
            formula="cuBLAS, experts, top-k and top-p",
            source=RUNNER,
        ),
    )
    return tuple(c for c in rows if c.bytes.high)


def _of(
    name: str,
    nbytes: int,
    *,
    basis: Basis = "computed",
    formula: str,
    detail: str = "",
    source: str = "vllm",
) -> Component:
    return Component(
        name=name, bytes=exactly(nbytes), basis=basis, detail=detail, formula=formula, source=source
    )
