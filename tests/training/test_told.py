"""What a training answer says beside its bytes, by hand: lines of sharding, intervals, masks."""

from collections import Counter
from itertools import islice
from types import SimpleNamespace

import pytest

from tests.cases import all_of
from weighbridge.base.dtypes import BFLOAT16, BOOL, FLOAT32
from weighbridge.base.memory import Bytes, exactly
from weighbridge.base.units import KIB, MIB
from weighbridge.memory.components.activations import Heap, LivePeak
from weighbridge.memory.components.device import cached
from weighbridge.training import phases, scripts
from weighbridge.training.forward.machine import Machine
from weighbridge.training.forward.nets import litgpt, torchtune, unsloth
from weighbridge.training.forward.parts.attention import mask
from weighbridge.training.litgpt import packed
from weighbridge.training.sharding import fsdp1, zero
from weighbridge.training.sharding.numbers import Sharding
from weighbridge.training.sharding.zero import ZeroSizes

# Lines (training_args.py of transformers 5.23: fsdp, fsdp_config, deepspeed)


@all_of(
    ("shard", "offload", "efficient", "said"),
    [
        ("none", "none", True, []),
        ("ddp", "none", True, []),
        ("fsdp2", "none", False, ["fsdp=True", 'fsdp_config={"version": 2}']),
        (
            "fsdp2",
            "params",
            False,
            ["fsdp=True", 'fsdp_config={"version": 2, "cpu_offload": True}'],
        ),
        (
            *("fsdp2", "none", True),
            ["fsdp=True", 'fsdp_config={"version": 2, "cpu_ram_efficient_loading": True}'],
        ),
    ],
)
def test_how_a_line_shares_a_model_out(shard, offload, efficient, said):
    told = {"shard": shard, "offload": offload, "cpu_ram_efficient_loading": efficient}
    assert list(scripts._shards(SimpleNamespace(settings=told, zero=False))) == said


@pytest.mark.parametrize(
    ("shard", "offload", "share"),
    [
        ("zero1", "none", {"stage": 1}),
        ("zero2", "optimizer", {"stage": 2, "offload_optimizer": {"device": "cpu"}}),
        (
            *("zero3", "params"),
            {
                "stage": 3,
                "stage3_prefetch_bucket_size": "auto",
                "stage3_param_persistence_threshold": "auto",
                "offload_optimizer": {"device": "cpu"},
                "offload_param": {"device": "cpu"},
            },
        ),
    ],
)
def test_a_configuration_of_deepspeed(shard, offload, share):
    settings = {"shard": shard, "offload": offload}
    asked = SimpleNamespace(zero_pin_memory=None, gather_on_save=None)
    made = scripts._deepspeed(SimpleNamespace(settings=settings, asked=asked))
    assert made["zero_optimization"] == {"reduce_bucket_size": "auto", **share}
    asked = SimpleNamespace(zero_pin_memory=False, gather_on_save=True)
    loose = scripts._deepspeed(SimpleNamespace(settings=settings, asked=asked))
    for name, kept in loose["zero_optimization"].items():
        if name.startswith("offload_"):
            assert kept == {"device": "cpu", "pin_memory": False}
    gathers = "stage3_gather_16bit_weights_on_model_save"
    assert loose["zero_optimization"].get(gathers) is (True if shard == "zero3" else None)
    assert made["bf16"] == made["fp16"] == {"enabled": "auto"}
    assert made["train_batch_size"] == made["gradient_accumulation_steps"] == "auto"


# Intervals


def test_gathered_parameters_may_take_a_fifth_more():
    """Of the fullest phase, in each."""
    moments = {
        name: LivePeak(live={}, allocated=nbytes, reserved=nbytes)
        for name, nbytes in (("forward", 400), ("backward", 1000), ("save", 10))
    }
    assert phases._pieces(SimpleNamespace(moments=moments)).bytes == Bytes(0, 0, 200)


def plan(kind, *, said=None, framework="trainer", hidden=1000, overlaps=False):
    sizes = {} if said is None else {"reduce": said}
    return SimpleNamespace(
        sharding=SimpleNamespace(kind=kind),
        zero=SimpleNamespace(sizes=sizes, overlaps=overlaps),
        framework=SimpleNamespace(name=framework),
        computing=BFLOAT16,
        subject=SimpleNamespace(body=SimpleNamespace(hidden=hidden)),
    )


@all_of(
    ("asked", "name", "more"),
    [
        # 5e8 numbers of DeepSpeed's default in place of hidden x hidden of "auto", in 16 bits
        (plan("zero1"), "backward", [2 * (500_000_000 - 1_000_000)]),
        (plan("zero2"), "backward", [2 * (500_000_000 - 1_000_000)]),
        (plan("zero2", hidden=22_360), "backward", [2 * (500_000_000 - 22_360**2)]),
        (plan("zero2", hidden=22_361), "backward", []),  # "auto" is more
        (plan("zero2"), "step", []),
        (plan("zero3"), "backward", []),
        (plan("zero2", said=7), "backward", []),
        (plan("zero2", overlaps=True), "backward", []),
        (plan("zero2", framework="deepspeed"), "backward", []),
    ],
)
def test_buckets_that_a_configuration_may_have(asked, name, more):
    assert [c.bytes for c in phases._other_buckets(asked, name)] == [Bytes(0, 0, n) for n in more]


def test_sizes_that_the_trainer_fills_in():
    """transformers integrations/deepspeed.py (trainer_config_finalize), of 1,000 wide."""
    found = ZeroSizes.auto(1000)
    assert (found.reduce, found.prefetch, found.persistent) == (1_000_000, 900_000, 10_000)
    assert (found.live, found.sub_group) == (10**9, 10**9)


@pytest.mark.parametrize(("reserved", "free"), [(1000, 0), (999, 0), (1001, 1)])
def test_what_is_free_in_segments(reserved, free):
    found = SimpleNamespace(reserved={"load": reserved}, bounded=False)
    peak = LivePeak(live={}, allocated=1000, reserved=0)
    rounding, room = islice(phases._components(plan("none"), found, "load", peak), 2)
    assert (rounding.name, rounding.bytes) == ("rounding", exactly(1000))
    assert (room.name, room.bytes) == ("fragmentation", cached(free))


# Masks (transformers 5.23 masking_utils.py)


class Tensor(tuple):
    def view(self, *shape):
        return Tensor((*self, shape))


@all_of(
    ("how", "reach", "always", "made"),
    [
        ({"kernel": "flash", "padded": True}, None, True, None),
        ({"kernel": "eager"}, None, False, ((3, 1, 8, 8), FLOAT32)),
        ({"padded": True}, None, False, ((3, 1, 8, 8), BOOL)),
        ({"padded": True, "sequence_by": "ulysses"}, 8, True, None),
        ({}, None, False, None),
        ({}, 9, False, None),  # a window that covers the length
        # one for all sequences
        ({}, 8, False, ((1, 1, 8, 8), BOOL, (3, 1, 8, 8))),
        ({}, None, True, ((1, 1, 8, 8), BOOL, (3, 1, 8, 8))),
        # two tokens before the others
        ({"seen": 10, "prefix": True}, 9, False, ((1, 1, 8, 10), BOOL, (3, 1, 8, 10))),
        ({"seen": 10, "prefix": True, "kernel": "eager"}, 9, False, ((3, 1, 8, 10), FLOAT32)),
    ],
)
def test_masks_of_three_sequences_of_eight(how, reach, always, made):
    m = SimpleNamespace(new=lambda shape, dtype: Tensor((shape, dtype)))
    s = SimpleNamespace(
        **{
            "m": m,
            "batch": 3,
            "length": 8,
            "seen": 8,
            "prefix": None,
            "kernel": None,
            "padded": False,
            "sequence_by": "",
            "dtype": FLOAT32,
            **how,
        }
    )
    assert mask(s, reach, always=always) == made


# Unsloth


@pytest.mark.parametrize(
    ("nbytes", "way", "there"),
    [(2 * MIB, "offload", False), (2 * MIB + 1, "offload", True), (9 * MIB, "full", False)],
)
def test_inputs_of_more_than_2_mib_are_offloaded(monkeypatch, nbytes, way, there):
    """unsloth_zoo gradient_checkpointing.py (MINIMUM_SIZE)"""
    x = SimpleNamespace(nbytes=nbytes, shape=(1,), dtype=BFLOAT16)
    monkeypatch.setattr(unsloth, "embedding", lambda *a: x)
    monkeypatch.setattr(unsloth, "entered", lambda s, x: x)
    monkeypatch.setattr(unsloth, "norm", lambda *a: x)
    base = SimpleNamespace(weight=lambda n: None, first=lambda *n: None)
    built = SimpleNamespace(base=base, layers=(), kept={})
    s = SimpleNamespace(
        m=SimpleNamespace(new=lambda *a: a), built=built, batch=1, length=1, checkpointing=way
    )
    assert unsloth.forward(s) is x
    assert bool(built.kept) is there


# ZeRO


@pytest.mark.parametrize(
    ("offload", "parts", "nbytes"),
    [("none", [12, 8], 512), ("none", [1024, 8], 1024), ("optimizer", [12], 0), ("none", [], 0)],
)
def test_gradients_of_the_first_group_are_there_before_its_step(offload, parts, nbytes):
    """DeepSpeed stage3.py: of the first group of a rank, on the device where it is stepped there."""
    leaves = [SimpleNamespace(nbytes=n) for n in parts]
    rank = SimpleNamespace(how=SimpleNamespace(offload=offload), _parts=leaves)
    heap = Heap()
    held = zero.Zero.starting(rank, SimpleNamespace(heap=heap))
    assert heap.allocator.allocated == nbytes
    assert (held is None) is (nbytes == 0)


@all_of(
    ("sizes", "most"),
    [
        ([100, 148, 10], 258),  # one bucket: two are less than 250
        ([100, 150, 10], 250),  # the last is alone, and goes as it is
        ([100, 150, 10, 20], 250 + 30),  # two at once
        ([100, 150, 10, 240, 10, 240], 250 + 250),  # the first is done before the third is made
        ([300, 300], 0),
        ([], 0),
    ],
)
def test_parameters_are_spread_in_buckets(sizes, most):
    """torch distributed/utils.py: _sync_params_and_buffers; csrc/distributed/c10d/comm.cpp:
    broadcast_coalesced has two buckets in flight."""
    heap = Heap()
    fsdp1.FlatShard._spread(None, SimpleNamespace(heap=heap), [n * MIB for n in sizes])
    assert heap.phase().allocated == most * MIB
    assert heap.allocator.allocated == 0


@all_of(
    ("kind", "data", "context", "shares"),
    [
        ("fsdp2", 16, 1, 16),
        ("fsdp2", 8, 4, 32),  # ranks of a sequence hold the same, and count
        ("hsdp", 16, 2, 4),  # within a node, which tensor ranks share
        ("hsdp", 4, 1, 4),
        ("zero3", 16, 1, 16),
    ],
)
def test_ranks_that_share_a_model_out(kind, data, context, shares):
    found = Sharding(kind=kind, data=data, tensor=2, pipeline=3, context=context)
    assert found.shares == shares
    assert found.cards == 6 * data * context


# LitGPT


@pytest.mark.parametrize(
    ("form", "shape", "sizes"),
    [
        ("nf4", (128, 256), [16_384, 4 * 512]),
        ("nf4-dq", (128, 256), [16_384, 512, 4 * 2]),
        ("nf4-dq", (64, 300), [9600, 300, 4 * 2]),  # 1.17 blocks of blocks
        ("nf4-dq", (4096, 4096), [8 << 20, 1 << 18, 4 << 10]),
    ],
)
def test_a_matrix_in_four_bits(form, shape, sizes):
    """bitsandbytes: codes; a scale in float32 for 64 numbers, or a byte, and a scale for 256."""
    assert list(packed(shape, form)) == sizes


@pytest.mark.parametrize(("tokens", "pieces"), [(127, [127]), (128, [128]), (300, [128, 128, 44])])
def test_logits_of_litgpt_are_in_chunks_of_128_tokens(monkeypatch, tokens, pieces):
    """litgpt utils.py (chunked_cross_entropy), where the head is not chunked: of all rows."""
    found = []
    m = Machine(Heap())
    monkeypatch.setattr(
        litgpt, "cross_entropy", lambda m, x, targets: (found.append(x.shape), x.view(x.numel))[1]
    )
    monkeypatch.setattr(litgpt, "add", lambda m, total, one: total)
    monkeypatch.setattr(litgpt, "_head", lambda s, root, x: x)
    s = SimpleNamespace(
        m=m, batch=1, length=tokens, built=SimpleNamespace(root=None, kept={}), held=[]
    )
    litgpt.pretraining(s, m.new((1, tokens, 10), FLOAT32))
    assert found == [(n, 10) for n in pieces]


@pytest.mark.parametrize(
    ("kind", "release", "shifts", "floats"),
    [
        ("llama", None, 1, 2),  # eps is added; input and weight are cast
        ("gemma", None, 2, 2),  # and one to the weight (add_unit_offset)
        ("llama", (0, 3), 1, 1),
        ("gemma", (0, 3), 2, 1),
        ("gemma", (0, 4), 2, 2),
    ],
)
def test_norms_of_litgpt(monkeypatch, kind, release, shifts, floats):
    """litgpt/model.py (RMSNorm): the weight is in float32 since 0.4."""
    found = Counter()
    for name in ("shift", "cast"):
        own = getattr(litgpt, name)

        def counted(m, x, *rest, own=own, name=name):
            found[name, *rest] += 1
            return own(m, x, *rest)

        monkeypatch.setattr(litgpt, name, counted)
    m = Machine(Heap())
    weight = m.param("ln_f.weight", (64,), BFLOAT16, trainable=True)
    p = SimpleNamespace(weight=lambda name: weight, bias=lambda name: None)
    s = SimpleNamespace(m=m, built=SimpleNamespace(kind=kind), release=release)
    x = m.new((1, 8, 64), BFLOAT16)
    assert litgpt.norm(s, x, p, "ln_f").dtype == BFLOAT16
    assert (found["shift",], found["cast", FLOAT32]) == (shifts, floats)


@pytest.mark.parametrize(
    ("before", "after", "kib"),
    [
        (1024, 512, 128 + 64),  # reduced: what went in is copied whole
        (512, 1024, 128 + 128),  # gathered: what comes out is
        (512, 512, 64 + 64),
    ],
)
def test_a_collective_copies_the_longer_side(before, after, kib):
    """Tokens of 64 numbers in 16 bits, between layers of ranks that share them."""
    m = Machine(Heap())
    x = m.new((1, before, 64), BFLOAT16)
    taken = m.heap.allocator.allocated
    out = torchtune._one(m, x, (1, after, 64))
    assert out.shape == (1, after, 64)
    assert m.heap.most - taken == kib * KIB
    assert m.heap.allocator.allocated - taken == after * 64 * 2


@pytest.mark.parametrize(("turned", "own"), [(64, True), (16, False)])
def test_the_turned_part_of_a_head_of_litgpt(turned, own):
    m = Machine(Heap())
    x, cos = m.new((1, 4, 32, 64), BFLOAT16), m.new((1, 32, turned), BFLOAT16)
    found = litgpt._first(m, x, cos)
    assert (found is x) is own
    assert found.shape == (1, 4, 32, turned)
