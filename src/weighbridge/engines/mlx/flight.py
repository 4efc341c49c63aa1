"""What a step holds beside weights and caches: outputs of operations that are still under way.

MLX runs ahead of the GPU. Operations are put into command buffers; one is committed once it has
more operations than a chip's most, or arrays of more elements than a chip's most have gone in and
come out of them, and memory of its operations is given back when it is through. The host stops when
TASKS of them are under way. So a step holds at most the outputs of TASKS command buffers and of the
open one, which `flight` finds by walking over all layers in their order. How far the GPU is behind
at the worst moment is not known: the interval is of what was published.

A layer whose cache is a slice of a longer array keeps that array to the end of the step: the graph
makes the slice late, as it is an output (transforms.cpp: eval_impl goes by the graph's breadth).

Source: mlx 846d176 backend/metal/device.cpp (needs_commit; set_input_array counts elements, and
set_output_array calls it), backend/metal/eval.cpp, transforms.cpp (MAX_ACTIVE_TASKS), fast.cpp
(scaled_dot_product_attention, whose fallback works in place).
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, assert_never

from weighbridge.arch.body import Dense, Experts, Feed, LayerBlock
from weighbridge.arch.mixers import (
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
from weighbridge.memory import Bytes

TASKS = 10  # command buffers under way
CHUNK, SCANNED = 256, 4  # tokens of a piece of a scan, and matrices of one that live together
FEWER, USUAL, MORE = 0.55, 1.0, 1.35  # shares of it that published peaks have: 0.58 to 1.26
FLOAT32 = 2  # elements of 16 bits


class Operation(NamedTuple):
    """Elements of arrays that it reads for the first time, that it makes, and that it makes and
    that live to the end of the step."""

    reads: int
    makes: int
    keeps: int = 0


class Moment(NamedTuple):
    """One step: its tokens, the cells that they attend to, and how weights are stored."""

    tokens: int
    cells: int
    bits: float = 16  # of a weight; packed ones are read as words of 32
    stored: bool = False  # scores are
    expanded: bool = False  # latents are keys and values of all heads
    most: int = 50  # operations of a command buffer, and 2 ** 20 elements that go through it
    scanned: int = CHUNK  # tokens of a piece of a scan

    def weight(self, count: int) -> int:
        """Elements of the array that holds so many weights."""
        return int(count * self.bits) // 32 if self.bits < 16 else count


def temporaries(blocks: Sequence[LayerBlock], hidden: int, at: Moment, itemsize: int) -> Bytes:
    """Bytes that one step holds at its worst."""
    made = {b: operations(b, hidden, at) for b in dict.fromkeys(blocks)}
    most = flight((op for b in blocks for op in made[b]), at.most) * itemsize
    return Bytes(*(int(most * share) for share in (FEWER, USUAL, MORE)))


def flight(step: Iterable[Operation], commits: int) -> int:
    """Elements that are alive at most while a step's operations follow each other. A command buffer
    is full beyond `commits` operations, or as many times 2 ** 20 elements."""
    done: deque[int] = deque(maxlen=TASKS)
    most = seen = made = count = kept = 0
    for op in step:
        seen, made, count = seen + op.reads + op.makes + op.keeps, made + op.makes, count + 1
        kept += op.keeps
        most = max(most, kept + sum(done) + made)
        if count > commits or seen > commits << 20:
            done.append(made)
            seen, made, count = op.makes + op.keeps, 0, 0  # what the next buffer reads of this one
    return most


def operations(block: LayerBlock, hidden: int, at: Moment) -> tuple[Operation, ...]:
    """One layer's, in order: its mixers, and its feed-forwards."""
    found: list[Operation] = []
    for m in block.mixers:
        found += _mixed(m, block, hidden, at)
    for feed in block.feeds:
        found += _fed(feed, hidden, at)
    return tuple(found)


def _norm(hidden: int, at: Moment) -> Operation:
    """A norm of what the operation before it made."""
    return Operation(0, at.tokens * hidden)


def _linear(inputs: int, outputs: int, at: Moment, *, rows: int = 1) -> Operation:
    """A product, whose input was read by the operation before it."""
    return Operation(at.weight(inputs * outputs), rows * at.tokens * outputs)


def _in_place() -> Operation:
    """An activation in the place of a product (activations.py, compiled)."""
    return Operation(0, 0)


def _sum(hidden: int, at: Moment) -> Operation:
    """Added in place to what came into the layer, many operations ago."""
    return Operation(at.tokens * hidden, 0)


def _mixed(m: Mixer, block: LayerBlock, hidden: int, at: Moment) -> Iterator[Operation]:
    match m:
        case Attention() | CrossAttention():
            widths = m.heads * m.key_dim, m.key_elements, m.value_elements
            yield from _attends(m.heads, widths, m.heads * m.value_dim, hidden, at)
        case Latent() if at.expanded:
            yield from _mixed(m.expanded, block, hidden, at)
        case Latent():
            yield from _latent(m, block, hidden, at)
        case Compressed() | Shared():  # queries alone, as wide as the model
            yield from _attends(1, (hidden, 0, 0), hidden, hidden, at)
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
            yield from _recurrent(m, hidden, at)
        case _:
            assert_never(m)


def _recurrent(m: Recurrent, hidden: int, at: Moment) -> Iterator[Operation]:
    match m:
        case GatedDelta():
            yield from _delta(m, hidden, at)
        case ShortConv():
            yield from _convolves(m, hidden, at)
        case Mamba2():
            yield from _recurs((m.inner + m.channels, m.inner), hidden, at)
            scores = m.heads * at.tokens * min(at.tokens, at.scanned)
            yield from (Operation(0, FLOAT32 * scores),) * SCANNED
        case Mamba1() | GatedRecurrence():
            yield from _recurs((2 * m.channels, m.channels), hidden, at)
        case KimiDelta() | LinearAttention():
            yield from _recurs((4 * m.heads * m.dim, 2 * m.heads * m.dim), hidden, at)
        case Rwkv():
            yield from _recurs((4 * m.inner, m.inner), hidden, at)
        case _:
            assert_never(m)


def _attends(
    heads: int, widths: tuple[int, int, int], given: int, hidden: int, at: Moment
) -> Iterator[Operation]:
    """`widths` of queries, keys and values; `given` is what attention gives."""
    queries, keys, values = widths
    yield _norm(hidden, at)
    for width in widths:
        yield _linear(hidden, width, at)
    yield Operation(0, at.tokens * queries)  # rotated
    yield Operation(0, at.tokens * keys)
    yield Operation(at.cells * (keys + values), 0)  # written into the cache
    if at.stored:
        yield Operation(0, at.tokens * at.cells // 2)  # which cells each token sees: a byte each
        yield Operation(0, heads * at.tokens * at.cells)  # products; masked and softmax in place
        yield from (_in_place(),) * 2
        yield Operation(0, at.tokens * given)  # the kernel leaves heads side by side
    yield Operation(0, at.tokens * given)
    yield _linear(given, hidden, at)
    yield _sum(hidden, at)


def _latent(m: Latent, block: LayerBlock, hidden: int, at: Moment) -> Iterator[Operation]:
    """Keys and values of all heads are made of every cell, and rotary scores are the mask."""
    queries = m.heads * (m.nope + m.rotary)
    given = m.heads * m.value_dim
    yield _norm(hidden, at)
    if block.query_rank:
        yield _linear(hidden, block.query_rank, at)
    yield _linear(block.query_rank or hidden, queries, at)
    yield _linear(hidden, m.latent_elements, at)
    scores = m.heads * at.tokens * at.cells
    yield Operation(at.cells * m.latent_elements, scores)
    if at.tokens > 1:
        yield Operation(0, m.heads * at.cells * m.nope)
        yield Operation(0, m.heads * at.cells * m.value_dim)
    yield Operation(0, at.tokens * given)
    yield Operation(0, at.tokens * given)
    yield _linear(given, hidden, at)
    yield _sum(hidden, at)


def _recurs(widths: tuple[int, int], hidden: int, at: Moment) -> Iterator[Operation]:
    """A projection, a convolution over it, the recurrence, and the way back. `widths` are of what
    the projection makes of a token, and of what the recurrence gives."""
    projected, given = widths
    yield _norm(hidden, at)
    yield _linear(hidden, projected, at)
    yield Operation(0, at.tokens * projected)
    yield Operation(0, at.tokens * given)
    yield Operation(0, at.tokens * given)
    yield _linear(given, hidden, at)
    yield _sum(hidden, at)


def _delta(m: GatedDelta, hidden: int, at: Moment) -> Iterator[Operation]:
    """models/qwen3_5.py (GatedDeltaNet), gated_delta.py: the convolution's input is the last inputs
    and the new ones; its output is cut into queries, keys and values, of which values are copied
    for the kernel; what it gives is normed and gated."""
    keys, values = m.key_heads * m.key_dim, m.value_heads * m.value_dim
    yield _norm(hidden, at)
    for width in (m.channels, values, m.value_heads, m.value_heads):  # z, b, a
        yield _linear(hidden, width, at)
    yield Operation(0, 0, keeps=at.tokens * m.channels)
    yield Operation(0, at.tokens * m.channels)  # convolved
    yield _in_place()
    for _ in range(2):  # queries and keys: normed, then scaled
        yield Operation(0, at.tokens * keys)
        yield _in_place()
    yield Operation(0, FLOAT32 * at.tokens * m.value_heads)  # decay, and how much is written
    yield Operation(0, at.tokens * m.value_heads)
    yield Operation(0, at.tokens * values)
    state = FLOAT32 * m.value_heads * m.key_dim * m.value_dim
    yield Operation(state, at.tokens * values + state)
    yield Operation(0, at.tokens * values)  # normed
    yield Operation(0, at.tokens * values)  # gated in 32 bits, and back
    yield _linear(values, hidden, at)
    yield _sum(hidden, at)


def _convolves(m: ShortConv, hidden: int, at: Moment) -> Iterator[Operation]:
    """models/lfm2.py (ShortConv)."""
    width = at.tokens * m.width
    yield _norm(hidden, at)
    yield _linear(hidden, 3 * m.width, at)
    yield Operation(0, width)
    yield Operation(0, 0, keeps=width)
    yield Operation(0, width)
    yield Operation(0, width)
    yield _linear(m.width, hidden, at)
    yield _sum(hidden, at)


def _fed(feed: Feed, hidden: int, at: Moment) -> Iterator[Operation]:
    yield _norm(hidden, at)
    match feed:
        case Dense():
            yield from _dense(feed.width, feed.inputs or hidden, at, gated=feed.gated)
        case Experts():
            yield from _experts(feed, hidden, at)
        case _:
            assert_never(feed)
    yield _sum(hidden, at)


def _dense(width: int, hidden: int, at: Moment, *, gated: bool) -> Iterator[Operation]:
    for _ in range(2 if gated else 1):
        yield _linear(hidden, width, at)
    yield _in_place()
    yield _linear(width, hidden, at)


def _experts(feed: Experts, hidden: int, at: Moment) -> Iterator[Operation]:
    """Rows sorted by expert and back (switch_layers.py, SwitchGLU): each token as often as it has
    experts. Every product reads the matrices of all experts."""
    rows, inputs = feed.top_k, feed.inputs or hidden
    matrix = at.weight(feed.count * feed.width * inputs)
    yield _linear(hidden, feed.count, at)
    yield Operation(0, rows * at.tokens * inputs)
    for _ in range(2 if feed.gated else 1):
        yield Operation(matrix, rows * at.tokens * feed.width)
    yield _in_place()
    yield Operation(matrix, rows * at.tokens * inputs)
    yield Operation(0, rows * at.tokens * inputs)  # in the tokens' order
    yield Operation(0, at.tokens * hidden)  # weighed and summed
    if feed.shared:
        yield from _dense(feed.shared, hidden, at, gated=feed.gated)
