"""An answer's components: the buffers of each device as llama.cpp's log names them, and the rest.

    context      what the driver takes for a process that uses CUDA without torch
    workspaces   CUDA's pool: activations in 8 bits for products with quantized weights, 16-bit
                 copies for cuBLAS; not in any line of the log
    host         pages of the file while it is loaded; tensors that stay; prompts kept for reuse

The multimodal projector (mmproj): a vision or audio encoder, on the main GPU.

    weights    the file's tensors, or the class's encoders in 16 bits
    compute    an image's positions through one layer of the encoder

Source: llama.cpp 0c1e57098 tools/mtmd/clip.cpp (clip_model_loader, warmup: the largest picture).
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from weighbridge.base.dtypes import FLOAT16
from weighbridge.base.memory import ONCE, Basis, Bytes, Component, Device, Instant, around, exactly
from weighbridge.base.records import dataclass, replace
from weighbridge.base.units import MIB, align_up
from weighbridge.engines.interface import Subject
from weighbridge.engines.llama_cpp.holdings import DeviceHoldings, pool
from weighbridge.engines.llama_cpp.process import PROCESS
from weighbridge.memory.components.kv_cache import components
from weighbridge.models.arch.blueprint import CountedParams
from weighbridge.models.arch.body import Dense, Tower
from weighbridge.models.quantization.schemes import counted, scheme

if TYPE_CHECKING:
    from weighbridge.machines.accelerators.parts import Part
    from weighbridge.workload import Infer

# A process of llama.cpp on a GPU besides its buffers. Published: 256 MiB for a bare context on an
# RTX 3090, 200 to 250 for llama.cpp; cuBLAS adds its kernels and a workspace at its first use.
CONTEXT = Bytes(180 * MIB, 250 * MIB, 420 * MIB)
POOL = "CUDA pool"
CHECKPOINTS = 32  # of windows and recurrent states, per slot
LOADER = "llama.cpp src/llama-model.cpp (load_tensors)"
SCHEDULER = "llama.cpp src/llama-context.cpp (sched_reserve), ggml-alloc.c replayed"
Name = Literal["load", "prefill", "decode"]


@dataclass(frozen=True, slots=True)
class Projector:
    weights: Component
    compute: Component


def gpu(
    holdings: DeviceHoldings, subject: Subject, device: int, projector: Projector | None
) -> Device:
    first = device == holdings.launch.main_gpu
    loaded = tuple(_loaded(holdings, subject, device, projector if first else None))
    running = (*loaded, *_running(holdings, device), *_clip(projector if first else None))
    return Device(index=device, kind="gpu", phases=phases(holdings, loaded, running))


def gpus(
    holdings: DeviceHoldings, subject: Subject, projector: Projector | None, part: "Part | None"
) -> tuple[Device, ...]:
    """Return the GPUs in use, with their components."""
    return tuple(on_stack(gpu(holdings, subject, d, projector), part) for d in holdings.used)


def on_stack(device: Device, part: "Part | None") -> Device:
    """Return `device` with CUDA's components under the names of the part's own libraries. ROCm's
    backend is ggml-cuda, compiled for it; others have no such pool."""
    if part is None or part.stack == "cuda" or device.kind != "gpu":
        return device
    names = {p.name: filter(None, (_renamed(c, part) for c in p.components)) for p in device.phases}
    return replace(device, phases=around((), names))


def _renamed(component: Component, part: "Part") -> Component | None:
    if part.stack == "hip":
        formula = component.formula.replace("CUDA", "HIP").replace("cuBLAS", "hipBLAS")
        return replace(component, detail=component.detail.replace("CUDA", "HIP"), formula=formula)
    if component.name == "context":
        formula = "its runtime and compiled kernels: no reading is published, so as CUDA's"
        return replace(component, name="other", detail=f"{part.vendor}'s runtime", formula=formula)
    return None if component.detail == POOL else component


def phases(
    holdings: DeviceHoldings, loaded: tuple[Component, ...], running: tuple[Component, ...]
) -> tuple[Instant, ...]:
    loaded, running = (tuple(c for c in parts if c.bytes.high) for parts in (loaded, running))
    names = ("prefill",) if holdings.launch.pooled else ("prefill", "decode")
    return around((), {"load": loaded, **dict.fromkeys(names, running)})


def _loaded(
    holdings: DeviceHoldings, subject: Subject, device: int, projector: Projector | None
) -> Iterator[Component]:
    yield of(
        "weights",
        _weights(holdings, device),
        basis=basis(subject),
        formula=f"{_layers(holdings, device)}, each tensor to 128 bytes",
        source=LOADER,
    )
    if projector is not None:
        yield projector.weights
    yield from _proposing(holdings, device)
    context = of(
        "context",
        CONTEXT,
        basis="assumed",
        formula="CUDA context, kernels and cuBLAS; readings are 200 to 256 MiB",
        source="GPU, driver and versions decide",
    )
    yield replace(context, role=ONCE)


def _weights(holdings: DeviceHoldings, device: int) -> Bytes:
    """Return a device's bytes of weights; a tensor that moved between builds is in doubt."""
    size = holdings.weights[device]
    if device == holdings.launch.gpus:
        return Bytes(size - holdings.placed.moved, size, size)
    on_it = (
        holdings.placed.moved if device == holdings.placed.layer(len(holdings.net.layers)) else 0
    )
    return Bytes(size, size, size + on_it)


def basis(subject: Subject) -> Basis:
    return "read" if subject.choice.as_stored else "computed"


def _layers(holdings: DeviceHoldings, device: int) -> str:
    count = len(holdings.net.layers)
    mine = sum(holdings.placed.layer(i) == device for i in range(count))
    last = " and the output" if holdings.placed.layer(count) == device else ""
    moved = f", without the experts of {holdings.launch.cpu_moe}" if holdings.launch.cpu_moe else ""
    named = sum(each.device == device for each in holdings.placed.overridden.values())
    by_name = f", {named} tensors by name" if named else ""
    return f"{mine} of {count} layers{last}{moved}{by_name}"


def _proposing(holdings: DeviceHoldings, device: int) -> Iterator[Component]:
    """Yield the weights of the draft model or MTP layers."""
    if holdings.draft is not None:
        size = exactly(holdings.draft.weights[device])
        yield _of_draft("weights", size, holdings.draft.what)


def _proposed(main: DeviceHoldings, device: int) -> Iterator[Component]:
    """Yield the caches and the compute buffer of the draft context."""
    if main.draft is None:
        return
    holdings, what = main.draft.held, main.draft.what
    for name, size in (
        ("kv_cache", holdings.kv(device)),
        ("recurrent_state", holdings.state(device)),
    ):
        if size:
            yield _of_draft(name, exactly(size), what)
    buffer = _of_draft("activations", main.draft.buffer(device), f"compute buffer, {what}")
    yield replace(buffer, basis="assumed" if holdings.near_only else "computed")


def _of_draft(name: str, size: Bytes, detail: str) -> Component:
    return Component(
        name=name,
        bytes=size,
        detail=detail,
        basis="computed",
        formula="a context of its own for as many tokens, its cache in f16",
        source="llama.cpp tools/server/server-context.cpp (load_model)",
        role="draft",
    )


def _running(holdings: DeviceHoldings, device: int) -> Iterator[Component]:
    yield from _caches(holdings, device)
    yield from _proposed(holdings, device)
    yield of(
        "activations",
        holdings.buffer(device),
        detail="compute buffer",
        basis="assumed" if holdings.near_only else "computed",
        formula=_graph(holdings),
        source=SCHEDULER,
    )
    yield of(
        "workspaces",
        pool(holdings, device),
        detail=POOL,
        basis="assumed",
        formula="the largest operation's 8-bit activations or 16-bit copies, in pieces of 2 MiB",
        source="llama.cpp ggml/src/ggml-cuda/ggml-cuda.cu (ggml_cuda_pool_vmm), mmq.cu",
    )


def _graph(holdings: DeviceHoldings) -> str:
    if holdings.guessed:
        return "logits, one layer and the mask in 32 bits, from half to three times"
    how = (
        f"the graph of a step of {holdings.launch.step_tokens:,} tokens over "
        f"{holdings.launch.n_ctx:,} cells, "
        "its tensors placed as ggml places them"
    )
    return (
        f"llama.cpp's: {how}; {holdings.foreign}: from half to three times"
        if holdings.foreign
        else how
    )


def _caches(holdings: DeviceHoldings, device: int) -> Iterator[Component]:
    s = holdings.setting
    types = f"{s.type_k}/{s.type_v}"
    whole = f"{s.streams} x {s.per_slot:,} cells in {types}; {s.slots} rows of states in f32"
    parts = holdings.caches[device]
    yield from components(parts[""], formula=whole, source=SOURCE)
    near = f"{s.streams} x {holdings.near:,} cells in {types}"
    yield from components(parts["sliding"], formula=near, source=SOURCE, detail="sliding window")


SOURCE = "llama.cpp src/llama-kv-cache.cpp, src/llama-memory-recurrent.cpp"


def _clip(projector: Projector | None) -> Iterator[Component]:
    if projector is not None:
        yield projector.compute


# The host


def host(holdings: DeviceHoldings, subject: Subject, w: "Infer") -> Device:
    device = holdings.launch.gpus
    tower = projector(subject, w) if w.no_mmproj_offload else None
    there = () if tower is None else (tower.weights, tower.compute)
    stays = (*_stays(holdings, subject, device), *there)
    loading = (*stays, _pages(holdings, subject))
    running = (
        *stays,
        *_caches(holdings, device),
        *_host_running(holdings, device),
        *_kept(holdings),
    )
    return Device(index=0, kind="host", phases=phases(holdings, loading, running))


def _stays(holdings: DeviceHoldings, subject: Subject, device: int) -> Iterator[Component]:
    how = "mapped from the file" if holdings.launch.mmap else "read into memory"
    yield of(
        "weights",
        _weights(holdings, device),
        basis=basis(subject),
        formula=f"{_layers(holdings, device)} and the embedding, {how}",
        source=LOADER,
    )
    yield from _proposing(holdings, device)
    process = of(
        "other",
        PROCESS,
        detail="process",
        basis="assumed",
        formula="vocabulary, threads, libraries",
        source="no rule is published",
    )
    yield replace(process, role=ONCE)


def _pages(holdings: DeviceHoldings, subject: Subject) -> Component:
    """Estimate what loading tensors to GPUs takes on the host: mapped pages, or a staging buffer of
    the largest tensor."""
    moved = sum(holdings.weights[:-1])
    if holdings.launch.mmap:
        size, formula = Bytes(0, moved, moved), "pages of the file, which the kernel may drop"
    else:
        largest = max((t.nbytes for t in holdings.net.weights.values()), default=0)
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
    return replace(component, droppable=holdings.launch.mmap)


def _host_running(holdings: DeviceHoldings, device: int) -> Iterator[Component]:
    yield from _proposed(holdings, device)
    row = holdings.output // holdings.output_rows
    yield of(
        "logits",
        # one row per slot at first, more once tokens are drafted
        Bytes(row * holdings.launch.slots, holdings.output, holdings.output),
        detail="output buffer",
        formula=f"{holdings.output_rows} rows of {row // 4:,} float32",
        source="llama.cpp src/llama-context.cpp (output_reserve)",
    )
    yield of(
        "activations",
        holdings.buffer(device),
        detail="compute buffer",
        basis="assumed" if holdings.near_only else "computed",
        formula="inputs and what the host computes",
        source=SCHEDULER,
    )


def _kept(holdings: DeviceHoldings) -> Iterator[Component]:
    """Yield the host memory for prompts of earlier requests, up to its limit."""
    if holdings.launch.program != "server":
        return
    if holdings.launch.cache_ram:
        prompts = of(
            "other",
            Bytes(0, 0, _limit(holdings)),
            detail="prompts of earlier requests",
            basis="assumed",
            formula=f"--cache-ram {holdings.launch.cache_ram:,} MiB at most; empty at first",
            source="llama.cpp common/common.h (cache_ram_mib)",
        )
        yield replace(prompts, growing=True)


def _limit(holdings: DeviceHoldings) -> int:
    if holdings.launch.cache_ram > 0:
        return holdings.launch.cache_ram * MIB
    return (
        sum(holdings.kv(d) + holdings.state(d) for d in range(holdings.launch.gpus + 1))
        * CHECKPOINTS
    )


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


def projector(subject: Subject, w: "Infer") -> Projector | None:
    """Return the projector of images or audio, None if none is loaded."""
    if subject.projector is None and not (w.mmproj or w.mmproj_auto):
        return None
    size = of_class(subject) if subject.projector is None else exactly(of_file(subject))
    if not size.high:
        return None
    return Projector(
        Component(
            name="weights",
            detail="mmproj",
            bytes=size,
            basis="read" if subject.projector is not None else "computed",
            formula="towers and what joins them to the model, in 16 bits",
            source="llama.cpp tools/mtmd/clip.cpp",
        ),
        _compute(subject),
    )


def on_card(subject: Subject, w: "Infer") -> Projector | None:
    """Return the projector if it is on the main GPU; None if it stays in host memory."""
    return None if w.no_mmproj_offload else projector(subject, w)


def of_file(subject: Subject) -> int:
    assert subject.projector is not None
    return sum(align_up(t.nbytes, 128) for part in subject.projector.parts for t in part.stored)


def of_class(subject: Subject) -> Bytes:
    """Return the bytes of encoders converted to F16. Position embeddings stay in 32 bits for most
    classes, patch embeddings for some (`tensor_force_quant` of each in convert_hf_to_gguf.py)."""
    whole = subject.part.blueprint
    towers = tuple(p for p in whole.counted if whole.part(p.name) != "language model")
    plan = replace(whole, params=CountedParams(towers))
    low = places = patches = 0
    for t, copies in counted(plan, scheme("F16"), dtype=subject.choice.dtype):
        size = align_up(t.nbytes, 128) * copies
        low += size
        if t.dtype is FLOAT16 and "emb" in t.source:
            of_places = "pos" in t.source.split(".")[-2]
            places += size * of_places
            patches += size * (not of_places)
    return Bytes(low, low + places, low + places + patches)


def _compute(subject: Subject) -> Component:
    expected = max((_layer(t) for t in subject.body.towers), default=64 * MIB)
    return Component(
        name="activations",
        detail="mmproj",
        bytes=Bytes(expected // 2, expected, 3 * expected),
        basis="assumed",
        formula="positions x (6 D + 3 F) x 4 bytes of the widest tower",
        source="llama.cpp tools/mtmd/clip.cpp, whose graph is not replayed",
    )


def _layer(tower: Tower) -> int:
    """Return the bytes of 32-bit activations that are alive at once in one layer of an encoder."""
    feed = (
        tower.feed.width if isinstance(tower.feed, Dense) else tower.feed.width * tower.feed.top_k
    )
    return 4 * tower.positions * (6 * tower.hidden + 3 * feed)
