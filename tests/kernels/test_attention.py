"""Which kernel serves a call of attention, and what it takes beside its output: edges, by hand."""

from dataclasses import replace

import pytest

from tests.cases import all_of
from weighbridge.base.memory import Bytes
from weighbridge.base.units import MIB
from weighbridge.machines.accelerators.chips import Chip
from weighbridge.machines.kernels import attention, nccl
from weighbridge.machines.kernels.attention import AttentionCall, KernelShape, Tile, can

V100, T4, A100, L4, H100, B200, RTX5090 = (
    Chip(capability, 80)
    for capability in ((7, 0), (7, 5), (8, 0), (8, 9), (9, 0), (10, 0), (12, 0))
)
SHAPE = KernelShape(
    batch=2, heads=8, kv_heads=8, queries=64, keys=64, key_dim=128, value_dim=128, itemsize=2
)
PLAIN, GROUPS, FORWARD = (
    AttentionCall(),
    AttentionCall(groups=True),
    AttentionCall(differentiated=False),
)
DROPS = AttentionCall(dropout=0.1)


def wide(key_dim, value_dim=None):
    return {"key_dim": key_dim, "value_dim": key_dim if value_dim is None else value_dim}


FLOAT, GROUPED = {"itemsize": 4}, {"kv_heads": 2}


@all_of(
    ("kernel", "chip", "shape", "call", "serves"),
    [
        ("flash", A100, {}, PLAIN, True),
        ("flash", T4, {}, PLAIN, False),  # capability 8.0 or more
        ("flash", A100, FLOAT, PLAIN, False),
        ("flash", A100, {}, AttentionCall(masked=True), False),
        ("flash", A100, wide(256), PLAIN, True),
        ("flash", A100, wide(257), PLAIN, False),
        ("flash", A100, wide(192, 128), PLAIN, False),
        ("flash", A100, {"queries": 63}, PLAIN, True),
        ("flash", A100, {"queries": 63}, AttentionCall(causal=True), False),
        ("flash", A100, {}, AttentionCall(causal=True), True),
        ("flash", A100, GROUPED, PLAIN, False),
        ("flash", A100, GROUPED, GROUPS, True),
        ("flash", L4, wide(192), PLAIN, True),  # 99 KiB of shared memory a block
        ("flash", L4, wide(193), PLAIN, False),
        ("flash", L4, wide(193), FORWARD, True),
        ("flash", L4, wide(224), PLAIN, False),
        ("flash", L4, wide(225), PLAIN, True),
        ("flash", L4, wide(225), DROPS, False),
        ("flash", RTX5090, wide(224), PLAIN, False),
        ("flash", A100, wide(224), DROPS, True),
        ("flash", Chip((8, 6), 80), wide(224), PLAIN, False),
        ("efficient", T4, FLOAT, PLAIN, True),
        ("efficient", A100, {"bfloat16": True}, PLAIN, True),
        ("efficient", T4, {"bfloat16": True}, PLAIN, False),
        ("efficient", A100, {}, AttentionCall(masked=True), True),
        ("efficient", A100, {}, GROUPS, False),
        ("efficient", A100, GROUPED, PLAIN, False),
        ("efficient", A100, wide(8), PLAIN, True),  # 16 bytes
        ("efficient", A100, wide(12), PLAIN, False),
        ("efficient", A100, wide(8, 12), PLAIN, False),
        ("efficient", A100, wide(12) | FLOAT, PLAIN, True),
        ("efficient", A100, wide(6) | FLOAT, PLAIN, False),
        ("efficient", T4, wide(12), PLAIN, False),
        ("efficient", T4, wide(7) | FLOAT, PLAIN, True),  # no matrix unit for floats
        ("efficient", Chip((6, 1), 80), wide(7), PLAIN, True),
        ("cudnn", A100, {}, PLAIN, True),
        ("cudnn", T4, {}, PLAIN, False),
        ("cudnn", A100, FLOAT, PLAIN, False),
        ("cudnn", A100, wide(136), PLAIN, False),
        ("cudnn", A100, wide(128, 136), PLAIN, False),
        ("cudnn", H100, wide(256), PLAIN, True),
        ("cudnn", H100, wide(264), PLAIN, False),
        ("cudnn", B200, wide(136), PLAIN, False),
        ("cudnn", A100, wide(124), PLAIN, False),
        ("cudnn", A100, wide(120, 124), PLAIN, False),
        ("cudnn", A100, {"queries": 1}, PLAIN, False),
        ("cudnn", A100, {"queries": 2, "keys": 2}, PLAIN, True),
        ("cudnn", A100, GROUPED, PLAIN, False),
        ("cudnn", A100, GROUPED, GROUPS, True),
        ("math", T4, wide(7), AttentionCall(masked=True), True),
    ],
)
def test_kernels_that_serve_a_call(kernel, chip, shape, call, serves):
    assert can(kernel, replace(SHAPE, **shape), call, chip) == serves


@all_of(
    ("kernel", "chip", "torch", "serves"),
    [
        ("cudnn", A100, (2, 5), True),
        ("cudnn", A100, (2, 4), False),
        ("efficient", Chip((5, 0), 80), (2, 13), True),
        ("efficient", Chip((3, 7), 80), (2, 13), False),
        ("efficient", B200, (2, 6), False),
        ("efficient", B200, (2, 7), True),
        ("flash", Chip((12, 1), 80), (2, 7), True),
    ],
)
def test_releases_of_torch_that_have_a_kernel(kernel, chip, torch, serves):
    assert can(kernel, SHAPE, PLAIN, chip, torch) == serves


def test_cudnn_comes_first_on_hopper_and_blackwell_since_torch_2_10():
    since, before = ("cudnn", "flash", "efficient", "math"), ("flash", "efficient", "math", "cudnn")
    for chip in (H100, B200, Chip((10, 3), 80)):
        assert attention.order(chip, (2, 10)) == since
        assert attention.order(chip, (2, 9)) == before
    assert attention.order(RTX5090, (2, 10)) == attention.order(A100) == before


@all_of(
    ("blocks", "processors", "key_blocks", "count"),
    [
        (80, 100, 9, 1),  # four fifths of the card are busy already
        (79, 100, 9, 5),  # 395 places in 4 waves: 0.9875; 79 of 100 are too few
        (32, 216, 32, 6),
        (1, 100, 4, 4),
        (1, 3, 9, 3),
        (1, 1000, 500, 125),  # 500 / 125 keys each; 126 to 128 leave as many a split
        (1, 100, 0, 1),
    ],
)
def test_splits_of_the_keys(blocks, processors, key_blocks, count):
    assert attention.splits(blocks, processors, key_blocks) == count


@all_of(
    ("dim", "keys", "count"),
    [(64, 257, 2), (65, 129, 2), (128, 129, 2), (129, 65, 2), (64, 256, 1), (128, 128, 1)],
)
def test_keys_are_split_by_blocks_of_256_128_and_64(dim, keys, count):
    """Few heads, so that each block of keys has a split."""
    shape = replace(SHAPE, batch=1, heads=1, kv_heads=1, queries=1, keys=keys, **wide(dim))
    rows = count * 4
    found = attention.flash_forward(shape, 0.0, A100)
    assert found == ([rows, rows * attention.rounded(dim)] if count > 1 else [])


def test_heads_that_share_keys_are_queries_of_one_token():
    one = replace(SHAPE, batch=1, heads=32, kv_heads=2, queries=1, keys=4096)
    alone = replace(SHAPE, batch=1, heads=2, kv_heads=2, queries=16, keys=4096)
    assert attention.flash_forward(one, 0.0, A100) == attention.flash_forward(alone, 0.0, A100)


@all_of(("dim", "width"), [(1, 32), (32, 32), (33, 64), (192, 192), (193, 256), (256, 256)])
def test_head_dimensions_are_rounded(dim, width):
    assert attention.rounded(dim) == width


def test_backward_of_each_kernel():
    """2 x 8 heads of 64 rows, which flash rounds to 128; 80 multiprocessors over 16 heads are five
    copies of dQ where sums have an order."""
    rows = 16 * 128 * 4
    assert attention.flash_backward(SHAPE, A100) == [rows, rows * 128]
    assert attention.flash_backward(SHAPE, A100, deterministic=True) == [rows, 5 * rows * 128]
    assert attention.flash3_backward(SHAPE) == [rows, rows, rows * 128]
    grouped = replace(SHAPE, kv_heads=2, value_dim=96)
    keys = 2 * 2 * 128 * 4
    assert attention.flash3_backward(grouped)[3:] == [keys * 128, keys * 96]
    assert attention.cudnn_backward(SHAPE) == [16 * 64 * 4 * 128, 16 * 64 * 4]


def test_values_wider_than_128_are_summed_in_float32():
    assert attention.efficient_forward(SHAPE) == []
    assert attention.efficient_forward(replace(SHAPE, **FLOAT, **wide(136))) == []
    assert attention.efficient_forward(replace(SHAPE, **wide(136))) == [2 * 64 * 8 * 136 * 4]


@all_of(
    ("chip", "shape", "dropout", "tile"),
    [
        (A100, wide(32), 0, Tile(64, 64, 32)),
        (A100, wide(33), 0, Tile(64, 64, 64)),
        (A100, wide(65), 0, Tile(128, 128, 128)),
        (A100, wide(32, 65), 0, Tile(128, 128, 128)),
        (A100, wide(129), 0, Tile(128, 64, 65536)),
        (A100, wide(128) | FLOAT, 0, Tile(128, 64, 128)),
        (A100, wide(129) | FLOAT, 0, Tile(128, 64, 65536)),
        (A100, wide(32), 0.1, Tile(64, 64, 128)),
        (A100, wide(129), 0.1, Tile(128, 64, 65536)),
        (A100, wide(128) | FLOAT, 0.1, Tile(128, 64, 128)),
        (L4, wide(32), 0, Tile(64, 64, 32)),
        (L4, wide(64), 0, Tile(64, 64, 64)),
        (L4, wide(128), 0, Tile(64, 64, 128)),
        (L4, wide(129), 0, Tile(64, 64, 65536)),
    ],
)
def test_the_tile_of_efficient_backward(chip, shape, dropout, tile):
    assert attention._tile(replace(SHAPE, **shape), dropout, chip) == tile


@pytest.mark.parametrize(("deterministic", "blocks"), [(False, 3), (True, 1)])
def test_workspace_of_wide_heads(deterministic, blocks):
    """200 wide on an A100: tiles of 128 x 64; 2 blocks of 130 queries, 4 of 200 dimensions, and dK
    and dV in 64 rows of 256 each for each of 3 blocks of 150 keys, which registers cannot keep."""
    shape = replace(SHAPE, queries=130, keys=150, **wide(200))
    found = attention.efficient_backward(shape, 0.0, A100, deterministic=deterministic)
    taken = 2 * 4 * (4 + 128 * 64) + blocks * 64 * (256 + 256)
    assert found == [16 * 130 * 4, 16 * taken * 4]


# Communicators


@all_of(
    ("links", "lazy", "sharp", "mib"),
    [
        ("", False, True, (12, 48, 144)),  # 1, 2 x 2 and 4 x 3 connections of 12 MiB
        ("", True, True, (12, 24, 96)),
        ("bridge", False, True, (12, 288, 864)),
        ("bridge", True, True, (12, 144, 576)),
        ("switch", False, False, (96, 384, 1152)),
        ("switch", False, True, (96, 384 + 256, 1152 + 512)),
        ("switch", True, True, (96, 192 + 256, 768 + 512)),
        (None, False, True, (12, 288, 1152 + 512)),  # any of them
        (None, True, True, (12, 144, 768 + 512)),
    ],
)
def test_buffers_of_a_communicator(links, lazy, sharp, mib):
    assert nccl.communicator(links, lazy=lazy, sharp=sharp) == Bytes(*(n * MIB for n in mib))


def test_a_published_communicator():
    """544 MB for two of four A100 with NVLink (NCCL issue 964, 2023)."""
    found = nccl.communicator("bridge", lazy=False)
    assert found.low < 544 * MIB < found.high


@pytest.mark.parametrize("change", [{}, {"key_dim": 64, "value_dim": 64}, GROUPED], ids=repr)
def test_flash_and_cudnn_are_one_program_of_other_bytes(change):
    shape, call = replace(SHAPE, **change), replace(PLAIN, groups="kv_heads" in change)
    for chip in (A100, L4, H100, B200):
        assert attention.program(shape, call, chip) == "fused"
    flash = attention.fused(shape, call, 4096, L4)
    cudnn = attention.fused(shape, call, 4096, H100)
    assert len(flash) == len(cudnn) == 8
    assert [n for n in flash[4:] if n] == attention.flash_backward(shape, L4)
    assert [n for n in cudnn[4:] if n] == attention.cudnn_backward(shape)
    assert (flash[0], flash[3]) == (16, 4096)  # two numbers of state, and a copy
    assert cudnn[:4] == [8, 0, 0, 0]
    assert [n for n in flash[1:3] if n] == attention.flash_forward(shape, 0.0, L4)


def test_keys_that_are_split_are_among_the_bytes():
    one = replace(SHAPE, batch=1, heads=1, kv_heads=1, keys=4096, queries=64)
    call = replace(PLAIN, causal=False)
    assert attention.fused(one, call, 0, L4)[1:3] == attention.flash_forward(one, 0.0, L4) != []


@pytest.mark.parametrize(
    ("chip", "shape", "call", "kernel"),
    [
        (T4, {}, PLAIN, "efficient"),
        (H100, {}, AttentionCall(masked=True), "cudnn"),  # flash's has no mask
        (A100, wide(100), PLAIN, "flash"),  # and fills heads up, which cuDNN's does not
        (A100, FLOAT, PLAIN, "efficient"),
    ],
)
def test_what_only_one_of_them_does_is_a_program_of_its_own(chip, shape, call, kernel):
    assert attention.program(replace(SHAPE, **shape), call, chip) == kernel
