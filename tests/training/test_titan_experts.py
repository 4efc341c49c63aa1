"""torchtitan's experts and layers by date: what is kept, worked by hand, and its own defaults."""

from types import SimpleNamespace

import pytest

import weighbridge
from tests.ask import usual
from tests.cases import all_of
from weighbridge.base.dtypes import BFLOAT16
from weighbridge.base.errors import UnsupportedError
from weighbridge.base.units import GIB
from weighbridge.base.versions import dated
from weighbridge.memory.components.counted import CountedHeap
from weighbridge.models.arch.config import Config
from weighbridge.training.forward.checkpoint import every_second_product
from weighbridge.training.forward.machine import Machine
from weighbridge.training.forward.modules import Module
from weighbridge.training.forward.nets.titan_experts import mixture
from weighbridge.training.forward.ops.float8 import Casts, StackFloat8
from weighbridge.training.forward.ops.pointwise import scale

TOKENS, WIDTH, INNER, COUNT, CHOSEN = 512, 256, 128, 8, 2
PAIRS = TOKENS * CHOSEN
LAST, NEWEST = (2026, 4, 16), (2026, 4, 17)


def kept(release, here=COUNT, casts=None):
    """Bytes that 512 tokens leave, `here` of 8 experts on this rank, but for the output."""
    m = Machine(CountedHeap())
    shapes = {
        "gate.weight": (COUNT, WIDTH),
        "experts.gate_up_proj": (here, 2 * INNER, WIDTH),
        "experts.down_proj": (here, WIDTH, INNER),
    }
    params = {n: m.param(n, shape, BFLOAT16) for n, shape in shapes.items()}
    x = scale(m, m.param("x", (1, TOKENS, WIDTH), BFLOAT16))
    config = Config({"model_type": "qwen3_moe"})
    s = SimpleNamespace(
        m=m, release=release, built=SimpleNamespace(config=config, kind="qwen3_moe")
    )
    e = SimpleNamespace(count=COUNT, top_k=CHOSEN, shared=0)
    before = m.heap.live("activations")
    wraps = {} if casts is None else {n: StackFloat8(casts) for n in params if "proj" in n}
    out = mixture(s, Module(params, wraps), x, e)
    return m.heap.live("activations") - before - out.nbytes


# The router's softmax, and of each pair its number, its place, its score before and after the norm;
# a total of each token
ROUTED = TOKENS * COUNT * 4 + PAIRS * (8 + 8 + 4 + 4) + TOKENS * 4


def test_what_is_kept_where_outputs_are_added():
    """The router's input and weight in float32; rows in 16 bits, three products' inputs and two
    outputs; outputs in float32, and their scores by expert, and the tokens that they are of."""
    wide = (TOKENS + COUNT) * WIDTH * 4
    rows = PAIRS * (2 * WIDTH + 4 * 2 * INNER)
    weighed = PAIRS * (4 * WIDTH + 4 + 8)
    total = ROUTED + wide + rows + weighed
    assert kept(NEWEST) == pytest.approx(total, abs=PAIRS * 8)
    assert kept(None) == kept(NEWEST)


def test_what_is_kept_where_a_batched_product_sums():
    """Each expert's rows are padded by 8 numbers, and put in place by numbers of 32 bits; what is
    summed is in float32."""
    padded = PAIRS + COUNT * 8
    rows = padded * (2 * WIDTH + 4 * 2 * INNER + 4)
    total = ROUTED + rows + PAIRS * (4 * WIDTH + 8)
    assert kept(LAST) == pytest.approx(total, abs=PAIRS * 12)


def test_rows_that_are_sent_keep_their_places_twice():
    assert kept(None, COUNT // 4) - kept(None) == 2 * PAIRS * 8


def test_selective_checkpoints_keep_messages_and_no_product_of_a_router():
    keeps = every_second_product()
    kinds = ("product", "product", "router", "message", "product", "product")
    assert [keeps(kind) for kind in kinds] == [True, False, False, True, True, False]


QWEN = "qwen3-30b-a3b"


trained = usual("train", QWEN, framework="torchtitan", gpu="b200:8", seq_len=512)


@pytest.mark.slow
def test_experts_of_qwen3_are_weighed_and_others_are_not():
    alone, spread = (trained(expert_parallel_size=n) for n in (1, 8))
    states = [
        sum(c.bytes.expected for c in r.devices[0].phases[-2].components if c.name == "weights")
        for r in (alone, spread)
    ]
    assert states[0] == states[1] == pytest.approx(4 * 30_532_122_624 / 8, rel=0.001)
    line = "experts are taken to be chosen evenly"
    assert any(w.startswith(line) for w in spread.warnings)
    assert not any(w.startswith(line) for w in alone.warnings)
    with pytest.raises(UnsupportedError, match="mixtral: experts as torchtitan runs them"):
        trained("mixtral-8x7b")


@pytest.mark.slow
def test_tensor_ranks_that_have_other_experts_divide_none():
    """Two data ranks and four tensor ranks are eight expert ranks: each has an eighth, whole."""
    found = trained(expert_parallel_size=8, tensor_parallel_size=4)
    alone = trained(expert_parallel_size=8)
    weights = [
        sum(c.bytes.expected for c in r.devices[0].phases[-2].components if c.name == "weights")
        for r in (found, alone)
    ]
    assert weights[0] == pytest.approx(weights[1], rel=0.02)


@pytest.mark.slow
def test_fewer_experts_than_ranks_are_cut_in_their_rows():
    """Half of 128 experts are shared out among 512 ranks: each has rows of all 64."""
    many = trained(gpu="b200:1024", expert_parallel_size=2)
    held = sum(
        c.bytes.expected for c in many.devices[0].phases[-2].components if c.name == "weights"
    )
    assert held == pytest.approx(4 * 30_532_122_624 / 1024, rel=0.02)


@pytest.mark.slow
def test_its_own_checkpoints_are_selective():
    now, before = (
        trained("llama-3.2-1b", gpu="h100:2", framework_version=date)
        for date in (None, "2026-03-22")
    )
    assert now.workload["checkpointing"] == "selective"
    assert before.workload["checkpointing"] == "none"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("older", "newer"), [("2025-03-18", "2025-03-19"), ("2026-01-26", "2026-01-27")]
)
def test_later_layers_keep_less(older, newer):
    """Norms became one kernel, and keys and values are no longer copied for all heads."""
    asked = {"gpu": "h100:2", "checkpointing": "none"}
    saved = [
        trained("llama-3.2-1b", framework_version=date, **asked).derived["saved_activation_bytes"]
        for date in (older, newer)
    ]
    assert saved[1] < saved[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "numbers"),
    # of each token and layer: a complex number for two numbers of a head; Qwen3 has cosines and
    # sines of all
    [("llama-3.2-1b", 16 * 64), ("qwen3-0.6b", 28 * 2 * 128)],
)
def test_each_layer_has_its_own_positions(model, numbers):
    held = [
        sum(
            c.bytes.expected
            for c in trained(model, gpu="h100:2", framework_version=date)
            .devices[0]
            .phases[-2]
            .components
            if c.name == "buffers"
        )
        for date in ("2026-06-04", "2026-06-05")
    ]
    assert held[1] - held[0] == 512 * numbers * 4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rows", "length", "ranks", "said"),
    # pytorch/torchtitan#1993, of B200: the 16B flavor, which has DeepSeek-V2-Lite's sizes
    [
        (4, 4096, 1, "yes"),
        (6, 4096, 1, ""),
        (4, 6144, 1, ""),
        (4, 8192, 1, "no"),
        (8, 4096, 8, "no"),
    ],
)
def test_published_runs_of_sixteen_billion(rows, length, ranks, said):
    """Runs of two thirds and 88 % of the card ran, two others did not: what is expected says so."""
    found = trained(
        "deepseek-v2-lite",
        framework_version="2025-11-01",
        compile=True,
        checkpointing="none",
        batch_size=rows,
        seq_len=length,
        expert_parallel_size=ranks,
    )
    assert (found.peak.expected > found.verdict.usable.expected) == (said == "no")
    if said == "yes":
        assert found.peak.expected == pytest.approx(found.verdict.usable.expected * 2 / 3, rel=0.05)


@all_of(
    ("whose", "tag", "date"),
    [
        ("torchtitan", "0.2.2", (2026, 2, 20)),
        ("torchtitan", "0.2.1", (2025, 12, 26)),
        ("torchtitan", "0.2", (2025, 10, 17)),
        ("torchtitan", "0.3", None),
        ("megatron", "0.16.1", (2026, 2, 26)),
        ("megatron", "0.15.3", (2025, 12, 18)),
        ("megatron", "0.1", None),
        ("", "0.2", None),
    ],
)
def test_a_tag_is_its_date(whose, tag, date):
    assert dated(tag, whose) == date


@pytest.mark.parametrize("blocks", [False, True])
def test_in_8_bits_each_experts_rows_are_padded(blocks):
    """What products save stays in 16 bits: of 8 experts 16 rows more each, of mxfp8 32; and where
    each row comes from, to put it back."""
    more = COUNT * (32 if blocks else 16)
    rows = more * (2 * WIDTH + 4 * 2 * INNER) + (PAIRS + more) * 4
    padded = kept(NEWEST, casts=Casts(fused=True, blocks=blocks)) - kept(NEWEST)
    assert padded == pytest.approx(rows, abs=2 * PAIRS * 8)


# ---- ranks that are sent more


def more_given(**asked):
    asked = {"framework": "torchtitan", "method": "full", "batch_size": 2, "seq_len": 4096} | asked
    report = weighbridge.prepare("deepseek-v2-lite").train(remedies=False, **asked)
    parts = [c for one in report.devices[0].phases for c in one.components]
    return report, {c.bytes.high for c in parts if c.detail == "uneven experts"}


def test_rows_beyond_equal_parts_by_hand():
    """Two rows of 4,096 tokens over two tensor ranks, six experts each; 26 layers have experts of
    1,408 beside 2,048, and half as many rows again have three of each, in 16 bits."""
    asked = {"framework_version": "2026-03-13", "data_parallel_size": 4, "tensor_parallel_size": 2}
    asked |= {"expert_parallel_size": 2, "gpu": "nvidia-h100-nvl-94gb:8", "checkpointing": "none"}
    report, found = more_given(**asked)
    rows = 2 * 4096 * 6 // 2
    assert found == {26 * rows * 3 * (2048 + 1408) * 2 // 2}
    # torchtitan fca8ab7be: 87.71 GiB were reserved by a step of another compiler
    assert report.devices[0].peak("reserved").high > 87.71 * GIB / 1.02


@pytest.mark.parametrize(("ranks", "many"), [(1, False), (2, True), (8, True)])
def test_a_rank_with_all_experts_is_sent_nothing(ranks, many):
    _, found = more_given(expert_parallel_size=ranks, gpu="h100:8", checkpointing="full")
    assert bool(found) == many
