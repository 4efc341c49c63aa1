"""Recurrent layers: Mamba 1 and 2, gated delta net, short convolutions.

    the state is read by row numbers, one a request; the step's tokens pass through a convolution
    (state and tokens side by side), then the scan, whose result holds the new state as well

Source: llama.cpp 0c1e57098 src/models/mamba-base.cpp, delta-net-base.cpp, qwen3next.cpp,
qwen35.cpp, lfm2.cpp; src/llama-graph.cpp (build_rs).
"""

from weighbridge.arch.mixers import GatedDelta, Mamba1, Mamba2, ShortConv
from weighbridge.engines.llama_cpp.ggml import graph as g
from weighbridge.engines.llama_cpp.ggml.graph import I32, GgmlTensor, elements
from weighbridge.engines.llama_cpp.graphs.build import Build


def read(b: Build, states: GgmlTensor) -> GgmlTensor:
    """Read this step's states; those that nothing changes are copied as they are."""
    flat, main, extra = _rows(b, states)
    out = g.get_rows(flat, main)
    b.graph.expand(out)
    _untouched(b, flat, extra, states)
    return out


def _rows(b: Build, states: GgmlTensor) -> tuple[GgmlTensor, GgmlTensor, GgmlTensor]:
    s = b.step
    flat = g.reshape(states, states.ne[0], states.ne[1])
    b.graph.expand(g.into_self("scale", g.view(flat, (states.ne[0],))))
    ids = b.entry("rs_copy", g.entry(I32, s.slots))
    main = b.entry("rs_main", g.view(ids, (s.sequences,)))
    extra = b.entry("rs_extra", g.view(ids, (s.slots - s.sequences,)))
    return flat, main, extra


def _untouched(b: Build, flat: GgmlTensor, extra: GgmlTensor, states: GgmlTensor) -> None:
    rest = g.get_rows(flat, extra)
    b.graph.expand(g.into(rest, g.view(states, (states.ne[0], extra.ne[0]), (states.nb[1],))))


def convolved(
    b: Build, layer: int, x: GgmlTensor, channels: int, kernel: int, name: str
) -> GgmlTensor:
    """[channels, tokens a request, requests]: state and tokens side by side, then the kernel."""
    s = b.step
    states = b.state(layer, "r", (kernel - 1) * channels)
    past = g.reshape(read(b, states), kernel - 1, channels, s.sequences)
    both = g.concat(past, g.transpose(x), 0)
    last = g.view(both, (kernel - 1, channels, s.sequences), both.nb[1:3])
    target = g.view(states, ((kernel - 1) * channels, s.sequences), (states.nb[1],))
    b.graph.expand(g.into(last, target))
    tokens = s.tokens // s.sequences
    return g.made("ssm_conv", (channels, tokens, s.sequences), both, b.must(layer, name))


def folded(b: Build, x: GgmlTensor) -> GgmlTensor:
    """[width, tokens] -> [width, tokens a request, requests]"""
    return g.reshape(x, x.ne[0], b.step.tokens // b.step.sequences, b.step.sequences)


def mamba1(b: Build, layer: int, m: Mamba1, x: GgmlTensor) -> GgmlTensor:
    s = b.step
    tokens = s.tokens // s.sequences
    xz = g.mul_mat(b.must(layer, "ssm_in"), folded(b, x))
    inner, gate = (g.view(xz, (m.inner, *xz.ne[1:3]), xz.nb[1:3]) for _ in range(2))
    y = convolved(b, layer, inner, m.inner, m.kernel, "ssm_conv1d")
    y = g.like("unary", g.like("add", y, b.must(layer, "ssm_conv1d.bias")))
    low = g.mul_mat(b.must(layer, "ssm_x"), y)
    rank = low.ne[0] - 2 * m.state
    dt = g.view(low, (rank, tokens, s.sequences), low.nb[1:3])
    sides = [
        g.view(low, (m.state, 1, tokens, s.sequences), (low.dtype.size(m.state), *low.nb[1:3]))
        for _ in range(2)
    ]
    if b.net.normed_state or b.of(layer, "ssm_dt_norm") is not None:
        dt = b.norm(dt, b.of(layer, "ssm_dt_norm"), None, layer)
        names = ("ssm_b_norm", "ssm_c_norm")
        sides = [b.norm(t, b.of(layer, n), None, layer) for t, n in zip(sides, names, strict=True)]
    else:
        dt = g.cont(dt)
    dt = g.like("add", g.mul_mat(b.must(layer, "ssm_dt"), dt), b.must(layer, "ssm_dt.bias"))
    heads = g.reshape(y, 1, m.inner, tokens, s.sequences)
    scan = scanned(b, layer, m.state * m.inner, (m.state, 1, m.inner), heads, dt, *sides)
    out = g.view(scan, (m.inner, tokens, s.sequences), heads.nb[2:4])
    out = g.like("add", out, g.like("mul", y, b.must(layer, "ssm_d", "ssm_d.bias")))
    out = gate_of(b, g.cont(gate), out)
    return g.reshape(g.mul_mat(b.must(layer, "ssm_out"), out), b.net.hidden, s.tokens)


def gate_of(b: Build, z: GgmlTensor, y: GgmlTensor) -> GgmlTensor:
    if b.step.rules.glu:
        return g.like("glu", z, y)
    return g.like("mul", y, g.like("unary", z))


def scanned(
    b: Build,
    layer: int,
    width: int,
    state: tuple[int, int, int],
    x: GgmlTensor,
    *others: GgmlTensor,
) -> GgmlTensor:
    """Make the scan's node, whose elements are all outputs and then the new states."""
    s = b.step
    states = b.state(layer, "s", width)
    flat, main, extra = _rows(b, states)
    ssm = g.reshape(flat, *state, s.slots)
    a = b.of(layer, "ssm_a", "ssm_a.bias")
    dt, *sides = others
    src = (ssm, x, dt, *([a] if a is not None else []), *sides, main)
    out = g.made("ssm_scan", (elements(x) + width * s.sequences,), *src)
    b.graph.expand(out)
    _untouched(b, flat, extra, states)
    new = g.view(out, (width * s.sequences,))
    b.graph.expand(g.into(new, g.view(states, (width * s.sequences,))))
    return out


def mamba2(b: Build, layer: int, m: Mamba2, x: GgmlTensor) -> GgmlTensor:
    s = b.step
    tokens, size = s.tokens // s.sequences, m.inner // m.heads
    if b.step.rules.flat_projection:
        all_ = folded(b, g.mul_mat(b.must(layer, "ssm_in"), x))
    else:
        all_ = g.mul_mat(b.must(layer, "ssm_in"), folded(b, x))
    unit = all_.dtype.nbytes
    z = g.view(all_, (size, m.heads, tokens, s.sequences), (size * unit, *all_.nb[1:3]))
    mixed = g.view(all_, (m.channels, tokens, s.sequences), all_.nb[1:3])
    dt = g.view(all_, (m.heads, tokens, s.sequences), all_.nb[1:3])
    y = convolved(b, layer, mixed, m.channels, m.kernel, "ssm_conv1d")
    bias = b.of(layer, "ssm_conv1d.bias")
    y = g.like("unary", g.like("add", y, bias) if bias is not None else y)
    heads = g.view(y, (size, m.heads, tokens, s.sequences), (size * unit, *y.nb[1:3]))
    row = (m.state * unit, *y.nb[1:3])
    sides = [g.view(y, (m.state, m.groups, tokens, s.sequences), row) for _ in range(2)]
    dt = g.like("add", g.cont(dt), b.must(layer, "ssm_dt.bias"))
    scan = scanned(b, layer, m.state * m.inner, (m.state, size, m.heads), heads, dt, *sides)
    out = g.view(scan, (size, m.heads, tokens, s.sequences), (size * unit, m.inner * unit))
    out = g.like("add", out, g.like("mul", heads, b.must(layer, "ssm_d", "ssm_d.bias")))
    out = gate_of(b, g.cont(z), out)
    norm = b.of(layer, "ssm_norm")
    if norm is not None:
        out = g.reshape(out, m.inner // m.groups, m.groups, tokens, s.sequences)
        out = b.norm(out, norm, None, layer)
    return g.mul_mat(b.must(layer, "ssm_out"), g.reshape(out, m.inner, s.tokens))


# Gated delta net: Qwen3-Next, Qwen3.5


def delta(b: Build, layer: int, m: GatedDelta, x: GgmlTensor, *, repeats: bool) -> GgmlTensor:
    s = b.step
    tokens, n = s.tokens // s.sequences, s.sequences
    mixed, z = _mixed(b, layer, m, x)
    beta, gate = _gates(b, layer, m, x)
    y = convolved_delta(b, layer, m, mixed)
    unit = y.dtype.nbytes
    widths = ((m.key_dim, m.key_heads), (m.key_dim, m.key_heads), (m.value_dim, m.value_heads))
    q, k, v = (
        g.view(y, (size, heads, tokens, n), (size * unit, m.channels * unit))
        for size, heads in widths
    )
    q, k = (_unit(b, t) for t in (q, k))
    if repeats and m.key_heads != m.value_heads:
        q, k = (_spread(t, m) for t in (q, k))
    out = _delta_rule(b, layer, m, (q, k, v, gate, beta))
    y = b.norm(out, b.must(layer, "ssm_norm"), None, layer)
    z = g.reshape(z, m.value_dim, m.value_heads, tokens, n)
    y = g.like("mul", y, g.like("unary", z))
    y = g.reshape(y, m.value_dim * m.value_heads, tokens, n)
    return g.reshape(g.mul_mat(b.must(layer, "ssm_out"), y), b.net.hidden, s.tokens)


def _mixed(b: Build, layer: int, m: GatedDelta, x: GgmlTensor) -> tuple[GgmlTensor, GgmlTensor]:
    """Queries, keys and values in one, and the gate of the output."""
    mixed = folded(b, g.mul_mat(b.must(layer, "attn_qkv"), x))
    return mixed, g.mul_mat(b.must(layer, "attn_gate"), x)


def _gates(b: Build, layer: int, m: GatedDelta, x: GgmlTensor) -> tuple[GgmlTensor, GgmlTensor]:
    s = b.step
    shape = (1, m.value_heads, s.tokens // s.sequences, s.sequences)
    together = b.of(layer, "ssm_ba")
    if together is not None:
        both = g.mul_mat(together, x)
        each = m.value_heads // m.key_heads
        both = g.reshape(both, 2 * each, m.key_heads, *shape[2:])
        left, right = (g.view(both, (each, *both.ne[1:]), both.nb[1:]) for _ in range(2))
        beta = g.like("unary", g.cont(left))
        alpha = g.cont(right, *shape[1:])
    else:
        beta = g.like("unary", g.reshape(g.mul_mat(b.must(layer, "ssm_beta"), x), *shape))
        alpha = g.reshape(g.mul_mat(b.must(layer, "ssm_alpha"), x), *shape[1:])
    soft = g.like("unary", g.like("add", alpha, b.must(layer, "ssm_dt.bias")))
    gate = g.like("mul", soft, b.must(layer, "ssm_a", "ssm_a.bias"))
    return g.reshape(beta, *shape), g.reshape(gate, *shape)


def convolved_delta(b: Build, layer: int, m: GatedDelta, mixed: GgmlTensor) -> GgmlTensor:
    y = convolved(b, layer, mixed, m.channels, m.kernel, "ssm_conv1d")
    return g.like("unary", y)


def _unit(b: Build, t: GgmlTensor) -> GgmlTensor:
    if b.step.rules.rms_delta:
        return g.like("scale", g.like("rms_norm", t))
    return g.like("l2_norm", t)


def _spread(t: GgmlTensor, m: GatedDelta) -> GgmlTensor:
    """Each key head for all its value heads."""
    size, heads, tokens, n = t.ne
    times = m.value_heads // m.key_heads
    flat = g.reshape(t, size, 1, heads, tokens * n)
    return g.reshape(g.repeat(flat, size, times, heads, tokens * n), size, heads * times, tokens, n)


def _delta_rule(b: Build, layer: int, m: GatedDelta, parts: tuple[GgmlTensor, ...]) -> GgmlTensor:
    s = b.step
    tokens, n = s.tokens // s.sequences, s.sequences
    states = b.state(layer, "s", m.state_elements)
    state = g.reshape(read(b, states), m.value_dim, m.key_dim, m.value_heads, n)
    values = m.value_dim * m.value_heads
    out = g.made("delta_net", (values, tokens * n + m.key_dim * n), *parts, state)
    y = g.view(
        out, (m.value_dim, m.value_heads, tokens, n), (out.dtype.size(m.value_dim), out.nb[1])
    )
    new = g.view(out, (m.value_dim, m.key_dim, m.value_heads, n))
    b.graph.expand(g.into(new, g.view(states, (m.state_elements, n), (states.nb[1],))))
    return y


def short_conv(b: Build, layer: int, m: ShortConv, x: GgmlTensor) -> GgmlTensor:
    s = b.step
    three = g.mul_mat(b.must(layer, "shortconv.in_proj"), folded(b, x))
    shape = (m.width, *three.ne[1:3])
    before, after, middle = (g.view(three, shape, three.nb[1:3]) for _ in range(3))
    mixed = g.like("mul", before, middle)
    y = convolved(b, layer, mixed, m.width, m.kernel, "shortconv.conv")
    y = g.mul_mat(b.must(layer, "shortconv.out_proj"), g.like("mul", after, y))
    return g.reshape(y, y.ne[0], s.tokens)
