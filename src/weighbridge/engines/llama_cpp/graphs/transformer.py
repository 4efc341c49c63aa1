"""A decoder of attention and feed-forwards, of any family: what differs is which tensors there
are, and what `GraphStyle` says.

    x + attention(norm(x)), then + feed(norm(...)); norms behind them where there are tensors

Source: llama.cpp 0c1e57098 src/models/*.cpp.

What Gemma 4 adds: an input of its own for every layer, and experts beside the dense feed.

Source: llama.cpp 0c1e57098 src/models/gemma4.cpp.
"""

from dataclasses import dataclass, field, replace
from typing import assert_never

from weighbridge.arch.mixers import (
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
from weighbridge.engines.llama_cpp.ggml import graph as g
from weighbridge.engines.llama_cpp.ggml.graph import F32, I32, GgmlTensor
from weighbridge.engines.llama_cpp.graphs.attention import CacheHeads, absorbed, attend, full_heads
from weighbridge.engines.llama_cpp.graphs.build import Build, UnknownGraphError
from weighbridge.engines.llama_cpp.graphs.feed_forward import Act, Routing, dense, experts
from weighbridge.engines.llama_cpp.graphs.latent_modes import by_mode
from weighbridge.engines.llama_cpp.graphs.recurrent import delta, mamba1, mamba2, short_conv

# Mixers whose graphs we have not written
UNKNOWN = Compressed | CrossAttention | KimiDelta | LinearAttention | Rwkv | GatedRecurrence
Scanned = Mamba1 | Mamba2 | GatedDelta | ShortConv


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphStyle:
    """What the tensors of an architecture do not say."""

    norm: str = "rms_norm"
    rope: str = "all"  # layers: all, near (through a window), none
    rope_skips: int = 0  # every so many layers has none
    normed_values: bool = False
    unit_keys: bool = False  # Llama 4: queries and keys of rotated layers are normed, the others
    # scaled by how far they are
    act: Act = field(default_factory=Act)
    routing: Routing = field(default_factory=Routing)
    parallel: bool = False  # attention and feed-forward from the same norm
    attention_first: bool = False  # of those two, when they are added
    start_first: tuple[bool, bool] = (False, False)  # what a layer adds to: attention, feed
    scaled_queries: bool = False  # queries are scaled apart
    scaled_residual: bool = False  # Granite
    early_norm: bool = False  # the first norm is put into the graph at once
    repeats_heads: bool = False  # of a delta net: each key head for all its value heads
    late_rows: str = ""  # rows of the outputs are picked behind the last layer: before or after
    # the last norm


def embedded(b: Build, *, positions: bool = True) -> GgmlTensor:
    """Rows of the embedding, which is the host's, and of a table of positions."""
    tokens = b.entry("tokens", g.entry(I32, b.step.tokens))
    table = b.weight("token_embd.weight")
    if table is None:
        raise UnknownGraphError(f"{b.net.arch}: it has no tensor token_embd")
    x = g.get_rows(table, tokens)
    b.graph.expand(x)
    if b.step.rules.embeds_input:
        b.graph.expand(b.entry("embd", g.entry(F32, b.net.hidden, b.step.tokens)))
    x = g.like("scale", x) if b.net.embedding_scale else x
    places = b.weight("position_embd.weight") if positions else None
    return b.add(x, g.get_rows(places, b.positions())) if places is not None else x


def finished(b: Build, x: GgmlTensor, style: GraphStyle) -> GgmlTensor:
    """The last norm and the logits."""
    if style.late_rows == "before":
        x = picked(b, b.output(x))[0]
    name = b.net.last_norm
    x = b.norm(x, b.weight(f"{name}.weight"), b.weight(f"{name}.bias"), kind=style.norm)
    b.output(x)
    x = b.output(picked(b, x)[0]) if style.late_rows == "after" else x
    head = b.weight("output.weight") or b.weight("token_embd.weight")
    if b.step.embeds or head is None:
        return x
    if b.net.tied:
        head = tied_head(b)
    x = g.mul_mat(head, x)
    bias = b.weight("output.bias")
    x = g.like("add", x, bias) if bias is not None else x
    if b.net.logit_softcap and b.step.rules.fused:
        return g.like("softcap", x)
    if b.net.logit_softcap:
        return g.like("scale", g.like("unary", g.like("scale", x)))
    return g.like("scale", x) if b.net.logit_scale else x


def tied_head(b: Build) -> GgmlTensor:
    """A second copy of the embedding, where the output layer is."""
    embedding = b.net.weights["token_embd.weight"]
    return b.entry(
        "head", g.weight(embedding.dtype, embedding.ne, b.placement.weight("output.weight"))
    )


def picked(b: Build, *tensors: GgmlTensor) -> tuple[GgmlTensor, ...]:
    """The rows that give logits."""
    return tuple(g.get_rows(t, b.out_ids()) for t in tensors)


def heads_of(b: Build, layer: int) -> CacheHeads:
    m = b.mixer(layer)
    if isinstance(m, Shared):
        return replace(heads_of(b, m.owner), layer=layer, owner=m.owner)
    if not isinstance(m, Attention):
        raise UnknownGraphError(f"{b.net.arch}: layer {layer} has no attention of its own")
    near = m.reach is not None
    return CacheHeads(kv=m.kv_heads, key=m.key_dim, value=m.value_dim, near=near, layer=layer)


def queries(b: Build, layer: int) -> int:
    m = b.mixer(layer)
    return queries(b, m.owner) if isinstance(m, Shared) else m.heads  # type: ignore[union-attr]


def projected(
    b: Build, layer: int, x: GgmlTensor
) -> tuple[GgmlTensor, GgmlTensor | None, GgmlTensor | None]:
    """Queries, keys and values of each head: [size, heads, tokens]."""
    h, n, tokens = heads_of(b, layer), queries(b, layer), x.ne[1]
    if b.of(layer, "attn_qkv") is not None:
        both = b.linear(layer, "attn_qkv", x)
        row = both.dtype.size(1)
        views = []
        for size, count in ((h.key, n), (h.key, h.kv), (h.value, h.kv)):
            views.append(g.view(both, (size, count, tokens), (row * size, both.nb[1])))
        return views[0], views[1], views[2]
    q = _normed_whole(b, layer, "q", x)
    if q.ne[0] == 2 * h.key * n:  # Qwen3-Next: the output's gate comes with the queries
        q = g.view(q, (h.key, n, tokens), (q.dtype.size(2 * h.key), q.nb[1]))
    else:
        q = g.reshape(q, h.key, n, tokens)
    if b.of(layer, "attn_k") is None:
        return q, None, None
    k = g.reshape(_normed_whole(b, layer, "k", x), h.key, h.kv, tokens)
    if b.of(layer, "attn_v") is None:
        return q, k, k
    return q, k, g.reshape(b.linear(layer, "attn_v", x), h.value, h.kv, tokens)


def _normed_whole(b: Build, layer: int, which: str, x: GgmlTensor) -> GgmlTensor:
    """OLMo 2, MiniMax-M2: the norm is over all heads together."""
    y = b.linear(layer, f"attn_{which}", x)
    norm = b.of(layer, f"attn_{which}_norm")
    whole = norm is not None and norm.ne[0] == y.ne[0] and norm.ne[1] == 1
    return b.norm(y, norm, None, layer) if whole else y


def _normed_heads(b: Build, layer: int, which: str, t: GgmlTensor) -> GgmlTensor:
    norm = b.of(layer, f"attn_{which}_norm")
    return b.norm(t, norm, None, layer) if norm is not None and norm.ne[0] == t.ne[0] else t


def attention(b: Build, layer: int, x: GgmlTensor, style: GraphStyle) -> GgmlTensor:
    h = heads_of(b, layer)
    q, k, v = projected(b, layer, x)
    gate = (
        g.view(q.src[0], q.ne[:3], q.nb[1:3])
        if q.op == "view" and k is not v and gated(q)
        else None
    )
    q = _normed_heads(b, layer, "q", q)
    factors = b.rope_factors(layer)
    turns = style.rope == "all" or (style.rope == "near" and h.near)
    turns = turns and not (style.rope_skips and (layer + 1) % style.rope_skips == 0)
    q = b.rope(q, factors) if turns else q
    if k is not None:
        k = _normed_heads(b, layer, "k", k)
        k = b.rope(k, factors) if turns else k
        v = g.like("rms_norm", v) if style.normed_values and v is not None else v
    if style.unit_keys:
        q, k = _unit(b, q, k, turns)
    if style.scaled_queries:
        q = g.like("scale", q)
    out = attend(b, h, q, k, v)
    if gate is not None:
        out = g.like("mul", out, g.like("unary", g.cont(gate, h.value * gate.ne[1], x.ne[1])))
    return b.linear(layer, "attn_output", _subnormed(b, layer, out))


def _unit(
    b: Build, q: GgmlTensor, k: GgmlTensor | None, turns: bool
) -> tuple[GgmlTensor, GgmlTensor | None]:
    if turns:
        return g.like("rms_norm", q), g.like("rms_norm", k) if k is not None else None
    return g.like("mul", q, b.entry("attn_scale", g.entry(F32, 1, 1, b.step.tokens))), k


def gated(q: GgmlTensor) -> bool:
    """Tell whether queries are every other piece of the product that made them, the rest their
    gates."""
    return q.nb[1] == 2 * q.dtype.size(q.ne[0])


def _subnormed(b: Build, layer: int, x: GgmlTensor) -> GgmlTensor:
    """BitNet: a norm before the way out."""
    norm = b.of(layer, "attn_sub_norm")
    return b.norm(x, norm, None, layer) if norm is not None else x


def feed(b: Build, layer: int, x: GgmlTensor, style: GraphStyle) -> GgmlTensor:
    if b.of(layer, "ffn_gate_inp") is None:
        return dense(b, layer, x, style.act)
    if b.of(layer, "ffn_up") is not None:  # Gemma 4: both, added
        return b.add(dense(b, layer, x, style.act), experts(b, layer, x, style.routing, style.act))
    out = experts(b, layer, x, style.routing, style.act)
    if b.of(layer, "ffn_up_shexp") is None:
        return out
    shared = dense(b, layer, x, style.act, "_shexp")
    gate = b.of(layer, "ffn_gate_inp_shexp")
    if gate is not None:
        shared = g.like("mul", shared, g.like("unary", g.mul_mat(gate, x)))
    return b.add(out, shared)


def mixed(b: Build, layer: int, x: GgmlTensor, style: GraphStyle) -> GgmlTensor:
    """All that mixes tokens in a layer; Falcon-H1 has two side by side."""
    mixers = b.net.layers[layer].mixers
    if not mixers:  # Nemotron-NAS: a matrix in attention's place, or nothing
        return b.linear(layer, "attn_output", x) if b.of(layer, "attn_output") is not None else x
    outs = [mix(b, layer, m, x, style) for m in mixers[::-1]]
    total = outs[0]
    for one in outs[1:]:
        total = b.add(total, one)
    return total


def mix(b: Build, layer: int, m: Mixer, x: GgmlTensor, style: GraphStyle) -> GgmlTensor:
    match m:
        case Latent():
            way = absorbed if b.step.latent_mode is None else by_mode
            return way(b, layer, m, x)
        case Attention() if b.of(layer, "attn_kv_b") is not None:
            return full_heads(b, layer, m, x)
        case Attention() | Shared():
            return attention(b, layer, x, style)
        case _ if isinstance(m, UNKNOWN):
            kind = type(m).__name__
            raise UnknownGraphError(f"llama.cpp's graph of {kind} layers is not in our tables")
        case _ if isinstance(m, Scanned):
            return _scanned(b, layer, m, x, style)
        case _:
            assert_never(m)


def _scanned(b: Build, layer: int, m: Scanned, x: GgmlTensor, style: GraphStyle) -> GgmlTensor:
    match m:
        case Mamba1():
            return mamba1(b, layer, m, x)
        case Mamba2():
            return mamba2(b, layer, m, x)
        case GatedDelta():
            return delta(b, layer, m, x, repeats=style.repeats_heads)
        case ShortConv():
            return short_conv(b, layer, m, x)
        case _:
            assert_never(m)


def names(b: Build, layer: int) -> tuple[str, str, str]:
    """Return the names of three norms: behind attention, before the feed-forward, behind it; ""
    where there is none."""
    after = "post_attention_norm" if b.of(layer, "post_attention_norm") is not None else ""
    before = "ffn_norm" if b.of(layer, "ffn_norm") is not None else ""
    behind = "post_ffw_norm" if b.of(layer, "post_ffw_norm") is not None else ""
    if after and not before and not behind:
        return "", after, ""  # gpt-oss, GLM-4.5: its name is that of the class
    return after, before, behind


def layer_of(b: Build, layer: int, x: GgmlTensor, style: GraphStyle, last: bool) -> GgmlTensor:
    after, before, behind = names(b, layer)
    start = x
    named = b.of(layer, "attn_norm") is not None or style.norm == "norm"
    normed = b.layer_norm(layer, "attn_norm", x, style.norm) if named else x
    if style.early_norm:
        b.graph.expand(normed)
    if not b.net.layers[layer].mixers and not before:  # Nemotron-H: a feed-forward of its own
        return b.add(feed(b, layer, normed, style), start)
    out = mixed(b, layer, normed, style)
    if last and not style.late_rows:
        picks = picked(b, out, start, *([normed] if style.parallel else []))
        out, start = picks[0], picks[1]
        normed = picks[-1] if style.parallel else normed
    out = b.layer_norm(layer, after, out, style.norm) if after else out
    out = g.like("scale", out) if style.scaled_residual else out
    if style.parallel:
        y = feed(b, layer, normed, style)
        if style.attention_first:
            return b.add(b.add(out, y), start)
        return b.add(b.add(y, start), out)
    middle = start if out is start else summed(b, out, start, style.start_first[0])
    if b.of(layer, "ffn_up", "ffn_up_exps", "ffn_gate_up_exps") is None:
        return middle
    y = b.layer_norm(layer, before, middle, style.norm) if before else middle
    y = feed(b, layer, y, style)
    y = b.norm(y, b.of(layer, behind), None, -1, style.norm) if behind else y
    y = g.like("scale", y) if style.scaled_residual else y
    return summed(b, y, middle, style.start_first[1])


def summed(b: Build, new: GgmlTensor, old: GgmlTensor, old_first: bool) -> GgmlTensor:
    """The sum takes the place of the first that it may."""
    return b.add(old, new) if old_first else b.add(new, old)


def decoder(b: Build, style: GraphStyle) -> None:
    x = embedded(b)
    every = inputs_of_layers(b, x)
    for layer, last in b.order():
        x = with_input(b, layer, layer_of(b, layer, x, style, last), every)
    b.graph.expand(finished(b, x, style))


# Gemma 4: an input of its own for every layer


def inputs_of_layers(b: Build, x: GgmlTensor) -> GgmlTensor | None:
    """[size, tokens, layers]: rows of a second embedding and a projection of the first, added."""
    table, projection = (
        b.weight("per_layer_token_embd.weight"),
        b.weight("per_layer_model_proj.weight"),
    )
    if table is None or projection is None:
        return None
    layers, tokens = len(b.net.layers), b.step.tokens
    size = table.ne[0] // layers
    ids = b.entry("per_layer_tokens", g.entry(I32, tokens))
    rows = g.like("scale", g.reshape(g.get_rows(table, ids), size, layers, tokens))
    b.graph.expand(rows)
    y = g.reshape(g.like("scale", g.mul_mat(projection, x)), size, layers, tokens)
    y = b.norm(y, b.weight("per_layer_proj_norm.weight"), None)
    total = g.like("scale", b.add(y, rows))
    return g.cont(g.permute(total, 0, 2, 1, 3))


def with_input(b: Build, layer: int, x: GgmlTensor, every: GgmlTensor | None) -> GgmlTensor:
    """The layer's own input, gated by what the layer gives."""
    if every is None or b.of(layer, "inp_gate") is None:
        return x
    gate = g.like("unary", g.mul_mat(b.must(layer, "inp_gate"), x))
    input_of_layer = g.view(every, every.ne[:2], (every.nb[1],))
    y = g.mul_mat(b.must(layer, "proj"), g.like("mul", gate, input_of_layer))
    return b.add(x, b.norm(y, b.of(layer, "post_norm"), None, layer))
