"""What a layer's attention sees: its heads, how far back it reaches, and the mask."""

from weighbridge.arch.mixers import Attention
from weighbridge.autograd.ops.attention import Heads
from weighbridge.autograd.tensors import Tensor
from weighbridge.dtypes import BOOL
from weighbridge.errors import UsageError
from weighbridge.training.step import Step

Masks = dict[int | None, Tensor | None]  # by how many tokens back are seen


def heads(s: Step, number: int) -> Heads:
    """Return the heads of the first attention in layer `number`."""
    found = next(x for x in s.built.body.blocks[number].mixers if isinstance(x, Attention))
    return Heads(
        batch=s.batch,
        length=s.length,
        seen=s.length,
        heads=found.heads,
        kv_heads=found.kv_heads,
        key_dim=found.key_dim,
        value_dim=found.value_dim,
    )


def window(s: Step, number: int) -> int | None:
    found = (x for x in s.built.body.blocks[number].mixers if isinstance(x, Attention))
    return next((x.reach for x in found), None)


def windows(s: Step) -> set[int | None]:
    return {window(s, i) for i in range(len(s.built.layers))}


def mask(s: Step, reach: int | None, *, always: bool = False) -> Tensor | None:
    """Make the attention masks, each [batch, 1, length, length]. SDPA gets none if nothing is
    padded and the window covers the length, else one bool mask. Eager attention gets one mask in
    the model's dtype. FlashAttention 2 never gets one."""
    m, whole = s.m, (s.batch, 1, s.length, s.length)
    if s.kernel == "flash":
        return None
    if s.kernel == "eager":
        return m.new(whole, s.dtype)
    if s.padded:
        return m.new(whole, BOOL)
    if (reach is None or s.length < reach) and not always:
        return None
    return m.new((1, *whole[1:]), BOOL).view(*whole)


def written_out(s: Step) -> None:
    """Set attention to eager for classes that write it out; other kernels raise UsageError."""
    if s.kernel not in (None, "eager"):
        raise UsageError(
            f"--attention {s.kernel}: {s.built.kind} is known with eager attention alone; leave it "
            "out"
        )
    s.kernel = "eager"
