"""pack_padded_sequence and its inverse: lengths are in a tensor on the host, and torch reads them.

`batch_sizes` is a real tensor, as C++ reads it again in recurrent layers, in backward and where
sequences are padded. Source: aten/src/ATen/native/PackedSequence.cpp.
"""

import warnings

import torch
from torch._subclasses.fake_tensor import unset_fake_temporarily

from weighbridge.lab.trace.looks import shadow

FULL = "lengths of packed sequences are not known: all of them are taken as the longest"


def packed(
    padded_input: torch.Tensor, lengths: torch.Tensor, batch_first: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Pack sequences: the steps that some of them have in common are one piece; the pieces are
    copied, and then put together."""
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
    """Return a whole tensor of padding, into which the pieces are copied, and how long they are."""
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
