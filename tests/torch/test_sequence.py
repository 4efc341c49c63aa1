"""Attention in blocks of keys, beside what torch's own context parallelism allocates: its functions
run here in a group that sends nothing, as the last of the ranks, around a kernel that only makes
its outputs."""

import sys
import weakref

import pytest
import torch
import torch.distributed as dist
from torch.distributed.tensor.experimental._context_parallel import _attention as theirs
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from weighbridge.base.dtypes import BFLOAT16
from weighbridge.memory.components.activations import Heap
from weighbridge.settings import ranks as ways
from weighbridge.training.forward.machine import Machine
from weighbridge.training.forward.ops.attention import AttentionHeads
from weighbridge.training.forward.parts import sequence

LENGTH, HEADS, KEYS, WIDE = 1024, 4, 2, 64
BLOCK = 2 * 2 * LENGTH * KEYS * WIDE  # bytes of keys and values
SUMS = 4 * LENGTH * HEADS  # of float32 sums, which the closed form leaves out of what passes
WAYS = {ways.ALLGATHER: "allgather", ways.RING: "alltoall"}


class Living(TorchDispatchMode):
    """The bytes of storages that operators made and that are there. Wrappers of what is still being
    sent have storages without memory."""

    def __init__(self):
        super().__init__()
        self.sizes, self.now, self.most = {}, 0, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if "_wrap_tensor" not in str(func):
            for tensor in tree_leaves(out):
                self.made(tensor.untyped_storage())
        return out

    def made(self, storage):
        if storage._cdata not in self.sizes and storage.nbytes():
            self.sizes[storage._cdata] = storage.nbytes()
            self.now += storage.nbytes()
            self.most = max(self.most, self.now)
            weakref.finalize(storage, self.gone, storage._cdata)

    def gone(self, key):
        self.now -= self.sizes.pop(key)


def seen(query, key, value, **_):
    return torch.empty_like(query), torch.empty(1, HEADS, query.shape[2])


def turned_back(query, key, value, **_):
    return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)


@pytest.fixture
def group(request):
    ranks, way = request.param
    hook = sys.excepthook  # which torch replaces, to put the rank before each line
    dist.init_process_group("fake", store=FakeStore(), rank=ranks - 1, world_size=ranks)
    before = theirs._cp_options.rotate_method
    theirs.set_rotate_method(WAYS[way])
    yield ranks, way, dist.group.WORLD
    theirs._cp_options.rotate_method = before
    dist.destroy_process_group()
    sys.excepthook = hook


def measured(call, *args, **more):
    living = Living()
    with living:
        out = call(*args, is_causal=True, **more)
    return living.most, out


def given(heads):
    """Queries or keys, tokens before heads in memory, as linears give them."""
    return torch.empty(1, LENGTH, heads, WIDE, dtype=torch.bfloat16).transpose(1, 2)


def counted(ranks, way, what, monkeypatch):
    """The same by the closed form, with a kernel that takes nothing."""
    for name in ("flash_forward", "flash_backward"):
        monkeypatch.setattr(sequence.kernels, name, lambda *_, **__: [])
    heads = AttentionHeads(
        batch=1,
        length=LENGTH,
        seen=LENGTH,
        heads=HEADS,
        kv_heads=KEYS,
        key_dim=WIDE,
        value_dim=WIDE,
    )
    shape = (1, LENGTH, KEYS, WIDE)
    blocks = sequence.KeyBlocks(ranks, way, heads, "flash", 0.0, BFLOAT16, shape, shape)
    m = Machine(Heap())
    m.heap.phase()
    held = what(m, blocks)
    del held
    return sum(m.heap.phase().live.values())


CASES = [(ranks, way) for ranks in (2, 3, 4, 8) for way in WAYS]


@pytest.mark.parametrize("group", CASES, indirect=True)
def test_torchs_own_attention_in_blocks(group, monkeypatch):
    """What a ring sent is dropped at once here; NCCL holds it until it has arrived."""
    ranks, way, ours = group
    tensors = given(HEADS), given(KEYS), given(KEYS)
    most, (out, sums, *_) = measured(theirs._templated_ring_attention, ours, 2, seen, *tensors)
    found = counted(ranks, way, sequence._forward, monkeypatch)
    held = BLOCK if way == ways.RING and ranks > 2 else 0
    assert found - held == pytest.approx(most, abs=4 * SUMS)
    again, _ = measured(
        theirs._templated_ring_attention_backward,
        *(ours, 2, turned_back, torch.empty_like(out), "grad_out", *tensors, out, sums),
    )
    assert counted(ranks, way, sequence._backward, monkeypatch) == pytest.approx(
        again, abs=4 * SUMS
    )
