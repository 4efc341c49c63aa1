"""Memory of kernels beside their outputs: by hand, laws, and that each fact stands once."""

import ast
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tools.syntax import nodes

from weighbridge import train
from weighbridge.base.units import MIB
from weighbridge.machines.accelerators.chips import CAPABILITIES, Chip
from weighbridge.machines.accelerators.names import find
from weighbridge.machines.kernels import attention, reductions, workspaces

SOURCE = Path(__file__).parents[2] / "src" / "weighbridge"
A100, L4, H100 = (find(name).part.chip for name in ("a100-80gb", "l4", "h100"))
SHAPE = attention.KernelShape(
    batch=1, heads=32, kv_heads=8, queries=8192, keys=8192, key_dim=128, value_dim=128, itemsize=2
)
CALL = attention.AttentionCall(groups=True)


def test_flash_backward():
    """32 heads x 8,192 rows: a float32 a row, dQ in float32, dK and dV of every query head."""
    row = 32 * 8192 * 4
    whole = 8192 * 32 * 128 * 2
    assert attention.flash_backward(SHAPE, A100) == [row, row * 128, whole, whole]


def test_flash_splits_the_keys_of_a_single_query():
    """One token, 32 heads on 108 multiprocessors: 6 splits fill 192 of 216 places."""
    one = replace(SHAPE, kv_heads=32, queries=1, keys=4096)
    rows = 6 * 32 * 4
    assert attention.flash_forward(one, 0.0, A100) == [rows, rows * 128]
    assert attention.flash_forward(one, 0.1, A100) == []
    assert attention.flash_forward(SHAPE, 0.0, A100) == []


@pytest.mark.slow
@given(st.integers(1, 2000), st.integers(1, 400), st.integers(1, 300))
def test_splits_never_exceed_what_there_is(blocks, processors, key_blocks):
    n = attention.splits(blocks, processors, key_blocks)
    assert 1 <= n <= min(128, processors, key_blocks)
    if blocks >= 0.8 * processors:
        assert n == 1


def test_efficient_backward_by_shared_memory():
    """64 queries, D 128: a tile of 128 x 128 on an A100, two rows of 64 x 64 on an L4, whose
    registers cannot keep dK and dV."""
    s = replace(SHAPE, kv_heads=32, queries=64, keys=64)
    assert attention.efficient_backward(s, 0.0, A100)[1] == 32 * 4 * (4 + 128 * 128)
    assert attention.efficient_backward(s, 0.0, L4)[1] == 32 * 4 * (2 * (4 + 64 * 64) + 64 * 256)


def test_heads_beyond_every_tile_have_the_widest():
    wide, narrow = (replace(SHAPE, key_dim=1 << n) for n in (31, 16))
    assert attention._tile(wide, 0.0, A100) == attention._tile(narrow, 0.0, A100)
    assert attention._tile(wide, 0.0, L4) == attention._tile(narrow, 0.0, L4)


def test_capability_8_7_has_large_tiles():
    """163 KiB of shared memory a block (CUDA C++ programming guide)."""
    orin = Chip((8, 7), 16)
    assert orin.shared_memory == 163 * 1024
    assert attention.efficient_backward(SHAPE, 0.0, orin) == attention.efficient_backward(
        SHAPE, 0.0, A100
    )


@pytest.mark.parametrize(
    ("chip", "torch", "first"),
    [(H100, (2, 13), "cudnn"), (H100, (2, 9), "flash"), (A100, (2, 13), "flash")],
)
def test_the_order_of_kernels(chip, torch, first):
    assert attention.order(chip, torch)[0] == first
    assert attention.can(first, SHAPE, CALL, chip, torch)


def test_flash_is_not_made_for_blackwell_before_torch_2_7():
    blackwell = find("b200").part.chip
    assert not attention.can("flash", SHAPE, CALL, blackwell, (2, 6))
    assert attention.can("flash", SHAPE, CALL, blackwell, (2, 7))


def test_the_sum_of_a_bias_gradient():
    """8,192 x 768 on an A100: w 32, v 4, c 128."""
    r = reductions.columns(8192, 768)
    assert reductions.buffers(r, 4, A100) == [4 * 768 * 128 * 32 * 4, 4 * 6]
    assert 48 * MIB == 4 * 768 * 128 * 32 * 4
    assert reductions.buffers(reductions.columns(255, 768), 4, A100) == []


def test_an_embedding_gradient():
    """8,192 ids, 50,257 rows: 8,192 segments and 9,011 partial sums."""
    assert not reductions.sorts(3072)
    assert reductions.sorts(3073)
    assert reductions.sorted_bytes(8192, 8) == [65_536, 65_536]
    assert reductions.segments(8192, 8, 50_257, 4 * 768) == [
        65_536,
        65_536,
        65_536,
        9_011 * 8,
        9_011 * 768 * 4,
    ]


@pytest.mark.parametrize(
    ("major", "torch", "nbytes"),
    [
        (8, (2, 13), 8_519_680),
        (9, (2, 5), 32 * MIB),
        (10, (2, 10), 8_519_680),
        (12, (2, 11), 32 * MIB),
    ],
)
def test_workspaces_of_cublas(major, torch, nbytes):
    assert workspaces.product(major, torch) == nbytes


def test_a_rearranged_convolution():
    """x 2 x 3 x 32 x 32, w 8 x 3 x 3 x 3 in float16: both, the output, and 512 bytes; in float32
    the output on Hopper alone."""
    read, output = 2 * (2 * 3 * 32 * 32 + 8 * 27), 2 * 2 * 8 * 30 * 30
    hopper, ada, turing = (find(name).part.chip for name in ("h100", "4090", "t4"))
    for chip in (hopper, ada):
        assert workspaces.convolution(read, output, half=True, chip=chip) == [read + output + 512]
    wide = [workspaces.convolution(read, output, half=False, chip=chip) for chip in (hopper, ada)]
    assert wide == [[read + output + 512], [read + 512]]
    most = 8 << 30
    assert workspaces.convolution(most, 0, half=True, chip=hopper) == [most + 512]
    assert workspaces.convolution(most + 1, 0, half=True, chip=hopper) == [0]
    assert workspaces.tensor_cores(turing, half=True, float16=True)
    assert not workspaces.tensor_cores(turing, half=True, float16=False)


@pytest.mark.slow
def test_training_reads_the_cards_own_multiprocessors():
    """OPT-125M, 8 x 512: sums of biases' gradients meet in buffers that follow the processors; an
    RTX 4060 has 24, an RTX 4090 of the same capability 128."""

    def backward(gpu):
        report = train("opt-125m", batch_size=8, seq_len=512, gpu=gpu)
        [phase] = [p for p in report.devices[0].phases if p.name == "backward"]
        return sum(c.bytes.expected for c in phase.components if c.level == "allocated")

    assert backward("rtx 4060") < backward("rtx 4090")


# What decides a kernel's memory, as torch's sources name it; each is written down in one module.
DECIDING = (
    "num_splits_heuristic",
    "priority_order",
    "setReduceConfig",
    "embedding_backward_cuda_kernel",
    "parseChosenWorkspaceSize",
    "Technical Specifications per Compute Capability",
)


@pytest.mark.slow
@pytest.mark.parametrize("name", DECIDING)
def test_each_kernel_rule_is_written_once(name):
    places = [p for p in SOURCE.rglob("*.py") if name in re.sub(r"\s+", " ", p.read_text())]
    assert len(places) == 1, places


# Buffers and kernels of vLLM by capability, and torch's preference of cuDNN, are no facts of cards.
BY_CAPABILITY = {
    "machines/accelerators/chips.py",
    "machines/kernels/attention.py",
    "machines/kernels/workspaces.py",
    "engines/servers/communication.py",
    "engines/vllm/outside_torch.py",
}


def capabilities_in(text):
    """Literals that list two compute capabilities or more."""
    for node in nodes(text, ast.Dict, ast.List, ast.Set, ast.Tuple):
        entries = node.keys if isinstance(node, ast.Dict) else node.elts
        if sum(_capability(e) for e in entries) > 1:
            yield ast.unparse(node)


def _capability(node):
    if node is None:
        return False
    try:
        value = ast.literal_eval(node)
    except ValueError:
        return False
    if isinstance(value, str) and re.fullmatch(r"\d+\.\d", value):
        value = tuple(map(int, value.split(".")))
    return value in list(CAPABILITIES)


@pytest.mark.slow
@pytest.mark.house
def test_no_second_table_of_compute_capabilities():
    found = {
        str(path.relative_to(SOURCE)): list(capabilities_in(path.read_text()))
        for path in SOURCE.rglob("*.py")
        if str(path.relative_to(SOURCE)) not in BY_CAPABILITY
    }
    assert {path: lists for path, lists in found.items() if lists} == {}


def test_the_table_test_can_fail():
    assert list(capabilities_in("LINKED = ((8, 0), (9, 0))"))
    assert list(capabilities_in('LINKED = frozenset({"9.0", "10.0"})'))
    assert not list(capabilities_in("CHANGES = ((0, 26), (0, 27))"))
