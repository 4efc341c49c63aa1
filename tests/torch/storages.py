"""The bytes of tensors that a real step keeps alive, by storage: an oracle for peaks.

Every result of an operation is followed from the moment it exists until its storage goes. What a
kernel uses inside is not seen, and CPU kernels have other insides than those of a GPU: attention
is replaced by a stand-in that makes what the flash kernel returns.
"""

import weakref
from contextlib import contextmanager
from unittest.mock import patch

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from weighbridge.machines.accelerators.chips import ASSUMED
from weighbridge.machines.kernels.attention import KernelShape, efficient_forward, flash_forward


class Storages(TorchDispatchMode):
    """`live` and `peak` are of what was made inside; what was there before does not count."""

    def __init__(self, *before):
        super().__init__()
        self.live = self.peak = 0
        self.known = {}
        self.trace = None
        for t in before:
            self.known[t.untyped_storage()._cdata] = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for t in tree_iter(out):
            if isinstance(t, torch.Tensor):
                self.add(t.untyped_storage(), func)
        return out

    def add(self, storage, func):
        key = storage._cdata
        if key in self.known:
            return
        size = storage.nbytes()
        self.known[key] = size
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self.gone, key)
        if self.trace is not None:
            self.trace.append((self.live, size, str(func)))

    def gone(self, key):
        self.live -= self.known.pop(key, 0)

    def phase(self):
        """The peak since the last call."""
        found, self.peak = self.peak, self.live
        return found


def flash(q, k, v, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False):
    """Makes what the kernel makes, on an A100; the values are nobody's concern."""
    split = [torch.empty(n, dtype=torch.uint8) for n in _accumulated(q, k, v, attn_mask)]
    sums = torch.empty(q.shape[:3], dtype=torch.float32)
    mask = (
        attn_mask.to(q.dtype) if attn_mask is not None and attn_mask.dtype == torch.bool else None
    )
    made = torch.empty(q.shape[0], q.shape[2], q.shape[1], v.shape[-1], dtype=q.dtype)
    del sums, mask, split
    return made.transpose(1, 2)


def _accumulated(q, k, v, mask):
    """Bytes of what is summed up in float32, where keys are split."""
    shape = KernelShape(
        batch=q.shape[0],
        heads=q.shape[1],
        kv_heads=k.shape[1],
        queries=q.shape[2],
        keys=k.shape[2],
        key_dim=q.shape[3],
        value_dim=v.shape[3],
        itemsize=q.itemsize,
    )
    return efficient_forward(shape) if mask is not None else flash_forward(shape, 0.0, ASSUMED)


@contextmanager
def watched(model):
    """Steps of `model` inside are followed."""
    held = [*model.parameters(), *model.buffers()]
    with (
        patch("torch.nn.functional.scaled_dot_product_attention", flash),
        torch.no_grad(),
        Storages(*held) as seen,
    ):
        yield seen
