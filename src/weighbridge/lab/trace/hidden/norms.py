"""Norms and reductions: sums that go through memory.

    layer norm backward   partial sums of gamma's and beta's gradients, where rows are many
    group norm            two vectors of (batch, channels)
    foreach norm          one float32 for each 65,536 elements, as many as the largest tensor needs

Also copies of inputs that a kernel wants contiguous, and of what goes to the host: it is brought
into its type and order on the device that it comes from.
"""

from collections.abc import Callable
from math import prod

from weighbridge.lab.trace.hidden.rule import FLOAT, HiddenRule, Op, accumulated, copied
from weighbridge.units import ceil_div

CHUNK = 65536  # kChunkSize of multi_tensor_apply
MANY_ROWS = 65536
WARP = 32
BLOCKS = 32768  # of partial sums at most


def _partial_sums(op: Op) -> list[int]:
    grad, x, shape = op.args[:3]
    columns = prod(shape)
    rows = x.numel() // columns if columns else 0
    if rows <= MANY_ROWS or columns // WARP >= op.card.chip.multiprocessors // 2:
        return []
    parts = min(ceil_div(rows, WARP), BLOCKS // ceil_div(columns, WARP))
    nbytes = parts * columns * grad.element_size()
    return [nbytes, nbytes]


def _group_norm(op: Op) -> list[int]:
    batch, channels = op.args[0].shape[:2]
    return [batch * channels * accumulated(op.args[0])] * 2


def _foreach_norm(op: Op) -> list[int]:
    tensors = op.args[0]
    chunks = ceil_div(max((t.numel() for t in tensors), default=0), CHUNK)
    return [len(tensors) * chunks * FLOAT]


def _copies(*positions: int) -> Callable[[Op], list[int]]:
    def nbytes(op: Op) -> list[int]:
        return [copied(op.args[i]) for i in positions]

    return nbytes


def _rows_of_nothing(op: Op) -> list[int]:
    """Return the bytes of two masks: of numbers that are -inf, and of rows in which all are."""
    x = op.args[0]
    return [x.numel(), x.numel() // x.shape[-1] if x.numel() else 0]


def _to_host(op: Op) -> list[int]:
    """Return the temporary of a copy to the host with another type, or with gaps
    (copy_requires_temporaries)."""
    target, source = op.args[0], op.args[1]
    if target.device.type != "cpu" or source.device.type != "cuda":
        return []
    plain = source.is_contiguous() or source.stride() == target.stride()
    if plain and source.dtype == target.dtype:
        return []
    return [source.numel() * target.element_size()]


def _moved_to_host(op: Op) -> list[int]:
    return _to_host(op._replace(args=(op.out, op.args[0])))


LAYER = "aten/src/ATen/native/cuda/layer_norm_kernel.cu"

RULES = (
    HiddenRule(ops="native_layer_norm_backward", nbytes=_copies(0), source=LAYER),
    HiddenRule(ops="native_layer_norm_backward", nbytes=_partial_sums, source=LAYER, since=(2, 7)),
    HiddenRule(ops="native_layer_norm", nbytes=_copies(0), source=LAYER, when="before"),
    HiddenRule(
        ops="native_group_norm native_group_norm_backward",
        nbytes=_group_norm,
        source="aten/src/ATen/native/cuda/group_norm_kernel.cu",
    ),
    HiddenRule(
        ops="_softmax _log_softmax",
        nbytes=_copies(0),
        source="aten/src/ATen/native/cuda/SoftMax.cu, host_softmax",
        when="before",
    ),
    HiddenRule(
        ops="_safe_softmax",
        nbytes=_rows_of_nothing,
        source="aten/src/ATen/native/transformers/attention.cpp, _safe_softmax",
    ),
    HiddenRule(
        ops="_softmax_backward_data _log_softmax_backward_data",
        nbytes=_copies(0, 1),
        source="aten/src/ATen/native/cuda/SoftMax.cu, host_softmax_backward",
        when="before",
    ),
    HiddenRule(ops="copy_", nbytes=_to_host, source="aten/src/ATen/native/cuda/Copy.cu"),
    HiddenRule(ops="_to_copy", nbytes=_moved_to_host, source="aten/src/ATen/native/cuda/Copy.cu"),
    HiddenRule(
        ops="_foreach_norm",
        nbytes=_foreach_norm,
        source="aten/src/ATen/native/cuda/ForeachReduceOp.cu",
    ),
)
