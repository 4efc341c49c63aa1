"""Latent attention's three matrices. A file has kv_b, or k_b and v_b.

    k_b    of kv_b: transposed, in Q8_0 where kv_b is quantized
    v_b    of kv_b: its rows, as they are
    kv_b   of k_b and v_b, in the type of v_b

llama.cpp before build 5130 knew kv_b alone, and unfolded latents to keys and values of all heads.
ik_llama.cpp makes what is missing when it loads. Source: llama.cpp b4905 src/llama-model.cpp;
ik_llama.cpp 8f7bd74af src/llama.cpp (llm_load_tensors, llm_prepare_mla).
"""

from collections.abc import Callable
from dataclasses import replace
from math import prod

from weighbridge.arch.mixers import Latent, Layer
from weighbridge.dtypes import GGML_BY_NAME, DType
from weighbridge.engines.llama_cpp.graphs.network import Network, Weight
from weighbridge.memo import memo

Q8 = GGML_BY_NAME["Q8_0"]


def as_heads(net: Network) -> Network:
    """Keys and values of all heads, made with kv_b alone."""
    return _once(net, "as_heads", _as_heads)


def all_heads(net: Network) -> Network:
    """The same computation, beside all three matrices."""
    return _once(net, "all_heads", lambda n: replace(as_heads(n), weights=complete(n).weights))


def complete(net: Network) -> Network:
    """Return the network with all three matrices of every layer."""
    return _once(net, "complete", _complete)


def _once(net: Network, name: str, make: Callable[[Network], Network]) -> Network:
    return memo(net, (name,), lambda: make(net))


def _as_heads(net: Network) -> Network:
    weights = dict(complete(net).weights)
    for i, m in latents(net):
        for name in ("attn_k_b", "attn_v_b"):
            weights.pop(f"blk.{i}.{name}.weight", None)
        net = replace(net, rotary=m.rotary)
    return replace(net, layers=tuple(map(_unfolded, net.layers)), weights=weights)


def _complete(net: Network) -> Network:
    weights = dict(net.weights)
    for i, m in latents(net):
        weights |= {w.name: w for w in _missing(net, i, m)}
    return replace(net, weights=weights)


def latents(net: Network) -> list[tuple[int, Latent]]:
    return [(i, m) for i, la in enumerate(net.layers) for m in la.mixers if isinstance(m, Latent)]


def _unfolded(layer: Layer) -> Layer:
    return Layer(mixers=tuple(m.expanded if isinstance(m, Latent) else m for m in layer.mixers))


def _missing(net: Network, i: int, latent: Latent) -> list[Weight]:
    both, keys = net.get(i, "attn_kv_b.weight"), net.get(i, "attn_k_b.weight")
    if both is not None and keys is None:
        kind = Q8 if both.dtype.block > 1 else both.dtype
        return [
            _made(i, "attn_k_b", kind, (latent.nope, latent.rank, latent.heads)),
            _made(i, "attn_v_b", both.dtype, (latent.rank, latent.value_dim, latent.heads)),
        ]
    if both is None and keys is not None:
        values = net.get(i, "attn_v_b.weight") or keys
        return [
            _made(
                i,
                "attn_kv_b",
                values.dtype,
                (latent.rank, latent.heads * (latent.nope + latent.value_dim)),
            )
        ]
    return []


def _made(i: int, name: str, kind: DType, ne: tuple[int, ...]) -> Weight:
    return Weight(f"blk.{i}.{name}.weight", kind, ne, kind.rows(ne[0], prod(ne)))
