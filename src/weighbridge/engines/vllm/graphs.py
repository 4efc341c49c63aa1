"""CUDA graphs: memory of all captured graphs, in the driver and in torch's private pool.

    graphs     a piecewise graph for each size, and a full graph for each decode size
    kernels    graphs x kernels of all layers x bytes of one (assumed)
    pool       peak activations of a layer at the largest size; 130 MiB of kernels loaded at the
               first capture (assumed); matrices that AWQ's own kernel dequantizes from 256 tokens
    LoRA       since 0.12 each size twice: with adapter slots, and without
    splits     32 partial attention outputs (split-KV) in float32, of full graphs on Hopper

    taken      kernels + pool + splits
    charged    kernels of all but the first two + the larger of pool and splits      vLLM's estimate

The estimate is deducted from the KV cache since 0.20, on ROCm since 0.26. Two ROCm logs disagree: a
kernel took 8 KiB on a Strix Halo (0.71 GiB in all), and 100 on an MI300X (3.9 GiB). Splits:
FlashAttention 3 may split a context in 32, with a buffer for each part: batch x heads x value dim x
4 bytes (for MLA, its latent rank instead).

No source gives the driver's bytes. 16 logs of dense models of vLLM 0.19 on an H100 (51 or 83 sizes,
jgchn/llm-d-planner) are linear in layers: 130 MiB, and 0.14 to 0.17 MiB per layer and graph. A100,
0.17: 0.11 and 0.12; RTX 4090, three graphs of 0.10: 143 MiB in all. MoE models: 0.21 to 0.35 in
0.19 and 0.17 in 0.10, but 0.06 to 0.09 in five logs of 0.13, 0.22 and 0.26, for unknown reasons.
Eight ranks of 0.10 took 0.10 and 0.18 more, which two and four ranks of 0.19 do not show.

Source: vllm 0.33 and 0.19 v1/worker/gpu_model_runner.py (profile_cudagraph_memory, capture_model),
config/compilation.py (FULL_AND_PIECEWISE, cudagraph_specialize_lora), config/attention.py
(flash_attn_max_num_splits_for_cuda_graph), v1/attention/backends/flash_attn.py; 0.13
model_executor/layers/quantization/awq.py (apply).
"""

from collections.abc import Sequence

from weighbridge.base.memory import Bytes, exactly
from weighbridge.base.records import NamedTuple
from weighbridge.base.units import KIB, MIB, ceil_div
from weighbridge.engines.interface import Subject
from weighbridge.engines.servers import device_support
from weighbridge.engines.servers.cache_formats import local
from weighbridge.engines.servers.shards import Rank
from weighbridge.engines.vllm import effective, forward, hardware, weights
from weighbridge.engines.vllm.effective import VllmLaunch
from weighbridge.machines.accelerators.seen import Card
from weighbridge.models.arch.body import Dense, Experts, LayerBlock
from weighbridge.models.arch.mixers import Attention, Latent, Mixer
from weighbridge.models.arch.model_types import facts

# Bytes per captured kernel: dense layers, MoE layers, MoE layers of releases with smaller graphs
KERNEL = Bytes(9 * KIB, 14 * KIB, 17 * KIB)
SPARSE = Bytes(8 * KIB, 14 * KIB, 21 * KIB)
SPARSE_LESS = Bytes(3 * KIB, 6 * KIB, 21 * KIB)
ROCM = {
    "home": Bytes(3 * KIB, 14 * KIB, 17 * KIB),
    "centre": Bytes(3 * KIB, 14 * KIB, 110 * KIB),
}
# Kernels per layer, and extra ones of experts, of shared experts, of MLA
DENSE, MIXTURE, COMMON, LATENT = 11, 5, 4, 6
ADAPTED = 8  # extra kernels per layer with LoRA slots: four matmuls of two kernels each
FIRST = Bytes(64 * MIB, 130 * MIB, 180 * MIB)
MANY = 4  # ranks; above it, extra bytes per layer and graph, with and without fused all-reduce
UNFUSED, FUSED = Bytes(0, 104 * KIB, 256 * KIB), Bytes(0, 0, 256 * KIB)
SPLITS = 32
FLOAT32 = 4
NONE = Bytes(0, 0, 0)
AWQ, MARLIN_SINCE = "awq", (8, 0)
UNPACKED_FROM = 256  # tokens: model_executor/layers/quantization/awq.py


class CapturedGraphs(NamedTuple):
    """Bytes of CUDA graphs: allocated (`taken`) and as vLLM estimates them (`charged`)."""

    taken: Bytes
    charged: Bytes


def kernels(blocks: Sequence[LayerBlock], *, adapted: bool = False) -> int:
    """Return the number of kernels one step launches through `blocks`."""
    return sum(DENSE + ADAPTED * adapted + _more(b) for b in blocks)


def _more(block: LayerBlock) -> int:
    experts = [f for f in block.feeds if isinstance(f, Experts)]
    latent = any(isinstance(m, Latent) for m in block.mixers)
    common = any(f.shared for f in experts)
    return MIXTURE * bool(experts) + COMMON * common + LATENT * latent


def graphs(captures: Sequence[int], sequences: int, length: int, *, full: bool) -> int:
    """Return the number of captured graphs; the pieces of a piecewise graph count as one."""
    decoding = sum(1 for n in captures if n <= sequences * length) if full else 0
    return len(captures) + decoding


def splits(blocks: Sequence[LayerBlock], tokens: int, ranks: int) -> int:
    """Return the bytes of split-KV partial outputs for `tokens` decoded at once."""
    widths = (_width(m, ranks) for b in blocks for m in b.mixers)
    return SPLITS * tokens * max(widths, default=0) * FLOAT32


def _width(mixer: Mixer, ranks: int) -> int:
    if isinstance(mixer, Latent):
        return ceil_div(mixer.heads, ranks) * mixer.rank
    share = local(mixer, ranks)
    return share.heads * share.value_dim if isinstance(share, Attention) else 0


def unpacked(blocks: Sequence[LayerBlock], hidden: int, ranks: int) -> int:
    """Return the elements of the largest dense MLP's weight matrices on one rank."""
    feeds = (f for b in blocks for f in b.feeds if isinstance(f, Dense))
    return max(((2 + f.gated) * hidden * ceil_div(f.width, ranks) for f in feeds), default=0)


class GraphPool(NamedTuple):
    """Bytes in the private pool of CUDA graphs."""

    widest: int = 0  # peak activations of a layer at the largest size
    cut: int = 0  # split-KV partial outputs
    matrices: Bytes = NONE  # dequantized by AWQ's own kernel


class GraphKind(NamedTuple):
    """Inputs to the bytes of a captured kernel."""

    ranks: int = 1
    dense: Bytes = KERNEL  # bytes per kernel of dense layers
    sparse: Bytes = SPARSE  # bytes per kernel of MoE layers
    fused: bool = True


def estimate(
    blocks: Sequence[LayerBlock], counts: tuple[int, int], pool: GraphPool, kind: GraphKind
) -> CapturedGraphs:
    """Return the memory of all captured graphs. `counts`: graphs without and with LoRA slots."""
    count = sum(counts)
    if not count:
        return CapturedGraphs(NONE, NONE)
    nodes, mixed = _nodes(blocks, counts)
    summed = count * len(blocks) * (kind.ranks > MANY)
    more = FUSED if kind.fused else UNFUSED
    each = zip(kind.dense, kind.sparse, more, strict=True)
    nodes_bytes = Bytes(*(nodes * k + mixed * s + summed * m for k, s, m in each))
    pool_bytes = FIRST.plus(pool.matrices).plus(exactly(pool.widest))
    tried = max(0, count - 2)
    return CapturedGraphs(
        taken=nodes_bytes.plus(pool_bytes).plus(exactly(pool.cut)),
        charged=Bytes(
            *(
                max(h, pool.cut) + n * tried // count
                for h, n in zip(pool_bytes, nodes_bytes, strict=True)
            )
        ),
    )


def _nodes(blocks: Sequence[LayerBlock], counts: tuple[int, int]) -> tuple[int, int]:
    """Return the kernels in all graphs: (of dense layers, of MoE layers)."""
    plain, adapted = counts
    plain_blocks: list[LayerBlock] = []
    mixed: list[LayerBlock] = []
    for b in blocks:
        (mixed if any(isinstance(f, Experts) for f in b.feeds) else plain_blocks).append(b)
    each = [
        plain * kernels(part) + adapted * kernels(part, adapted=True)
        for part in (plain_blocks, mixed)
    ]
    return each[0], each[1]


def captured(subject: Subject, rank: Rank, launch: VllmLaunch, card: Card) -> CapturedGraphs:
    full = launch.decoding != "pieces"
    count = graphs(launch.captures, launch.sequences, 1 + launch.speculative, full=full)
    step = forward.step(
        rank.blocks,
        subject.body.hidden,
        forward.RankShare(tensor=launch.tensor),
        eager=False,
        through=weights.elements_through(subject),
    )
    largest = max(launch.captures, default=0)
    cut = 0
    if (
        full
        and hardware.hopper(card)  # FlashAttention 3
        and launch.backend in ("", effective.FLASH_ATTN)
        and not facts(_outer(subject)).vllm.other_kernels
    ):
        decoded = min(largest, launch.sequences * (1 + launch.speculative))
        cut = splits(rank.blocks, decoded, launch.tensor)
    rocm = hardware.rocm(card)
    sparse = SPARSE_LESS if launch.rules.sparse_less else SPARSE
    both = estimate(
        rank.blocks,
        _by_adapters(launch, count),
        GraphPool(
            widest=largest * step.widest * int(subject.choice.dtype.nbytes),
            cut=cut,
            matrices=_matrices(subject, rank, launch, card, largest),
        ),
        GraphKind(
            ranks=launch.tensor,
            dense=ROCM.get(rocm, KERNEL),
            sparse=ROCM.get(rocm, sparse),
            fused=launch.rules.fuses,
        ),
    )
    if rocm and not launch.rules.rocm_graphs:
        return both._replace(charged=NONE)
    shared = hardware.shares_memory(card)
    return both._replace(charged=device_support.expected_graphs(both.charged)) if shared else both


def _matrices(subject: Subject, rank: Rank, launch: VllmLaunch, card: Card, largest: int) -> Bytes:
    """Return the bytes of one layer's weights that AWQ's own kernel dequantizes and a graph
    retains. Where Marlin runs, that kernel is only used with --quantization awq (awq_marlin.py,
    override_quantization_method; get_min_capability), and since 0.24 never (auto_awq.py,
    get_quant_method)."""
    scheme = subject.choice.scheme
    if scheme is None or not scheme.name.startswith(AWQ) or largest < UNPACKED_FROM:
        return NONE
    numbers = unpacked(rank.blocks, subject.body.hidden, launch.tensor)
    nbytes = numbers * int(subject.choice.dtype.nbytes)
    plain = launch.plain_awq or hardware.capability(card) < MARLIN_SINCE
    return exactly(nbytes * plain)


def _by_adapters(launch: VllmLaunch, count: int) -> tuple[int, int]:
    """Return the number of graphs (without, with) LoRA slots."""
    if not launch.adapters:
        return count, 0
    return (count, count) if launch.rules.adapters_apart else (0, count)


def _outer(subject: Subject) -> str:
    return subject.config.model_type if subject.config is not None else ""
