"""CUDA's pool: what operations take beside the compute buffer, while they run.

    quantized weights      their inputs in 8 bits, 36 bytes for 32 values, rows to 512
    16-bit weights         inputs and results in 16 bits, for cuBLAS
    quantized caches       keys and values of a layer in 16 bits, in builds where that copy is not
                           in the compute buffer
    scores without flash   queries in 16 bits

Pieces of 2 MiB are mapped as they are needed and never given back. Source: llama.cpp 0c1e57098
ggml/src/ggml-cuda/ggml-cuda.cu (ggml_cuda_op_mul_mat_cublas, ggml_cuda_pool_vmm), mmq.cu.
"""

from weighbridge.arch.mixers import Attention, Latent
from weighbridge.engines.llama_cpp.held import DeviceHoldings
from weighbridge.engines.llama_cpp.placement import ROW, Product
from weighbridge.memory import Bytes
from weighbridge.units import MIB, align_up

PIECE = 2 * MIB
BLOCK, BLOCK_BYTES = 32, 36


def pool(h: DeviceHoldings, device: int) -> Bytes:
    if not h.launch.gpu_layers:
        return Bytes(0, 0, 0)
    need = max((_product(h, kind) for kind in h.placed.allotment.products[device]), default=0)
    need = max(need, _attention(h, device))
    expected = align_up(need, PIECE)
    return Bytes(expected // 2, expected, 2 * expected + 16 * MIB)


def _product(h: DeviceHoldings, kind: Product) -> int:
    logits, experts, dtype, ne = kind
    if len(ne) < 2 or min(ne) < 2:
        return 0
    tokens = h.launch.outputs if logits else h.launch.step_tokens
    rows = tokens * h.net.top_k if experts else tokens
    if dtype.block > 1:
        return rows * align_up(ne[0], ROW) // BLOCK * BLOCK_BYTES
    if dtype.name in ("F16", "BF16"):
        return 2 * rows * (ne[0] + ne[1])
    return 0


def _attention(h: DeviceHoldings, device: int) -> int:
    """One layer's keys and values in 16 bits, where they are stored in fewer."""
    s = h.launch
    if (s.type_k.block == 1 and s.type_v.block == 1) or (s.flash and s.rules.fattn_copies):
        return 0
    widths = [
        m.latent_elements if isinstance(m, Latent) else m.key_elements + m.value_elements
        for i, la in enumerate(h.net.layers)
        if h.placed.cache(i) == device
        for m in la.mixers
        if isinstance(m, Attention | Latent)
    ]
    return 2 * h.setting.per_slot * max(widths, default=0)
