"""Every optimizer by hand: bytes that it keeps of a matrix, an embedding and a norm, and numbers that
a step takes besides. Sources stand in the modules of weighbridge.training.optimizers."""

import pytest

from tests.cases import all_of
from weighbridge.base.dtypes import BFLOAT16, FLOAT32
from weighbridge.memory.components.activations import Heap
from weighbridge.training.forward.machine import Machine
from weighbridge.training.forward.tensors import LeafTensor
from weighbridge.training.optimizers import NAMES, bits, optimizer

N, V = 96 * 128, 128  # numbers of the matrix and of the norm
EIGHT = N + 4 * N // 256  # a byte a number, a float32 for 256
SQUARES = 2 * (96**2 + 128**2)  # SOAP, Shampoo: of each side
LOW = 96 * 96 + 2 * N  # GaLore, APOLLO: rank 128 is more than the shorter side


def each(matrix, norm, embedding=None):
    """Numbers in the parameter's own dtype."""
    return lambda w: (w * matrix, w * (matrix if embedding is None else embedding), w * norm)


def wide(matrix, norm, embedding=None):
    """Bytes whatever the dtype is."""
    return lambda w: (matrix, matrix if embedding is None else embedding, norm)


def eight(count):
    return wide(count * EIGHT, 4 * count * V, 4 * count * N)  # small ones and embeddings in float32


TWO, ONE, NONE = each(2 * N, 2 * V), each(N, V), wide(0, 0)
FACTORS = wide(4 * (96 + 128), 4 * V)
KEPT = {  # of (matrix, embedding, norm), by the bytes of a number of theirs
    **dict.fromkeys(("adamw_torch", "adamw_hf", "adam", "nadam", "radam"), TWO),
    **dict.fromkeys(("adamax", "adadelta", "schedule_free_adamw", "schedule_free_radam"), TWO),
    **dict.fromkeys(("sgd-momentum", "rmsprop", "adagrad", "schedule_free_sgd"), ONE),
    **dict.fromkeys(("sgd", "lomo", "grokadamw"), NONE),
    "adamw_torch_fused": lambda w: (2 * w * N + 4, 2 * w * N + 4, 2 * w * V + 4),  # a step each
    "muon": each(N, 2 * V, 2 * N),  # matrices alone are orthogonalized
    **dict.fromkeys(("adamw_bnb_8bit", "adamw_8bit", "paged_adamw_8bit"), eight(2)),
    **dict.fromkeys(("lion_8bit", "paged_lion_8bit", "rmsprop_bnb_8bit"), eight(1)),
    **dict.fromkeys(("ademamix_8bit", "paged_ademamix_8bit"), eight(3)),
    **dict.fromkeys(("adamw_bnb_32bit", "paged_adamw_32bit"), wide(8 * N, 8 * V)),
    **dict.fromkeys(("lion_32bit", "paged_lion_32bit"), wide(4 * N, 4 * V)),
    **dict.fromkeys(("rmsprop_bnb", "rmsprop_bnb_32bit"), wide(4 * N, 4 * V)),
    **dict.fromkeys(("ademamix", "paged_ademamix_32bit"), wide(12 * N, 12 * V)),
    # Codes, scales, and a map of 256 or 16 values
    "adamw_torch_8bit": lambda w: (2 * (EIGHT + 1024),) * 2 + (2 * w * V,),
    "adamw_torch_4bit": lambda w: (2 * (EIGHT - N // 2 + 64),) * 2 + (2 * w * V,),
    **dict.fromkeys(("adafactor", "adalomo"), FACTORS),
    **dict.fromkeys(("galore_adamw", "apollo_adamw"), each(LOW, 2 * V, 2 * N)),
    "galore_adamw_8bit": lambda w: (w * 96 * 96 + 2 * EIGHT, 2 * EIGHT, 8 * V),
    "galore_adafactor": lambda w: (w * 96 * 96 + 4 * (96 + 128), 4 * (96 + 128), 4 * V),
    # Kahan's correction in 16 bits, and a number
    "stable_adamw": lambda w: tuple((2 + (w == 2)) * w * n + w for n in (N, N, V)),
    "adamw_bf16": each(3 * N, 3 * V),  # what rounding took off
    "prodigy": each(4 * N, 4 * V),  # what the step size is estimated by, and the first value
    "came": each(N + 2 * (96 + 128), 2 * V),  # rows and columns of two
    "soap": each(2 * N + SQUARES, 2 * V),
    "shampoo": each(N + SQUARES, V),
}


def known(name):
    return KEPT[name.removesuffix("_layerwise")]


def product(shape):
    count = 1
    for n in shape:
        count *= n
    return count


def kept(o, p, where="device"):
    return sum(s.dtype.size(product(s.shape)) for s in o.states(p) if s.where == where)


@pytest.mark.parametrize("dtype", [FLOAT32, BFLOAT16], ids=("float32", "bfloat16"))
@pytest.mark.parametrize("name", NAMES)
def test_what_is_kept(name, dtype):
    o, path = optimizer(name), "model.layers.0.up.weight"
    those = (
        LeafTensor(path, (96, 128), dtype, None, kind="linear"),
        LeafTensor(path, (96, 128), dtype, None, kind="embedding"),
        LeafTensor(path, (V,), dtype, None, kind="norm"),
    )
    assert tuple(kept(o, p) for p in those) == known(name)(dtype.size(1))
    away = 3 * dtype.size(N) if name == "grokadamw" else 0  # three averages
    assert [kept(o, those[0], where) for where in ("host", "managed")] == [away, 0]
    assert o.in_backward == (name in ("lomo", "adalomo") or name.endswith("layerwise"))
    assert o.early == (name == "adagrad")


@all_of("name", [row.name for row in bits.ROWS])
def test_words_say_how_wide_averages_are(name):
    width = {"8bit": "a byte", "4bit": "half a byte"}.get(name.rsplit("_", 1)[-1], "a float32")
    averages = 3 if "ademamix" in name else 2 if "adamw" in name else 1
    words = optimizer(name).formula
    assert words.startswith(f"{width} ")
    assert f"for each of {averages} averages" in words


@pytest.mark.parametrize(("count", "managed"), [(99_999, 0), (100_000, 1)])
@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("paged")])
def test_what_is_paged(name, count, managed):
    """From 100,000 numbers on (get_state_buffer), all but the scales."""
    averages = 1 if "lion" in name else 2 if "adamw" in name else 3
    bits, p = 8 if name.endswith("8bit") else 32, LeafTensor("a", (count,), FLOAT32, None)
    assert kept(optimizer(name), p, "managed") == managed * averages * count * bits // 8
    scales = averages * 4 * -(-count // 256) if bits == 8 else 0
    assert kept(optimizer(name), p) == scales + (not managed) * averages * count * bits // 8


A, B, C = 1000 * 64, 10 * 64, 800 * 64  # numbers of three matrices
ALL = 4 * (A + B + C)
TAKEN = {  # bytes of a step over all of them in float32
    **dict.fromkeys(("adamw_torch", "adam", "nadam", "radam", "adamax", "rmsprop"), ALL),
    **dict.fromkeys(("schedule_free_adamw", "schedule_free_radam", "stable_adamw"), ALL),
    **dict.fromkeys(("adagrad", "adadelta"), 2 * ALL),  # a root and a product
    # The variable holds that of the one before
    **dict.fromkeys(("adamw_hf", "adamw_bf16", "prodigy", "came"), 4 * (A + B)),
    "grokadamw": 4 * 4 * A,  # three averages from the host, and a root
    **dict.fromkeys(("adamw_torch_8bit", "adamw_torch_4bit"), 4 * 2 * A),  # both averages, wide
    "adafactor": 4 * 2 * A,
    # The gradient projected thrice, its update and that scaled: rank 128 is all 64 columns
    **dict.fromkeys(("galore_adamw", "galore_adamw_8bit", "galore_adafactor"), 4 * 5 * A),
    "apollo_adamw": 4 * 5 * A,
    # A decomposition of 1,000 x 1,000 numbers is more than five of the gradient
    **dict.fromkeys(("soap", "shampoo"), 4 * 3 * 1000**2),
    # The update; in 16 bits the gradient, two squares and what follows
    "muon": 4 * A + 2 * (A + 2 * 64**2 + A),
}
NARROW = {  # the same of one matrix in bfloat16
    "adafactor": 4 * 4 * A,  # its gradient and itself in float32, too
    # U and Vh and a square beside a copy, in float32
    **dict.fromkeys(("galore_adamw", "galore_adamw_8bit", "galore_adafactor"), 4 * (3 * A + 64**2)),
    "apollo_adamw": 2 * 5 * A,
    "muon": 3 * 2 * A,  # the update, and two turns of its iteration
    "soap": (2 + 2 + 4) * 1000**2,
}


def taken(name, dtype, *shapes, kind="linear"):
    m = Machine(Heap())
    params = [m.param(f"p{i}", shape, dtype) for i, shape in enumerate(shapes)]
    for p in params:
        p.kind = kind
    before = sum(m.heap.phase().live.values())
    optimizer(name).step(m, params)
    live = m.heap.phase().live
    return sum(n for part, n in live.items() if part != "workspaces") - before


@all_of("name", NAMES)
def test_what_a_step_takes(name):
    own = TAKEN.get(name.removesuffix("_layerwise"), 0)
    assert taken(name, FLOAT32, (1000, 64), (10, 64), (800, 64)) == own


@all_of("name", NARROW)
def test_what_a_step_takes_in_16_bits(name):
    assert taken(name, BFLOAT16, (1000, 64)) == NARROW[name]


@pytest.mark.parametrize(
    ("name", "numbers"), [("galore_adamw", 2), ("apollo_adamw", 2), ("muon", 1), ("soap", 5)]
)
def test_a_vector_is_not_projected(name, numbers):
    assert taken(name, FLOAT32, (5000,), kind="norm") == 4 * numbers * 5000


@pytest.mark.parametrize("name", ["adafactor", "adalomo"])
def test_rows_and_columns_of_each_expert(name):
    """Sums of [4, 96, 128] numbers over the last side, and over the last but one (Adafactor.step)."""
    stack = LeafTensor("experts", (4, 96, 128), BFLOAT16, None, kind="experts")
    assert kept(optimizer(name), stack) == 4 * 4 * (96 + 128)


@pytest.mark.parametrize("name", ["soap", "shampoo"])
def test_squares_of_sides_up_to_10000(name):
    averages = 2 if name == "soap" else 1
    for side, squares in ((10_000, 2 * (10_000**2 + 2**2)), (10_001, 2 * 2**2)):
        p = LeafTensor("a", (side, 2), FLOAT32, None)
        assert kept(optimizer(name), p) == 4 * (averages * 2 * side + squares)
