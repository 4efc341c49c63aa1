"""The network that a graph is built from, out of GGUF metadata or of a config.

Source: llama.cpp 0c1e57098 src/llama-arch.cpp (names of architectures), src/llama-model.cpp,
src/models/ (load_hparams), conversion/ (which class becomes which architecture).
"""

from collections.abc import Callable, Iterable, Mapping
from math import prod
from typing import Any

from weighbridge.base.dtypes import GGML_BY_NAME, DType
from weighbridge.base.errors import BadFileError, NotServedError
from weighbridge.base.memo import memo
from weighbridge.base.records import replace
from weighbridge.base.sentences import sentence
from weighbridge.engines.interface import Subject
from weighbridge.engines.llama_cpp.graphs.network import Network, Weight, block
from weighbridge.engines.llama_cpp.tensors import tensors
from weighbridge.models.arch import gguf_layers
from weighbridge.models.arch.gguf_layers import MAX_LAYERS, SCALED_EMBEDDING, Keys
from weighbridge.models.arch.mixers import Latent, Layer

FEW_EXPERTS = ("top_k_experts", "num_experts_per_tok", "moe_topk", "num_experts_per_token")


def network(subject: Subject) -> Network:
    metadata = subject.part.config.get("gguf")
    refuse(subject)
    weights = by_name(tensors(subject))
    embedding = weights.get("token_embd.weight")
    net = Network(
        arch=architecture(subject),
        hidden=embedding.ne[0] if embedding and embedding.ne else subject.body.hidden,
        layers=padded(subject.layers, weights),
        weights=weights,
        longest=subject.longest or 0,
    )
    facts = from_metadata(metadata) if metadata else from_config(subject)
    known = {k: v for k, v in facts.items() if v is not None}
    if metadata:
        _enough(net, known.get("top_k") or 0)
    return replace(net, **{**known, "embedding_scale": scales_embedding(net.arch, known)})


def _enough(net: Network, used: int) -> None:
    """Check that a token uses at least one expert and no more than the tensors hold. Raises
    BadFileError otherwise; llama.cpp refuses such files as well (src/llama-model.cpp,
    load_hparams)."""
    counts = [w.ne[2] for w in net.weights.values() if "_exps." in w.name and len(w.ne) > 2]
    if counts and not 0 < used <= max(counts):
        raise BadFileError(sentence("arch_experts", arch=net.arch, used=used, count=max(counts)))


def refuse(subject: Subject) -> None:
    kinds = (subject.model_type, subject.config.model_type if subject.config is not None else "")
    converted = [gguf_layers.architecture(kind) for kind in kinds]
    if subject.part.library != "gguf" and "none" in converted:
        raise NotServedError(
            sentence("no_architecture", cls=subject.part.blueprint.cls, kind=subject.model_type),
            sentence("ask", engines="transformers"),
            where=subject.model.reference,
        )


def by_name(weights: Iterable[Weight]) -> dict[str, Weight]:
    """Return `weights` by name; a name that encoder and decoder share gets ".more" appended."""
    result: dict[str, Weight] = {}
    for w in weights:
        name = w.name
        while name in result:
            name += ".more"
        result[name] = w if name == w.name else replace(w, name=name)
    return result


def scales_embedding(arch: str, facts: Mapping[str, Any]) -> bool:
    return bool(facts.get("embedding_scale")) or arch.startswith(SCALED_EMBEDDING)


def architecture(subject: Subject) -> str:
    metadata = subject.part.config.get("gguf")
    if metadata:
        return str(metadata.get("general.architecture"))
    return gguf_layers.architecture(subject.model_type)


def padded(layers: tuple[Layer, ...], weights: Mapping[str, object]) -> tuple[Layer, ...]:
    """Return `layers`, or empty ones by the tensors' names: an encoder caches nothing."""
    if layers:
        return layers
    last = max((number for name in weights if (number := block(name)) is not None), default=-1)
    if last >= MAX_LAYERS:
        raise BadFileError(sentence("gguf.blocks", last=last, most=MAX_LAYERS))
    return (Layer(),) * (1 + last)


def from_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    get = Keys(metadata).plain
    return {
        "top_k": get("expert_used_count"),
        "groups": get("expert_group_count"),
        "groups_used": get("expert_group_used_count"),
        "softcap": bool(get("attn_logit_softcapping")),
        "logit_softcap": bool(get("final_logit_softcapping")),
        "logit_scale": bool(get("logit_scale")),
        "embedding_scale": bool(get("embedding_scale")),
        "rotary": get("rope.dimension_count"),
        "heads": get("attention.head_count"),
        "normed_weights": get("expert_weights_norm"),
        "scaled_weights": scales(get("expert_weights_scale")),
        "positions": 4 if get("rope.dimension_sections") else None,
    }


def scales(value: float | None) -> bool | None:
    return None if value is None else value not in (0.0, 1.0)


def _number(value: object) -> float | None:
    """Return a number of a config, the largest of a list by layer, None for anything else."""
    values = value if isinstance(value, list) else [value]
    return max((v for v in values if isinstance(v, int | float)), default=None)


def from_config(subject: Subject) -> dict[str, Any]:
    c = {**subject.raw, **(subject.text or {})}
    routed = {p.routed[0] for p in subject.part.blueprint.counted if p.routed[1] > 1}
    latent = next((m for la in subject.layers for m in la.mixers if isinstance(m, Latent)), None)
    rope = c.get("rope_scaling") or c.get("rope_parameters")
    return {
        "top_k": max(routed, default=0)
        or next(filter(None, (_number(c.get(k)) for k in FEW_EXPERTS)), None),
        "groups": _number(c.get("n_group")),
        "groups_used": _number(c.get("topk_group")),
        "softcap": bool(c.get("attn_logit_softcapping")),
        "logit_softcap": bool(c.get("final_logit_softcapping")),
        "logit_scale": bool(c.get("logit_scale") or c.get("logits_scaling")),
        "embedding_scale": bool(c.get("embedding_multiplier")),
        "rotary": latent.rotary if latent else _number(c.get("qk_rope_head_dim")),
        "heads": _number(c.get("num_attention_heads")),
        "normed_weights": _number(c.get("norm_topk_prob")),
        "scaled_weights": scales(_number(c.get("routed_scaling_factor"))),
        "positions": 4 if isinstance(rope, Mapping) and rope.get("mrope_section") else None,
    }


# Matrices of MLA: a file has kv_b, or k_b and v_b
#
#     k_b    of kv_b: transposed, in Q8_0 if kv_b is quantized
#     v_b    of kv_b: its rows, as they are
#     kv_b   of k_b and v_b, in the type of v_b
#
# llama.cpp before build 5130 knew only kv_b, and expanded compressed KV to keys and values of all
# heads. ik_llama.cpp makes the missing ones at load. Source: llama.cpp b4905 src/llama-model.cpp;
# ik_llama.cpp 8f7bd74af src/llama.cpp (llm_load_tensors, llm_prepare_mla).

Q8 = GGML_BY_NAME["Q8_0"]


def as_heads(net: Network) -> Network:
    """Return the network with full keys and values of all heads, computed with kv_b only."""
    return _once(net, "as_heads", _as_heads)


def all_heads(net: Network) -> Network:
    """Return `as_heads(net)` with all three MLA matrices in memory."""
    return _once(net, "all_heads", _all_heads)


def _all_heads(net: Network) -> Network:
    whole = complete(net)
    return replace(as_heads(net), weights=whole.weights, made=whole.made)


def complete(net: Network) -> Network:
    """Return the network with all three MLA matrices of every layer."""
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
    weights, made = dict(net.weights), dict[str, str]()
    for i, m in latents(net):
        for w in _missing(net, i, m):
            weights[w.name] = w
            of = "attn_k_b" if w.name.endswith("attn_kv_b.weight") else "attn_kv_b"
            made[w.name] = f"blk.{i}.{of}.weight"
    return replace(net, weights=weights, made=made)


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
