"""Kernels that add, sort and copy: buffers that go through memory.

reductions            how a tensor's dimensions are read (kernels/reductions.py)
layer norm backward   partial sums of gamma's and beta's gradients, where rows are many
group norm            two vectors of (batch, channels)
foreach norm          one float32 for each 65,536 elements, as many as the largest tensor needs
indices               gradients that go where indices say, by sorting the indices first (those
                      of embeddings: kernels/reductions.py), and sorting itself
nms                   boxes in the order of their scores, and a bit for each pair of them
copies                of inputs that a kernel wants contiguous, and of what goes to the host: it
                      is brought into its type and order on the device that it comes from
"""

from collections.abc import Callable, Sequence
from math import prod

import torch

from weighbridge.base.records import NamedTuple
from weighbridge.base.units import ceil_div
from weighbridge.machines.kernels import reductions as kernels
from weighbridge.machines.kernels.reductions import segments, sorted_bytes, sorts
from weighbridge_lab.trace.card import Card
from weighbridge_lab.trace.hidden.rule import FLOAT, HiddenRule, Op, accumulated, copied, size

SOURCE = "aten/src/ATen/native/cuda/Reduce.cuh"


class Axes(NamedTuple):
    """(size, stride) of dimensions, densest first; neighbours without a gap are joined."""

    reduced: list[tuple[int, int]]
    kept: list[tuple[int, int]]


def axes(tensor: torch.Tensor, dims: Sequence[int]) -> Axes:
    chosen = {d % tensor.dim() for d in dims} if dims else set(range(tensor.dim()))
    sides: tuple[list[tuple[int, int]], list[tuple[int, int]]] = ([], [])
    for d in sorted(range(tensor.dim()), key=lambda d: (tensor.stride(d), -d)):
        side = sides[d not in chosen]
        if tensor.shape[d] == 1:
            continue
        if side and side[-1][0] * side[-1][1] == tensor.stride(d):
            side[-1] = (side[-1][0] * tensor.shape[d], side[-1][1])
        else:
            side.append((tensor.shape[d], tensor.stride(d)))
    return Axes(*sides)


def buffers(dimensions: Axes, element: int, card: Card) -> list[int]:
    """Return the bytes of the buffer and of its flags."""
    return kernels.buffers(_reduction(dimensions), element, card.chip)


def _reduction(dimensions: Axes) -> kernels.Reduction:
    inputs, outputs = (prod(n for n, _ in side) for side in dimensions)
    dense = not dimensions.kept or bool(
        dimensions.reduced and dimensions.reduced[0][1] < dimensions.kept[0][1]
    )
    return kernels.Reduction(
        inputs,
        outputs,
        dense=dense,
        folded=len(dimensions.reduced) == 1 and dimensions.reduced[0][1] == 1,
        vector=1 if dense else _outputs_together(dimensions),
    )


def _outputs_together(dimensions: Axes) -> int:
    if dimensions.kept[0][1] != 1:
        return 1
    others = (stride for _, stride in (*dimensions.reduced, *dimensions.kept[1:]))
    return kernels.together(dimensions.kept[0][0], *others)


def _reduced(position: int) -> Callable[[Op], list[int]]:
    """Return a rule for a reduction over the dimensions in argument `position`."""

    def nbytes(op: Op) -> list[int]:
        tensor, dims = op.args[0], op.arg(position, "dim")
        if not tensor.numel() or not tensor.dim():
            return []
        names = [dims] if isinstance(dims, int) else dims if isinstance(dims, list | tuple) else []
        return buffers(axes(tensor, names), _accumulator(tensor.dtype), op.card)

    return nbytes


def _accumulator(dtype: torch.dtype) -> int:
    return FLOAT if dtype.is_floating_point and dtype.itemsize <= FLOAT else max(8, dtype.itemsize)


def _paths(op: Op) -> list[int]:
    """Return the bytes of log_beta in CTC's backward: as large as log_alpha."""
    return [size(op.args[6])]


REDUCTIONS = (
    HiddenRule(ops="sum mean", nbytes=_reduced(1), source=SOURCE),
    HiddenRule(ops="linalg_vector_norm", nbytes=_reduced(2), source=SOURCE),
    HiddenRule(
        ops="_ctc_loss_backward", nbytes=_paths, source="aten/src/ATen/native/cuda/LossCTC.cu"
    ),
)


# Norms, and copies

CHUNK = 65536  # kChunkSize of multi_tensor_apply
MANY_ROWS = 65536
WARP = 32
BLOCKS = 32768  # partial sums at most


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
    """Return the bytes of two masks: of elements that are -inf, and of rows in which all are."""
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

NORMS = (
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
        ops="logsumexp",
        nbytes=lambda op: [size(op.out), size(op.args[0])],  # maxima, and exp(input - maxima)
        source="aten/src/ATen/native/ReduceOps.cpp, logsumexp_out_impl",
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


# Indices

IN_PLACE = 4096  # values of a row that are sorted in place
EMBEDDING = "aten/src/ATen/native/cuda/Embedding.cu, embedding_dense_backward_cuda"


def _sorted_ways(op: Op) -> bool:
    return bool(sorts(op.args[1].numel()) or op.arg(4, "scale_grad_by_freq", False))


def _inputs(op: Op) -> list[int]:
    return [copied(op.args[1]), copied(op.args[0])]


def _sorted(op: Op) -> list[int]:
    if not _sorted_ways(op):
        return []
    indices = op.args[1]
    counts = [size(indices)] if op.arg(4, "scale_grad_by_freq", False) else []
    return [*sorted_bytes(indices.numel(), indices.element_size()), *counts]


def _sorting(op: Op) -> list[int]:
    """Return the bytes of a range, and of the buffers of cub's radix sort for pairs."""
    indices = op.args[1]
    return [size(indices), 2 * size(indices)] if _sorted_ways(op) else []


def _segments(op: Op) -> list[int]:
    if not _sorted_ways(op):
        return []
    grad, indices, rows = op.args[:3]
    row_bytes = grad.shape[-1] * accumulated(grad)
    return segments(indices.numel(), indices.element_size(), rows, row_bytes)


def _accumulating(op: Op) -> list[int]:
    """Return the bytes of the buffers of index_put_ with accumulate: linear index, sorted and
    original ones, a range, cub's pairs."""
    if not op.arg(3, "accumulate", False):
        return []
    indices = [i for i in op.args[1] if i is not None]
    n = torch.broadcast_shapes(*(i.shape for i in indices)).numel() if indices else 0
    n = max(n, *(i.numel() for i in indices if i.dtype == torch.bool), 0) if indices else 0
    return [8 * n] * 4 + [16 * n, copied(op.args[2])]


def _sort(op: Op) -> list[int]:
    """Return the bytes of cub's pairs, and of the indices with them, for rows above 4,096."""
    values = op.args[0]
    if values.dim() == 0 or max(values.shape) <= IN_PLACE:
        return []
    n = values.numel()
    return [n * 8, n * (values.element_size() + 8)]


def _sampling(op: Op) -> list[int]:
    """Return the bytes of exponential noise: one value per input, for multinomial with one sample
    or without replacement."""
    return [size(op.args[0])]


INDEXING = (
    HiddenRule(ops="embedding_dense_backward", nbytes=_inputs, source=EMBEDDING, when="before"),
    HiddenRule(ops="embedding_dense_backward", nbytes=_sorted, source=EMBEDDING, when="before"),
    HiddenRule(ops="embedding_dense_backward", nbytes=_sorting, source=EMBEDDING, when="first"),
    HiddenRule(
        ops="embedding_dense_backward",
        nbytes=_segments,
        source="aten/src/ATen/native/cuda/EmbeddingBackwardKernel.cu",
    ),
    HiddenRule(
        ops="index_put_ _index_put_impl_ _unsafe_index_put",
        nbytes=_accumulating,
        source="aten/src/ATen/native/cuda/Indexing.cu, index_put_with_sort_kernel",
    ),
    # of gradients, which a GPU writes in place: no operation may come between it and its zeros
    HiddenRule(
        ops="index_put",
        nbytes=_accumulating,
        source="aten/src/ATen/native/cuda/Indexing.cu, index_put_with_sort_kernel",
        when="first",
    ),
    HiddenRule(ops="sort argsort", nbytes=_sort, source="aten/src/ATen/native/cuda/Sort.cpp"),
    HiddenRule(
        ops="multinomial",
        nbytes=_sampling,
        source="aten/src/ATen/native/Distributions.cpp, multinomial_out",
    ),
)


# torchvision's boxes

PAIRS = 64  # boxes per word of 8 bytes: one bit each
WORD = 8


def _suppressed(op: Op) -> list[int]:
    """Return the bytes of sorted scores with their indices, sorted boxes, and the mask."""
    boxes, scores = op.args[:2]
    n = boxes.shape[0]
    return [size(scores), n * WORD, size(boxes), n * ceil_div(n, PAIRS) * WORD]


VISION = (
    HiddenRule(
        ops="nms",
        nbytes=_suppressed,
        source="torchvision/csrc/ops/cuda/nms_kernel.cu, nms_kernel",
        when="before",
    ),
)

RULES = (*INDEXING, *NORMS, *REDUCTIONS, *VISION)
