"""Bytes that each device holds once the server is up: tensors, caches, states, compute buffers.

All of it is allocated before the first token, and nothing after: prefill and decode hold the same.

Compute buffers of a graph that weighbridge does not build: the terms that dominate in every graph.

    logits      outputs x vocabulary
    one layer   tokens x (4 hidden + 3 widths of the widest matrix, times the experts per token)
    mask        tokens x cells, and scores of all heads without flash attention

Each is in 32 bits, on every GPU that has layers; the bounds are half and three times. The host has
inputs: the mask, and one row of the embedding per token.

CUDA's pool: what operations take besides the compute buffer, while they run.

    quantized weights      their inputs in 8 bits, 36 bytes per 32 values, rows padded to 512
    16-bit weights         inputs and results in 16 bits, for cuBLAS
    quantized caches       keys and values of a layer in 16 bits, in builds where that copy is not
                           in the compute buffer
    scores without flash   queries in 16 bits

Pieces of 2 MiB are mapped as they are needed and never freed. Source: llama.cpp 0c1e57098
ggml/src/ggml-cuda/ggml-cuda.cu (ggml_cuda_op_mul_mat_cublas, ggml_cuda_pool_vmm), mmq.cu.
"""

from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from weighbridge.base.memo import memo
from weighbridge.base.memory import Bytes
from weighbridge.base.records import dataclass, replace
from weighbridge.base.units import MIB, align_up
from weighbridge.engines.llama_cpp import caches
from weighbridge.engines.llama_cpp.compute import reserved
from weighbridge.engines.llama_cpp.effective import LlamaCppLaunch
from weighbridge.engines.llama_cpp.ggml.graph import F32
from weighbridge.engines.llama_cpp.graphs.build import UnknownGraphError
from weighbridge.engines.llama_cpp.graphs.network import Network
from weighbridge.engines.llama_cpp.placement import ROW, LayerPlacement, Product
from weighbridge.memory.components.kv_cache import CacheBytes
from weighbridge.models.arch.mixers import Attention, Compressed, GatedDelta, Latent, Mixer

if TYPE_CHECKING:
    from weighbridge.engines.llama_cpp.speculation import DraftHoldings

PIECE = 2 * MIB
BLOCK, BLOCK_BYTES = 32, 36


@dataclass(frozen=True, kw_only=True)  # not slotted: it keeps what it has computed
class DeviceHoldings:
    """Holdings of each device, the host last: weights, caches and compute buffers."""

    net: Network
    launch: LlamaCppLaunch
    model_type: str
    free: tuple[int, ...]
    draft: "DraftHoldings | None" = None  # draft model or MTP layers
    foreign: str = ""  # why another engine's graph stands for it; its buffer is near this one

    @cached_property
    def placed(self) -> LayerPlacement:
        return LayerPlacement(net=self.net, launch=self.launch, free=self.free)

    @cached_property
    def weights(self) -> tuple[int, ...]:
        return self.placed.buffers()

    @cached_property
    def setting(self) -> caches.LlamaCppCacheSetting:
        return caches.LlamaCppCacheSetting(
            context=self.launch.n_ctx,
            slots=self.launch.slots,
            unified=self.launch.unified,
            ubatch=self.launch.ubatch,
            type_k=self.launch.type_k.name.lower(),
            type_v=self.launch.type_v.name.lower(),
            flash_attention=self.launch.flash,
            swa_full=self.launch.swa_full,
            model_type=self.model_type,
            latent_values=self.launch.rules.latent_values,
            latent_mode=self.launch.latent_mode,
            rollback=self.launch.rollback,
        )

    @cached_property
    def caches(self) -> tuple[dict[str, CacheBytes], ...]:
        """Return for each device the sizes of the cache of all tokens and of that of sliding
        layers."""
        return tuple(
            caches.counted(self.placed.cached(d), self.setting, among=self.net.mixers)
            for d in range(self.launch.gpus + 1)
        )

    def kept(self, mixers: Sequence[Mixer]) -> int:
        """Return the bytes of the caches and recurrent states of `mixers`, for all tokens."""
        parts = caches.counted(Counter(mixers), self.setting, among=self.net.mixers)
        return sum(size.kv + size.state for size in parts.values())

    @cached_property
    def near(self) -> int:
        """Return the cells of sliding layers per stream."""
        cells = [
            caches.cells(m, self.setting) // self.setting.streams
            for m in self.net.mixers
            if isinstance(m, Attention) and m.reach is not None
        ]
        return min(cells, default=self.setting.per_slot)

    @property
    def compute(self) -> tuple[int, ...]:
        return self._replayed[0]

    @property
    def guessed(self) -> str:
        """Return why compute buffers are only the dominant terms; "" if the graph is known."""
        return self._replayed[1]

    @property
    def near_only(self) -> bool:
        """Return whether compute buffers are only known from half to three times."""
        return bool(self.guessed or self.foreign)

    @cached_property
    def _replayed(self) -> tuple[tuple[int, ...], str]:
        """Return buffers per device and `guessed`, shared by launches with equal graphs."""
        plain = replace(self.launch, n_ctx=0, context=0, requests=0, slots=0, batch=0, ubatch=0)
        plain = replace(plain, mmap=False, cache_ram=0)  # affect only host memory
        return memo(self.net, ("compute", plain, self.free, self.numbers), self._buffers)

    def _buffers(self) -> tuple[tuple[int, ...], str]:
        try:
            return reserved(self.placed, self.near), ""
        except UnknownGraphError as error:
            return roughly(self.placed), error.line

    def buffer(self, device: int) -> Bytes:
        """Return the compute buffer's bytes. Graphs are CUDA's and Metal's; Vulkan's have one more
        tensor of a delta net's values and gates, in 32 bits (48.5 MiB at 2,048 tokens, 10.0 at 512:
        logs of Qwen3.8 27B)."""
        size = self.compute[device]
        if self.near_only:
            return Bytes(size // 2, size, 3 * size)
        return Bytes(size, size, size + self._values(device))

    def _values(self, device: int) -> int:
        if device == self.launch.gpus:
            return 0
        nets = (m for m in self.placed.cached(device) if isinstance(m, GatedDelta))
        widest = max((m.value_heads * (m.value_dim + 2) for m in nets), default=0)
        return F32.size(self.launch.step_tokens * widest)

    @cached_property
    def numbers(self) -> tuple[int, ...]:
        """Return the sizes of the step's graph that depend on context and batch."""
        launch = self.launch
        return (
            launch.n_ctx,
            launch.n_ctx // launch.streams,
            self.near,
            launch.slots,
            launch.step_tokens,
            launch.outputs,
        )

    @property
    def output_rows(self) -> int:
        spare = self.launch.rules.spare_slot and self.launch.program == "server"
        return self.launch.slots * (1 + self.launch.proposed) + spare

    @property
    def output(self) -> int:
        """Return bytes of logits, and of embeddings if they are returned, in host memory."""
        width = self.net.vocab + (self.net.hidden if self.launch.embeds else 0)
        return 4 * width * self.output_rows

    @property
    def used(self) -> list[int]:
        """Return the GPUs that hold a layer or a tensor, or that compute with weights copied from
        the host."""
        return [
            d
            for d in range(self.launch.gpus)
            if self.launch.gpu_layers or self.weights[d] or self.compute[d]
        ]

    def kv(self, device: int) -> int:
        return sum(size.kv for size in self.caches[device].values())

    def state(self, device: int) -> int:
        return sum(size.state for size in self.caches[device].values())

    def drafting(self, device: int) -> int:
        """Return the most bytes of the draft model or MTP layers on a device."""
        return 0 if self.draft is None else self.draft.whole(device)

    def whole(self, device: int) -> int:
        """Return the bytes of a device's buffers, without what the process takes besides."""
        return self.weights[device] + self.kv(device) + self.state(device) + self.compute[device]


# Graphs that weighbridge does not build


def roughly(placement: LayerPlacement) -> tuple[int, ...]:
    """Return the expected bytes per device, the host last."""
    mask = F32.size(
        placement.launch.step_tokens * placement.launch.n_ctx // placement.launch.streams
    )
    whole = mask + working(placement.net, placement.launch)
    layers = {placement.layer(i) for i in range(len(placement.net.layers) + 1)}
    layers |= {each.device for each in placement.overridden.values()}
    inputs = mask + F32.size(placement.launch.step_tokens * placement.net.hidden)
    gpus = tuple(whole if d in layers else 0 for d in range(placement.launch.gpus))
    return (*gpus, whole if placement.host in layers else inputs)


def working(net: Network, launch: LlamaCppLaunch) -> int:
    logits = launch.outputs * net.rows
    layer = launch.step_tokens * (4 * net.hidden + 3 * widest(net))
    # Scores of an indexer's heads for each pair of tokens, twice, as they are transposed to be
    # summed: the buffer of V4-Flash for 2^20 tokens in steps of 512 was 65.5 GiB
    # (unslothai/unsloth#6940)
    indexed = [
        2 * m.indexer.heads // m.rate
        for m in net.mixers
        if isinstance(m, Compressed) and m.indexer and not launch.rules.fused_index
    ]
    scored = max(0 if launch.flash else heads(net), *indexed, 0)
    return F32.size(logits + layer + launch.step_tokens * launch.n_ctx // launch.streams * scored)


def widest(net: Network) -> int:
    """Return the widest side of any layer's matrix; an expert matrix counts once per expert of a
    token."""

    def found() -> int:
        widths = (
            max(w.ne[:2]) * (net.top_k if "_exps" in w.name else 1)
            for w in net.weights.values()
            if w.name.startswith("blk.") and len(w.ne) > 1
        )
        return max(widths, default=net.hidden)

    return memo(net, ("widest",), found)


def heads(net: Network) -> int:
    counts = [m.heads for m in net.mixers if isinstance(m, Attention)]
    return max(counts, default=net.heads or 1)


# CUDA's pool


def pool(holdings: DeviceHoldings, device: int) -> Bytes:
    if not (holdings.launch.gpu_layers or holdings.weights[device]):
        return Bytes(0, 0, 0)
    need = max(
        (_product(holdings, kind) for kind in holdings.placed.allotment.products[device]), default=0
    )
    need = max(need, _attention(holdings, device))
    expected = align_up(need, PIECE)
    return Bytes(expected // 2, expected, 2 * expected + 16 * MIB)


def _product(holdings: DeviceHoldings, kind: Product) -> int:
    logits, experts, dtype, ne = kind
    if len(ne) < 2 or min(ne) < 2:
        return 0
    tokens = holdings.launch.outputs if logits else holdings.launch.step_tokens
    rows = tokens * holdings.net.top_k if experts else tokens
    if dtype.block > 1:
        return rows * align_up(ne[0], ROW) // BLOCK * BLOCK_BYTES
    if dtype.name in ("F16", "BF16"):
        return 2 * rows * (ne[0] + ne[1])
    return 0


def _attention(holdings: DeviceHoldings, device: int) -> int:
    """Return the bytes of one layer's keys and values in 16 bits, 0 unless they are stored in fewer
    and copied outside the compute buffer."""
    s = holdings.launch
    if (s.type_k.block == 1 and s.type_v.block == 1) or (s.flash and s.rules.fattn_copies):
        return 0
    widths = [
        m.latent_elements if isinstance(m, Latent) else m.key_elements + m.value_elements
        for i, la in enumerate(holdings.net.layers)
        if holdings.placed.cache(i) == device
        for m in la.mixers
        if isinstance(m, Attention | Latent)
    ]
    return 2 * holdings.setting.per_slot * max(widths, default=0)
