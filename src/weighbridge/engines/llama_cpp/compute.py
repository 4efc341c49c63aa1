"""Compute buffers in bytes per device: the largest step's graph, placed on devices and allocated.

    reserved    a step of -ub tokens over the whole cache; and one of a token per slot, which can
                need more if several devices compute: a large step copies host weights to a GPU that
                the host multiplies in a small one; and if slots are many, since logits are then
                most of both steps

Source: llama.cpp 0c1e57098 src/llama-context.cpp (sched_reserve, graph_reserve).
"""

from collections.abc import Callable, Mapping

from weighbridge.base.dtypes import DType
from weighbridge.base.records import replace
from weighbridge.base.units import align_up
from weighbridge.base.watching import go_on
from weighbridge.engines.llama_cpp.effective import LlamaCppLaunch
from weighbridge.engines.llama_cpp.ggml.graph import F16, GgmlTensor, elements
from weighbridge.engines.llama_cpp.ggml.scheduler import BufferPool, GraphAllocator, Scheduler
from weighbridge.engines.llama_cpp.graphs.architectures import build
from weighbridge.engines.llama_cpp.graphs.build import Build, GraphStep, Placement
from weighbridge.engines.llama_cpp.placement import (
    GPU_ALIGNMENT,
    HOST_ALIGNMENT,
    ROW,
    LayerPlacement,
)
from weighbridge.engines.llama_cpp.rules import PACKED, READ_WHOLE, LlamaCppRules, repacked

# (key size, value size) per head for which CUDA has a flash attention kernel
SQUARE = (40, 64, 72, 80, 96, 112, 128, 256, 512)
PAIRS = frozenset(((576, 512), (192, 128), (320, 256), *((n, n) for n in SQUARE)))

# Tokens per sequence from which only the large step counts: with 32 and more, its buffers are no
# smaller than those of a token each for all 218 models of the catalogue that llama.cpp reads; with
# 4, logits can be more
MUCH = 64
READ_AT_ONCE = 256  # values of a row


def reserved(layers: LayerPlacement, near: int) -> tuple[int, ...]:
    """Return bytes per device, the host last. `near` is the cells of sliding layers."""
    s = step_of(layers.launch, near)
    large = replayed(layers, s)
    if alone(layers) and s.tokens >= MUCH * s.sequences:
        return large
    small = replayed(layers, replace(s, tokens=s.sequences, outputs=s.sequences))
    return tuple(max(pair) for pair in zip(large, small, strict=True))


def alone(layers: LayerPlacement) -> bool:
    """Return whether one GPU computes everything: its graph is then the same for every step, and
    the largest step takes the most, logits aside."""
    launch = layers.launch
    here = layers.full and launch.gpus == 1 and launch.cache_offload and not launch.moves
    return here and not launch.rules.fused


def step_of(launch: LlamaCppLaunch, near: int) -> GraphStep:
    sequences = launch.slots if launch.rules.slots_in_graph else 1
    tokens = align_up(launch.step_tokens, sequences)
    return GraphStep(
        tokens=tokens,
        sequences=sequences,
        outputs=min(launch.outputs, tokens),
        cells=launch.n_ctx // launch.streams,
        near=near,
        flash=launch.flash,
        rules=launch.rules,
        streams=launch.streams if launch.rules.slots_in_graph else 1,
        slots=launch.slots,
        type_k=launch.type_k,
        type_v=launch.type_v,
        embeds=launch.embeds,
        latent_mode=launch.latent_mode,
        largest_batch=launch.largest_batch,
        fused_experts=launch.fused_experts,
        repacks=launch.repacks,
    )


def replayed(layers: LayerPlacement, step: GraphStep) -> tuple[int, ...]:
    go_on()
    b = Build(layers.net, step, placement(layers))
    build(b)
    go_on()
    host = layers.host
    scheduler = Scheduler(
        host=host,
        supports=supports(host, step),
        copies=layers.copies,
        batch=_fork_batch(step.rules) if step.rules.fused else batch,
        all_inputs=step.rules.all_inputs,
    )
    nodes, leaves = scheduler.steps(b.graph)
    go_on()
    pools = [BufferPool(GPU_ALIGNMENT) for _ in range(host)] + [BufferPool(HOST_ALIGNMENT)]
    sizes = [gpu_size(step)] * host + [host_size]
    GraphAllocator(pools, sizes).run(nodes, leaves)
    return tuple(pool.high for pool in pools)


def placement(layers: LayerPlacement) -> Placement:
    return Placement(
        host=layers.host,
        weight=layers.weight,
        layer=layers.layer,
        cache=layers.cache,
        pinned=layers.full,
        copies=layers.copies,
        cache_offload=layers.launch.cache_offload,
        named=layers.overridden,
        facts=(*layers.facts, layers.launch.cache_offload),
    )


def batch(t: GgmlTensor) -> int:
    """Return an operation's tokens, which decide if its weight is copied to a GPU."""
    if t.op == "get_rows":
        return 0
    if t.op == "mul_mat":
        return t.ne[1]
    if t.op in ("mul_mat_id", "rope"):
        return t.ne[2]
    return t.ne[1] * t.ne[2] * t.ne[3]


def _fork_batch(rules: LlamaCppRules) -> Callable[[GgmlTensor], int]:
    """Return ik_llama.cpp's `batch`: result rows; for experts tokens, later per expert."""
    by_expert = ("mul_mat_id", *(("moe_up_gate",) if rules.fused_moves else ()))

    def count(t: GgmlTensor) -> int:
        if t.op == "get_rows":
            return 0
        if t.op not in by_expert:
            return t.ne[1]
        if rules.expert_share:
            return t.ne[2] * t.ne[1] // t.src[0].ne[2]
        return max(t.ne[1:3])

    return count


def supports(host: int, step: GraphStep) -> Callable[[GgmlTensor, int], bool]:
    """Return whether a device runs an operation: a GPU needs a kernel and its own or host
    memory."""

    def known(t: GgmlTensor, device: int) -> bool:
        if device == host:
            return True
        for source in t.src:
            stored = source.dev
            if stored is not None and stored != device and stored != host:
                return False
        if t.op in MULTIPLY:
            return all(_multiplies(w, step, host) for w in t.src if w.weight)
        if t.op == "get_rows" and t.src[0].weight:
            return reads_rows(t.src[0].dtype, t.src[0].ne[0], step.rules)
        return KERNELS.get(t.op, _always)(t)

    return known


def reads_rows(dtype: DType, width: int, rules: LlamaCppRules) -> bool:
    """Return whether a GPU reads rows of a table, such as an embedding. If not, nothing aborts: the
    scheduler gives the operation to the CPU and copies the whole table there, each step
    (ggml/src/ggml-backend.cpp, ggml_backend_sched_backend_from_buffer: no backend supports the
    operation with that weight, which "will need to be copied")."""
    whole = dtype.name not in READ_WHOLE or width % READ_AT_ONCE == 0
    return rules.read_rows is None or (dtype.name in rules.read_rows and whole)


MULTIPLY = ("mul_mat", "mul_mat_id", "moe_up_gate")


def _multiplies(weight: GgmlTensor, step: GraphStep, host: int) -> bool:
    """Return whether a GPU multiplies `weight`: not types without a kernel, nor most rows that are
    repacked for CPUs."""
    name = weight.dtype.name
    if name in step.rules.no_kernel:
        return False
    if step.repacks and weight.dev == host:
        name = repacked(name, weight.ne[1])
    return not name.endswith(PACKED) or name in step.rules.packed_products


def _always(t: GgmlTensor) -> bool:
    return True


def _flash(t: GgmlTensor) -> bool:
    return (t.src[1].ne[0], t.src[2].ne[0]) in PAIRS


def _scan(t: GgmlTensor) -> bool:
    state, heads = t.src[0].ne[0], t.src[0].ne[1]
    if heads == 1:
        return state == 16 and t.src[0].ne[2] % 128 == 0
    return state in (96, 128, 256) and heads % 16 == 0


KERNELS: Mapping[str, Callable[[GgmlTensor], bool]] = {
    "flash_attn": _flash,
    "ssm_conv": lambda t: t.src[0].ne[1] % 128 == 0,
    "ssm_scan": _scan,
}


def host_size(t: GgmlTensor) -> int:
    return t.nbytes


def gpu_size(step: GraphStep) -> Callable[[GgmlTensor], int]:
    """Return the function that gives a tensor's bytes on a GPU: quantized rows are padded, and
    flash attention adds 16-bit copies of a quantized cache."""

    def size(t: GgmlTensor) -> int:
        if t.op == "flash_attn" and step.rules.fattn_copies and t.src[0].ne[1] > 2:
            return _with_copies(t)
        if t.dtype.block > 1 and t.ne[0] % ROW:
            return t.nbytes + t.dtype.size(ROW - t.ne[0] % ROW)
        return t.nbytes

    return size


def _with_copies(t: GgmlTensor) -> int:
    keys, values = t.src[1], t.src[2]
    end = t.nbytes
    if keys.dtype is not F16:
        end = align_up(end, GPU_ALIGNMENT) + F16.size(elements(keys))
    if values.dtype is not F16 and values.base is not keys.base:
        end = align_up(end, GPU_ALIGNMENT) + F16.size(elements(values))
    return end
