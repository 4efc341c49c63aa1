"""torchtitan's gpt-oss by date: what its experts and attention keep, worked by hand; its dtypes."""

from types import SimpleNamespace

import pytest

import weighbridge
from tests.ask import usual
from weighbridge.base.dtypes import BFLOAT16
from weighbridge.base.errors import UsageError
from weighbridge.memory.components.counted import CountedHeap
from weighbridge.models.arch.config import Config
from weighbridge.training.forward.checkpoint import checkpoint, every_second_product
from weighbridge.training.forward.machine import Machine
from weighbridge.training.forward.modules import Module, ParameterSpec
from weighbridge.training.forward.nets import titan_gpt_oss
from weighbridge.training.forward.nets.titan_experts import mixture
from weighbridge.training.forward.ops.attention import AttentionHeads
from weighbridge.training.forward.ops.pointwise import scale
from weighbridge.training.sharding.cut import cut

TOKENS, WIDTH, INNER, COUNT, CHOSEN = 512, 256, 128, 8, 2
PAIRS = TOKENS * CHOSEN
LAST, NEWEST = (2026, 4, 16), (2026, 8, 21)


def layer(m):
    shapes = {
        "router.weight": (COUNT, WIDTH),
        "router.bias": (COUNT,),
        "experts.gate_up_proj": (COUNT, WIDTH, 2 * INNER),
        "experts.gate_up_proj_bias": (COUNT, 2 * INNER),
        "experts.down_proj": (COUNT, INNER, WIDTH),
        "experts.down_proj_bias": (COUNT, WIDTH),
    }
    return Module({n: m.param(n, shape, BFLOAT16) for n, shape in shapes.items()}, {})


def kept(release):
    """Bytes that 512 tokens leave, but for the output."""
    m = Machine(CountedHeap())
    p = layer(m)
    x = scale(m, m.param("x", (1, TOKENS, WIDTH), BFLOAT16))
    config = Config({"model_type": "gpt_oss"})
    s = SimpleNamespace(m=m, release=release, built=SimpleNamespace(config=config, kind="gpt_oss"))
    e = SimpleNamespace(count=COUNT, top_k=CHOSEN, shared=0)
    before = m.heap.live("activations")
    out = mixture(s, p, x, e, titan_gpt_oss.GPT_OSS)
    return m.heap.live("activations") - before - out.nbytes


ROUTED = TOKENS * COUNT * 4 + PAIRS * (8 + 8 + 4 + 4) + TOKENS * 4
# rows; gate and up in one; clamped gate, its sigmoid, their product, up or up + 1, and the product
ROW = 2 * WIDTH + 2 * 2 * INNER + 5 * 2 * INNER
NUMBERS = 2 * 8  # of each row's expert, for the biases of both products


def test_what_its_experts_keep():
    wide = (TOKENS + COUNT) * WIDTH * 4
    total = ROUTED + wide + PAIRS * (ROW + NUMBERS + 4 * WIDTH + 4 + 8)
    assert kept(NEWEST) == pytest.approx(total, abs=PAIRS * 8)


def test_what_they_keep_where_rows_are_padded():
    padded = PAIRS + COUNT * 8
    total = ROUTED + padded * (ROW + NUMBERS + 4) + PAIRS * (4 * WIDTH + 8)
    assert kept(LAST) == pytest.approx(total, abs=PAIRS * 12)


BATCH, LENGTH, HEADS, SHARED, HEAD = 2, 64, 4, 2, 32
ATTENDS = AttentionHeads(
    batch=BATCH,
    length=LENGTH,
    seen=LENGTH,
    heads=HEADS,
    kv_heads=SHARED,
    key_dim=HEAD,
    value_dim=HEAD,
)


def test_a_checkpoint_keeps_what_compiled_attention_is_given():
    """Queries, keys, values and the output in 16 bits; the sums twice in float32."""
    m = Machine(CountedHeap())
    rows = BATCH * LENGTH
    x = scale(m, m.param("x", (BATCH, LENGTH, HEADS, HEAD), BFLOAT16))

    def attends(x):
        q = scale(m, x)
        k, v = (scale(m, x.view(BATCH, LENGTH, 2 * SHARED, HEAD)) for _ in "kv")
        return scale(m, titan_gpt_oss.flex(m, q, k, v, ATTENDS)[0])

    before = m.heap.live("activations")
    out = checkpoint(m, attends, x, chooses=every_second_product())
    left = m.heap.live("activations") - before - out.nbytes
    assert left == rows * (4 * HEADS * HEAD * 2 + 2 * HEADS * 4)


trained = usual("train", "gpt-oss-20b", framework="torchtitan", gpu="b200:8", seq_len=512)


def held(result, name):
    phase = result.devices[0].phases[-2]
    return sum(c.bytes.expected for c in phase.components if c.name == name)


OUTSIDE = 2 * 201_088 * 2880 + 2880  # embedding, head and last norm
WHOLE = 20_914_757_184


@pytest.mark.slow
def test_its_layers_were_in_sixteen_bits():
    before, after = (
        held(trained(framework_version=date), "weights") for date in ("2026-02-22", "2026-02-23")
    )
    assert after == pytest.approx(4 * WHOLE / 8, rel=0.001)
    assert before == pytest.approx((4 * OUTSIDE + 2 * (WHOLE - OUTSIDE)) / 8, rel=0.001)


@pytest.mark.slow
def test_products_with_a_bias_are_kept_since_the_list_is_torchs():
    saved = [
        trained(framework_version=date, checkpointing="selective").derived["saved_activation_bytes"]
        for date in ("2026-03-22", "2026-03-23")
    ]
    # queries, keys, the output's product and the scores of experts, of each token and layer; values
    # are what attention is given, which was kept
    assert saved[1] - saved[0] == pytest.approx(
        24 * 512 * 2 * (64 * 64 + 8 * 64 + 2880 + 32), rel=0.01
    )


def test_biases_of_experts_are_shared_out_with_them():
    sharing = SimpleNamespace(expert=4, expert_width=2, tensor=2)
    found = [
        cut(ParameterSpec(f"mlp.experts.{name}", shape, "experts"), sharing, vocab=True).shape
        for name, shape in (("gate_up_proj_bias", (8, 512)), ("down_proj_bias", (8, 256)))
    ]
    assert found == [(2, 256), (2, 256)]


def test_no_ranks_share_a_sequence():
    with pytest.raises(UsageError, match="torchtitan's gpt-oss has none"):
        weighbridge.train("gpt-oss-20b", framework="torchtitan", context_parallel_size=2)
