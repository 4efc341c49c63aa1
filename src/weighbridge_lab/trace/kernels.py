"""Operations that torch would do otherwise with fake tensors than the card does.

    scaled_dot_product_attention   by the kernel that the card takes (attention.py)
    silu_backward and others       whole: a CPU wheel lacks their kernels and takes them apart
    lstm, gru, rnn                 one operation of cuDNN (recurrent.py)
    ctc_loss                       with lengths as lists: CUDA fetches those of tensors
    packed sequences               lengths are in a tensor on the host, and torch reads them

Registered for CUDA tensors above autograd and below autocast, and only while a fake GPU stands in.

Rules of shapes stand before torch's own fake kernels where those refuse to say, or ask the driver:

    _grouped_mm            types beside bfloat16 too: CUDA then makes one product a group into the
                           output (aten/src/ATen/native/cuda/GroupedBlas.cpp)
    _use_cudnn_ctc_loss    no: cuDNN takes targets and lengths on the host alone, float32 and blank
                           0 (aten/src/ATen/native/cudnn/LossCTC.cpp); no MIOpen
    _ctc_loss              losses, and the sums over paths: (batch, time, 2 x longest target + 1)
                           (aten/src/ATen/native/cuda/LossCTC.cu)
    _sample_dirichlet      as their first argument, and so do the gradients of draws
    and others             (aten/src/ATen/native/cuda/Distributions.cpp)
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import _meta_registrations as meta
from torch._subclasses import fake_impls
from torch._subclasses.fake_tensor import unset_fake_temporarily

from weighbridge_lab.trace import recurrent
from weighbridge_lab.trace.attention import Chooser, SdpaCall, attend
from weighbridge_lab.trace.layers import layers
from weighbridge_lab.trace.shadows import shadow

aten = torch.ops.aten
WHOLE = ("silu_backward", "mish_backward", "native_channel_shuffle", "_fused_rms_norm")
ELEMENTWISE = (aten.mse_loss.default, aten.smooth_l1_loss.default)
MEAN, SUM = 1, 2  # at::Reduction


@contextmanager
def registered(
    chooser: Chooser, at_most: Callable[[], object] = lambda: None
) -> Iterator[dict[Any, Callable[..., Any]]]:
    """Register the kernels inside the block. Yield functions for operations that arrive undivided
    in inference mode. `at_most` is called for an operation that takes more here than on a card."""
    attention = _attention(chooser)
    library = torch.library.Library("aten", "IMPL")
    library.impl("scaled_dot_product_attention", attention, "AutogradCUDA")
    for name in WHOLE:
        if not torch._C._dispatch_has_kernel_for_dispatch_key(f"aten::{name}", "CUDA"):
            library.impl(name, _never, "CUDA")
    recurrences = {
        (name, overload): recurrent.layer(name, overload, at_most)
        for name in recurrent.KINDS
        for overload in ("input", "data")
    }
    for (name, overload), kernel in recurrences.items():
        library.impl(f"{name}.{overload}", kernel, "AutogradCUDA")
    for key in ("AutogradCUDA", "AutogradCPU"):
        library.impl("ctc_loss.Tensor", _ctc, key)
        library.impl("ctc_loss.IntList", _ctc, key)
        library.impl("_pad_packed_sequence", padded, key)
    try:
        with shaped():
            whole = {aten.scaled_dot_product_attention.default: attention}
            losses = dict.fromkeys(ELEMENTWISE, _loss)
            packing = {aten._pack_padded_sequence.default: packed}
            undivided = {
                getattr(getattr(aten, name), overload): kernel
                for (name, overload), kernel in recurrences.items()
            }
            yield whole | packing | losses | undivided | layers() | recurrent.kernels()
    finally:
        library._destroy()


def _loss(
    first: torch.Tensor, second: torch.Tensor, reduction: int = MEAN, *_: Any, **__: Any
) -> torch.Tensor:
    """Return a loss as in aten/src/ATen/native/Loss.cpp. Its single element stays in a storage made
    for all elements (TORCH_META_FUNC resizes it), which are computed in another one."""
    shape = torch.broadcast_shapes(first.shape, second.shape)
    out = first.new_empty(shape, dtype=torch.result_type(first, second))
    if not reduction:
        return out
    each = torch.empty_like(out)
    del each
    return out.resize_(())


def _attention(chooser: Chooser) -> Callable[..., torch.Tensor]:
    def attention(  # noqa: PLR0913  torch's own arguments
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attn_mask: torch.Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        *,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> torch.Tensor:
        call = SdpaCall(
            query=query,
            key=key,
            value=value,
            mask=attn_mask,
            dropout=dropout_p,
            causal=is_causal,
            scale=scale,
            gqa=enable_gqa,
        )
        return attend(chooser, call)

    return attention


def _never(*_: Any, **__: Any) -> None:
    raise AssertionError("a fake tensor never comes to a kernel of the device")


def _ctc(  # noqa: PLR0913  torch's own arguments
    log_probs: torch.Tensor,
    targets: torch.Tensor,
    inputs: Any,
    lengths: Any,
    blank: int = 0,
    reduction: int = MEAN,
    zero_infinity: bool = False,
) -> torch.Tensor:
    """Return a CTC loss as in aten/src/ATen/native/LossCTC.cpp: lengths are copied to the host and
    read. If they are unknown, the full time and the full targets count."""
    longest = targets.shape[-1] // (1 if targets.dim() > 1 else max(len(lengths), 1))
    times, sizes = _lengths(inputs, log_probs.shape[0]), _lengths(lengths, longest)
    moved = targets.to(log_probs.device, torch.long)
    out: torch.Tensor = aten._ctc_loss(log_probs, moved, times, sizes, blank, zero_infinity)[0]
    if zero_infinity:
        out = torch.where(
            out == torch.inf, torch.zeros((), dtype=out.dtype, device=out.device), out
        )
    if reduction == MEAN:
        return (out / torch.tensor(sizes, dtype=out.dtype, device=out.device).clamp_min(1)).mean()
    return out.sum() if reduction == SUM else out


def _lengths(lengths: Any, otherwise: int) -> list[int]:
    if not isinstance(lengths, torch.Tensor):
        return list(lengths)
    known = shadow(lengths)
    if known is None:
        return [otherwise] * lengths.numel()
    with unset_fake_temporarily():
        return [int(n) for n in known.reshape(-1).tolist()]


# Packed sequences (aten/src/ATen/native/PackedSequence.cpp)

FULL = "lengths of packed sequences are not known: all of them are taken as the longest"


def packed(
    padded_input: torch.Tensor, lengths: torch.Tensor, batch_first: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return packed sequences: the steps shared by equally many of them are one piece; pieces are
    copied, and then joined."""
    steps_first = padded_input.transpose(0, 1) if batch_first else padded_input
    steps = _checked(lengths, steps_first)
    pieces = []
    before = 0
    for end, count in sorted({n: sum(m >= n for m in steps) for n in steps}.items()):
        piece = steps_first[before:end, :count].contiguous()
        pieces.append(piece.view(-1, *steps_first.shape[2:]))
        before = end
    del piece
    data = torch.cat(pieces)
    pieces.reverse()  # lists release their last item first: torch releases the first piece first
    pieces.clear()
    with unset_fake_temporarily():
        # real: C++ reads it again in recurrent layers, in backward, where sequences are padded
        return data, torch.tensor([sum(m > t for m in steps) for t in range(max(steps))])


def _checked(lengths: torch.Tensor, steps_first: torch.Tensor) -> list[int]:
    known = shadow(lengths)
    if known is None:
        warnings.warn(FULL, stacklevel=2)
        return [steps_first.shape[0]] * steps_first.shape[1]
    with unset_fake_temporarily():
        steps: list[int] = known.tolist()
    if len(steps) != steps_first.shape[1]:
        raise RuntimeError(
            f"Expected `len(lengths)` to be equal to batch_size, but got {len(steps)} "
            f"(batch_size={steps_first.shape[1]})"
        )
    if min(steps) <= 0:
        raise RuntimeError(
            "Length of all samples has to be greater than 0, but found an element in 'lengths' "
            "that is <= 0"
        )
    if steps != sorted(steps, reverse=True):
        raise RuntimeError("`lengths` array must be sorted in decreasing order")
    return steps


def padded(  # torch's own arguments
    data: torch.Tensor,
    batch_sizes: torch.Tensor,
    batch_first: bool,
    padding_value: float,
    total_length: int = -1,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the padded tensor with the pieces copied into it, and the sequences' lengths."""
    counts: list[int] = batch_sizes.tolist()
    shape = (max(total_length, len(counts)), counts[0], *data.shape[1:])
    out = torch.full(shape, padding_value, dtype=data.dtype, device=data.device)
    lengths = [sum(n > i for n in counts) for i in range(counts[0])]
    before = offset = 0
    for end in sorted(set(lengths)):
        count = counts[end - 1]
        rows = count * (end - before)
        piece = data[offset : offset + rows].view(end - before, count, *data.shape[1:])
        out[before:end, :count].copy_(piece)
        offset, before = offset + rows, end
    return out.transpose(0, 1) if batch_first else out, torch.tensor(lengths)


# Rules of shapes


@contextmanager
def shaped() -> Iterator[None]:
    """Put these shape rules before torch's own, inside the block."""
    table = fake_impls.op_implementations_dict
    before = {op: table.get(op) for op in RULES}
    table.update(RULES)
    try:
        yield
    finally:
        for op, rule in before.items():
            if rule is None:
                del table[op]
            else:
                table[op] = rule


def _grouped(mode: Any, func: Any, *args: Any, **kwargs: Any) -> Any:
    a, b, offsets = args[0], args[1], args[2] if len(args) > 2 else kwargs.get("offs")
    if a.dtype == torch.bfloat16:
        return NotImplemented
    with mode:
        out: torch.Tensor = meta._create_grouped_mm_output_tensor(a, b, offsets, a.dtype)
    return out


def _false(*_: Any, **__: Any) -> bool:
    return False


def _ctc_shape(
    mode: Any, func: Any, *args: Any, **kwargs: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    log_probs, longest = args[0], max(args[3], default=0)
    time, batch = log_probs.shape[0], tuple(log_probs.shape[1:-1])  # or no batch
    with mode:
        losses = log_probs.new_empty(batch)
        return losses, log_probs.new_empty((*batch, time, 2 * longest + 1))


def _ctc_backward(mode: Any, func: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
    with mode:
        return torch.empty_like(args[1], memory_format=torch.legacy_contiguous_format)


def _channels(tensor: torch.Tensor) -> torch.Tensor:
    """Return one number per channel, in the dtype of sums: acc_type of half types is float."""
    half = tensor.dtype in (torch.float16, torch.bfloat16)
    return tensor.new_empty(tensor.shape[1], dtype=torch.float32 if half else tensor.dtype)


def _statistics(mode: Any, func: Any, *args: Any, **_: Any) -> tuple[torch.Tensor, torch.Tensor]:
    with mode:
        return _channels(args[0]), _channels(args[0])


def _alike(mode: Any, func: Any, *args: Any, **_: Any) -> torch.Tensor:
    with mode:
        return torch.empty_like(args[0])


def _reduced(mode: Any, func: Any, *args: Any, **_: Any) -> tuple[torch.Tensor | None, ...]:
    grad, weight, (of_input, of_weight, of_bias) = args[0], args[4], args[5:8]
    with mode:
        sums = [_channels(grad) if of_input else None for _ in range(2)]
        like = grad if weight is None else weight
        gradients = [
            like.new_empty(grad.shape[1]) if wanted and weight is not None else None
            for wanted in (of_weight, of_bias)
        ]
        return (*sums, *gradients)


NAMES: dict[str, Callable[..., Any]] = {
    "_grouped_mm": _grouped,
    "_use_cudnn_ctc_loss": _false,
    "_use_miopen_ctc_loss": _false,
    "_ctc_loss": _ctc_shape,
    "_ctc_loss_backward": _ctc_backward,
    "binomial": _alike,
    "_sample_dirichlet": _alike,
    "_dirichlet_grad": _alike,
    "_standard_gamma": _alike,
    "_standard_gamma_grad": _alike,
    "batch_norm_stats": _statistics,
    "batch_norm_gather_stats_with_counts": _statistics,
    "batch_norm_elemt": _alike,
    "batch_norm_backward_reduce": _reduced,
    "batch_norm_backward_elemt": _alike,
}
RULES: dict[Any, Callable[..., Any]] = {
    getattr(getattr(torch.ops.aten, name), overload): rule
    for name, rule in NAMES.items()
    if torch._C._jit_get_operation(f"aten::{name}")[0] is not None  # the older have not all
    for overload in getattr(torch.ops.aten, name).overloads()
    if "out" not in overload and overload != "Tensor"  # lengths are lists by then: kernels.py
}
