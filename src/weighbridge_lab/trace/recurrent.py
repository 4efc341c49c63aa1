"""Recurrent layers as CUDA computes them: one operation of cuDNN, whose memory nobody publishes.

    out, h, c     as torch makes them (aten/src/ATen/native/cudnn/RNN.cpp)
    reserve       what backward needs: at most what the layer's steps keep for it one by one
    workspace     while it runs: at most what those steps take at once
    gradients     of the weights in one piece; of half precision's, weights cast first
                  (aten/src/ATen/cudnn/AutocastRNN.cpp)

A step alone (nn.GRUCell) is one operation of torch (aten/src/ATen/native/cuda/RNN.cu).
Bytes of steps are counted in sizes of the hidden state at all times: KINDS, as the steps of
torch's own decomposition keep them (tests/torch/test_recurrent.py). The answer is *at most*.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from weighbridge.base.records import NamedTuple

aten = torch.ops.aten
TYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
Kernel = Callable[..., Any]


class Recurrence(NamedTuple):
    """A kind of recurrent layer: cuDNN's number for it, its gates, the hidden states that a layer's
    steps keep with its output, and those that backward needs at once."""

    mode: int
    gates: int
    stored: int
    backward: int


KINDS = {
    "lstm": Recurrence(2, gates=4, stored=8, backward=8),
    "gru": Recurrence(3, gates=3, stored=9, backward=3),
    "rnn_tanh": Recurrence(1, gates=1, stored=2, backward=3),
    "rnn_relu": Recurrence(0, gates=1, stored=2, backward=3),
}


class RecurrentCall(NamedTuple):
    """The arguments that torch passes to a layer, packed or not."""

    data: torch.Tensor
    batch_sizes: Sequence[int]
    hidden: Sequence[torch.Tensor]
    weights: Sequence[torch.Tensor]
    has_biases: bool
    layers: int
    dropout: float
    train: bool
    bidirectional: bool
    batch_first: bool = False

    @property
    def taken(self) -> bool:
        """Return whether cuDNN computes the call."""
        enabled = torch._C._get_cudnn_enabled() and self.data.dtype in TYPES
        return bool(enabled and self.data.numel())


def layer(name: str, overload: str, at_most: Callable[[], object]) -> Kernel:
    """Return the kernel of a layer. `at_most` is called if it may take less on a card."""
    composite = getattr(getattr(aten, name), overload)

    def compute(*args: Any) -> Any:
        call = _call(overload, *args)
        if not call.taken:
            with torch.backends.cudnn.flags(enabled=False):
                return composite.decompose(*args)
        at_most()
        out, h, c = _computed(KINDS[name], call)
        return (out, h, c) if len(call.hidden) > 1 else (out, h)

    return compute


def _call(overload: str, data: torch.Tensor, *args: Any) -> RecurrentCall:
    if overload == "data":
        sizes, hidden, *settings = args
        return RecurrentCall(data, sizes.tolist(), _hidden_tensors(hidden), *settings)
    hidden, *settings = args
    return RecurrentCall(data, (), _hidden_tensors(hidden), *settings)


def _hidden_tensors(hidden: Any) -> Sequence[torch.Tensor]:
    return (hidden,) if isinstance(hidden, torch.Tensor) else tuple(hidden)


def _computed(kind: Recurrence, call: RecurrentCall) -> Sequence[torch.Tensor]:
    half = torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else None
    data, hidden, weights = call.data, call.hidden, call.weights
    if half is not None and data.dtype != torch.float64:
        data = data.to(half)
        hidden, weights = [h.to(half) for h in hidden], [w.to(half) for w in weights]
    size, projected = hidden[-1].shape[2], hidden[0].shape[2]
    projected *= projected != size  # a projection is narrower than the cell
    with torch.autocast("cuda", enabled=False):
        out, h, c, *_ = aten._cudnn_rnn(
            data,
            weights,
            (4 if call.has_biases else 2) + bool(projected),
            None,
            hidden[0],
            hidden[1] if len(hidden) > 1 else None,
            kind.mode,
            size,
            projected,
            call.layers,
            call.batch_first,
            call.dropout,
            call.train,
            call.bidirectional,
            call.batch_sizes,
            None,
        )
    return out, h, c


def kernels() -> dict[Any, Kernel]:
    """Return the stand-ins for cuDNN's two operations and for torch's own operation of a cell."""
    return {
        aten._cudnn_rnn.default: _forward,
        aten._cudnn_rnn_backward.default: _backward,
        aten._thnn_fused_lstm_cell.default: _lstm_cell,
        aten._thnn_fused_gru_cell.default: _gru_cell,
        aten._thnn_fused_gru_cell_backward.default: _gru_cell_backward,
    }


class _Shape(NamedTuple):
    """The sizes of a layer: positions of all rows, and bytes of one hidden state at all
    positions."""

    kind: Recurrence
    layers: int
    ways: int
    state: int

    def reserve(self) -> int:
        return (self.kind.stored * self.layers - 1) * self.ways * self.state

    def workspace(self, *, train: bool) -> int:
        if train:
            return self.kind.gates * self.state
        between = self.ways * (self.layers > 1 or self.ways > 1)
        return (self.kind.gates + 1 + between) * self.state


class _Settings(NamedTuple):
    """The arguments of both of cuDNN's operations, after their tensors."""

    mode: int
    size: int
    projected: int
    layers: int
    batch_first: bool
    dropout: float
    train: bool
    both: bool
    batch_sizes: Sequence[int]
    dropout_state: torch.Tensor | None = None

    @property
    def rows_first(self) -> bool:
        return self.batch_first and not self.batch_sizes

    def shape(self, data: torch.Tensor) -> _Shape:
        kind = next(kind for kind in KINDS.values() if kind.mode == self.mode)
        positions = data.numel() // data.shape[-1]
        return _Shape(kind, self.layers, 1 + self.both, positions * self.size * data.element_size())


def _forward(
    data: torch.Tensor,
    weights: Sequence[torch.Tensor],
    stride: int,
    buffer: torch.Tensor | None,
    hidden_state: torch.Tensor,
    cell: torch.Tensor | None,
    *settings: Any,
) -> tuple[torch.Tensor, ...]:
    call = _Settings(*settings)
    steps_first = data.transpose(0, 1) if call.rows_first else data
    contiguous = steps_first.contiguous()
    shape = call.shape(data)
    out = data.new_empty(*steps_first.shape[:-1], (call.projected or call.size) * shape.ways)
    h_out = torch.empty_like(hidden_state)
    c_out = data.new_empty(0) if cell is None else torch.empty_like(cell)
    workspace = data.new_empty(shape.workspace(train=call.train), dtype=torch.uint8)
    reserve = data.new_empty(shape.reserve() if call.train else 0, dtype=torch.uint8)
    del workspace, contiguous
    return out.transpose(0, 1) if call.rows_first else out, h_out, c_out, reserve, data.new_empty(0)


def _backward(  # noqa: PLR0913  torch's own arguments
    data: torch.Tensor,
    weights: Sequence[torch.Tensor],
    stride: int,
    buffer: torch.Tensor,
    hidden_state: torch.Tensor,
    cell: torch.Tensor | None,
    out: torch.Tensor,
    of_out: torch.Tensor | None,
    of_h: torch.Tensor | None,
    of_c: torch.Tensor | None,
    *settings: Any,
) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None, list[torch.Tensor]]:
    *shared, _reserve, wanted = settings
    call = _Settings(*shared)
    if not call.train:
        raise RuntimeError("cudnn RNN backward can only be called in training mode")
    shape = call.shape(data)
    gradient = torch.zeros_like(out) if of_out is None else of_out
    contiguous = [
        (tensor.transpose(0, 1) if call.rows_first else tensor).contiguous()
        for tensor in (data, gradient)
    ]
    of_data = torch.empty_like(contiguous[0])
    of_hidden = torch.empty_like(hidden_state)
    of_cell = None if cell is None else torch.empty_like(cell)
    workspace = data.new_empty(shape.kind.backward * shape.state, dtype=torch.uint8)
    sizes = [weight.numel() for weight in weights]
    whole = data.new_zeros(sum(sizes)) if wanted[3] else None
    del workspace, contiguous, gradient
    parts = whole.split(sizes) if whole is not None else ()
    gradients = [part.view(w.shape) for part, w in zip(parts, weights, strict=False)]
    if call.rows_first:
        of_data = of_data.transpose(0, 1)
    return of_data if wanted[0] else None, of_hidden, of_cell, gradients


# Cells

GRU_WORKSPACE = 5  # of the hidden state: GRU_WORKSPACE_MULTIPLIER


def _lstm_cell(
    gates: torch.Tensor,
    hidden_gates: torch.Tensor,
    cell: torch.Tensor,
    *_: torch.Tensor | None,
    **__: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    hidden_state = torch.empty_like(cell, memory_format=torch.contiguous_format)
    return (
        hidden_state,
        torch.empty_like(hidden_state),
        torch.empty_like(gates, memory_format=torch.contiguous_format),
    )


def _gru_cell(
    gates: torch.Tensor,
    hidden_gates: torch.Tensor,
    hidden_state: torch.Tensor,
    *_: torch.Tensor | None,
    **__: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    workspace = hidden_state.new_empty(hidden_state.shape[0], GRU_WORKSPACE * hidden_state.shape[1])
    return torch.empty_like(hidden_state, memory_format=torch.contiguous_format), workspace


def _gru_cell_backward(
    gradient: torch.Tensor, workspace: torch.Tensor, has_bias: bool
) -> tuple[torch.Tensor | None, ...]:
    rows, width = gradient.shape
    gates = [workspace.new_empty(rows, 3 * width) for _ in range(2)]
    of_h = torch.empty_like(gradient, memory_format=torch.contiguous_format)
    biases = [each.sum(0) if has_bias else None for each in gates]
    return (*gates, of_h, *biases)
