"""What a step holds beside weights and caches: outputs of operations that are still under way.

MLX runs ahead of the GPU. Operations are put into command buffers; one is committed once it has
more operations than OPERATIONS, or has read more than ELEMENTS of arrays that differ, and memory of
its operations is given back when it is through. The host stops when TASKS of them are under way.
So a step holds at most the outputs of the last eleven command buffers, which `flight` finds by
walking over layers that are alike. What was published is 0.47 to 1 of that: the GPU is often less
than eleven behind.

Source: mlx 846d176 backend/metal/device.cpp (needs_commit, set_input_array, which counts elements),
backend/metal/eval.cpp, transforms.cpp (MAX_ACTIVE_TASKS), on chips called Max and Ultra; others
have 40 for 50.
"""

from collections import deque
from collections.abc import Iterator, Sequence
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

OPERATIONS, ELEMENTS, TASKS = 50, 50 << 20, 10
WALKED = 8  # layers: more than eleven command buffers ever span in what was published
CHUNK, SCANNED = 256, 4  # tokens of a piece of a scan, and matrices of one that live together
FEWER, USUAL, MORE = 0.4, 0.65, 1.4  # shares of the bound


class Operation(NamedTuple):
    """Elements of arrays that it reads for the first time, and that it makes."""

    reads: int
    makes: int


class Moment(NamedTuple):
    """One step: its tokens, the cells that they attend to, and how weights are stored."""

    tokens: int
    cells: int
    bits: float = 16  # of a weight; packed ones are read as words of 32
    stored: bool = False  # scores are
    scanned: int = CHUNK  # tokens of a piece of a scan

    def weight(self, count: int) -> int:
        """Elements of the array that holds so many weights."""
        return int(count * self.bits) // 32 if self.bits < 16 else count


def temporaries(blocks: Sequence[LayerBlock], hidden: int, at: Moment, itemsize: int) -> Bytes:
    """Bytes that one step holds at its worst, by the widest layer of a model."""
    most = max((flight(operations(b, hidden, at)) for b in set(blocks)), default=0) * itemsize
    return Bytes(*(int(most * share) for share in (FEWER, USUAL, MORE)))


def flight(layer: tuple[Operation, ...]) -> int:
    """Elements that are alive at most while layers like this one follow each other."""
    done: deque[int] = deque(maxlen=TASKS + 1)
    most = read = made = count = 0
    for op in layer * WALKED:
        read, made, count = read + op.reads, made + op.makes, count + 1
        most = max(most, sum(done) + made)
        if count > OPERATIONS or read > ELEMENTS:
            done.append(made)
            read = made = count = 0
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
    return Operation(at.tokens * hidden, at.tokens * hidden)


def _linear(inputs: int, outputs: int, at: Moment, *, rows: int = 1) -> Operation:
    """A product, whose input was read by the operation before it."""
    return Operation(at.weight(inputs * outputs), rows * at.tokens * outputs)


def _sum(hidden: int, at: Moment) -> Operation:
    """Added in place."""
    return Operation(2 * at.tokens * hidden, 0)


def _mixed(m: Mixer, block: LayerBlock, hidden: int, at: Moment) -> Iterator[Operation]:
    match m:
        case Attention() | CrossAttention():
            widths = m.heads * m.key_dim, m.key_elements, m.value_elements
            yield from _attends(m.heads, widths, m.heads * m.value_dim, hidden, at)
        case Latent():
            yield from _latent(m, block, hidden, at)
        case Compressed() | Shared():  # queries alone, as wide as the model
            yield from _attends(1, (hidden, 0, 0), hidden, hidden, at)
        case Mamba2():
            yield from _recurs(_widths(m), hidden, at)
            scores = m.heads * at.tokens * min(at.tokens, at.scanned)
            yield from (Operation(2 * scores, 2 * scores),) * SCANNED  # in 32 bits
        case (
            Mamba1()
            | GatedDelta()
            | KimiDelta()
            | LinearAttention()
            | GatedRecurrence()
            | Rwkv()
            | ShortConv()
        ):
            yield from _recurs(_widths(m), hidden, at)
        case _:
            assert_never(m)


def _widths(m: Recurrent) -> tuple[int, int]:
    """What the projection of a recurrent layer makes of a token, and what its recurrence gives."""
    match m:
        case Mamba2():
            return m.inner + m.channels, m.inner
        case Mamba1() | GatedRecurrence():
            return 2 * m.channels, m.channels
        case GatedDelta():
            given = m.value_heads * m.value_dim
            return m.channels + given, 2 * given  # in 32 bits
        case KimiDelta() | LinearAttention():
            return 4 * m.heads * m.dim, 2 * m.heads * m.dim
        case Rwkv():
            return 4 * m.inner, m.inner
        case ShortConv():
            return 3 * m.width, m.width
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
    yield Operation(at.tokens * queries, at.tokens * queries)  # rotated
    yield Operation(at.tokens * keys, at.tokens * keys)
    yield Operation(at.cells * (keys + values), 0)  # written into the cache
    if at.stored:
        scores = heads * at.tokens * at.cells
        yield from (Operation(scores, scores),) * 2  # products, and what softmax makes of them
    yield Operation(at.tokens * queries, at.tokens * given)
    yield Operation(at.tokens * given, at.tokens * given)  # heads side by side
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
    yield Operation(at.tokens * queries + scores, at.tokens * given)
    yield Operation(at.tokens * given, at.tokens * given)
    yield _linear(given, hidden, at)
    yield _sum(hidden, at)


def _recurs(widths: tuple[int, int], hidden: int, at: Moment) -> Iterator[Operation]:
    """A projection, a convolution over it, the recurrence, and the way back."""
    projected, given = widths
    yield _norm(hidden, at)
    yield _linear(hidden, projected, at)
    yield Operation(at.tokens * projected, at.tokens * projected)
    yield Operation(at.tokens * projected, at.tokens * given)
    yield Operation(at.tokens * given, at.tokens * given)
    yield _linear(given, hidden, at)
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
    """Activated in the place of the first product (activations.py, compiled)."""
    for _ in range(2 if gated else 1):
        yield _linear(hidden, width, at)
    yield Operation((2 if gated else 1) * at.tokens * width, 0)
    yield _linear(width, hidden, at)


def _experts(feed: Experts, hidden: int, at: Moment) -> Iterator[Operation]:
    """Rows sorted by expert and back (switch_layers.py, SwitchGLU): each token as often as it has
    experts. Every product reads the matrices of all experts."""
    rows, inputs = feed.top_k, feed.inputs or hidden
    matrix = at.weight(feed.count * feed.width * inputs)
    yield _linear(hidden, feed.count, at)
    yield Operation(at.tokens * hidden, rows * at.tokens * inputs)
    for _ in range(2 if feed.gated else 1):
        yield Operation(rows * at.tokens * inputs + matrix, rows * at.tokens * feed.width)
    yield Operation((2 if feed.gated else 1) * rows * at.tokens * feed.width, 0)
    yield Operation(rows * at.tokens * feed.width + matrix, rows * at.tokens * inputs)
    yield Operation(rows * at.tokens * inputs, rows * at.tokens * inputs)  # in the tokens' order
    yield Operation(rows * at.tokens * inputs, at.tokens * hidden)  # weighed and summed
    if feed.shared:
        yield from _dense(feed.shared, hidden, at, gated=feed.gated)
