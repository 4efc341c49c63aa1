"""Memory of a step besides weights and caches: outputs of operations that are still running.

MLX runs ahead of the GPU. Operations go into command buffers; one is committed when its operations
exceed the chip's limit, or the elements of its input and output arrays do, and the memory of its
operations is freed when it has run. The host waits when TASKS of them are running. So a step holds
at most the outputs of TASKS command buffers and of the open one, which `flight` finds by walking
over all layers in order. How far the GPU is behind at the worst moment is not known: the interval
is from published figures. So is that a chip with smaller buffers holds less: eight peaks of an M4
Pro are those of an Ultra's buffers, and what its own would hold is the low end.

A layer whose cache is a slice of a longer array keeps that array to the end of the step: the graph
makes the slice late, as it is an output (transforms.cpp: eval_impl goes by the graph's breadth).

Source: mlx 846d176 backend/metal/device.cpp (needs_commit; set_input_array counts elements, and
set_output_array calls it), backend/metal/eval.cpp, transforms.cpp (MAX_ACTIVE_TASKS), fast.cpp
(scaled_dot_product_attention, whose fallback works in place).
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import assert_never

from weighbridge.base.memory import Bytes
from weighbridge.base.records import NamedTuple
from weighbridge.engines.mlx.rules import COMMITS
from weighbridge.models.arch.body import Dense, Experts, Feed, LayerBlock
from weighbridge.models.arch.mixers import (
    Attention,
    Compressed,
    CrossAttention,
    GatedDelta,
    GatedRecurrence,
    KimiDelta,
    Latent,
    LinearAttention,
    Mamba1,
    Mamba2,
    Mixer,
    Recurrent,
    Rwkv,
    Shared,
    ShortConv,
)

TASKS = 10  # running command buffers
CHUNK, SCANNED = 256, 4  # tokens of a piece of a scan, and matrices of one that live together
FEWER, USUAL, MORE = 0.55, 1.0, 1.35  # factors of the estimate: published peaks are 0.58 to 1.26
FLOAT32 = 2  # in 16-bit elements


class Operation(NamedTuple):
    """Elements of arrays that an operation reads first, that it makes, and that it makes and keeps
    to the end of the step."""

    reads: int
    makes: int
    keeps: int = 0


class Moment(NamedTuple):
    """One step: its tokens, the cells they attend to, and how weights are stored."""

    tokens: int
    cells: int
    bits: float = 16  # per weight; quantized ones are read as 32-bit words
    stored: bool = False  # attention scores are stored
    expanded: bool = False  # MLA is stored as keys and values of all heads
    most: int = COMMITS  # limit of a command buffer, in operations and in 2 ** 20 elements
    scanned: int = CHUNK  # tokens of a piece of a scan

    def weight(self, count: int) -> int:
        """Return the elements of the array that holds `count` weights."""
        return int(count * self.bits) // 32 if self.bits < 16 else count


def temporaries(blocks: Sequence[LayerBlock], hidden: int, step: Moment, itemsize: int) -> Bytes:
    """Return the bytes that one step holds at its peak."""
    operations_of = {b: operations(b, hidden, step) for b in dict.fromkeys(blocks)}
    every = [op for b in blocks for op in operations_of[b]]
    least, most = (flight(every, commits) * itemsize for commits in (step.most, COMMITS))
    return Bytes(int(least * FEWER), int(most * USUAL), int(most * MORE))


def flight(step: Iterable[Operation], commits: int) -> int:
    """Return the peak of live elements while a step's operations follow each other. A command
    buffer is full beyond `commits` operations, or `commits` x 2 ** 20 elements."""
    done: deque[int] = deque(maxlen=TASKS)
    most = seen = written = count = lasting = 0
    for op in step:
        seen, written, count = seen + op.reads + op.makes + op.keeps, written + op.makes, count + 1
        lasting += op.keeps
        most = max(most, lasting + sum(done) + written)
        if count > commits or seen > commits << 20:
            done.append(written)
            seen, written, count = (
                op.makes + op.keeps,
                0,
                0,
            )  # what the next buffer reads of this one
    return most


def operations(block: LayerBlock, hidden: int, step: Moment) -> tuple[Operation, ...]:
    """Return one layer's operations in order: its mixers, then its MLPs."""
    result: list[Operation] = []
    for m in block.mixers:
        result += _mixed(m, block, hidden, step)
    for feed in block.feeds:
        result += _fed(feed, hidden, step)
    return tuple(result)


def _norm(hidden: int, step: Moment) -> Operation:
    """Return a norm of the previous operation's output."""
    return Operation(0, step.tokens * hidden)


def _linear(inputs: int, outputs: int, step: Moment, *, rows: int = 1) -> Operation:
    """Return a matmul, whose input the previous operation already counts."""
    return Operation(step.weight(inputs * outputs), rows * step.tokens * outputs)


def _in_place() -> Operation:
    """Return an activation in place of a product (activations.py, compiled)."""
    return Operation(0, 0)


def _sum(hidden: int, step: Moment) -> Operation:
    """Return an in-place addition of the layer's input, read many operations ago."""
    return Operation(step.tokens * hidden, 0)


def _mixed(mixer: Mixer, block: LayerBlock, hidden: int, step: Moment) -> Iterator[Operation]:
    match mixer:
        case Attention() | CrossAttention():
            widths = mixer.heads * mixer.key_dim, mixer.key_elements, mixer.value_elements
            yield from _attends(mixer.heads, widths, mixer.heads * mixer.value_dim, hidden, step)
        case Latent() if step.expanded:
            yield from _mixed(mixer.expanded, block, hidden, step)
        case Latent():
            yield from _latent(mixer, block, hidden, step)
        case Compressed() | Shared():  # only queries, as wide as the model
            yield from _attends(1, (hidden, 0, 0), hidden, hidden, step)
        case (
            Mamba1()
            | Mamba2()
            | GatedDelta()
            | KimiDelta()
            | LinearAttention()
            | GatedRecurrence()
            | Rwkv()
            | ShortConv()
        ):
            yield from _recurrent(mixer, hidden, step)
        case _:
            assert_never(mixer)


def _recurrent(recurrent: Recurrent, hidden: int, step: Moment) -> Iterator[Operation]:
    match recurrent:
        case GatedDelta():
            yield from _delta(recurrent, hidden, step)
        case ShortConv():
            yield from _convolves(recurrent, hidden, step)
        case Mamba2():
            yield from _recurs(
                (recurrent.inner + recurrent.channels, recurrent.inner), hidden, step
            )
            scores = recurrent.heads * step.tokens * min(step.tokens, step.scanned)
            yield from (Operation(0, FLOAT32 * scores),) * SCANNED
        case Mamba1() | GatedRecurrence():
            yield from _recurs((2 * recurrent.channels, recurrent.channels), hidden, step)
        case KimiDelta() | LinearAttention():
            yield from _recurs(
                (4 * recurrent.heads * recurrent.dim, 2 * recurrent.heads * recurrent.dim),
                hidden,
                step,
            )
        case Rwkv():
            yield from _recurs((4 * recurrent.inner, recurrent.inner), hidden, step)
        case _:
            assert_never(recurrent)


def _attends(
    heads: int, widths: tuple[int, int, int], outputs: int, hidden: int, step: Moment
) -> Iterator[Operation]:
    """Yield attention's operations; `widths` of queries, keys, values, `outputs` of its result."""
    queries, keys, values = widths
    yield _norm(hidden, step)
    for width in widths:
        yield _linear(hidden, width, step)
    yield Operation(0, step.tokens * queries)  # rotated
    yield Operation(0, step.tokens * keys)
    yield Operation(step.cells * (keys + values), 0)  # written into the cache
    if step.stored:
        yield Operation(
            0, step.tokens * step.cells // 2
        )  # which cells each token sees: a byte each
        yield Operation(
            0, heads * step.tokens * step.cells
        )  # products; masked and softmax in place
        yield from (_in_place(),) * 2
        yield Operation(0, step.tokens * outputs)  # the kernel leaves heads side by side
    yield Operation(0, step.tokens * outputs)
    yield _linear(outputs, hidden, step)
    yield _sum(hidden, step)


def _latent(latent: Latent, block: LayerBlock, hidden: int, step: Moment) -> Iterator[Operation]:
    """Yield MLA's operations: keys and values come from every cell; rotary scores are the mask."""
    queries = latent.heads * (latent.nope + latent.rotary)
    outputs = latent.heads * latent.value_dim
    yield _norm(hidden, step)
    if block.query_rank:
        yield _linear(hidden, block.query_rank, step)
    yield _linear(block.query_rank or hidden, queries, step)
    yield _linear(hidden, latent.latent_elements, step)
    scores = latent.heads * step.tokens * step.cells
    yield Operation(step.cells * latent.latent_elements, scores)
    if step.tokens > 1:
        yield Operation(0, latent.heads * step.cells * latent.nope)
        yield Operation(0, latent.heads * step.cells * latent.value_dim)
    yield Operation(0, step.tokens * outputs)
    yield Operation(0, step.tokens * outputs)
    yield _linear(outputs, hidden, step)
    yield _sum(hidden, step)


def _recurs(widths: tuple[int, int], hidden: int, step: Moment) -> Iterator[Operation]:
    """Yield a projection, a convolution over it, the recurrence, and the output projection.
    `widths`: elements per token of the projection's and of the recurrence's output."""
    projected, outputs = widths
    yield _norm(hidden, step)
    yield _linear(hidden, projected, step)
    yield Operation(0, step.tokens * projected)
    yield Operation(0, step.tokens * outputs)
    yield Operation(0, step.tokens * outputs)
    yield _linear(outputs, hidden, step)
    yield _sum(hidden, step)


def _delta(delta: GatedDelta, hidden: int, step: Moment) -> Iterator[Operation]:
    """Yield the operations of models/qwen3_5.py (GatedDeltaNet), gated_delta.py: the convolution's
    input is the last inputs and the new ones; its output is split into queries, keys and values, of
    which values are copied for the kernel; its result is normed and gated."""
    keys, values = delta.key_heads * delta.key_dim, delta.value_heads * delta.value_dim
    yield _norm(hidden, step)
    for width in (delta.channels, values, delta.value_heads, delta.value_heads):  # z, b, a
        yield _linear(hidden, width, step)
    yield Operation(0, 0, keeps=step.tokens * delta.channels)
    yield Operation(0, step.tokens * delta.channels)  # convolved
    yield _in_place()
    for _ in range(2):  # queries and keys: normed, then scaled
        yield Operation(0, step.tokens * keys)
        yield _in_place()
    yield Operation(0, FLOAT32 * step.tokens * delta.value_heads)  # decay, and how much is written
    yield Operation(0, step.tokens * delta.value_heads)
    yield Operation(0, step.tokens * values)
    state = FLOAT32 * delta.value_heads * delta.key_dim * delta.value_dim
    yield Operation(state, step.tokens * values + state)
    yield Operation(0, step.tokens * values)  # normed
    yield Operation(0, step.tokens * values)  # gated in 32 bits, and back
    yield _linear(values, hidden, step)
    yield _sum(hidden, step)


def _convolves(conv: ShortConv, hidden: int, step: Moment) -> Iterator[Operation]:
    """Yield the operations of models/lfm2.py (ShortConv)."""
    width = step.tokens * conv.width
    yield _norm(hidden, step)
    yield _linear(hidden, 3 * conv.width, step)
    yield Operation(0, width)
    yield Operation(0, 0, keeps=width)
    yield Operation(0, width)
    yield Operation(0, width)
    yield _linear(conv.width, hidden, step)
    yield _sum(hidden, step)


def _fed(feed: Feed, hidden: int, step: Moment) -> Iterator[Operation]:
    yield _norm(hidden, step)
    match feed:
        case Dense():
            yield from _dense(feed.width, feed.inputs or hidden, step, gated=feed.gated)
        case Experts():
            yield from _experts(feed, hidden, step)
        case _:
            assert_never(feed)
    yield _sum(hidden, step)


def _dense(width: int, hidden: int, step: Moment, *, gated: bool) -> Iterator[Operation]:
    for _ in range(2 if gated else 1):
        yield _linear(hidden, width, step)
    yield _in_place()
    yield _linear(width, hidden, step)


def _experts(feed: Experts, hidden: int, step: Moment) -> Iterator[Operation]:
    """Yield the operations of a MoE layer: rows sorted by expert and back (switch_layers.py,
    SwitchGLU), top_k per token. Every product reads the matrices of all experts."""
    rows, inputs = feed.top_k, feed.inputs or hidden
    matrix = step.weight(feed.count * feed.width * inputs)
    yield _linear(hidden, feed.count, step)
    yield Operation(0, rows * step.tokens * inputs)
    for _ in range(2 if feed.gated else 1):
        yield Operation(matrix, rows * step.tokens * feed.width)
    yield _in_place()
    yield Operation(matrix, rows * step.tokens * inputs)
    yield Operation(0, rows * step.tokens * inputs)  # in the tokens' order
    yield Operation(0, step.tokens * hidden)  # weighed and summed
    if feed.shared:
        yield from _dense(feed.shared, hidden, step, gated=feed.gated)
