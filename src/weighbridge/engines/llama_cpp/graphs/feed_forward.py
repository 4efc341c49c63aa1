"""MLPs: dense, and routed experts with shared ones.

    gated, new       up, gate, and their product in a third: 3 F per token
    gated, before    silu and the product in place: 2 F
    fused            one product of 2 F, of which half comes out
    experts          scores of all E in place of logits; k outputs per token, weighted, then summed

Source: llama.cpp 0c1e57098 src/llama-graph.cpp (build_ffn, build_moe_ffn).
"""

from weighbridge.base.records import frozen_record
from weighbridge.engines.llama_cpp.ggml import graph as g
from weighbridge.engines.llama_cpp.ggml.graph import GgmlTensor
from weighbridge.engines.llama_cpp.graphs.build import Build

FUSED = 15  # experts per token up to which CUDA sums them in one operation


@frozen_record
class Act:
    """The activation of an MLP: silu, gelu or relu; with `squared`, its square."""

    squared: bool = False
    gate_after_up: bool = False  # LLM_FFN_SEQ with a gate
    rare: bool = False  # gpt-oss: one operation in all builds that have it


def dense(build: Build, layer: int, x: GgmlTensor, act: Act, end: str = "") -> GgmlTensor:
    """Return a dense MLP's output; `end` "_shexp" is for the shared experts."""
    up_w = build.of(layer, f"ffn_up{end}")
    gate_w = build.of(layer, f"ffn_gate{end}")
    if build.step.rules.fused_feeds and up_w is not None and gate_w is not None:
        both = g.made("up_gate", (up_w.ne[1], x.ne[1]), up_w, gate_w, x)
        return build.linear(layer, f"ffn_down{end}", both)
    up = build.linear(layer, f"ffn_up{end}", x) if up_w is not None else x
    if gate_w is not None:
        gate = build.linear(layer, f"ffn_gate{end}", up if act.gate_after_up else x)
        out = gated(build, gate, up)
    elif act.squared or not fused(build, layer, end):
        out = g.like("unary", up)
        out = g.like("sqr", out) if act.squared else out
    else:
        out = halved(build, up)
    return build.linear(layer, f"ffn_down{end}", out)


def fused(build: Build, layer: int, end: str) -> bool:
    """Return whether the up matrix holds the gate as well."""
    up, down = build.of(layer, f"ffn_up{end}"), build.of(layer, f"ffn_down{end}")
    return up is not None and down is not None and up.ne[1] == 2 * down.ne[0]


def gated(build: Build, gate: GgmlTensor, up: GgmlTensor) -> GgmlTensor:
    if build.step.rules.glu:
        return g.like("glu", gate, up)
    return g.like("mul", g.like("unary", gate), up)


def halved(build: Build, up: GgmlTensor) -> GgmlTensor:
    if build.step.rules.glu:
        return g.half("glu", up)
    width = up.ne[0] // 2
    left, right = (g.cont(g.view(up, (width, up.ne[1]), (up.nb[1],))) for _ in range(2))
    return g.like("mul", g.like("unary", left), right)


# Experts


@frozen_record
class Routing:
    """Rules by which a router picks experts for each token and weights them."""

    scores: str = "softmax"  # of the logits: softmax, sigmoid, late (softmax of those picked)
    scaled: bool = False
    normed: bool = True
    before: bool = False  # weights are applied to the experts' inputs: Llama 4


def experts(build: Build, layer: int, x: GgmlTensor, routing: Routing, act: Act) -> GgmlTensor:
    ids, weights = route(build, layer, x, routing)
    if build.step.rules.early_weights:
        build.graph.expand(weights)
    hidden, tokens = x.ne[0], x.ne[1]
    x = g.reshape(x, hidden, 1, tokens)
    if routing.before:
        x = g.like("mul", g.repeat(x, hidden, build.net.top_k, tokens), weights)
    out = g.mul_mat_id(build.must(layer, "ffn_down_exps"), _inner(build, layer, x, ids, act), ids)
    out = _biased(build, layer, "ffn_down_exps", out, ids)
    inputs = () if routing.before else (out, weights)
    if not routing.before:
        out = g.like("mul", out, weights)
    total = _summed(build, out, hidden, tokens)
    if build.step.rules.kept_experts and 2 <= build.net.top_k <= FUSED:
        build.graph.keep(inputs, total)
    return total


def route(
    build: Build, layer: int, x: GgmlTensor, routing: Routing
) -> tuple[GgmlTensor, GgmlTensor]:
    """Return (ids of the experts, their weights) per token."""
    logits = build.linear(layer, "ffn_gate_inp", x)
    count, tokens = logits.ne[0], logits.ne[1]
    kind = {"softmax": "soft_max", "sigmoid": "unary"}.get(routing.scores)
    probs = g.like(kind, logits) if kind else logits
    bias = build.of(layer, "exp_probs_b.bias", "exp_probs_b")
    picked = g.like("add", probs, bias) if bias is not None else probs
    picked = logits if routing.before else picked
    picked = _grouped(build, picked, count, tokens)
    ids = g.top_k(picked, build.net.top_k)
    weights = g.get_rows(g.reshape(probs, 1, count, tokens), ids)
    return ids, _weighed(build, weights, tokens, routing)


def _weighed(build: Build, weights: GgmlTensor, tokens: int, routing: Routing) -> GgmlTensor:
    k = build.net.top_k
    if routing.scores == "late":
        soft = g.like("soft_max", g.reshape(weights, k, tokens))
        weights = g.reshape(soft, 1, k, tokens)
    if routing.normed if build.net.normed_weights is None else build.net.normed_weights:
        flat = g.reshape(weights, k, tokens)
        total = g.sum_rows(flat)
        total = g.like("clamp", total) if build.step.rules.clamps_weights else total
        weights = g.reshape(g.like("div", flat, total), 1, k, tokens)
    scaled = routing.scaled if build.net.scaled_weights is None else build.net.scaled_weights
    return g.like("scale", weights) if scaled else weights


def _grouped(build: Build, probs: GgmlTensor, count: int, tokens: int) -> GgmlTensor:
    """Return `probs` with only the best groups of experts, by the two best of each; the others are
    masked (DeepSeek-V3)."""
    groups = build.net.groups
    if groups <= 1 or not build.step.rules.groups_experts:
        return probs
    each = count // groups
    split = g.reshape(probs, each, groups, tokens)
    best = g.get_rows(g.reshape(split, 1, *split.ne[:3]), g.top_k(split, 2))
    total = g.sum_rows(g.reshape(best, *best.ne[1:]))
    chosen = g.top_k(g.reshape(total, groups, tokens), build.net.groups_used)
    rows = g.get_rows(split, chosen)
    blank = g.like("fill", split)
    return g.reshape(g.set_rows(blank, rows, chosen), count, tokens)


def _inner(build: Build, layer: int, x: GgmlTensor, ids: GgmlTensor, act: Act) -> GgmlTensor:
    together = build.of(layer, "ffn_gate_up_exps")
    if together is not None:
        both = _biased(build, layer, "ffn_gate_up_exps", g.mul_mat_id(together, x, ids), ids)
        ne = (both.ne[0] // 2, *both.ne[1:3])
        gate, up = (g.view(both, ne, both.nb[1:3]) for _ in range(2))
        return gated(build, gate, up)
    gate_w = build.of(layer, "ffn_gate_exps")
    if build.step.fused_experts and gate_w is not None:
        up_w = build.must(layer, "ffn_up_exps")
        return g.made("moe_up_gate", (up_w.ne[1], ids.ne[0], x.ne[2]), up_w, gate_w, x, ids)
    up = _biased(
        build, layer, "ffn_up_exps", g.mul_mat_id(build.must(layer, "ffn_up_exps"), x, ids), ids
    )
    if gate_w is None:
        out = g.like("unary", up)
        return g.like("sqr", out) if act.squared else out
    gate = _biased(build, layer, "ffn_gate_exps", g.mul_mat_id(gate_w, x, ids), ids)
    return g.like("glu", gate, up) if act.rare else gated(build, gate, up)


def _biased(build: Build, layer: int, name: str, x: GgmlTensor, ids: GgmlTensor) -> GgmlTensor:
    bias = build.of(layer, f"{name}.bias")
    return g.like("add_id", x, bias, ids) if bias is not None else x


def _summed(build: Build, out: GgmlTensor, hidden: int, tokens: int) -> GgmlTensor:
    if build.step.rules.fused and build.net.top_k > 2:
        first = g.view(out, (hidden, tokens), (out.nb[2],))
        return g.made("multi_add", (hidden, tokens), first)
    if not build.step.rules.fused:
        build.graph.expand(out)
    views = [g.view(out, (hidden, tokens), (out.nb[2],)) for _ in range(build.net.top_k)]
    if build.step.rules.late_views:
        build.graph.expand(*views)
    total = views[0]
    for one in views[1:]:
        total = g.like("add", total, one)
        if build.step.rules.late_views:
            build.graph.expand(total)
    return g.cont(total) if len(views) == 1 else total
