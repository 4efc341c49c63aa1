"""What collectives answer where each of the other processes says what this one does.

Buffers are the program's own; NCCL's are outside of PyTorch's allocator, but for the flat buffer
of a gather into a list, or of a scatter from one (ProcessGroupNCCL.cpp: newLikeFlat in `allgather`
and `reduce_scatter`). Small tensors of known values keep them (`looks`), so counts, sizes and
objects that travel are what they would be; a sum is that of `size` equal parts.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import distributed as dist
from torch._subclasses.fake_tensor import unset_fake_temporarily

from weighbridge.lab.trace.looks import cast, lost, shadow

Tensors = Sequence[torch.Tensor]
Answer = Callable[..., Any]
SUM = 0  # c10d::ReduceOp::RedOpType


def collectives() -> dict[Any, Answer]:
    """Map each collective of torch.ops.c10d to what answers it in place of the network."""
    if not dist.is_available():
        return {}
    answers: dict[Any, Answer] = {}
    for name, move in MOVES.items():
        packet = getattr(torch.ops.c10d, name, None)
        if packet is not None:
            answers[packet.default] = _answer(move, len(packet.default._schema.returns))
    # the kernel gives its argument back; the one for fake tensors would make another
    answers[torch.ops._c10d_functional.wait_tensor.default] = _same
    return answers


def _answer(move: Callable[..., Any], returns: int) -> Answer:
    def answer(*args: Any, **_: Any) -> Any:
        with torch.no_grad():
            out = move(*args)
        if not returns:
            return None
        work = _done(list(_flat(out)))
        return (out, work) if returns == 2 else work

    return answer


def _done(tensors: list[torch.Tensor]) -> Any:
    """Work that is done, with its result."""
    future: Any = torch.futures.Future()
    future.set_result(tensors)
    bindings: Any = torch._C._distributed_c10d
    return bindings._create_work_from_future(future).boxed()


def _flat(out: Any) -> Tensors:
    if isinstance(out, torch.Tensor):
        return [out]
    return [t for part in out or () for t in _flat(part)]


def _group(group: Any) -> Any:
    return dist.ProcessGroup.unbox(group)


def _same(out: Any, *_: Any) -> Any:
    return out


def _reduced(tensors: Tensors, group: Any, how: Any, *_: Any) -> Tensors:
    for tensor in tensors:
        if shadow(tensor) is not None and how.op() == SUM:
            tensor.mul_(_group(group).size())
    return tensors


def _gathered(outs: Sequence[Tensors], ins: Tensors, *_: Any) -> Sequence[Tensors]:
    for several, one in zip(outs, ins, strict=False):
        if several and all(t.numel() == one.numel() for t in several):
            one.new_empty((len(several), *one.shape))  # the flat buffer
        for t in several:
            _put(t, one)
    return outs


def _listed(outs: Sequence[Tensors], ins: Tensors, *_: Any) -> Sequence[Tensors]:
    """gather: from one to one, without a buffer."""
    for t, one in ((t, one) for many, one in zip(outs, ins, strict=False) for t in many):
        _put(t, one)
    return outs


def _gathered_flat(out: torch.Tensor, one: torch.Tensor, *_: Any) -> torch.Tensor:
    known = shadow(one)
    lost(out)
    if known is not None and one.numel():
        with unset_fake_temporarily():
            cast(out, known.reshape(-1).repeat(out.numel() // one.numel()).reshape(out.shape))
    return out


def _scattered(outs: Tensors, ins: Sequence[Tensors], group: Any, *_: Any) -> Tensors:
    rank = _group(group).rank()
    for out, several in zip(outs, ins, strict=False):
        if several:
            _put(out, several[rank])
    return outs


def _reduce_scattered(outs: Tensors, ins: Sequence[Tensors], group: Any, *_: Any) -> Tensors:
    for one, several in zip(outs, ins, strict=False):
        if all(t.numel() == one.numel() for t in several):
            one.new_empty((len(several), *one.shape))  # the flat buffer
    return _scattered(outs, ins, group)


def _exchanged(outs: Tensors, ins: Tensors, *_: Any) -> Tensors:
    for out, one in zip(outs, ins, strict=False):
        _put(out, one)
    return outs


def _exchanged_flat(out: torch.Tensor, one: torch.Tensor, *_: Any) -> torch.Tensor:
    _put(out, one)
    return out


def _put(out: torch.Tensor, value: torch.Tensor) -> None:
    if out.shape == value.shape:
        out.copy_(value)


MOVES: dict[str, Callable[..., Any]] = {
    "allreduce_": _reduced,
    "allreduce_coalesced_": _same,
    "reduce_": _reduced,
    "broadcast_": _same,
    "allgather_": _gathered,
    "allgather_coalesced_": _same,
    "allgather_into_tensor_coalesced_": _same,
    "_allgather_base_": _gathered_flat,
    "gather_": _listed,
    "scatter_": _scattered,
    "reduce_scatter_": _reduce_scattered,
    "reduce_scatter_tensor_coalesced_": _same,
    "_reduce_scatter_base_": _same,
    "alltoall_": _exchanged,
    "alltoall_base_": _exchanged_flat,
    "send": _same,
    "recv_": _same,
    "recv_any_source_": _same,
    "barrier": _same,
    "monitored_barrier_": _same,
}
