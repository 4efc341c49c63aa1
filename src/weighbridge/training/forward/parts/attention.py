"""Attention of one layer: its heads, its window, its mask, and the kernel that runs.

    sdpa    the first kernel that can (kernels/attention.py)
    eager   scores written out
    flash   flash-attention 2; 3 with sinks, which it neither saves nor gives a gradient

transformers passes grouped heads to sdpa if there is no mask (integrations/sdpa_attention.py,
use_gqa_in_sdpa) and otherwise copies keys and values for all heads.

Source: flash-attention hopper/flash_attn_interface.py (FlashAttnFunc), as
kernels-community/vllm-flash-attn3 has it; transformers 5.23 models/gpt_oss/modeling_gpt_oss.py
(_compatible_flash_implementations).
"""

from functools import partial
from typing import Any

from weighbridge.base.dtypes import BOOL, FLOAT32
from weighbridge.base.errors import UsageError
from weighbridge.base.records import replace
from weighbridge.base.sentences import sentence
from weighbridge.engines.transformers.rules import TOLD_OF_SEVERAL, rules
from weighbridge.machines.kernels import attention as kernels
from weighbridge.models.arch.mixers import Attention, Latent
from weighbridge.settings.ranks import ULYSSES
from weighbridge.training.forward.machine import Grads, Machine, Needs, lower, record
from weighbridge.training.forward.ops.attention import (
    AttentionHeads,
    AttentionOptions,
    FusedCall,
    cudnn,
    eager,
    efficient,
    flash,
    fused,
    math,
)
from weighbridge.training.forward.ops.shaping import copied, expand, first, repeat, turned
from weighbridge.training.forward.parts import sequence
from weighbridge.training.forward.step import TrainingStep
from weighbridge.training.forward.tensors import Computed, Tensor

Masks = dict[int | None, Tensor | None]  # window, None for all tokens -> mask


def heads(s: TrainingStep, number: int) -> AttentionHeads:
    """Return the sizes of the first attention in layer `number`."""
    mixer = next(x for x in s.built.body.blocks[number].mixers if isinstance(x, Attention))
    return AttentionHeads(
        batch=s.batch,
        length=s.length,
        seen=s.seen,
        heads=mixer.heads,
        kv_heads=mixer.kv_heads,
        key_dim=mixer.key_dim,
        value_dim=mixer.value_dim,
    )


def window(s: TrainingStep, number: int) -> int | None:
    mixers = (x for x in s.built.body.blocks[number].mixers if isinstance(x, Attention))
    return next((x.reach for x in mixers), None)


def windows(s: TrainingStep) -> set[int | None]:
    return {window(s, i) for i in range(len(s.built.layers))}


def mask(s: TrainingStep, reach: int | None, *, always: bool = False) -> Tensor | None:
    """Return the attention mask, [batch, 1, length, seen]. SDPA gets none if nothing is padded, no
    prefix comes before the tokens and the window covers them, else one bool mask. Eager attention
    gets one mask in the model's dtype. FlashAttention 2 never gets one, nor do ranks that share a
    sequence (accelerate big_modeling.py, _attach_context_parallel_hooks; DeepSpeed's
    UlyssesSPDataLoaderAdapter hands out positions instead)."""
    m, whole = s.m, (s.batch, 1, s.length, s.seen)
    if s.kernel in ("flash", "flex"):
        return None
    if s.kernel == "eager":
        return m.new(whole, s.dtype)
    if s.sequence_by:
        return None
    if s.padded:
        return m.new(whole, BOOL)
    if (reach is None or s.length < reach) and s.prefix is None and not always:
        return None
    return m.new((1, *whole[1:]), BOOL).view(*whole)


def written_out(s: TrainingStep) -> None:
    """Set attention to eager for classes that write it out. Raises UsageError for others."""
    if s.kernel not in (None, "eager"):
        raise UsageError(sentence("eager_alone", kernel=s.kernel, kind=s.built.kind))
    s.kernel = "eager"


# ---- kernels


def attend(
    s: TrainingStep, q: Tensor, k: Tensor, v: Tensor, heads: AttentionHeads, **more: Any
) -> Tensor:
    """Return attention's output, [batch, length, heads, value_dim]; arguments as for `attended`."""
    return attended(s, q, k, v, heads, **more)[0]


def attended(
    s: TrainingStep,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    heads: AttentionHeads,
    kernel: str | None = None,
    **more: Any,
) -> tuple[Tensor, Tensor | None]:
    """Return (output [batch, length, heads, value_dim], weights), the latter only from eager
    attention, which returns them to its layer. `more` has fields of `AttentionOptions`."""
    m, kernel = s.m, kernel or s.kernel or "sdpa"
    how = AttentionOptions(**more, cached=s.prefix is not None)
    if s.prefix is not None:
        k, v = s.prefix.before(m, k, v)
    if how.p and not m.training:
        how = replace(how, p=0.0)
    if kernel == "eager":
        q, k, v = _views(m, q, k, v, views=how.views)
        return eager(m, q, k, v, heads, how)
    if s.sequence_by and heads.length == heads.seen == s.length:
        return _attend_among_ranks(s, (q, k, v), heads, how, kernel), None
    return _attend_by_kernel(s, (q, k, v), heads, how, kernel), None


def _attend_by_kernel(
    s: TrainingStep,
    tensors: tuple[Tensor, Tensor, Tensor],
    heads: AttentionHeads,
    options: AttentionOptions,
    kernel: str,
) -> Tensor:
    """Return the output of attention to this rank's tokens, by the kernel that is set or that torch
    chooses."""
    m = s.m
    if kernel in ("flash", "flex") and options.sinks is not None:
        return flash3(m, *tensors, heads)
    q, k, v, heads, options = _laid_out(s, tensors, heads, options, kernel)
    if kernel == "sdpa":
        kernel, options = _chosen_kernel(s, lower(m, q), heads, options)
    if kernel == "math":
        q, k, v = _views(m, q, k, v, views=options.views)
    return KERNELS[kernel](m, q, k, v, heads, options)


def _chosen_kernel(
    s: TrainingStep, q: Tensor, heads: AttentionHeads, options: AttentionOptions
) -> tuple[str, AttentionOptions]:
    """Return the name of the kernel that torch chooses on this GPU, and the options extended by the
    facts that decide it."""
    asked = FusedCall(call_of(s, heads, options), s.torch)
    kernel = s.m.ask(kernels.program, heads.shape(q.dtype), asked.call, torch=asked.torch)
    return kernel, replace(options, asked=asked)


def _attend_among_ranks(
    s: TrainingStep,
    tensors: tuple[Tensor, Tensor, Tensor],
    heads: AttentionHeads,
    options: AttentionOptions,
    kernel: str,
) -> Tensor:
    """Return the output of attention to the tokens of all context-parallel ranks. Each block needs
    a kernel that returns its sums: if torch would choose math, the memory-efficient one."""
    m = s.m
    if s.sequence_by == ULYSSES:
        attends = partial(_attend_by_kernel, s, kernel=kernel)
        return sequence.ulysses(m, s.sequence_ranks, tensors, heads, options, attends)
    q, k, v, heads, options = _laid_out(s, tensors, heads, options, kernel)
    q, k, v = lower(m, q), lower(m, k), lower(m, v)
    if kernel == "sdpa":
        kernel, options = _chosen_kernel(s, q, heads, options)
    blocks = sequence.KeyBlocks(
        ranks=s.sequence_ranks,
        way=s.sequence_by,
        heads=heads,
        kernel="efficient" if kernel == "math" else kernel,
        dropout=options.p,
        dtype=q.dtype,
        key=k.shape,
        value=v.shape,
    )
    return sequence.in_blocks(m, (q, k, v), blocks, options)


def _laid_out(
    s: TrainingStep,
    tensors: tuple[Tensor, Tensor, Tensor],
    heads: AttentionHeads,
    options: AttentionOptions,
    kernel: str,
) -> tuple[Tensor, Tensor, Tensor, AttentionHeads, AttentionOptions]:
    """Return queries, keys, values, sizes and options in the kernel's layout. Up to 4.54
    transformers gave sdpa repeated heads, and all tensors contiguous."""
    m, (q, k, v) = s.m, tensors
    repeats = copies = False
    if s.transformers < (5, 0):
        known = rules(s.transformers, s.built.kind)
        repeats = known.flash_repeats if kernel == "flash" else known.sdpa_repeats
        copies = known.sdpa_copies and kernel != "flash"
    shares = heads.key_dim == heads.value_dim <= kernels.FLASH_MOST and kernel != "efficient"
    whole = options.mask is None and shares and not repeats
    if heads.groups > 1 and not whole and not options.shared:
        k = _for_all(m, k, heads, heads.key_dim)
        v = _for_all(m, v if heads.kv_heads == 1 else turned(m, v), heads, heads.value_dim)
        heads = heads.repeated
    elif copies:
        k, v = copied(m, k), first(m, v)
    if copies:
        q, options = copied(m, q), replace(options, first=True)
    return q, k, v, heads, options


def _told_of_groups(s: TrainingStep, options: AttentionOptions) -> bool:
    """Return whether sdpa is called with enable_gqa though each query head has its own keys and
    values, as in some versions for classes that count groups."""
    if options.mask is not None or s.transformers >= TOLD_OF_SEVERAL:
        return False
    latent = any(isinstance(x, Latent) for b in s.built.body.blocks for x in b.mixers)
    counts = latent or s.built.config.get("num_key_value_heads") is not None
    return counts and rules(s.transformers, s.built.kind).groups_told


def _for_all(m: Machine, x: Tensor, heads: AttentionHeads, width: int) -> Tensor:
    """Return keys or values repeated for all query heads (repeat_kv); a view if there is one KV
    head."""
    shape = heads.batch, heads.seen, heads.heads, width
    return expand(m, x, *shape) if heads.kv_heads == 1 else repeat(m, x, heads.groups, shape)


KERNELS = {"flash": flash, "efficient": efficient, "cudnn": cudnn, "fused": fused, "math": math}


def _views(
    m: Machine, q: Tensor, k: Tensor, v: Tensor, *, views: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return views whose gradients are copied, since products return them with heads first."""
    if views:
        q, k = turned(m, q), turned(m, k)
    return q, k, turned(m, v)


def call_of(
    s: TrainingStep, heads: AttentionHeads, options: AttentionOptions
) -> kernels.AttentionCall:
    """Return the facts that decide, besides shapes, which kernel torch takes."""
    return kernels.AttentionCall(
        masked=options.mask is not None,
        causal=options.causal,
        dropout=options.p,
        groups=heads.groups > 1
        or _told_of_groups(s, options),  # otherwise they were copied for all heads
        differentiated=s.m.grad,
    )


# ---- flash-attention 3


def flash3(m: Machine, q: Tensor, k: Tensor, v: Tensor, heads: AttentionHeads) -> Tensor:
    """Return flash-attention 3's output, with tokens before heads, whatever the queries' layout."""
    q, k, v = lower(m, q), lower(m, k), lower(m, v)
    out = m.result("attention", heads.outputs, q.dtype)
    sums = m.result("attention", (heads.batch, heads.heads, heads.length), FLOAT32)
    shapes = q.shape, k.shape, v.shape
    asked = heads.shape(q.dtype)

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        gradients = [m.new(shape, saved[0].dtype) for shape in shapes]
        m.hidden(*kernels.flash3_backward(asked))
        return gradients

    record(m, back, [q, k, v], [q, k, v, Computed(out.shape, out.dtype, out.storage), sums], out)
    return out
