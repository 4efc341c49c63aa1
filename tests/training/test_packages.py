"""Kernels of packages for layers that are no attention: what is kept, who has them, what is said."""

import pytest

import weighbridge
from weighbridge.base.dtypes import BFLOAT16, FLOAT32
from weighbridge.base.errors import UnsupportedError, UsageError
from weighbridge.machines.accelerators.chips import Chip
from weighbridge.memory.components.counted import CountedHeap
from weighbridge.training.forward.machine import Machine
from weighbridge.training.forward.modules import Module
from weighbridge.training.forward.nets import installed
from weighbridge.training.forward.nets.delta import Delta, DeltaInputs
from weighbridge.training.forward.nets.split_scan import Scan, rows, split_scan, splits
from weighbridge.training.forward.tensors import LeafTensor

QWEN, LFM, LLAMA = "qwen3.5-9b", "lfm2-1.2b", "llama-3.2-1b"
NEMOTRON = "nemotron-nano-9b-v2"
H100 = Chip(capability=(9, 0), multiprocessors=132)


def lora(model, **more):
    asked = {"method": "lora", "seq_len": 512, "checkpointing": "none"}
    return weighbridge.train(model, **{**asked, **more})


def leaf(m, *shape, dtype=BFLOAT16):
    made = m.new(shape, dtype)
    return LeafTensor("x", made.shape, dtype, made.storage)


def test_what_fla_keeps_of_a_delta_rule():
    """Take 2 x 128 tokens, 2 heads of keys and 4 of values, 64 and 128 wide. Kept are normed queries
    and keys with a number a head, values, decays, betas and a row of 64 numbers of each head."""
    m = Machine(CountedHeap())
    lead, delta = (
        (2, 128),
        Delta(batch=2, length=128, key_heads=2, heads=4, key_dim=64, value_dim=128),
    )
    given = DeltaInputs(
        leaf(m, *lead, 2, 64),
        leaf(m, *lead, 2, 64),
        leaf(m, *lead, 4, 128),
        leaf(m, *lead, 4, dtype=FLOAT32),
        leaf(m, *lead, 4),
    )
    before = m.heap.live("activations")
    out = installed.delta_rule(m, given, delta)
    kept = m.heap.live("activations") - before - out.nbytes
    token = 2 * (2 * 64 * 2 + 2 * 4) + 4 * 128 * 2 + 4 * 4 + 4 * 64 * 2
    assert kept == 256 * token
    assert out.shape == (2, 128, 4, 128)


def test_what_mamba_ssm_keeps_of_a_layer():
    """Take 2 x 300 tokens in chunks of 256, 4 heads of 64, 2 groups, 16 states, 128 hidden. Kept
    are the scan's output and a number a token and group of its norm: what the function reads is
    there already. What a chunk has of states, two chunks a sequence, is gone."""
    m = Machine(CountedHeap())
    scan = Scan(batch=2, length=300, chunk=256, heads=4, dim=64, groups=2, states=16)
    width = 2 * 256 + 2 * 2 * 16 + 4
    shapes = {
        "conv1d.weight": (256 + 64, 1, 4),
        "conv1d.bias": (256 + 64,),
        "norm.weight": (256,),
        "dt_bias": (4,),
        "D": (4,),
        "out_proj.weight": (128, 256),
    }
    part = Module({name: leaf(m, *shape) for name, shape in shapes.items()}, {})
    given, a = leaf(m, 2, 300, width), leaf(m, 4, dtype=FLOAT32)
    before = m.heap.live("activations")
    out = split_scan(m, part, given, a, scan)
    assert out.shape == (2, 300, 128)
    kept = m.heap.live("activations") - before - out.nbytes
    assert kept == 2 * 300 * (256 * 2 + 2 * 4)


@pytest.mark.parametrize(
    ("programs", "together", "expected"),
    # 132 multiprocessors: 8 chunks x 64 heads are 4 each, of 8 heads a group two sums; at most one
    # a head, at least one
    [(512, 8, 2), (100, 8, 8), (10**6, 8, 1)],
)
def test_sums_side_by_side(programs, together, expected):
    assert splits(programs, together, H100) == expected


def test_programs_that_norm():
    """1,024 numbers of a group are 4 warps: a program each of 132. 512 are 2: twice as many."""
    assert rows(1024, 1, 2, H100) == 132
    assert rows(512, 1, 2, H100) == 264
    assert rows(1024, 8, 2, H100) == 17
    assert rows(1 << 20, 1, 2, H100) == 132  # no row is wider than 64 KiB


@pytest.mark.slow
def test_kernels_never_keep_more():
    for model in (QWEN, LFM, NEMOTRON):
        missing, there = (
            lora(model, kernels=k).derived["saved_activation_bytes"]
            for k in ("missing", "installed")
        )
        assert there < missing
    assert lora(QWEN).derived == lora(QWEN, kernels="missing").derived


@pytest.mark.slow
def test_what_is_not_known_to_be_installed_is_said():
    line = "counted without fla and causal-conv1d, which takes more"
    assert any(w.startswith(line) for w in lora(QWEN).warnings)
    assert not any("counted without" in w for w in lora(QWEN, kernels="missing").warnings)
    assert not any("counted without" in w for w in lora(QWEN, kernels="installed").warnings)
    assert not any("counted without" in w for w in lora(LLAMA).warnings)
    assert any(
        w.startswith("counted without mamba-ssm and causal-conv1d, which takes more: with")
        for w in lora("mamba-130m").warnings
    )


@pytest.mark.slow
def test_installing_them_is_a_remedy():
    assert lora(LFM).workload["kernels"] == "missing"
    report = lora(QWEN, gpu="h100", seq_len=6144)
    assert report.verdict.fits == "no"
    assert {"kernels": "installed"} in [r.change for r in report.remedies]


@pytest.mark.parametrize(
    ("model", "asked", "kind", "line"),
    [
        (LLAMA, {}, UsageError, "llama has neither state spaces nor delta nets"),
        ("mamba-130m", {}, UnsupportedError, "is modelled for gated delta nets, Mamba-2 and"),
        (NEMOTRON, {"method": "qlora"}, UnsupportedError, "on a base in nf4: mamba-ssm multiplies"),
        (QWEN, {"framework": "torchtitan", "method": "full"}, UnsupportedError, "class of its own"),
    ],
)
def test_who_has_none_is_refused_in_a_line(model, asked, kind, line):
    with pytest.raises(kind, match=line):
        lora(model, kernels="installed", **asked)


@pytest.mark.slow
def test_kernels_of_older_releases_are_counted_as_those_that_were_followed():
    """They may keep less: half of it is the low end, and that is said."""
    old, new = (
        lora(QWEN, kernels="installed", engine_version=v, gpu="h100") for v in ("5.10", "5.17")
    )
    assert old.workload["kernels"] == "installed"
    assert any("older releases were not followed" in said for said in old.warnings)
    assert not any("older releases" in said for said in new.warnings)
    assert old.devices[0].peak("allocated").low < new.devices[0].peak("allocated").low
