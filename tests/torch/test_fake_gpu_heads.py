"""nn.MultiheadAttention: in training beside live storages on the CPU, in evaluation by hand.

The CPU is no second source for attention that is fused, in float32: its kernel lays out the result
as the query (empty_like), the memory-efficient one as batch, length, heads (attention.cu:
_efficient_attention_forward), so that a module whose sequence comes first copies it. Nor is it for
autocast, which keeps softmax in float32 on CUDA alone, nor for dropout, which CUDA does at once."""

import pytest

from tests.torch.storages import Storages

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from weighbridge.base.units import MIB  # noqa: E402
from weighbridge_lab.trace.gpu import FakeGPU  # noqa: E402

BATCH, LENGTH, WIDTH, HEADS = 8, 256, 256, 8
ROWS = BATCH * LENGTH * WIDTH * 4  # bytes: 2 MiB
SCORES = BATCH * HEADS * LENGTH * LENGTH * 4  # 16 MiB


def most(tape):
    """Return the peak without workspaces."""
    level, peak = 0, 0
    for event in tape.events:
        storage = tape.storages[abs(event) - 1]
        if storage.role != "workspace":
            level += storage.nbytes if event > 0 else -storage.nbytes
        peak = max(peak, level)
    return peak


def trained(device, weights):
    layer = nn.MultiheadAttention(WIDTH, HEADS).to(device)
    x = torch.ones(LENGTH, BATCH, WIDTH, device=device)
    where = torch.ones(LENGTH, 1, WIDTH, device=device)
    y = layer(x + where, x + where, x, need_weights=weights)[0]
    (
        y + nn.functional.gelu(nn.functional.linear(y, layer.in_proj_weight))[..., :WIDTH]
    ).sum().backward()


@pytest.mark.parametrize(("weights", "copies"), [(True, 0), (False, 1)])
def test_training_takes_what_it_takes_on_the_cpu_but_for_a_copy(weights, copies):
    with Storages() as seen:
        trained("cpu", weights)
    with FakeGPU("h100") as gpu:
        trained("cuda", weights)
    assert abs(most(gpu.tape) - seen.peak - copies * ROWS) < 0.1 * MIB


def evaluated(make, **how):
    with FakeGPU("h100") as gpu, torch.no_grad():
        layer = make().to("cuda").eval()
        loaded = gpu.tape.allocator.allocated
        x = torch.ones(BATCH, LENGTH, WIDTH, device="cuda")
        inputs = (x, x, x) if isinstance(layer, nn.MultiheadAttention) else (x,)
        layer(*inputs, **{k: v() if callable(v) else v for k, v in how.items()})
    return gpu, most(gpu.tape) - loaded - ROWS


def heads():
    return nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)


def nothing_hidden():
    return torch.zeros(BATCH, LENGTH, dtype=torch.bool, device="cuda")


@pytest.mark.parametrize(
    ("how", "nbytes"),
    [
        ({"need_weights": False}, 3 * ROWS + ROWS + ROWS),  # projections, attention, its projection
        # queries, keys, values; scores; what is attended, in rows, and projected; or the weights
        ({}, 3 * ROWS + SCORES + 2 * ROWS),
        ({"average_attn_weights": False}, 3 * ROWS + SCORES + 2 * ROWS),
        ({"key_padding_mask": nothing_hidden}, 3 * ROWS + 2 * SCORES),  # a softmax beside scores
    ],
)
def test_evaluation_is_no_single_tensor(how, nbytes):
    _, more = evaluated(heads, **how)
    assert abs(more - nbytes) < 0.1 * MIB


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_a_layer_in_evaluation_is_at_its_fullest_between_its_products(first, activation):
    def make():
        return nn.TransformerEncoderLayer(
            WIDTH, HEADS, 4 * WIDTH, activation=activation, batch_first=True, norm_first=first
        )

    _, more = evaluated(make)
    # norm first: the sum, its norm; else the norm alone; four times as wide, and what follows
    assert abs(more - (2 if first else 1) * ROWS - 4 * ROWS - ROWS) <= ROWS + 0.1 * MIB


def test_a_padded_encoder_runs_in_evaluation():
    """A card may leave out padding, in a nested tensor: all of it counts, and we say at most."""

    def make():
        layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 4 * WIDTH, batch_first=True)
        return nn.TransformerEncoder(layer, 2)

    gpu, more = evaluated(make, src_key_padding_mask=nothing_hidden)
    assert more >= 3 * ROWS + 2 * SCORES
    assert gpu.recorder.looks.most
