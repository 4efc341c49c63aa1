"""A decoder of attention and MLPs, of any family: families differ in their tensors and in
`GraphStyle`.

    x + attention(norm(x)), then + feed(norm(...)); norms after them if there are tensors

Source: llama.cpp 0c1e57098 src/models/*.cpp.

Gemma 4 adds a separate input for every layer, and experts besides the dense MLP.

Source: llama.cpp 0c1e57098 src/models/gemma4.cpp.
"""

from collections.abc import Sequence
from typing import assert_never

from weighbridge.base.records import field, frozen_record, replace
from weighbridge.base.sentences import sentence
from weighbridge.base.watching import go_on
from weighbridge.engines.llama_cpp.ggml import graph as g
from weighbridge.engines.llama_cpp.ggml.graph import F32, I32, GgmlTensor
from weighbridge.engines.llama_cpp.graphs.attention import CacheHeads, absorbed, attend, full_heads
from weighbridge.engines.llama_cpp.graphs.build import Build, UnknownGraphError
from weighbridge.engines.llama_cpp.graphs.feed_forward import Act, Routing, dense, experts
from weighbridge.engines.llama_cpp.graphs.latent_modes import by_mode
from weighbridge.engines.llama_cpp.graphs.recurrent import delta, mamba1, mamba2, short_conv
from weighbridge.models.arch.gguf_layers import UNROTATED
from weighbridge.models.arch.mixers import (
    Attention,
    Compressed,
    CrossAttention,
    GatedDelta,
    GatedRecurrence,
    KimiDelta,
    Latent,
    LinearAttention,
    Mamba1,
    Mamba2,
    Mixer,
    Rwkv,
    Shared,
    ShortConv,
)

# Mixers whose graphs weighbridge does not build
UNKNOWN = Compressed | CrossAttention | KimiDelta | LinearAttention | Rwkv | GatedRecurrence
Scanned = Mamba1 | Mamba2 | GatedDelta | ShortConv


@frozen_record
class GraphStyle:
    """Traits of an architecture that its tensors do not show."""

    norm: str = "rms_norm"
    rope: str = "all"  # layers: all, near (through a window), none
    normed_values: bool = False
    unit_keys: bool = False  # Llama 4: queries and keys of rotated layers are normed, the others
    # scaled by their positions
    act: Act = field(default_factory=Act)
    routing: Routing = field(default_factory=Routing)
    parallel: bool = False  # attention and MLP from the same norm
    attention_first: bool = False  # of those two, when they are added
    start_first: Sequence[bool] = (False, False)  # sums begin with the residual: attention, MLP
    scaled_queries: bool = False  # queries are scaled in an operation of their own
    scaled_residual: bool = False  # Granite
    early_norm: bool = False  # the first norm is put into the graph at once
    repeats_heads: bool = False  # of a delta net: each key head for all its value heads
    late_rows: str = ""  # rows of the outputs are picked behind the last layer: before or after
    # the last norm


def embedded(build: Build, *, positions: bool = True) -> GgmlTensor:
    """Return the tokens' embeddings, looked up on the host, plus those of positions."""
    tokens = build.entry("tokens", g.entry(I32, build.step.tokens))
    table = build.weight("token_embd.weight")
    if table is None:
        raise UnknownGraphError(sentence("graph.no_words", arch=build.net.arch))
    x = g.get_rows(table, tokens)
    build.graph.expand(x)
    if build.step.rules.embeds_input:
        build.graph.expand(build.entry("embd", g.entry(F32, build.net.hidden, build.step.tokens)))
    x = g.like("scale", x) if build.net.embedding_scale else x
    places = build.weight("position_embd.weight") if positions else None
    return build.add(x, g.get_rows(places, build.positions())) if places is not None else x


def finished(build: Build, x: GgmlTensor, style: GraphStyle) -> GgmlTensor:
    """Return the logits, or the last norm's output if the step returns embeddings."""
    if style.late_rows == "before":
        x = picked(build, build.output(x))[0]
    name = build.net.last_norm
    x = build.norm(x, build.weight(f"{name}.weight"), build.weight(f"{name}.bias"), kind=style.norm)
    build.output(x)
    x = build.output(picked(build, x)[0]) if style.late_rows == "after" else x
    head = build.weight("output.weight") or build.weight("token_embd.weight")
    if build.step.embeds or head is None:
        return x
    if build.net.tied:
        head = tied_head(build)
    x = g.mul_mat(head, x)
    bias = build.weight("output.bias")
    x = g.like("add", x, bias) if bias is not None else x
    if build.net.logit_softcap and build.step.rules.fused:
        return g.like("softcap", x)
    if build.net.logit_softcap:
        return g.like("scale", g.like("unary", g.like("scale", x)))
    return g.like("scale", x) if build.net.logit_scale else x


def tied_head(build: Build) -> GgmlTensor:
    """Return a second copy of the embedding, on the output layer's device."""
    embedding = build.net.weights["token_embd.weight"]
    return build.entry(
        "head", g.weight(embedding.dtype, embedding.ne, build.placement.weight("output.weight"))
    )


def picked(build: Build, *tensors: GgmlTensor) -> tuple[GgmlTensor, ...]:
    """Return the rows of `tensors` that give logits."""
    return tuple(g.get_rows(t, build.out_ids()) for t in tensors)


def heads_of(build: Build, layer: int) -> CacheHeads:
    m = build.mixer(layer)
    if isinstance(m, Shared):
        return replace(heads_of(build, m.owner), layer=layer, owner=m.owner)
    if not isinstance(m, Attention):
        raise UnknownGraphError(sentence("graph.no_attention", arch=build.net.arch, layer=layer))
    near = m.reach is not None
    return CacheHeads(kv=m.kv_heads, key=m.key_dim, value=m.value_dim, near=near, layer=layer)


def queries(build: Build, layer: int) -> int:
    m = build.mixer(layer)
    return queries(build, m.owner) if isinstance(m, Shared) else m.heads  # type: ignore[union-attr]


def projected(
    build: Build, layer: int, x: GgmlTensor
) -> tuple[GgmlTensor, GgmlTensor | None, GgmlTensor | None]:
    """Return [size, heads, tokens] of queries, keys and values; None if another layer's."""
    h, n, tokens = heads_of(build, layer), queries(build, layer), x.ne[1]
    if build.of(layer, "attn_qkv") is not None:
        both = build.linear(layer, "attn_qkv", x)
        row = both.dtype.size(1)
        views = []
        for size, count in ((h.key, n), (h.key, h.kv), (h.value, h.kv)):
            views.append(g.view(both, (size, count, tokens), (row * size, both.nb[1])))
        return views[0], views[1], views[2]
    q = _normed_whole(build, layer, "q", x)
    if q.ne[0] == 2 * h.key * n:  # Qwen3-Next: the output's gate comes with the queries
        q = g.view(q, (h.key, n, tokens), (q.dtype.size(2 * h.key), q.nb[1]))
    else:
        q = g.reshape(q, h.key, n, tokens)
    if build.of(layer, "attn_k") is None:
        return q, None, None
    k = g.reshape(_normed_whole(build, layer, "k", x), h.key, h.kv, tokens)
    if build.of(layer, "attn_v") is None:
        return q, k, k
    return q, k, g.reshape(build.linear(layer, "attn_v", x), h.value, h.kv, tokens)


def _normed_whole(build: Build, layer: int, which: str, x: GgmlTensor) -> GgmlTensor:
    """Return queries or keys, normed over all heads together in OLMo 2 and MiniMax-M2."""
    y = build.linear(layer, f"attn_{which}", x)
    norm = build.of(layer, f"attn_{which}_norm")
    whole = norm is not None and norm.ne[0] == y.ne[0] and norm.ne[1] == 1
    return build.norm(y, norm, None, layer) if whole else y


def _normed_heads(build: Build, layer: int, which: str, t: GgmlTensor) -> GgmlTensor:
    norm = build.of(layer, f"attn_{which}_norm")
    return build.norm(t, norm, None, layer) if norm is not None and norm.ne[0] == t.ne[0] else t


def attention(build: Build, layer: int, x: GgmlTensor, style: GraphStyle) -> GgmlTensor:
    h = heads_of(build, layer)
    q, k, v = projected(build, layer, x)
    gate = (
        g.view(q.src[0], q.ne[:3], q.nb[1:3])
        if q.op == "view" and k is not v and gated(q)
        else None
    )
    q = _normed_heads(build, layer, "q", q)
    factors = build.rope_factors(layer)
    turns = style.rope == "all" or (style.rope == "near" and h.near)
    turns = turns and (layer + 1) % UNROTATED.get(build.net.arch, layer + 2) != 0
    q = build.rope(q, factors) if turns else q
    if k is not None:
        k = _normed_heads(build, layer, "k", k)
        k = build.rope(k, factors) if turns else k
        v = g.like("rms_norm", v) if style.normed_values and v is not None else v
    if style.unit_keys:
        q, k = _unit(build, q, k, turns)
    if style.scaled_queries:
        q = g.like("scale", q)
    out = attend(build, h, q, k, v)
    if gate is not None:
        out = g.like("mul", out, g.like("unary", g.cont(gate, h.value * gate.ne[1], x.ne[1])))
    return build.linear(layer, "attn_output", _subnormed(build, layer, out))


def _unit(
    build: Build, q: GgmlTensor, k: GgmlTensor | None, turns: bool
) -> tuple[GgmlTensor, GgmlTensor | None]:
    if turns:
        return g.like("rms_norm", q), g.like("rms_norm", k) if k is not None else None
    return g.like("mul", q, build.entry("attn_scale", g.entry(F32, 1, 1, build.step.tokens))), k


def gated(q: GgmlTensor) -> bool:
    """Return whether queries are every other piece of the product that made them, the rest their
    gates."""
    return q.nb[1] == 2 * q.dtype.size(q.ne[0])


def _subnormed(build: Build, layer: int, x: GgmlTensor) -> GgmlTensor:
    """Return `x` after BitNet's norm before the output projection."""
    norm = build.of(layer, "attn_sub_norm")
    return build.norm(x, norm, None, layer) if norm is not None else x


def feed(build: Build, layer: int, x: GgmlTensor, style: GraphStyle) -> GgmlTensor:
    if build.of(layer, "ffn_gate_inp") is None:
        return dense(build, layer, x, style.act)
    if build.of(layer, "ffn_up") is not None:  # Gemma 4: both, added
        return build.add(
            dense(build, layer, x, style.act), experts(build, layer, x, style.routing, style.act)
        )
    out = experts(build, layer, x, style.routing, style.act)
    if build.of(layer, "ffn_up_shexp") is None:
        return out
    shared = dense(build, layer, x, style.act, "_shexp")
    gate = build.of(layer, "ffn_gate_inp_shexp")
    if gate is not None:
        shared = g.like("mul", shared, g.like("unary", g.mul_mat(gate, x)))
    return build.add(out, shared)


def mixed(build: Build, layer: int, x: GgmlTensor, style: GraphStyle) -> GgmlTensor:
    """Return the sum of all token mixers of a layer; Falcon-H1 has two in parallel."""
    mixers = build.net.layers[layer].mixers
    if not mixers:  # Nemotron-NAS: a matrix in attention's place, or nothing
        return (
            build.linear(layer, "attn_output", x)
            if build.of(layer, "attn_output") is not None
            else x
        )
    outs = [mix(build, layer, m, x, style) for m in mixers[::-1]]
    total = outs[0]
    for one in outs[1:]:
        total = build.add(total, one)
    return total


def mix(build: Build, layer: int, mixer: Mixer, x: GgmlTensor, style: GraphStyle) -> GgmlTensor:
    match mixer:
        case Latent():
            way = absorbed if build.step.latent_mode is None else by_mode
            return way(build, layer, mixer, x)
        case Attention() if build.of(layer, "attn_kv_b") is not None:
            return full_heads(build, layer, mixer, x)
        case Attention() | Shared():
            return attention(build, layer, x, style)
        case _ if isinstance(mixer, UNKNOWN):
            kind = type(mixer).__name__
            raise UnknownGraphError(sentence("graph.kind", kind=kind))
        case _ if isinstance(mixer, Scanned):
            return _scanned(build, layer, mixer, x, style)
        case _:
            assert_never(mixer)


def _scanned(
    build: Build, layer: int, scanned: Scanned, x: GgmlTensor, style: GraphStyle
) -> GgmlTensor:
    match scanned:
        case Mamba1():
            return mamba1(build, layer, scanned, x)
        case Mamba2():
            return mamba2(build, layer, scanned, x)
        case GatedDelta():
            return delta(build, layer, scanned, x, repeats=style.repeats_heads)
        case ShortConv():
            return short_conv(build, layer, scanned, x)
        case _:
            assert_never(scanned)


def names(build: Build, layer: int) -> tuple[str, str, str]:
    """Return the names of three norms: after attention, before the MLP, after it; "" if there is
    none."""
    after = "post_attention_norm" if build.of(layer, "post_attention_norm") is not None else ""
    before = "ffn_norm" if build.of(layer, "ffn_norm") is not None else ""
    behind = "post_ffw_norm" if build.of(layer, "post_ffw_norm") is not None else ""
    if after and not before and not behind:
        return "", after, ""  # gpt-oss, GLM-4.5: its name is that of the class
    return after, before, behind


def layer_of(build: Build, layer: int, x: GgmlTensor, style: GraphStyle, last: bool) -> GgmlTensor:
    after, before, behind = names(build, layer)
    start = x
    named = build.of(layer, "attn_norm") is not None or style.norm == "norm"
    normed = build.layer_norm(layer, "attn_norm", x, style.norm) if named else x
    if style.early_norm:
        build.graph.expand(normed)
    if not build.net.layers[layer].mixers and not before:  # Nemotron-H: a feed-forward of its own
        return build.add(feed(build, layer, normed, style), start)
    out = mixed(build, layer, normed, style)
    if last and not style.late_rows:
        picks = picked(build, out, start, *([normed] if style.parallel else []))
        out, start = picks[0], picks[1]
        normed = picks[-1] if style.parallel else normed
    out = build.layer_norm(layer, after, out, style.norm) if after else out
    out = g.like("scale", out) if style.scaled_residual else out
    if style.parallel:
        y = feed(build, layer, normed, style)
        if style.attention_first:
            return build.add(build.add(out, y), start)
        return build.add(build.add(y, start), out)
    middle = start if out is start else summed(build, out, start, style.start_first[0])
    if build.of(layer, "ffn_up", "ffn_up_exps", "ffn_gate_up_exps") is None:
        return middle
    y = build.layer_norm(layer, before, middle, style.norm) if before else middle
    y = feed(build, layer, y, style)
    y = build.norm(y, build.of(layer, behind), None, -1, style.norm) if behind else y
    y = g.like("scale", y) if style.scaled_residual else y
    return summed(build, y, middle, style.start_first[1])


def summed(build: Build, new: GgmlTensor, old: GgmlTensor, old_first: bool) -> GgmlTensor:
    """Return the sum, in the memory of the first operand if it may: `old` if `old_first`."""
    return build.add(old, new) if old_first else build.add(new, old)


def decoder(build: Build, style: GraphStyle) -> None:
    x = embedded(build)
    every = inputs_of_layers(build, x)
    for layer, last in build.order():
        go_on()
        x = with_input(build, layer, layer_of(build, layer, x, style, last), every)
    build.graph.expand(finished(build, x, style))


# Gemma 4: a separate input for every layer


def inputs_of_layers(build: Build, x: GgmlTensor) -> GgmlTensor | None:
    """Return [size, tokens, layers]: a second embedding plus a projection of the first."""
    table, projection = (
        build.weight("per_layer_token_embd.weight"),
        build.weight("per_layer_model_proj.weight"),
    )
    if table is None or projection is None:
        return None
    layers, tokens = len(build.net.layers), build.step.tokens
    size = table.ne[0] // layers
    ids = build.entry("per_layer_tokens", g.entry(I32, tokens))
    rows = g.like("scale", g.reshape(g.get_rows(table, ids), size, layers, tokens))
    build.graph.expand(rows)
    y = g.reshape(g.like("scale", g.mul_mat(projection, x)), size, layers, tokens)
    y = build.norm(y, build.weight("per_layer_proj_norm.weight"), None)
    total = g.like("scale", build.add(y, rows))
    return g.cont(g.permute(total, 0, 2, 1, 3))


def with_input(build: Build, layer: int, x: GgmlTensor, every: GgmlTensor | None) -> GgmlTensor:
    """Return `x` plus the layer's own input, gated by `x`; `x` if there is none."""
    if every is None or build.of(layer, "inp_gate") is None:
        return x
    gate = g.like("unary", g.mul_mat(build.must(layer, "inp_gate"), x))
    input_of_layer = g.view(every, every.ne[:2], (every.nb[1],))
    y = g.mul_mat(build.must(layer, "proj"), g.like("mul", gate, input_of_layer))
    return build.add(x, build.norm(y, build.of(layer, "post_norm"), None, layer))
