"""What kernels take besides their outputs: each rule by hand, and laws."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from weighbridge_lab.trace import guard
from weighbridge_lab.trace.attention import Chooser, SdpaCall
from weighbridge_lab.trace.card import card
from weighbridge_lab.trace.gpu import FakeGPU
from weighbridge_lab.trace.hidden import RULES, reductions

pytestmark = pytest.mark.skipif(bool(guard.why_not()), reason=guard.why_not())
MIB = 1 << 20
A100, L4, T4, H100 = (card(name)[0] for name in ("a100-80gb", "l4", "t4", "h100"))


def hidden(gpu, op):
    return [s.nbytes for s in gpu.tape.storages if s.op == f"within aten.{op}"]


def test_every_rule_has_a_source():
    assert all(rule.source and rule.ops for rule in RULES)


def qkv(heads=32, keys=32, length=1024, dim=128, dtype=torch.bfloat16, grad=True):
    """Make queries, keys and values as models do: heads are a view of what a projection
    returned."""
    shapes = ((1, length, heads, dim), (1, length, keys, dim), (1, length, keys, dim))
    made = [torch.empty(s, dtype=dtype, device="cuda", requires_grad=grad) for s in shapes]
    return [t.transpose(1, 2) for t in made]


def attend(q, k, v, **kwargs):
    return nn.functional.scaled_dot_product_attention(q, k, v, **kwargs)


def test_flash_attention_backward():
    """B1 S8192 H32 D128: 134 MB of dQ in float32, and dK, dV of every query head."""
    with FakeGPU("a100-80gb") as gpu:
        q, k, v = qkv(keys=8, length=8192)
        out = attend(q, k, v, is_causal=True, enable_gqa=True)
        out.backward(torch.empty_like(out))
    assert hidden(gpu, "_scaled_dot_product_flash_attention_backward") == [
        32 * 8192 * 4,
        8192 * 32 * 128 * 4,
        8192 * 32 * 128 * 2,
        8192 * 32 * 128 * 2,
    ]


def test_flash_attention_backward_copies_what_has_gaps():
    """Heads first in memory: the gradient and the output are rearranged."""
    with FakeGPU("a100-80gb") as gpu:
        q = torch.empty(1, 4, 128, 64, dtype=torch.bfloat16, device="cuda", requires_grad=True)
        out = attend(q, q, q)
        out.backward(torch.empty_like(out))
    copy = 4 * 128 * 64 * 2
    assert hidden(gpu, "_scaled_dot_product_flash_attention_backward")[:2] == [copy, copy]


def test_flash_attention_splits_the_keys_of_a_single_query():
    """One token, 32 heads on 108 multiprocessors: ceil(4096 / 128) = 32 blocks of keys; 27 splits
    would leave no more waves than ceil(32 * n / 216) = 1 allows: n = 6 fills 192 of 216."""
    with FakeGPU("a100-80gb") as gpu, torch.no_grad():
        q = torch.empty(1, 32, 1, 128, dtype=torch.bfloat16, device="cuda")
        k = torch.empty(1, 32, 4096, 128, dtype=torch.bfloat16, device="cuda")
        attend(q, k, k)
    rows = 6 * 32 * 4
    assert hidden(gpu, "_scaled_dot_product_flash_attention") == [rows, rows * 128]


def test_efficient_attention_backward():
    """Half types, D 64 fit registers: delta, and tiles of 64 x 64 and 4 words for dQ."""
    with FakeGPU("a100-80gb") as gpu:
        q, k, v = qkv(heads=16, keys=16, length=512, dim=64)
        mask = torch.zeros(1, 1, 512, 512, dtype=torch.bfloat16, device="cuda")
        out = attend(q, k, v, attn_mask=mask)
        out.backward(torch.empty_like(out))
    assert hidden(gpu, "_scaled_dot_product_efficient_attention_backward") == [
        16 * 512 * 4,
        16 * (512 // 64) * (4 + 64 * 64) * 4,
    ]


def test_efficient_attention_in_float32_sums_first():
    with FakeGPU("t4", torch_version="2.5") as gpu:
        q, k, v = qkv(heads=4, keys=4, length=128, dim=64, dtype=torch.float32)
        out = attend(q, k, v)
        out.backward(torch.empty_like(out))
    product = 4 * 128 * 64 * 4
    assert hidden(gpu, "_scaled_dot_product_efficient_attention_backward") == [
        product,
        4 * 128 * 4,
        4 * (128 // 64) * (4 + 64 * 64) * 4,
    ]


def padded(gpu):
    return [s.nbytes for s in gpu.tape.storages if s.op == "aten.constant_pad_nd.default"]


@pytest.mark.parametrize(("keys", "wide"), [(80, None), (72, 80), (100, 112)])
def test_a_mask_is_as_wide_as_a_load_of_16_of_its_numbers(keys, wide):
    """attention.cpp: mem_eff_alignment is 16, and pad_bias copies a mask whose keys are no multiple
    of it. 72 is one of 8: 128 rows of 80 numbers of 2 bytes."""
    with FakeGPU("a100-80gb") as gpu, torch.no_grad():
        q = torch.empty(1, 2, 128, 64, dtype=torch.bfloat16, device="cuda")
        k = torch.empty(1, 2, keys, 64, dtype=torch.bfloat16, device="cuda")
        attend(q, k, k, attn_mask=torch.zeros(128, keys, dtype=torch.bfloat16, device="cuda"))
    assert padded(gpu) == ([128 * wide * 2] if wide else [])


@pytest.mark.parametrize(("dim", "wide"), [(72, None), (60, 64), (100, 104)])
def test_heads_of_flash_attention_are_multiples_of_8(dim, wide):
    """attention.cpp: pad_last_dim<8> copies queries, keys and values, and the output is cut again."""
    with FakeGPU("a100-80gb") as gpu, torch.no_grad():
        q, k, v = qkv(heads=2, keys=2, length=128, dim=dim)
        assert attend(q, k, v).shape == (1, 2, 128, dim)
    assert padded(gpu) == ([2 * 128 * wide * 2] * 3 if wide else [])


def choose(on, version, **kwargs):
    given = {"heads": 8, "keys": 8, "length": 64, "dim": 64, "dtype": torch.bfloat16, "grad": False}
    shape = {k: kwargs.pop(k, v) for k, v in given.items()}
    with FakeGPU("a100-80gb"):
        q, k, v = qkv(**shape)
        if by := kwargs.pop("masked", False):
            mask = torch.zeros(1, 1, 64, 64, dtype=torch.bool, device="cuda")
            kwargs["mask"] = mask.mT if by == "columns" else mask
        return Chooser(on, version).choose(SdpaCall(query=q, key=k, value=v, **kwargs))


@pytest.mark.parametrize(
    ("on", "version", "kwargs", "kernel"),
    [
        (A100, (2, 5), {}, "flash"),
        (A100, (2, 5), {"dtype": torch.float32}, "efficient"),
        (A100, (2, 5), {"masked": True}, "efficient"),
        (A100, (2, 5), {"masked": "columns"}, "math"),
        (A100, (2, 5), {"keys": 2, "gqa": True}, "flash"),
        (A100, (2, 5), {"keys": 2, "gqa": True, "masked": True}, "math"),
        (A100, (2, 5), {"dim": 288}, "efficient"),
        (A100, (2, 5), {"dim": 60, "dtype": torch.float32}, "efficient"),
        (A100, (2, 5), {"dim": 63, "dtype": torch.float32}, "math"),
        (A100, (2, 5), {"dtype": torch.float64}, "math"),
        (L4, (2, 5), {"dim": 200, "grad": True}, "efficient"),
        (L4, (2, 5), {"dim": 200}, "flash"),
        (T4, (2, 5), {"dtype": torch.float16}, "efficient"),
        (T4, (2, 5), {}, "math"),
        (H100, (2, 9), {}, "flash"),
        (H100, (2, 10), {}, "cudnn"),
        (H100, (2, 10), {"keys": 2, "gqa": True, "masked": True}, "cudnn"),
        (H100, (2, 10), {"dtype": torch.float32}, "efficient"),
    ],
)
def test_the_kernel_that_a_card_takes(on, version, kwargs, kernel):
    assert choose(on, version, **dict(kwargs)) == kernel


def test_the_program_s_own_choice_is_honoured():
    from torch.nn.attention import SDPBackend, sdpa_kernel

    with sdpa_kernel(SDPBackend.MATH):
        assert choose(A100, (2, 5)) == "math"


def test_autocast_reaches_attention():
    with FakeGPU("a100-80gb") as gpu, torch.autocast("cuda", torch.bfloat16):
        q, k, v = qkv(dtype=torch.float32)
        assert attend(q, k, v).dtype == torch.bfloat16
    assert any("flash_attention" in s.op for s in gpu.tape.storages)


def test_inference_mode_takes_the_same_kernel():
    with FakeGPU("a100-80gb") as gpu, torch.inference_mode():
        attend(*qkv(grad=False))
    assert any("flash_attention" in s.op for s in gpu.tape.storages)


def embedded(tokens, rows=128_256, columns=64):
    with FakeGPU("a100-80gb") as gpu:
        table = nn.Embedding(rows, columns, device="cuda", dtype=torch.bfloat16)
        ids = torch.randint(0, rows, (1, tokens), device="cuda")
        out = table(ids)
        out.backward(torch.empty_like(out))
    return hidden(gpu, "embedding_dense_backward")


def test_embedding_backward_of_few_tokens_takes_nothing():
    assert embedded(3072) == []


def test_embedding_backward_sorts_above():
    """Room for a partial sum of every ten ids and of every row that can be used: 307 + 3,073
    (EmbeddingBackwardKernel.cu, max_partial_segment)."""
    n, i, columns, partial = 3073, 8, 64, 3380
    sorting = [n * i, 2 * n * i, n * i, n * i]
    assert embedded(n) == [*sorting, *[n * i] * 3, partial * i, partial * columns * 4]


@settings(max_examples=8, deadline=None)
@given(st.integers(3073, 20_000), st.integers(2, 200_000))
def test_there_is_room_for_the_most_partial_sums(tokens, rows):
    taken = embedded(tokens, rows=rows, columns=2)
    assert taken[-1] // (2 * 4) == tokens // 10 + min(tokens, rows)


def test_convolution_workspaces_that_were_measured():
    """FakeGPU's measurements, cuDNN 9.10 to 9.20: x + w + 512 in TF32, x + w + y in bfloat16."""

    def conv(dtype, **kwargs):
        with FakeGPU("a100-80gb") as gpu, torch.no_grad():
            layer = nn.Conv2d(16, 32, 3, padding=1, bias=False, device="cuda", dtype=dtype)
            layer(torch.empty(2, 16, 64, 64, device="cuda", dtype=dtype).to(**kwargs))
        return hidden(gpu, "convolution")

    x, w, y = 2 * 16 * 64 * 64, 32 * 16 * 9, 2 * 32 * 64 * 64
    before = torch.backends.cudnn.allow_tf32
    assert before
    assert conv(torch.float32) == [4 * (x + w) + 512]
    assert conv(torch.bfloat16) == [2 * (x + w + y) + 512]
    assert conv(torch.bfloat16, memory_format=torch.channels_last) == []


def test_foreach_norm_has_one_partial_sum_a_chunk():
    """8B Llama: 291 tensors, the largest of 525,336,576: 291 x 8,016 x 4."""
    with FakeGPU("a100-80gb") as gpu:
        tensors = [torch.empty(10, device="cuda") for _ in range(290)]
        tensors.append(torch.empty(525_336_576, device="cuda", dtype=torch.bfloat16))
        torch._foreach_norm(tensors)
    assert hidden(gpu, "_foreach_norm") == [291 * 8016 * 4]


def test_products_copy_what_blas_cannot_read():
    with FakeGPU("a100-80gb") as gpu:
        a = torch.empty(64, 64, device="cuda")
        _ = a @ a.t()
        assert hidden(gpu, "mm") == []
        _ = a.expand(2, 64, 64)[:, :, ::2].transpose(0, 1)[0] @ a[:32]
        _ = a[:, :1].expand(64, 64) @ a
    assert hidden(gpu, "mm")[-1] == 64 * 64 * 4


def test_what_goes_to_the_host_is_converted_on_the_device():
    with FakeGPU("a100-80gb") as gpu:
        x = torch.empty(1000, 1000, device="cuda", dtype=torch.bfloat16)
        x.cpu()
        x.to("cpu", torch.float32)
        torch.empty(1000, 1000).copy_(x)
        torch.empty(1000, 1000, dtype=torch.float16).to("cuda", torch.float32)
    assert hidden(gpu, "_to_copy") == [4_000_000]
    assert hidden(gpu, "copy_") == [4_000_000]


def test_light_workspaces_by_version():
    """cuBLASLt: 1 MiB for each call, then kept in each thread, then that of cuBLAS."""

    def of(version):
        with FakeGPU("a100-80gb", torch_version=version) as gpu, torch.no_grad():
            layer = nn.Linear(8, 8, device="cuda")
            layer(layer(torch.empty(2, 8, device="cuda")))
        names = [s.op for s in gpu.tape.storages if s.nbytes == MIB]
        return len(names)

    assert [of(v) for v in ("2.5", "2.9", "2.13")] == [2, 1, 0]


def test_cublas_config_is_read(monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8:16:8")
    with FakeGPU("a100-80gb", torch_version="2.13") as gpu, torch.no_grad():
        _ = torch.empty(8, 8, device="cuda") @ torch.empty(8, 8, device="cuda")
    assert [s.nbytes for s in gpu.tape.storages if s.role == "workspace"] == [
        (4096 * 8 + 16 * 8) * 1024
    ]


@pytest.mark.parametrize(
    ("name", "version", "nbytes"),
    [
        ("a100-80gb", "2.13", 8_519_680),
        ("h100", "2.5", 33_554_432),
        ("b200", "2.10", 8_519_680),
        ("b200", "2.11", 33_554_432),
        ("rtx 5090", "2.12", 33_554_432),
    ],
)
def test_cublas_workspaces_by_card(name, version, nbytes):
    with FakeGPU(name, torch_version=version) as gpu, torch.no_grad():
        _ = torch.empty(8, 8, device="cuda") @ torch.empty(8, 8, device="cuda")
    assert [s.nbytes for s in gpu.tape.storages if s.role == "workspace"] == [nbytes]


def test_dropout_keeps_a_mask_of_bytes():
    with FakeGPU("a100-80gb") as gpu:
        x = torch.empty(1000, 1000, device="cuda", requires_grad=True)
        y = nn.functional.dropout(x, 0.1)
    made = [(s.op, s.nbytes) for s in gpu.tape.storages if s.op.startswith("aten.native_dropout")]
    assert made == [("aten.native_dropout.default", n) for n in (4_000_000, 1_000_000)]
    del y


@pytest.mark.parametrize("act", [nn.functional.silu, nn.functional.mish, nn.functional.gelu])
def test_activations_are_one_kernel_in_backward(act):
    with FakeGPU("a100-80gb") as gpu:
        x = torch.empty(1000, 1000, device="cuda", requires_grad=True)
        y = act(x)
        y.backward(torch.empty_like(y))
    assert [s.op for s in gpu.tape.storages if s.phase == "backward"] == [
        f"aten.{act.__name__}_backward.default"
    ]


def reduced(shape, call, op="sum", dtype=torch.float32, name="a100-80gb"):
    with FakeGPU(name) as gpu:
        call(torch.empty(shape, dtype=dtype, device="cuda"))
    return hidden(gpu, op)


def test_sums_of_columns_meet_in_memory():
    """768 columns of 8,192: 4 a thread, so 192 / 32 = 6 rows of blocks of 32 x 4 threads; a thread
    would add 2,048 values. 108 x 16 blocks run at once, 288 for each row; 2048 / 16 = 128 are enough."""
    assert reduced((8192, 768), lambda t: t.sum(0)) == [4 * 768 * 128 * 32 * 4, 4 * 6]
    assert reduced((8192, 768), lambda t: t.sum(0), dtype=torch.bfloat16) == [
        4 * 768 * 128 * 32 * 4,
        4 * 6,
    ]
    assert reduced((8, 1024, 768), lambda t: t.sum((0, 1))) == [4 * 768 * 128 * 32 * 4, 4 * 6]
    assert reduced((512, 768), lambda t: t.sum(0)) == []  # 128 values a thread


def test_a_published_configuration_of_a_sum():
    """16 x 128 x 64 x 128 over the second: 128 inputs in 4 steps need no second block."""
    assert reduced((16, 128, 64, 128), lambda t: t.sum(1)) == []


def test_sums_of_everything_meet_in_little_memory():
    """2^20 values by 512 threads: 2,048 each, 16 at least: 128 blocks."""
    assert reduced((1 << 20,), lambda t: t.sum()) == [128 * 4, 4]
    assert reduced((1024, 1024), lambda t: t.mean(), op="mean") == [128 * 4, 4]
    assert reduced((100_000,), lambda t: t.sum()) == []  # 196 each


def test_rows_are_summed_within_a_block():
    """768 / 4 by 128 threads, two values each."""
    assert reduced((8192, 768), lambda t: t.sum(-1)) == []
    assert reduced((2, 1 << 22), lambda t: t.sum(-1), name="t4")[0] > 0


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 1 << 16), st.integers(1, 1 << 12))
def test_a_buffer_holds_every_output_of_every_block(rows, columns):
    taken = reductions.buffers(reductions.Axes([(rows, columns)], [(columns, 1)]), 4, A100)
    assert taken == [] or (taken[0] % (4 * columns) == 0 and taken[0] >= 2 * 4 * columns)
