"""Recurrent layers: Mamba 1 and 2, gated delta net, short convolutions.

    states are read by row number, one per request; the step's tokens pass through a convolution
    (state and tokens concatenated), then the scan, whose result holds the new state as well

Source: llama.cpp 0c1e57098 src/models/mamba-base.cpp, delta-net-base.cpp, qwen3next.cpp,
qwen35.cpp, lfm2.cpp; src/llama-graph.cpp (build_rs).
"""

from weighbridge.engines.llama_cpp.ggml import graph as g
from weighbridge.engines.llama_cpp.ggml.graph import I32, GgmlTensor, elements
from weighbridge.engines.llama_cpp.graphs.build import Build
from weighbridge.models.arch.mixers import GatedDelta, Mamba1, Mamba2, ShortConv


def read(build: Build, states: GgmlTensor) -> GgmlTensor:
    """Return this step's recurrent states; those it does not change are copied as they are."""
    flat, main, extra = _rows(build, states)
    out = g.get_rows(flat, main)
    build.graph.expand(out)
    _untouched(build, flat, extra, states)
    return out


def _rows(build: Build, states: GgmlTensor) -> tuple[GgmlTensor, GgmlTensor, GgmlTensor]:
    s = build.step
    flat = g.reshape(states, states.ne[0], states.ne[1])
    build.graph.expand(g.into_self("scale", g.view(flat, (states.ne[0],))))
    ids = build.entry("rs_copy", g.entry(I32, s.slots))
    main = build.entry("rs_main", g.view(ids, (s.sequences,)))
    extra = build.entry("rs_extra", g.view(ids, (s.slots - s.sequences,)))
    return flat, main, extra


def _untouched(build: Build, flat: GgmlTensor, extra: GgmlTensor, states: GgmlTensor) -> None:
    others = g.get_rows(flat, extra)
    build.graph.expand(g.into(others, g.view(states, (states.ne[0], extra.ne[0]), (states.nb[1],))))


def convolved(
    build: Build, layer: int, x: GgmlTensor, channels: int, kernel: int, name: str
) -> GgmlTensor:
    """Return [channels, tokens per request, requests]: the convolution of state and tokens."""
    s = build.step
    states = build.state(layer, "r", (kernel - 1) * channels)
    past = g.reshape(read(build, states), kernel - 1, channels, s.sequences)
    both = g.concat(past, g.transpose(x), 0)
    last = g.view(both, (kernel - 1, channels, s.sequences), both.nb[1:3])
    target = g.view(states, ((kernel - 1) * channels, s.sequences), (states.nb[1],))
    build.graph.expand(g.into(last, target))
    tokens = s.tokens // s.sequences
    return g.made("ssm_conv", (channels, tokens, s.sequences), both, build.must(layer, name))


def folded(build: Build, x: GgmlTensor) -> GgmlTensor:
    """Return `x` of [width, tokens] as [width, tokens per request, requests]."""
    return g.reshape(x, x.ne[0], build.step.tokens // build.step.sequences, build.step.sequences)


def mamba1(build: Build, layer: int, mamba: Mamba1, x: GgmlTensor) -> GgmlTensor:
    s = build.step
    tokens = s.tokens // s.sequences
    xz = g.mul_mat(build.must(layer, "ssm_in"), folded(build, x))
    inner, gate = (g.view(xz, (mamba.inner, *xz.ne[1:3]), xz.nb[1:3]) for _ in range(2))
    y = convolved(build, layer, inner, mamba.inner, mamba.kernel, "ssm_conv1d")
    y = g.like("unary", g.like("add", y, build.must(layer, "ssm_conv1d.bias")))
    low = g.mul_mat(build.must(layer, "ssm_x"), y)
    rank = low.ne[0] - 2 * mamba.state
    dt = g.view(low, (rank, tokens, s.sequences), low.nb[1:3])
    sides = [
        g.view(
            low, (mamba.state, 1, tokens, s.sequences), (low.dtype.size(mamba.state), *low.nb[1:3])
        )
        for _ in range(2)
    ]
    if build.net.normed_state or build.of(layer, "ssm_dt_norm") is not None:
        dt = build.norm(dt, build.of(layer, "ssm_dt_norm"), None, layer)
        names = ("ssm_b_norm", "ssm_c_norm")
        sides = [
            build.norm(t, build.of(layer, n), None, layer)
            for t, n in zip(sides, names, strict=True)
        ]
    else:
        dt = g.cont(dt)
    dt = g.like("add", g.mul_mat(build.must(layer, "ssm_dt"), dt), build.must(layer, "ssm_dt.bias"))
    heads = g.reshape(y, 1, mamba.inner, tokens, s.sequences)
    scan = scanned(
        build, layer, mamba.state * mamba.inner, (mamba.state, 1, mamba.inner), heads, dt, *sides
    )
    out = g.view(scan, (mamba.inner, tokens, s.sequences), heads.nb[2:4])
    out = g.like("add", out, g.like("mul", y, build.must(layer, "ssm_d", "ssm_d.bias")))
    out = gate_of(build, g.cont(gate), out)
    return g.reshape(g.mul_mat(build.must(layer, "ssm_out"), out), build.net.hidden, s.tokens)


def gate_of(build: Build, z: GgmlTensor, y: GgmlTensor) -> GgmlTensor:
    if build.step.rules.glu:
        return g.like("glu", z, y)
    return g.like("mul", y, g.like("unary", z))


def scanned(
    build: Build,
    layer: int,
    width: int,
    state: tuple[int, int, int],
    x: GgmlTensor,
    *others: GgmlTensor,
) -> GgmlTensor:
    """Return the scan's node, whose elements are all outputs and then the new states."""
    s = build.step
    states = build.state(layer, "s", width)
    flat, main, extra = _rows(build, states)
    ssm = g.reshape(flat, *state, s.slots)
    a = build.of(layer, "ssm_a", "ssm_a.bias")
    dt, *sides = others
    src = (ssm, x, dt, *([a] if a is not None else []), *sides, main)
    out = g.made("ssm_scan", (elements(x) + width * s.sequences,), *src)
    build.graph.expand(out)
    _untouched(build, flat, extra, states)
    new = g.view(out, (width * s.sequences,))
    build.graph.expand(g.into(new, g.view(states, (width * s.sequences,))))
    return out


def mamba2(build: Build, layer: int, mamba: Mamba2, x: GgmlTensor) -> GgmlTensor:
    s = build.step
    tokens, size = s.tokens // s.sequences, mamba.inner // mamba.heads
    if build.step.rules.flat_projection:
        all_ = folded(build, g.mul_mat(build.must(layer, "ssm_in"), x))
    else:
        all_ = g.mul_mat(build.must(layer, "ssm_in"), folded(build, x))
    unit = all_.dtype.nbytes
    z = g.view(all_, (size, mamba.heads, tokens, s.sequences), (size * unit, *all_.nb[1:3]))
    mixed = g.view(all_, (mamba.channels, tokens, s.sequences), all_.nb[1:3])
    dt = g.view(all_, (mamba.heads, tokens, s.sequences), all_.nb[1:3])
    y = convolved(build, layer, mixed, mamba.channels, mamba.kernel, "ssm_conv1d")
    bias = build.of(layer, "ssm_conv1d.bias")
    y = g.like("unary", g.like("add", y, bias) if bias is not None else y)
    heads = g.view(y, (size, mamba.heads, tokens, s.sequences), (size * unit, *y.nb[1:3]))
    row = (mamba.state * unit, *y.nb[1:3])
    sides = [g.view(y, (mamba.state, mamba.groups, tokens, s.sequences), row) for _ in range(2)]
    dt = g.like("add", g.cont(dt), build.must(layer, "ssm_dt.bias"))
    scan = scanned(
        build, layer, mamba.state * mamba.inner, (mamba.state, size, mamba.heads), heads, dt, *sides
    )
    out = g.view(scan, (size, mamba.heads, tokens, s.sequences), (size * unit, mamba.inner * unit))
    out = g.like("add", out, g.like("mul", heads, build.must(layer, "ssm_d", "ssm_d.bias")))
    out = gate_of(build, g.cont(z), out)
    norm = build.of(layer, "ssm_norm")
    if norm is not None:
        out = g.reshape(out, mamba.inner // mamba.groups, mamba.groups, tokens, s.sequences)
        out = build.norm(out, norm, None, layer)
    return g.mul_mat(build.must(layer, "ssm_out"), g.reshape(out, mamba.inner, s.tokens))


# Gated delta net: Qwen3-Next, Qwen3.5


def delta(
    build: Build, layer: int, delta: GatedDelta, x: GgmlTensor, *, repeats: bool
) -> GgmlTensor:
    s = build.step
    tokens, n = s.tokens // s.sequences, s.sequences
    mixed, z = _mixed(build, layer, delta, x)
    beta, gate = _gates(build, layer, delta, x)
    y = convolved_delta(build, layer, delta, mixed)
    unit = y.dtype.nbytes
    widths = (
        (delta.key_dim, delta.key_heads),
        (delta.key_dim, delta.key_heads),
        (delta.value_dim, delta.value_heads),
    )
    q, k, v = (
        g.view(y, (size, heads, tokens, n), (size * unit, delta.channels * unit))
        for size, heads in widths
    )
    q, k = (_unit(build, t) for t in (q, k))
    if repeats and delta.key_heads != delta.value_heads:
        q, k = (_spread(t, delta) for t in (q, k))
    out = _delta_rule(build, layer, delta, (q, k, v, gate, beta))
    y = build.norm(out, build.must(layer, "ssm_norm"), None, layer)
    z = g.reshape(z, delta.value_dim, delta.value_heads, tokens, n)
    y = g.like("mul", y, g.like("unary", z))
    y = g.reshape(y, delta.value_dim * delta.value_heads, tokens, n)
    return g.reshape(g.mul_mat(build.must(layer, "ssm_out"), y), build.net.hidden, s.tokens)


def _mixed(
    build: Build, layer: int, delta: GatedDelta, x: GgmlTensor
) -> tuple[GgmlTensor, GgmlTensor]:
    """Return queries, keys and values as one tensor, and the gate of the output."""
    mixed = folded(build, g.mul_mat(build.must(layer, "attn_qkv"), x))
    return mixed, g.mul_mat(build.must(layer, "attn_gate"), x)


def _gates(
    build: Build, layer: int, delta: GatedDelta, x: GgmlTensor
) -> tuple[GgmlTensor, GgmlTensor]:
    s = build.step
    shape = (1, delta.value_heads, s.tokens // s.sequences, s.sequences)
    together = build.of(layer, "ssm_ba")
    if together is not None:
        both = g.mul_mat(together, x)
        each = delta.value_heads // delta.key_heads
        both = g.reshape(both, 2 * each, delta.key_heads, *shape[2:])
        left, right = (g.view(both, (each, *both.ne[1:]), both.nb[1:]) for _ in range(2))
        beta = g.like("unary", g.cont(left))
        alpha = g.cont(right, *shape[1:])
    else:
        beta = g.like("unary", g.reshape(g.mul_mat(build.must(layer, "ssm_beta"), x), *shape))
        alpha = g.reshape(g.mul_mat(build.must(layer, "ssm_alpha"), x), *shape[1:])
    soft = g.like("unary", g.like("add", alpha, build.must(layer, "ssm_dt.bias")))
    gate = g.like("mul", soft, build.must(layer, "ssm_a", "ssm_a.bias"))
    return g.reshape(beta, *shape), g.reshape(gate, *shape)


def convolved_delta(build: Build, layer: int, delta: GatedDelta, mixed: GgmlTensor) -> GgmlTensor:
    y = convolved(build, layer, mixed, delta.channels, delta.kernel, "ssm_conv1d")
    return g.like("unary", y)


def _unit(build: Build, t: GgmlTensor) -> GgmlTensor:
    if build.step.rules.rms_delta:
        return g.like("scale", g.like("rms_norm", t))
    return g.like("l2_norm", t)


def _spread(t: GgmlTensor, delta: GatedDelta) -> GgmlTensor:
    """Return `t` with each key head repeated for its value heads."""
    size, heads, tokens, n = t.ne
    times = delta.value_heads // delta.key_heads
    flat = g.reshape(t, size, 1, heads, tokens * n)
    return g.reshape(g.repeat(flat, size, times, heads, tokens * n), size, heads * times, tokens, n)


def _delta_rule(
    build: Build, layer: int, delta: GatedDelta, parts: tuple[GgmlTensor, ...]
) -> GgmlTensor:
    s = build.step
    tokens, n = s.tokens // s.sequences, s.sequences
    states = build.state(layer, "s", delta.state_elements)
    state = g.reshape(read(build, states), delta.value_dim, delta.key_dim, delta.value_heads, n)
    values = delta.value_dim * delta.value_heads
    out = g.made("delta_net", (values, tokens * n + delta.key_dim * n), *parts, state)
    y = g.view(
        out,
        (delta.value_dim, delta.value_heads, tokens, n),
        (out.dtype.size(delta.value_dim), out.nb[1]),
    )
    new = g.view(out, (delta.value_dim, delta.key_dim, delta.value_heads, n))
    build.graph.expand(g.into(new, g.view(states, (delta.state_elements, n), (states.nb[1],))))
    return y


def short_conv(build: Build, layer: int, conv: ShortConv, x: GgmlTensor) -> GgmlTensor:
    s = build.step
    three = g.mul_mat(build.must(layer, "shortconv.in_proj"), folded(build, x))
    shape = (conv.width, *three.ne[1:3])
    before, after, middle = (g.view(three, shape, three.nb[1:3]) for _ in range(3))
    mixed = g.like("mul", before, middle)
    y = convolved(build, layer, mixed, conv.width, conv.kernel, "shortconv.conv")
    y = g.mul_mat(build.must(layer, "shortconv.out_proj"), g.like("mul", after, y))
    return g.reshape(y, y.ne[0], s.tokens)
