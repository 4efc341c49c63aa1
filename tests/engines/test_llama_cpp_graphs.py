"""Every graph is one that ggml would build: each operation is given shapes that it takes.

The rules are the assertions of ggml's constructors (llama.cpp 0c1e57098 ggml/src/ggml.c), written
down here apart from the graphs; a product of 32 by 33 aborts there, and here.
"""

import re
from math import prod
from types import SimpleNamespace

import pytest

from tests.cases import all_of, some
from tests.engines.answers import named
from weighbridge.base.errors import UnsupportedError
from weighbridge.engines.ik_llama_cpp.infer import hold as of_ik
from weighbridge.engines.llama_cpp import compute
from weighbridge.engines.llama_cpp.ggml import graph as g
from weighbridge.engines.llama_cpp.ggml.graph import F16, F32
from weighbridge.engines.llama_cpp.graphs.architectures import build as graph_of
from weighbridge.engines.llama_cpp.graphs.attention import in_turns
from weighbridge.engines.llama_cpp.infer import hold as of_llama_cpp
from weighbridge.engines.subject import subject
from weighbridge.engines.table import engine, version
from weighbridge.workload import Infer


def repeats(small, large):
    """ggml_can_repeat. What Mamba 2 has for each head lies across in files: the same bytes."""
    across = small.weight and small.ne == (large.ne[1], 1, 1, 1)
    return across or all(n % k == 0 for n, k in zip(large.ne, small.ne, strict=True))


def multiplies(w, x):
    """ggml_can_mul_mat"""
    return w.ne[0] == x.ne[0] and all(b % a == 0 for a, b in zip(w.ne[2:], x.ne[2:], strict=True))


def product(t, w, x):
    return multiplies(w, x) and t.ne == (w.ne[1], *x.ne[1:])


def of_experts(t, w, x, ids):
    """One of w.ne[2] matrices for each of ids.ne[0] experts of a token."""
    few = ids.ne[0] % x.ne[1] == 0 and ids.ne[0] <= w.ne[2]
    return w.ne[0] == x.ne[0] and ids.ne[1] == x.ne[2] and few and t.ne[0] == w.ne[1]


def in_halves(t, *src):
    if len(src) == 1:
        return 2 * t.ne[0] == src[0].ne[0]
    return src[0].ne == src[1].ne


def beside(t, a, b):
    """Along one axis."""
    return sum(x != y for x, y in zip(a.ne, t.ne, strict=True)) <= 1 and all(
        x == y or x + y == n for x, y, n in zip(a.ne, b.ne, t.ne, strict=True)
    )


def same_elements(t, s, *_):
    return prod(t.ne) == prod(s.ne)


def flash(t, q, k, v, mask, *sinks):
    fits = (
        multiplies(k, q) and k.ne[1:] == v.ne[1:] and t.ne == (v.ne[0], q.ne[2], q.ne[1], q.ne[3])
    )
    return (
        fits
        and mask.ne[0] == k.ne[1]
        and mask.ne[1] >= q.ne[1]
        and all(s.ne[0] == q.ne[2] for s in sinks)
    )


def softened(t, s, *mask):
    return t.ne == s.ne and all(m.ne[0] == s.ne[0] and m.ne[1] >= s.ne[1] for m in mask)


def rows(t, table, ids):
    return table.ne[2] == ids.ne[1] and t.ne == (table.ne[0], *ids.ne[:3])


def set_rows(t, new, ids, target):
    return new.ne[0] == target.ne[0] and new.ne[1] == ids.ne[0] and new.ne[2:] == target.ne[2:]


def looked_into(t, s):
    return t.nbytes <= t.base.nbytes


def convolved(t, states, kernel):
    """Tokens of a request and what came before them, under a kernel for each channel."""
    channels, tokens, _ = t.ne[:3]
    return states.ne[:2] == (kernel.ne[0] - 1 + tokens, channels) and kernel.ne[1] == channels


def scanned(t, state, x, dt, *rest):
    *a, left, right, ids = rest
    size, head, heads = state.ne[:3]
    fits = x.ne[:2] == (head, heads) and dt.ne[0] == heads and dt.ne[1:3] == x.ne[2:]
    fits = fits and all(heads in one.ne[:2] for one in a)
    fits = fits and left.ne == right.ne and left.ne[0] == size and left.ne[2:] == x.ne[2:]
    return fits and t.ne[0] == prod(x.ne) + size * head * heads * ids.ne[0]


def delta(t, q, k, v, gate, beta, state):
    width, heads, _, n = v.ne
    fits = q.ne == k.ne and heads % q.ne[1] == 0 and q.ne[2:] == v.ne[2:]
    fits = fits and gate.ne[1:] == beta.ne[1:] == v.ne[1:]
    return (
        fits
        and prod(t.ne) == prod(v.ne) + prod(state.ne)
        and prod(state.ne) == (width * q.ne[0] * heads * n)
    )


def both_ways(t, up, gate, x, *ids):
    return up.ne == gate.ne and up.ne[0] == x.ne[0] and t.ne[0] == up.ne[1]


def turned(t, s, where, *factors):
    return t.ne == s.ne and where.ne[0] % s.ne[2] == 0


RULES = {
    "mul_mat": product,
    "mul_mat_id": of_experts,
    "glu": in_halves,
    "concat": beside,
    "cpy": same_elements,
    "cont": same_elements,
    "reshape": same_elements,
    "repeat": lambda t, s: repeats(s, t),
    "flash_attn": flash,
    "soft_max": softened,
    "soft_cap_max": softened,
    "get_rows": rows,
    "set_rows": set_rows,
    "view": looked_into,
    "ssm_conv": convolved,
    "ssm_scan": scanned,
    "delta_net": delta,
    "up_gate": both_ways,
    "moe_up_gate": both_ways,
    "rope": turned,
    "sum_rows": lambda t, s: t.ne == (1, *s.ne[1:]),
    "add_id": lambda t, s, bias, ids: bias.ne[0] == s.ne[0] and ids.ne[:2] == s.ne[1:3],
    "fused_rms_norm": lambda t, s, w: w.ne[0] == s.ne[0],
    **{
        name: lambda t, s, *other: t.ne == s.ne and all(repeats(o, s) for o in other)
        for name in ("add", "mul", "div")
    },
    **dict.fromkeys(
        ("unary", "scale", "rms_norm", "norm", "l2_norm", "sqr", "clamp", "fill", "softcap"),
        lambda t, s: t.ne == s.ne,
    ),
    **dict.fromkeys(("argsort", "permute", "transpose"), same_elements),
    "multi_add": lambda t, s: t.ne == s.ne,
    "pad": lambda t, s: t.ne[1:] == s.ne[1:] and t.ne[0] >= s.ne[0],
}


OLDER = (
    *("qwen3-0.6b", "phi-4-mini", "gemma-2-9b", "qwen1.5-moe-a2.7b", "deepseek-v2-lite"),
    *("falcon-mamba-7b", "mamba-codestral-7b"),
)
MODELS = (
    *OLDER,
    *("llama-3.2-1b", "gpt2", "bloom-560m", "falcon-7b", "starcoder2-3b", "command-r", "olmo-2-7b"),
    *("gemma-3-1b", "gemma-4-e2b", "bge-m3", "mixtral-8x7b", "gpt-oss-20b", "llama-4-scout"),
    *("nemotron-nano-12b-v2", "lfm2-1.2b", "qwen3-next-80b-a3b", "qwen3.5-27b"),
)
SOME = ("gpt-oss-20b", "gemma-3-1b", "lfm2-1.2b", "qwen3.5-27b")
LATENT = ("deepseek-v2-lite",)
OFF = {"flash_attn": "off"}
ASKED = (
    ("llama.cpp", 11200, {}, MODELS),
    ("llama.cpp", 11200, {**OFF, "cache_type_k": "q8_0", "parallel": 3}, (*OLDER, *SOME)),
    ("llama.cpp", 4905, {}, OLDER),
    ("llama.cpp", 5122, {}, ("qwen3-0.6b",)),  # the first that has it
    ("ik_llama.cpp", 4840, {"fused_moe": True}, OLDER),
    ("ik_llama.cpp", 4840, {**OFF, "attn_max_b": 1}, ("qwen1.5-moe-a2.7b",)),  # a head at a time
    *(
        ("ik_llama.cpp", build, {"mla_attn": mode, "attn_max_b": 1, "flash_attn": flash}, LATENT)
        for build in (3576, 4840)
        for mode in (1, 2, 3)
        for flash in ("on", "off")
    ),
)
HEAVY = ("llama-4-scout", "qwen3.5-27b", "command-r", "starcoder2-3b")
CASES = [
    pytest.param(name, *asked, marks=[pytest.mark.slow] if name in HEAVY else [])
    for *asked, names in ASKED
    for name in names
]


def graphs_of(monkeypatch, name, kind, build, more):
    """The graphs of both steps, also where the larger alone has to be reserved."""
    found = []

    def built(b):
        graph_of(b)
        found.append(b)

    monkeypatch.setattr(compute, "build", built)
    monkeypatch.setattr(compute, "alone", lambda layers: False)
    w = Infer(quantization="Q4_K_M", engine_version=str(build), context=1000, **more)
    s = subject(named(name), w, engine(kind), version(engine(kind), str(build))[0])
    hold = of_llama_cpp if kind == "llama.cpp" else of_ik
    assert hold(s, w, w.budget(), build).compute
    return found


# Norms in the place of their input; one of two ways to store the same; sinks of a softmax, in place
UNREAD = re.compile(r"token_embd_norm\..*|.*\.(attn_kv_b|attn_k_b|attn_v_b|attn_sinks)\.weight")


def unread(b):
    """Weights of the layers that were built, and of all beside layers, that no node reads."""
    read = {s for t in b.graph.nodes for s in t.src}
    layers = {f"blk.{layer}." for layer, _ in b.order()}
    there = {
        n for n in b.net.weights if not n.startswith("blk.") or n[: n.index(".", 4) + 1] in layers
    }
    of = {name for name, w in b._weights.items() if w in read}
    return there - of - {"rope_freqs.weight"}


@pytest.mark.parametrize(("name", "kind", "build", "more"), some(4, CASES))
def test_every_operation_takes_what_it_is_given(monkeypatch, name, kind, build, more):
    try:
        found = graphs_of(monkeypatch, name, kind, build, more)
    except UnsupportedError:
        assert kind == "ik_llama.cpp" or build == 4905
        return
    assert len(found) == 2
    assert [name for name in unread(found[0]) if not UNREAD.fullmatch(name)] == []
    for b in found:
        for t in b.graph.nodes:
            told = (t.op, t.ne, [s.ne for s in t.src])
            assert RULES[t.op](t, *t.src), told


@all_of(
    ("most", "cells", "tokens", "heads", "of_keys", "turns"),
    [
        # 4 bytes x 1,024 cells x 256 tokens x heads are a MiB a head
        (3, 1024, 256, 4, 4, True),
        (4, 1024, 256, 4, 4, False),
        (4, 1024, 256, 5, 5, True),
        (3, 1024, 256, 4, 2, False),  # heads that share keys are never apart
        (0, 1024, 256, 4, 4, False),
        (4, 2048, 256, 4, 4, True),
        (4, 1024, 512, 4, 4, True),
    ],
)
def test_scores_of_more_than_so_many_mib_are_made_head_by_head(
    most, cells, tokens, heads, of_keys, turns
):
    """ik_llama.cpp -amb (src/llama-build-context.cpp, llm_build_kqv)."""
    b = SimpleNamespace(step=SimpleNamespace(largest_batch=most))
    keys, queries = g.entry(F16, 64, cells, of_keys), g.entry(F32, 64, tokens, heads)
    assert in_turns(b, keys, queries) is turns
