"""torchtitan's Llama 4: scores before experts, worked by hand; text alone, and until it left."""

from types import SimpleNamespace

import pytest

from tests.ask import usual
from weighbridge.base.dtypes import BFLOAT16
from weighbridge.base.errors import UnsupportedError, UsageError
from weighbridge.files.runfiles import read
from weighbridge.memory.components.counted import CountedHeap
from weighbridge.models.arch.config import Config
from weighbridge.training.forward.machine import Machine
from weighbridge.training.forward.modules import Module
from weighbridge.training.forward.nets.titan_experts import LLAMA4, mixture
from weighbridge.training.forward.ops.pointwise import scale

TOKENS, WIDTH, INNER, COUNT = 512, 256, 128, 8
LAST, AFTER = (2026, 4, 16), (2026, 4, 17)


def kept(release):
    """Bytes that 512 tokens of one expert each leave, but for the output."""
    m = Machine(CountedHeap())
    shapes = {
        "router.weight": (COUNT, WIDTH),
        "experts.gate_up_proj": (COUNT, WIDTH, 2 * INNER),
        "experts.down_proj": (COUNT, INNER, WIDTH),
        "shared_expert.gate_proj.weight": (INNER, WIDTH),
        "shared_expert.up_proj.weight": (INNER, WIDTH),
        "shared_expert.down_proj.weight": (WIDTH, INNER),
    }
    params = {n: m.param(n, shape, BFLOAT16) for n, shape in shapes.items()}
    x = scale(m, m.param("x", (1, TOKENS, WIDTH), BFLOAT16))
    config = Config({"model_type": "llama4_text"})
    s = SimpleNamespace(
        m=m, release=release, built=SimpleNamespace(config=config, kind="llama4_text")
    )
    e = SimpleNamespace(count=COUNT, top_k=1, shared=INNER)
    before = m.heap.live("activations")
    out = mixture(s, Module(params, {}), x, e, LLAMA4)
    return m.heap.live("activations") - before - out.nbytes


# Sigmoids of all scores; each token's number and place, and its score by expert
ROUTED = TOKENS * (COUNT * 4 + 8 + 8 + 4)
# The rows in float32, which their scores are multiplied with
WEIGHED = TOKENS * 4 * WIDTH
GATED = 4 * 2 * INNER  # of a row: gate and its activation, up, and the product
SHARED = TOKENS * GATED


def test_rows_are_kept_in_float32_before_their_experts():
    wide = (TOKENS + COUNT) * WIDTH * 4
    total = ROUTED + WEIGHED + wide + TOKENS * (2 * WIDTH + GATED + 8) + SHARED
    assert kept(AFTER) == pytest.approx(total, abs=TOKENS * 8)


def test_what_experts_give_is_summed_as_it_is():
    padded = TOKENS + COUNT * 8
    total = ROUTED + WEIGHED + padded * (2 * WIDTH + GATED + 4) + SHARED
    assert kept(LAST) == pytest.approx(total, abs=TOKENS * 12)


trained = usual(
    "train",
    "llama-4-scout",
    framework="torchtitan",
    framework_version="0.2.2",
    checkpointing="full",
    gpu="h100-sxm:64",
    seq_len=512,
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "count"),
    # 48 layers of 5120, 40 heads of 128 and 8; experts of 8192, and feed-forwards of 16384
    [("llama-4-scout", (48, 16, 0)), ("llama-4-maverick", (24, 128, 24))],
)
def test_its_text_alone_is_trained(model, count):
    sparse, experts, dense = count
    width, inner = 5120, 8192
    attention = 2 * width * width + 2 * width * 1024 + 2 * width
    routed = sparse * (3 * width * inner * (experts + 1) + experts * width)
    whole = 48 * attention + routed + dense * 3 * width * 2 * inner + 2 * 202_048 * width + width
    phase = trained(model).devices[0].phases[-2]
    held = sum(c.bytes.expected for c in phase.components if c.name == "weights")
    assert held == pytest.approx(4 * whole / 64, rel=2e-4)  # a rank has a row of routers


@pytest.mark.slow
def test_it_has_no_class_since_june():
    trained(framework_version="2026-06-07")
    with pytest.raises(UnsupportedError, match="no class for it since 8 June 2026"):
        trained(framework_version="2026-06-08")
    with pytest.raises(UsageError, match="of text alone"):
        trained(images=1)


FILE = """
[model]
name = "llama4"
flavor = "{}"
[training]
local_batch_size = 8
"""


@pytest.mark.parametrize(
    ("flavor", "model"),
    [
        ("17bx16e", "llama-4-scout"),
        ("17bx128e", "llama-4-maverick"),
        ("17bx16e_irope", "llama-4-scout"),
    ],
)
def test_its_flavors_name_the_models(flavor, model):
    (run,) = read(FILE.format(flavor), "r.toml", "torchtitan").runs
    assert run.model == model
