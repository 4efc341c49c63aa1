"""An answer's components: the buffers of each device as llama.cpp's log names them, and the rest.

context      what the driver takes for a process that uses CUDA without torch
workspaces   CUDA's pool: activations in 8 bits for products with quantized weights, 16-bit
             copies for cuBLAS; not in any line of the log
host         pages of the file while it is read; tensors that stay; prompts kept for later

The multimodal projector (mmproj): an image or audio tower, on the main GPU.

    weights    the file's tensors, or the class's towers in 16 bits
    compute    a picture's positions through one layer of the tower

Source: llama.cpp 0c1e57098 tools/mtmd/clip.cpp (clip_model_loader, warmup: the largest picture).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from weighbridge.arch.body import Dense, Tower
from weighbridge.components.kv_cache import components
from weighbridge.engines.interface import Subject
from weighbridge.engines.llama_cpp.holdings import DeviceHoldings, pool
from weighbridge.memory import Basis, Bytes, Component, Device, Phase, exactly
from weighbridge.quantization.schemes import counted, scheme
from weighbridge.units import MIB, align_up

if TYPE_CHECKING:
    from weighbridge.accelerators.parts import Part
    from weighbridge.workload import Infer

# A process of llama.cpp on a GPU beside its buffers. Published: 256 MiB for a bare context on an
# RTX 3090, 200 to 250 for llama.cpp; cuBLAS adds its kernels and a workspace when it is first used.
CONTEXT = Bytes(180 * MIB, 250 * MIB, 420 * MIB)
PROCESS = Bytes(60 * MIB, 200 * MIB, 600 * MIB)  # vocabulary, threads, libraries
POOL = "CUDA pool"
CHECKPOINTS = 32  # of windows and states, a slot
LOADER = "llama.cpp src/llama-model.cpp (load_tensors)"
SCHEDULER = "llama.cpp src/llama-context.cpp (sched_reserve), ggml-alloc.c replayed"
Name = Literal["load", "prefill", "decode"]


@dataclass(frozen=True, slots=True)
class Projector:
    weights: Component
    compute: Component


def gpu(h: DeviceHoldings, s: Subject, device: int, projector: Projector | None) -> Device:
    first = device == h.launch.main_gpu
    loaded = tuple(_loaded(h, s, device, projector if first else None))
    running = (*loaded, *_running(h, device), *_clip(projector if first else None))
    return Device(index=device, kind="gpu", phases=phases(h, loaded, running))


def gpus(
    h: DeviceHoldings, s: Subject, projector: Projector | None, part: "Part | None"
) -> tuple[Device, ...]:
    """List the GPUs that hold a layer, or compute what the host's tensors are brought for."""
    used = [d for d in range(h.launch.gpus) if h.launch.gpu_layers > 0 or h.compute[d] > 0]
    return tuple(on_stack(gpu(h, s, d, projector), part) for d in used)


def on_stack(device: Device, part: "Part | None") -> Device:
    """The rows that are CUDA's, under the names of the part's own libraries. ROCm's backend is
    ggml-cuda, compiled for it; others have no such pool."""
    if part is None or part.stack == "cuda" or device.kind != "gpu":
        return device
    renamed = (
        Phase(phase.name, tuple(filter(None, (_renamed(c, part) for c in phase.components))))
        for phase in device.phases
    )
    return replace(device, phases=tuple(renamed))


def _renamed(c: Component, part: "Part") -> Component | None:
    if part.stack == "hip":
        formula = c.formula.replace("CUDA", "HIP").replace("cuBLAS", "hipBLAS")
        return replace(c, detail=c.detail.replace("CUDA", "HIP"), formula=formula)
    if c.name == "context":
        formula = "its runtime and compiled kernels: no reading is published, so as CUDA's"
        return replace(c, name="other", detail=f"{part.vendor}'s runtime", formula=formula)
    return None if c.detail == POOL else c


def phases(
    h: DeviceHoldings, loaded: tuple[Component, ...], running: tuple[Component, ...]
) -> tuple[Phase, ...]:
    loaded, running = (tuple(c for c in parts if c.bytes.high) for parts in (loaded, running))
    phases_of = [Phase("load", loaded), Phase("prefill", running)]
    if not h.launch.pooled:
        phases_of.append(Phase("decode", running))
    return tuple(phases_of)


def _loaded(
    h: DeviceHoldings, s: Subject, device: int, projector: Projector | None
) -> Iterator[Component]:
    yield of(
        "weights",
        _weights(h, device),
        basis=basis(s),
        formula=f"{_layers(h, device)}, each tensor to 128 bytes",
        source=LOADER,
    )
    if projector is not None:
        yield projector.weights
    yield from _proposing(h, device)
    yield of(
        "context",
        CONTEXT,
        basis="assumed",
        formula="CUDA context, kernels and cuBLAS; readings are 200 to 256 MiB",
        source="GPU, driver and versions decide",
    )


def _weights(h: DeviceHoldings, device: int) -> Bytes:
    """A tensor that some builds leave with the host and some do not is in doubt on both."""
    size = h.weights[device]
    if device == h.launch.gpus:
        return Bytes(size - h.placed.moved, size, size)
    on_it = h.placed.moved if device == h.placed.layer(len(h.net.layers)) else 0
    return Bytes(size, size, size + on_it)


def basis(s: Subject) -> Basis:
    return "read" if s.choice.as_stored else "computed"


def _layers(h: DeviceHoldings, device: int) -> str:
    count = len(h.net.layers)
    mine = sum(h.placed.layer(i) == device for i in range(count))
    last = " and the output" if h.placed.layer(count) == device else ""
    moved = f", without the experts of {h.launch.cpu_moe}" if h.launch.cpu_moe else ""
    return f"{mine} of {count} layers{last}{moved}"


def _proposing(h: DeviceHoldings, device: int) -> Iterator[Component]:
    """Weights of what proposes tokens."""
    if h.draft is not None:
        size = exactly(h.draft.weights[device])
        yield of("weights", size, detail=h.draft.what, formula=DRAFT, source=DRAFTING)


def _proposed(h: DeviceHoldings, device: int) -> Iterator[Component]:
    """Caches and buffers of the context that proposes tokens."""
    if h.draft is None:
        return
    holdings, what = h.draft.held, h.draft.what
    for name, size in (
        ("kv_cache", holdings.kv(device)),
        ("recurrent_state", holdings.state(device)),
    ):
        if size:
            yield of(name, exactly(size), detail=what, formula=DRAFT, source=DRAFTING)
    yield of(
        "activations",
        h.draft.buffer(device),
        detail=f"compute buffer, {what}",
        basis="assumed" if holdings.near_only else "computed",
        formula=DRAFT,
        source=DRAFTING,
    )


DRAFT = "a context of its own for as many tokens, its cache in f16"
DRAFTING = "llama.cpp tools/server/server-context.cpp (load_model)"


def _running(h: DeviceHoldings, device: int) -> Iterator[Component]:
    yield from _caches(h, device)
    yield from _proposed(h, device)
    yield of(
        "activations",
        h.buffer(device),
        detail="compute buffer",
        basis="assumed" if h.near_only else "computed",
        formula=_graph(h),
        source=SCHEDULER,
    )
    yield of(
        "workspaces",
        pool(h, device),
        detail=POOL,
        basis="assumed",
        formula="the largest operation's 8-bit activations or 16-bit copies, in pieces of 2 MiB",
        source="llama.cpp ggml/src/ggml-cuda/ggml-cuda.cu (ggml_cuda_pool_vmm), mmq.cu",
    )


def _graph(h: DeviceHoldings) -> str:
    if h.guessed:
        return "logits, one layer and the mask in 32 bits, from half to three times"
    how = (
        f"the graph of a step of {h.launch.step_tokens:,} tokens over {h.launch.n_ctx:,} cells, "
        "its tensors placed as ggml places them"
    )
    return f"llama.cpp's: {how}; {h.foreign}: from half to three times" if h.foreign else how


def _caches(h: DeviceHoldings, device: int) -> Iterator[Component]:
    s = h.setting
    types = f"{s.type_k}/{s.type_v}"
    whole = f"{s.streams} x {s.per_slot:,} cells in {types}; {s.slots} rows of states in f32"
    parts = h.caches[device]
    yield from components(parts[""], formula=whole, source=SOURCE)
    near = f"{s.streams} x {h.near:,} cells in {types}"
    yield from components(parts["sliding"], formula=near, source=SOURCE, detail="sliding window")


SOURCE = "llama.cpp src/llama-kv-cache.cpp, src/llama-memory-recurrent.cpp"


def _clip(projector: Projector | None) -> Iterator[Component]:
    if projector is not None:
        yield projector.compute


# The host


def host(h: DeviceHoldings, s: Subject) -> Device:
    device = h.launch.gpus
    stays = tuple(_stays(h, s, device))
    loading = (*stays, _pages(h, s))
    running = (*stays, *_caches(h, device), *_host_running(h, device), *_kept(h))
    return Device(index=0, kind="host", phases=phases(h, loading, running))


def _stays(h: DeviceHoldings, s: Subject, device: int) -> Iterator[Component]:
    how = "mapped from the file" if h.launch.mmap else "read into memory"
    yield of(
        "weights",
        _weights(h, device),
        basis=basis(s),
        formula=f"{_layers(h, device)} and the embedding, {how}",
        source=LOADER,
    )
    yield from _proposing(h, device)
    yield of(
        "other",
        PROCESS,
        detail="process",
        basis="assumed",
        formula="vocabulary, threads, libraries",
        source="no rule is published",
    )


def _pages(h: DeviceHoldings, s: Subject) -> Component:
    """Estimate what loading tensors to GPUs takes on the host: mapped pages, or a staging buffer of
    the largest tensor."""
    moved = sum(h.weights[:-1])
    if h.launch.mmap:
        size, formula = Bytes(0, moved, moved), "pages of the file, which the kernel may drop"
    else:
        largest = max((t.nbytes for t in h.net.weights.values()), default=0)
        size, formula = (
            Bytes(min(4 * MIB, moved), min(4 * MIB, moved), min(largest, moved)),
            ("four pinned buffers of 1 MiB, or the largest tensor"),
        )
    component = of(
        "temporaries",
        size,
        detail="while loading",
        formula=formula,
        source="llama.cpp src/llama-model-loader.cpp (load_all_data)",
    )
    return replace(component, droppable=h.launch.mmap)


def _host_running(h: DeviceHoldings, device: int) -> Iterator[Component]:
    yield from _proposed(h, device)
    yield of(
        "logits",
        exactly(h.output),
        detail="output buffer",
        formula=f"{h.output_rows} rows of {h.output // 4 // h.output_rows:,} float32",
        source="llama.cpp src/llama-context.cpp (output_reserve)",
    )
    yield of(
        "activations",
        h.buffer(device),
        detail="compute buffer",
        basis="assumed" if h.near_only else "computed",
        formula="inputs and what the host computes",
        source=SCHEDULER,
    )


def _kept(h: DeviceHoldings) -> Iterator[Component]:
    """Grows with use, up to its limit; a workload needs none of it."""
    if h.launch.program != "server":
        return
    if h.launch.cache_ram:
        limit = _limit(h)
        yield of(
            "other",
            Bytes(0, 0, limit),
            detail="prompts of earlier requests",
            basis="assumed",
            formula=f"--cache-ram {h.launch.cache_ram:,} MiB at most; empty at first",
            source="llama.cpp common/common.h (cache_ram_mib)",
        )


def _limit(h: DeviceHoldings) -> int:
    if h.launch.cache_ram > 0:
        return h.launch.cache_ram * MIB
    return sum(h.kv(d) + h.state(d) for d in range(h.launch.gpus + 1)) * CHECKPOINTS


def of(
    name: str,
    size: Bytes,
    *,
    detail: str = "",
    basis: Basis = "computed",
    formula: str = "",
    source: str = "",
) -> Component:
    return Component(
        name=name, bytes=size, detail=detail, basis=basis, formula=formula, source=source
    )


# The projector


def projector(s: Subject, w: "Infer") -> Projector | None:
    """Describe the projector of images or sounds; None where none is loaded."""
    if s.projector is None and not w.mmproj:
        return None
    size = of_file(s) if s.projector is not None else of_class(s)
    if not size:
        return None
    return Projector(
        Component(
            name="weights",
            detail="mmproj",
            bytes=exactly(size),
            basis="read" if s.projector is not None else "computed",
            formula="towers and what joins them to the model, in 16 bits",
            source="llama.cpp tools/mtmd/clip.cpp",
        ),
        _compute(s),
    )


def of_file(s: Subject) -> int:
    assert s.projector is not None
    return sum(align_up(t.nbytes, 128) for part in s.projector.parts for t in part.stored)


def of_class(s: Subject) -> int:
    plan = s.part.blueprint
    tensors = counted(plan, scheme("F16"), dtype=s.choice.dtype)
    beside = ((t, n) for t, n in tensors if plan.part(t.source) != "language model")
    return sum(align_up(t.nbytes, 128) * n for t, n in beside)


def _compute(s: Subject) -> Component:
    expected = max((_layer(t) for t in s.body.towers), default=64 * MIB)
    return Component(
        name="activations",
        detail="mmproj",
        bytes=Bytes(expected // 2, expected, 3 * expected),
        basis="assumed",
        formula="positions x (6 D + 3 F) x 4 bytes of the widest tower",
        source="llama.cpp tools/mtmd/clip.cpp, whose graph is not replayed",
    )


def _layer(tower: Tower) -> int:
    """Return the bytes of activations that one layer of a tower keeps at once, in 32 bits."""
    feed = (
        tower.feed.width if isinstance(tower.feed, Dense) else tower.feed.width * tower.feed.top_k
    )
    return 4 * tower.positions * (6 * tower.hidden + 3 * feed)
