"""States of optimizers: published sizes, edges worked by hand, laws."""

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cases import all_of, examples
from weighbridge.base.dtypes import BFLOAT16, FLOAT32
from weighbridge.base.errors import UsageError
from weighbridge.faces import api
from weighbridge.memory.components.activations import Heap
from weighbridge.training.forward.machine import Machine
from weighbridge.training.forward.tensors import LeafTensor
from weighbridge.training.optimizers import ALIASES, NAMES, ROWS, argued, optimizer


def param(*shape, kind="linear", dtype=FLOAT32, name="model.layers.0.up.weight"):
    return LeafTensor(name, shape, dtype, None, kind=kind)


def kept(name, p, where="device"):
    return sum(s.dtype.size(_numel(s.shape)) for s in optimizer(name).states(p) if s.where == where)


def _numel(shape):
    count = 1
    for n in shape:
        count *= n
    return count


@all_of(
    ("name", "dtype", "each"),
    [
        ("adamw_torch", FLOAT32, 8),  # two float32
        ("adamw_torch", BFLOAT16, 4),  # states follow the parameter
        ("sgd", FLOAT32, 0),
        ("sgd-momentum", FLOAT32, 4),
        ("adamw_bnb_32bit", BFLOAT16, 8),  # float32 whatever the parameter is
        ("adamw_8bit", BFLOAT16, 2.03125),  # 2 x (1 + 4 / 256)
        ("lion_8bit", BFLOAT16, 1.015625),
        ("ademamix", BFLOAT16, 12),
        ("ademamix_8bit", BFLOAT16, 3.046875),
        ("lomo", BFLOAT16, 0),
    ],
)
def test_bytes_a_parameter(name, dtype, each):
    p = param(4096, 4096, dtype=dtype)
    assert kept(name, p) == each * p.numel


def test_embeddings_stay_in_float32_with_8_bit_states():
    """transformers trainer.py: GlobalOptimManager.register_module_override(nn.Embedding)."""
    assert kept("adamw_8bit", param(32000, 4096, kind="embedding")) == 8 * 32000 * 4096


def test_small_tensors_stay_in_float32():
    assert kept("adamw_8bit", param(4095)) == 8 * 4095
    assert kept("adamw_8bit", param(4096)) == 2 * 4096 + 2 * 4 * 16


def test_qwen_with_8_bit_adam():
    """Qwen2.5-0.5B: 136 M tied embedding in float32, 358 M in 8 bits: 1.82 GB, not 1.0."""
    embedding = kept("adamw_8bit", param(151936, 896, kind="embedding"))
    rest = kept("adamw_8bit", param(357_897_856 // 4096, 4096))
    assert embedding + rest == pytest.approx(1.82e9, rel=0.005)


def test_paged_states_are_in_managed_memory_from_100000_numbers():
    small, large = param(99_999), param(100_000)
    assert kept("paged_adamw_32bit", small) == 8 * 99_999
    assert kept("paged_adamw_32bit", large) == 0
    assert kept("paged_adamw_32bit", large, "managed") == 800_000


def test_galore_of_a_matrix():
    """The paper's 2 m r of states and n r of projector, for m >= n."""
    m, n, r = 4096, 1024, 128
    assert kept("galore_adamw", param(m, n)) == 4 * (2 * m * r + n * r)


# Bytes of a matrix [m, n] of rank r, m >= n, in float32: two averages, and the projector
@pytest.mark.parametrize(
    ("name", "states"),
    [
        ("galore_adamw", lambda m, n, r: 4 * 2 * m * r + 4 * n * r),
        ("galore_adamw_8bit", lambda m, n, r: 2 * (m * r + 4 * m * r // 256) + 4 * n * r),
        ("galore_adafactor", lambda m, n, r: 4 * (m + r) + 4 * n * r),
        ("apollo_adamw", lambda m, n, r: 4 * 2 * m * r + 4 * n * r),
    ],
)
@pytest.mark.parametrize("layerwise", [False, True])
def test_the_rank_of_a_projection_is_an_argument(name, states, layerwise):
    m, n, p = 4096, 2048, param(4096, 2048)
    made = optimizer(f"{name}_layerwise" if layerwise else name)
    for told, r in ((("rank=1024", "scale=0.25"), 1024), ((), 128)):
        o = argued(made, told, (2, 13))
        found = sum(s.dtype.size(_numel(s.shape)) for s in o.states(p))
        assert found == states(m, n, r)
        assert (o.name, o.in_backward) == (made.name, layerwise)


@pytest.mark.parametrize("given", ["rank=0", "rank=x", "fused=True"])
def test_what_is_no_argument_of_a_projection_is_refused(given):
    with pytest.raises(UsageError, match="rank=128"):
        argued(optimizer("galore_adamw"), (given,), (2, 13))


def test_muon_keeps_one_copy_of_matrices_and_adam_the_rest():
    assert kept("muon", param(64, 32)) == 4 * 64 * 32
    assert kept("muon", param(64, 32, kind="embedding")) == 8 * 64 * 32
    assert kept("muon", param(64, kind="norm")) == 8 * 64


def test_soap_leaves_out_sides_above_10000():
    assert kept("soap", param(20000, 100)) == 4 * (2 * 20000 * 100 + 2 * 100**2)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=examples(25, night=100))
@given(
    shape=st.lists(st.integers(1, 300), min_size=1, max_size=3),
    kind=st.sampled_from(["linear", "embedding", "norm", "experts"]),
    dtype=st.sampled_from([FLOAT32, BFLOAT16]),
)
def test_states_are_sizes_and_never_less_for_more(name, shape, kind, dtype):
    small = param(*shape, kind=kind, dtype=dtype)
    large = param(shape[0] * 2, *shape[1:], kind=kind, dtype=dtype)
    for where in ("device", "managed", "host"):
        assert kept(name, small, where) >= 0
    total = [sum(kept(name, p, w) for w in ("device", "managed", "host")) for p in (small, large)]
    if "bit" not in name:  # a small tensor is in float32, a large one in 8 bits
        assert total[1] >= total[0]


@all_of(("name", "first"), product(NAMES, ["model", "lm_head", "score"]))
def test_states_are_the_same_of_all_that_are_alike(name, first):
    """Whatever number of layer and expert, and whatever linear, the name tells."""
    one, other = (
        param(300, 4000, name=f"{first}.{rest}") for rest in ("layers.0.up.weight", "9.down")
    )
    states = optimizer(name).states
    assert list(states(one)) == list(states(other))


def test_names_and_their_neighbours():
    for alias, name in ALIASES.items():
        assert optimizer(alias) is ROWS[name]
    with pytest.raises(UsageError, match="adamw_8bit"):
        optimizer("adamw_8bits")
    with pytest.raises(UsageError, match="TPU"):
        optimizer("adamw_torch_xla")


def taken(name, args=(), torch=(2, 13), shapes=((1000, 64), (10, 64), (800, 64))):
    """The most that a step takes besides states, in numbers of float32."""
    m = Machine(Heap())
    params = [m.param(f"p{i}", shape, FLOAT32) for i, shape in enumerate(shapes)]
    before = m.heap.phase() and sum(m.heap._live.values())
    argued(optimizer(name), args, torch).step(m, params)
    peak = m.heap.phase()
    return (sum(peak.live.values()) - before) // 4


@all_of(
    ("name", "args", "torch", "numbers"),
    [
        ("adamw_torch", (), (2, 13), 1810 * 64),
        ("adamw_torch", (), (2, 0), 2 * 1810 * 64),
        ("adamw_torch", (), (1, 13), 2000 * 64),  # one parameter: its root and the quotient
        ("adamw_torch", ("foreach=False",), (2, 13), 2000 * 64),
        ("adamw_torch", ("fused=True",), (2, 13), 0),
        ("adamw_torch", ("foreach=None", "fused=None"), (2, 13), 1810 * 64),  # torch's choice
        ("adamw_torch", ("foreach=None",), (1, 13), 2000 * 64),
        ("adamw_torch_fused", ("fused=None",), (2, 13), 0),
        ("adam", ("fused=True",), (2, 13), 0),
        ("adam", ("weight_decay=0.01",), (2, 13), 1810 * 64),  # sums go before the root
        ("adam", ("weight_decay=0.01", "foreach=False"), (2, 13), 3000 * 64),
        ("adamw_torch", ("weight_decay=0.01", "foreach=False"), (2, 13), 2000 * 64),  # decoupled
        ("adamw_hf", (), (2, 13), 1010 * 64),  # the variable holds that of the one before
    ],
)
def test_what_a_step_of_adam_takes(name, args, torch, numbers):
    assert taken(name, args, torch) == numbers


def test_without_foreach_the_quotient_of_the_parameter_before_is_alive():
    two = taken("adamw_torch", ("foreach=False",), shapes=((1000, 64), (1000, 64)))
    assert two == 3 * 1000 * 64


def test_amsgrad_keeps_a_third_average():
    row = argued(optimizer("adamw_torch"), ("amsgrad=True",), (2, 13))
    assert [s.name for s in row.states(param(8, 8))] == ["exp_avg", "exp_avg_sq", "max_exp_avg_sq"]


@pytest.mark.parametrize(
    ("name", "args", "says"),
    [
        ("sgd", ("foreach=False",), "not of sgd"),
        ("adam", ("foreach=True", "fused=True"), "two ways"),
        ("adam", ("eps=1",), "known are foreach=True"),
        ("adam", ("weight_decay=much",), "weight_decay=0.01"),
    ],
)
def test_arguments_that_cannot_be(name, args, says):
    with pytest.raises(UsageError, match=says):
        argued(optimizer(name), args, (2, 13))


def clones(torch, **more):
    """What the autotuner's clones count as, in the phase where the optimizer steps."""
    found = api.train(
        "llama-3.2-3b", offline=True, seq_len=16, torch_version=torch, precision="bf16", **more
    )
    name = "backward" if more.get("optimizer_in_backward") else "step"
    phase = next(p for p in found.devices[0].phases if p.name == name)
    return next((c.bytes for c in phase.components if "autotuner" in c.detail), None)


@pytest.mark.slow
def test_the_first_compiled_step_clones_what_it_changes():
    """The embedding has 128,256 x 3,072 numbers of 16 bits: itself and a byte for each of two averages,
    half a byte in 4 bits. Since torch 2.7 clones may be in host memory."""
    embedding = 128_256 * 3072
    old = clones("2.5", optimizer="adamw_torch_8bit")
    assert (old.low, old.expected, old.high) == (0, 4 * embedding, 4 * embedding)
    new = clones("2.7", optimizer="adamw_torch_8bit")
    assert (new.low, new.expected, new.high) == (0, 0, 4 * embedding)
    assert clones("2.7", optimizer="adamw_torch_4bit").high == 3 * embedding
    assert clones("2.5", optimizer="adamw_torch_fused") is None
    inner = clones("2.7", optimizer="adamw_torch_8bit", optimizer_in_backward=True)
    assert inner.high == 4 * embedding


def test_arguments_come_from_the_command_line():
    found = api.train("llama-3.2-1b", offline=True, seq_len=16, optim_args="fused=True")
    assert found.workload["optim_args"] == ["fused=True"]
    step = next(p for p in found.devices[0].phases if p.name == "step")
    assert not any(c.name == "temporaries" and c.bytes.expected for c in step.components)
