"""Latent attention's three matrices: a file has kv_b, or k_b and v_b; what is missing is made at
load, beside the file's tensors.

    k_b     of kv_b: transposed, in Q8_0 where kv_b is quantized
    v_b     of kv_b: its rows, as they are
    kv_b    of k_b and v_b, in their type

Source: ik_llama.cpp 8f7bd74af src/llama.cpp (llm_load_tensors, llm_prepare_mla).
"""

from dataclasses import replace
from math import prod

from weighbridge.arch.mixers import Latent, Layer
from weighbridge.dtypes import GGML_BY_NAME, DType
from weighbridge.engines.llama_cpp.graphs.network import Network, Weight

Q8 = GGML_BY_NAME["Q8_0"]


def complete(net: Network, mode: int | None) -> Network:
    """With all three of every layer; without a mode latents are unfolded to full heads."""
    if not net.latent:
        return net
    found = dict(net.weights)
    for i, layer in enumerate(net.layers):
        for m in layer.mixers:
            if isinstance(m, Latent):
                found |= {w.name: w for w in _missing(net, i, m)}
    if mode is not None:
        return replace(net, weights=found)
    layers = tuple(Layer(mixers=tuple(map(_heads, la.mixers))) for la in net.layers)
    rotary = next(m.rotary for la in net.layers for m in la.mixers if isinstance(m, Latent))
    return replace(net, layers=layers, weights=found, rotary=rotary)


def _heads(m: object) -> object:
    return m.expanded if isinstance(m, Latent) else m


def _missing(net: Network, i: int, m: Latent) -> list[Weight]:
    both, keys = net.get(i, "attn_kv_b.weight"), net.get(i, "attn_k_b.weight")
    if both is not None and keys is None:
        kind = Q8 if both.dtype.block > 1 else both.dtype
        return [
            _made(i, "attn_k_b", kind, (m.nope, m.rank, m.heads)),
            _made(i, "attn_v_b", both.dtype, (m.rank, m.value_dim, m.heads)),
        ]
    if both is None and keys is not None:
        values = net.get(i, "attn_v_b.weight") or keys
        return [_made(i, "attn_kv_b", values.dtype, (m.rank, m.heads * (m.nope + m.value_dim)))]
    return []


def _made(i: int, name: str, kind: DType, ne: tuple[int, ...]) -> Weight:
    return Weight(f"blk.{i}.{name}.weight", kind, ne, kind.rows(ne[0], prod(ne)))
